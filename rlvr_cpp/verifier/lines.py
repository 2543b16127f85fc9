"""Judge lines of JSON as they come, one result a line and in their order: `rlvr-verify --jsonl`.

A line is judged while the next ones are read, and its result is written as soon as those before it are: who writes a
line and waits for its result gets it. A line that makes no sense has an `error` in the place of a result.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Queue
from threading import Thread
from typing import Any

from rlvr_cpp.errors import UserError
from rlvr_cpp.verifier.cases import Case, OpenCase, read_cases
from rlvr_cpp.verifier.checkers import Tolerance
from rlvr_cpp.verifier.limits import RunLimits
from rlvr_cpp.verifier.program import Program
from rlvr_cpp.verifier.verifier import Verifier

ReadRow = Callable[[Mapping[str, Any]], Program]
LIMITS = tuple(field.name for field in dataclasses.fields(RunLimits))
TOLERANCES = tuple(field.name for field in dataclasses.fields(Tolerance))
COUNTS = ("tests_declared", "hidden_tests_declared")
OWN = tuple(field.name for field in dataclasses.fields(Program) if field.name not in ("limits", "tolerance"))
FIELDS = (*OWN, *(f"{name}_limit" for name in LIMITS), *(f"{name}_tolerance" for name in TOLERANCES))
"""Those of `Program`; limits and tolerances one by one, in the units of `RunLimits` and `Tolerance`."""
NAMES = ("id", "task_id")
"""Fields of a line that its result repeats."""
AHEAD = 64
"""Lines that are read before the first of them has its result."""


def program_in(row: Mapping[str, Any]) -> Program:
    """The program that a row spells out, by the names of `FIELDS`. Raises UserError."""
    if row.get("code") is None:
        raise UserError("there is no field 'code': it holds C++, or texts by file name")
    for name in row.keys() - {*FIELDS, *NAMES}:
        if near := difflib.get_close_matches(name, FIELDS, 1, 0.8):
            raise UserError(f"field {name!r} is not part of a program: do you mean {near[0]!r}?")
    given = {name: row[name] for name in FIELDS if row.get(name) is not None}
    for name in COUNTS:
        if type(given.get(name, 1)) is not int:
            raise UserError(f"{name} is {given[name]!r}: it must be a whole number")
    if "cases" in given:
        is_judged = given.keys() & {"checker_program", "interactor"}
        given["cases"] = read_cases(given["cases"], kind=OpenCase if is_judged else Case)
    return Program(
        **{name: given[name] for name in OWN if name in given},
        limits=RunLimits(**{name: given.get(f"{name}_limit") for name in LIMITS}),
        tolerance=Tolerance(
            **{name: given[f"{name}_tolerance"] for name in TOLERANCES if f"{name}_tolerance" in given}
        ),
    )


def judge_lines(
    lines: Iterable[str], verifier: Verifier, write: Callable[[str], None], read_row: ReadRow = program_in
) -> set[str]:
    """Write the result of every line that is not blank; gives the statuses there were, `error` among them."""
    ahead: Queue[Future[dict[str, Any]] | None] = Queue(AHEAD)
    pool = ThreadPoolExecutor(verifier.workers)

    def read() -> None:
        try:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    ahead.put(pool.submit(_judge, line, number, verifier, read_row))
        finally:
            ahead.put(None)

    statuses = set()
    Thread(target=read, daemon=True).start()  # nothing waits for one that waits for a line
    try:
        while (judged := ahead.get()) is not None:
            result = judged.result()
            write(json.dumps(result))
            statuses.add(result.get("status", "error"))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    return statuses


def _judge(line: str, number: int, verifier: Verifier, read_row: ReadRow) -> dict[str, Any]:
    names: dict[str, Any] = {}
    try:
        row = _parse(line)
        if not isinstance(row, dict):
            raise UserError(f"a {type(row).__name__} where a JSON object should stand")
        names = {name: row[name] for name in NAMES if name in row}
        return names | dataclasses.asdict(verifier.verify(read_row(row)))
    except UserError as error:
        return names | {"error": f"line {number}: {error}"}


def _parse(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"not JSON ({error})") from error
