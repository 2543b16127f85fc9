"""The registry as a person and a program meet it: the command line and `find_adapter`."""

import re
import subprocess
import sys

import pytest

from rlvr_cpp.adapters.metadata import CONFIG_FILE, METADATA_FILE, WEIGHTS_FILE
from rlvr_cpp.adapters.registry import changes
from rlvr_cpp.adapters.registry.lookup import default_registry, find_adapter
from rlvr_cpp.errors import UserError
from rlvr_cpp.registry import main
from tests.rlvr_cpp.adapters.registry.shelves import record, registered, write_artifact


@pytest.fixture
def root(tmp_path):
    """Two versions, the first active."""
    root = registered(tmp_path / "registry", "one", "two")
    changes.promote(root, "demo", "v1", record("one", 40), record(None, 20))
    return root


@pytest.fixture
def told(root, capsys):
    """Runs a command on that registry; what it printed, or its one sentence of refusal."""

    def run(*words) -> str:
        status = main([*map(str, words), "--registry", str(root)])
        printed = capsys.readouterr()
        assert status == (2 if printed.err else 0)
        assert printed.err.count("\n") <= 1
        return printed.err or printed.out

    return run


def test_the_whole_life_of_an_adapter_on_the_command_line(root, told, tmp_path):
    evidence = tmp_path / "evaluation.json"
    record("three", 50).save(evidence)
    artifact = write_artifact(tmp_path / "three", "three")
    assert told("register", artifact, "--project", "demo") == "demo@v3 is registered, a draft\n"
    assert told("promote", "demo@candidate", "--evidence", evidence).startswith("demo@v3 is active\n")
    assert told("archive", "demo@v3", "--reason", "too slow") == "demo@v3 is archived\n"
    assert told("archive", "demo@v3", "--deprecate") == "demo@v3 is deprecated\n"
    log = told("show", "demo")
    assert re.findall(r"(v\d)  (.*)  by .*@", log) == [
        ("v1", "registered, draft"), ("v2", "registered, draft"), ("v1", "draft -> active"), ("v3", "registered, draft"),
        ("v3", "draft -> active"), ("v1", "active -> archived"), ("v3", "active -> archived"), ("v3", "archived -> deprecated"),
    ]  # fmt: skip
    for words in ("tasks: greedy pass@1 0.667 -> 0.833, +0.167 [", "demo@v3 became active", "too slow"):
        assert words in log


def test_the_list_fits_a_terminal_and_says_what_is_active(told):
    listed = told("list")
    assert all(len(line) <= 80 for line in listed.splitlines())
    (active,) = [line for line in listed.splitlines() if "demo@v1" in line]
    assert active.split()[1:4] == ["active", "gspo", "tiny-cpp"]
    assert told("list", "nothing").count("@") == 0


def test_a_forced_version_is_marked_in_list_and_log(told):
    assert "is active" in told("promote", "demo@v2", "--force", "--reason", "we need it")
    assert "active (forced)" in told("list")
    log = " ".join(told("show", "demo").split())
    assert "FORCED against: there is no evaluation record of demo@v2" in log
    assert "we need it" in log


def test_show_tells_what_a_version_belongs_on(told, root):
    shown = told("show", "demo@v1")
    assert all(len(line) <= 80 for line in shown.splitlines())
    for words in ("active, champion", "gate_proj, up_proj", "8, 16", "ba5eba5eba5eba5e (float32)", "g++ 12.2.0"):
        assert words in shown


def test_compare_names_the_fields_that_differ_and_the_results(told, root, tmp_path):
    other = write_artifact(tmp_path / "three", "three", rank=16, config={"seed": 1, "trainer": {"steps": 25}})
    changes.register(root, other, "demo")
    first = told("compare", "demo@v1", "demo@v3")
    rows = {line.split()[0]: line.split()[1:] for line in first.splitlines() if line.strip()}
    assert rows["rank"] == ["8", "16"]
    assert rows["config.seed"] == ["0", "1"]
    assert "config.trainer.steps" not in rows
    assert "no results to compare: demo@v3" in first
    changes.promote(root, "demo", "v3", record("three", 50))
    assert "greedy pass@1: 0.667 -> 0.833, +0.167 [" in told("compare", "demo@v1", "demo@v3")


def test_export_gives_the_artifact_and_a_card(told, root, tmp_path):
    assert told("export", "demo@v1", tmp_path / "out") == f"demo@v1 is in {tmp_path / 'out'}\n"
    held = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert held == ["README.md", CONFIG_FILE, WEIGHTS_FILE, METADATA_FILE]
    assert find_adapter(str(tmp_path / "out")) == tmp_path / "out"
    assert "| greedy pass@1 | 0.667 |" in (tmp_path / "out" / "README.md").read_text()


def test_rebuild_counts_what_it_found(told, root):
    (root / "index.sqlite").write_bytes(b"garbage" * 1000)
    assert "registry rebuild" in told("list")
    assert told("rebuild") == f"{root}: 2 versions\n"


def test_bad_input_is_one_sentence(told, root, tmp_path):
    record("two", 50).save(tmp_path / "record.json")
    (tmp_path / "edited.json").write_text((tmp_path / "record.json").read_text().replace("true", "false"))
    (tmp_path / "taken").mkdir()
    cases = {
        ("register", tmp_path, "--project", "demo"): "holds no adapter artifact",
        ("promote", "demo", "--evidence", tmp_path / "record.json"): "name the version as well, such as demo@v1",
        ("promote", "demo@v2"): "there is no evaluation record of demo@v2 (--evidence)",
        ("promote", "demo@v2", "--evidence", tmp_path / "none.json"): "cannot be read as an evaluation record",
        ("promote", "demo@v2", "--evidence", tmp_path / "edited.json"): "was changed after it was written",
        ("promote", "demo@v2", "--force"): "reason is missing",
        ("promote", "demo@v9", "--evidence", tmp_path / "record.json"): "demo has no version 'v9'",
        ("show", "nothing"): "there is no project 'nothing'",
        ("export", "demo@v1"): "nothing to export to",
        ("export", "demo@v1", tmp_path / "taken"): "exists already",
    }
    for words, sentence in cases.items():
        said = told(*words)
        assert said.startswith("error: ")
        assert sentence in said


def test_an_adapter_is_found_by_folder_by_project_and_by_version(root, tmp_path):
    folder = root.parent / "artifact-two"
    assert find_adapter(str(folder)) == folder
    assert find_adapter("registry:demo", root) == root / "demo" / "v0001" / "adapter"
    assert find_adapter("registry:demo@champion", root) == root / "demo" / "v0001" / "adapter"
    assert find_adapter("registry:demo@v2", root) == root / "demo" / "v0002" / "adapter"
    assert find_adapter("registry:demo@candidate", root) == root / "demo" / "v0002" / "adapter"


def test_an_adapter_is_found_without_an_index_and_without_leaving_anything(root):
    (root / "index.sqlite").write_bytes(b"garbage")
    (root / ".lock").unlink()
    assert find_adapter("registry:demo", root).is_dir()
    assert not (root / ".lock").exists()


def test_what_is_not_whole_or_not_to_be_used_is_not_found(root):
    changes.archive(root, "demo", "v2")
    changes.archive(root, "demo", "v2", deprecate=True, reason="it leaks")
    with pytest.raises(UserError, match=r"demo@v2 is deprecated \(it leaks\)"):
        find_adapter("registry:demo@v2", root)
    (root / "demo" / "v0001" / "adapter" / WEIGHTS_FILE).write_text("other")
    with pytest.raises(UserError, match=f"{WEIGHTS_FILE} changed"):
        find_adapter("registry:demo", root)
    with pytest.raises(UserError, match="there is no project 'none'"):
        find_adapter("registry:none", root)
    with pytest.raises(UserError, match="holds no adapter artifact"):
        find_adapter(str(root))


def test_the_default_place_follows_xdg(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert default_registry() == tmp_path / "rlvr-cpp" / "registry"
    monkeypatch.delenv("XDG_DATA_HOME")
    assert default_registry().parts[-4:] == (".local", "share", "rlvr-cpp", "registry")


def test_nothing_of_the_registry_needs_torch():
    code = "import sys, rlvr_cpp.registry, rlvr_cpp.adapters.registry.commands; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "False\n"
