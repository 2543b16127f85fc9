"""What can go wrong here that is not the program's doing."""

from __future__ import annotations


class SandboxError(RuntimeError):
    """The machinery failed, not the program: no verdict may be drawn from it."""


class Stopped(SandboxError):
    """The caller asked for the runs to end before they were done."""
