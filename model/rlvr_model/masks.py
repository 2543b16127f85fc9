"""Which token may see which: documents of a packed row, padding, the cache and the window, for every kind of layer.

Documents are told by ids per token. Positions restart with each document, which is how transformers' own mask
functions and its flash-attention path know packed rows, so that one representation serves every attention backend.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache
from transformers.masking_utils import create_causal_mask, create_sliding_window_causal_mask

from rlvr_model.configuration import HybridConfig


def document_ids_of(position_ids: Tensor) -> Tensor | None:
    """(B, T) long ids of the documents of packed rows whose positions (B, T) restart; None where none does."""
    restarts = torch.zeros_like(position_ids, dtype=torch.bool)
    restarts[:, 1:] = position_ids.diff(dim=1) != 1
    return restarts.long().cumsum(dim=1) if restarts.any() else None


def document_runs(document_ids: Tensor, key_mask: Tensor | None) -> Tensor:
    """(B, T) long: 0, 1, 2, ... along each row for runs of equal ids (B, T); padding is a document of its own."""
    changed = torch.zeros_like(document_ids, dtype=torch.bool)
    changed[:, 1:] = document_ids.diff(dim=1) != 0
    if key_mask is not None:
        changed[:, 1:] |= key_mask[:, 1:] != key_mask[:, :-1]
    return changed.long().cumsum(dim=1)


def positions(batch: int, new: int, past: int, key_mask: Tensor | None, device: torch.device) -> Tensor:
    """(B, T) long positions of `new` tokens after `past` ones, padding of `key_mask` (B, S) not counted."""
    if key_mask is None:
        return torch.arange(past, past + new, device=device).expand(batch, -1)
    return (key_mask.long().cumsum(dim=1) - 1).clamp(min=0)[:, past:]


def check_inputs(
    attention_mask: Tensor | None, document_ids: Tensor | None, shape: tuple[int, int], past: int, cache: Cache | None
) -> None:
    """Refuse masks and ids that do not fit (B, T) new tokens after `past` cached ones. Raises ValueError."""
    keys = (shape[0], past + shape[1])
    if attention_mask is not None and attention_mask.shape != keys:
        raise ValueError(f"attention_mask has shape {tuple(attention_mask.shape)}: give 1 or 0 per token, {keys}")
    if document_ids is not None and document_ids.shape != shape:
        raise ValueError(f"document_ids has shape {tuple(document_ids.shape)}: give one id per token, {shape}")
    if document_ids is not None and cache is not None:
        raise ValueError("document_ids and a cache: packed rows cannot be decoded; give one document per row")


def check_domains(domain_ids: Tensor, rows: int, domains: int) -> None:
    """Refuse domains that would read beside their tables. Raises ValueError."""
    if domain_ids.shape != (rows,):
        raise ValueError(f"domain_ids has shape {tuple(domain_ids.shape)}: give one domain per row, {(rows,)}")
    lowest, highest = map(int, domain_ids.aminmax())
    if lowest < 0 or highest >= domains:
        odd = lowest if lowest < 0 else highest
        raise ValueError(f"domain_ids has {odd}: engram_domains is {domains}, so use numbers from 0 to {domains - 1}")


def document_positions(document_ids: Tensor) -> Tensor:
    """(B, T) long positions, each counted from the start of its document, a run of equal ids (B, T)."""
    places = torch.arange(document_ids.shape[1], device=document_ids.device)
    begins = torch.ones_like(document_ids, dtype=torch.bool)
    begins[:, 1:] = document_ids[:, 1:] != document_ids[:, :-1]
    return places - torch.where(begins, places, 0).cummax(dim=1).values


def attention_masks(
    config: HybridConfig,
    hidden_states: Tensor,
    attention_mask: Tensor | None,
    position_ids: Tensor,
    document_ids: Tensor | None,
    cache: Cache | None,
) -> Mapping[str, Any]:
    """The masks of long (`full`) and short (`sliding`) attention layers, each as the attention implementation wants it.

    `attention_mask` (B, S) bool over cached and present tokens, or None. Raises ValueError where packed rows meet flash
    attention, which takes them one row at a time only.
    """
    flash = "flash" in str(config._attn_implementation)
    if document_ids is not None and flash and len(document_ids) > 1:
        raise ValueError(
            "document_ids of several packed rows and flash attention clash: flash attention takes one packed row; "
            "flatten the batch to one row, or set attn_implementation to sdpa or flex_attention"
        )
    arguments: dict[str, Any] = {"config": config, "inputs_embeds": hidden_states, "cache": cache}
    if document_ids is None:
        arguments["attention_mask"] = attention_mask
    else:
        arguments |= {"attention_mask": None, "position_ids": position_ids}
    masks: dict[str, Any] = {}
    short = config.short_layers
    long = [index for index in config.attention_layers if index not in short and index not in config.sparse_layers]
    if long:
        masks["full"] = create_causal_mask(**arguments, layer_idx=long[0])
    if short:
        masks["sliding"] = create_sliding_window_causal_mask(**arguments, layer_idx=short[0])
    return masks
