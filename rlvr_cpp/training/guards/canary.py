"""Two programs whose verdict is known, so that a judge that begins to lie is noticed.

A sandbox that fails every program and a test that passes every program both look like a policy that does not learn.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from secrets import token_hex
from typing import Protocol

from rlvr_cpp.training.guards.guards import Finding
from rlvr_cpp.verifier.program import Program
from rlvr_cpp.verifier.result import VerifyResult


class Judge(Protocol):
    """What a canary needs of a verifier."""

    def verify_many(self, programs: Iterable[Program], /) -> Sequence[VerifyResult]:
        """The results of `programs`, in order."""
        ...


CANARY_TEST = """#include <cstdio>
int main() {
    int passed = (twice(1) == 2) + (twice(3) == 6);
    std::printf("PASSED %d/2\\n", passed);
    return passed == 2 ? 0 : 1;
}
"""


def canary_due(step: int, every: int | None) -> bool:
    """Whether canaries are judged after `step`; step 0 is the start."""
    return step == 0 or (every is not None and step % every == 0)


def canary_finding(verifier: Judge, step: int, *, action: str = "stop") -> Finding | None:
    """Judge a program that must pass and one that must fail; `step` 0 is the start.

    Their texts are new each time, so no cache answers. Once the run has begun, a canary that the infrastructure failed
    to judge is only a warning: the judge did not lie, and `infrastructure` counts how often that happens.
    """
    mark = f"// canary {step} {token_hex(8)}\n"
    codes = [f"{mark}int twice(int x) {{ return {value}; }}\n" for value in ("2 * x", "x + 1")]
    results = verifier.verify_many([Program(code, CANARY_TEST, 2) for code in codes])
    problems, lied = [], False
    for must, status, result in zip(("pass", "fail its test"), ("ok", "wrong"), results, strict=True):
        if result.cache_hit or result.status != status:
            verdict = "came from a cache" if result.cache_hit else f"was judged `{result.status}`"
            reason = result.stderr.strip().partition("\n")[0]
            problems.append(f"a program that must {must} {verdict}{reason and f' ({reason})'}")
            lied = lied or result.cache_hit or result.status != "sandbox_error"
    if not problems:
        return None
    return Finding(
        "canary",
        f"at step {step} {' and '.join(problems)}, so rewards cannot be believed: look at verifier.compiler, "
        "verifier.timeout and `python -m rlvr_sandbox doctor`",
        action == "stop" and (lied or step == 0),
    )
