"""Rotary positions (arXiv 2104.09864, half-split), then an unweighted RMSNorm of each head, in plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor

from rlvr_kernels.backend import widened
from rlvr_kernels.rms_norm.reference import rms_norm


def norm_rope(x: Tensor, cos: Tensor, sin: Tensor, gain: float, eps: float) -> Tensor:
    """One of queries and keys: `x (B, T, H, D)`, tables `(1 or B, T, r/2)` for its first `r` dimensions."""
    half = cos.shape[-1]
    wide = widened(x)
    first, second, rest = wide[..., :half], wide[..., half : 2 * half], wide[..., 2 * half :]
    cos, sin = cos.unsqueeze(2), sin.unsqueeze(2)
    rotated = torch.cat([first * cos - second * sin, second * cos + first * sin, rest], dim=-1)
    return (gain * rms_norm(rotated, None, eps)).to(x.dtype)
