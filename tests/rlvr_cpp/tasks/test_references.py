"""References that fail are named, and too many of them refused."""

import dataclasses

import pytest

from rlvr_cpp import UserError, Verifier
from rlvr_cpp.tasks.quality.references import check_references
from rlvr_cpp.tasks.task import Task

TEST = "#include <cassert>\nint main() { assert(inc(1) == 2); assert(inc(0) == 1); }\n"
HEADS = ("int", "inline int", "static int", "constexpr int")
TASKS = [
    Task(f"{head}/{n}", f"// {n}\n{head} inc(int x) {{\n", TEST, "inc", reference="    return x + 1;\n}\n")
    for n in range(3)
    for head in HEADS
]
WRONG = dataclasses.replace(TASKS[0], task_id="wrong", reference="    return x;\n}\n")


@pytest.fixture(scope="module")
def verifier():
    with Verifier(workers=2) as verifier:
        yield verifier


def test_a_prompt_that_is_inline_or_static_makes_no_right_answer_wrong(verifier):
    check_references(TASKS, "all", verifier, "file")


def test_a_few_that_fail_are_named(verifier, capsys):
    check_references([*TASKS, WRONG], "all", verifier, "file")


def test_too_many_that_fail_are_refused(verifier):
    others = [dataclasses.replace(WRONG, task_id=f"wrong {n}") for n in range(6)]
    words = (
        r"7 of 13 reference solutions of file fail: wrong \(wrong\), wrong 0 .* and 2 more: .* tasks\.check_references"
    )
    with pytest.raises(UserError, match=words):
        check_references([*TASKS[:6], WRONG, *others], "all", verifier, "file")
    check_references([WRONG], "none", verifier, "file")
