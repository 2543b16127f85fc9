"""Lightning-indexer scores in Triton: all heads of a pair of tiles are summed where they are made, forward and back.

The ranking kernel is the scoring kernel with another last step: it writes each score as an integer that orders keys by
score and then by position, which a plain top-k can sort.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from rlvr_kernels.indexer.reference import LOWEST
from rlvr_kernels.triton_math import autotuned, operand_type

_LOWEST = tl.constexpr(LOWEST)


def _config(rows: int, keys: int, warps: int, stages: int) -> triton.Config:
    return triton.Config({"ROWS": rows, "KEYS": keys}, num_warps=warps, num_stages=stages)


INTERPRETED = _config(32, 32, 4, 1)
SCORES = [_config(128, 128, 8, 2), _config(64, 64, 4, 3)]
GRADIENTS = [_config(64, 64, 4, 2), _config(128, 64, 8, 2)]


@triton.jit
def _tile(start, count, step, SIZE: tl.constexpr, WIDTH: tl.constexpr):
    """Numbers of a tile's rows, which of them exist, and where their values are from a row of `step` apart."""
    row = start + tl.arange(0, SIZE)
    return row, row < count, row[:, None] * step + tl.arange(0, WIDTH)[None, :]


@triton.jit
def _visible(query, real_query, key, real_key, begins, first_query, first_key):
    """(ROWS, KEYS) bool: which keys a query may read; and the positions of both."""
    query_at, key_at = first_query + query, first_key + key
    begin = tl.load(begins + query_at, mask=real_query, other=0)
    seen = (key_at[None, :] <= query_at[:, None]) & (key_at[None, :] >= begin[:, None])
    return seen & real_query[:, None] & real_key[None, :], query_at, key_at


@autotuned(SCORES, INTERPRETED, ["WIDTH", "RANKED"])
@triton.jit
def _scores(
    q, k, weights, begins, out, q_batch, q_step, q_head, k_batch, k_step, w_batch, w_step, w_head,
    queries, keys, length, first_query, first_key, window, scale,
    HEADS: tl.constexpr, WIDTH: tl.constexpr, RANKED: tl.constexpr, OPERAND: tl.constexpr,
    ROWS: tl.constexpr, KEYS: tl.constexpr,
):  # fmt: skip
    batch = tl.program_id(2).to(tl.int64)
    query, real_query, q_at = _tile(tl.program_id(0) * ROWS, queries, q_step, ROWS, WIDTH)
    key, real_key, k_at = _tile(tl.program_id(1) * KEYS, keys, k_step, KEYS, WIDTH)
    seen, query_at, key_at = _visible(query, real_query, key, real_key, begins + batch * length, first_query, first_key)
    total = tl.zeros([ROWS, KEYS], tl.float32)
    if first_key + tl.program_id(1) * KEYS < first_query + (tl.program_id(0) + 1) * ROWS:
        k_tile = tl.load(k + batch * k_batch + k_at, mask=real_key[:, None], other=0.0).to(OPERAND)
        for head in range(HEADS):
            q_tile = tl.load(q + batch * q_batch + head * q_head + q_at, mask=real_query[:, None], other=0.0)
            at = weights + batch * w_batch + query * w_step + head * w_head
            weight = tl.load(at, mask=real_query, other=0.0).to(tl.float32)
            product = tl.dot(q_tile.to(OPERAND), tl.trans(k_tile), input_precision="tf32x3")
            total += tl.maximum(product, 0.0) * weight[:, None]
    total *= scale
    at = out + batch * queries * keys + query.to(tl.int64)[:, None] * keys + key[None, :]
    inside = real_query[:, None] & real_key[None, :]
    if RANKED:
        bits = tl.where(total == 0.0, 0.0, total).to(tl.int32, bitcast=True)  # -0.0 ranks as 0.0
        image = bits ^ ((bits >> 31) & 0x7FFFFFFF)
        image = tl.where(query_at[:, None] - key_at[None, :] < window, 0x7FFFFFFF, image)
        rank = (image.to(tl.int64) << 32) + key_at[None, :]
        tl.store(at, tl.where(seen, rank, _LOWEST), mask=inside)
    else:
        tl.store(at, tl.where(seen, total, float("-inf")), mask=inside)


@autotuned(GRADIENTS, INTERPRETED, ["WIDTH", "HEADS"])
@triton.jit
def _query_gradients(
    q, k, weights, begins, d_scores, d_q, d_weights,
    q_batch, q_step, q_head, k_batch, k_step, w_batch, w_step, w_head, queries, length, scale,
    HEADS: tl.constexpr, WIDTH: tl.constexpr, OPERAND: tl.constexpr, ROWS: tl.constexpr, KEYS: tl.constexpr,
):  # fmt: skip
    """The gradients of q and of the weights for a tile of queries and one head."""
    batch, head = tl.program_id(2).to(tl.int64), tl.program_id(1)
    first = length - queries
    query, real_query, q_at = _tile(tl.program_id(0) * ROWS, queries, q_step, ROWS, WIDTH)
    q_at += batch * q_batch + head * q_head
    w_at = batch * w_batch + query * w_step + head * w_head
    q_tile = tl.load(q + q_at, mask=real_query[:, None], other=0.0).to(OPERAND)
    weight = tl.load(weights + w_at, mask=real_query, other=0.0).to(tl.float32)
    q_sum = tl.zeros([ROWS, WIDTH], tl.float32)
    w_sum = tl.zeros([ROWS], tl.float32)
    d_scores += batch * queries * length
    for start in range(0, tl.minimum(first + (tl.program_id(0) + 1) * ROWS, length), KEYS):
        key, real_key, k_at = _tile(start, length, k_step, KEYS, WIDTH)
        seen, _, _ = _visible(query, real_query, key, real_key, begins + batch * length, first, 0)
        k_tile = tl.load(k + batch * k_batch + k_at, mask=real_key[:, None], other=0.0).to(OPERAND)
        at = query.to(tl.int64)[:, None] * length + key[None, :]
        wanted = tl.load(d_scores + at, mask=seen, other=0.0)
        product = tl.dot(q_tile, tl.trans(k_tile), input_precision="tf32x3")
        w_sum += tl.sum(wanted * tl.maximum(product, 0.0), 1)
        slope = tl.where(product > 0, wanted * weight[:, None], 0.0)
        q_sum = tl.dot(slope.to(OPERAND), k_tile, q_sum, input_precision="tf32x3")
    tl.store(d_q + q_at, (q_sum * scale).to(d_q.dtype.element_ty), mask=real_query[:, None])
    tl.store(d_weights + w_at, (w_sum * scale).to(d_weights.dtype.element_ty), mask=real_query)


@autotuned(GRADIENTS, INTERPRETED, ["WIDTH", "HEADS"])
@triton.jit
def _key_gradient(
    q, k, weights, begins, d_scores, d_k,
    q_batch, q_step, q_head, k_batch, k_step, w_batch, w_step, w_head, queries, length, scale,
    HEADS: tl.constexpr, WIDTH: tl.constexpr, OPERAND: tl.constexpr, ROWS: tl.constexpr, KEYS: tl.constexpr,
):  # fmt: skip
    """The gradient of a tile of keys, from the queries that are not before it."""
    batch = tl.program_id(1).to(tl.int64)
    first = length - queries
    key, real_key, k_at = _tile(tl.program_id(0) * KEYS, length, k_step, KEYS, WIDTH)
    k_at += batch * k_batch
    k_tile = tl.load(k + k_at, mask=real_key[:, None], other=0.0).to(OPERAND)
    total = tl.zeros([KEYS, WIDTH], tl.float32)
    d_scores += batch * queries * length
    for start in range(tl.maximum(tl.program_id(0) * KEYS - first, 0) // ROWS * ROWS, queries, ROWS):
        query, real_query, q_at = _tile(start, queries, q_step, ROWS, WIDTH)
        seen, _, _ = _visible(query, real_query, key, real_key, begins + batch * length, first, 0)
        at = query.to(tl.int64)[:, None] * length + key[None, :]
        wanted = tl.load(d_scores + at, mask=seen, other=0.0)
        for head in range(HEADS):
            q_tile = tl.load(q + batch * q_batch + head * q_head + q_at, mask=real_query[:, None], other=0.0)
            w_at = weights + batch * w_batch + query * w_step + head * w_head
            weight = tl.load(w_at, mask=real_query, other=0.0).to(tl.float32)
            q_tile = q_tile.to(OPERAND)
            product = tl.dot(q_tile, tl.trans(k_tile), input_precision="tf32x3")
            slope = tl.where(product > 0, wanted * weight[:, None], 0.0)
            total = tl.dot(tl.trans(slope).to(OPERAND), q_tile, total, input_precision="tf32x3")
    tl.store(d_k + k_at, (total * scale).to(d_k.dtype.element_ty), mask=real_key[:, None])


def _arguments(q: Tensor, k: Tensor, weights: Tensor) -> tuple[tuple[int, ...], dict[str, object]]:
    strides = (*q.stride()[:3], *k.stride()[:2], *weights.stride())
    return strides, {"HEADS": q.shape[2], "WIDTH": q.shape[3], "OPERAND": operand_type(q.dtype)}


def _scored(
    q: Tensor, k: Tensor, weights: Tensor, begins: Tensor, first_query: int, first_key: int, window: int, ranked: bool
) -> Tensor:
    batch, queries, heads, width = q.shape
    out = torch.empty(batch, queries, k.shape[1], dtype=torch.int64 if ranked else torch.float32, device=q.device)
    strides, constants = _arguments(q, k, weights)

    def grid(meta: dict[str, int]) -> tuple[int, int, int]:
        return triton.cdiv(queries, meta["ROWS"]), triton.cdiv(k.shape[1], meta["KEYS"]), batch

    sizes = (queries, k.shape[1], begins.shape[1], first_query, first_key, window, (heads * width) ** -0.5)
    _scores[grid](q, k, weights, begins, out, *strides, *sizes, RANKED=ranked, **constants)
    return out


@torch.library.custom_op("rlvr_kernels::indexer_scores", mutates_args=())
def _all_scores(q: Tensor, k: Tensor, weights: Tensor, begins: Tensor) -> Tensor:
    return _scored(q, k, weights, begins, k.shape[1] - q.shape[1], 0, 0, False)


@torch.library.custom_op("rlvr_kernels::indexer_scores_backward", mutates_args=())
def _all_gradients(
    d_scores: Tensor, q: Tensor, k: Tensor, weights: Tensor, begins: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    d_scores, (batch, queries, heads, width), length = d_scores.float().contiguous(), q.shape, k.shape[1]
    d_q, d_k, d_weights = torch.empty_like(q), torch.empty_like(k), torch.empty_like(weights)
    strides, constants = _arguments(q, k, weights)
    sizes = (queries, length, (heads * width) ** -0.5)
    _query_gradients[lambda meta: (triton.cdiv(queries, meta["ROWS"]), heads, batch)](
        q, k, weights, begins, d_scores, d_q, d_weights, *strides, *sizes, **constants
    )
    _key_gradient[lambda meta: (triton.cdiv(length, meta["KEYS"]), batch)](
        q, k, weights, begins, d_scores, d_k, *strides, *sizes, **constants
    )
    return d_q, d_k, d_weights


@_all_scores.register_fake
def _(q, k, weights, begins):
    return q.new_empty(q.shape[0], q.shape[1], k.shape[1], dtype=torch.float32)


@_all_gradients.register_fake
def _(d_scores, q, k, weights, begins):
    return torch.empty_like(q), torch.empty_like(k), torch.empty_like(weights)


def _remember(ctx, inputs, output):
    ctx.save_for_backward(*inputs)


_all_scores.register_autograd(
    lambda ctx, d_scores: (*_all_gradients(d_scores, *ctx.saved_tensors), None), setup_context=_remember
)


def scores(q: Tensor, k: Tensor, weights: Tensor, begins: Tensor) -> Tensor:
    """(B, T, S) float32 of `indexer_scores` with document `begins` (B, S).

    Raises ValueError if the head width is not a power of 2 from 16 on.
    """
    _check(q)
    return _all_scores(q.contiguous(), k.contiguous(), weights.contiguous(), begins.contiguous())


def ranks(
    q: Tensor, k: Tensor, weights: Tensor, document_starts: Tensor, first_query: int, first_key: int, window: int
) -> Tensor:
    """(B, t, s) int64 that order keys by score and, of equal scores, by position, as in the reference."""
    _check(q)
    q, k = (x if x.stride(-1) == 1 else x.contiguous() for x in (q, k))
    return _scored(q, k, weights, document_starts.contiguous(), first_query, first_key, window, True)


def _check(q: Tensor) -> None:
    width = q.shape[-1]
    if width < 16 or width & (width - 1):
        raise ValueError(f"the indexer's head width is {width}; the kernel takes a power of 2 from 16 on")
