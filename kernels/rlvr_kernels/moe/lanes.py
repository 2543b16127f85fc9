"""The three ways to multiply rows that lie together by expert with their expert's matrix."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from rlvr_kernels.moe import layout

LANES = ("grouped", "padded", "block_sparse")
Product = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(P, in) rows, (E, out, in) matrices and (E,) ends to (P, out)."""
Outer = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(P, out) gradients, (P, in) rows and (E,) ends to (E, out, in), the gradient of the matrices."""


def product(lane: str, triton: bool = False) -> Product:
    """The product of a lane; only the block-sparse one has a kernel of its own."""
    if lane == "grouped":
        return grouped
    if lane == "padded":
        return padded
    if triton:
        from rlvr_kernels.moe import triton_tiles

        return triton_tiles.product
    return block_sparse


def outer(lane: str) -> Outer:
    """The gradient of a lane's matrices, for the Triton operation; autograd knows it elsewhere."""
    if lane == "grouped":
        return lambda d_out, rows, ends: F.grouped_mm(d_out.T, rows, offs=ends)
    if lane == "padded":
        return _padded_outer
    from rlvr_kernels.moe import triton_tiles

    return triton_tiles.outer


def grouped(rows: Tensor, matrices: Tensor, ends: Tensor) -> Tensor:
    """One grouped product; in float64, which it does not know, one product an expert."""
    if rows.dtype == torch.float64:
        pieces = rows.tensor_split(ends[:-1].cpu().long())
        return torch.cat([piece @ matrix.T for piece, matrix in zip(pieces, matrices, strict=True)])
    for width in matrices.shape[1:]:
        if width * rows.element_size() % 16:
            raise ValueError(f"a width of {width} {rows.dtype} values is not a multiple of 16 bytes; use lane 'padded'")
    multiply = F.grouped_mm if rows.dtype == torch.bfloat16 else _grouped_mm_uncompiled
    return multiply(rows, matrices.transpose(1, 2), offs=ends)


_grouped_mm_uncompiled = torch.compiler.disable(F.grouped_mm)
"""Dynamo's shape rule for it knows bfloat16 alone, which the operation itself does not ask for (torch 2.13)."""


def padded(rows: Tensor, matrices: Tensor, ends: Tensor) -> Tensor:
    """A batched product, all experts having the same number of rows."""
    del ends
    return torch.bmm(rows.view(len(matrices), -1, rows.shape[1]), matrices.transpose(1, 2)).flatten(0, 1)


def _padded_outer(d_out: Tensor, rows: Tensor, ends: Tensor) -> Tensor:
    left, right = (x.view(len(ends), -1, x.shape[1]) for x in (d_out, rows))
    return torch.bmm(left.transpose(1, 2), right)


def block_sparse(rows: Tensor, matrices: Tensor, ends: Tensor) -> Tensor:
    """A batched product of tiles, each with a copy of its expert's matrix."""
    tiles = rows.view(-1, layout.TILE, rows.shape[1])
    first_rows = torch.arange(len(tiles), device=ends.device, dtype=ends.dtype) * layout.TILE
    expert = torch.searchsorted(ends, first_rows, right=True).clamp(max=len(matrices) - 1)
    return torch.bmm(tiles, matrices[expert].transpose(1, 2)).flatten(0, 1)
