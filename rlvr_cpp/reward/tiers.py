"""The reward of a verified completion: four tiers, with a slope where there are tests.

    does not compile                                              0.0
    compiles, but does not run to an honest verdict               0.3
    runs cleanly, and the task has no tests                       0.5
    the task has tests                                            0.3 + 0.7 * passed / total

The tier of 0.5 depends on the task, not on whether a verdict was seen: a program that silences its harness earns 0.3.
A result that is the machine's fault has no reward at all: `None`, unscorable.
"""

from __future__ import annotations

from rlvr_cpp.verifier.result import VerifyResult

COMPILED = 0.3
RAN = 0.5
TESTED = 0.7


def compute_reward(result: VerifyResult) -> float | None:
    """The reward in [0, 1], or None where the infrastructure failed and no reward may be given."""
    if result.status == "sandbox_error":
        return None
    if not result.compile_ok:
        return 0.0
    if result.status not in ("ok", "wrong") or result.returncode is None:
        return COMPILED
    if result.tests_total == 0:
        return RAN
    return COMPILED + TESTED * result.tests_passed / result.tests_total


def binary_reward(result: VerifyResult) -> float | None:
    """1 for a pass, 0 for anything else, None where the infrastructure failed. Without tests, running is passing."""
    if result.status == "sandbox_error":
        return None
    return float(result.status == "ok")
