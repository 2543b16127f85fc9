"""Tasks: what a policy is asked, how its answer is judged, and the file formats they come in.

One record, `Task`, one to one with a line of JSON. Three public shapes are read as well and turned into it: HumanEval-X
C++ (`task_id, prompt, declaration, canonical_solution, test`), MultiPL-E (`name, prompt, tests, stop_tokens`) and MBXP
(`task_id, language, prompt, test, entry_point, canonical_solution`). Their tests stop at the first failure;
`rlvr_cpp.verifier.cpp.assertions` makes them count.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rlvr_cpp.errors import UserError
from rlvr_cpp.runs.files import replace_text
from rlvr_cpp.tasks.rows import Row, read_source
from rlvr_cpp.verifier.cpp.assertions import count_assertions, count_declared
from rlvr_cpp.verifier.cpp.lexemes import directives, lexemes
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
    """The public tests: a harness that prints `PASSED n/m`. Empty where the task has none."""
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

    def program(self, code: str, hidden: bool = False) -> Program:
        """`code`, the whole candidate, with the public or (where there are any) the hidden tests."""
        test, declared = self.test, self.tests_declared
        if hidden and self.hidden_test is not None:
            test, declared = self.hidden_test, self.hidden_tests_declared
        reference = None if self.reference is None else self.prompt + self.reference
        return Program(code, test or None, declared, self.std, declaration=self.prompt or None, reference=reference)

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(dataclasses.asdict(self))


def load_tasks(source: str | Path, *, config: str | None = None, split: str | None = None) -> list[Task]:
    """The tasks of a `.jsonl`, `.json` or `.parquet` file, or of a data set that `datasets` can load by name or folder.

    `config` and `split` are handed to `datasets`. Raises UserError with the line and the field that is wrong.
    """
    tasks = [parse_task(row, where) for where, row in read_source(source, config=config, split=split)]
    if not tasks:
        raise UserError(f"{source} holds no tasks: give a file with one JSON object a line")
    _refuse_duplicates(tasks, source)
    return tasks


def save_tasks(tasks: Sequence[Task], path: Path) -> None:
    """Write the tasks, one a line, all or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_text(path, "".join(task.to_json() + "\n" for task in tasks))


def parse_task(row: Row, where: str) -> Task:
    """The task in a row of any known shape. Raises UserError naming `where` and the field."""
    if {"entry_point", "language", "canonical_solution"} <= row.keys():
        task = _mbxp_shape(row, where)
    elif "entry_point" in row:
        task = _own_shape(row, where)
    elif "canonical_solution" in row:
        task = _humaneval_x_shape(row, where)
    elif "tests" in row:
        task = _multipl_e_shape(row, where)
    else:
        raise UserError(
            f"{where}: field 'entry_point' is missing, and the row has no 'canonical_solution' (HumanEval-X) or "
            "'tests' (MultiPL-E) either: add the field or use one of those shapes"
        )
    _check(task, where)
    return task


def _own_shape(row: Row, where: str) -> Task:
    fields = {field.name: field for field in dataclasses.fields(Task)}
    for name in ("task_id", "prompt", "test", "entry_point"):
        _text(row, name, where)
    for name in row:
        if name not in fields:
            raise UserError(f"{where}: field {name!r} is not part of a task: remove it or correct its name")
    for name in ("reference", "hidden_test"):
        if row.get(name) is not None:
            _text(row, name, where)
    values = dict(row)
    for name in ("callees", "tags", *(["weak"] if row.get("weak") is not None else [])):
        value = values.get(name, ())
        if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
            raise UserError(f"{where}: field {name!r} is {value!r}: it must be a list of strings")
        values[name] = tuple(value)
    return Task(**values)


def _humaneval_x_shape(row: Row, where: str) -> Task:
    prompt, test = _text(row, "prompt", where), _text(row, "test", where)
    return Task(
        task_id=_text(row, "task_id", where),
        prompt=prompt,
        test=count_assertions(test),
        tests_declared=count_declared(test),
        entry_point=_entry_point(_text(row, "declaration", where) if "declaration" in row else prompt, where),
        reference=_text(row, "canonical_solution", where),
        tags=("humaneval_x",),
        split="held_out",
    )


def _multipl_e_shape(row: Row, where: str) -> Task:
    prompt = _text(row, "prompt", where)
    # The rows' tests begin with the brace that closes the function; our completions close it themselves.
    tests = _text(row, "tests", where).lstrip().removeprefix("}")
    return Task(
        task_id=_text(row, "name", where),
        prompt=prompt,
        test=count_assertions(tests),
        tests_declared=count_declared(tests),
        entry_point=_entry_point(prompt, where),
        tags=("multipl_e",),
        split="held_out",
    )


def _mbxp_shape(row: Row, where: str) -> Task:
    if row["language"] != "cpp":
        raise UserError(f"{where}: field 'language' is {row['language']!r}: only tasks in 'cpp' can be judged")
    test = _text(row, "test", where)
    return Task(
        task_id=_text(row, "task_id", where),
        prompt=_text(row, "prompt", where),
        test=count_assertions(test),
        tests_declared=count_declared(test),
        entry_point=_text(row, "entry_point", where),
        reference=None if row["canonical_solution"] is None else _text(row, "canonical_solution", where),
        tags=("mbxp",),
        split="held_out",
    )


def _entry_point(declaration: str, where: str) -> str:
    """The last function that a declaration opens."""
    plain, _ = directives(lexemes(declaration))
    code = " ".join(lexeme.text if lexeme.kind in ("word", "mark") else "0" for lexeme in plain)
    names = re.findall(r"([A-Za-z_]\w*)\s*\([^;{}]*\)\s*(?:const\s*)?\{", code)
    if not names:
        raise UserError(f"{where}: no function is opened in the prompt: it must end with 'type name(...) {{'")
    return str(names[-1])


def _text(row: Row, name: str, where: str) -> str:
    value = row.get(name)
    if not isinstance(value, str):
        problem = "is missing" if name not in row else f"is {value!r}"
        raise UserError(f"{where}: field {name!r} {problem}: it must be a string")
    return value


def _check(task: Task, where: str) -> None:
    for name, test in (("tests_declared", task.test), ("hidden_tests_declared", task.hidden_test)):
        count = getattr(task, name)
        if count is not None and not (type(count) is int and 1 <= count <= MAX_TESTS):
            raise UserError(
                f"{where}: field {name!r} is {count!r}: it must be a whole number from 1 to {MAX_TESTS} "
                "(leave it out where only the harness knows)"
            )
        if count is not None and not test:
            raise UserError(f"{where}: field {name!r} is {count} but there is no test: add the test or drop the count")
    if not isinstance(task.std, str) or not STANDARD.fullmatch(task.std):
        raise UserError(f"{where}: field 'std' is {task.std!r}: it must be a C++ standard such as c++17")
    if task.split not in SPLITS:
        raise UserError(f"{where}: field 'split' is {task.split!r}: it must be one of {', '.join(SPLITS)}")


def _refuse_duplicates(tasks: Sequence[Task], source: str | Path) -> None:
    seen: set[str] = set()
    for task in tasks:
        if task.task_id in seen:
            raise UserError(f"{source}: task_id {task.task_id!r} occurs twice: every task needs its own")
        seen.add(task.task_id)
