"""What MLflow is told of a version, and what is said where it is not installed."""

import sys

import pytest

from rlvr_cpp.adapters.registry import changes
from rlvr_cpp.adapters.registry.mlflow import mirror_of, push
from rlvr_cpp.errors import UserError
from tests.rlvr_cpp.adapters.registry.shelves import adapter_hash, record, registered


@pytest.fixture
def mirror(tmp_path):
    root = registered(tmp_path / "registry", "one")
    version = changes.promote(root, "demo", "v1", record("one", 40), record(None, 20))
    return mirror_of(version, root / version.folder / "adapter", ("champion",))


def test_status_is_a_tag_and_the_active_version_an_alias(mirror):
    assert (mirror.model, mirror.aliases) == ("demo", ("champion",))
    assert mirror.tags["rlvr_cpp.status"] == "active"
    assert mirror.tags["rlvr_cpp.forced"] == "false"


def test_the_tags_lead_back_to_what_was_measured(mirror):
    assert mirror.tags["rlvr_cpp.version"] == "demo@v1"
    assert mirror.tags["rlvr_cpp.adapter_hash"] == adapter_hash("one")
    assert mirror.tags["rlvr_cpp.evaluation_record"] == record("one", 40).record_id
    assert mirror.tags["rlvr_cpp.greedy_pass_at_1"] == "0.6667"
    assert mirror.source.startswith("file:///")
    assert mirror.source.endswith("/demo/v0001/adapter")


def test_without_mlflow_one_is_told_what_to_install(mirror, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(UserError, match=r"--mlflow needs the extra 'mlflow' .*pip install"):
        push(mirror, "sqlite:///nowhere.db")
