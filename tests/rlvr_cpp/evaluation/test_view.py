"""A run's page of samples can be made of its folder alone, whatever became of the run and of its tasks."""

import json
from typing import Any

import pytest

from rlvr_cpp.errors import UserError
from rlvr_cpp.evaluation.view import view
from rlvr_cpp.tasks.task import BUILTIN, load_tasks
from rlvr_cpp.view import main

TASKS: dict[str, Any] = {
    "source": None,
    "config": None,
    "split": None,
    "held_out_fraction": 0.2,
    "max_prompt_tokens": None,
}
TASKS |= {"check_references": "none", "tags": None, "difficulty": None, "min_tier": "marker"}


@pytest.fixture
def stopped(tmp_path):
    """The folder of a training that was stopped after its first step."""
    task = load_tasks(BUILTIN)[0]
    row = {"step": 1, "task_id": task.task_id, "completion": "return 1;\n}\n", "status": "wrong", "reward": 0.5}
    row |= {"prefix": "", "tests_passed": 1, "tests_total": 2, "tokens": 5, "truncated": True}
    (tmp_path / "completions.jsonl").write_text(json.dumps(row) + "\n")
    keep(tmp_path, {"model": "tiny-cpp", "tasks": TASKS})
    return tmp_path


def keep(folder, config, **results):
    (folder / "run.json").write_text(json.dumps({"config": config, "results": results}))


def test_prompts_are_those_of_the_runs_tasks(stopped):
    page = view(stopped).read_text()
    prompt = json.dumps(load_tasks(BUILTIN)[0].prompt).replace("<", "\\u003c")
    assert prompt in page
    assert '"continued":true' in page


def test_answers_of_a_chat_do_not_continue_their_prompts(stopped):
    keep(stopped, {"model": "tiny-cpp", "tasks": TASKS}, prompt={"chat": True})
    assert '"continued":false' in view(stopped).read_text()


@pytest.mark.parametrize("tasks", [TASKS | {"source": "gone.jsonl"}, {"unheard_of": 1}])
def test_without_its_tasks_the_rest_is_shown(stopped, tasks, capsys):
    keep(stopped, {"model": "tiny-cpp", "tasks": tasks})
    assert "return 1;" in view(stopped).read_text()
    assert "prompts are not shown" in capsys.readouterr().err


def test_the_command_prints_the_pages_path(stopped, capsys):
    assert main([str(stopped)]) == 0
    assert capsys.readouterr().out == f"{stopped / 'samples.html'}\n"


def test_a_folder_that_is_no_run_is_one_sentence(tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    with pytest.raises(UserError):
        view(tmp_path)
