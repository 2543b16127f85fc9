"""RoPE and the norm after it in Triton: a tile of heads at a time, which are read once and written once."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

ELEMENTS = 4096
"""Elements of a tile, the unit that one program works on."""


@triton.jit
def _tables(cos_ptr, sin_ptr, row, rows, heads: tl.constexpr, period, half: tl.constexpr, HALF: tl.constexpr):
    """Cosines and sines (ROWS, HALF) of the rows' tokens; the tables repeat after `period` tokens."""
    pair = tl.arange(0, HALF)
    place = ((row // heads) % period)[:, None] * half + pair[None, :]
    there = (row < rows)[:, None] & (pair < half)[None, :]
    cos = tl.load(cos_ptr + place, mask=there, other=0.0).to(tl.float32)
    return cos, tl.load(sin_ptr + place, mask=there, other=0.0).to(tl.float32)


@triton.jit
def _part(ptr, row, rows, first: tl.constexpr, count: tl.constexpr, width: tl.constexpr, BLOCK: tl.constexpr):
    """Columns `first` to `first + count` of the rows, float32."""
    column = tl.arange(0, BLOCK)
    there = (row < rows)[:, None] & (column < count)[None, :]
    return tl.load(ptr + row[:, None] * width + first + column[None, :], mask=there, other=0.0).to(tl.float32)


@triton.jit
def _store(ptr, v, row, rows, first: tl.constexpr, count: tl.constexpr, width: tl.constexpr, BLOCK: tl.constexpr):
    column = tl.arange(0, BLOCK)
    there = (row < rows)[:, None] & (column < count)[None, :]
    tl.store(ptr + row[:, None] * width + first + column[None, :], v.to(ptr.dtype.element_ty), there)


@triton.jit
def _norm_rope(
    x_ptr, cos_ptr, sin_ptr, grad_ptr, out_ptr, rows, period, gain, eps,
    heads: tl.constexpr, half: tl.constexpr, width: tl.constexpr,
    ROWS: tl.constexpr, HALF: tl.constexpr, REST: tl.constexpr,
):  # fmt: skip
    """Writes the result or, given its gradient, the gradient of x."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    cos, sin = _tables(cos_ptr, sin_ptr, row, rows, heads, period, half, HALF)
    first = _part(x_ptr, row, rows, 0, half, width, HALF)
    second = _part(x_ptr, row, rows, half, half, width, HALF)
    rest = _part(x_ptr, row, rows, 2 * half, width - 2 * half, width, REST)
    stretch = cos * cos + sin * sin  # 1, but for the rounding of tables and a factor on them
    squares = tl.sum(stretch * (first * first + second * second), 1) + tl.sum(rest * rest, 1)
    scale = tl.rsqrt(squares / width + eps)[:, None]
    if grad_ptr is None:
        turned = (first * cos - second * sin) * scale * gain
        second = (second * cos + first * sin) * scale * gain
        first = turned
        rest *= scale * gain
    else:
        grad_first = _part(grad_ptr, row, rows, 0, half, width, HALF)
        grad_second = _part(grad_ptr, row, rows, half, half, width, HALF)
        grad_rest = _part(grad_ptr, row, rows, 2 * half, width - 2 * half, width, REST)
        turned = grad_first * cos + grad_second * sin
        grad_second = grad_second * cos - grad_first * sin
        along = tl.sum(turned * first, 1) + tl.sum(grad_second * second, 1) + tl.sum(grad_rest * rest, 1)
        along = (along / width)[:, None] * scale * scale
        first = (turned - stretch * first * along) * scale * gain
        second = (grad_second - stretch * second * along) * scale * gain
        rest = (grad_rest - rest * along) * scale * gain
    _store(out_ptr, first, row, rows, 0, half, width, HALF)
    _store(out_ptr, second, row, rows, half, half, width, HALF)
    _store(out_ptr, rest, row, rows, 2 * half, width - 2 * half, width, REST)


_ARGUMENTS = "Tensor x, Tensor cos, Tensor sin, float gain, float eps"


@torch.library.custom_op("rlvr_kernels::norm_rope", mutates_args=(), schema=f"({_ARGUMENTS}) -> Tensor")
def norm_rope(x: Tensor, cos: Tensor, sin: Tensor, gain: float, eps: float) -> Tensor:
    """Arguments as for `reference.norm_rope`."""
    return _launch(x, cos, sin, None, gain, eps)


@torch.library.custom_op(
    "rlvr_kernels::norm_rope_backward", mutates_args=(), schema=f"(Tensor grad, {_ARGUMENTS}) -> Tensor"
)
def _gradient(grad: Tensor, x: Tensor, cos: Tensor, sin: Tensor, gain: float, eps: float) -> Tensor:
    return _launch(x, cos, sin, grad.contiguous(), gain, eps)


def _launch(x: Tensor, cos: Tensor, sin: Tensor, grad: Tensor | None, gain: float, eps: float) -> Tensor:
    x, cos, sin = x.contiguous(), cos.contiguous(), sin.contiguous()
    out = torch.empty_like(x)
    _, length, heads, width = x.shape
    half = cos.shape[-1]
    rows = x.numel() // width
    tile = max(ELEMENTS // triton.next_power_of_2(width), 1)
    _norm_rope[(triton.cdiv(rows, tile),)](
        *(x, cos, sin, grad, out, rows, length * cos.shape[0], gain, eps),
        heads=heads,
        half=half,
        width=width,
        ROWS=tile,
        HALF=triton.next_power_of_2(max(half, 1)),
        REST=triton.next_power_of_2(max(width - 2 * half, 1)),
    )
    return out


@norm_rope.register_fake
def _(x: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


@_gradient.register_fake
def _(grad: Tensor, x: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, cos, sin, ctx.gain, ctx.eps = inputs
    ctx.save_for_backward(x, cos, sin)


def _differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return _gradient(grad, *ctx.saved_tensors, ctx.gain, ctx.eps), None, None, None, None


norm_rope.register_autograd(_differentiate, setup_context=_remember)
