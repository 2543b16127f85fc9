"""RMSNorm (arXiv 1910.07467) in plain PyTorch, statistics in float32 whatever the input."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from rlvr_kernels.backend import widened


def rms_norm(x: Tensor, weight: Tensor | None, eps: float) -> Tensor:
    """`x (..., d)` over the root of its mean square, times `weight (d,)` if there is one, in the dtype of `x`."""
    wide = widened(x)
    gain = None if weight is None else weight.to(wide.dtype)
    return functional.rms_norm(wide, wide.shape[-1:], gain, eps).to(x.dtype)
