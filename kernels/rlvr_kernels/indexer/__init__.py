"""The lightning indexer: cheap scores of all earlier keys, and the best of them for each query.

DeepSeek Sparse Attention (DeepSeek-V3.2-Exp report): I[t, s] = sum_j w[t, j] ReLU(q[t, j] . k[s]), scaled by
(H D)^-0.5, with one key for all heads. Many scores are exactly 0, so the order of equal scores decides what is read:
here the later key always wins. A query keeps a number of keys that depends on how many it sees and on nothing else.
Both together make the selection the same alone, packed, padded and decoded token by token.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rlvr_kernels.autocast import autocast
from rlvr_kernels.backend import choose
from rlvr_kernels.documents import document_starts
from rlvr_kernels.indexer import reference as plain

__all__ = ["indexer_scores", "indexer_topk"]

QUERY_CHUNK = 1024
KEY_CHUNK = 8192
"""A chunk of ranks, QUERY_CHUNK x (KEY_CHUNK + the keys kept), is all that the selection holds at a time."""


def indexer_scores(
    q: Tensor, k: Tensor, weights: Tensor, *, document_ids: Tensor | None = None, backend: str | None = None
) -> Tensor:
    """(B, T, S) scores in at least float32, -inf where the key is in the future or in another document.

    q (B, T, H, D) and weights (B, T, H) belong to the last T of the S positions of k (B, S, D); `document_ids` (B, S):
    runs of equal ids are documents, padding one of its own. Differentiable in q, k and weights. Never holds a score
    per head.
    """
    begins = _begins(q, k, weights, document_ids)
    q, k = autocast(q), autocast(k)
    if choose(backend, q, k, weights) == "triton":
        from rlvr_kernels.indexer.triton_kernel import scores

        return scores(q, k, weights, begins)
    visible = plain.in_sight(begins, k.shape[1] - q.shape[1], q.shape[1], 0, k.shape[1])
    return plain.scores(q, k, weights).masked_fill(~visible, -torch.inf)


@torch.no_grad()
def indexer_topk(
    q: Tensor,
    k: Tensor,
    weights: Tensor,
    *,
    top_k: int | None = None,
    ratio: float = 0.5,
    window: int = 128,
    document_ids: Tensor | None = None,
    backend: str | None = None,
) -> Tensor:
    """(B, T, K) int64 positions of the keys each query keeps, best first, then -1; K is the most that one may keep.

    A query that sees n keys (its document's, up to itself) keeps min(n, max(window, `top_k` or ceil(ratio * n))): its
    last `window` keys and the best of the rest. Arguments as in `indexer_scores`. The running best of a chunk of
    queries is merged with one chunk of keys after the other.
    """
    begins = _begins(q, k, weights, document_ids)
    q, k = autocast(q), autocast(k)
    length, queries = k.shape[1], q.shape[1]
    width = plain.widest(length, top_k, ratio, window)
    if choose(backend, q, k, weights) == "triton":
        from rlvr_kernels.indexer.triton_kernel import ranks
    else:
        from rlvr_kernels.indexer.reference import ranks
    kept = []
    for begin in range(0, queries, QUERY_CHUNK):
        chunk = slice(begin, min(begin + QUERY_CHUNK, queries))
        first, stop = length - queries + chunk.start, length - queries + chunk.stop
        best = torch.full((len(q), stop - first, width), plain.LOWEST, dtype=torch.int64, device=k.device)
        for start in range(0, stop, KEY_CHUNK):
            keys = slice(start, min(start + KEY_CHUNK, stop))
            fresh = ranks(q[:, chunk], k[:, keys], weights[:, chunk], begins, first, start, window)
            best = torch.cat([best, fresh], dim=-1).topk(width, dim=-1).values
        sees = torch.arange(first, stop, device=k.device) - begins[:, first:stop] + 1
        count = plain.budget(sees, top_k, ratio, window)
        spare = (torch.arange(width, device=k.device) >= count[..., None]) | (best == plain.LOWEST)
        kept.append((best & 0xFFFFFFFF).masked_fill(spare, -1))
    return torch.cat(kept, dim=1)


def _begins(q: Tensor, k: Tensor, weights: Tensor, document_ids: Tensor | None) -> Tensor:
    if k.dim() != 3 or q.shape[::3] != k.shape[::2] or weights.shape != q.shape[:3]:
        shapes = f"q {tuple(q.shape)}, k {tuple(k.shape)} and weights {tuple(weights.shape)}"
        raise ValueError(f"{shapes} do not belong together; give (B, T, H, D), (B, S, D) and (B, T, H)")
    if q.shape[1] > k.shape[1]:
        raise ValueError(f"{q.shape[1]} queries for {k.shape[1]} keys; a query is one of the last positions of its row")
    return document_starts(document_ids, (k.shape[0], k.shape[1]), k.device)
