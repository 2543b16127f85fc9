"""Products of tiles of rows that each belong to one expert, and the gradient of the experts' matrices."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from rlvr_kernels.moe import layout
from rlvr_kernels.triton_math import autotuned, operand_type


def _config(out: int, inner: int, warps: int, stages: int) -> triton.Config:
    return triton.Config({"OUT": out, "IN": inner}, num_warps=warps, num_stages=stages)


INTERPRETED = _config(16, 16, 4, 1)
PRODUCT = [_config(128, 64, 8, 3), _config(256, 64, 8, 3), _config(256, 64, 8, 4)]
OUTER = [_config(128, 128, 8, 3), _config(128, 256, 8, 3), _config(128, 128, 4, 3)]


@autotuned(PRODUCT, INTERPRETED, ["width", "wanted"])
@triton.jit
def _tile_product(
    rows, matrices, out, ends, experts, width, wanted, expert_step, out_step, in_step,
    EXPERTS: tl.constexpr, TILE: tl.constexpr, OPERAND: tl.constexpr, OUT: tl.constexpr, IN: tl.constexpr,
):  # fmt: skip
    """One tile of rows and some columns of its expert's product; zeros for a tile of padding."""
    pieces = tl.cdiv(wanted, OUT)
    tile = tl.program_id(0) // pieces
    place = tl.arange(0, EXPERTS)
    passed = (place < experts) & (tl.load(ends + place, mask=place < experts, other=0) <= tile * TILE)
    expert = tl.sum(passed.to(tl.int32), 0)
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
    rows, d_out, ends, d_matrices, width, wanted,
    TILE: tl.constexpr, STEP: tl.constexpr, OPERAND: tl.constexpr, OUT: tl.constexpr, IN: tl.constexpr,
):  # fmt: skip
    """A piece of one expert's gradient: the sum over its rows of d_out times the row."""
    expert = tl.program_id(1)
    pieces = tl.cdiv(width, IN)
    out = (tl.program_id(0) // pieces) * OUT + tl.arange(0, OUT)
    inner = (tl.program_id(0) % pieces) * IN + tl.arange(0, IN)
    begin = tl.load(ends + expert - 1, mask=expert > 0, other=0)
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


def product(rows: Tensor, matrices: Tensor, ends: Tensor) -> Tensor:
    """(P, out): each tile of (P, in) rows times its expert's matrix of (E, out, in), of any strides."""
    rows, (experts, wanted, width) = rows.contiguous(), matrices.shape
    tiles = len(rows) // layout.TILE
    out = rows.new_empty(len(rows), wanted)
    constants = {"TILE": layout.TILE, "EXPERTS": triton.next_power_of_2(experts), "OPERAND": operand_type(rows.dtype)}
    _tile_product[lambda meta: (tiles * triton.cdiv(wanted, meta["OUT"]),)](
        rows, matrices, out, ends, experts, width, wanted, *matrices.stride(), **constants
    )
    return out


def outer(d_out: Tensor, rows: Tensor, ends: Tensor) -> Tensor:
    """(E, out, in): for each expert the sum over its rows of d_out (P, out) times rows (P, in)."""
    (_, wanted), width, experts = d_out.shape, rows.shape[1], len(ends)
    d_matrices = rows.new_empty(experts, wanted, width)

    def grid(meta: dict[str, int]) -> tuple[int, int]:
        return triton.cdiv(wanted, meta["OUT"]) * triton.cdiv(width, meta["IN"]), experts

    constants = {"TILE": layout.TILE, "STEP": min(64, layout.TILE), "OPERAND": operand_type(rows.dtype)}
    _expert_outer[grid](rows.contiguous(), d_out.contiguous(), ends, d_matrices, width, wanted, **constants)
    return d_matrices
