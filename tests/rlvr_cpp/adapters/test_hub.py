"""Pushing an artifact: what is sent, up to the call of the real client, and one sentence where it cannot be."""

import time
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import create_autospec

import huggingface_hub
import pytest
import yaml

from rlvr_cpp import UserError
from rlvr_cpp.adapters.hub import push_artifact
from rlvr_cpp.artifact import main
from tests.rlvr_cpp.adapters.registry.shelves import record, write_artifact

PLACE = "http://hub/me/first"


@pytest.fixture
def hub(monkeypatch):
    """The client with its real signatures, which reaches nothing."""
    api = create_autospec(huggingface_hub.HfApi, instance=True)
    api.endpoint = "http://127.0.0.1:9"
    api.create_repo.return_value = create_autospec(huggingface_hub.RepoUrl, instance=True, repo_id="me/first")
    api.create_commit.return_value.commit_url = f"{PLACE}/commit/1"
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: api)
    monkeypatch.setattr(huggingface_hub, "get_session", lambda: SimpleNamespace(head=lambda url, timeout: None))
    return api


def sent(hub) -> dict[str, bytes]:
    _, operations = hub.create_commit.call_args.args
    content = {one.path_in_repo: one.path_or_fileobj for one in operations}
    return {name: c if isinstance(c, bytes) else Path(c).read_bytes() for name, c in content.items()}


def test_three_files_and_a_card_are_sent_and_nothing_else(hub, tmp_path):
    artifact = write_artifact(tmp_path / "artifact", "one", base_model="someone/base-7b")
    (artifact / "optimizer.pt").write_bytes(b"a pickle")
    assert push_artifact(artifact, "me/first", private=True) == f"{PLACE}/commit/1"
    hub.create_repo.assert_called_once_with("me/first", private=True, exist_ok=True)
    assert hub.create_commit.call_args.args[0] == "me/first"
    files = sent(hub)
    card = files.pop("README.md").decode()
    assert sorted(files) == ["adapter_config.json", "adapter_model.safetensors", "rlvr_adapter.json"]
    assert all(files[name] == (artifact / name).read_bytes() for name in files)
    head = yaml.safe_load(card.split("---\n")[1])
    assert (head["base_model"], head["base_model_relation"]) == ("someone/base-7b", "adapter")
    assert "# first" in card


def test_a_base_that_is_a_folder_is_no_base_for_the_hub(hub, tmp_path):
    push_artifact(write_artifact(tmp_path / "artifact", "one", base_model="/models/base"), "me/first")
    head = yaml.safe_load(sent(hub)["README.md"].decode().split("---\n")[1])
    assert not {"base_model", "base_model_relation"} & head.keys()


def test_the_card_shows_the_evidence_of_this_adapter_alone(hub, tmp_path):
    artifact = write_artifact(tmp_path / "artifact", "one")
    evidence = tmp_path / "evaluation.json"
    record("one", 45).save(evidence)
    push_artifact(artifact, "me/first", evidence=evidence)
    assert "| greedy pass@1 | 0.750 |" in sent(hub)["README.md"].decode()
    record("two", 45).save(evidence)
    with pytest.raises(UserError, match="was measured with another adapter"):
        push_artifact(artifact, "me/first", evidence=evidence)


def test_what_is_no_whole_artifact_is_never_sent(hub, tmp_path, capsys):
    artifact = write_artifact(tmp_path / "artifact", "one")
    (artifact / "adapter_model.safetensors").write_text("two")
    assert main([str(artifact), "--push", "me/first"]) == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert not hub.create_repo.called


def test_a_refusal_of_the_hub_is_one_sentence(hub, tmp_path):
    hub.create_repo.side_effect = huggingface_hub.errors.LocalTokenNotFoundError("no token\nat all")
    with pytest.raises(UserError, match=r"cannot be pushed to 'me/first' \(no token\): log in with `hf auth login`"):
        push_artifact(write_artifact(tmp_path / "artifact", "one"), "me/first")


def test_offline_it_is_one_sentence_at_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    artifact, began = write_artifact(tmp_path / "artifact", "one"), time.monotonic()
    assert main([str(artifact), "--push", "me/first"]) == 2
    assert time.monotonic() - began < 5
    told = capsys.readouterr().err
    assert told.startswith(f"error: {artifact} cannot be pushed to 'me/first' (")
    assert told.count("\n") == 1


def test_an_artifact_without_a_place_is_one_sentence(tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    assert (
        capsys.readouterr().err == "error: neither a folder for the artifact nor --push is given: say where it goes\n"
    )
