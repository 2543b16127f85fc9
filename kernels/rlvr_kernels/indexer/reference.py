"""Lightning-indexer scores and the ranking of keys in plain PyTorch, differentiable and exact in float64."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rlvr_kernels.backend import widened

LOWEST = torch.iinfo(torch.int64).min
"""The rank of a key that may not be read."""


def scores(q: Tensor, k: Tensor, weights: Tensor) -> Tensor:
    """(B, T, S) scores in at least float32 of all pairs, one head after the other."""
    heads, width = q.shape[2:]
    q, weights, keys = widened(q), widened(weights), widened(k).transpose(1, 2)
    total: Tensor = q.new_zeros(*q.shape[:2], k.shape[1])
    for head in range(heads):
        total = total + weights[:, :, head, None] * torch.relu(q[:, :, head] @ keys)
    return total * (heads * width) ** -0.5


def in_sight(document_starts: Tensor, queries: Tensor, keys: Tensor) -> Tensor:
    """(B, t, s) bool: the key is in the query's document and not after it; `queries` (t,), `keys` (s,) positions."""
    return (keys <= queries[:, None]) & (keys >= document_starts[:, queries, None])


def ranks(scores: Tensor, visible: Tensor, queries: Tensor, keys: Tensor, window: int) -> Tensor:
    """(B, t, s) int64 that order keys by score and, of equal scores, by position; `LOWEST` for what is not visible.

    The upper half is the float32 score as an integer of the same order, or the highest integer for the last `window`
    keys; the lower half is the position.
    """
    bits = (scores.float() + 0.0).view(torch.int32)  # -0.0 + 0.0 is 0.0: the zeros of ReLU are all equal
    image = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).long()
    image = torch.where(queries[:, None] - keys < window, torch.iinfo(torch.int32).max, image)
    return torch.where(visible, (image << 32) + keys, LOWEST)


def budget(visible: Tensor, top_k: int | None, ratio: float, window: int) -> Tensor:
    """How many of `visible` (any shape) keys a query keeps, int64."""
    share = (ratio * visible.double()).ceil().long() if top_k is None else torch.full_like(visible, top_k)
    return torch.minimum(share.clamp(min=window), visible)


def widest(length: int, top_k: int | None, ratio: float, window: int) -> int:
    """The most keys that a query of a row of `length` positions may keep, without looking at a tensor."""
    return min(length, max(window, math.ceil(ratio * length) if top_k is None else top_k))
