"""What manifold-constrained hyper-connections (mHC, arXiv 2512.24880) do to n residual streams of one token.

A branch reads one weighted sum of the streams, `u = Σ_i pre_i X_i`, and its result `y` is written back while they mix:
`X_j <- post_j y + Σ_i M_ij X_i`. M is made nearly doubly stochastic by a few Sinkhorn iterations. The column sums
(over i, the index that is summed when streams mix) are divided out last, so that what all streams share is carried on
exactly however few the iterations are. Everything is per token: pooled over time, it would show a token its future.
"""

from __future__ import annotations

from torch import Tensor

from rlvr_kernels.backend import choose
from rlvr_kernels.sinkhorn import reference


def sinkhorn(
    logits: Tensor,
    *,
    iterations: int = 5,
    temperature: float = 1.0,
    epsilon: float = 1e-6,
    blend: float = 1.0,
    backend: str | None = None,
) -> Tensor:
    """Mixing matrices (..., n, n), float32 or float64, from `logits (..., n, n)`.

    `softmax(logits / temperature)` over rows, then `iterations` times rows and columns in turn are divided by their
    sums + `epsilon`. The result is `blend · M + (1 - blend) · I`: with blend 0 every stream is a plain residual.
    """
    if choose(backend, logits) == "reference":
        return reference.sinkhorn(logits, iterations, temperature, epsilon, blend)
    from rlvr_kernels.sinkhorn import triton_kernel

    result: Tensor = triton_kernel.sinkhorn(logits, iterations, temperature, epsilon, blend)
    return result


def read_streams(streams: Tensor, pre: Tensor, *, backend: str | None = None) -> Tensor:
    """The input (..., d) of a branch: `Σ_i pre_i · streams_i` of `streams (..., n, d)` and `pre (..., n)`."""
    if choose(backend, streams, pre) == "reference":
        return reference.read_streams(streams, pre)
    from rlvr_kernels.sinkhorn import triton_kernel

    result: Tensor = triton_kernel.read_streams(streams, pre)
    return result


def write_streams(
    streams: Tensor, branch: Tensor, post: Tensor, mixing: Tensor, *, backend: str | None = None
) -> Tensor:
    """The streams (..., n, d) after a branch: `post_j · branch + Σ_i mixing_ij · streams_i`.

    `branch (..., d)`, `post (..., n)`, `mixing (..., n, n)`; sums are float32, the result has the dtype of `streams`.
    """
    if choose(backend, streams, branch, post, mixing) == "reference":
        return reference.write_streams(streams, branch, post, mixing)
    from rlvr_kernels.sinkhorn import triton_kernel

    result: Tensor = triton_kernel.write_streams(streams, branch, post, mixing)
    return result
