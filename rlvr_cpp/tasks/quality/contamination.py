"""Tasks that say what a benchmark says: a policy that is trained on them knows the problems it is measured on.

A task is named where its prompt or its reference shares 13 words in a row with a problem's, in small letters and
without punctuation: the method of GPT-3's appendix C (arXiv 2005.14165). Left out are directives and `using`, which
files share for their form, and what more than ten problems of the benchmark say alike, which is the form of the
benchmark. A text of fewer words is not compared, and what is said in other words is not seen.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rlvr_cpp.tasks.task import Task

WORDS = 13
COMMON = 10
"""Of so many problems a run of words may be; one of more says nothing about any of them."""
FORM = re.compile(r"(?m)^[ \t]*(?:#|using\b).*")
WORD = re.compile(r"\w+")
PARTS = ("prompt", "reference")
Run = tuple[str, ...]
"""`WORDS` words in a row."""


@dataclass(frozen=True)
class Overlap:
    """What a task has in common with a problem of a benchmark."""

    task_id: str
    problem_id: str
    """The problem with which it has most in common."""
    part: str
    """`prompt` or `reference`."""
    share: float
    """How many of the part's runs of words are the problem's."""

    def __str__(self) -> str:
        return f"{self.task_id}: {self.share:.0%} of its {self.part} is that of {self.problem_id}"


def find_overlaps(tasks: Sequence[Task], benchmark: Sequence[Task]) -> list[Overlap]:
    """Of each task that shares a run of words with a problem, the part that shares most."""
    indexes = {part: _index(benchmark, part) for part in PARTS}
    found = ([one for part in PARTS for one in _overlaps(task, part, indexes[part])] for task in tasks)
    return [min(overlaps, key=lambda one: (-one.share, one.part, one.problem_id)) for overlaps in found if overlaps]


def overlap_report(tasks: Sequence[Task], benchmark: Sequence[Task], name: str) -> Iterator[str]:
    """A line for each task that shares words with a benchmark's problem, and one that counts them."""
    overlaps = find_overlaps(tasks, benchmark)
    yield from map(str, overlaps)
    yield (
        f"{len(overlaps)} of {len(tasks)} tasks ({len(overlaps) / len(tasks):.1%}) share {WORDS} words in a row with a "
        f"problem of {name}, which has {len(benchmark)}"
    )


def _index(benchmark: Sequence[Task], part: str) -> dict[Run, set[str]]:
    """The problems that say each run of words in this part, without what too many say."""
    index: dict[Run, set[str]] = defaultdict(set)
    for problem in benchmark:
        for run in _runs(getattr(problem, part)):
            index[run].add(problem.task_id)
    return {run: problems for run, problems in index.items() if len(problems) <= COMMON}


def _overlaps(task: Task, part: str, index: dict[Run, set[str]]) -> Iterator[Overlap]:
    """With every problem that shares a run of words."""
    runs = _runs(getattr(task, part))
    shared: dict[str, int] = defaultdict(int)
    for run in runs:
        for problem in index.get(run, ()):
            shared[problem] += 1
    for problem, count in shared.items():
        yield Overlap(task.task_id, problem, part, count / len(runs))


def _runs(text: str | None) -> set[Run]:
    words = WORD.findall(FORM.sub("", text or "").lower())
    return {tuple(words[start : start + WORDS]) for start in range(len(words) - WORDS + 1)}
