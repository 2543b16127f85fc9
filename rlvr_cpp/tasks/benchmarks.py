"""Benchmarks: the problems a model is measured on, read from the files that the world has them in.

`humaneval_cpp` takes HumanEval-X C++ and MultiPL-E rows, `mbpp_cpp` MBXP and MultiPL-E rows, `tasks` our own. A problem
is a `Task` like any other; a row's `difficulty` becomes the tag `difficulty:<word>`. What a benchmark is, is its hash:
over everything in every problem, whatever the file was called.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rlvr_cpp.errors import UserError
from rlvr_cpp.runs.files import canonical_json
from rlvr_cpp.tasks.choice import evenly_spaced
from rlvr_cpp.tasks.rows import Row, read_source
from rlvr_cpp.tasks.settings import BenchmarkSettings
from rlvr_cpp.tasks.shapes import DIFFICULTY
from rlvr_cpp.tasks.task import BUILTIN, Task, parse_task
from rlvr_cpp.tasks.tiers import with_a_judge

HUMANEVAL_X = ("task_id", "prompt", "canonical_solution", "test")
MULTIPL_E = ("name", "prompt", "tests")
MBXP = ("task_id", "language", "prompt", "entry_point", "test", "canonical_solution")
SHAPES = {"humaneval_cpp": (HUMANEVAL_X, MULTIPL_E), "mbpp_cpp": (MBXP, MULTIPL_E)}
"""By benchmark, the fields that a row must have, one tuple for each shape it may come in."""
OPTIONAL = ("declaration", "difficulty")


@dataclass(frozen=True)
class Benchmark:
    """Problems, and which of their tests judge."""

    name: str
    tasks: tuple[Task, ...]
    hidden: bool
    """Judged by hidden tests where a problem has any, else always by the public ones."""

    @property
    def split(self) -> Literal["hidden", "public"]:
        """`hidden` where no reward has seen the tests: hidden ones, or those of problems that are not trained on."""
        unseen = all(task.has_hidden or task.split == "held_out" for task in self.tasks)
        return "hidden" if self.hidden and unseen else "public"

    @property
    def content_hash(self) -> str:
        """SHA-256, in hexadecimal, over every field of every problem, whatever their order."""
        fields = sorted((dataclasses.asdict(task) for task in self.tasks), key=lambda row: str(row["task_id"]))
        return hashlib.sha256(canonical_json(fields).encode()).hexdigest()


def load_benchmark(settings: BenchmarkSettings) -> Benchmark:
    """The problems that the settings ask for.

    Raises UserError with file, line and field for a row that is wrong, and where no problem is left.
    """
    source = settings.source or BUILTIN
    rows = read_source(source, config=settings.config, split=settings.split)
    found = [_problem(row, where, settings.name) for where, row in rows]
    if not found:
        raise UserError(f"{source} holds no problems: give a file with one JSON object a line")
    _refuse_duplicates(found, str(source))
    tasks = [task for task in found if settings.part in ("all", task.split)]
    if not tasks:
        raise UserError(
            f"benchmark.part is {settings.part!r} but none of the {len(found)} problems of {source} is marked so: "
            "use benchmark.part=all"
        )
    tasks = evenly_spaced(with_a_judge(tasks, source), settings.limit)
    return Benchmark(settings.name, tuple(tasks), hidden=settings.tests == "hidden")


def with_references(benchmark: Benchmark) -> Benchmark:
    """The problems that have a reference solution. Raises UserError where none has, as with MultiPL-E's."""
    known = tuple(task for task in benchmark.tasks if task.reference is not None)
    if not known:
        raise UserError(
            f"none of the {len(benchmark.tasks)} problems of {benchmark.name} has a reference solution to replay: "
            "use a file that has them, such as HumanEval-X's canonical_solution"
        )
    return dataclasses.replace(benchmark, tasks=known)


def difficulty_of(task: Task) -> str | None:
    """What the row called its difficulty; None where it did not say."""
    return next((tag.removeprefix(DIFFICULTY) for tag in task.tags if tag.startswith(DIFFICULTY)), None)


def _problem(row: Row, where: str, benchmark: str) -> Task:
    """The problem in a row of a shape that the benchmark has; `tasks` has every shape there is."""
    if benchmark != "tasks":
        shape = max(SHAPES[benchmark], key=lambda fields: sum(name in row for name in fields) / len(fields))
        for name in shape:
            if name not in row:
                raise UserError(f"{where}: field {name!r} is missing: such a row of {benchmark} has {', '.join(shape)}")
        row = {name: value for name, value in row.items() if name in (*shape, *OPTIONAL)}
    return parse_task(row, where)


def _refuse_duplicates(tasks: Sequence[Task], source: str) -> None:
    seen: set[str] = set()
    for task in tasks:
        if task.task_id in seen:
            raise UserError(f"{source}: problem {task.task_id!r} occurs twice: every problem needs an id of its own")
        seen.add(task.task_id)
