"""What `tasks.source` may be, and which of its tasks the settings let through."""

import dataclasses
import json
import shutil

import pytest

from rlvr_cpp import UserError
from rlvr_cpp.tasks.choice import choose_tasks
from rlvr_cpp.tasks.settings import TaskSettings
from rlvr_cpp.tasks.sources import SHIPPED, load_sources, source_weights

SETTINGS = TaskSettings(None, None, None, 0.2)


@pytest.fixture
def files(tmp_path):
    """Two files of five tasks, the first of them easy or hard."""
    row = {"prompt": "int f() {", "test": "int main() {}", "entry_point": "f"}
    for name in ("a", "b"):
        rows = [{**row, "task_id": f"{name}/{n}", "tags": [name]} for n in range(5)]
        if name == "a":
            rows = [{**row, "difficulty": "easy" if n < 2 else "hard"} for n, row in enumerate(rows)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")


def load(source, **settings):
    return load_sources(dataclasses.replace(SETTINGS, source=source, **settings))


def test_one_source_a_list_and_weights(files):
    assert [(source.name, source.weight) for source in load(None)] == [(SHIPPED, None)]
    assert [(source.name, source.weight, len(source.tasks)) for source in load(list(files))] == [
        (name, None, 5) for name in files
    ]
    mixed = load({files[0]: 3, SHIPPED: 0.5})
    assert [(source.name, source.weight) for source in mixed] == [(files[0], 3.0), (SHIPPED, 0.5)]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (3, "tasks.source is 3: it must be"),
        ([], r"tasks.source is \[\]"),
        ({}, r"tasks.source is \{\}"),
        (["a", "a"], "names a source twice"),
        ({"a": 0}, "gives 'a' the weight 0: it must be a number above 0"),
        ({"a": "x"}, "the weight 'x'"),
        ({"a": True}, "the weight True"),
        ({"a": float("inf")}, "the weight inf"),
    ],
)
def test_what_is_none_of_these_is_refused(source, words):
    with pytest.raises(UserError, match=words):
        source_weights(source)


def test_each_source_is_split_by_itself_and_gives_to_both_parts(files):
    training, held_out = choose_tasks(dataclasses.replace(SETTINGS, source=[*files, SHIPPED]), None, seed=0)
    for name in ("a", "b"):
        assert [sum(name in task.tags for task in part) for part in (training, held_out)] == [4, 1]
    assert (len(training), len(held_out)) == (488, 98)


def test_difficulties_and_tags_must_both_hold_in_every_source(files):
    (source,) = load(files[0], difficulty=["easy", "medium"], tags=["a", "b"])
    assert [task.task_id for task in source.tasks] == ["a/0", "a/1"]
    with pytest.raises(UserError, match=r"none of the 5 tasks of .*b\.jsonl has one of tasks\.difficulty \['easy'\]"):
        load(list(files), difficulty=["easy"])
    with pytest.raises(UserError, match=r"tasks\.difficulty \['odd'\]: they have easy, hard$"):
        load(files[0], difficulty=["odd"])


def test_an_id_in_two_sources_is_refused(files, tmp_path):
    copy = shutil.copy(files[1], tmp_path / "c.jsonl")
    with pytest.raises(UserError, match=r"task_id 'b/0' is in .*b\.jsonl and .*c\.jsonl"):
        load([files[1], str(copy)])
