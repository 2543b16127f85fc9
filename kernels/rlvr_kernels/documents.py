"""Where the document of each token begins: the one fact about packed rows that every masked operation needs.

A row may hold several documents one after the other, and padding is a document of its own. With the position of each
token's document start, "same document and not in the future" is two comparisons: `start[t] <= s <= t`.
"""

from __future__ import annotations

import torch
from torch import Tensor


def document_starts(document_ids: Tensor | None, shape: tuple[int, int], device: torch.device) -> Tensor:
    """(B, S) int32: the position in its row of the first token of each token's document.

    `document_ids` (B, S) integers: a document is a run of equal ids; None means that each row is one document.
    """
    batch, length = shape
    if document_ids is None:
        return torch.zeros(batch, length, dtype=torch.int32, device=device)
    if document_ids.shape != shape:
        raise ValueError(f"document_ids has shape {tuple(document_ids.shape)}; give one id for each key, {shape}")
    begins = torch.ones_like(document_ids, dtype=torch.bool)
    begins[:, 1:] = document_ids[:, 1:] != document_ids[:, :-1]
    positions = torch.arange(length, dtype=torch.int32, device=document_ids.device)
    return torch.where(begins, positions, 0).cummax(dim=1).values
