"""Cross-entropy straight from hidden states: the (N, V) logits never exist, and no more than a chunk is in float32.

loss = -log softmax(c tanh(h W^T / c))[target] + z logsumexp^2. A softcap c as in Gemma 2 (arXiv 2408.00118), a z-loss
as in PaLM (arXiv 2204.02311). With a summed loss the gradients are made in the forward pass while a chunk's logits are
there, so that the head's product is computed once, not twice.
"""

from __future__ import annotations

from torch import Tensor

from rlvr_kernels.autocast import autocast
from rlvr_kernels.backend import choose
from rlvr_kernels.linear_cross_entropy import reference as plain

__all__ = ["linear_cross_entropy"]


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    softcap: float | None = None,
    z_loss: float = 0.0,
    ignore_index: int = -100,
    reduction: str = "mean",
    backend: str | None = None,
) -> Tensor:
    """The loss of hidden (..., d) against `targets` (...) int64 under a head of weight (V, d), in at least float32.

    `reduction`: "mean" over the counted targets (NaN if none is), "sum", or "none" for a loss of the targets' shape,
    0 where the target is `ignore_index`; minus it is the token's log-probability when z_loss is 0. Products are taken
    in the dtype of `hidden`; the gradient of `weight` is summed over chunks in the weight's own dtype, so a float32
    weight under bfloat16 hidden states gets an exact sum.

    Raises ValueError on shapes that do not fit, an unknown reduction and a softcap that is not positive.
    """
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"reduction is {reduction!r}; choose 'mean', 'sum' or 'none'")
    if softcap is not None and softcap <= 0:
        raise ValueError(f"softcap is {softcap}; give a positive number, or None for no cap")
    if hidden.shape[:-1] != targets.shape or weight.dim() != 2 or weight.shape[1] != hidden.shape[-1]:
        shapes = f"hidden {tuple(hidden.shape)}, weight {tuple(weight.shape)} and targets {tuple(targets.shape)}"
        raise ValueError(f"{shapes} do not belong together; give (..., d), (V, d) and (...)")
    rows, wanted = autocast(hidden).reshape(-1, hidden.shape[-1]), targets.reshape(-1)
    settings = (softcap, z_loss, ignore_index, chunk_rows(len(rows), *weight.shape))
    if choose(backend, hidden, weight) == "triton":
        from rlvr_kernels.linear_cross_entropy import triton_kernel

        if reduction == "none":
            return triton_kernel.token_losses(rows, weight, wanted, *settings).view(targets.shape)
        return triton_kernel.summed_loss(rows, weight, wanted, *settings, reduction == "mean")
    losses = plain.token_losses(rows, weight, wanted, *settings)
    if reduction == "none":
        return losses.view(targets.shape)
    return losses.sum() if reduction == "sum" else losses.sum() / (wanted != ignore_index).sum()


def chunk_rows(rows: int, vocabulary: int, width: int) -> int:
    """How many rows' logits to hold at a time: about as much memory as the hidden states themselves."""
    share = max(1, rows * width // vocabulary)
    return min(max(rows, 1), 1 << (share - 1).bit_length())
