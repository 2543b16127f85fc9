"""What happened to one program: the record that the verifier returns and everything else reads."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

from rlvr_cpp.verifier.cpp.diagnostics import Diagnostic
from rlvr_cpp.verifier.status import CHEATS, Limit, Status, Tier

VALUE_TYPE = "value_type"
"""The `error_class` of a candidate whose value has a type that the tests do not ask for, such as one of its own with an
equality that says yes to everything."""

BAD_TEST = "bad_test"
"""The `error_class` of a `sandbox_error` that is the task's doing: nobody can pass the test."""


@dataclass(frozen=True)
class VerifyResult:
    """What happened to one program. Plain data: `to_json` and `from_json` are inverse."""

    status: Status
    compile_ok: bool
    run_ok: bool
    """It ran to its own end with exit status 0."""
    returncode: int | None = None
    """Of the run; minus the signal's number where one ended it; None where nothing was run."""
    _: KW_ONLY
    stdout: str = ""
    """Of the candidate's run, cut at 64 KiB."""
    stderr: str = ""
    """Of the build where that failed, else of the run; cut at 64 KiB."""
    tests_passed: int = 0
    tests_total: int = 0
    """How many tests the task has; 0 where it has none."""
    hidden_passed: int = 0
    hidden_total: int = 0
    """The part of `tests_passed` and `tests_total` that comes from hidden tests."""
    warnings: int = 0
    """In the candidate's own lines, each place and option once."""
    error_class: str | None = None
    """A word for the failure (`syntax`, `undeclared`, ..., or the status); with `return_structured` only."""
    diagnostics: tuple[Diagnostic, ...] = ()
    """With `return_structured` only."""
    suppressions: int = 0
    """Attempts of the candidate to silence warnings; they did not change `warnings`."""
    tier: Tier = "none"
    """How the verdict was obtained."""
    why_in_process: str = ""
    """Why the tests had to share the candidate's process; empty where they did not."""
    self_judged: int = 0
    """Expectations of the tests that the candidate's own code decides, such as `a + b == Fraction(5, 6)`."""
    isolation: tuple[str, ...] = ()
    """The controls that were active."""
    limit: Limit | None = None
    """Which one ended it; None where none did."""
    timings: dict[str, float] = field(default_factory=dict)
    """Seconds on the clock (`compile`, `run`) and of CPU time (`compile_cpu`, `run_cpu`)."""
    cache_hit: bool = False
    toolchain: str = ""
    """The first line of the compiler's `--version`."""

    @property
    def passed(self) -> bool:
        """It passed every test of a task that has tests."""
        return self.status == "ok" and self.tests_total > 0

    @property
    def machine_failed(self) -> bool:
        """It was not judged, and the task is not to blame."""
        return self.status == "sandbox_error" and self.error_class != BAD_TEST

    @property
    def is_cheat(self) -> bool:
        """It claimed a verdict, could have tampered with one, or answered with what the tests cannot compare."""
        return self.status in CHEATS or self.error_class == VALUE_TYPE

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, line: str) -> VerifyResult:
        """The result that `to_json` wrote."""
        fields: dict[str, Any] = json.loads(line)
        fields["diagnostics"] = tuple(Diagnostic(**d) for d in fields["diagnostics"])
        fields["isolation"] = tuple(fields["isolation"])
        return cls(**fields)
