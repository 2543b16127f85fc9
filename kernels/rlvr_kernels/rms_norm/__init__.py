"""RMSNorm: one pass over a row instead of the four that plain PyTorch makes."""

from __future__ import annotations

from torch import Tensor

from rlvr_kernels.backend import choose
from rlvr_kernels.rms_norm import reference


def rms_norm(x: Tensor, weight: Tensor | None = None, eps: float = 1e-6, *, backend: str | None = None) -> Tensor:
    """`x · rsqrt(mean(x²) + eps) · weight` over the last dimension (arXiv 1910.07467).

    `x (..., d)` in any float dtype, which the result has, too; `weight (d,)` or None for the unweighted norm.
    Statistics are float32 (float64 for float64).
    """
    if choose(backend, x, weight) == "reference":
        return reference.rms_norm(x, weight, eps)
    from rlvr_kernels.rms_norm import triton_kernel

    result: Tensor = triton_kernel.rms_norm(x, weight, eps)
    return result
