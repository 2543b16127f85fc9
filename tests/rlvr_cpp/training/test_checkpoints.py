"""A checkpoint is whole or not there, at whatever call its writing or its removal ends."""

import os
import shutil
from pathlib import Path

import pytest
import torch

from rlvr_cpp.policy.weights import weights_hash
from rlvr_cpp.training.checkpoints import (
    find_checkpoints,
    last_whole,
    open_draft,
    publish,
    read_state,
    remove_old,
    write_state,
)


class Killed(BaseException):
    """The process ends here."""


def written(run: Path, step: int, word: str = "whole") -> Path:
    place = run / "checkpoints" / f"checkpoint-{step}"
    draft = open_draft(place)
    (draft / "adapter").mkdir()
    (draft / "adapter" / "weights").write_text(word)
    write_state(draft, {"word": word})
    return place


def saved(run: Path, step: int, word: str = "whole") -> Path:
    place = written(run, step, word)
    publish(place.parent / ".partial" / place.name, place)
    return place


def words(run: Path) -> dict[str, tuple[str, str]]:
    """What each checkpoint holds; a file that is missing is an error."""
    return {
        place.name: ((place / "adapter" / "weights").read_text(), read_state(place)["word"])
        for place in find_checkpoints(run)
    }


def die_at(monkeypatch, owner, name: str, call: int) -> None:
    """End the process at the n-th call of a function, from 0, before it does anything."""
    real, seen = getattr(owner, name), []

    def maybe(*args, **kwargs):
        seen.append(name)
        if len(seen) > call:
            raise Killed
        return real(*args, **kwargs)

    monkeypatch.setattr(owner, name, maybe)


def test_a_published_checkpoint_holds_all_of_its_draft(tmp_path):
    saved(tmp_path, 4)
    assert words(tmp_path) == {"checkpoint-4": ("whole", "whole")}


def test_checkpoints_are_ordered_by_number(tmp_path):
    for step in (10, 9, 100):
        saved(tmp_path, step)
    assert [place.name for place in find_checkpoints(tmp_path)] == ["checkpoint-9", "checkpoint-10", "checkpoint-100"]


def test_a_run_without_checkpoints_has_none(tmp_path):
    assert find_checkpoints(tmp_path) == []


def test_neither_a_draft_nor_another_folder_is_a_checkpoint(tmp_path):
    written(tmp_path, 3)
    (tmp_path / "checkpoints" / "checkpoint-best").mkdir()
    assert find_checkpoints(tmp_path) == []


def test_a_new_draft_holds_nothing_of_an_abandoned_one(tmp_path):
    abandoned = written(tmp_path, 3)
    draft = open_draft(abandoned)
    assert list(draft.iterdir()) == []
    assert [path.name for path in draft.parent.iterdir()] == ["checkpoint-3"]


ENDS = [(os, "fsync", call) for call in range(6)] + [(Path, "rename", 0)]


@pytest.mark.parametrize(("owner", "name", "call"), ENDS)
def test_an_interrupted_publish_leaves_the_old_state(tmp_path, monkeypatch, owner, name, call):
    saved(tmp_path, 1)
    place = written(tmp_path, 2)
    with monkeypatch.context() as patch:
        die_at(patch, owner, name, call)
        with pytest.raises(Killed):
            publish(place.parent / ".partial" / place.name, place)
    late = name == "fsync" and call == 5  # the flush of the folder that already has the new name
    assert words(tmp_path).keys() == {"checkpoint-1", "checkpoint-2"} if late else {"checkpoint-1"}
    saved(tmp_path, 2)
    assert words(tmp_path) == {"checkpoint-1": ("whole", "whole"), "checkpoint-2": ("whole", "whole")}


@pytest.mark.parametrize(("owner", "name", "call"), [(Path, "rename", 0), (shutil, "rmtree", 1), (Path, "rename", 1)])
def test_what_is_replaced_is_the_old_one_whole_the_new_one_whole_or_gone(tmp_path, monkeypatch, owner, name, call):
    saved(tmp_path, 1)
    saved(tmp_path, 2, "old")
    place = written(tmp_path, 2, "new")
    with monkeypatch.context() as patch:
        die_at(patch, owner, name, call)
        with pytest.raises(Killed):
            publish(place.parent / ".partial" / place.name, place)
    held = words(tmp_path)
    assert held.pop("checkpoint-1") == ("whole", "whole")
    assert list(held.values()) in ([], [("old", "old")], [("new", "new")])


def test_the_last_two_are_kept(tmp_path):
    for step in (1, 2, 3, 4):
        saved(tmp_path, step)
        remove_old(tmp_path)
    assert words(tmp_path).keys() == {"checkpoint-3", "checkpoint-4"}


def test_a_half_removed_checkpoint_is_none(tmp_path, monkeypatch):
    for step in (1, 2, 3):
        saved(tmp_path, step)
    with monkeypatch.context() as patch:
        die_at(patch, os, "rmdir", 0)
        with pytest.raises(Killed):
            remove_old(tmp_path)
    assert words(tmp_path).keys() == {"checkpoint-2", "checkpoint-3"}
    saved(tmp_path, 4)
    remove_old(tmp_path)
    assert words(tmp_path).keys() == {"checkpoint-3", "checkpoint-4"}
    assert not list((tmp_path / "checkpoints" / ".partial").iterdir())


def test_the_hash_of_weights_tells_names_shapes_types_and_bits_apart():
    tensor = torch.arange(4, dtype=torch.float32)
    known = weights_hash([("a", tensor)])
    assert known == weights_hash([("a", tensor.clone())])
    others = [
        ("b", tensor),
        ("a", tensor.reshape(2, 2)),
        ("a", tensor.double()),
        ("a", torch.nextafter(tensor, tensor + 1)),
    ]
    assert len({known, *(weights_hash([other]) for other in others)}) == 5


def test_the_hash_of_weights_does_not_depend_on_their_order():
    named = [("a", torch.zeros(2)), ("b", torch.ones(2, dtype=torch.bfloat16))]
    assert weights_hash(named) == weights_hash(reversed(named))


DAMAGES = {
    "a file that is cut off": lambda place: (place / "adapter" / "weights").write_text("who"),
    "a bit that changed": lambda place: (place / "adapter" / "weights").write_text("Whole"),
    "a file that is gone": lambda place: (place / "adapter" / "weights").unlink(),
    "a state that is gone": lambda place: (place / "rlvr_state.json").unlink(),
    "an empty state": lambda place: (place / "rlvr_state.json").write_text(""),
    "hashes that are gone": lambda place: (place / "sha256.json").unlink(),
    "hashes that are no JSON": lambda place: (place / "sha256.json").write_text('{"adapter'),
    "hashes that are no object": lambda place: (place / "sha256.json").write_text("[]"),
    "nothing in it": lambda place: shutil.rmtree(place) or place.mkdir(),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before_it(tmp_path, damage):
    kept, last = saved(tmp_path, 2), saved(tmp_path, 4)
    assert last_whole(tmp_path) == (last, [])
    DAMAGES[damage](last)
    place, problems = last_whole(tmp_path)
    assert place == kept
    assert len(problems) == 1
    assert problems[0].startswith("checkpoint-4: ")
    DAMAGES[damage](kept)
    assert last_whole(tmp_path)[0] is None
