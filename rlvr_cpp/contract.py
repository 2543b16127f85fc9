"""Under which rules a verdict was given: what has to be equal before two pass rates may be compared.

The compiler, what it is told, the limits, and how far programs were kept apart. Nothing in it depends on the tasks,
whose texts have a hash of their own (`EvaluationRecord.benchmark_hash`), or on how fast the machine is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlvr_cpp.program import Program
from rlvr_cpp.stream import POLICY_VERSION
from rlvr_sandbox.controls import LEVELS

if TYPE_CHECKING:
    from rlvr_cpp.verifier import Verifier


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
    }


def strongest_level(controls: tuple[str, ...]) -> str:
    """The last of `any`, `contained` and `full` that these controls meet."""
    return [level for level, names in LEVELS.items() if set(names) <= set(controls)][-1]


def contract_hash(contract: Mapping[str, Any]) -> str:
    """SHA-256, in hexadecimal, of the contract's canonical JSON: equal for equal contracts, in whatever order."""
    return hashlib.sha256(canonical_json(contract).encode()).hexdigest()


def canonical_json(value: Any) -> str:
    """The one spelling of plain data: sorted keys, no spaces, ASCII. Raises ValueError for NaN and infinities."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def differing_fields(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """What two contracts do not agree on, each as `name: value and value`."""
    names = [name for name in {**first, **second} if first.get(name) != second.get(name)]
    return [f"{name}: {first.get(name)!r} and {second.get(name)!r}" for name in names]
