"""Answers that were written elsewhere: rows of a file or a folder, each with a task's id and one or several texts.

Other tools name the same things otherwise (`IDS`, `CONTINUED`, `WHOLE`). bigcode-evaluation-harness writes no ids: a
list with one list of texts for each problem, in the order of its data set.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlvr_cpp.errors import UserError
from rlvr_cpp.tasks.rows import Row, read_source
from rlvr_cpp.tasks.shapes import CPP_NAMES
from rlvr_cpp.tasks.task import Task

IDS = ("task_id", "name", "question_id")
"""Ours, HumanEval's and EvalPlus's; MultiPL-E's; LiveCodeBench's. In lm-evaluation-harness's logs it is in `doc`."""
CONTINUED = ("completion", "completions", "generation", "resps")
"""What continues a prompt, as of HumanEval; MultiPL-E; HumanEval-X; lm-evaluation-harness."""
WHOLE = ("solution", "code_list", "answer", "response")
"""What stands by itself, as of EvalPlus, whose `solution` goes before its `completion`; LiveCodeBench; a chat."""
SHOWN = 5
"""Ids that a sentence names."""


@dataclass(frozen=True)
class Answers:
    """The answers to a benchmark's tasks."""

    by_task: Mapping[str, tuple[str, ...]]
    """In the order of the tasks, then of the file; without the tasks that have none."""
    are_whole: bool
    """They stand by themselves, and do not continue their prompts."""
    unknown: tuple[str, ...]
    """Ids that are no task's."""
    missing: tuple[str, ...]
    """Tasks that have no answer."""

    @property
    def samples(self) -> int:
        """The most that any task has."""
        return max(map(len, self.by_task.values()))

    def remark(self, source: str) -> str | None:
        """What does not fit together, in one sentence."""
        told = [
            f"{what}: {len(names)} ({', '.join(names[:SHOWN])}{', ...' * (len(names) > SHOWN)})"
            for what, names in (("ids that are no task's", self.unknown), ("tasks without an answer", self.missing))
            if names
        ]
        return f"{source} has {', '.join(told)}" if told else None


def read_answers(source: str, tasks: Sequence[Task]) -> Answers:
    """The answers in a file to these tasks. Raises UserError for a row that has none, and where none fits."""
    known = {task.task_id for task in tasks}
    found: dict[str, list[str]] = {}
    are_whole = False
    for task_id, texts, whole in _in_order(source, tasks) or _named(source):
        found.setdefault(task_id, []).extend(texts)
        are_whole |= whole
    unknown = tuple(name for name in found if name not in known)
    if len(unknown) == len(found):
        first = f"such as {unknown[0]!r}" if unknown else "there are none"
        raise UserError(
            f"{source} answers none of the {len(tasks)} tasks: its ids ({first}) are not theirs (such as "
            f"{tasks[0].task_id!r})"
        )
    by_task = {task.task_id: tuple(found[task.task_id]) for task in tasks if found.get(task.task_id)}
    return Answers(by_task, are_whole, unknown, tuple(task.task_id for task in tasks if task.task_id not in by_task))


def texts_of(row: Row, where: str) -> tuple[list[str], bool]:
    """The texts in a row, and whether they stand by themselves. Raises UserError where there are none."""
    name = next((name for name in (*WHOLE, *CONTINUED) if row.get(name) is not None), None)
    if name is None:
        raise UserError(f"{where}: there is no answer: name its field {CONTINUED[0]!r} or {WHOLE[0]!r}")
    texts = [*_flat(row[name])]
    if not all(isinstance(text, str) for text in texts):
        raise UserError(f"{where}: field {name!r} is {row[name]!r}: it must be a text or a list of texts")
    return texts, name in WHOLE


def _named(source: str) -> Iterator[tuple[str, list[str], bool]]:
    for where, row in read_source(source):
        document = row.get("doc")
        task_id = next(
            (place[name] for place in (row, document) if isinstance(place, Mapping) for name in IDS if name in place),
            None,
        )
        if not isinstance(task_id, str | int):
            raise UserError(f"{where}: there is no task's id: name its field {IDS[0]!r}")
        if str(row.get("language", "cpp")).lower() not in CPP_NAMES:  # MultiPL-E's ids are the same in all of them
            raise UserError(f"{where}: field 'language' is {row['language']!r}: only answers in 'cpp' can be judged")
        texts, whole = texts_of(row, where)
        yield str(task_id), texts, whole


def _in_order(source: str, tasks: Sequence[Task]) -> list[tuple[str, list[str], bool]]:
    """bigcode-evaluation-harness's lists of texts without ids; nothing where the file is none of these."""
    path = Path(source)
    if path.suffix != ".json" or not path.is_file():
        return []
    try:
        lists = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return []  # who reads rows says what is wrong
    if not (isinstance(lists, list) and lists and all(isinstance(texts, list) for texts in lists)):
        return []
    if len(lists) != len(tasks):
        raise UserError(
            f"{source} holds {len(lists)} lists of answers without ids for {len(tasks)} tasks: each needs one"
        )
    answers = ((task.task_id, texts_of({WHOLE[0]: texts}, source)[0]) for task, texts in zip(tasks, lists, strict=True))
    return [(name, texts, True) for name, texts in answers]


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, list | tuple):
        for inner in value:
            yield from _flat(inner)
    else:
        yield value
