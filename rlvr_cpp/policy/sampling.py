"""Completions from a model, each from a seed of its own, told as soon as they end.

A token is drawn by the exponential race: argmax of p / E with E ~ Exp(1) is a draw from p. E comes from a random stream
that belongs to the completion alone. So what is sampled depends neither on which prompts share a batch, nor on their
order, nor on how many processes there are, and the global random state is left alone. `on_finished` hears of each
completion while others are still being written: that is when its verification can begin.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers import Cache, GenerationConfig, LogitsProcessor, PreTrainedModel, StoppingCriteria

from rlvr_cpp.policy.merged import adapter_merged
from rlvr_cpp.policy.weights import is_shared_out

DRAWN_AT_ONCE = 1 << 14
"""Random numbers of a completion: what a call costs must not be what a token costs."""

LEFT_BEHIND = 8
"""Rows that have ended, at least, before the others go on without them: a new start takes as long as a few tokens."""

Finished = Callable[[int, list[int]], None]
"""Called with a prompt's index and its completion's token ids, the end token included."""


def completion_seed(*parts: object) -> int:
    """A seed in [0, 2^63) from anything that names a completion, such as run seed, step, task and member."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:8]) >> 1


@contextmanager
def for_inference(model: PreTrainedModel) -> Iterator[None]:
    """Inside the block the model neither drops out nor keeps gradients; after it, however it ends, it is as it was."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)


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
    on_logps: Callable[[int, list[float]], None] = lambda index, logps: None,
) -> list[list[int]]:
    """One completion of each prompt's token ids, in order: greedy at temperature 0, else drawn from its seed.

    A completion ends with an end token or after `max_new_tokens`. Prompts of like length share a batch of at most
    `batch_size`, which the KV cache serves. What was drawn is told to `on_logps` with the log-probabilities by which it
    was, at the temperature, when its batch has ended.
    """
    completions: list[list[int]] = [[] for _ in prompts]

    def finished(index: int, ids: list[int]) -> None:
        completions[index] = ids
        on_finished(index, ids)

    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    size = batch_size or len(order) or 1
    in_step = is_shared_out(model)
    with adapter_merged(model):
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            ids, mask = _left_padded([prompts[i] for i in rows], pad_id, model.device)
            watcher = _Watcher(rows, ids.shape[1], eos_ids, finished, may_stop=not in_step)
            own = [seeds[i] for i in rows] if temperature > 0 else []
            draw = _ExponentialRace(rows, own, temperature, model.device) if own else None
            ends = {"eos_token_id": sorted(eos_ids), "pad_token_id": pad_id}
            _generate(model, ids, mask, watcher, draw, max_new_tokens, ends, in_step)
            for index, logps in draw.logps.items() if draw else ():
                on_logps(index, logps[: len(completions[index])])
    return completions


def _generate(
    model: PreTrainedModel,
    ids: torch.Tensor,
    mask: torch.Tensor,
    watcher: _Watcher,
    draw: _ExponentialRace | None,
    max_new_tokens: int,
    ends: Mapping[str, Any],
    in_step: bool,
) -> None:
    """Go on from left-padded prompts (B, T) until all rows have ended. Rows that have are left behind on the way.

    `in_step` goes on as long as any process does.
    """
    cache, limit = None, ids.shape[1] + max_new_tokens
    while True:
        output = model.generate(
            input_ids=ids,
            attention_mask=mask,
            cache=cache,
            generation_config=GenerationConfig(max_new_tokens=limit - ids.shape[1], do_sample=False, **ends),
            logits_processor=[draw] if draw else None,
            stopping_criteria=[watcher],
            return_dict_in_generate=True,
            synced_gpus=in_step,
        )
        rows = watcher.open_rows()
        if not len(rows) or output.sequences.shape[1] == limit:
            return watcher.close(output.sequences)
        grown = torch.ones(len(mask), output.sequences.shape[1] - mask.shape[1], dtype=mask.dtype, device=mask.device)
        ids, mask = output.sequences[rows], torch.cat([mask, grown], dim=1)[rows]
        cache = output.cache if isinstance(output.cache, Cache) else None
        if cache is not None:
            cache.reorder_cache(rows)
        watcher.keep(rows)
        if draw:
            draw.keep(rows)


def _left_padded(prompts: list[Sequence[int]], pad_id: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(map(len, prompts))
    ids = torch.full((len(prompts), width), pad_id)
    mask = torch.zeros(len(prompts), width, dtype=torch.long)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.tensor(prompt)
        mask[row, width - len(prompt) :] = 1
    return ids.to(device), mask.to(device)


class _ExponentialRace(LogitsProcessor):  # type: ignore[misc]
    """Turns the scores (B, V) into ones whose argmax is a draw from softmax(scores / temperature), and notes which."""

    def __init__(self, rows: Sequence[int], seeds: Sequence[int], temperature: float, device: torch.device) -> None:
        self.rows = list(rows)
        self.logps: dict[int, list[float]] = {row: [] for row in rows}
        """Of each token drawn for a row; also of those behind its end."""
        self.streams = [torch.Generator(device).manual_seed(seed) for seed in seeds]
        self.temperature = temperature
        self.offsets: list[torch.Tensor] = []
        """-log E of the steps to come, (B, V) each; of a small vocabulary's many are drawn at once."""

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if not self.offsets:
            self.offsets = self._draw(scores.shape[1], scores.device)
        logits = scores.float() / self.temperature
        raced = logits + self.offsets.pop()
        drawn = logits.log_softmax(dim=1).gather(1, raced.argmax(dim=1, keepdim=True))[:, 0]
        for row, logp in zip(self.rows, drawn.tolist(), strict=True):
            self.logps[row].append(logp)
        return raced

    def keep(self, rows: torch.Tensor) -> None:
        """Drop the state of all rows but these."""
        self.rows = [self.rows[row] for row in rows.tolist()]
        self.streams = [self.streams[row] for row in rows.tolist()]
        self.offsets = [offset[rows] for offset in self.offsets]

    def _draw(self, vocabulary: int, device: torch.device) -> list[torch.Tensor]:
        times = torch.empty(len(self.streams), max(1, DRAWN_AT_ONCE // vocabulary), vocabulary, device=device)
        for row, stream in zip(times, self.streams, strict=True):
            row.exponential_(generator=stream)
        return list(times.log_().neg_().unbind(dim=1))


class _Watcher(StoppingCriteria):  # type: ignore[misc]
    """Tells of each row that has just ended, and stops all of them when so many have that it pays to leave those."""

    def __init__(
        self, rows: Sequence[int], prompt_width: int, eos_ids: Collection[int], finished: Finished, may_stop: bool
    ) -> None:
        self.rows, self.width, self.finished, self.may_stop = list(rows), prompt_width, finished, may_stop
        self.eos_ids = torch.tensor(sorted(eos_ids))
        self.open = set(range(len(rows)))

    def __call__(self, input_ids: torch.Tensor, scores: object, **_: object) -> torch.Tensor:
        ended = torch.isin(input_ids[:, -1], self.eos_ids.to(input_ids.device))
        for row in sorted(self.open.intersection(ended.nonzero().flatten().tolist())):
            self._tell(row, input_ids)
        done = len(self.rows) - len(self.open)
        stop = self.may_stop and done >= max(LEFT_BEHIND, len(self.open))
        return torch.full((len(input_ids),), stop, dtype=torch.bool, device=input_ids.device)

    def open_rows(self) -> torch.Tensor:
        """Which rows have not ended."""
        return torch.tensor(sorted(self.open), dtype=torch.long)

    def keep(self, rows: torch.Tensor) -> None:
        """Drop the state of all rows but these."""
        self.rows = [self.rows[row] for row in rows.tolist()]
        self.open = set(range(len(self.rows)))

    def close(self, input_ids: torch.Tensor) -> None:
        """Tell of the rows that were cut off at the limit."""
        for row in sorted(self.open):
            self._tell(row, input_ids)

    def _tell(self, row: int, input_ids: torch.Tensor) -> None:
        self.open.discard(row)
        self.finished(self.rows[row], input_ids[row, self.width :].tolist())
