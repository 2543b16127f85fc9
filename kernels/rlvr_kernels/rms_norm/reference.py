"""RMSNorm (arXiv 1910.07467) in plain PyTorch, statistics in float32 whatever the input."""

from __future__ import annotations

import torch
from torch import Tensor

from rlvr_kernels.backend import widened


def rms_norm(x: Tensor, weight: Tensor | None, eps: float) -> Tensor:
    """`x (..., d)` over the root of its mean square, times `weight (d,)` if there is one, in the dtype of `x`."""
    wide = widened(x)
    normed = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
    return (normed if weight is None else normed * weight).to(x.dtype)
