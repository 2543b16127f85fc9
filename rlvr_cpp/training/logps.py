"""Log-probabilities of sampled tokens: in float32 whatever the model computes in, and with little padding."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from peft import PeftModel
from trl.trainer.utils import add_fused_lm_head

Scored = tuple[Any, Any, Any]
"""Log-probabilities (B, T) of the last T tokens, their entropies and the router's loss; None for what was not asked."""


def score_in_float32(models: Iterable[Any], temperature: float) -> None:
    """Project and normalise in float32, tile by tile: bf16 logits move a sequence's ratio by more than GSPO's band.

    trl's own switch for it also casts the head's weights, which fails for an adapter on tied embeddings. None among
    the `models` is left out.
    """
    for model in models:
        if model is not None and model.dtype != torch.float32:
            base = model.get_base_model() if isinstance(model, PeftModel) else model
            add_fused_lm_head(base, temperature, cast_lm_head_to_fp32=True, outputs=("log_probs", "entropy"))


def scored_by_length(
    forward: Callable[..., Scored],
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    kept: int,
    batch_size: int | None,
    **options: Any,
) -> Scored:
    """What trl's `forward` says of the last `kept` tokens of `input_ids` (B, L), by batches of `batch_size` rows.

    Where there are several, rows of like length share one, without the padding that none of them needs.
    """
    size = batch_size or len(input_ids)
    if size >= len(input_ids):
        return forward(input_ids, attention_mask, kept, size, **options)
    found: torch.Tensor | None = None
    for rows in torch.split(attention_mask.sum(dim=1).argsort(stable=True), size):
        used = attention_mask[rows].any(dim=0).nonzero().flatten()
        first, last = int(used[0]), int(used[-1])
        keep = kept - (input_ids.shape[1] - 1 - last)
        chosen = input_ids[rows, first : last + 1], attention_mask[rows, first : last + 1]
        logps = forward(*chosen, keep, **options)[0]
        found = logps.new_zeros(len(input_ids), kept) if found is None else found
        found[rows, :keep] = logps
    return found, None, None
