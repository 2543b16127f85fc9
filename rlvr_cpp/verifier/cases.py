"""Cases: what a program that reads standard input is given, and what it must print.

They are read from the fields in which data sets have them. How outputs are compared is in `checkers.py`.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlvr_cpp.errors import UserError

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


@dataclass(frozen=True)
class Case:
    """One run: what the program reads and what it must print. Raises UserError where nothing would be expected."""

    stdin: str
    stdout: str
    """Never blank: a program that prints nothing would pass."""

    def __post_init__(self) -> None:
        _check_texts(self)
        if not self.stdout.strip():
            raise UserError(
                f"stdout is {self.stdout[:20]!r}: an empty expected output would pass a program that prints nothing, "
                "leave the case out"
            )


@dataclass(frozen=True)
class OpenCase(Case):
    """One run that a program judges: there need be no answer to compare with."""

    def __post_init__(self) -> None:
        _check_texts(self)


def _check_texts(case: Case) -> None:
    for name, text in (("stdin", case.stdin), ("stdout", case.stdout)):
        if not isinstance(text, str):
            raise UserError(f"{name} is a {type(text).__name__}: it must be text")
        if has_half_a_pair(text):
            raise UserError(f"{name} holds half of a surrogate pair, which no program can print: correct the text")


def has_half_a_pair(text: str) -> bool:
    """Whether a text holds half of a surrogate pair, which is no character and cannot be written as UTF-8."""
    return any("\ud800" <= letter <= "\udfff" for letter in text)


def read_cases(value: Any, field: str = "cases", kind: type[Case] = Case) -> tuple[Case, ...]:
    """The cases in a data set's field, or in its JSON text, each of this `kind`.

    Known are a list of `{"input": ..., "output": ...}` (or another of `NAMES`), a list of pairs, and
    `{"inputs": [...], "outputs": [...]}` (APPS, TACO), also as JSON or as Python writes it. A text may be given as the
    list of its lines. A `Case` that expects nothing is left out where there are others: it would pass a program that
    prints nothing. Raises UserError naming `field` and the place in it.
    """
    if isinstance(value, str):
        value = parse_text(value, field)
    found = [(place, *_texts(case, place)) for place, case in _split(value, field)]
    telling = [(place, given, wanted) for place, given, wanted in found if wanted != "" or kind is OpenCase]
    cases = tuple(_case(kind, place, given, wanted) for place, given, wanted in telling or found)
    if not cases:
        raise UserError(f"{field} holds no cases: give at least one")
    return cases


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
    """What a text says in JSON, which may be a text of JSON once more, or in Python's own notation."""
    try:
        found = json.loads(text)
        return parse_text(found, field) if isinstance(found, str) and found != text else found
    except (ValueError, RecursionError) as error:
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


def _case(kind: type[Case], place: str, given: Any, wanted: Any) -> Case:
    try:
        return kind(given, wanted)
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
