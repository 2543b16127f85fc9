"""Norms, mixing and gathers beside torch.compile and Liger Kernel: `python -m benchmarks.kernels_small`.

All of these are bound by memory: the share is of the bandwidth, and bytes are inputs, outputs and their gradients, each
once. Forward and backward together, bfloat16, captured in a CUDA graph and replayed, so that no method waits for
Python; "eager" is the time without. "Faster" is against torch.compile of our own reference, the first row of a table.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
import triton
from torch import Tensor

from benchmarks.kernels_timing import Work, milliseconds, print_head, print_row
from rlvr_kernels import engram, qk_norm_rope, read_streams, rms_norm, sinkhorn, write_streams

TOKENS, WIDTH, STREAMS = 32768, 2048, 4
Operation = Callable[..., object]
LOW = torch.bfloat16


def compare(title: str, leaves: list[Tensor], methods: list[tuple[str, Callable[[], Operation]]]) -> None:
    """One table: each method makes an operation on the leaves, which all get gradients."""
    with torch.no_grad():  # a graph kept from here would tie the leaves to this stream, which a capture may not touch
        outputs = methods[0][1]()(*leaves)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    grads = [torch.randn_like(output) for output in outputs]
    moved = sum(value.numel() * value.element_size() for value in leaves)
    made = sum(value.numel() * value.element_size() for value in outputs)
    work = Work(0.0, 3.0 * moved + 2.0 * made)
    print_head(title, "ms", "eager", "roofline", "share", "faster")
    first: list[float] = []

    def measure(make: Callable[[], Operation]) -> list[str]:
        operation = make()

        def step() -> None:
            found = operation(*leaves)
            torch.autograd.grad(found if isinstance(found, tuple) else (found,), leaves, grads)

        eager = milliseconds(step)
        ms = float(triton.testing.do_bench_cudagraph(step, rep=30))
        first.append(ms)
        roofline = work.roofline_ms()
        return [f"{ms:.3f}", f"{eager:.3f}", f"{roofline:.3f}", f"{100 * roofline / ms:.0f} %", f"{first[0] / ms:.2f}x"]

    for label, make in methods:
        print_row(label, lambda make=make: measure(make))


def normal(*shape: int, dtype: torch.dtype = LOW) -> Tensor:
    """A leaf."""
    return torch.randn(shape, device="cuda", dtype=dtype).requires_grad_()


def both(operation: Operation) -> list[tuple[str, Callable[[], Operation]]]:
    """torch.compile of the reference, and ours."""

    def reference(*leaves: Tensor) -> object:
        return operation(*leaves, backend="reference")

    return [("torch.compile", lambda: torch.compile(reference, dynamic=False)), ("ours", lambda: operation)]


def liger_norm() -> Operation:
    """Liger Kernel's RMSNorm."""
    from liger_kernel.transformers.functional import liger_rms_norm

    return lambda x, weight: liger_rms_norm(x, weight, 1e-6, in_place=False)


def liger_rope() -> Operation:
    """Liger Kernel's RoPE, then its RMSNorm of queries and of keys."""
    from liger_kernel.transformers.functional import liger_rms_norm, liger_rope

    cos, sin = (torch.cat([table, table], dim=-1).to(LOW) for table in tables(128))
    one = torch.ones(128, device="cuda", dtype=LOW)

    def operation(q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        turned = liger_rope(q.transpose(1, 2), k.transpose(1, 2), cos, sin)
        first, second = (liger_rms_norm(value.transpose(1, 2), one, 1e-6, in_place=False) for value in turned)
        return first, second

    return operation


def liger_read() -> Operation:
    """Liger Kernel's way from streams to a branch."""
    from liger_kernel.transformers.functional import liger_mhc_pre

    return liger_mhc_pre


def liger_write() -> Operation:
    """Liger Kernel's way from a branch to the streams."""
    from liger_kernel.transformers.functional import liger_mhc_post_res

    return liger_mhc_post_res


def tables(width: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines (1, T, width / 2)."""
    rates = 10000.0 ** (-torch.arange(width // 2, device="cuda") / (width // 2))
    angles = torch.arange(4096, device="cuda")[None, :, None] * rates
    return angles.cos(), angles.sin()


def norm_tables() -> None:
    """RMSNorm of hidden states, and RoPE with QK-norm."""
    compare(
        f"RMSNorm, {TOKENS} x {WIDTH}",
        [normal(TOKENS, WIDTH), normal(WIDTH)],
        [*both(rms_norm), ("Liger Kernel", liger_norm)],
    )
    cos, sin = tables(128)

    def rotated(q: Tensor, k: Tensor, backend: str | None = None) -> tuple[Tensor, Tensor]:
        return qk_norm_rope(q, k, cos, sin, backend=backend)

    heads = [normal(8, 4096, 16, 128), normal(8, 4096, 4, 128)]
    compare("RoPE and QK-norm, B 8, T 4096, H 16 and 4, D 128", heads, [*both(rotated), ("Liger Kernel", liger_rope)])


def mixing_tables() -> None:
    """What mHC does to every token at every sublayer."""
    n, wide = STREAMS, torch.float32
    compare(f"Sinkhorn, {TOKENS} matrices 4 x 4, 5 iterations", [normal(TOKENS, n, n, dtype=wide)], both(sinkhorn))
    streams, branch = normal(TOKENS, n, WIDTH), normal(TOKENS, WIDTH)
    pre, mixing = normal(TOKENS, n, dtype=wide), normal(TOKENS, n, n, dtype=wide)
    compare(f"streams to branch, n 4, d {WIDTH}", [streams, pre], [*both(read_streams), ("Liger Kernel", liger_read)])
    written = [*both(write_streams), ("Liger Kernel", liger_write)]
    compare(f"branch to streams, n 4, d {WIDTH}", [streams, branch, pre, mixing], written)


def gather_table() -> None:
    """Three orders of eight heads of 64 channels."""
    ids = torch.randint(0, 65536, (8, 4096), device="cuda")
    multipliers = torch.tensor([48271, 69621, 16807, 39373], device="cuda")
    sizes = torch.arange(24, device="cuda").view(3, 8) * 2 + 50021

    def read(table: Tensor, backend: str | None = None) -> Tensor:
        return engram(ids, table, multipliers, sizes, orders=(2, 3, 4), pad_id=0, backend=backend)

    table = normal(int(sizes.sum()), 64)
    compare(f"Engram, B 8, T 4096, 24 rows of 64 from {len(table)}", [table], both(read))


def main() -> None:
    """Print the tables; a table that fails does not take the others with it."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    for part in (norm_tables, mixing_tables, gather_table):
        try:
            part()
        except Exception as error:  # a table's inputs or first method failed
            print(f"{part.__name__} failed: {type(error).__name__}: {error}", flush=True)


if __name__ == "__main__":
    main()
