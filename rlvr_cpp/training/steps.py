"""The steps of a run on disk: `metrics.jsonl`, one JSON object a step, and, where asked for, TensorBoard events.

A run that was killed may have told of steps that its last checkpoint does not hold. When it goes on they are made
again, so what was told of them is taken back first.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from accelerate import Accelerator
from torch.utils.tensorboard import SummaryWriter

from rlvr_cpp.runs.files import JsonLines, cut_lines, read_lines
from rlvr_cpp.runs.record import METRICS

StepMetrics = dict[str, Any]
"""Numbers by name; None where a step has none."""
COMPLETIONS = "completions.jsonl"


class StepLog:
    """Appends steps to what the first `done` steps left; with `write` false it does nothing.

    Without a `board` there are no TensorBoard events.
    """

    def __init__(self, folder: Path, done: int, *, write: bool = True, board: bool = True) -> None:
        self._write = write
        if write:
            keep_steps(folder / COMPLETIONS, done)
            self._metrics = JsonLines[StepMetrics](folder / METRICS, json.loads, lambda row: row["step"] <= done)
            self._board = SummaryWriter(folder / "tensorboard", purge_step=done + 1) if board else None

    def __enter__(self) -> StepLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._write:
            self._metrics.__exit__(kind, error, trace)
            if self._board is not None:
                self._board.close()

    def write(self, row: StepMetrics) -> None:
        """Note one step by its metrics; `step` is its number."""
        if not self._write:
            return
        self._metrics.write([json.dumps(row)])
        if self._board is None:
            return
        for name, value in row.items():
            if isinstance(value, int | float) and name != "step":
                self._board.add_scalar(name, value, row["step"])
        self._board.flush()  # it would keep them for two minutes, and a run that is killed would lose them


def keep_steps(path: Path, last: int) -> None:
    """Drop the lines of a JSONL file whose `step` is above `last`, and a line that was not written to its end."""
    cut_lines(path, json.loads, lambda row: row["step"] <= last)


def read_steps(folder: Path, last: int) -> list[StepMetrics]:
    """The rows of the first `last` steps."""
    rows: list[StepMetrics] = read_lines(folder / METRICS, json.loads)
    return [row for row in rows if row["step"] <= last]


HEADER = "   step reward comp pass groups     kl clip  grad sec: gen wait  upd  sum|judged"


def step_line(step: int, steps: int, metrics: Mapping[str, float | None], groups: int) -> str:
    """A step as a row under `HEADER`.

    Times are in seconds: generation, waiting for verdicts and the update with their sum, the whole step; behind the
    bar, how long something was being judged meanwhile.
    """
    m = {name: math.nan if value is None else value for name, value in metrics.items()}
    done, kept = f"{step}/{steps}", f"{m['kept_groups']:.0f}/{groups}"
    return (
        f"{done:>7}{m['reward']:>7.3f}{m['compile_rate']:>5.2f}{m['pass_rate']:>5.2f}{kept:>7}"
        f"{m.get('kl', 0.0):>7.4f}{m['clip_fraction']:>5.2f}{m['grad_norm']:>6.2f}"
        f"{m['generate']:>9.1f}{m['wait']:>5.1f}{m['update']:>5.1f}{m['seconds']:>5.1f}|{m['verify']:>6.1f}"
    )


def summed(numbers: Mapping[str, float], accelerator: Accelerator) -> dict[str, float]:
    """Each number's sum over all processes."""
    sums = torch.tensor(list(numbers.values()), dtype=torch.float64, device=accelerator.device)
    return dict(zip(numbers, accelerator.reduce(sums, reduction="sum").tolist(), strict=True))


class Clock:
    """Where the seconds of a rollout step go: its phases, and `update` for all that is none of them."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Begin a step at zero."""
        self._started = time.monotonic()
        self._phases = {"generate": 0.0, "wait": 0.0}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the block's time as a phase's."""
        started = time.monotonic()
        yield
        self._phases[name] += time.monotonic() - started

    def seconds(self) -> StepMetrics:
        """Times of the step so far; `generate`, `wait` and `update` add up to `seconds`."""
        whole = time.monotonic() - self._started
        return {**self._phases, "update": whole - sum(self._phases.values()), "seconds": whole}
