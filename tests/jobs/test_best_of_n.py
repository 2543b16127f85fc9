"""The command as a person runs it: from the command line, in an empty folder, with a real compiler."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from rlvr_cpp import UserError
from rlvr_cpp.search.config import load

FEW = ("n=3", "limit=3", "split=train", "dataset=true", "max_new_tokens=96", "temperature=1.5")


def best_of_n(zygote, folder: Path, *arguments: str) -> tuple[int, str]:
    return zygote.run(*arguments, module="rlvr_cpp.best_of_n", folder=folder)


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def finished(zygote, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    status, said = best_of_n(zygote, folder, *FEW)
    assert status == 0, said
    (run,) = (folder / "runs" / "best_of_n").iterdir()
    return said, run


def test_the_run_folder_holds_everything(finished):
    said, run = finished
    held = {path.name for path in run.iterdir()}
    assert held == {"run.json", "candidates.jsonl", "report.md", "best_of_n.png", "dataset"}
    record = json.loads((run / "run.json").read_text())
    assert record["status"] == "finished"
    summary = record["results"]["best_of_n"]
    assert summary["tasks"] == 3
    assert summary["pass_at_1"]["mean"] <= summary["pass_at_n"]["mean"]
    assert "best of 3, chosen by public tests" in said
    assert "| pass@3, a perfect choice |" in (run / "report.md").read_text()


def test_every_candidate_is_kept_with_both_verdicts(finished):
    outcomes = rows(finished[1] / "candidates.jsonl")
    assert [len(outcome["found"]["samples"]) for outcome in outcomes] == [3, 3, 3]
    assert all(len(outcome["hidden"]) == 3 for outcome in outcomes)
    assert len(rows(finished[1] / "dataset" / "train.jsonl")) == 3


def test_a_run_that_was_killed_redoes_only_what_is_missing(zygote, finished, tmp_path):
    killed = tmp_path / "killed"
    shutil.copytree(finished[1], killed)
    whole = (killed / "candidates.jsonl").read_text()
    first, second, _ = whole.splitlines(keepends=True)
    kept = json.loads(first)
    kept["found"]["seconds"] = 1234.5  # would be another if it were done again
    (killed / "candidates.jsonl").write_text(json.dumps(kept) + "\n" + second[:100])
    record = json.loads((killed / "run.json").read_text())
    (killed / "run.json").write_text(json.dumps({**record, "status": "running", "ended": None}))
    status, said = best_of_n(zygote, tmp_path, f"resume={killed}")
    assert status == 0, said
    again, before = rows(killed / "candidates.jsonl"), rows(finished[1] / "candidates.jsonl")
    assert again[0]["found"]["seconds"] == 1234.5
    assert [texts(outcome) for outcome in again] == [texts(outcome) for outcome in before]
    assert (killed / "dataset" / "train.jsonl").read_text() == (finished[1] / "dataset" / "train.jsonl").read_text()
    record = json.loads((killed / "run.json").read_text())
    assert record["status"] == "finished"
    assert len(record["resumed"]) == 1


def texts(outcome: dict) -> list[tuple]:
    return [(sample["code"], sample["reward"], sample["seed"]) for sample in outcome["found"]["samples"]]


def test_bad_input_is_one_sentence_and_leaves_nothing(zygote, tmp_path):
    status, said = best_of_n(zygote, tmp_path, "n=0", "split=nowhere")
    assert status == 2
    assert said == (
        "error: split is 'nowhere': it must be one of held_out, train, all; n is 0: it must be at least 1\n"
    )
    assert not (tmp_path / "runs").exists() or not any((tmp_path / "runs" / "best_of_n").iterdir())


def job(**changes):
    settings = {
        "seed": 0, "model": "demo", "adapter_from": None, "resume": None, "n": 2, "temperature": 1.0, "max_new_tokens": 8,
        "batch_size": None, "length": "code", "budget_s": None, "split": "train", "limit": None, "dataset": False,
        "policy": {"dtype": "float32", "quantization": None, "device": "cpu", "attn_implementation": None, "prompt_format": "auto", "threads": 1},
        "tasks": {"source": None, "config": None, "split": None, "held_out_fraction": 0.2, "min_tier": "marker"},
        "verifier": {"compiler": "g++", "extra_flags": [], "timeout": 2.0, "compile_timeout": 9.0, "workers": None, "cache": None},
        "sandbox": {"require": "any"},
        "reward": {"kind": "tiers", "sanitizer_fraction": 0.0, "tidy_fraction": 0.0},
    }  # fmt: skip
    return load({**settings, **changes})


SHAPED = {"kind": "shaped", "sanitizer_fraction": 0.1, "tidy_fraction": 0.0}
BAD: dict[str, Any] = {
    "limit is 0": {"limit": 0},
    "reward.kind is 'gold'": {"reward": {**SHAPED, "kind": "gold"}},
    "reward.kind is 'shaped' with budget_s 5": {"reward": SHAPED, "budget_s": 5.0},
    "dataset is true with split 'held_out'": {"dataset": True, "split": "held_out"},
    "config key 'n'": {"n": "many"},
}


@pytest.mark.parametrize("words", BAD)
def test_keys_that_make_no_sense_together_are_named(words):
    assert job().n == 2
    with pytest.raises(UserError, match=words):
        job(**BAD[words])
