"""The index says what the folders say, whatever happened to either."""

import fcntl
import shutil
import sqlite3

import pytest

from rlvr_cpp.adapters.registry import changes
from rlvr_cpp.adapters.registry import index as registry_index
from rlvr_cpp.adapters.registry.index import opened, rebuild
from rlvr_cpp.adapters.registry.versions import Status, Transition, Version, named, read_version, settled, write_version
from rlvr_cpp.errors import UserError
from tests.rlvr_cpp.adapters.registry.shelves import record, registered, statuses


@pytest.fixture
def root(tmp_path):
    """Two versions, the first active."""
    root = registered(tmp_path / "registry", "one", "two")
    changes.promote(root, "demo", "v1", record("one", 40), record(None, 20))
    return root


def test_a_lost_index_comes_back_by_itself(root):
    (root / "index.sqlite").unlink()
    assert statuses(root) == {1: "active", 2: "draft"}


@pytest.mark.parametrize("damage", [b"this is no database, but as long as a header of one would be" * 40, b"SQLite format 3\0" + b"\xff" * 8000])  # fmt: skip
def test_a_damaged_index_says_what_to_do_and_loses_nothing(root, damage):
    (root / "index.sqlite").write_bytes(damage)
    with pytest.raises(UserError, match=r"index.sqlite cannot be used .*registry rebuild"):
        statuses(root)
    assert [version.status for version in rebuild(root)] == ["active", "draft"]
    assert statuses(root) == {1: "active", 2: "draft"}


def test_a_rebuilt_index_is_the_one_that_was_there(root):
    with opened(root) as index:
        before = index.versions()
    assert rebuild(root) == before


def test_a_version_folder_may_be_copied_in_or_taken_out(root):
    elsewhere = registered(root.parent / "other" / "registry", "three", "four", "five")
    shutil.copytree(elsewhere / "demo" / "v0003", root / "demo" / "v0003")
    assert statuses(root) == {1: "active", 2: "draft", 3: "draft"}
    shutil.rmtree(root / "demo" / "v0002")
    assert statuses(root) == {1: "active", 3: "draft"}


def test_a_folder_under_another_name_is_not_taken_for_another_version(root):
    shutil.copytree(root / "demo" / "v0002", root / "demo" / "v0007")
    with pytest.raises(UserError, match="is the state of demo@v2"):
        statuses(root)


def test_a_damaged_state_names_its_file(root):
    (root / "demo" / "v0002" / "state.json").write_text("{")
    with pytest.raises(UserError, match=r"v0002/state.json cannot be read .*restore it"):
        statuses(root)


def test_a_promotion_that_was_cut_off_is_finished_by_the_next_who_looks(root):
    version = read_version(root / "demo" / "v0002")
    step = Transition(sequence=4, when="2026-11-27T10:00:00+00:00", who="me@here", before="draft", after="active")
    write_version(root, version.then(step))  # and nothing else: the process is gone
    assert statuses(root) == {1: "archived", 2: "active"}
    archival = read_version(root / "demo" / "v0001").history[-1]
    assert (archival.sequence, archival.when, archival.who, archival.reason) == (5, step.when, step.who, "demo@v2 became active")  # fmt: skip


def test_without_a_registry_one_is_told_so(tmp_path):
    with pytest.raises(UserError, match="there is no registry in"):
        statuses(tmp_path / "nowhere")


def test_who_holds_the_lock_too_long_is_told_of(root, monkeypatch):
    monkeypatch.setattr(registry_index, "PATIENCE", 0.0)
    with (root / ".lock").open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another process has held"):
            statuses(root)


def test_the_index_itself_refuses_two_active_versions_of_a_base(root):
    connection = sqlite3.connect(root / "index.sqlite")
    with pytest.raises(sqlite3.IntegrityError), connection:
        connection.execute("UPDATE versions SET status = 'active'")
    connection.close()


def version(number: int, base: str, *steps: tuple[int, Status]) -> Version:
    history = tuple(
        Transition(sequence=sequence, when="now", who="me", before=None, after=after) for sequence, after in steps
    )
    return Version(
        project="demo", number=number, adapter_hash="a", artifact_id="b", base_model="tiny", base_hash=base,
        training_method="gspo", history=history,
    )  # fmt: skip


def test_what_became_active_last_stays_and_each_base_is_for_itself():
    versions = [
        version(1, "x", (1, "draft"), (2, "active")),
        version(2, "x", (3, "draft"), (7, "active")),
        version(3, "x", (4, "draft"), (6, "active")),
        version(4, "y", (5, "draft"), (8, "active")),
    ]
    changed = settled(versions)
    assert [(v.number, v.status, v.history[-1].sequence) for v in changed] == [(1, "archived", 9), (3, "archived", 10)]
    others = [v for v in versions if v.number in (2, 4)]
    assert settled([*changed, *others]) == []


def test_names_of_versions():
    drafts = [version(1, "x", (1, "draft")), version(2, "x", (2, "draft"))]
    assert named(drafts, "demo", "candidate").number == 2
    assert named(drafts, "demo", "v1").number == 1
    with pytest.raises(UserError, match="demo has no active version: name one of demo@v1, demo@v2"):
        named(drafts, "demo", "champion")
    with pytest.raises(UserError, match="demo has no version 'v9'"):
        named(drafts, "demo", "v9")
    with pytest.raises(UserError, match="there is no project 'demo'"):
        named([], "demo", "v1")
    both = [version(1, "x", (1, "draft"), (2, "active")), version(2, "y", (3, "draft"), (4, "active"))]
    with pytest.raises(UserError, match="an active version for each of 2 bases"):
        named(both, "demo", "champion")
    with pytest.raises(UserError, match="demo has no draft"):
        named(both, "demo", "candidate")
