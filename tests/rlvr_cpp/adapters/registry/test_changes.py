"""What can happen to a version, and what cannot."""

import json
import os
import shutil

import pytest

from rlvr_cpp.adapters.metadata import WEIGHTS_FILE
from rlvr_cpp.adapters.registry import changes
from rlvr_cpp.adapters.registry.gate import Rule, decide
from rlvr_cpp.adapters.registry.index import opened
from rlvr_cpp.adapters.registry.versions import checked_adapter, read_versions
from rlvr_cpp.errors import UserError
from tests.rlvr_cpp.adapters.registry.shelves import adapter_hash, record, registered, statuses, write_artifact


@pytest.fixture
def root(tmp_path):
    """Three drafts."""
    return registered(tmp_path / "registry", "one", "two", "three")


def promote(root, number: int, word: str, passed: int, against=None, **options):
    return changes.promote(root, "demo", f"v{number}", record(word, passed), against, **options)


def test_versions_count_up_by_project(root):
    registered(root, "four", project="other")
    assert statuses(root) == {1: "draft", 2: "draft", 3: "draft"}
    assert statuses(root, "other") == {1: "draft"}
    assert (root / "demo" / "v0003" / "adapter" / WEIGHTS_FILE).read_text() == "three"


def test_what_is_registered_stays_when_its_source_goes(root):
    source = root.parent / "artifact-one"
    shutil.rmtree(source)
    assert checked_adapter(root, read_versions(root, "demo")[0]).is_dir()


def test_the_same_weights_are_not_registered_twice(root):
    with pytest.raises(UserError, match="these weights are demo@v2 already"):
        changes.register(root, root.parent / "artifact-two", "demo")
    assert len(statuses(root)) == 3


def test_a_tampered_artifact_is_not_registered_and_leaves_nothing(root):
    artifact = write_artifact(root.parent / "bad", "bad")
    (artifact / WEIGHTS_FILE).write_text("worse")
    with pytest.raises(UserError, match=f"{WEIGHTS_FILE} changed after the artifact was made"):
        changes.register(root, artifact, "demo")
    assert sorted(path.name for path in (root / "demo").iterdir()) == ["v0001", "v0002", "v0003"]


@pytest.mark.parametrize("project", ["../up", "", "a/b", ".hidden"])
def test_a_project_is_a_plain_name(root, project):
    with pytest.raises(UserError, match="project is"):
        changes.register(root, root.parent / "artifact-one", project)


def test_a_promotion_archives_what_it_replaces(root):
    promote(root, 1, "one", 40, record(None, 20))
    promote(root, 3, "three", 50)
    assert statuses(root) == {1: "archived", 2: "draft", 3: "active"}


def test_the_log_says_who_when_why_and_from_what_to_what(root):
    promote(root, 1, "one", 40, record(None, 20))
    promote(root, 3, "three", 50)
    old, _, new = read_versions(root, "demo")
    assert [(step.sequence, step.before, step.after) for step in old.history] == [(1, None, "draft"), (4, "draft", "active"), (6, "active", "archived")]  # fmt: skip
    assert [(step.sequence, step.before, step.after) for step in new.history] == [(3, None, "draft"), (5, "draft", "active")]  # fmt: skip
    assert old.history[-1].reason == "demo@v3 became active"
    assert all("@" in step.who and step.when.endswith("+00:00") for step in (*old.history, *new.history))
    assert new.activation.evidence["new"] == record("three", 50).record_id
    assert new.activation.evidence["old"] == record("one", 40).record_id


def test_an_archived_version_can_come_back(root):
    promote(root, 1, "one", 40, record(None, 20))
    promote(root, 2, "two", 50)
    promote(root, 1, "one", 50)
    assert statuses(root) == {1: "active", 2: "archived", 3: "draft"}


def test_each_base_has_an_active_version_of_its_own(root):
    other = "0dd" + "0" * 61
    registered(root, "four", base_hash=other)
    promote(root, 1, "one", 40, record(None, 20))
    changes.promote(root, "demo", "v4", record("four", 40, model_hash=other), record(None, 20, model_hash=other))
    assert statuses(root) == {1: "active", 2: "draft", 3: "draft", 4: "active"}


def test_a_refusal_names_the_version_and_changes_nothing(root):
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file() and path.suffix == ".json"}
    with pytest.raises(UserError, match="demo@v1 stays draft: not better than the base"):
        promote(root, 1, "one", 20, record(None, 20))
    assert before == {path: path.read_bytes() for path in root.rglob("*") if path.is_file() and path.suffix == ".json"}


def test_without_a_record_of_the_base_the_first_adapter_waits(root):
    with pytest.raises(UserError, match=r"no evaluation record of the base model \(--against\)"):
        promote(root, 1, "one", 40)


def test_too_few_tasks(root):
    with pytest.raises(UserError, match="fewer than min_tasks 100"):
        promote(root, 1, "one", 40, record(None, 20), rule=Rule(min_tasks=100))


def test_force_needs_a_reason(root):
    with pytest.raises(UserError, match="reason is missing"):
        changes.promote(root, "demo", "v1", None, force=True)
    assert statuses(root)[1] == "draft"


def test_a_forced_promotion_is_visible_with_all_that_spoke_against_it(root):
    version = promote(root, 1, "one", 10, record(None, 20), force=True, reason="the demo is tomorrow")
    assert version.status == "active"
    assert version.forced
    assert version.activation.reason == "the demo is tomorrow"
    assert version.activation.overridden[0].startswith("not better than the base")


def test_after_a_promotion_without_a_record_the_next_one_has_to_bring_both(root):
    changes.promote(root, "demo", "v1", None, force=True, reason="by hand")
    with pytest.raises(UserError, match=r"no evaluation record of demo@v1 \(--against\)"):
        promote(root, 2, "two", 50)
    promote(root, 2, "two", 50, record("one", 40))
    assert statuses(root) == {1: "archived", 2: "active", 3: "draft"}


def test_a_record_of_another_adapter_is_no_record_of_this_one_even_if_forced(root):
    version = changes.promote(root, "demo", "v1", record("two", 60), record(None, 20), force=True, reason="by hand")
    assert "adapter_hash of the evidence is not that of demo@v1" in version.activation.overridden
    assert changes.stored_record(root, version) is None


def test_of_two_promotions_at_once_the_second_is_told_which_was_first(root, monkeypatch):
    def slowly(version, *arguments):
        decision = decide(version, *arguments)
        if version.number == 1:  # while v1 is being weighed, v2 becomes active
            promote(root, 2, "two", 40, record(None, 20))
        return decision

    monkeypatch.setattr(changes, "decide", slowly)
    with pytest.raises(UserError, match=r"demo@v1 stays draft: meanwhile demo@v2 became active \(by .*@"):
        promote(root, 1, "one", 40, record(None, 20))
    assert statuses(root) == {1: "draft", 2: "active", 3: "draft"}


def test_a_version_that_was_archived_meanwhile_is_not_promoted(root, monkeypatch):
    def slowly(*arguments):
        changes.archive(root, "demo", "v1")
        return decide(*arguments)

    monkeypatch.setattr(changes, "decide", slowly)
    with pytest.raises(UserError, match="was changed meanwhile"):
        promote(root, 1, "one", 40, record(None, 20))
    assert statuses(root)[1] == "archived"


def test_a_tampered_version_is_not_promoted(root):
    (root / "demo" / "v0001" / "adapter" / WEIGHTS_FILE).write_text("other")
    with pytest.raises(UserError, match=f"{WEIGHTS_FILE} changed"):
        promote(root, 1, "one", 40, record(None, 20))


def test_an_exchanged_artifact_is_found_though_it_is_whole_in_itself(root):
    place = root / "demo" / "v0001" / "adapter"
    shutil.rmtree(place)
    write_artifact(place, "other")
    with pytest.raises(UserError, match="holds another artifact than demo@v1 was registered with"):
        promote(root, 1, "other", 40, record(None, 20))


def test_the_evidence_is_kept_beside_the_version(root):
    promote(root, 1, "one", 40, record(None, 20))
    kept = {path.stem for path in (root / "demo" / "v0001" / "evidence").iterdir()}
    assert kept == {record("one", 40).record_id, record(None, 20).record_id}
    assert changes.stored_record(root, read_versions(root, "demo")[0]) == record("one", 40)


def test_statuses_end_where_they_should(root):
    with pytest.raises(UserError, match="demo@v1 is draft: only archived can become deprecated"):
        changes.archive(root, "demo", "v1", deprecate=True)
    changes.archive(root, "demo", "v1")
    with pytest.raises(UserError, match="demo@v1 is archived: only draft or active can become archived"):
        changes.archive(root, "demo", "v1")
    version = changes.archive(root, "demo", "v1", deprecate=True, reason="leaks")
    assert [step.after for step in version.history] == ["draft", "archived", "deprecated"]
    with pytest.raises(UserError, match="demo@v1 is deprecated: only a draft or an archived version can be promoted"):
        promote(root, 1, "one", 40, record(None, 20))


def test_the_active_version_is_not_promoted_again(root):
    promote(root, 1, "one", 40, record(None, 20))
    with pytest.raises(UserError, match="demo@v1 is active"):
        promote(root, 1, "one", 50)


def test_drafts_of_processes_that_are_gone_are_removed_and_others_are_not(root):
    for name, age in (("gone", 2 * changes.ABANDONED), ("at-work", 60)):
        draft = root / "demo" / f".draft-{name}"
        draft.mkdir()
        os.utime(draft, (draft.stat().st_mtime - age,) * 2)
    registered(root, "four")
    assert [path.name for path in (root / "demo").glob(".draft-*")] == [".draft-at-work"]


def test_the_state_is_plain_json(root):
    state = json.loads((root / "demo" / "v0002" / "state.json").read_text())
    assert (state["project"], state["number"], state["adapter_hash"]) == ("demo", 2, adapter_hash("two"))


def test_nothing_is_left_half_written(root):
    promote(root, 1, "one", 40, record(None, 20))
    assert [path for path in root.rglob("*") if path.name.endswith(".partial") or ".draft" in path.name] == []
    with opened(root) as index:
        assert len(index.versions()) == 3
