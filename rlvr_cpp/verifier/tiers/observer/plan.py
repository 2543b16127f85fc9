"""How a test is taken apart, as it is kept for every answer to its task."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a test is taken apart, or why it is not."""

    reason: str = ""
    """Why the test has to share the candidate's process; empty where it does not."""
    oracle: str = ""
    """A translation unit with every expectation of the test."""
    observer: str = ""
    """Stands behind the candidate."""
    runtime: str = ""
    """A unit that is linked with it: what every observer has alike, compiled once."""
    apart: str = ""
    """The observer behind declarations of what the candidate owes, which is compiled once for all answers; empty where
    it needs more of a candidate than its functions, and is one text with it."""
    quoted: tuple[str, ...] = ()
    """Headers of the candidate that the test includes."""
    total: int | None = None
    """How many tests the reference's run has counted; None where there is no reference."""
    self_judged: int = 0
    """Expectations that the candidate's own code decides."""

    def to_json(self) -> str:
        """One line."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, line: str) -> Plan:
        """The plan that `to_json` wrote."""
        fields = json.loads(line)
        return cls(**{**fields, "quoted": tuple(fields["quoted"])})
