"""Which tasks are trained on and which are held out."""

import dataclasses
import json

import pytest

from rlvr_cpp import UserError
from rlvr_cpp.tasks.choice import choose_tasks
from rlvr_cpp.tasks.settings import TaskSettings


def settings(source=None, fraction=0.2) -> TaskSettings:
    return TaskSettings(source, None, None, fraction, min_tier="marker")


@pytest.fixture
def ten_tasks(tmp_path):
    path = tmp_path / "tasks.jsonl"
    row = {"prompt": "int f() {", "test": "int main() {}", "entry_point": "f"}
    path.write_text("".join(json.dumps({**row, "task_id": f"t{n}"}) + "\n" for n in range(10)))
    return str(path)


def test_the_shipped_split_is_used():
    training, held_out = choose_tasks(settings(), None, seed=0)
    assert (len(training), len(held_out)) == (480, 96)
    assert all(task.split == "held_out" for task in held_out)


def test_a_limit_hears_every_family():
    _, held_out = choose_tasks(settings(), 16, seed=0)
    assert len(held_out) == 16
    assert len({task.tags[0] for task in held_out}) == 8


def test_an_unmarked_file_is_split_by_the_seed(ten_tasks):
    training, held_out = choose_tasks(settings(ten_tasks), None, seed=1)
    assert (len(training), len(held_out)) == (8, 2)
    assert {t.task_id for t in training}.isdisjoint(t.task_id for t in held_out)
    assert choose_tasks(settings(ten_tasks), None, seed=1) == (training, held_out)
    assert choose_tasks(settings(ten_tasks), None, seed=2) != (training, held_out)


@pytest.mark.parametrize("fraction", [0.01, 0.99])
def test_a_split_with_an_empty_side_is_refused(ten_tasks, fraction):
    with pytest.raises(UserError, match="both need at least one"):
        choose_tasks(settings(ten_tasks, fraction), None, seed=0)


def test_tags_choose_among_the_tasks():
    some = dataclasses.replace(settings(), tags=["bits", "strings"])
    chosen = [task for part in choose_tasks(some, None, seed=0) for task in part]
    assert chosen
    assert all({"bits", "strings"} & {*task.tags} for task in chosen)
    with pytest.raises(
        UserError, match=r"none of the 576 tasks .* has one of tasks\.tags \['nothing'\]: they have bits"
    ):
        choose_tasks(dataclasses.replace(settings(), tags=["nothing"]), None, seed=0)
