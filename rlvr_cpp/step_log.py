"""The steps of a run on disk: `metrics.jsonl`, one JSON object a step, and the same numbers as TensorBoard events.

A run that was killed may have told of steps that its last checkpoint does not hold. When it goes on they are made
again, so what was told of them is taken back first.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import Any

from torch.utils.tensorboard import SummaryWriter

METRICS = "metrics.jsonl"
COMPLETIONS = "completions.jsonl"


class StepLog:
    """Appends steps to what the first `done` steps left; with `write` false it does nothing."""

    def __init__(self, folder: Path, done: int, *, write: bool = True) -> None:
        self._write = write
        if write:
            for name in (METRICS, COMPLETIONS):
                keep_steps(folder / name, done)
            self._file = (folder / METRICS).open("a", buffering=1)
            self._board = SummaryWriter(folder / "tensorboard", purge_step=done + 1)

    def __enter__(self) -> StepLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._write:
            self._file.close()
            self._board.close()

    def write(self, row: dict[str, Any]) -> None:
        """Note one step by its metrics; `step` is its number."""
        if not self._write:
            return
        self._file.write(json.dumps(row) + "\n")
        for name, value in row.items():
            if isinstance(value, int | float) and name != "step":
                self._board.add_scalar(name, value, row["step"])
        self._board.flush()  # it would keep them for two minutes, and a run that is killed would lose them


def keep_steps(path: Path, last: int) -> None:
    """Drop the lines of a JSONL file whose `step` is above `last`, and a line that was not written to its end."""
    if not path.exists():
        return
    rows = [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text("".join(line for line in rows if json.loads(line)["step"] <= last))
    partial.replace(path)


def read_steps(folder: Path, last: int) -> list[dict[str, Any]]:
    """The rows of the first `last` steps."""
    path = folder / METRICS
    if last == 0 or not path.exists():
        return []
    rows = [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
    return [row for row in rows if row["step"] <= last]
