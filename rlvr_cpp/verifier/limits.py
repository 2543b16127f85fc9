"""What one run of a program may use, where its task says so.

Units are those in which data sets and judges write such limits down. What a task leaves open is the verifier's to say.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from rlvr_cpp.errors import UserError
from rlvr_sandbox import Limits

BOUNDS = {"time": (0.01, 86_400), "memory": (16, 1 << 20), "output": (1, 1 << 20), "stack": (1, 1 << 16)}
"""The least and the most of each: a program that does nothing needs some 10 MiB."""


@dataclass(frozen=True)
class RunLimits:
    """The limits of a task's own; None is the verifier's. Raises UserError for what is no limit."""

    time: float | None = None
    """CPU seconds. A program with such a limit is built with -O2, for which people set them."""
    memory: int | None = None
    """MiB."""
    output: int | None = None
    """KiB on standard output; a case whose expected output is longer has its room whatever stands here."""
    stack: int | None = None
    """MiB; where it is left open, as much as a memory of the task's own if that is more than usual."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value, (least, most) = getattr(self, field.name), BOUNDS[field.name]
            if value is None:
                continue
            whole = field.name != "time"
            if type(value) not in (int, float) or not least <= value <= most or (whole and value != int(value)):
                kind = "whole number" if whole else "number"
                raise UserError(f"{field.name}_limit is {value!r}: it must be a {kind} from {least} to {most}")

    def within(self, usual: Limits) -> Limits:
        """The usual limits of a run, with what the task says in their place."""
        memory = usual.memory if self.memory is None else int(self.memory) << 20
        stack = usual.stack if self.memory is None else max(usual.stack, memory)
        return replace(
            usual,
            cpu=usual.cpu if self.time is None else self.time,
            wall=usual.wall if self.time is None else on_the_clock(self.time),
            memory=memory,
            output=usual.output if self.output is None else int(self.output) << 10,
            stack=stack if self.stack is None else int(self.stack) << 20,
        )


def on_the_clock(cpu_seconds: float) -> float:
    """How long a run may take that has so much CPU time: others want the cores, too."""
    return 2 * cpu_seconds + 1
