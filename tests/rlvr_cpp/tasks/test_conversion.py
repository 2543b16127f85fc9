"""Rows become tasks, and every row that does not is told."""

import json

import pytest

from rlvr_cpp import UserError
from rlvr_cpp.check_tasks import main
from rlvr_cpp.tasks.conversion import convert_rows, describe_task, find_task
from rlvr_cpp.tasks.task import load_tasks

GOOD = {"task_id": "a", "prompt": "int f(int x) {\n", "test": "int main() {}", "entry_point": "f"}
CONTEST = {
    "problem_id": 3,
    "question": "Sum.",
    "input_output": '{"inputs": ["1"], "outputs": ["1"]}',
    "difficulty": "easy",
}
ROWS = [GOOD, {**GOOD, "prompt": None}, CONTEST, {**GOOD, "task_id": "b"}, {**CONTEST, "input_output": "x"}]


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def test_every_row_is_kept_or_told(source, capsys):
    assert main(["convert", str(source), "--out", str(source.parent / "ours.jsonl")]) == 0
    told = capsys.readouterr().out
    assert told.startswith("2 of 5 rows are tasks, 1 were there before, 2 cannot be used\n")
    assert "judged by a test: 1, cases: 1" in told
    for words in (
        "line 2: field 'prompt' is None",
        "line 4: 'b' is 'a' once more",
        "line 5: field 'input_output' is no JSON",
    ):
        assert words in told
    assert [task.task_id for task in load_tasks(source.parent / "ours.jsonl")] == ["a", "apps/3"]


def test_a_file_without_a_task_is_refused():
    with pytest.raises(UserError, match="no row can be used: here: field 'task_id' is missing"):
        convert_rows([("here", {})])


def test_a_task_is_described_and_found():
    tasks = convert_rows([("here", GOOD), ("there", CONTEST)]).tasks
    assert describe_task(tasks[0]) == "a: f, c++17, ? tests, without a reference, tags: none"
    assert "1 cases, 0 hidden, compared as tokens" in describe_task(find_task(tasks, "apps/3", "file"))
    assert find_task(tasks, None, "file") == tasks[0]
    with pytest.raises(UserError, match="file has no task 'c': its first is 'a'"):
        find_task(tasks, "c", "file")
