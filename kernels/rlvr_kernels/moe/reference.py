"""A mixture of SwiGLU experts in plain PyTorch: the loop that all lanes are held to, and the steps of a lane."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from rlvr_kernels.moe.lanes import product
from rlvr_kernels.moe.layout import Layout


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


def mixture(x: Tensor, gate_up: Tensor, down: Tensor, weights: Tensor, plan: Layout, lane: str) -> Tensor:
    """(N, d) of `moe` by a lane: rows laid out, multiplied, weighted between the products, and summed by token."""
    multiply = product(lane)
    present, slot = plan.slot_of_row[:, None] >= 0, plan.slot_of_row.clamp(min=0)
    rows = torch.where(present, x[slot // weights.shape[1]], 0.0)
    row_weights = torch.where(present, weights.flatten()[slot, None], 0.0).to(x.dtype)
    hidden = swiglu(multiply(rows, gate_up, plan.ends)) * row_weights
    return multiply(hidden, down, plan.ends)[plan.row_of_slot].sum(dim=1)
