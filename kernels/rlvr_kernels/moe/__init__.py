"""A mixture of SwiGLU experts: tokens are laid out by expert, multiplied group by group, and summed by their weights.

Dropless, so a token's output does not depend on the others in its batch. The layout is gathered and summed by its
permutation and the inverse, never by atomic additions: the same input gives the same bits. DeepSeekMoE, arXiv
2401.06066; the router is the model's.
"""

from __future__ import annotations

from torch import Tensor

from rlvr_kernels.autocast import autocast
from rlvr_kernels.backend import choose
from rlvr_kernels.moe import lanes, reference
from rlvr_kernels.moe.layout import lay_out

__all__ = ["moe"]


def moe(
    x: Tensor,
    gate_up: Tensor,
    down: Tensor,
    experts: Tensor,
    weights: Tensor,
    *,
    lane: str = "grouped",
    backend: str | None = None,
) -> Tensor:
    """(N, d): sum_j weights[n, j] FFN_experts[n, j](x[n]) with FFN_e(x) = down_e (SiLU(gate_e x) * up_e x).

    x (N, d), gate_up (E, 2 I, d) with the gate's rows first, down (E, d, I), experts (N, k) integers in [0, E),
    weights (N, k). `lane`: "grouped" runs `torch.nn.functional.grouped_mm`, "padded" a batched product with room for
    the busiest expert, "block_sparse" tiles of rows that each belong to one expert. Products are in the dtype of x.
    Differentiable in x, gate_up, down and weights.

    Raises ValueError on an unknown lane and on shapes that do not fit.
    """
    _check(x, gate_up, down, experts, weights, lane)
    if not len(x):
        return x.clone()
    x = autocast(x)
    operands = (x, gate_up.to(x.dtype), down.to(x.dtype), weights)
    if choose(backend, x, gate_up, down) == "triton":
        from rlvr_kernels.moe import triton_kernel, triton_layout

        return triton_kernel.mixture(*operands, triton_layout.lay_out(experts, len(gate_up), lane), lane)
    return reference.mixture(*operands, lay_out(experts, len(gate_up), lane), lane)


def _check(x: Tensor, gate_up: Tensor, down: Tensor, experts: Tensor, weights: Tensor, lane: str) -> None:
    if lane not in lanes.LANES:
        raise ValueError(f"lane is {lane!r}; choose one of {', '.join(lanes.LANES)}")
    count, width, inner = down.shape
    if gate_up.shape != (count, 2 * inner, width) or x.shape[1:] != (width,):
        shapes = f"x {tuple(x.shape)}, gate_up {tuple(gate_up.shape)} and down {tuple(down.shape)}"
        raise ValueError(f"{shapes} do not belong together; give (N, d), (E, 2 I, d) and (E, d, I)")
    if experts.shape != weights.shape or experts.dim() != 2 or len(experts) != len(x):
        shapes = f"experts {tuple(experts.shape)} and weights {tuple(weights.shape)}"
        raise ValueError(f"{shapes} must both be (N, k) with N = {len(x)}")
