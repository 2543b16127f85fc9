"""References that fail are named, and too many of them refused."""

import dataclasses

import pytest

from rlvr_cpp import UserError, Verifier
from rlvr_cpp.runs.console import console
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


def test_a_test_that_nobody_can_pass_is_named_and_ends_nothing(verifier):
    mute = dataclasses.replace(WRONG, task_id="mute", test="int main() { return 1; }\n")
    with console.capture() as said:
        check_references([*TASKS, mute], "all", verifier, "file")
    assert "1 of 13 reference solutions of file fail: mute (test reports nothing: " in said.get()


def test_too_many_that_fail_are_refused(verifier):
    others = [dataclasses.replace(WRONG, task_id=f"wrong {n}") for n in range(6)]
    words = (
        r"7 of 13 reference solutions of file fail: wrong \(wrong\), wrong 0 .* and 2 more: .* tasks\.check_references"
    )
    with pytest.raises(UserError, match=words):
        check_references([*TASKS[:6], WRONG, *others], "all", verifier, "file")
    check_references([WRONG], "none", verifier, "file")


def test_references_that_judge_themselves_are_named_once(verifier):
    same = "#include <cassert>\nint main() { Even a(2), b(4); assert(a == b); }\n"
    plain = same.replace("a == b", "a.odd == b.odd")
    prompt = "struct Even { int odd; Even(int n) : odd(n % 2) {}\n    bool operator==(const Even& o) const {\n"
    own, other = (
        Task(name, prompt, test, "Even", reference="        return odd == o.odd;\n    }\n};\n")
        for name, test in (("own", same), ("other", plain))
    )
    with console.capture() as said:
        check_references([own, other], "all", verifier, "file")
    assert said.get().startswith("warning: 1 of 2 tasks of file are judged by the answer's own operators or by ")
    assert said.get().count("warning") == 1
