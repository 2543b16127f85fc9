"""What the kernels' benchmarks have in common: times, peaks of the card, and a table that survives a failed row.

Times are medians of CUDA events with a cold L2 cache (`triton.testing.do_bench`). The roofline time is the larger of
FLOPs over the card's dense bfloat16 peak and bytes over its bandwidth, both from the data sheet; the share is
roofline time over measured time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import triton

BF16_PEAK = 989e12
BANDWIDTH = {"H100": 3.35e12, "H200": 4.8e12}


@dataclass(frozen=True)
class Work:
    """What an operation has to do at least."""

    flops: float
    bytes: float

    def roofline_ms(self) -> float:
        """The least time that this card can take."""
        return 1e3 * max(self.flops / BF16_PEAK, self.bytes / bandwidth())


def bandwidth() -> float:
    """Bytes per second of this card; that of an H100 where it is another."""
    name = torch.cuda.get_device_name()
    return next((value for card, value in BANDWIDTH.items() if card in name), BANDWIDTH["H100"])


def milliseconds(run: Callable[[], object]) -> float:
    """The median time of `run`."""
    return float(triton.testing.do_bench(run, warmup=10, rep=60, return_mode="median"))


def peak_bytes(run: Callable[[], object]) -> int:
    """Memory that `run` needs at its highest beyond what was there before it."""
    run()
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    run()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def print_head(title: str, *columns: str) -> None:
    """The table's title, card and column names."""
    print(f"\n{title}   [{torch.cuda.get_device_name()}, torch {torch.__version__}, triton {triton.__version__}]")
    print(f"{'':44s}" + "".join(f"{column:>12s}" for column in columns), flush=True)


def print_row(label: str, measure: Callable[[], list[str]]) -> None:
    """One row; a package that is absent or an operation that fails is said in it, and the table goes on."""
    try:
        cells = "".join(f"{cell:>12s}" for cell in measure())
    except ImportError as error:
        cells = f"  not installed: {error.name}"
    except Exception as error:  # any failure belongs to this row alone
        cells = f"  failed: {type(error).__name__}: {str(error).splitlines()[0][:150] if str(error) else ''}"
    print(f"{label:44s}{cells}", flush=True)
    torch.cuda.empty_cache()


def timed(run: Callable[[], object], work: Work, baseline: float | None = None) -> tuple[float, list[str]]:
    """The time, and its cells: ms, TFLOP/s, roofline ms, share of it, and how many times faster than `baseline` ms."""
    ms = milliseconds(run)
    faster = "" if baseline is None else f"{baseline / ms:.2f}x"
    rate, roofline = work.flops / ms / 1e9, work.roofline_ms()
    return ms, [f"{ms:.3f}", f"{rate:.0f}", f"{roofline:.3f}", f"{100 * roofline / ms:.0f} %", faster]


COLUMNS = ("ms", "TFLOP/s", "roofline", "share", "faster")
