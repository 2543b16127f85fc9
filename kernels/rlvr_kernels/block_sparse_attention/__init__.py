"""Attention in which a query reads a few blocks of keys instead of all of them, and the choice of those blocks.

The selection is per query and per key head, shared by the query heads of a group so that they read the same keys
(NSA, arXiv 2502.11089, eq. 10; mean-pooled block keys as in MoBA, arXiv 2502.13189). The Triton kernels visit, for a
tile of queries, the union of their blocks once, and each query still masks to its own selection: were the union
attended, a query would read blocks that a later query chose, and the future would leak into the past.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rlvr_kernels.autocast import autocast
from rlvr_kernels.backend import choose
from rlvr_kernels.block_sparse_attention import reference as plain
from rlvr_kernels.documents import document_starts

__all__ = ["block_sparse_attention", "select_blocks"]


def block_sparse_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    blocks: Tensor,
    *,
    block_size: int,
    document_ids: Tensor | None = None,
    window: int = 0,
    softcap: float | None = None,
    scale: float | None = None,
    backend: str | None = None,
) -> Tensor:
    """(B, H, T, D) softmax attention of each query to its own blocks of keys, causal and within its document.

    q (B, H, T, D) are the last T of the S positions of k and v (B, H_kv, S, D); query head h reads key head
    h // (H / H_kv). `blocks` (B, H_kv, M, N) integers: the blocks that may be read, -1 for none, where each of the M
    lists serves ceil(T / M) queries in a row; M = T is a list for each query. Blocks of `block_size` keys are numbered
    along the row from 0 and begin anew at each document, as `select_blocks` numbers them. The last `window` keys, the
    query's own included, are read whatever the list says. `document_ids` (B, S) integers: runs of equal ids are
    documents, padding one of its own. Scores are q.k * `scale` (default D^-0.5), then capped at `softcap` by
    c * tanh(s / c). A query that may read nothing gets zeros. No gradient reaches `blocks`.

    Raises ValueError on shapes that do not fit.
    """
    _check(q, k, v, blocks)
    q, k, v = autocast(q), autocast(k), autocast(v)
    batch, _, length, width = k.shape
    scale = width**-0.5 if scale is None else scale
    begins = document_starts(document_ids, (batch, length), k.device)
    starts = plain.block_starts(begins, block_size, aligned=document_ids is None)
    if choose(backend, q, k, v) == "triton":
        from rlvr_kernels.block_sparse_attention.triton_kernel import attention

        return attention(q, k, v, blocks, starts, begins, block_size, window, softcap, scale)
    visible = plain.visible_keys(blocks, starts, begins, q.shape[2], window)
    return plain.reference(q, k, v, visible, softcap, scale)


@torch.no_grad()
def select_blocks(
    q: Tensor,
    k: Tensor,
    *,
    top_n: int,
    block_size: int,
    document_ids: Tensor | None = None,
    window: int = 1,
    sink: bool = False,
) -> Tensor:
    """(B, H_kv, T, top_n) int32 for `block_sparse_attention`: the blocks of each query, best first, then -1.

    Forced are the query's own block, those that hold its last `window` keys, and with `sink` its document's first.
    The rest go by the share of attention, summed over the group's query heads, that the mean keys of the complete
    past blocks of its document get; of equal shares the later block wins. So a choice depends on nothing after the
    query, nor on padding, packing or the row's length. Shapes as in `block_sparse_attention`.
    """
    begins = document_starts(document_ids, (k.shape[0], k.shape[2]), k.device)
    starts = plain.block_starts(begins, block_size, aligned=document_ids is None)
    pooled = plain.pooled_keys(k, starts, block_size)
    return plain.ranked_blocks(q, pooled, starts, begins, top_n, window, sink)


def _check(q: Tensor, k: Tensor, v: Tensor, blocks: Tensor) -> None:
    if k.shape[1] == 0 or q.shape[1] % k.shape[1]:
        raise ValueError(f"{q.shape[1]} query heads cannot share {k.shape[1]} key heads; make the first a multiple")
    if q.shape[2] > k.shape[2]:
        raise ValueError(f"{q.shape[2]} queries for {k.shape[2]} keys; a query is one of the last positions of its row")
    if k.shape[:3] != v.shape[:3] or q.shape[3] != k.shape[3] or q.shape[0] != k.shape[0]:
        raise ValueError(f"q {tuple(q.shape)}, k {tuple(k.shape)} and v {tuple(v.shape)} do not belong together")
    if blocks.dim() != 4 or blocks.shape[:2] != k.shape[:2] or not 0 < blocks.shape[2] <= q.shape[2]:
        raise ValueError(f"blocks has shape {tuple(blocks.shape)}; give (B, H_kv, M, N) with 1 to T lists")
