"""Hashes of the last few tokens and the table rows they name, in plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def ngram_rows(
    ids: Tensor, multipliers: Tensor, sizes: Tensor, orders: tuple[int, ...], pad_id: int, document_ids: Tensor | None
) -> Tensor:
    """`(B, T, orders, heads)` int64."""
    prefixes = []
    mixed = torch.zeros_like(ids)
    for back in range(max(orders)):
        mixed = mixed ^ (_shifted(ids, back, pad_id, document_ids) * multipliers[back])
        prefixes.append(mixed)
    hashes = torch.stack([prefixes[order - 1] for order in orders], dim=-1)
    starts = sizes.flatten().cumsum(0).view_as(sizes) - sizes
    return hashes[..., None].remainder(sizes) + starts


def _shifted(ids: Tensor, back: int, pad_id: int, document_ids: Tensor | None) -> Tensor:
    """The token `back` places earlier, or the pad where that is outside of the row or of the document."""
    if back == 0:
        return ids
    length = ids.shape[1]
    earlier = functional.pad(ids, (back, 0), value=pad_id)[:, :length]
    if document_ids is None:
        return earlier
    same = functional.pad(document_ids, (back, 0), value=-1)[:, :length] == document_ids
    return torch.where(same, earlier, pad_id)
