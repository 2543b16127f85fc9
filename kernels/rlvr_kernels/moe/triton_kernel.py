"""A lane's steps in Triton as one operation forward and one backward, since each costs the CPU as much as a product.

Rows are gathered, multiplied, passed through SwiGLU times their weight, multiplied again and summed by token. Gather
and sum are each other's gradient, by the permutation and its inverse, so neither adds atomically. The weight between
the products makes its own gradient a by-product of SwiGLU's, and the last product's result need not be kept.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from rlvr_kernels.moe import lanes
from rlvr_kernels.moe.layout import Layout

# --- kernels ---


@triton.jit
def _gather(x, out, slot_of_row, width, SLOTS: tl.constexpr, WIDTH: tl.constexpr):
    """Writes one row: the values of its token, or zeros where it stands for none."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, WIDTH)
    slot = tl.load(slot_of_row + row).to(tl.int64)
    present = tl.where(slot >= 0, width, 0)
    token = tl.maximum(slot, 0) // SLOTS
    value = tl.load(x + token * width + column, mask=column < present, other=0.0)
    tl.store(out + row * width + column, value, mask=column < width)


@triton.jit
def _sum(rows, out, row_of_slot, width, SLOTS: tl.constexpr, WIDTH: tl.constexpr):
    """Writes one token: the sum of its rows."""
    token = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, WIDTH)
    total = tl.zeros([WIDTH], tl.float32)
    for slot in tl.static_range(SLOTS):
        row = tl.load(row_of_slot + token * SLOTS + slot).to(tl.int64)
        total += tl.load(rows + row * width + column, mask=column < width, other=0.0).to(tl.float32)
    tl.store(out + token * width + column, total.to(out.dtype.element_ty), mask=column < width)


@triton.jit
def _swiglu(pair, weights, slot_of_row, out, inner, PIECE: tl.constexpr):
    """A piece of one row: SiLU of the first half times the second, times the row's weight."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * PIECE + tl.arange(0, PIECE)
    slot = tl.load(slot_of_row + row)
    weight = tl.load(weights + slot, mask=slot >= 0, other=0.0).to(tl.float32)
    gate = tl.load(pair + row * 2 * inner + column, mask=column < inner, other=0.0).to(tl.float32)
    up = tl.load(pair + row * 2 * inner + inner + column, mask=column < inner, other=0.0).to(tl.float32)
    value = weight * gate * tl.sigmoid(gate) * up
    tl.store(out + row * inner + column, value.to(out.dtype.element_ty), mask=column < inner)


@triton.jit
def _swiglu_gradient(
    pair, weights, slot_of_row, d_hidden, hidden, d_pair, d_weights, inner, PIECE: tl.constexpr
):  # fmt: skip
    """One row: the gradients of both halves and of its weight, and the forward result again."""
    row = tl.program_id(0).to(tl.int64)
    slot = tl.load(slot_of_row + row)
    weight = tl.load(weights + slot, mask=slot >= 0, other=0.0).to(tl.float32)
    d_weight = tl.zeros([PIECE], tl.float32)
    kind = d_pair.dtype.element_ty
    for start in range(0, inner, PIECE):
        column = start + tl.arange(0, PIECE)
        inside, at = column < inner, row * 2 * inner + column
        gate = tl.load(pair + at, mask=inside, other=0.0).to(tl.float32)
        up = tl.load(pair + at + inner, mask=inside, other=0.0).to(tl.float32)
        wanted = tl.load(d_hidden + row * inner + column, mask=inside, other=0.0).to(tl.float32)
        opening = tl.sigmoid(gate)
        silu = gate * opening
        d_weight += wanted * silu * up
        wanted *= weight
        tl.store(hidden + row * inner + column, (weight * silu * up).to(kind), mask=inside)
        tl.store(d_pair + at, (wanted * up * opening * (1 + gate * (1 - opening))).to(kind), mask=inside)
        tl.store(d_pair + at + inner, (wanted * silu).to(kind), mask=inside)
    total = tl.sum(d_weight, 0)
    tl.store(d_weights + slot, total.to(d_weights.dtype.element_ty), mask=slot >= 0)


def _gathered(x: Tensor, slot_of_row: Tensor, slots: int) -> Tensor:
    """(P, d) of (N, d): each row's token, zeros for padding."""
    width, out = x.shape[1], x.new_empty(len(slot_of_row), x.shape[1])
    _gather[(len(out),)](x.contiguous(), out, slot_of_row, width, SLOTS=slots, WIDTH=triton.next_power_of_2(width))
    return out


def _summed(rows: Tensor, row_of_slot: Tensor) -> Tensor:
    """(N, d) of (P, d): the sum of each token's rows."""
    (tokens, slots), width = row_of_slot.shape, rows.shape[1]
    out = rows.new_empty(tokens, width)
    _sum[(tokens,)](rows.contiguous(), out, row_of_slot, width, SLOTS=slots, WIDTH=triton.next_power_of_2(width))
    return out


def _piece(inner: int) -> int:
    return min(1024, triton.next_power_of_2(inner))


# --- operations ---


@torch.library.custom_op("rlvr_kernels::mixture", mutates_args=())
def _mixture(
    x: Tensor, gate_up: Tensor, down: Tensor, weights: Tensor,
    slot_of_row: Tensor, row_of_slot: Tensor, ends: Tensor, lane: str,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """The sum (N, d), and for the backward pass the rows (P, d) and what enters SwiGLU (P, 2 I)."""
    multiply, inner = lanes.product(lane, triton=True), down.shape[2]
    rows = _gathered(x, slot_of_row, weights.shape[1])
    pair = multiply(rows, gate_up, ends).contiguous()
    hidden = pair.new_empty(len(pair), inner)
    _swiglu[(len(pair), triton.cdiv(inner, _piece(inner)))](
        pair, weights.contiguous(), slot_of_row, hidden, inner, PIECE=_piece(inner)
    )
    return _summed(multiply(hidden, down, ends), row_of_slot), rows, pair


@torch.library.custom_op("rlvr_kernels::mixture_backward", mutates_args=())
def _mixture_backward(
    d_out: Tensor, rows: Tensor, pair: Tensor, gate_up: Tensor, down: Tensor, weights: Tensor,
    slot_of_row: Tensor, row_of_slot: Tensor, ends: Tensor, lane: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    multiply, outer = lanes.product(lane, triton=True), lanes.outer(lane)
    d_rows = _gathered(d_out, slot_of_row, weights.shape[1])
    d_hidden = multiply(d_rows, down.transpose(1, 2), ends).contiguous()
    hidden, d_pair = torch.empty_like(d_hidden), torch.empty_like(pair)
    d_weights = weights.new_empty(weights.shape)
    _swiglu_gradient[(len(pair),)](
        pair, weights.contiguous(), slot_of_row, d_hidden, hidden, d_pair, d_weights, down.shape[2],
        PIECE=_piece(down.shape[2]),
    )  # fmt: skip
    d_x = _summed(multiply(d_pair, gate_up.transpose(1, 2), ends), row_of_slot)
    return d_x, outer(d_pair, rows, ends), outer(d_rows, hidden, ends), d_weights


@_mixture.register_fake
def _(x, gate_up, down, weights, slot_of_row, row_of_slot, ends, lane):
    count = len(slot_of_row)
    return x.new_empty(x.shape), x.new_empty(count, x.shape[1]), x.new_empty(count, gate_up.shape[1])


@_mixture_backward.register_fake
def _(d_out, rows, pair, gate_up, down, weights, slot_of_row, row_of_slot, ends, lane):
    return d_out.new_empty(d_out.shape), *(x.new_empty(x.shape) for x in (gate_up, down, weights))


def _remember(ctx, inputs, output):
    _, *tensors, ctx.lane = inputs
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(*output[1:])
    ctx.save_for_backward(*output[1:], *tensors)


def _differentiate(ctx, d_out, *_):
    return *_mixture_backward(d_out, *ctx.saved_tensors, ctx.lane), *[None] * 4


_mixture.register_autograd(_differentiate, setup_context=_remember)


def mixture(x: Tensor, gate_up: Tensor, down: Tensor, weights: Tensor, plan: Layout, lane: str) -> Tensor:
    """(N, d) of `moe` by a lane: rows laid out, multiplied, weighted between the products, and summed by token."""
    out, *_ = _mixture(x, gate_up, down, weights, plan.slot_of_row, plan.row_of_slot, plan.ends, lane)
    return out
