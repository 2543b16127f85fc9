"""The verifier inside other frameworks: one small module for each, loaded by name, that imports nothing of it.

What the tests of an answer are stands in a row: the columns of a data set, verl's `ground_truth` and `extra_info`, the
data of a verifiers task. Every framework's row is read here, in the same words:

test             a C++ harness that prints `PASSED n/m`, or a `main` of assertions
tests_declared   how many tests it has, where that is known
cases            instead of `test`: inputs with their outputs (`rlvr_cpp.verifier.cases.read_cases`), or their JSON text
checker          how outputs are compared: a name of `rlvr_cpp.verifier.checkers`; with it may stand
                 `absolute_tolerance`, `relative_tolerance`, `time_limit`, `memory_limit`, `output_limit` and
                 `stack_limit`, in the units of a `Task`
checker_program  C++ that compares instead, or `interactor`, C++ that talks to the program (docs/verifier.md)
declaration      C++ that the answer continues or, in a fenced block, replaces; empty where it is a whole program;
                 needed where the test calls functions that it does not declare itself
entry_point      the function or type that a declaration opens
std              the language standard

A field that is None is a field that is missing. A row that names neither `test` nor `cases` may have the columns of one
of the field's data sets (`rlvr_cpp.tasks.shapes`); else it is a mistake, for it would score every program alike. An
empty `test` asks for a program that compiles and runs. Without a declaration an answer is the block that defines what
its test calls, or for cases `main`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from rlvr_cpp.errors import UserError
from rlvr_cpp.tasks.completion import read_completion
from rlvr_cpp.tasks.shapes import SHAPES
from rlvr_cpp.tasks.task import Task, parse_task
from rlvr_cpp.tasks.tiers import with_a_judge
from rlvr_cpp.verifier.cases import Case, OpenCase, read_cases
from rlvr_cpp.verifier.cpp.free_names import free_names
from rlvr_cpp.verifier.program import Program
from rlvr_cpp.verifier.tiers.object_policy import LIBRARY
from rlvr_cpp.verifier.tiers.oracle import LIBRARY_NAMES
from rlvr_cpp.verifier.verifier import Verifier

RULES = (
    *("checker", "absolute_tolerance", "relative_tolerance", "checker_program", "interactor"),
    *("time_limit", "memory_limit", "output_limit", "stack_limit"),
)
"""How the outputs of a program are judged, as a `Task` has it."""
JUDGES = {"checker_program", "interactor"}
FIELDS = ("test", "tests_declared", "cases", *RULES, "declaration", "entry_point", "std")
TEXTS = ("test", "declaration", "entry_point", "std")


@cache
def shared_verifier() -> Verifier:
    """The verifier of those who bring none: g++ and the defaults, one for the process."""
    return Verifier()


def read_program(answer: str, row: Mapping[str, Any], *, continues: bool = False) -> Program:
    """The program in a model's answer, and the tests that `row` names.

    It is found as the trainers find it (docs/completions.md): an answer in a chat, or with `continues` the continuation
    of the declaration. Raises UserError for a row that makes no sense, never because of `answer`.
    """
    task = read_task(row)
    if task.prompt and not task.entry_point and not continues:
        raise UserError("the row has a declaration and no entry_point: name the function or type that it opens")
    return task.program(read_completion(task, answer, chat=not continues).code)


def read_task(row: Mapping[str, Any]) -> Task:
    """The task in a row: in our words, or in the columns of a data set. Raises UserError."""
    plain = {name: _plain(value) for name, value in row.items()}
    given = {name: plain[name] for name in FIELDS if plain.get(name) is not None}
    if not {"declaration", "cases"} & given.keys() and any(_has(plain, columns) for columns, _ in SHAPES):
        (task,) = with_a_judge([parse_task(plain, "the row")], "the row")
        return task
    _check(given)
    test, declared = given.get("test", ""), given.get("tests_declared")
    is_program = "cases" in given or not test
    return Task(
        task_id="",
        prompt=given.get("declaration", ""),
        test=test,
        entry_point=given.get("entry_point", "") or ("main" if is_program else _called(test, given)),
        tests_declared=None if declared is None else int(declared),
        std=given.get("std", Program.std),
        cases=read_cases(given["cases"], kind=OpenCase if JUDGES & given.keys() else Case) if "cases" in given else (),
        **{name: given[name] for name in RULES if name in given},
    )


def row_of(task: Task) -> dict[str, Any]:
    """The fields that `read_task` reads a task's public tests from: no solution, no hidden test, as JSON has them."""
    fields = {name: getattr(task, name) for name in ("tests_declared", "entry_point", "std", "checker")}
    if task.cases:
        cases = {"inputs": [case.stdin for case in task.cases], "outputs": [case.stdout for case in task.cases]}
        return {"test": None, "cases": json.dumps(cases), "declaration": None, **fields}
    return {"test": task.test, "cases": None, "declaration": task.prompt, **fields}


def _has(row: Mapping[str, Any], columns: Sequence[str]) -> bool:
    return all(row.get(name) is not None for name in columns)


def _called(test: str, given: Mapping[str, Any]) -> str:
    """What a test without a declaration owes to its candidate and mentions first; empty where a declaration tells."""
    if "declaration" in given:
        return ""
    owed = free_names(test)
    names = (owed.values | owed.types) - LIBRARY - LIBRARY_NAMES
    return min(names, key=test.find, default="")


def message_text(answer: Any) -> str:
    """The text of an answer: itself, or what stands in the last message of a conversation."""
    if isinstance(answer, str):
        return answer
    message = answer[-1] if isinstance(answer, Sequence) and answer else answer
    content = message.get("content") if isinstance(message, Mapping) else getattr(message, "content", None)
    if isinstance(content, str) or not content:
        return content or ""
    return "".join(part.get("text") or "" for part in content if isinstance(part, Mapping))


def _check(given: Mapping[str, Any]) -> None:
    if "test" not in given and "cases" not in given:
        raise UserError("the row has neither test nor cases: name the field of the tests so")
    if given.get("test") and "cases" in given:
        raise UserError("the row has both test and cases: leave one of them out")
    for name in TEXTS:
        if not isinstance(given.get(name, ""), str):
            raise UserError(f"{name} is a {type(given[name]).__name__}: it must be text")


def _plain(value: Any) -> Any:
    """Lists in place of the arrays that a parquet file is read as."""
    if isinstance(value, Mapping):
        return {name: _plain(column) for name, column in value.items()}
    return value.tolist() if hasattr(value, "tolist") else value
