"""Under which rules a verdict was given: what has to be equal before two pass rates may be compared.

The compiler, what it is told, the limits, and how far programs were kept apart. Nothing in it depends on the tasks,
whose texts have a hash of their own (`EvaluationRecord.benchmark_hash`), or on how fast the machine is.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlvr_cpp.verifier.program import POLICY_VERSION, Program
from rlvr_sandbox.controls import LEVELS

if TYPE_CHECKING:
    from rlvr_cpp.verifier.verifier import Verifier


def verifier_contract(verifier: Verifier) -> dict[str, Any]:
    """The contract as plain JSON: seconds of CPU time, bytes, the flags for the default standard."""
    toolchain, workshop = verifier.toolchain, verifier.workshop
    std = Program.std
    return {
        "compiler": Path(toolchain.compiler).name,
        "compiler_version": toolchain.version,
        "flags": [*workshop.flags(std), *(flag for flag in toolchain.extra_flags if flag.startswith("-l"))],
        "std": std,
        "timeout": float(toolchain.timeout),
        "compile_timeout": float(toolchain.compile_timeout),
        "memory": workshop.memory,
        "policy_version": POLICY_VERSION,
        "isolation": strongest_level(workshop.controls.names),
        "testlib": toolchain.testlib_hash,
    }


def strongest_level(controls: tuple[str, ...]) -> str:
    """The last of `any`, `contained` and `full` that these controls meet."""
    return [level for level, names in LEVELS.items() if set(names) <= set(controls)][-1]
