"""Log-probabilities of sampled tokens: in float32 whatever the model computes in, and with little padding."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from peft import PeftModel
from trl.trainer.utils import add_fused_lm_head

LEARNED_POSITIONS = re.compile(r"wpe|position")
"""In the names of tables of them."""
Scored = tuple[Any, Any, Any]
"""Log-probabilities (B, T) of the last T tokens, their entropies and the router's loss; None for what was not asked."""


def score_in_float32(model: Any, temperature: float) -> None:
    """Project and normalise in float32, tile by tile: bf16 logits move a sequence's ratio by more than GSPO's band.

    trl's own switch for it also casts the head's weights, which fails for an adapter on tied embeddings.
    """
    if model.dtype != torch.float32:
        fuse_head(model, temperature)


def fuse_head(model: Any, temperature: float) -> None:
    """Let a model give log-probabilities and entropies, in float32, without all of its logits at a time."""
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    in_16_bits = model.dtype != torch.float32
    add_fused_lm_head(base, temperature, cast_lm_head_to_fp32=in_16_bits, outputs=("log_probs", "entropy"))


def count_positions(model: Any) -> None:
    """Let a model with learned positions, such as GPT-2, count them from each row's first token.

    In generation transformers does that by itself. In a training pass the padding before a row would move it, and the
    ratio of an unchanged policy would not be 1. Rotary positions are relative, and stay as they are.
    """
    if any(
        isinstance(module, torch.nn.Embedding) and LEARNED_POSITIONS.search(name)
        for name, module in model.named_modules()
    ):
        model.register_forward_pre_hook(_with_positions, with_kwargs=True)


def _with_positions(model: Any, args: tuple[Any, ...], options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    mask = options.get("attention_mask")
    if mask is None or options.get("position_ids") is not None or options.get("past_key_values") is not None:
        return args, options
    return args, {**options, "position_ids": (mask.cumsum(dim=1) - 1).clamp(min=0)}


def scored_in_batches(
    forward: Callable[..., Scored],
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    kept: int,
    batches: Iterable[torch.Tensor],
    **options: Any,
) -> Scored:
    """What trl's `forward` says of the last `kept` tokens of `input_ids` (B, L), by batches of row numbers.

    Each without the padding that none of its rows needs. Rows in no batch have 0.
    """
    found: torch.Tensor | None = None
    for rows in batches:
        used = attention_mask[rows].any(dim=0).nonzero().flatten()
        first, last = int(used[0]), int(used[-1])
        keep = kept - (input_ids.shape[1] - 1 - last)
        chosen = input_ids[rows, first : last + 1], attention_mask[rows, first : last + 1]
        logps = forward(*chosen, keep, len(rows), **options)[0]
        found = logps.new_zeros(len(input_ids), kept) if found is None else found
        found[rows, :keep] = logps
    return input_ids.new_zeros(len(input_ids), kept, dtype=torch.float32) if found is None else found, None, None


def by_length(attention_mask: torch.Tensor, size: int) -> Sequence[torch.Tensor]:
    """Batches of `size` rows of like length."""
    return torch.split(attention_mask.sum(dim=1).argsort(stable=True), size)


def by_groups(
    attention_mask: torch.Tensor, size: int, group_size: int, is_dead: Callable[[int], bool]
) -> Iterator[torch.Tensor]:
    """The same of each group by itself, but for those that `is_dead`, asked by the first row when their turn comes.

    Which rows share a batch does not depend on its answers, so that neither do the bits of the others.
    """
    for first in range(0, len(attention_mask), group_size):
        if not is_dead(first):
            for rows in by_length(attention_mask[first : first + group_size], size):
                yield first + rows
