"""The head's loss beside Liger Kernel's and Apple's cut cross-entropy: `python -m benchmarks.kernels_loss`.

Forward and backward together, mean loss, softcap 30, bfloat16 throughout; time, and memory beyond hidden states and
weight at the highest point, the gradients included. FLOPs are 6 N d V, the three products that no method can avoid.
"Logits" is plain PyTorch with all logits in memory. A second table gives the gradients' error against float64, which
time and memory do not show.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.kernels_timing import COLUMNS, Work, peak_bytes, print_head, print_row, timed
from rlvr_kernels.linear_cross_entropy import linear_cross_entropy

SOFTCAP = 30.0
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


def liger() -> Loss:
    """Liger Kernel's fused linear cross-entropy."""
    from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss

    loss = LigerFusedLinearCrossEntropyLoss(softcap=SOFTCAP)
    return lambda hidden, weight, targets: loss(weight, hidden, targets)


def cut() -> Loss:
    """Cut cross-entropy, Apple's kernel."""
    from cut_cross_entropy import linear_cross_entropy as cut_cross_entropy

    return lambda hidden, weight, targets: cut_cross_entropy(hidden, weight, targets, softcap=SOFTCAP, impl="cce")


def logits(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Plain PyTorch, the logits in at least float32."""
    values = hidden @ weight.T
    values = values.to(torch.promote_types(values.dtype, torch.float32))
    return F.cross_entropy(SOFTCAP * torch.tanh(values / SOFTCAP), targets)


def ours(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Ours."""
    return linear_cross_entropy(hidden, weight, targets, softcap=SOFTCAP)


METHODS: list[tuple[str, Callable[[], Loss]]] = [
    ("Liger Kernel", liger),
    ("ours", lambda: ours),
    ("cut cross-entropy", cut),
    ("logits", lambda: logits),
]


def inputs(rows: int, width: int, vocabulary: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Hidden states, head and targets; one target in eight does not count."""
    generator = torch.Generator("cuda").manual_seed(0)
    hidden = torch.randn(rows, width, device="cuda", generator=generator).to(dtype).requires_grad_()
    weight = (
        (torch.randn(vocabulary, width, device="cuda", generator=generator) / width**0.5).to(dtype).requires_grad_()
    )
    targets = torch.randint(vocabulary, (rows,), device="cuda", generator=generator)
    targets[::8] = -100
    return hidden, weight, targets


def cost_table(rows: int, width: int, vocabulary: int) -> None:
    """Time and memory of each method."""
    hidden, weight, targets = inputs(rows, width, vocabulary, torch.bfloat16)
    work = Work(6.0 * rows * width * vocabulary, 2.0 * (3 * hidden.numel() + 3 * weight.numel()))
    print_head(f"loss, forward and backward, N {rows}, d {width}, V {vocabulary}", *COLUMNS, "peak MiB")
    first: list[float] = []

    def measure(make: Callable[[], Loss]) -> list[str]:
        loss = make()

        def step() -> None:
            torch.autograd.grad(loss(hidden, weight, targets), (hidden, weight))

        ms, cells = timed(step, work, first[0] if first else None)
        first.append(ms)
        return [*cells, f"{peak_bytes(step) / 2**20:.0f}"]

    for label, make in METHODS:
        if label != "logits" or rows * vocabulary * 24 < torch.cuda.mem_get_info()[0]:
            print_row(label, lambda make=make: measure(make))


def error_table(rows: int, width: int, vocabulary: int) -> None:
    """Relative error of the gradients against float64 on the same bfloat16 values."""
    hidden, weight, targets = inputs(rows, width, vocabulary, torch.bfloat16)
    exact = [x.detach().double().requires_grad_() for x in (hidden, weight)]
    expected = torch.autograd.grad(logits(*exact, targets), exact)
    print_head(f"relative error of the gradients, N {rows}, d {width}, V {vocabulary}", "hidden", "weight")

    def measure(make: Callable[[], Loss], weight: Tensor) -> list[str]:
        given = torch.autograd.grad(make()(hidden, weight, targets), (hidden, weight))
        return [f"{(g.double() - e).norm() / e.norm():.1e}" for g, e in zip(given, expected, strict=True)]

    for label, make in METHODS:
        print_row(label, lambda make=make: measure(make, weight))
    print_row("ours, float32 weight", lambda: measure(lambda: ours, weight.detach().float().requires_grad_()))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    cost_table(32768, 2048, 131072)
    cost_table(32768, 1024, 65536)
    error_table(8192, 1024, 16384)


if __name__ == "__main__":
    main()
