"""Block-sparse attention in Triton: forward, and a backward of two kernels that share nothing and add nothing up.

A tile is a run of queries times all query heads of one key head, so that small groups still fill the rows of a product
and one load of keys serves them all (NSA, arXiv 2502.11089, stacks heads alone; FSA, arXiv 2508.18224, shows what
that costs). For every block each row has two bounds, `low <= key <= high`, which say causal, document, window and
"this block is on my list" at once. Scores are in base 2: a weight is exp2(score - lse).
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from rlvr_kernels.block_sparse_attention.schedule import compact, visited_blocks
from rlvr_kernels.triton_math import autotuned, operand_type, tanh

FORWARD_ROWS = 128
BACKWARD_ROWS = 64
"""Rows of a tile: its queries times the heads that share a key head."""


def _config(keys: int, warps: int, stages: int) -> triton.Config:
    return triton.Config({"KEYS": keys}, num_warps=warps, num_stages=stages)


INTERPRETED = _config(16, 4, 1)
FORWARD = [_config(64, 8, 3), _config(128, 8, 2)]
BACKWARD = [_config(64, 4, 2), _config(64, 8, 2)]


# --- what the kernels share ---


@triton.jit
def _tile_rows(tile, queries, length, begins, ROWS: tl.constexpr, GROUP: tl.constexpr, GROUP_ROWS: tl.constexpr):
    """Of each row of a tile: query, query head within the group, whether it is real, position, document start."""
    row = tl.arange(0, ROWS)
    query = tile * (ROWS // GROUP_ROWS) + row // GROUP_ROWS
    head = row % GROUP_ROWS
    real = (query < queries) & (head < GROUP)
    position = length - queries + query
    begin = tl.load(begins + position, mask=real, other=length)  # a row that is not real reads nothing
    return query, head, real, position, begin


@triton.jit
def _listed(lists, query, real, per_list, LIST: tl.constexpr, LIST_ROOM: tl.constexpr):
    """(ROWS, LIST_ROOM): the blocks on each row's list, -1 where it ends."""
    slot = tl.arange(0, LIST_ROOM)
    pointers = lists + (query // per_list)[:, None] * LIST + slot[None, :]
    return tl.load(pointers, mask=real[:, None] & (slot < LIST)[None, :], other=-1)


@triton.jit
def _lowest_key(listed, block, begin, position, window, SHARED: tl.constexpr):
    """(ROWS,): the first key of `block` that a row may read; all of them if the block is on its list."""
    if SHARED:
        low = begin
    else:
        on_list = tl.max((listed == block).to(tl.int32), 1) > 0
        low = tl.where(on_list, begin, tl.maximum(begin, position - window + 1))
    return low


@triton.jit
def _score(product, inner, outer, CAPPED: tl.constexpr):
    """The scores in base 2, and the factor that the softcap puts on their gradient."""
    if CAPPED:
        bent = tanh(product * inner)
        score, slope = bent * outer, 1 - bent * bent
    else:
        score, slope = product * inner, 1.0
    return score, slope


# --- forward ---


@autotuned(FORWARD, INTERPRETED, ["WIDTH", "SHARED"])
@triton.jit
def _forward(
    q, k, v, out, lse, lists, order, counts, bounds, begins,
    q_batch, q_head, q_step, k_batch, k_head, k_step, v_batch, v_head, v_step, out_batch, out_head, out_step,
    queries, length, key_heads, block_count, list_count, per_list, block_size, window, inner, outer,
    WIDTH: tl.constexpr, ROWS: tl.constexpr, GROUP: tl.constexpr, GROUP_ROWS: tl.constexpr, LIST: tl.constexpr,
    LIST_ROOM: tl.constexpr, SHARED: tl.constexpr, CAPPED: tl.constexpr, OPERAND: tl.constexpr, KEYS: tl.constexpr,
):  # fmt: skip
    tile, pair = tl.program_id(0), tl.program_id(1).to(tl.int64)
    batch, key_head = pair // key_heads, pair % key_heads
    query, head, real, position, begin = _tile_rows(
        tile, queries, length, begins + batch * length, ROWS, GROUP, GROUP_ROWS
    )
    listed = _listed(lists + pair * list_count * LIST, query, real, per_list, LIST, LIST_ROOM)
    heads = (key_head * GROUP + head)[:, None]
    column = tl.arange(0, WIDTH)
    q_tile = tl.load(
        q + batch * q_batch + heads * q_head + query[:, None] * q_step + column[None, :], mask=real[:, None], other=0.0
    ).to(OPERAND)
    k += batch * k_batch + key_head * k_head
    v += batch * v_batch + key_head * v_head
    bounds += batch * (block_count + 1)
    tiles = tl.num_programs(0)
    order += (pair * tiles + tile) * block_count
    steps = tl.cdiv(block_size, KEYS)

    highest = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    summed = tl.zeros([ROWS, WIDTH], tl.float32)
    for step in range(tl.load(counts + pair * tiles + tile) * steps):
        block = tl.load(order + step // steps)
        end = tl.load(bounds + block + 1)
        key = tl.load(bounds + block) + (step % steps) * KEYS + tl.arange(0, KEYS)
        inside = key < end
        k_tile = tl.load(k + key[None, :] * k_step + column[:, None], mask=inside[None, :], other=0.0).to(OPERAND)
        v_tile = tl.load(v + key[:, None] * v_step + column[None, :], mask=inside[:, None], other=0.0).to(OPERAND)
        low = _lowest_key(listed, block, begin, position, window, SHARED)
        high = tl.minimum(position, end - 1)
        score, _ = _score(tl.dot(q_tile, k_tile, input_precision="tf32x3"), inner, outer, CAPPED)
        score = tl.where((key[None, :] >= low[:, None]) & (key[None, :] <= high[:, None]), score, float("-inf"))
        new_highest = tl.maximum(highest, tl.max(score, 1))
        anchor = tl.where(new_highest == float("-inf"), 0.0, new_highest)
        weight = tl.exp2(score - anchor[:, None])
        shrink = tl.exp2(highest - anchor)
        total = total * shrink + tl.sum(weight, 1)
        summed = summed * shrink[:, None]
        summed = tl.dot(weight.to(OPERAND), v_tile, summed, input_precision="tf32x3")
        highest = new_highest

    something = total > 0
    total = tl.where(something, total, 1.0)
    at = batch * out_batch + heads * out_head + query[:, None] * out_step + column[None, :]
    tl.store(out + at, (summed / total[:, None]).to(out.dtype.element_ty), mask=real[:, None])
    row = (batch * key_heads * GROUP + key_head * GROUP + head) * queries + query
    tl.store(lse + row, tl.where(something, highest + tl.log2(total), 0.0), mask=real)


# --- backward ---


@autotuned(BACKWARD, INTERPRETED, ["WIDTH", "SHARED"])
@triton.jit
def _backward_queries(
    q, k, v, out, d_out, lse, delta, d_q, lists, order, counts, bounds, begins,
    q_batch, q_head, q_step, k_batch, k_head, k_step, v_batch, v_head, v_step, out_batch, out_head, out_step,
    queries, length, key_heads, block_count, list_count, per_list, block_size, window, inner, outer, scale,
    WIDTH: tl.constexpr, ROWS: tl.constexpr, GROUP: tl.constexpr, GROUP_ROWS: tl.constexpr, LIST: tl.constexpr,
    LIST_ROOM: tl.constexpr, SHARED: tl.constexpr, CAPPED: tl.constexpr, OPERAND: tl.constexpr, KEYS: tl.constexpr,
):  # fmt: skip
    """The gradient of q, and `delta` (B, H, T), each query's sum of out * d_out, for the other kernel."""
    tile, pair = tl.program_id(0), tl.program_id(1).to(tl.int64)
    batch, key_head = pair // key_heads, pair % key_heads
    query, head, real, position, begin = _tile_rows(
        tile, queries, length, begins + batch * length, ROWS, GROUP, GROUP_ROWS
    )
    listed = _listed(lists + pair * list_count * LIST, query, real, per_list, LIST, LIST_ROOM)
    heads = (key_head * GROUP + head)[:, None]
    column = tl.arange(0, WIDTH)
    q_at = batch * q_batch + heads * q_head + query[:, None] * q_step + column[None, :]
    out_at = batch * out_batch + heads * out_head + query[:, None] * out_step + column[None, :]
    row = (batch * key_heads * GROUP + key_head * GROUP + head) * queries + query
    q_tile = tl.load(q + q_at, mask=real[:, None], other=0.0).to(OPERAND)
    d_tile = tl.load(d_out + out_at, mask=real[:, None], other=0.0)
    out_tile = tl.load(out + out_at, mask=real[:, None], other=0.0)
    row_delta = tl.sum(d_tile.to(tl.float32) * out_tile.to(tl.float32), 1)
    tl.store(delta + row, row_delta, mask=real)
    row_lse = tl.load(lse + row, mask=real, other=0.0)
    d_tile = d_tile.to(OPERAND)
    k += batch * k_batch + key_head * k_head
    v += batch * v_batch + key_head * v_head
    bounds += batch * (block_count + 1)
    tiles = tl.num_programs(0)
    order += (pair * tiles + tile) * block_count
    steps = tl.cdiv(block_size, KEYS)

    summed = tl.zeros([ROWS, WIDTH], tl.float32)
    for step in range(tl.load(counts + pair * tiles + tile) * steps):
        block = tl.load(order + step // steps)
        end = tl.load(bounds + block + 1)
        key = tl.load(bounds + block) + (step % steps) * KEYS + tl.arange(0, KEYS)
        inside = key < end
        k_tile = tl.load(k + key[:, None] * k_step + column[None, :], mask=inside[:, None], other=0.0).to(OPERAND)
        v_tile = tl.load(v + key[None, :] * v_step + column[:, None], mask=inside[None, :], other=0.0).to(OPERAND)
        low = _lowest_key(listed, block, begin, position, window, SHARED)
        high = tl.minimum(position, end - 1)
        score, slope = _score(tl.dot(q_tile, tl.trans(k_tile), input_precision="tf32x3"), inner, outer, CAPPED)
        seen = (key[None, :] >= low[:, None]) & (key[None, :] <= high[:, None])
        weight = tl.where(seen, tl.exp2(score - row_lse[:, None]), 0.0)
        d_weight = tl.dot(d_tile, v_tile, input_precision="tf32x3")
        d_score = weight * (d_weight - row_delta[:, None]) * slope
        summed = tl.dot(d_score.to(OPERAND), k_tile, summed, input_precision="tf32x3")
    tl.store(d_q + q_at, (summed * scale).to(d_q.dtype.element_ty), mask=real[:, None])


@autotuned(BACKWARD, INTERPRETED, ["WIDTH", "SHARED"])
@triton.jit
def _backward_keys(
    q, k, v, d_out, lse, delta, d_k, d_v, lists, order, counts, bounds, begins,
    q_batch, q_head, q_step, k_batch, k_head, k_step, v_batch, v_head, v_step, out_batch, out_head, out_step,
    queries, length, key_heads, block_count, list_count, per_list, block_size, window, inner, outer, scale, tiles,
    WIDTH: tl.constexpr, ROWS: tl.constexpr, GROUP: tl.constexpr, GROUP_ROWS: tl.constexpr, LIST: tl.constexpr,
    LIST_ROOM: tl.constexpr, SHARED: tl.constexpr, CAPPED: tl.constexpr, OPERAND: tl.constexpr, KEYS: tl.constexpr,
):  # fmt: skip
    """The gradients of a piece of one block's k and v, from the tiles of queries that visit the block."""
    pair = tl.program_id(1).to(tl.int64)
    batch, key_head = pair // key_heads, pair % key_heads
    steps = tl.cdiv(block_size, KEYS)
    block = tl.program_id(0) // steps
    bounds += batch * (block_count + 1)
    end = tl.load(bounds + block + 1)
    key = tl.load(bounds + block) + (tl.program_id(0) % steps) * KEYS + tl.arange(0, KEYS)
    inside = key < end
    column = tl.arange(0, WIDTH)
    k_at = batch * k_batch + key_head * k_head + key[:, None] * k_step + column[None, :]
    v_at = batch * v_batch + key_head * v_head + key[:, None] * v_step + column[None, :]
    k_tile = tl.load(k + k_at, mask=inside[:, None], other=0.0).to(OPERAND)
    v_tile = tl.load(v + v_at, mask=inside[:, None], other=0.0).to(OPERAND)
    order += (pair * block_count + block) * tiles
    lists += pair * list_count * LIST
    q += batch * q_batch
    d_out += batch * out_batch

    k_sum = tl.zeros([KEYS, WIDTH], tl.float32)
    v_sum = tl.zeros([KEYS, WIDTH], tl.float32)
    for visit in range(tl.load(counts + pair * block_count + block)):
        query, head, real, position, begin = _tile_rows(
            tl.load(order + visit), queries, length, begins + batch * length, ROWS, GROUP, GROUP_ROWS
        )
        heads = (key_head * GROUP + head)[:, None]
        q_at = heads * q_head + query[:, None] * q_step + column[None, :]
        q_tile = tl.load(q + q_at, mask=real[:, None], other=0.0).to(OPERAND)
        out_at = heads * out_head + query[:, None] * out_step + column[None, :]
        d_tile = tl.load(d_out + out_at, mask=real[:, None], other=0.0).to(OPERAND)
        row = (batch * key_heads * GROUP + key_head * GROUP + head) * queries + query
        row_lse = tl.load(lse + row, mask=real, other=0.0)
        row_delta = tl.load(delta + row, mask=real, other=0.0)
        listed = _listed(lists, query, real, per_list, LIST, LIST_ROOM)
        low = _lowest_key(listed, block, begin, position, window, SHARED)
        high = tl.minimum(position, end - 1)
        score, slope = _score(tl.dot(k_tile, tl.trans(q_tile), input_precision="tf32x3"), inner, outer, CAPPED)
        seen = (key[:, None] >= low[None, :]) & (key[:, None] <= high[None, :])
        weight = tl.where(seen, tl.exp2(score - row_lse[None, :]), 0.0)
        v_sum = tl.dot(weight.to(OPERAND), d_tile, v_sum, input_precision="tf32x3")
        d_weight = tl.dot(v_tile, tl.trans(d_tile), input_precision="tf32x3")
        d_score = weight * (d_weight - row_delta[None, :]) * slope
        k_sum = tl.dot(d_score.to(OPERAND), q_tile, k_sum, input_precision="tf32x3")
    tl.store(d_k + k_at, (k_sum * scale).to(d_k.dtype.element_ty), mask=inside[:, None])
    tl.store(d_v + v_at, v_sum.to(d_v.dtype.element_ty), mask=inside[:, None])


# --- operators ---


@torch.library.custom_op("rlvr_kernels::block_sparse_attention", mutates_args=())
def _attend(
    q: Tensor, k: Tensor, v: Tensor, blocks: Tensor, starts: Tensor, begins: Tensor,
    block_size: int, window: int, softcap: float, scale: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The output and the (B, H, T) base-2 logarithms of the softmax denominators; softcap 0 is none."""
    out, lse = torch.empty_like(q), q.new_empty(q.shape[:3], dtype=torch.float32)
    tile = _tile_queries(FORWARD_ROWS, q, k)
    order, counts = compact(visited_blocks(blocks, starts, begins, q.shape[2], tile, window))
    numbers, constants = _arguments(q, k, v, out, blocks, starts, FORWARD_ROWS, block_size, window, softcap, scale)
    grid = (order.shape[2], k.shape[0] * k.shape[1])
    _forward[grid](q, k, v, out, lse, blocks, order, counts, _bounds(starts, k), begins, *numbers, **constants)
    return out, lse


@torch.library.custom_op("rlvr_kernels::block_sparse_attention_backward", mutates_args=())
def _attend_backward(
    d_out: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, blocks: Tensor, starts: Tensor,
    begins: Tensor, block_size: int, window: int, softcap: float, scale: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    d_q, d_k, d_v, delta = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v), torch.empty_like(lse)
    d_out = torch.empty_like(out).copy_(d_out) if d_out.stride() != out.stride() else d_out
    visited = visited_blocks(blocks, starts, begins, q.shape[2], _tile_queries(BACKWARD_ROWS, q, k), window)
    tiles, pairs = visited.shape[2], k.shape[0] * k.shape[1]
    bounds = _bounds(starts, k)
    numbers, constants = _arguments(q, k, v, out, blocks, starts, BACKWARD_ROWS, block_size, window, softcap, scale)
    _backward_queries[tiles, pairs](
        q, k, v, out, d_out, lse, delta, d_q, blocks, *compact(visited), bounds, begins, *numbers, scale, **constants
    )

    def grid(meta: dict[str, int]) -> tuple[int, int]:
        return starts.shape[1] * triton.cdiv(block_size, meta["KEYS"]), pairs

    order, counts = compact(visited.transpose(2, 3))
    _backward_keys[grid](
        q, k, v, d_out, lse, delta, d_k, d_v, blocks, order, counts, bounds, begins, *numbers, scale, tiles, **constants
    )
    return d_q, d_k, d_v


def _is_dense(x: Tensor) -> bool:
    """Whether a gradient can lie as it does: a piece of a larger tensor has gaps, a broadcast one overlaps."""
    return x.stride(3) == 1 and torch.empty_like(x).stride() == x.stride()


def _tile_queries(rows: int, q: Tensor, k: Tensor) -> int:
    return rows // triton.next_power_of_2(q.shape[1] // k.shape[1])


def _bounds(starts: Tensor, k: Tensor) -> Tensor:
    """(B, n + 1) int32: block b of a row is the keys from bounds[b] up to bounds[b + 1]."""
    return torch.nn.functional.pad(starts, (0, 1), value=k.shape[2])


def _arguments(
    q: Tensor, k: Tensor, v: Tensor, out: Tensor, blocks: Tensor, starts: Tensor,
    rows: int, block_size: int, window: int, softcap: float, scale: float,
) -> tuple[list[float], dict[str, object]]:  # fmt: skip
    """The numbers and the constants that all three kernels take, in their order."""
    strides = [step for tensor in (q, k, v, out) for step in tensor.stride()[:3]]
    queries, lists = q.shape[2], blocks.shape[2]
    per_list = triton.cdiv(queries, lists)
    inner, outer = (scale / softcap, softcap * math.log2(math.e)) if softcap else (scale * math.log2(math.e), 1.0)
    sizes = [queries, k.shape[2], k.shape[1], starts.shape[1], lists, per_list, block_size, window, inner, outer]
    group = q.shape[1] // k.shape[1]
    constants = {
        "WIDTH": q.shape[3],
        "ROWS": rows,
        "GROUP": group,
        "GROUP_ROWS": triton.next_power_of_2(group),
        "LIST": blocks.shape[3],
        "LIST_ROOM": triton.next_power_of_2(blocks.shape[3]),
        "SHARED": window == 0 and per_list % _tile_queries(rows, q, k) == 0,
        "CAPPED": bool(softcap),
        "OPERAND": operand_type(q.dtype),
    }
    return strides + sizes, constants


@_attend.register_fake
def _(q, k, v, blocks, starts, begins, block_size, window, softcap, scale):
    return torch.empty_like(q), q.new_empty(q.shape[:3], dtype=torch.float32)


@_attend_backward.register_fake
def _(d_out, q, k, v, out, lse, blocks, starts, begins, block_size, window, softcap, scale):
    return torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)


def _remember(ctx, inputs, output):
    q, k, v, blocks, starts, begins, *ctx.settings = inputs
    ctx.save_for_backward(q, k, v, *output, blocks, starts, begins)
    ctx.mark_non_differentiable(output[1])


def _differentiate(ctx, d_out, _):
    return *_attend_backward(d_out, *ctx.saved_tensors, *ctx.settings), *[None] * 7


_attend.register_autograd(_differentiate, setup_context=_remember)


def attention(
    q: Tensor, k: Tensor, v: Tensor, blocks: Tensor, starts: Tensor, begins: Tensor,
    block_size: int, window: int, softcap: float | None, scale: float,
) -> Tensor:  # fmt: skip
    """`block_sparse_attention` for block `starts` (B, n) and document `begins` (B, S); head widths are powers of 2.

    Raises ValueError on other widths, values of another width, and groups of more query heads than a tile has rows.
    """
    width, group = q.shape[3], q.shape[1] // k.shape[1]
    if width < 16 or width & (width - 1) or v.shape[3] != width:
        raise ValueError(
            f"head widths are {width} and {v.shape[3]}; the kernel takes one power of 2 from 16 on for both"
        )
    if group > BACKWARD_ROWS:
        raise ValueError(f"{group} query heads share a key head; the kernel takes at most {BACKWARD_ROWS}")
    q, k, v = (x if _is_dense(x) else x.contiguous() for x in (q, k, v))
    blocks = blocks.int().contiguous()
    out, _ = _attend(q, k, v, blocks, starts, begins.contiguous(), block_size, window, softcap or 0.0, scale)
    return out
