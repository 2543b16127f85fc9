"""Block-sparse attention and the choice of its blocks in plain PyTorch, differentiable and exact in float64.

The attention holds all T x S scores, so it is for tests, CPUs and short rows.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rlvr_kernels.autocast import in_given_precision
from rlvr_kernels.backend import widened

QUERY_CHUNK = 2048
"""Queries whose block scores are held at a time."""


def block_starts(document_starts: Tensor, block_size: int, *, aligned: bool) -> Tensor:
    """(B, n) int32: the first position of each block of a row, S for blocks that the row does not have.

    Blocks have `block_size` tokens and are counted from each document's start, so that a document is cut the same
    way alone, packed and padded; a document's last block may be shorter. `aligned` promises one document a row.
    """
    batch, length = document_starts.shape
    positions = torch.arange(length, dtype=torch.int32, device=document_starts.device)
    if aligned:
        return positions[::block_size].expand(batch, -1)
    begins = (positions - document_starts) % block_size == 0
    block = begins.long().cumsum(dim=1) - 1
    starts = torch.full((batch, int(block[:, -1].max()) + 1), length, dtype=torch.int32, device=positions.device)
    return starts.scatter_reduce(1, block, positions.expand(batch, -1), "amin")


def block_of_position(starts: Tensor, length: int) -> Tensor:
    """(B, S) long: the block that each position lies in."""
    positions = torch.arange(length, dtype=starts.dtype, device=starts.device).expand(len(starts), -1)
    return torch.searchsorted(starts.contiguous(), positions.contiguous(), right=True) - 1


def visible_keys(blocks: Tensor, starts: Tensor, document_starts: Tensor, queries: int, window: int) -> Tensor:
    """(B, H_kv, T, S) bool: which keys each query sees; the last `queries` positions ask."""
    batch, length = document_starts.shape
    key = torch.arange(length, device=blocks.device)
    query = key[length - queries :, None]
    in_sight = (key <= query) & (key >= document_starts[:, length - queries :, None])
    chosen = torch.zeros(*blocks.shape[:3], starts.shape[1] + 1, dtype=torch.bool, device=blocks.device)
    chosen = chosen.scatter(-1, blocks.long() + 1, True)[..., 1:]
    chosen = chosen.repeat_interleave(-(-queries // blocks.shape[2]), dim=2)[:, :, :queries]
    block = block_of_position(starts, length)[:, None, None].expand(batch, blocks.shape[1], queries, length)
    return (chosen.gather(-1, block) | (query - key < window)) & in_sight[:, None]


def reference(q: Tensor, k: Tensor, v: Tensor, visible: Tensor, softcap: float | None, scale: float) -> Tensor:
    """Attention of (B, H, T, D) queries to the visible (B, H_kv, T, S) keys; a query that sees none gets zeros."""
    grouped = q.reshape(len(q), k.shape[1], -1, *q.shape[2:])
    scores = widened(torch.einsum("bhgtd,bhsd->bhgts", grouped, k)) * scale
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    visible = visible[:, :, None]
    scores = scores.masked_fill(~visible, torch.finfo(scores.dtype).min)
    weights = scores.softmax(dim=-1) * visible.any(dim=-1, keepdim=True)
    return torch.einsum("bhgts,bhsd->bhgtd", weights.to(v.dtype), v).flatten(1, 2)


def pooled_keys(k: Tensor, starts: Tensor, block_size: int) -> Tensor:
    """(B, H_kv, n, D) in at least float32: the mean of the keys of each block, over a full block's size.

    A shorter block is its document's last, and no query ever ranks it.
    """
    batch, heads, length, width = k.shape
    inside = starts[..., None] + torch.arange(block_size, device=k.device)
    inside = inside.clamp(max=length - 1).view(batch, 1, -1, 1).expand(-1, heads, -1, width)
    members = k.gather(2, inside).view(batch, heads, -1, block_size, width)
    return widened(members).mean(dim=3)


@in_given_precision
def ranked_blocks(
    q: Tensor, pooled: Tensor, starts: Tensor, document_starts: Tensor, top_n: int, window: int, sink: bool
) -> Tensor:
    """(B, H_kv, T, top_n) int32 of `select_blocks`, a chunk of queries at a time."""
    length = document_starts.shape[1]
    block = block_of_position(starts, length)
    oldest = block.gather(1, document_starts.long())  # the first block of each position's document
    own = torch.arange(length, device=q.device)
    nearest = block.gather(1, torch.maximum(own - max(window - 1, 0), document_starts.long()))
    first = length - q.shape[2]
    parts = []
    for begin in range(0, q.shape[2], QUERY_CHUNK):
        rows = slice(first + begin, min(first + begin + QUERY_CHUNK, length))
        queries = q[:, :, begin : begin + QUERY_CHUNK]
        bounds = (oldest[:, rows, None], nearest[:, rows, None], block[:, rows, None])
        parts.append(_best(queries, pooled, *bounds, top_n, sink))
    return torch.cat(parts, dim=2)


def _best(q: Tensor, pooled: Tensor, oldest: Tensor, nearest: Tensor, own: Tensor, top_n: int, sink: bool) -> Tensor:
    grouped = widened(q).reshape(len(q), pooled.shape[1], -1, *q.shape[2:])
    scores = torch.einsum("bhgtd,bhnd->bhgtn", grouped, pooled) * q.shape[-1] ** -0.5
    number = torch.arange(pooled.shape[2], device=q.device)
    past = ((number >= oldest) & (number < own))[:, None, None]
    shares = scores.masked_fill(~past, torch.finfo(scores.dtype).min).softmax(dim=-1) * past
    forced = (number >= nearest) & (number <= own) | (number == oldest if sink else False)
    rank = shares.sum(dim=2).masked_fill(~past[:, :, 0], -1.0).masked_fill(forced[:, None], torch.inf)
    ordered = rank.flip(-1).sort(dim=-1, descending=True, stable=True)  # of equals, the latest first
    chosen = (pooled.shape[2] - 1 - ordered.indices).masked_fill(ordered.values < 0, -1)[..., :top_n]
    return torch.nn.functional.pad(chosen, (0, top_n - chosen.shape[-1]), value=-1).int()
