"""The experts' lanes beside dense products and a loop over experts: `python -m benchmarks.kernels_moe`.

64 experts, bfloat16, routing drawn at random. "Dense" is the same number of rows through one matrix of an expert's
shape, the three products alone: the rate that routing is to keep. "Products" is `grouped_mm` alone on rows that
already lie together; "grouped", "padded" and "block_sparse" are the whole operation with layout, gather, SwiGLU and
weighted sum. The share is of the dense rate, forward, and forward with backward. "Recorded" replays a CUDA graph:
what it gains is the time that the CPU takes to launch.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.kernels_timing import Work, milliseconds, print_head, print_row
from rlvr_kernels.moe import moe
from rlvr_kernels.moe.layout import lay_out
from rlvr_kernels.moe.reference import expert_loop

EXPERTS = 64


def recorded(run: Callable[[], object]) -> Callable[[], object]:
    """A CUDA graph of `run`, to replay."""
    run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


def table(rows_per_expert: int, width: int, inner: int, top_k: int) -> None:
    """One shape."""
    generator = torch.Generator("cuda").manual_seed(0)

    def normal(*shape: int) -> Tensor:
        x = torch.randn(shape, device="cuda", generator=generator) / shape[-1] ** 0.5
        return x.bfloat16().requires_grad_()

    tokens = EXPERTS * rows_per_expert // top_k
    x, gate_up, down = normal(tokens, width), normal(EXPERTS, 2 * inner, width), normal(EXPERTS, width, inner)
    chosen = torch.rand(tokens, EXPERTS, device="cuda", generator=generator).topk(top_k, dim=1).indices
    weights = torch.rand(tokens, top_k, device="cuda", generator=generator).requires_grad_()
    plan = lay_out(chosen, EXPERTS, "grouped")
    laid = x.detach()[plan.slot_of_row.clamp(min=0) // top_k].requires_grad_()
    hidden = normal(len(laid), inner)
    one_up, one_down = normal(2 * inner, width), normal(width, inner)
    flops = 6.0 * tokens * top_k * width * inner
    dense: list[float] = []
    print_head(
        f"experts, {rows_per_expert} rows each, d {width}, I {inner}, top {top_k} of {EXPERTS}",
        "fwd ms", "TFLOP/s", "of dense", "fwd+bwd ms", "TFLOP/s", "of dense", "roofline",
    )  # fmt: skip

    def measure(run: Callable[[], tuple[Tensor, ...]], leaves: tuple[Tensor, ...], record: bool) -> list[str]:
        upstream = tuple(torch.randn_like(out) for out in run())

        def step() -> None:
            torch.autograd.grad(run(), leaves, upstream)

        with torch.no_grad():
            forward = milliseconds(recorded(run) if record else run)
        both = milliseconds(recorded(step) if record else step)
        dense.extend([forward, both] if not dense else [])
        moved = 2.0 * (2 * x.numel() + 2 * laid.numel() + 3 * hidden.numel() + gate_up.numel() + down.numel())
        roofline = Work(3 * flops, 3 * moved).roofline_ms()
        cells = [(forward, flops, dense[0]), (both, 3 * flops, dense[1])]
        shown = [(f"{ms:.3f}", f"{work / ms / 1e9:.0f}", f"{100 * base / ms:.0f} %") for ms, work, base in cells]
        return [*shown[0], *shown[1], f"{roofline:.3f}"]

    def grouped_products() -> tuple[Tensor, ...]:
        up = F.grouped_mm(laid, gate_up.transpose(1, 2), offs=plan.ends)
        return up, F.grouped_mm(hidden, down.transpose(1, 2), offs=plan.ends)

    rows: list[tuple[str, Callable[[], tuple[Tensor, ...]], tuple[Tensor, ...]]] = [
        ("dense", lambda: (laid @ one_up.T, hidden @ one_down.T), (laid, hidden, one_up, one_down)),
        ("products", grouped_products, (laid, hidden, gate_up, down)),
    ]
    leaves = (x, gate_up, down, weights)

    def whole(lane: str) -> Callable[[], tuple[Tensor, ...]]:
        return lambda: (moe(x, gate_up, down, chosen, weights, lane=lane),)

    rows += [(lane, whole(lane), leaves) for lane in ("grouped", "block_sparse", "padded")]
    rows.append(("loop over experts", lambda: (expert_loop(x, gate_up, down, chosen, weights),), leaves))
    rows += [(f"{lane}, recorded", whole(lane), leaves) for lane in ("grouped", "block_sparse")]
    for label, run, wanted in rows:
        print_row(label, lambda run=run, wanted=wanted, label=label: measure(run, wanted, "recorded" in label))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    table(256, 2048, 1024, 4)
    table(1024, 2048, 1024, 4)
    table(256, 1024, 512, 6)


if __name__ == "__main__":
    main()
