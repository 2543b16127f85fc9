"""Checkers: whether what a program has printed is what a case expects, compared outside of its process.

What a candidate prints is bytes and stays bytes for the named checkers, so text that is no UTF-8 matches only itself.
Output is compared in one of five ways, by a function of the user's, or by a program (`tiers/checked.py`):

exact            the same text but for white space at the end of lines and empty lines at the end. Data sets store
                 expected outputs with and without these, and no reader sees them; leading spaces and empty lines
                 within do count
tokens           the same words between white space (ASCII's)
tokens_nocase    as `tokens`, but `Yes` is `YES` (ASCII's letters)
float            as `tokens`, but two numbers are equal within a tolerance, absolute or relative to the expected one
unordered_lines  the same lines in any order; a line is its words, and empty lines do not count

Whatever the checker, output without a token, or with only the first of the expected tokens, does not pass: a program
that prints nothing, or stops in the middle, has not answered. What testlib's standard checkers do otherwise stands in
docs/verifier.md.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from rlvr_cpp.errors import UserError
from rlvr_cpp.verifier.cases import Case

Checker = Literal["exact", "tokens", "tokens_nocase", "float", "unordered_lines"] | Callable[[str, str, str], bool]
CHECKERS = ("exact", "tokens", "tokens_nocase", "float", "unordered_lines")
NUMBER = re.compile(rb"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
NOT_FINITE = re.compile(rb"(?P<sign>[+-]?)(?:(?P<inf>inf(?:inity)?)|nan(?:\([0-9a-z_]*\))?)", re.IGNORECASE)
LONGEST_NUMBER = 1000  # digits: a double in full needs fewer, and reading a number must not cost more than a glance
ROUNDING = 1e-15  # of a double: 100.0001 is within 1e-6 of 100, whatever their binary digits say


class CheckerError(Exception):
    """A checker failed, or gave no answer: nothing is known of the candidate."""


@dataclass(frozen=True)
class Tolerance:
    """How far a number may be from the expected one, for the checker `float`: one of the two is enough."""

    absolute: float = 1e-6
    relative: float = 1e-6
    """A share of the expected number."""

    def __post_init__(self) -> None:
        for name, most, words in (("absolute", math.inf, "0 or more"), ("relative", 1, "from 0 to below 1")):
            value = getattr(self, name)
            if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < most:
                raise UserError(f"{name}_tolerance is {value!r}: it must be a number, {words}")

    def holds(self, expected: float, actual: float) -> bool:
        """Whether two finite numbers are equal by it."""
        distance = abs(actual - expected)
        return distance <= self.absolute + ROUNDING or distance <= abs(expected) * (self.relative + ROUNDING)


def outputs_match(checker: Checker, case: Case, actual: bytes, tolerance: Tolerance = Tolerance()) -> bool:
    """Whether what a program has printed is what `case` expects.

    A function is called with the input, the expected and the actual output, and is not asked about output that is no
    UTF-8. Where it fails and takes the expected output, the actual one does not match. Raises CheckerError where it
    fails on that, too, and UserError for an unknown checker; never because of `actual`.
    """
    check_checker(checker)
    expected = case.stdout.encode()
    expected_tokens, actual_tokens = expected.split(), actual.split()
    if len(actual_tokens) < len(expected_tokens) and actual_tokens == expected_tokens[: len(actual_tokens)]:
        return False
    if callable(checker):
        return _ask(checker, case, actual)
    if checker == "exact":
        return _lines(actual) == _lines(expected)
    if len(actual_tokens) != len(expected_tokens):
        return False
    if checker == "unordered_lines":
        return _unordered(actual) == _unordered(expected)
    if checker == "tokens_nocase":
        return actual.lower().split() == expected.lower().split()
    if checker == "tokens":
        return actual_tokens == expected_tokens
    return all(map(_close(tolerance), expected_tokens, actual_tokens))


def check_checker(checker: Checker) -> None:
    """Raise UserError where a checker is unknown."""
    if not callable(checker) and checker not in CHECKERS:
        raise UserError(f"checker is {checker!r}: it must be one of {', '.join(CHECKERS)}, or a function")


def _lines(output: bytes) -> list[bytes]:
    lines = [line.rstrip() for line in output.split(b"\n")]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def _unordered(output: bytes) -> list[list[bytes]]:
    return sorted(words for line in output.split(b"\n") if (words := line.split()))


def _ask(checker: Callable[[str, str, str], bool], case: Case, actual: bytes) -> bool:
    try:
        text = actual.decode()
    except UnicodeDecodeError:
        return False
    if not text.strip():
        return False
    try:
        return _answer(checker, case, text)
    except CheckerError:
        if not _takes_expected(checker, case):
            raise
        return False


def _takes_expected(checker: Callable[[str, str, str], bool], case: Case) -> bool:
    with contextlib.suppress(CheckerError):
        return bool(case.stdout.strip()) and _answer(checker, case, case.stdout)
    return False


def _answer(checker: Callable[[str, str, str], bool], case: Case, text: str) -> bool:
    try:
        answer = checker(case.stdin, case.stdout, text)
    except (Exception, SystemExit) as error:  # a user's function raises whatever it likes
        raise CheckerError(f"the checker raised {type(error).__name__}: {error}") from error
    if not isinstance(answer, bool):
        raise CheckerError(f"the checker returned {answer!r}: it must return True or False")
    return answer


def _close(tolerance: Tolerance) -> Callable[[bytes, bytes], bool]:
    def are_close(expected: bytes, actual: bytes) -> bool:
        if expected == actual:
            return True
        if _not_finite(expected) or _not_finite(actual):
            return _not_finite(expected) == _not_finite(actual)
        first, second = _number(expected), _number(actual)
        return first is not None and second is not None and tolerance.holds(first, second)

    return are_close


def _not_finite(token: bytes) -> str:
    """`nan`, `inf`, `-inf`, or nothing. The sign of a nan means nothing."""
    match = NOT_FINITE.fullmatch(token) if len(token) <= LONGEST_NUMBER else None
    if match is None:
        return ""
    return "nan" if match["inf"] is None else "-inf" if match["sign"] == b"-" else "inf"


def _number(token: bytes) -> float | None:
    """A finite number; None for a word, and for digits without end, which must be equal to the letter."""
    if len(token) > LONGEST_NUMBER or not NUMBER.fullmatch(token):
        return None
    number = float(token)
    return number if math.isfinite(number) else None
