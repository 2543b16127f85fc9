"""Tests of a program that reads standard input and writes standard output, compared outside of its process.

What a candidate prints is bytes and stays bytes for the three built-in checkers, so text that is no UTF-8 matches only
itself. Output is compared in one of three ways, or by a function of the user's:

exact    the same text but for white space at the end of lines and empty lines at the end. Data sets store expected
         outputs with and without these, and no reader sees them; leading spaces and empty lines within do count.
tokens   the same words between white space (ASCII's).
float    as `tokens`, but two numbers are equal within a tolerance, relative or absolute.

Whatever the checker, output without a token, or with only the first of the expected tokens, does not pass: a program
that prints nothing, or stops in the middle, has not answered.
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rlvr_cpp.errors import UserError

Checker = Literal["exact", "tokens", "float"] | Callable[[str, str, str], bool]
CHECKERS = ("exact", "tokens", "float")
NUMBER = re.compile(rb"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
NOT_FINITE = re.compile(rb"(?P<sign>[+-]?)(?:(?P<inf>inf(?:inity)?)|nan(?:\([0-9a-z_]*\))?)", re.IGNORECASE)
LONGEST_NUMBER = 1000  # digits: a double in full needs fewer, and reading a number must not cost more than a glance
NAMES = (
    ("inputs", "outputs"),
    ("input", "output"),
    ("stdin", "stdout"),
    ("input", "expected_output"),
    ("input", "answer"),
    ("input", "expected"),
)
WRAPPERS = ("test_cases", "cases", "tests")
"""Fields that hold the list of cases where it stands beside other things, such as SYNTHETIC-1's `language`."""


class CheckerError(Exception):
    """A user's checker raised, or returned something else than True or False: nothing is known of the candidate."""


@dataclass(frozen=True)
class Case:
    """One run: what the program reads and what it must print. Raises UserError where nothing would be expected."""

    stdin: str
    stdout: str
    """Never blank: a program that prints nothing would pass."""

    def __post_init__(self) -> None:
        for name, text in (("stdin", self.stdin), ("stdout", self.stdout)):
            if not isinstance(text, str):
                raise UserError(f"{name} is a {type(text).__name__}: it must be text")
            if has_half_a_pair(text):
                raise UserError(f"{name} holds half of a surrogate pair, which no program can print: correct the text")
        if not self.stdout.strip():
            raise UserError(
                f"stdout is {self.stdout[:20]!r}: an empty expected output would pass a program that prints nothing, "
                "leave the case out"
            )


def has_half_a_pair(text: str) -> bool:
    """Whether a text holds half of a surrogate pair, which is no character and cannot be written as UTF-8."""
    return any("\ud800" <= letter <= "\udfff" for letter in text)


def outputs_match(checker: Checker, case: Case, actual: bytes, tolerance: float = 1e-6) -> bool:
    """Whether what a program has printed is what `case` expects.

    `tolerance` is for the checker `float`. A function is called with the input, the expected and the actual output,
    and is not asked about output that is no UTF-8. Raises CheckerError where it fails, and UserError for an unknown
    checker or tolerance; never because of `actual`.
    """
    check_checker(checker, tolerance)
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
    if checker == "tokens":
        return actual_tokens == expected_tokens
    return all(map(_close(tolerance), expected_tokens, actual_tokens))


def check_checker(checker: Checker, tolerance: float = 1e-6) -> None:
    """Raise UserError where a checker is unknown or a tolerance is none."""
    if not callable(checker) and checker not in CHECKERS:
        raise UserError(f"checker is {checker!r}: it must be one of {', '.join(CHECKERS)}, or a function")
    if not (isinstance(tolerance, int | float) and 0 <= tolerance < 1):
        raise UserError(f"tolerance is {tolerance!r}: it must be a number from 0 to below 1")


def read_cases(value: Any, field: str = "cases") -> tuple[Case, ...]:
    """The cases in a data set's field, or in its JSON text.

    Known are a list of `{"input": ..., "output": ...}` (or another of `NAMES`), a list of pairs, and
    `{"inputs": [...], "outputs": [...]}` (APPS, TACO), also as JSON or as Python writes it. A text may be given as the
    list of its lines. A case that expects nothing is left out where there are others: it would pass a program that
    prints nothing. Raises UserError naming `field` and the place in it.
    """
    if isinstance(value, str):
        value = parse_text(value, field)
    found = [(place, *_texts(case, place)) for place, case in _split(value, field)]
    telling = [(place, given, wanted) for place, given, wanted in found if wanted != ""]
    cases = tuple(_case(place, given, wanted) for place, given, wanted in telling or found)
    if not cases:
        raise UserError(f"{field} holds no cases: give at least one")
    return cases


def _lines(output: bytes) -> list[bytes]:
    lines = [line.rstrip() for line in output.split(b"\n")]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def _ask(checker: Callable[[str, str, str], bool], case: Case, actual: bytes) -> bool:
    try:
        text = actual.decode()
    except UnicodeDecodeError:
        return False
    if not text.strip():
        return False
    try:
        answer = checker(case.stdin, case.stdout, text)
    except Exception as error:  # a user's function raises whatever it likes
        raise CheckerError(f"the checker raised {type(error).__name__}: {error}") from error
    if not isinstance(answer, bool):
        raise CheckerError(f"the checker returned {answer!r}: it must return True or False")
    return answer


def _close(tolerance: float) -> Callable[[bytes, bytes], bool]:
    def are_close(expected: bytes, actual: bytes) -> bool:
        if expected == actual:
            return True
        if _not_finite(expected) or _not_finite(actual):
            return _not_finite(expected) == _not_finite(actual)
        first, second = _number(expected), _number(actual)
        return (
            first is not None
            and second is not None
            and math.isclose(first, second, rel_tol=tolerance, abs_tol=tolerance)
        )

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


def _split(value: Any, field: str) -> Iterator[tuple[str, Any]]:
    """Each case, as yet unread, with the name of its place."""
    if isinstance(value, Mapping) and (inner := next((name for name in WRAPPERS if name in value), None)):
        yield from _split(value[inner], f"{field}.{inner}")
    elif isinstance(value, Mapping):
        yield from _split_columns(value, field)
    elif isinstance(value, Sequence) and not isinstance(value, bytes):
        yield from ((f"{field}[{number}]", case) for number, case in enumerate(value))
    else:
        raise UserError(f"{field} is a {type(value).__name__}: it must be a list of cases or inputs with their outputs")


def _split_columns(value: Mapping[Any, Any], field: str) -> Iterator[tuple[str, Any]]:
    _refuse_calls(value, field)
    inputs, outputs = _both(value, field)
    for column in (inputs, outputs):
        if not isinstance(column, list | tuple):
            raise UserError(f"{field} has a {type(column).__name__} for all its inputs or outputs: it must be a list")
    if len(inputs) != len(outputs):
        raise UserError(f"{field} has {len(inputs)} inputs and {len(outputs)} outputs: every input needs its output")
    yield from ((f"{field}[{number}]", pair) for number, pair in enumerate(zip(inputs, outputs, strict=True)))


def parse_text(text: str, field: str) -> Any:
    """What a text says in JSON, or in Python's own notation."""
    try:
        return json.loads(text)
    except ValueError as error:
        try:
            return ast.literal_eval(text.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            raise UserError(f"{field} is no JSON ({error}): give a list of cases or its JSON text") from error


def _texts(case: Any, place: str) -> tuple[Any, Any]:
    """Input and expected output of one case, as yet unchecked."""
    if isinstance(case, Case):
        return case.stdin, case.stdout
    if isinstance(case, Mapping):
        _refuse_calls(case, place)
        case = _both(case, place)
    if not isinstance(case, list | tuple) or len(case) != 2:
        raise UserError(f"{place} is {str(case)[:40]!r}: it must be an input and its output")
    return _joined(case[0]), _joined(case[1])


def _case(place: str, given: Any, wanted: Any) -> Case:
    try:
        return Case(given, wanted)
    except UserError as error:
        raise UserError(f"{place}: {error}") from error


def _both(value: Mapping[Any, Any], place: str) -> tuple[Any, Any]:
    for input_name, output_name in NAMES:
        if input_name in value and output_name in value:
            return value[input_name], value[output_name]
    raise UserError(f"{place} has the fields {sorted(map(str, value))}: it needs 'input' and 'output'")


def _refuse_calls(value: Mapping[Any, Any], place: str) -> None:
    kinds = {"testtype": "stdin", "type": "stdin_stdout"}
    others = (name for name, known in kinds.items() if value.get(name, known) not in (known, "stdin", "stdin_stdout"))
    name = "fn_name" if value.get("fn_name") else next(others, None)
    if name is not None:
        raise UserError(
            f"{place} has {name} {value[name]!r}: its tests call a function and read no input, leave it out"
        )


def _joined(text: Any) -> Any:
    if isinstance(text, list | tuple) and len(text) == 1 and isinstance(text[0], list | tuple):
        return _joined(text[0])
    is_lines = isinstance(text, list | tuple) and all(isinstance(line, str) for line in text)
    return "\n".join(text) if is_lines else text
