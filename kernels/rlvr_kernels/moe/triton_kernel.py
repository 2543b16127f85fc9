"""The experts' layout and products in Triton: gather, weighted sum, SwiGLU, and products of tiles of one expert each.

Gather and weighted sum are each other's gradient, by the permutation and its inverse, so neither adds atomically.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from rlvr_kernels.moe import layout
from rlvr_kernels.moe.lanes import expert_of_tile
from rlvr_kernels.triton_math import autotuned, operand_type

# --- rows ---


@triton.jit
def _gather(x, out, token_of_row, weight_of_row, width, WIDTH: tl.constexpr, WEIGHTED: tl.constexpr):
    """One row: its token's values, times the row's weight; zeros if it has none."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, WIDTH)
    token = tl.load(token_of_row + row)
    present = tl.where(token >= 0, width, 0)
    value = tl.load(x + token * width + column, mask=column < present, other=0.0).to(tl.float32)
    if WEIGHTED:
        value *= tl.load(weight_of_row + row).to(tl.float32)
    tl.store(out + row * width + column, value.to(out.dtype.element_ty), mask=column < width)


@triton.jit
def _combine(rows, weights, row_of_slot, out, width, SLOTS: tl.constexpr, WIDTH: tl.constexpr, WEIGHTED: tl.constexpr):
    """One token: the sum of its rows, each times its weight."""
    token = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, WIDTH)
    total = tl.zeros([WIDTH], tl.float32)
    for slot in range(SLOTS):
        row = tl.load(row_of_slot + token * SLOTS + slot)
        value = tl.load(rows + row * width + column, mask=column < width, other=0.0).to(tl.float32)
        if WEIGHTED:
            value *= tl.load(weights + token * SLOTS + slot).to(tl.float32)
        total += value
    tl.store(out + token * width + column, total.to(out.dtype.element_ty), mask=column < width)


@triton.jit
def _weight_gradient(rows, d_out, row_of_slot, d_weights, width, SLOTS: tl.constexpr, WIDTH: tl.constexpr):
    """One token and slot: the product of the slot's row with the gradient of the token's sum."""
    place = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, WIDTH)
    row = tl.load(row_of_slot + place)
    value = tl.load(rows + row * width + column, mask=column < width, other=0.0).to(tl.float32)
    wanted = tl.load(d_out + (place // SLOTS) * width + column, mask=column < width, other=0.0).to(tl.float32)
    tl.store(d_weights + place, tl.sum(value * wanted, 0).to(d_weights.dtype.element_ty))


@torch.library.custom_op("rlvr_kernels::gather_rows", mutates_args=())
def gather_rows(x: Tensor, token_of_row: Tensor, row_of_slot: Tensor) -> Tensor:
    """(P, d): each row's token, zeros for a row of padding."""
    return _gathered(x, token_of_row, None)


@torch.library.custom_op("rlvr_kernels::combine_rows", mutates_args=())
def combine_rows(rows: Tensor, weights: Tensor, row_of_slot: Tensor, token_of_row: Tensor) -> Tensor:
    """(N, d): for each token the sum of its rows, each times its weight."""
    return _combined(rows, weights, row_of_slot)


@torch.library.custom_op("rlvr_kernels::gather_rows_backward", mutates_args=())
def _gather_backward(d_rows: Tensor, row_of_slot: Tensor) -> Tensor:
    return _combined(d_rows, None, row_of_slot)


@torch.library.custom_op("rlvr_kernels::combine_rows_backward", mutates_args=())
def _combine_backward(
    d_out: Tensor, rows: Tensor, weights: Tensor, row_of_slot: Tensor, token_of_row: Tensor
) -> tuple[Tensor, Tensor]:
    d_out, d_weights = d_out.contiguous(), torch.empty_like(weights)
    width, slots = d_out.shape[1], weights.shape[1]
    _weight_gradient[(weights.numel(),)](
        rows, d_out, row_of_slot, d_weights, width, SLOTS=slots, WIDTH=triton.next_power_of_2(width)
    )
    weight_of_row = weights.new_zeros(len(rows)).scatter_(0, row_of_slot.flatten(), weights.flatten())
    return _gathered(d_out, token_of_row, weight_of_row), d_weights


def _gathered(x: Tensor, token_of_row: Tensor, weight_of_row: Tensor | None) -> Tensor:
    x = x.contiguous()
    out = x.new_empty(len(token_of_row), x.shape[1])
    constants = {"WIDTH": triton.next_power_of_2(x.shape[1]), "WEIGHTED": weight_of_row is not None}
    _gather[(len(out),)](x, out, token_of_row, weight_of_row, x.shape[1], **constants)
    return out


def _combined(rows: Tensor, weights: Tensor | None, row_of_slot: Tensor) -> Tensor:
    rows, (tokens, slots) = rows.contiguous(), row_of_slot.shape
    out = rows.new_empty(tokens, rows.shape[1])
    constants = {"SLOTS": slots, "WIDTH": triton.next_power_of_2(rows.shape[1]), "WEIGHTED": weights is not None}
    _combine[(tokens,)](rows, weights, row_of_slot, out, rows.shape[1], **constants)
    return out


@gather_rows.register_fake
def _(x, token_of_row, row_of_slot):
    return x.new_empty(len(token_of_row), x.shape[1])


@combine_rows.register_fake
def _(rows, weights, row_of_slot, token_of_row):
    return rows.new_empty(len(row_of_slot), rows.shape[1])


@_gather_backward.register_fake
def _(d_rows, row_of_slot):
    return d_rows.new_empty(len(row_of_slot), d_rows.shape[1])


@_combine_backward.register_fake
def _(d_out, rows, weights, row_of_slot, token_of_row):
    return d_out.new_empty(rows.shape), torch.empty_like(weights)


def _remember_gather(ctx, inputs, output):
    ctx.save_for_backward(inputs[2])


def _remember_combine(ctx, inputs, output):
    ctx.save_for_backward(*inputs)


gather_rows.register_autograd(
    lambda ctx, d_rows: (_gather_backward(d_rows, *ctx.saved_tensors), None, None), setup_context=_remember_gather
)
combine_rows.register_autograd(
    lambda ctx, d_out: (*_combine_backward(d_out, *ctx.saved_tensors), None, None), setup_context=_remember_combine
)


# --- SwiGLU ---


@triton.jit
def _swiglu(gate_up, out, inner, INNER: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * INNER + tl.arange(0, INNER)
    gate = tl.load(gate_up + row * 2 * inner + column, mask=column < inner, other=0.0).to(tl.float32)
    up = tl.load(gate_up + row * 2 * inner + inner + column, mask=column < inner, other=0.0).to(tl.float32)
    tl.store(out + row * inner + column, (gate * tl.sigmoid(gate) * up).to(out.dtype.element_ty), mask=column < inner)


@triton.jit
def _swiglu_gradient(gate_up, d_out, d_gate_up, inner, INNER: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * INNER + tl.arange(0, INNER)
    at = row * 2 * inner + column
    gate = tl.load(gate_up + at, mask=column < inner, other=0.0).to(tl.float32)
    up = tl.load(gate_up + at + inner, mask=column < inner, other=0.0).to(tl.float32)
    wanted = tl.load(d_out + row * inner + column, mask=column < inner, other=0.0).to(tl.float32)
    opening = tl.sigmoid(gate)
    d_gate = wanted * up * opening * (1 + gate * (1 - opening))
    kind = d_gate_up.dtype.element_ty
    tl.store(d_gate_up + at, d_gate.to(kind), mask=column < inner)
    tl.store(d_gate_up + at + inner, (wanted * gate * opening).to(kind), mask=column < inner)


def _over_pieces(inner: int) -> tuple[int, int]:
    """Columns of a piece of a row, and how many pieces a row has."""
    piece = min(1024, triton.next_power_of_2(inner))
    return piece, triton.cdiv(inner, piece)


@torch.library.custom_op("rlvr_kernels::swiglu", mutates_args=())
def swiglu(gate_up: Tensor) -> Tensor:
    """(P, I) of (P, 2 I): SiLU of the first half times the second."""
    gate_up, inner = gate_up.contiguous(), gate_up.shape[1] // 2
    out, (piece, pieces) = gate_up.new_empty(len(gate_up), inner), _over_pieces(inner)
    _swiglu[(len(out), pieces)](gate_up, out, inner, INNER=piece)
    return out


@torch.library.custom_op("rlvr_kernels::swiglu_backward", mutates_args=())
def _swiglu_backward(d_out: Tensor, gate_up: Tensor) -> Tensor:
    d_out, gate_up, inner = d_out.contiguous(), gate_up.contiguous(), d_out.shape[1]
    d_gate_up, (piece, pieces) = torch.empty_like(gate_up), _over_pieces(inner)
    _swiglu_gradient[(len(d_out), pieces)](gate_up, d_out, d_gate_up, inner, INNER=piece)
    return d_gate_up


@swiglu.register_fake
def _(gate_up):
    return gate_up.new_empty(len(gate_up), gate_up.shape[1] // 2)


@_swiglu_backward.register_fake
def _(d_out, gate_up):
    return gate_up.new_empty(gate_up.shape)


def _remember_all(ctx, inputs, output):
    ctx.save_for_backward(*inputs)


swiglu.register_autograd(lambda ctx, d_out: _swiglu_backward(d_out, *ctx.saved_tensors), setup_context=_remember_all)


# --- products of tiles ---


def _config(out: int, inner: int, warps: int, stages: int) -> triton.Config:
    return triton.Config({"OUT": out, "IN": inner}, num_warps=warps, num_stages=stages)


INTERPRETED = _config(16, 16, 4, 1)
PRODUCT = [_config(128, 64, 8, 3), _config(256, 64, 8, 3), _config(128, 64, 4, 4)]
OUTER = [_config(128, 128, 8, 3), _config(128, 256, 8, 3), _config(128, 128, 4, 3)]


@autotuned(PRODUCT, INTERPRETED, ["width", "wanted"])
@triton.jit
def _tile_product(
    rows, matrices, out, expert_of_tile, experts, width, wanted, expert_step, out_step, in_step,
    TILE: tl.constexpr, OPERAND: tl.constexpr, OUT: tl.constexpr, IN: tl.constexpr,
):  # fmt: skip
    """One tile of rows and some columns of its expert's product; zeros for a tile of padding."""
    pieces = tl.cdiv(wanted, OUT)
    tile = tl.program_id(0) // pieces
    expert = tl.load(expert_of_tile + tile)
    row = (tile * TILE + tl.arange(0, TILE)).to(tl.int64)
    column = (tl.program_id(0) % pieces) * OUT + tl.arange(0, OUT)
    matrices += expert.to(tl.int64) * expert_step
    total = tl.zeros([TILE, OUT], tl.float32)
    for start in range(0, tl.where(expert < experts, width, 0), IN):
        inner = start + tl.arange(0, IN)
        left = tl.load(rows + row[:, None] * width + inner[None, :], mask=(inner < width)[None, :], other=0.0)
        at = column[None, :] * out_step + inner[:, None] * in_step
        right = tl.load(matrices + at, mask=(inner < width)[:, None] & (column < wanted)[None, :], other=0.0)
        total = tl.dot(left.to(OPERAND), right.to(OPERAND), total, input_precision="tf32x3")
    at = row[:, None] * wanted + column[None, :]
    tl.store(out + at, total.to(out.dtype.element_ty), mask=(column < wanted)[None, :])


@autotuned(OUTER, INTERPRETED, ["width", "wanted"])
@triton.jit
def _expert_outer(
    rows, d_out, begins, ends, d_matrices, width, wanted,
    TILE: tl.constexpr, STEP: tl.constexpr, OPERAND: tl.constexpr, OUT: tl.constexpr, IN: tl.constexpr,
):  # fmt: skip
    """A piece of one expert's gradient: the sum over its rows of d_out times the row."""
    expert = tl.program_id(1)
    pieces = tl.cdiv(width, IN)
    out = (tl.program_id(0) // pieces) * OUT + tl.arange(0, OUT)
    inner = (tl.program_id(0) % pieces) * IN + tl.arange(0, IN)
    begin = tl.load(begins + expert)
    total = tl.zeros([OUT, IN], tl.float32)
    for start in range(begin, tl.load(ends + expert), STEP):
        row = (start + tl.arange(0, STEP)).to(tl.int64)
        left = tl.load(d_out + row[None, :] * wanted + out[:, None], mask=(out < wanted)[:, None], other=0.0)
        right = tl.load(rows + row[:, None] * width + inner[None, :], mask=(inner < width)[None, :], other=0.0)
        total = tl.dot(left.to(OPERAND), right.to(OPERAND), total, input_precision="tf32x3")
    at = expert.to(tl.int64) * wanted * width + out[:, None] * width + inner[None, :]
    tl.store(
        d_matrices + at, total.to(d_matrices.dtype.element_ty), mask=(out < wanted)[:, None] & (inner < width)[None, :]
    )


def _product(rows: Tensor, matrices: Tensor, ends: Tensor) -> Tensor:
    """(P, out) of (P, in) rows and (E, out, in) matrices of any strides."""
    rows, (experts, wanted, width) = rows.contiguous(), matrices.shape
    tiles = len(rows) // layout.TILE
    out = rows.new_empty(len(rows), wanted)
    numbers = (experts, width, wanted, *matrices.stride())
    _tile_product[lambda meta: (tiles * triton.cdiv(wanted, meta["OUT"]),)](
        rows, matrices, out, expert_of_tile(ends, tiles), *numbers, TILE=layout.TILE, OPERAND=operand_type(rows.dtype)
    )
    return out


@torch.library.custom_op("rlvr_kernels::tiled_product", mutates_args=())
def tiled(rows: Tensor, matrices: Tensor, ends: Tensor) -> Tensor:
    """(P, out): each tile of (P, in) rows times its expert's matrix of (E, out, in); `ends` (E,) as in `Layout`."""
    return _product(rows, matrices, ends)


@torch.library.custom_op("rlvr_kernels::tiled_product_backward", mutates_args=())
def _tiled_backward(d_out: Tensor, rows: Tensor, matrices: Tensor, ends: Tensor) -> tuple[Tensor, Tensor]:
    d_out, rows, (experts, wanted, width) = d_out.contiguous(), rows.contiguous(), matrices.shape
    d_matrices = matrices.new_empty(matrices.shape)

    def grid(meta: dict[str, int]) -> tuple[int, int]:
        return triton.cdiv(wanted, meta["OUT"]) * triton.cdiv(width, meta["IN"]), experts

    constants = {"TILE": layout.TILE, "STEP": min(64, layout.TILE), "OPERAND": operand_type(rows.dtype)}
    begins = torch.nn.functional.pad(ends, (1, 0))
    _expert_outer[grid](rows, d_out, begins, ends, d_matrices, width, wanted, **constants)
    return _product(d_out, matrices.transpose(1, 2), ends), d_matrices


@tiled.register_fake
def _(rows, matrices, ends):
    return rows.new_empty(len(rows), matrices.shape[1])


@_tiled_backward.register_fake
def _(d_out, rows, matrices, ends):
    return rows.new_empty(rows.shape), matrices.new_empty(matrices.shape)


tiled.register_autograd(
    lambda ctx, d_out: (*_tiled_backward(d_out, *ctx.saved_tensors), None), setup_context=_remember_all
)
