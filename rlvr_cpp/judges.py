"""The verifier that a job's settings ask for."""

from __future__ import annotations

from rlvr_cpp.config import VerifierSettings
from rlvr_cpp.verifier import Verifier, available_cores


def open_verifier(settings: VerifierSettings, require: str, sharing: int = 1) -> Verifier:
    """A verifier for one of `sharing` processes on this machine, which share its cores.

    Raises UserError where the compiler or the required isolation is missing.
    """
    return Verifier(
        compiler=settings.compiler,
        timeout=settings.timeout,
        compile_timeout=settings.compile_timeout,
        extra_flags=settings.extra_flags,
        workers=settings.workers or max(1, available_cores() // sharing) + 1,
        cache=settings.cache,
        require=require,
    )
