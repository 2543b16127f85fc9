"""What a run is told of tasks whose tests share the process of what they judge, and how it leaves them out."""

import dataclasses

import pytest

from rlvr_cpp import UserError
from rlvr_cpp.runs.console import console
from rlvr_cpp.tasks.choice import choose_tasks
from rlvr_cpp.tasks.settings import TaskSettings
from rlvr_cpp.tasks.task import Task, save_tasks
from rlvr_cpp.tasks.tiers import strong_enough, tier_of, tier_remarks, with_a_judge
from rlvr_cpp.verifier.cases import Case

HARNESS = '#include <cstdio>\nint main() { int p = 0; %s std::printf("PASSED %%d/1\\n", p); return p != 1; }\n'
VALUES = Task("values", "int f(int x) {", HARNESS % "p += f(1) == 2;", "f", reference=" return x + 1; }")
OBJECTS = Task(
    "objects", "struct Box {\n", HARNESS % "Box b; p += b.v == 2;", "Box", reference="int v = 2; };\n", split="held_out"
)
INSIDE = dataclasses.replace(
    OBJECTS, task_id="inside", test=HARNESS % "struct Mine { Box b; }; p += Mine().b.v == 2;", split="train"
)
READS = Task("reads", "// Add.\n", "", "main", cases=(Case("1 2", "3"),))


def test_a_tasks_tier_is_told_by_its_text():
    assert [tier_of(task)[0] for task in (VALUES, OBJECTS, INSIDE)] == ["oracle", "observer", "marker"]
    assert tier_of(dataclasses.replace(VALUES, test=""))[0] == "none"
    assert tier_of(READS) == ("cases", "")


def test_tasks_that_share_a_process_are_named_with_their_share_and_a_reason():
    (remark,) = tier_remarks([VALUES, OBJECTS, INSIDE])
    assert "1 of 3 tasks (33%)" in remark
    assert "inside (the test defines a class inside of a function)" in remark
    assert tier_remarks([VALUES, OBJECTS]) == []


@pytest.mark.parametrize(("least", "kept"), [("marker", 3), ("observer", 2), ("oracle", 1)])
def test_weaker_tasks_are_left_out(least, kept):
    assert len(strong_enough([VALUES, OBJECTS, INSIDE], least, "here")) == kept
    assert len(strong_enough([READS, VALUES, OBJECTS, INSIDE], least, "here")) == kept + 1


def test_a_source_of_nothing_else_is_refused_with_the_reason():
    with pytest.raises(UserError, match="inside of a function"):
        strong_enough([INSIDE], "observer", "here")


def test_a_run_chooses_among_the_strong_enough(tmp_path):
    path = tmp_path / "tasks.jsonl"
    save_tasks([VALUES, OBJECTS, INSIDE], path)
    training, held_out = choose_tasks(TaskSettings(str(path), None, None, 0.2, min_tier="observer"), None, seed=0)
    assert [task.task_id for task in (*training, *held_out)] == ["values", "objects"]


OWN = Task("o", "int f() {", "", "f", tags=("needs_checker",))
TALK = dataclasses.replace(OWN, task_id="t", tags=("needs_interactor",))


def test_what_nobody_here_can_judge_is_left_out_and_counted():
    plain, given = (
        Task("p", "int f() {", "", "f"),
        dataclasses.replace(OWN, task_id="g", checker_program="int main() {}"),
    )
    with console.capture() as said:
        assert with_a_judge([plain, OWN, TALK, given], "a.jsonl") == [plain, given]
    assert "a.jsonl: 2 of 4 tasks are judged by what is not there" in said.get()
    assert (
        "(o has no checker_program, t has no interactor): a checker or interactor is a program in C++, they are left out"
        in said.get()
    )
    with pytest.raises(
        UserError, match=r"a\.jsonl: every task is judged by .*: a checker or interactor is a program in C\+\+"
    ):
        with_a_judge([OWN, TALK], "a.jsonl")
