"""Sinkhorn mixing matrices and the two ways between residual streams and a branch, in plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor

from rlvr_kernels.autocast import in_given_precision
from rlvr_kernels.backend import widened


def sinkhorn(logits: Tensor, iterations: int, temperature: float, epsilon: float, blend: float) -> Tensor:
    """The first division by row sums is the softmax; every iteration ends with the column sums."""
    mixing = torch.softmax(widened(logits) / temperature, dim=-1)
    for iteration in range(iterations):
        if iteration > 0:
            mixing = mixing / (mixing.sum(-1, keepdim=True) + epsilon)
        mixing = mixing / (mixing.sum(-2, keepdim=True) + epsilon)
    return blend * mixing + (1 - blend) * torch.eye(logits.shape[-1], dtype=mixing.dtype, device=mixing.device)


def read_streams(streams: Tensor, pre: Tensor) -> Tensor:
    """Σ_i pre_i · streams_i."""
    return (widened(streams) * pre[..., None]).sum(-2).to(streams.dtype)


@in_given_precision
def write_streams(streams: Tensor, branch: Tensor, post: Tensor, mixing: Tensor) -> Tensor:
    """post_j · branch + Σ_i mixing_ij · streams_i."""
    carried = widened(mixing).mT @ widened(streams)
    return (carried + post[..., None] * widened(branch)[..., None, :]).to(streams.dtype)
