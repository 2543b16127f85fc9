"""The file of every sample, one line each, written batch by batch as they are judged.

An evaluation that was killed finds its whole lines again: a line that was cut off, and what the infrastructure failed
to judge, are taken back and made anew.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from rlvr_cpp.errors import UserError
from rlvr_cpp.evaluation import Attempt


class SampleLog:
    """`samples.jsonl`: knows what is in it, and adds to it. A context manager; leaving it closes the file."""

    def __init__(self, path: Path) -> None:
        """Raises UserError where a line before the last one cannot be read."""
        self.known = [attempt for attempt in _read(path) if attempt.passed is not None]
        """What need not be made again."""
        partial = path.with_name(f"{path.name}.partial")
        partial.write_text("".join(attempt.to_json() + "\n" for attempt in self.known))
        partial.replace(path)
        self._file = path.open("a")

    def __enter__(self) -> SampleLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def write(self, attempts: Sequence[Attempt]) -> None:
        """Add a batch; it is on its way to the disk when this returns."""
        self._file.write("".join(attempt.to_json() + "\n" for attempt in attempts))
        self._file.flush()


def _read(path: Path) -> list[Attempt]:
    if not path.exists():
        return []
    *lines, _ = path.read_text().split("\n")  # what stands behind the last line end was cut off
    attempts = []
    for number, line in enumerate(lines, start=1):
        try:
            attempts.append(Attempt.from_json(line))
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise UserError(
                f"{path} line {number}: not a sample ({error}): remove the line, and it is made anew"
            ) from error
    return attempts
