"""RMSNorm in Triton: a tile of whole rows at a time, forwards and backwards.

The backward pass reads the input again rather than keep the norm. A fixed number of programs walks over all rows, so
that the gradient of the weight comes as a few partial sums, added in a fixed order.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from rlvr_kernels.backend import resident_programs

ELEMENTS = 4096
"""Elements of a tile, the unit that one program works on; a wider row is a tile of its own."""


@triton.jit
def _forward(x_ptr, weight_ptr, out_ptr, rows, width: tl.constexpr, eps, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, WIDTH)
    there = (row < rows)[:, None] & (column < width)[None, :]
    place = row[:, None] * width + column[None, :]
    x = tl.load(x_ptr + place, mask=there, other=0.0).to(tl.float32)
    y = x * tl.rsqrt(tl.sum(x * x, 1) / width + eps)[:, None]
    if weight_ptr is not None:
        y *= tl.load(weight_ptr + column, mask=column < width, other=0.0).to(tl.float32)[None, :]
    tl.store(out_ptr + place, y.to(out_ptr.dtype.element_ty), there)


@triton.jit
def _backward(
    x_ptr, weight_ptr, grad_ptr, grad_x_ptr, partial_ptr, rows, width: tl.constexpr, eps,
    ROWS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    column = tl.arange(0, WIDTH)
    inside = column < width
    grad_weight = tl.zeros((WIDTH,), tl.float32)
    for tile in range(tl.program_id(0), tl.cdiv(rows, ROWS), tl.num_programs(0)):
        row = tile * ROWS + tl.arange(0, ROWS).to(tl.int64)
        there = (row < rows)[:, None] & inside[None, :]
        place = row[:, None] * width + column[None, :]
        x = tl.load(x_ptr + place, mask=there, other=0.0).to(tl.float32)
        grad = tl.load(grad_ptr + place, mask=there, other=0.0).to(tl.float32)
        scale = tl.rsqrt(tl.sum(x * x, 1) / width + eps)[:, None]
        x *= scale
        if weight_ptr is not None:
            grad_weight += tl.sum(grad * x, 0)
            grad *= tl.load(weight_ptr + column, mask=inside, other=0.0).to(tl.float32)[None, :]
        grad = (grad - x * (tl.sum(grad * x, 1) / width)[:, None]) * scale
        tl.store(grad_x_ptr + place, grad.to(grad_x_ptr.dtype.element_ty), there)
    if weight_ptr is not None:
        tl.store(partial_ptr + tl.program_id(0) * width + column, grad_weight, inside)


@torch.library.custom_op(
    "rlvr_kernels::rms_norm", mutates_args=(), schema="(Tensor x, Tensor? weight, float eps) -> Tensor"
)
def rms_norm(x: Tensor, weight: Tensor | None, eps: float) -> Tensor:
    """Arguments as for `rlvr_kernels.rms_norm`."""
    x, weight = x.contiguous(), None if weight is None else weight.contiguous()
    out = torch.empty_like(x)
    rows, tile = x.numel() // x.shape[-1], _tile(x.shape[-1])
    _forward[(triton.cdiv(rows, tile["ROWS"]),)](x, weight, out, rows, x.shape[-1], eps, **tile)
    return out


@torch.library.custom_op(
    "rlvr_kernels::rms_norm_backward",
    mutates_args=(),
    schema="(Tensor grad, Tensor x, Tensor? weight, float eps) -> (Tensor, Tensor)",
)
def _gradients(grad: Tensor, x: Tensor, weight: Tensor | None, eps: float) -> tuple[Tensor, Tensor]:
    x, grad, weight = x.contiguous(), grad.contiguous(), None if weight is None else weight.contiguous()
    grad_x = torch.empty_like(x)
    rows, tile = x.numel() // x.shape[-1], _tile(x.shape[-1])
    programs = min(resident_programs(x), triton.cdiv(rows, tile["ROWS"]))
    partial = x.new_empty(0 if weight is None else programs, x.shape[-1], dtype=torch.float32)
    _backward[(programs,)](x, weight, grad, grad_x, partial, rows, x.shape[-1], eps, **tile)
    return grad_x, partial.sum(0) if weight is None else partial.sum(0).to(weight.dtype)


@rms_norm.register_fake
def _(x: Tensor, weight: Tensor | None, eps: float) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


@_gradients.register_fake
def _(grad: Tensor, x: Tensor, weight: Tensor | None, eps: float) -> tuple[Tensor, Tensor]:
    grad_weight = x.new_empty(x.shape[-1], dtype=torch.float32 if weight is None else weight.dtype)
    return torch.empty_like(x, memory_format=torch.contiguous_format), grad_weight


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight, ctx.eps = inputs
    ctx.save_for_backward(x, weight)


def _differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, weight = ctx.saved_tensors
    grad_x, grad_weight = _gradients(grad, x, weight, ctx.eps)
    return grad_x, None if weight is None else grad_weight, None


rms_norm.register_autograd(_differentiate, setup_context=_remember)


def _tile(width: int) -> dict[str, int]:
    padded = triton.next_power_of_2(width)
    return {"ROWS": max(ELEMENTS // padded, 1), "WIDTH": padded, "num_warps": 8 if padded >= 4096 else 4}
