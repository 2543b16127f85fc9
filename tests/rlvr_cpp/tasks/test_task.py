"""Tasks in every shape, and every way a row can be wrong."""

import dataclasses
import gzip
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlvr_cpp import UserError, Verifier
from rlvr_cpp.tasks.task import BUILTIN, Task, load_tasks, parse_task, save_tasks

ROW = {
    "task_id": "t",
    "prompt": "int f() {",
    "test": "int main() {}",
    "entry_point": "f",
    "tests_declared": 3,
}

HUMANEVAL_X = {
    "task_id": "CPP/0",
    "prompt": "/*\nIs any pair of numbers closer than the threshold?\n*/\n#include<vector>\n#include<cmath>\n"
    "using namespace std;\nbool close_pair(vector<float> v, float threshold){\n",
    "declaration": "#include<vector>\nusing namespace std;\nbool close_pair(vector<float> v, float threshold){\n",
    "canonical_solution": "    for (size_t i = 0; i < v.size(); ++i)\n        for (size_t j = 0; j < i; ++j)\n"
    "            if (fabs(v[i] - v[j]) < threshold) return true;\n    return false;\n}\n",
    "test": "#undef NDEBUG\n#include<assert.h>\nint main(){\n    vector<float> a={1.0, 2.0, 3.9};\n"
    "    assert (close_pair(a, 1.5)==true);\n    assert (close_pair(a, 0.5)==false);\n"
    "    assert (close_pair({1.0, 1.0}, 0.1));\n}\n",
}
MULTIPL_E: dict[str, Any] = {
    "name": "HumanEval_x_add",
    "prompt": "#include<assert.h>\n#include<bits/stdc++.h>\n// Adds.\nlong add(long x, long y) {\n",
    "tests": "}\nint main() {\n    auto candidate = add;\n    assert(candidate((2), (3)) == (5));\n"
    "    assert(candidate((0), (1)) == (1));\n}\n",
    "stop_tokens": ["\n}"],
}


MBXP = {
    "task_id": "MBCPP/0",
    "language": "cpp",
    "prompt": "#include <bits/stdc++.h>\nusing namespace std;\n\n/**\n * Write a function to double a number.\n"
    " * > twice(2)\n * 4\n */\nint twice(int n) {\n",
    "entry_point": "twice",
    "description": "Write a function to double a number.",
    "test": "\ntemplate <typename T> bool compare(T a, T b){ \n    return a == b; \n}\n\n"
    "int main(int argc, char* argv[]) {\n    int x0 = twice(2);\n    if (!(compare(x0, 4))) {\n"
    '        throw runtime_error("case 0");\n    }\n\n    int x1 = twice(3);\n    if (!(compare(x1, 6))) {\n'
    '        throw runtime_error("case 1");\n    }\n\n    return 0;\n}\n',
    "canonical_solution": "    return n + n;\n}",
}


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


text = st.text(max_size=20)


@given(text, text, st.none() | st.integers(1, 1000), st.lists(text, max_size=3))
def test_a_task_survives_json(prompt, test, count, tags):
    task = Task("id", prompt, test or "x", "f", count, tags=tuple(tags))
    assert parse_task(json.loads(task.to_json()), "here") == task


def test_a_file_of_tasks_survives_disk(tmp_path):
    tasks = [Task(f"t{n}", "int f() {", "int main() {}", "f", 2, callees=("g",)) for n in range(3)]
    save_tasks(tasks, tmp_path / "folder" / "tasks.jsonl")
    assert load_tasks(tmp_path / "folder" / "tasks.jsonl") == tasks
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["tasks.jsonl"]


def test_gzip_is_read(tmp_path):
    path = tmp_path / "tasks.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps(ROW).encode()))
    assert load_tasks(path)[0].task_id == "t"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tests_declared": 0}, "line 2: field 'tests_declared' is 0"),
        ({"tests_declared": 1001}, "line 2: field 'tests_declared' is 1001"),
        ({"tests_declared": "3"}, "line 2: field 'tests_declared' is '3'"),
        ({"tests_declared": True}, "line 2: field 'tests_declared' is True"),
        ({"test": ""}, "line 2: field 'tests_declared' is 3 but there is no test"),
        ({"prompt": None}, "line 2: field 'prompt' is None"),
        ({"std": "c99"}, "line 2: field 'std' is 'c99'"),
        ({"split": "dev"}, "line 2: field 'split' is 'dev'"),
        ({"test_declared": 1}, "line 2: field 'test_declared' is not part of a task"),
        ({"tags": "a"}, "line 2: field 'tags' is 'a'"),
        ({"hidden_test": 5}, "line 2: field 'hidden_test' is 5"),
        ({"reference": 5}, "line 2: field 'reference' is 5"),
        ({"task_id": "first"}, "task_id 'first' occurs twice"),
    ],
)
def test_a_malformed_row_is_named(tmp_path, change, words):
    path = write(tmp_path / "tasks.jsonl", {**ROW, "task_id": "first"}, {**ROW, **change})
    with pytest.raises(UserError) as caught:
        load_tasks(path)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["task_id", "prompt", "test", "entry_point"])
def test_a_missing_field_is_named(tmp_path, name):
    row = {key: value for key, value in ROW.items() if key != name}
    with pytest.raises(UserError, match=f"line 1: field '{name}' is missing"):
        load_tasks(write(tmp_path / "tasks.jsonl", row))


@pytest.mark.parametrize(
    ("content", "words"), [("{", "line 1: not JSON"), ("[]", "a list where"), ("", "holds no tasks")]
)
def test_what_is_no_task_file_is_refused(tmp_path, content, words):
    path = tmp_path / "tasks.jsonl"
    path.write_text(content)
    with pytest.raises(UserError, match=words):
        load_tasks(path)


def test_a_file_that_does_not_exist_is_named():
    with pytest.raises(UserError, match=r"task file 'nowhere\.jsonl' does not exist"):
        load_tasks("nowhere.jsonl")


def test_a_file_cut_short_is_named(tmp_path):
    path = tmp_path / "tasks.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps(ROW).encode())[:-6])
    with pytest.raises(UserError, match="cannot be read"):
        load_tasks(path)


@pytest.fixture(scope="module")
def verifier():
    with Verifier(workers=2) as verifier:
        yield verifier


def outcomes(verifier, task: Task, *completions: str) -> list[tuple[str, int, int]]:
    results = verifier.verify_many([task.program(task.prompt + completion) for completion in completions])
    return [(r.status, r.tests_passed, r.tests_total) for r in results]


def test_humaneval_x_counts_its_assertions(verifier):
    task = parse_task(HUMANEVAL_X, "here")
    assert task.entry_point == "close_pair"
    solution, *wrong = (
        HUMANEVAL_X["canonical_solution"],
        "    return true;\n}\n",
        "    return v.empty();\n}\n",
    )
    assert outcomes(verifier, task, solution, *wrong) == [("ok", 3, 3), ("wrong", 2, 3), ("wrong", 1, 3)]
    assert outcomes(verifier, task, "    exit(0);\n}\n")[0][0] != "ok"


def test_a_comment_with_parentheses_is_no_function():
    prompt = "// A number (largest integer) and decimals\n// (leftover part).\nfloat truncate(float number) {\n"
    assert parse_task({**MULTIPL_E, "prompt": prompt}, "here").entry_point == "truncate"


def test_a_comment_about_main_is_not_main(verifier):
    tests = MULTIPL_E["tests"].replace("}\nint main", "}\n// int main() runs it\nint main")
    task = parse_task({**MULTIPL_E, "tests": tests}, "here")
    assert outcomes(verifier, task, "    return x + y;\n}") == [("ok", 2, 2)]


def test_multipl_e_counts_its_assertions(verifier):
    task = parse_task(MULTIPL_E, "here")
    assert (task.task_id, task.entry_point) == ("HumanEval_x_add", "add")
    assert outcomes(verifier, task, "    return x + y;\n}", "    return x - y + 6;\n}") == [
        ("ok", 2, 2),
        ("wrong", 1, 2),
    ]


def test_mbxp_counts_its_throws(verifier):
    task = parse_task(MBXP, "here")
    assert (task.entry_point, task.tests_declared, task.tags) == ("twice", 2, ("mbxp",))
    throwing = '    if (n == 2) throw runtime_error("two");\n    return 2 * n;\n}'
    assert outcomes(verifier, task, MBXP["canonical_solution"], "    return 4;\n}", throwing) == [
        ("ok", 2, 2),
        ("wrong", 1, 2),
        ("wrong", 1, 2),
    ]


def test_mbxp_without_a_solution_has_no_reference():
    assert parse_task({**MBXP, "canonical_solution": None}, "here").reference is None


def test_mbxp_in_another_language_is_refused():
    with pytest.raises(UserError, match="here: field 'language' is 'java': only tasks in 'cpp'"):
        parse_task({**MBXP, "language": "java"}, "here")


@pytest.mark.parametrize(("row", "number"), [(HUMANEVAL_X, 3), (MULTIPL_E, 2), (MBXP, 2)])
def test_the_number_of_a_public_tasks_tests_is_declared(row, number):
    assert parse_task(row, "here").tests_declared == number


def test_hidden_tests_stand_in_for_public_ones():
    task = Task("t", "", "public", "f", 2, hidden_test="hidden", hidden_tests_declared=3)
    assert (task.program("").test, task.program("").tests_declared) == ("public", 2)
    assert (task.program("", hidden=True).test, task.program("", hidden=True).tests_declared) == ("hidden", 3)
    bare = dataclasses.replace(task, hidden_test=None, hidden_tests_declared=None)
    assert bare.program("", hidden=True) == bare.program("")


def test_a_data_set_is_read_through_datasets(tmp_path):
    datasets = pytest.importorskip("datasets")
    datasets.Dataset.from_list([HUMANEVAL_X]).to_parquet(tmp_path / "set" / "test.parquet")
    assert load_tasks(tmp_path / "set")[0].task_id == "CPP/0"


def test_shipped_tasks_passed_the_gate():
    tasks = load_tasks(BUILTIN)
    assert len({task.tags[0] for task in tasks}) >= 8
    assert all(task.stub_pass_max < 0.2 and task.mutant_kill_rate >= 0.8 for task in tasks)
    assert all(task.hidden_test != task.test for task in tasks)
    assert {task.split for task in tasks} == {"train", "held_out"}
