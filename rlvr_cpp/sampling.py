"""Completions from a model, each from a seed of its own, told as soon as they end.

A token is drawn by the exponential race: argmax of p / E with E ~ Exp(1) is a draw from p. E comes from a random stream
that belongs to the completion alone. So what is sampled depends neither on which prompts share a batch, nor on their
order, nor on how many processes there are, and the global random state is left alone. `on_finished` hears of each
completion while others are still being written: that is when its verification can begin.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Sequence

import torch
from transformers import GenerationConfig, LogitsProcessor, PreTrainedModel, StoppingCriteria

from rlvr_cpp.merged import adapter_merged

DRAWN_AT_ONCE = 1 << 14
"""Random numbers of a completion: what a call costs must not be what a token costs."""

Finished = Callable[[int, list[int]], None]
"""Called with a prompt's index and its completion's token ids, the end token included."""


def completion_seed(*parts: object) -> int:
    """A seed in [0, 2^63) from anything that names a completion, such as run seed, step, task and member."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:8]) >> 1


def sample(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    eos_ids: Collection[int],
    pad_id: int,
    temperature: float = 0.0,
    seeds: Sequence[int] = (),
    batch_size: int | None = None,
    on_finished: Finished = lambda index, ids: None,
) -> list[list[int]]:
    """One completion of each prompt's token ids, in order: greedy at temperature 0, else drawn from its seed.

    A completion ends with an end token or after `max_new_tokens`. Prompts of like length share a batch of at most
    `batch_size`, which the KV cache serves.
    """
    completions: list[list[int]] = [[] for _ in prompts]

    def finished(index: int, ids: list[int]) -> None:
        completions[index] = ids
        on_finished(index, ids)

    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    size = batch_size or len(order) or 1
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        ids, mask = _left_padded([prompts[i] for i in rows], pad_id, model.device)
        watcher = _Watcher(rows, ids.shape[1], eos_ids, finished)
        draw = _ExponentialRace([seeds[i] for i in rows], temperature, model.device) if temperature > 0 else None
        config = GenerationConfig(
            max_new_tokens=max_new_tokens, do_sample=False, eos_token_id=sorted(eos_ids), pad_token_id=pad_id
        )
        with adapter_merged(model):
            output = model.generate(
                input_ids=ids,
                attention_mask=mask,
                generation_config=config,
                logits_processor=[draw] if draw else None,
                stopping_criteria=[watcher],
            )
        watcher.close(output)
    return completions


def _left_padded(prompts: list[Sequence[int]], pad_id: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(map(len, prompts))
    ids = torch.full((len(prompts), width), pad_id)
    mask = torch.zeros(len(prompts), width, dtype=torch.long)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.tensor(prompt)
        mask[row, width - len(prompt) :] = 1
    return ids.to(device), mask.to(device)


class _ExponentialRace(LogitsProcessor):  # type: ignore[misc]
    """Turns the scores (B, V) into ones whose argmax is a draw from softmax(scores / temperature)."""

    def __init__(self, seeds: Sequence[int], temperature: float, device: torch.device) -> None:
        self.streams = [torch.Generator(device).manual_seed(seed) for seed in seeds]
        self.temperature = temperature
        self.offsets: list[torch.Tensor] = []
        """-log E of the steps to come, (B, V) each; of a small vocabulary's many are drawn at once."""

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if not self.offsets:
            self.offsets = self._draw(scores.shape[1], scores.device)
        return scores.float() / self.temperature + self.offsets.pop()

    def _draw(self, vocabulary: int, device: torch.device) -> list[torch.Tensor]:
        times = torch.empty(len(self.streams), max(1, DRAWN_AT_ONCE // vocabulary), vocabulary, device=device)
        for row, stream in zip(times, self.streams, strict=True):
            row.exponential_(generator=stream)
        return list(times.log_().neg_().unbind(dim=1))


class _Watcher(StoppingCriteria):  # type: ignore[misc]
    """Stops nothing; tells of each row that has just ended."""

    def __init__(self, rows: Sequence[int], prompt_width: int, eos_ids: Collection[int], finished: Finished) -> None:
        self.rows, self.width, self.finished = rows, prompt_width, finished
        self.eos_ids = torch.tensor(sorted(eos_ids))
        self.open = set(range(len(rows)))

    def __call__(self, input_ids: torch.Tensor, scores: object, **_: object) -> torch.Tensor:
        ended = torch.isin(input_ids[:, -1], self.eos_ids.to(input_ids.device))
        for row in sorted(self.open.intersection(ended.nonzero().flatten().tolist())):
            self._tell(row, input_ids)
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)

    def close(self, input_ids: torch.Tensor) -> None:
        """The rows that reached the limit."""
        for row in sorted(self.open):
            self._tell(row, input_ids)

    def _tell(self, row: int, input_ids: torch.Tensor) -> None:
        self.open.discard(row)
        self.finished(self.rows[row], input_ids[row, self.width :].tolist())
