"""Run a program that nobody trusts and report what it did; knows nothing of rewards, models or torch."""

from rlvr_sandbox.run import OUTPUT_LIMIT, Finished, SandboxError, run

__all__ = ["OUTPUT_LIMIT", "Finished", "SandboxError", "run"]
