"""From the base to an adapter that others load: what docs/registry.md shows, on the smallest of runs."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from rlvr_cpp.adapters.from_run import save_run_artifact
from rlvr_cpp.artifact import main as make_artifact
from rlvr_cpp.errors import UserError
from rlvr_cpp.policy.policy import load_policy
from rlvr_cpp.policy.settings import PolicySettings
from rlvr_cpp.policy.weights import weights_hash
from rlvr_cpp.registry import main
from rlvr_cpp.runs.evidence import EvaluationRecord, task_scores

FEW = ("policy.threads=1", "verifier.workers=2")
MEASURE = (*FEW, "benchmark.limit=6", "samples=0", "k=[1]", "max_new_tokens=64")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("registry")


@pytest.fixture(scope="module")
def run(zygote, folder):
    """Runs a command in the folder, with a registry below it."""

    def command(module: str, *words: object, status: int = 0) -> str:
        data = {"XDG_DATA_HOME": str(folder / "data")}
        ended, said = zygote.run(*words, module=module, folder=folder, environment=data)
        assert ended == status, said
        return said

    return command


@pytest.fixture(scope="module")
def artifact(folder, run):
    """The adapter of a training run of one step."""
    run("rlvr_cpp.gspo", "+recipe=smoke", "hydra.run.dir=runs/gspo", "trainer.steps=1", "evaluation.limit=2", "evaluation.samples=0", *FEW)  # fmt: skip
    made = folder / "adapters" / "first"
    assert make_artifact([str(folder / "runs" / "gspo"), str(made)]) == 0  # torch is loaded here already
    return made


LOAD = """
import sys, transformers
from peft import get_peft_model_state_dict
from rlvr_cpp.adapters.artifact import load_adapter_artifact
from rlvr_cpp.policy.weights import weights_hash
from rlvr_cpp.policy.policy import find_model, know_hybrids
from rlvr_cpp.adapters.registry.lookup import find_adapter

know_hybrids()
base = transformers.AutoModelForCausalLM.from_pretrained(find_model("demo"))
model = load_adapter_artifact(base, find_adapter("registry:demo"))
print(model.active_adapter, weights_hash(get_peft_model_state_dict(model).items()))
"""


def test_base_to_adapter_to_evidence_to_registry_to_a_fresh_process(folder, run, artifact, capsys):
    for name, model in (("base", "demo"), ("first", "adapters/first")):
        run("rlvr_cpp.evaluate", f"model={model}", f"hydra.run.dir=runs/{name}", *MEASURE)
    records = [folder / "runs" / name / "evaluation.json" for name in ("base", "first")]
    base, first = (sum(task_scores(EvaluationRecord.load(path).greedy).values()) for path in records)

    registry = "rlvr_cpp.registry"
    assert run(registry, "register", "adapters/first", "--project", "demo") == "demo@v1 is registered, a draft\n"
    promote = (registry, "promote", "demo@v1", "--evidence", records[1], "--against", records[0], "--min-tasks", "6")
    if first > base:
        run(*promote)
    else:  # one step of training may well change no greedy answer; the rule says so, and force is on record
        assert "not better than the base" in run(*promote, status=2)
        run(*promote, "--force", "--reason", "trained for one step to see the commands work")
    environment = {**os.environ, "XDG_DATA_HOME": str(folder / "data"), "HF_HUB_OFFLINE": "1"}
    fresh = subprocess.run([sys.executable, "-c", LOAD], env=environment, capture_output=True, text=True)
    assert fresh.returncode == 0, fresh.stderr
    loaded = fresh.stdout.split()
    assert loaded == ["default", weights_hash(load_file(artifact / "adapter_model.safetensors").items())]

    def command(*words: str) -> str:
        assert main([*words, "--registry", str(folder / "data" / "rlvr-cpp" / "registry")]) == 0
        return capsys.readouterr().out

    assert "demo@v1" in command("list")
    assert ("FORCED against: not better than the base" in command("show", "demo")) == (first <= base)
    command("export", "demo@v1", str(folder / "out"))
    assert f"| greedy pass@1 | {first / 6:.3f} |" in (folder / "out" / "README.md").read_text()


def test_the_artifact_tells_the_run_that_made_it(folder, artifact):
    fields = json.loads((artifact / "rlvr_adapter.json").read_text())
    assert (fields["training_method"], fields["base_model"], fields["rank"]) == ("gspo", "tiny-hybrid", 8)
    assert fields["config"] == json.loads((folder / "runs" / "gspo" / "run.json").read_text())["config"]
    assert fields["contract"]["compiler"] == "g++"
    assert not (artifact / "training_args.bin").exists()


@pytest.fixture
def copy(folder, artifact, tmp_path):
    """The run again, and a function that writes its record with a change."""
    (tmp_path / "run").mkdir()
    shutil.copytree(folder / "runs" / "gspo" / "adapter", tmp_path / "run" / "adapter")

    def change(edit) -> Path:
        record = json.loads((folder / "runs" / "gspo" / "run.json").read_text())
        edit(record)
        (tmp_path / "run" / "run.json").write_text(json.dumps(record))
        return tmp_path / "run"

    return change


CHANGED = {
    "is interrupted, not finished: go on with it by resume=": lambda record: record.update(status="interrupted"),
    "did not note contract: it is no training run of this version": lambda record: record["results"].pop("contract"),
    "did not note base_sha256: it is no training run": lambda record: record["results"].pop("base_sha256"),
}


@pytest.mark.parametrize("words", CHANGED)
def test_what_the_run_does_not_tell_is_refused(copy, tmp_path, words):
    with pytest.raises(UserError, match=re.escape(words)):
        save_run_artifact(copy(CHANGED[words]), tmp_path / "artifact")
    assert not (tmp_path / "artifact").exists()


def test_damaged_weights_are_refused(copy, tmp_path):
    run = copy(lambda record: None)
    (run / "adapter" / "adapter_model.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{nothing")
    with pytest.raises(UserError, match="is damaged"):
        save_run_artifact(run, tmp_path / "artifact")
    assert not (tmp_path / "artifact").exists()


def test_packing_a_run_needs_neither_torch_nor_a_compiler(folder, artifact, tmp_path):
    code = (
        "import sys; from rlvr_cpp.artifact import main; status = main(sys.argv[1:]);"
        "print(status, sorted({'torch', 'transformers', 'peft'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, str(folder / "runs" / "gspo"), str(tmp_path / "packed")]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PATH": "/nowhere"})
    assert done.stdout.splitlines()[-1:] == ["0 []"], done.stderr
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        assert (tmp_path / "packed" / name).read_bytes() == (artifact / name).read_bytes()


def test_the_run_names_the_base_as_it_is_loaded(folder, artifact):
    noted = json.loads((folder / "runs" / "gspo" / "run.json").read_text())["results"]
    loaded = load_policy("demo", PolicySettings("float32", None, "cpu", None, "auto", 1)).model
    assert noted["base_sha256"] == weights_hash(loaded.named_parameters())
    assert (noted["base_dtype"], noted["quantization"], noted["parents"]) == ("float32", None, [])


def test_a_run_is_no_artifact_by_itself(folder, artifact, capsys):
    place = folder / "runs" / "gspo" / "adapter"
    assert main(["register", str(place), "--project", "demo", "--registry", str(folder / "other")]) == 2
    assert capsys.readouterr().err == (
        f"error: {place} holds no adapter artifact, rlvr_adapter.json is missing: make it anew with "
        "`python -m rlvr_cpp.artifact`\n"
    )
