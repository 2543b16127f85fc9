"""What finished runs say about the tests: strict readings, one for each way a verdict can be obtained.

The contract of a harness: it prints `PASSED n/m` once, as its last line, and exits with 0 on a full pass and with
another status otherwise. Whatever contradicts itself is not a verdict and earns no more than having compiled.
Where the harness ran in a process of its own (`read_oracle`), what the candidate prints is no verdict at all, and a
candidate that prints one is caught at it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from rlvr_cpp.verifier.status import Limit, Status
from rlvr_sandbox import Finished

MARKER = re.compile(rb"^PASSED ([0-9]{1,4})/([0-9]{1,4})$")
MAX_TESTS = 1000
WORKER_GONE, WORKER_LIED = 77, 78
"""The exit status of an oracle whose worker died or fell silent, and of one whose worker broke the protocol."""
LIMITS: dict[str, Status] = {
    "cpu": "timeout",
    "wall": "timeout",
    "memory": "memory_limit",
    "output": "output_limit",
}
"""What a run is that a limit ended."""
ENDED_BY: dict[str, Limit] = {"cpu": "cpu", "wall": "wall", "memory": "memory", "output": "output", "signal": "signal"}
"""How a run ended, where something else than itself ended it."""


@dataclass(frozen=True)
class Verdict:
    """The status of a run and the tests it may claim."""

    status: Status
    passed: int = 0
    total: int = 0


def read_verdict(run: Finished, has_tests: bool, declared: int | None) -> Verdict:
    """Judge a run. `declared` is the number of tests the task has, None where only its harness knows."""
    known = declared or 0
    if run.ended in LIMITS:
        return Verdict(LIMITS[run.ended], total=known)
    if run.output_cut:
        return Verdict("output_limit", total=known)
    if run.returncode < 0:
        return Verdict("run_error", total=known)
    if not has_tests:
        return Verdict("ok" if run.returncode == 0 else "run_error")
    return _read_marker(run, declared)


def read_oracle(oracle: Finished, worker: Finished, declared: int | None) -> Verdict:
    """Judge a harness that called the candidate in another process, the worker."""
    known = declared or 0
    for run in (worker, oracle):
        if run.ended in LIMITS:
            return Verdict(LIMITS[run.ended], total=known)
    if oracle.returncode == WORKER_LIED:  # whatever became of it afterwards
        return Verdict("forged", total=known)
    if worker.ended == "signal":
        return Verdict("run_error", total=known)
    if oracle.returncode == WORKER_GONE:
        # An honest candidate that ends early says so with its status; one that is still there spoke out of turn.
        gave_up = worker.ended == "exit" and worker.returncode != 0
        return Verdict("run_error" if gave_up else "forged", total=known)
    verdict = read_verdict(oracle, True, declared)
    if verdict.status != "ok" and any(MARKER.match(line.strip()) for line in worker.stdout.split(b"\n")):
        return Verdict("forged", total=verdict.total)
    return verdict


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
