"""Tasks: what a policy is asked, and how its answer is judged.

One record, `Task`, one to one with a line of JSON. The shapes of public data sets are turned into it in
`rlvr_cpp.tasks.shapes`.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlvr_cpp.errors import UserError
from rlvr_cpp.runs.console import console
from rlvr_cpp.runs.files import replace_text
from rlvr_cpp.tasks.rows import Row, read_source
from rlvr_cpp.tasks.shapes import task_fields
from rlvr_cpp.verifier.cases import Case, has_half_a_pair
from rlvr_cpp.verifier.checkers import CHECKERS, Tolerance
from rlvr_cpp.verifier.limits import RunLimits
from rlvr_cpp.verifier.program import STANDARD, Program
from rlvr_cpp.verifier.verdict import MAX_TESTS

BUILTIN = Path(__file__).parents[1] / "data" / "families.jsonl"
SPLITS = ("train", "held_out")


@dataclass(frozen=True)
class Task:
    """One task. Fields without a default must stand in every row."""

    task_id: str
    prompt: str
    """C++ that the completion continues."""
    test: str
    """The public tests: a harness that prints `PASSED n/m`. Empty where the task has none, or cases."""
    entry_point: str
    """The function or type that the tests use."""
    tests_declared: int | None = None
    """How many public tests there are; None where only the harness knows."""
    std: str = "c++17"
    reference: str | None = None
    """A completion that passes every test."""
    callees: tuple[str, ...] = ()
    """Given functions that the solution has to use."""
    tags: tuple[str, ...] = ()
    split: str = "train"
    """`train` or `held_out`."""
    hidden_test: str | None = None
    """Tests that a policy is evaluated on and never rewarded by; None where the public ones must do."""
    hidden_tests_declared: int | None = None
    stub_pass_max: float | None = None
    """The largest share of hidden tests that a completion which does no work passes; None where never measured."""
    mutant_kill_rate: float | None = None
    """The share of mutants of the reference that the hidden tests reject; None where never measured."""
    weak: tuple[str, ...] | None = None
    """Answers without work that pass its tests, as `rlvr-tasks check` names them; None where never tried."""

    cases: tuple[Case, ...] = ()
    """Instead of a test: what a whole program reads and must print."""
    hidden_cases: tuple[Case, ...] | None = None
    """Instead of a hidden test; None where the public cases must do."""
    checker: str = "tokens"
    """How outputs are compared: `exact`, `tokens`, `tokens_nocase`, `float` or `unordered_lines`."""
    absolute_tolerance: float = Tolerance.absolute
    relative_tolerance: float = Tolerance.relative
    """Of the checker `float`; one of the two has to hold."""
    checker_program: str | None = None
    """C++ that compares instead: testlib's interface, with exit status 0 for a right output."""
    interactor: str | None = None
    """C++ that talks to the program and judges it, likewise."""
    time_limit: float | None = None
    """CPU seconds for one case; None is the verifier's. Programs with such a limit are built with -O2."""
    memory_limit: int | None = None
    """MiB; None is the verifier's."""
    output_limit: int | None = None
    """KiB that a program may print for one case; None is 64, or twice what the case expects where that is more."""
    stack_limit: int | None = None
    """MiB; None is 64, or the memory limit where that is more."""

    @property
    def limits(self) -> RunLimits:
        """What one run may use. Raises UserError for what is no limit."""
        return RunLimits(self.time_limit, self.memory_limit, self.output_limit, self.stack_limit)

    @property
    def tolerance(self) -> Tolerance:
        """How far a number may be from the expected one. Raises UserError for what is none."""
        return Tolerance(self.absolute_tolerance, self.relative_tolerance)

    @property
    def has_hidden(self) -> bool:
        """There are tests or cases that no reward has seen."""
        return self.hidden_test is not None or self.hidden_cases is not None

    def program(self, code: str, hidden: bool = False) -> Program:
        """`code`, the whole candidate, with the public or (where there are any) the hidden tests."""
        if self.cases:
            cases = self.hidden_cases if hidden and self.hidden_cases is not None else self.cases
            return Program(
                code,
                std=self.std,
                cases=cases,
                checker=self.checker,  # type: ignore[arg-type]
                tolerance=self.tolerance,
                checker_program=self.checker_program,
                interactor=self.interactor,
                limits=self.limits,
            )
        test, declared = self.test, self.tests_declared
        if hidden and self.hidden_test is not None:
            test, declared = self.hidden_test, self.hidden_tests_declared
        reference = None if self.reference is None else self.prompt + self.reference
        return Program(code, test or None, declared, self.std, declaration=self.prompt or None, reference=reference)

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(dataclasses.asdict(self))


FIELDS = frozenset(field.name for field in dataclasses.fields(Task))


def load_tasks(source: str | Path, *, config: str | None = None, split: str | None = None) -> list[Task]:
    """The tasks of a `.jsonl`, `.json` or `.parquet` file, or of a data set that `datasets` can load by name or folder.

    `config` and `split` are handed to `datasets`; without a split it is `train`. Raises UserError with the line and the
    field that is wrong.
    """
    tasks, left_out = [], Counter[str]()
    for row, where in ((row, where) for where, row in read_source(source, config=config, split=split, usual="train")):
        fields, extra = task_fields(row, where, FIELDS)
        left_out.update(extra)
        tasks.append(_task(fields, where))
    if not tasks:
        raise UserError(f"{source} holds no tasks: give a file with one JSON object a line")
    _refuse_duplicates(tasks, source)
    for name, count in left_out.items():
        console.print(
            f"{source}: field {name!r} of {count} rows is no part of a task and is left out",
            markup=False,
            soft_wrap=True,
        )
    return tasks


def save_tasks(tasks: Sequence[Task], path: Path) -> None:
    """Write the tasks, one a line, all or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_text(path, "".join(task.to_json() + "\n" for task in tasks))


def parse_task(row: Row, where: str) -> Task:
    """The task in a row of any known shape. Raises UserError naming `where` and the field."""
    return _task(task_fields(row, where, FIELDS)[0], where)


def _task(fields: Mapping[str, Any], where: str) -> Task:
    values = dict(fields)
    for name in ("reference", "entry_point", "hidden_test", "checker_program", "interactor"):
        if values.get(name) is not None and not isinstance(values[name], str):
            raise UserError(f"{where}: field {name!r} is {values[name]!r}: it must be a string")
    for name in ("callees", "weak"):
        value = values.get(name, () if name == "callees" else None)
        if value is None and name == "weak":
            continue
        if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
            raise UserError(f"{where}: field {name!r} is {value!r}: it must be a list of strings")
        values[name] = tuple(value)
    task = Task(**values)
    _check(task, where)
    return task


def _check(task: Task, where: str) -> None:
    for name in ("task_id", "prompt"):
        if has_half_a_pair(getattr(task, name)):
            raise UserError(
                f"{where}: field {name!r} holds half of a surrogate pair, which no model reads: correct the text"
            )
    for name, test in (("tests_declared", task.test), ("hidden_tests_declared", task.hidden_test)):
        count = getattr(task, name)
        if count is not None and not (type(count) is int and 1 <= count <= MAX_TESTS):
            raise UserError(
                f"{where}: field {name!r} is {count!r}: it must be a whole number from 1 to {MAX_TESTS} "
                "(leave it out where only the harness knows)"
            )
        if count is not None and not test:
            raise UserError(f"{where}: field {name!r} is {count} but there is no test: add the test or drop the count")
    for name in ("stub_pass_max", "mutant_kill_rate"):
        share = getattr(task, name)
        if share is not None and not (type(share) in (int, float) and 0 <= share <= 1):
            raise UserError(f"{where}: field {name!r} is {share!r}: it must be a share from 0 to 1")
    if task.checker not in CHECKERS:
        raise UserError(f"{where}: field 'checker' is {task.checker!r}: it must be one of {', '.join(CHECKERS)}")
    _check_rules(task, where)
    if task.test and task.cases:
        raise UserError(f"{where}: the row has both a test and cases: leave one of them out")
    if not isinstance(task.std, str) or not STANDARD.fullmatch(task.std):
        raise UserError(f"{where}: field 'std' is {task.std!r}: it must be a C++ standard such as c++17")
    if task.split not in SPLITS:
        raise UserError(f"{where}: field 'split' is {task.split!r}: it must be one of {', '.join(SPLITS)}")


def _check_rules(task: Task, where: str) -> None:
    """Raise UserError where tolerances or limits make no sense, or are those of a task without cases."""
    try:
        rules = (task.tolerance, task.limits)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    programs = [one for one in (task.checker_program, task.interactor) if one is not None]
    if len(programs) > 1:
        raise UserError(f"{where}: the row has both a checker_program and an interactor: leave one of them out")
    if task.test and (rules != (Tolerance(), RunLimits()) or programs):
        raise UserError(f"{where}: the row says how cases are judged, and has a test instead of any: leave it out")


def _refuse_duplicates(tasks: Sequence[Task], source: str | Path) -> None:
    seen: set[str] = set()
    for task in tasks:
        if task.task_id in seen:
            raise UserError(f"{source}: task_id {task.task_id!r} occurs twice: every task needs its own")
        seen.add(task.task_id)
