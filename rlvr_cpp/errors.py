"""What can go wrong, and whose fault it is.

UserError          what was asked for cannot be done: one sentence that names the field, the value and the fix.
                   A command prints it and exits with status 2.
RunStopped         a training run that went on would have come to nothing; a guard says why (`guards.GuardStop`).
SandboxError       the machinery failed (`rlvr_sandbox`). The verifier turns it into a result with the status
                   `sandbox_error`, which is unscorable; it is never a score.
a VerifyResult     what the candidate did, however badly. A bad completion is data, not an error.
"""

from __future__ import annotations

import argparse
from typing import NoReturn


class UserError(ValueError):
    """A mistake in the configuration or the input, told in one sentence with the fix."""


class Parser(argparse.ArgumentParser):
    """Says what is wrong with a command line as everything else does."""

    def error(self, message: str) -> NoReturn:
        """Raise UserError."""
        raise UserError(f"{message} (see {self.prog} --help)")


def first_line(error: BaseException) -> str:
    """What an error of another library says, without the pages behind it."""
    return str(error).strip().partition("\n")[0]


class RunStopped(Exception):
    """A run ended itself; the text says why and what to do."""
