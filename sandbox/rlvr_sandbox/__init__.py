"""Run programs that nobody trusts and report what they did; knows nothing of rewards, models or torch."""

from rlvr_sandbox.controls import Controls, can_mount, describe, host_controls, missing_controls, require_controls
from rlvr_sandbox.errors import SandboxError, Stopped
from rlvr_sandbox.run import OUTPUT_LIMIT, Command, Finished, Limits, Stopper, run, run_together

__all__ = [
    "OUTPUT_LIMIT",
    "Command",
    "Controls",
    "Finished",
    "Limits",
    "SandboxError",
    "Stopped",
    "Stopper",
    "can_mount",
    "describe",
    "host_controls",
    "missing_controls",
    "require_controls",
    "run",
    "run_together",
]
