"""What a finished run says about the tests: one strict reading of the marker, the exit status and the count.

The contract: a harness prints `PASSED n/m` once, as its last line, and exits with 0 on a full pass and with another
status otherwise. Whatever contradicts itself is not a verdict and earns no more than having compiled.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from rlvr_sandbox import Finished

MARKER = re.compile(rb"^PASSED ([0-9]{1,4})/([0-9]{1,4})$")
MAX_TESTS = 1000


@dataclass(frozen=True)
class Verdict:
    """The status of a run and the tests it may claim."""

    status: str
    passed: int = 0
    total: int = 0


def read_verdict(run: Finished, has_tests: bool, declared: int | None) -> Verdict:
    """Judge a run. `declared` is the number of tests the task has, None where only its harness knows."""
    known = declared or 0
    if run.timed_out:
        return Verdict("timeout", total=known)
    if run.output_cut:
        return Verdict("output_limit", total=known)
    if run.returncode < 0:
        return Verdict("run_error", total=known)
    if not has_tests:
        return Verdict("ok" if run.returncode == 0 else "run_error")
    return _read_marker(run, declared)


def _read_marker(run: Finished, declared: int | None) -> Verdict:
    lines = [line.rstrip(b"\r") for line in run.stdout.split(b"\n") if line.strip()]
    markers = [match for line in lines if (match := MARKER.match(line))]
    if len(markers) > 1:
        return Verdict("ambiguous", total=declared or 0)
    if not markers or not MARKER.match(lines[-1]):
        # An honest harness never exits with 0 without having spoken last.
        return Verdict("forged" if run.returncode == 0 else "run_error", total=declared or 0)
    passed, total = int(markers[0][1]), int(markers[0][2])
    if not _is_consistent(passed, total, declared, run.returncode):
        return Verdict("forged", total=declared or 0)
    return Verdict("ok" if passed == total else "wrong", passed, total)


def _is_consistent(passed: int, total: int, declared: int | None, returncode: int) -> bool:
    expected = total if declared is None else declared
    return 0 < total == expected <= MAX_TESTS and passed <= total and (passed == total) == (returncode == 0)
