"""Answers as models write them, each with the verdict that a careful human gives: tests/data/completions."""

import json
from pathlib import Path

import pytest

from benchmarks.answer_styles import STYLES, accuracy, read
from rlvr_cpp import Verifier
from rlvr_cpp.tasks.completion import read_completion
from rlvr_cpp.tasks.task import BUILTIN, Task, load_tasks
from rlvr_cpp.verifier.cpp.signature import tokens

CASES = json.loads((Path(__file__).parents[2] / "data" / "completions" / "answers.json").read_text())


def program_of(case):
    fields = dict(case["task"])
    task = Task(**{**fields, "tags": tuple(fields.get("tags", ()))})
    return task.program(read_completion(task, case["completion"], case["chat"]).code)


def spelling(program):
    return tuple(tokens(program.code)), program.test, program.declaration


@pytest.fixture(scope="module")
def verdicts():
    """Programs that differ in white space and comments alone are judged once."""
    distinct = {spelling(program): program for program in map(program_of, CASES)}
    with Verifier(workers=2) as verifier:
        return dict(zip(distinct, verifier.verify_many(distinct.values()), strict=True))


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_an_answer_is_judged_as_a_careful_human_would(case, verdicts):
    result = verdicts[spelling(program_of(case))]
    assert result.status in case["expect"], result.stderr


@pytest.fixture(scope="module")
def table():
    tasks = [task for task in load_tasks(BUILTIN) if task.reference and task.tags[0] == "classes"]
    with Verifier(workers=2) as verifier:
        return accuracy(tasks[:1], read, verifier)


@pytest.mark.parametrize("style", STYLES)
def test_an_answer_is_judged_by_what_it_says_however_it_is_written(style, table):
    assert table[style] == (1.0, 1.0)
