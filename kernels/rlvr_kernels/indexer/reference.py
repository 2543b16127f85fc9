"""Lightning-indexer scores and the ranking of keys in plain PyTorch, differentiable and exact in float64."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rlvr_kernels.autocast import in_given_precision
from rlvr_kernels.backend import widened

LOWEST = torch.iinfo(torch.int64).min
"""The rank of a key that may not be read."""


@in_given_precision
def scores(q: Tensor, k: Tensor, weights: Tensor) -> Tensor:
    """(B, T, S) scores in at least float32 of all pairs, one head after the other."""
    heads, width = q.shape[2:]
    q, weights, keys = widened(q), widened(weights), widened(k).transpose(1, 2)
    total = q.new_zeros(*q.shape[:2], k.shape[1])
    for head in range(heads):
        total = total + weights[:, :, head, None] * torch.relu(q[:, :, head] @ keys)
    scaled: Tensor = total * (heads * width) ** -0.5
    return scaled


def in_sight(document_starts: Tensor, first_query: int, queries: int, first_key: int, keys: int) -> Tensor:
    """(B, queries, keys) bool: the key at a position is in the document of the query at another, and not after it."""
    query = torch.arange(first_query, first_query + queries, device=document_starts.device)
    key = torch.arange(first_key, first_key + keys, device=document_starts.device)
    return (key <= query[:, None]) & (key >= document_starts[:, query, None])


def ranks(
    q: Tensor, k: Tensor, weights: Tensor, document_starts: Tensor, first_query: int, first_key: int, window: int
) -> Tensor:
    """(B, t, s) int64 that order keys by score and, of equal scores, by position; `LOWEST` for what is not visible.

    The upper half is the float32 score as an integer of the same order, or the highest integer for the last `window`
    keys; the lower half is the position. `first_query` and `first_key` are the positions of q[:, 0] and k[:, 0].
    """
    bits = (scores(q, k, weights).float() + 0.0).view(torch.int32)  # -0.0 + 0.0 is 0.0: ReLU's zeros are all equal
    image = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).long()
    key = torch.arange(first_key, first_key + k.shape[1], device=k.device)
    query = torch.arange(first_query, first_query + q.shape[1], device=k.device)
    image = torch.where(query[:, None] - key < window, torch.iinfo(torch.int32).max, image)
    visible = in_sight(document_starts, first_query, q.shape[1], first_key, k.shape[1])
    return torch.where(visible, (image << 32) + key, LOWEST)


def budget(visible: Tensor, top_k: int | None, ratio: float, window: int) -> Tensor:
    """How many of its `visible` keys (any shape, integers) a query keeps."""
    share = (ratio * visible.double()).ceil().to(visible.dtype) if top_k is None else torch.full_like(visible, top_k)
    return torch.minimum(share.clamp(min=window), visible)


def widest(length: int, top_k: int | None, ratio: float, window: int) -> int:
    """The most keys that a query of a row of `length` positions may keep, without looking at a tensor."""
    return min(length, max(window, math.ceil(ratio * length) if top_k is None else top_k))
