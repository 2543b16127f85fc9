"""A mixture of SwiGLU experts as a loop over experts: the definition that the dispatch lanes are held to."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def expert_loop(x: Tensor, gate_up: Tensor, down: Tensor, experts: Tensor, weights: Tensor) -> Tensor:
    """(N, d) of `moe`, one expert at a time; any floating dtype."""
    out = torch.zeros_like(x)
    for expert in range(len(gate_up)):
        token, slot = (experts == expert).nonzero(as_tuple=True)
        hidden = swiglu(x[token] @ gate_up[expert].T)
        out = out.index_add(0, token, (hidden @ down[expert].T) * weights[token, slot, None].to(x.dtype))
    return out


def swiglu(gate_up: Tensor) -> Tensor:
    """(..., I) of (..., 2 I): SiLU of the first half times the second (arXiv 2002.05202)."""
    gate, up = gate_up.chunk(2, dim=-1)
    return F.silu(gate) * up


def gather_rows(x: Tensor, token_of_row: Tensor, row_of_slot: Tensor) -> Tensor:
    """(P, d): each row's token, zeros for a row of padding."""
    del row_of_slot  # what a kernel needs to sum the gradient of a token without atomics
    return torch.where(token_of_row[:, None] >= 0, x[token_of_row.clamp(min=0)], 0.0)


def combine_rows(rows: Tensor, weights: Tensor, row_of_slot: Tensor, token_of_row: Tensor) -> Tensor:
    """(N, d): for each token the sum of its rows, each times its weight."""
    del token_of_row
    return (rows[row_of_slot] * weights[..., None].to(rows.dtype)).sum(dim=1)
