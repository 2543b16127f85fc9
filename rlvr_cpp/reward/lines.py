"""A line of JSON for `rlvr-verify --jsonl` that holds an answer and its task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rlvr_cpp.errors import UserError
from rlvr_cpp.reward.rows import read_program
from rlvr_cpp.tasks.answers import CONTINUED, WHOLE, texts_of
from rlvr_cpp.tasks.completion import read_completion
from rlvr_cpp.tasks.task import parse_task
from rlvr_cpp.tasks.tiers import with_a_judge
from rlvr_cpp.verifier.program import Program


def program_in_answer(row: Mapping[str, Any]) -> Program:
    """The program in the row's answer to the task that stands beside it.

    The task is a row of a task file, or what `rlvr_cpp.reward.rows` reads. Raises UserError.
    """
    texts, whole = texts_of(row, "without a field 'code'")
    if len(texts) != 1:
        raise UserError(f"there are {len(texts)} answers: a line has one")
    rest = {name: value for name, value in row.items() if name not in (*CONTINUED, *WHOLE)}
    if "prompt" not in rest:
        return read_program(texts[0], rest, continues=not whole)
    (task,) = with_a_judge([parse_task(rest, "the row")], "the row")
    return task.program(read_completion(task, texts[0], chat=whole).code)
