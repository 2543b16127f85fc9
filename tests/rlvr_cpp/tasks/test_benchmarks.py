"""Benchmarks in the shapes that the world has them in, their identity, and every way a row can be wrong."""

import dataclasses
import json
from typing import Any

import pytest

from rlvr_cpp import UserError, Verifier
from rlvr_cpp.tasks.benchmarks import difficulty_of, load_benchmark, with_references
from rlvr_cpp.tasks.choice import evenly_spaced
from rlvr_cpp.tasks.settings import BenchmarkSettings
from rlvr_cpp.tasks.task import BUILTIN, load_tasks

HUMANEVAL_X = {
    "task_id": "CPP/0",
    "prompt": "/*\nDouble it.\n*/\n#include<vector>\nusing namespace std;\nint twice(int x){\n",
    "declaration": "#include<vector>\nusing namespace std;\nint twice(int x){\n",
    "canonical_solution": "    return 2*x;\n}\n",
    "test": "#undef NDEBUG\n#include<assert.h>\nint main(){\n    assert (twice(2)==4);\n    assert (twice(0)==0);\n}\n",
    "example_test": "#undef NDEBUG\n#include<assert.h>\nint main(){\n    assert (twice(2)==4);\n}\n",
}
MULTIPL_E = {
    "name": "HumanEval_1_twice",
    "language": "cpp",
    "prompt": "#include<assert.h>\n#include<vector>\n// Doubles.\nlong twice(long x) {\n",
    "doctests": "transform",
    "original": "/somewhere.py",
    "prompt_terminology": "reworded",
    "tests": "}\nint main() {\n    auto candidate = twice;\n    assert(candidate((2)) == (4));\n}\n",
    "stop_tokens": ["\n}"],
}
MBXP = {
    "task_id": "MBCPP/1",
    "language": "cpp",
    "prompt": "#include <stdexcept>\nusing namespace std;\n\nint twice(int n) {\n",
    "entry_point": "twice",
    "description": "Write a function to double a number.",
    "test": 'int main() {\n    int x0 = twice(2);\n    if (!(x0 == 4)) {\n        throw runtime_error("0");\n    }\n}\n',
    "canonical_solution": "    return n + n;\n}",
}
OWN = {
    "task_id": "own/1",
    "prompt": "int twice(int x) {\n",
    "test": HUMANEVAL_X["test"],
    "entry_point": "twice",
    "reference": "    return x + x;\n}\n",
}
SHAPES = {
    "HumanEval-X": ("humaneval_cpp", HUMANEVAL_X),
    "MultiPL-E of HumanEval": ("humaneval_cpp", MULTIPL_E),
    "MBXP": ("mbpp_cpp", MBXP),
    "MultiPL-E of MBPP": ("mbpp_cpp", MULTIPL_E),
    "ours": ("tasks", OWN),
}


def settings(name, source, **changes):
    return dataclasses.replace(
        BenchmarkSettings(name, None if source is None else str(source), None, None, "all", "hidden", None), **changes
    )


def load(folder, name, *rows, **changes):
    path = folder / "problems.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return load_benchmark(settings(name, path, **changes))


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_is_a_task_that_can_be_judged(tmp_path, shape):
    name, row = SHAPES[shape]
    (task,) = load(tmp_path, name, row).tasks
    assert task.entry_point == "twice"
    variable = "n" if shape == "MBXP" else "x"
    with Verifier(workers=1) as verifier:
        right, wrong = verifier.verify_many(
            [task.program(f"{task.prompt}    return {variable} + {more};\n}}\n", hidden=True) for more in (variable, 1)]
        )
    assert (right.passed, wrong.passed) == (True, False)


MISSING = [
    (name, row, field)
    for name, row, fields in (
        ("humaneval_cpp", HUMANEVAL_X, ("task_id", "prompt", "canonical_solution", "test")),
        ("humaneval_cpp", MULTIPL_E, ("name", "prompt", "tests")),
        ("mbpp_cpp", MBXP, ("task_id", "prompt", "entry_point", "test", "canonical_solution")),
        ("tasks", OWN, ("task_id", "prompt", "test", "entry_point")),
    )
    for field in fields
]


@pytest.mark.parametrize(("name", "row", "field"), MISSING)
def test_a_missing_field_is_named_with_file_and_line(tmp_path, name, row, field):
    lacking = {key: value for key, value in row.items() if key != field}
    with pytest.raises(UserError, match=rf"problems\.jsonl line 2: field '{field}' is missing"):
        load(tmp_path, name, {**row, "task_id": "first", "name": "first"} if name != "tasks" else row, lacking)


def test_no_problem_at_all_is_an_error(tmp_path):
    with pytest.raises(UserError, match="holds no problems"):
        load(tmp_path, "humaneval_cpp")


def test_a_problem_that_occurs_twice_is_an_error(tmp_path):
    with pytest.raises(UserError, match="'CPP/0' occurs twice"):
        load(tmp_path, "humaneval_cpp", HUMANEVAL_X, HUMANEVAL_X)


def test_a_difficulty_is_a_tag(tmp_path):
    rows = [{**HUMANEVAL_X, "task_id": f"CPP/{n}", **more} for n, more in enumerate(({"difficulty": "hard"}, {}))]
    assert [difficulty_of(task) for task in load(tmp_path, "humaneval_cpp", *rows).tasks] == ["hard", None]
    with pytest.raises(UserError, match=r"line 1: field 'difficulty' is 3"):
        load(tmp_path, "tasks", {**OWN, "difficulty": 3})


def test_the_hash_is_that_of_the_content(tmp_path):
    rows = [{**HUMANEVAL_X, "task_id": f"CPP/{n}"} for n in range(3)]
    whole = load(tmp_path, "humaneval_cpp", *rows)
    assert load(tmp_path, "humaneval_cpp", *reversed(rows)).content_hash == whole.content_hash
    changed = {**rows[1], "test": rows[1]["test"].replace("4", "5")}
    for other in (rows[:2], [rows[0], changed, rows[2]]):
        assert load(tmp_path, "humaneval_cpp", *other).content_hash != whole.content_hash


def test_the_shipped_tasks_are_measured_on_those_that_are_held_out():
    benchmark = load_benchmark(settings("tasks", None, part="held_out"))
    assert {task.split for task in benchmark.tasks} == {"held_out"}
    assert benchmark.split == "hidden"
    assert len(benchmark.tasks) == sum(task.split == "held_out" for task in load_tasks(BUILTIN))


def test_tests_that_a_reward_has_seen_are_not_called_hidden(tmp_path):
    assert load(tmp_path, "tasks", OWN).split == "public"
    assert load(tmp_path, "tasks", {**OWN, "split": "held_out"}).split == "hidden"
    assert load(tmp_path, "tasks", {**OWN, "hidden_test": OWN["test"]}).split == "hidden"
    assert load(tmp_path, "tasks", {**OWN, "hidden_test": OWN["test"]}, tests="public").split == "public"
    assert load(tmp_path, "humaneval_cpp", HUMANEVAL_X).split == "hidden"


def test_a_part_that_no_problem_is_marked_as_is_an_error(tmp_path):
    with pytest.raises(UserError, match=r"benchmark\.part is 'held_out' but none of the 1 problems"):
        load(tmp_path, "tasks", OWN, part="held_out")


def test_only_what_has_a_reference_is_replayed(tmp_path):
    rows = [MBXP, {**MBXP, "task_id": "MBCPP/2", "canonical_solution": None}]
    benchmark = load(tmp_path, "mbpp_cpp", *rows)
    assert [task.task_id for task in with_references(benchmark).tasks] == ["MBCPP/1"]
    with pytest.raises(UserError, match="none of the 1 problems of humaneval_cpp has a reference solution"):
        with_references(load(tmp_path, "humaneval_cpp", MULTIPL_E))


def test_a_limit_hears_every_part_of_the_list():
    ten: list[Any] = list(range(10))  # any list will do
    assert evenly_spaced(ten, 4) == [0, 2, 5, 7]
    assert evenly_spaced(ten[:2], None) == evenly_spaced(ten[:2], 5) == [0, 1]
