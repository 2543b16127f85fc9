"""The terms of the shaped reward and how they add up, in whole hundredths."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass

from rlvr_cpp.errors import UserError
from rlvr_cpp.verifier.result import VerifyResult

FASTER, SLOWER = 1.25, 0.8  # reference's CPU time to the candidate's


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


@dataclass(frozen=True)
class ShapingWeights:
    """What each term is worth, in whole hundredths. The positive ones add up to 1.00, the value of a clean pass.

    The first six are those of the design of this reward. They leave 0.15, shared out here: style is worth as much as
    speed, and memory errors and undefined behaviour as much as both.
    """

    compile: float = 0.30
    """For compiling and linking: no program that does has less."""
    run: float = 0.20
    """For running to an honest verdict."""
    test: float = 0.30
    """For all tests; for some of them their share."""
    warning: float = 0.02
    """Taken for each warning in the candidate's own lines."""
    warning_cap: float = 0.15
    """The most that warnings take."""
    speed: float = 0.05
    """For a pass that is at least 1.25 times as fast as the reference; half for one that is not below 0.8 times."""
    sanitizer: float = 0.10
    """For a pass in which AddressSanitizer and UBSan find nothing."""
    tidy: float = 0.05
    """For a pass in which clang-tidy finds nothing; each finding takes 0.01 of it."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            lowest = 0.01 if field.name == "test" else 0.0
            value = getattr(self, field.name)
            if not _is_number(value) or not lowest <= value <= 1 or abs(value * 100 - round(value * 100)) > 1e-6:
                raise UserError(f"{field.name} is {value!r}: it must be in whole hundredths between {lowest:.2f} and 1")
        parts = ("compile", "run", "test", "speed", "sanitizer", "tidy")
        total = sum(getattr(self, name) for name in parts)
        if total > 1 + 1e-6:
            raise UserError(f"{', '.join(parts)} add up to {total:.2f}: lower some of them, they must not exceed 1.00")


@dataclass(frozen=True)
class Reward:
    """What a program earned."""

    value: float | None
    """In [0, 1], in whole hundredths; None where the infrastructure failed: unscorable."""
    terms: Mapping[str, float]
    """What it is the sum of: `compile, run, test, warning, speed, sanitizer, tidy`, those that applied, `warning` with
    what it took after its bound; and `unmeasured`, the credit for terms that were not measured. Empty without a value.
    """


@dataclass(frozen=True)
class Measured:
    """What was found out about a pass beyond its result; None where it was not measured."""

    speed: float | None = None
    """The reference's CPU time to the candidate's."""
    sanitizer: bool | None = None
    """The sanitizers found nothing."""
    tidy: int | None = None
    """Hundredths that clang-tidy's findings take."""


WEIGHTS = ShapingWeights()


NOTHING = Measured()


def is_pass(result: VerifyResult) -> bool:
    """It ran and passed every test of a task that has tests."""
    return result.passed and result.returncode is not None


def shaped_reward(result: VerifyResult, measured: Measured = NOTHING, weights: ShapingWeights = WEIGHTS) -> Reward:
    """The reward of one result. Forged, ambiguous and other runs without an honest verdict earn `compile` alone."""
    if result.status == "sandbox_error":
        return Reward(None, {})
    if not result.compile_ok:
        return Reward(0.0, {"compile": 0.0})
    weight = {name: round(100 * value) for name, value in dataclasses.asdict(weights).items()}
    terms, room = {"compile": weight["compile"]}, 0
    if result.status in ("ok", "wrong") and result.returncode is not None:
        terms["run"] = weight["run"]
        if result.tests_total:
            terms["test"] = weight["test"] * result.tests_passed // result.tests_total
        room = terms["run"]
        if is_pass(result):
            extra = _extra_terms(measured, weight)
            terms |= extra
            room = sum(extra.values())
        elif result.tests_passed:
            room = terms["test"] - weight["test"] * (result.tests_passed - 1) // result.tests_total
    terms["warning"] = -min(weight["warning"] * result.warnings, weight["warning_cap"], room)
    return Reward(sum(terms.values()) / 100, {name: hundredths / 100 for name, hundredths in terms.items()})


def _extra_terms(measured: Measured, weight: Mapping[str, int]) -> dict[str, int]:
    """Speed, sanitizer and tidy, in hundredths, and the credit for those that were not measured."""
    terms = {}
    if measured.speed is not None:
        terms["speed"] = _speed_credit(measured.speed, weight["speed"])
    if measured.sanitizer is not None:
        terms["sanitizer"] = weight["sanitizer"] * measured.sanitizer
    if measured.tidy is not None:
        terms["tidy"] = max(0, weight["tidy"] - measured.tidy)
    credit = sum(weight[name] for name in ("speed", "sanitizer", "tidy") if name not in terms)
    return {**terms, "unmeasured": credit}


def _speed_credit(ratio: float, weight: int) -> int:
    """All of it, half or nothing: a finer scale would reward noise."""
    return weight if ratio >= FASTER else 0 if ratio <= SLOWER else weight // 2


def is_sampled(seed: int, term: str, group: str, fraction: float) -> bool:
    """Whether a term is measured in a group: the same answer in every process, independent for each term."""
    digest = hashlib.sha256(f"{seed}\0{term}\0{group}".encode(errors="surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") < fraction * 2**64
