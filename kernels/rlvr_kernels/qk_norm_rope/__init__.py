"""RoPE, then QK-norm, of queries and keys in one pass.

The norm has no weight per channel: after the rotation such a weight would make scores depend on absolute positions.
It has one gain, applied after the norm: a factor folded into the tables, as YaRN has it, would be normalised away.
"""

from __future__ import annotations

from torch import Tensor

from rlvr_kernels.backend import choose
from rlvr_kernels.qk_norm_rope import reference


def qk_norm_rope(
    q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, *, gain: float = 1.0, eps: float = 1e-6, backend: str | None = None
) -> tuple[Tensor, Tensor]:
    """Rotated and normalised queries `(B, T, H, D)` and keys `(B, T, H_kv, D)`, in their own dtypes.

    `cos`, `sin` `(1 or B, T, r/2)` turn the pairs `(i, i + r/2)` of the first `r <= D` dimensions (half-split, as in
    Hugging Face); they get no gradient. `gain` multiplies both results.
    """
    if choose(backend, q, k, cos, sin) == "reference":
        return reference.norm_rope(q, cos, sin, gain, eps), reference.norm_rope(k, cos, sin, gain, eps)
    from rlvr_kernels.qk_norm_rope import triton_kernel

    return triton_kernel.norm_rope(q, cos, sin, gain, eps), triton_kernel.norm_rope(k, cos, sin, gain, eps)
