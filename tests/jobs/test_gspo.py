"""The job as a person runs it: from the command line, in an empty folder, with a real compiler."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SMOKE = ("+recipe=smoke", "policy.threads=1", "verifier.workers=1")


def gspo(folder: Path, *arguments: str, **options) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rlvr_cpp.gspo", *arguments]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment, **options)


def run_folder(folder: Path) -> Path:
    (found,) = (folder / "runs" / "gspo").iterdir()
    return found


@pytest.fixture(scope="module")
def finished(zygote, tmp_path_factory):
    """What a run wrote, and its folder."""
    folder = tmp_path_factory.mktemp("finished")
    few = ("evaluation.every=1", "evaluation.limit=6", "trainer.save_every=1")
    status, said = zygote.run(*SMOKE, *few, folder=folder)
    assert status == 0, said
    return said, run_folder(folder)


def test_one_line_a_step_that_fits_a_terminal(finished):
    lines = finished[0].splitlines()
    header = next(line for line in lines if line.lstrip().startswith("step"))
    for word in ("reward", "comp", "pass", "groups", "kl", "clip", "grad", "sec: gen wait  upd  sum|judged"):
        assert word in header
    rows = [line for line in lines if line.lstrip().startswith(("1/2 ", "2/2 "))]
    assert [row.split()[0] for row in rows] == ["1/2", "2/2"]
    assert all(len(line) <= 80 for line in (header, *rows))


def test_everything_is_in_the_run_folder(finished):
    held = {path.name for path in finished[1].iterdir()}
    assert {
        "run.json", "report.html", "curve.png", "metrics.jsonl", "completions.jsonl", "evaluation_before.jsonl",
        "evaluation_after.jsonl", "tensorboard", "adapter", "checkpoints", ".hydra",
    } <= held  # fmt: skip


def test_the_record_makes_the_numbers_believable(finished):
    record = json.loads((finished[1] / "run.json").read_text())
    assert record["status"] == "finished"
    assert record["seed"] == 0
    assert "g++" in record["compiler"]
    assert record["packages"]["trl"].startswith("1.16")
    assert record["config"]["trainer"]["steps"] == 2
    measures = [row["measure"] for row in record["results"]["comparison"]]
    assert measures == ["greedy pass@1", "sampled pass@1"]
    assert [step for step, _ in record["results"]["greedy_by_step"]] == [0, 1, 2]


def test_the_best_weights_by_held_out_pass_at_1_are_kept(finished):
    results = json.loads((finished[1] / "run.json").read_text())["results"]
    rates = dict(results["greedy_by_step"])
    best = results["best"]
    assert best["greedy_pass_at_1"] == max(rates.values()) == rates[best["step"]]
    kept = finished[1] / "checkpoints" / "best" / "adapter_model.safetensors"
    assert kept.exists() == (best["step"] > 0)
    if best["step"] == 2:
        assert kept.read_bytes() == (finished[1] / "adapter" / "adapter_model.safetensors").read_bytes()


def test_a_run_that_nothing_makes_better_ends_early_and_stays_ended(zygote, tmp_path):
    few = (*SMOKE, "trainer.steps=3", "evaluation.limit=2", "evaluation.samples=0", "evaluation.every=1")
    status, said = zygote.run(*few, "evaluation.patience=1", "trainer.learning_rate=0", folder=tmp_path)
    assert status == 0, said
    assert "stopped after step 1: no evaluation was better" in said
    run = run_folder(tmp_path)
    assert [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()] == [1]
    assert not (run / "checkpoints" / "best").exists()
    status, said = zygote.run(f"resume={run}", folder=tmp_path)
    assert status == 0, said
    assert "resume  after step 1" in said
    assert "with nothing left to train" in said


def test_metrics_are_one_json_object_a_step(finished):
    rows = [json.loads(line) for line in (finished[1] / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2]
    wanted = {
        "reward",
        "compile_rate",
        "pass_rate",
        "kept_groups",
        "kl",
        "clip_fraction",
        "grad_norm",
        "generate",
    }
    assert wanted <= rows[0].keys()


def test_the_report_refers_to_nothing_outside(finished):
    page = (finished[1] / "report.html").read_text()
    assert "data:image/png;base64," in page
    assert "http" not in page
    assert "greedy pass@1" in page


def test_every_part_of_the_production_recipe_is_at_work(zygote, tmp_path):
    few = ("trainer.steps=2", "trainer.batch_size=64", "evaluation.limit=2", "evaluation.samples=0")
    # bfloat16 rounds away what smaller rates do; only what does not compile before its end has tokens to mask
    seen = ("trainer.learning_rate=1e-3", "trainer.warmup_steps=0", "algorithm.temperature=1.4")
    status, said = zygote.run("+recipe=prod", "model=demo", *few, *seen, folder=tmp_path)
    assert status == 0, said
    record = json.loads((run_folder(tmp_path) / "run.json").read_text())
    active = record["results"]["active"]
    assert active["quantization"] == {"kind": "nf4", "linear_4bit_layers": 36}
    assert active["adapter"]["rank"] == 8
    assert active["adapter"]["layers"] == ["down_proj", "gate_proj", "in_proj", "out_proj", "up_proj"]
    assert active["adapter"]["dtypes"] == ["float32"]
    assert (active["loss"]["ratio"], active["loss"]["loss_type"]) == ("sequence", "luspo")
    assert active["loss"]["updates_taken"] > 0
    assert active["discard"]["tied"] > 0 < active["discard"]["kept"]
    assert active["cccs"]["completions_with_a_prefix"] > 0
    assert active["fgo"]["masked_tokens"] > 0
    assert active["kl"]["last"] > 0
    assert len(record["results"]["reference_sha256"]) == 64


def test_without_a_network_the_production_recipe_says_which_key_to_set(zygote, tmp_path):
    status, said = zygote.run("+recipe=prod", folder=tmp_path)
    assert status == 2
    assert said.count("error:") == 1
    assert "model 'Qwen/Qwen2.5-Coder-0.5B-Instruct' cannot be loaded" in said
    assert "set model= to a shipped model" in said


def test_a_dry_run_prints_the_plan_and_leaves_nothing(zygote, tmp_path):
    status, said = zygote.run("dry_run=true", "trainer.steps=7", "+recipe=dapo", "policy=nf4", folder=tmp_path)
    assert status == 0, said
    for words in ("8 prompts x 8 = 64 completions", "up to 640 completions", "448 completions", "memory: at least"):
        assert words in said
    assert not (tmp_path / "runs").exists() or not any((tmp_path / "runs" / "gspo").iterdir())


def test_the_adapter_loads_again(finished):
    from peft import PeftModel, get_peft_model_state_dict
    from safetensors.torch import load_file

    from rlvr_cpp.policy.policy import load_policy
    from rlvr_cpp.policy.settings import PolicySettings

    base = load_policy("demo", PolicySettings("float32", None, "cpu", None, "auto", 1)).model
    held = get_peft_model_state_dict(PeftModel.from_pretrained(base, finished[1] / "adapter"))
    written = load_file(finished[1] / "adapter" / "adapter_model.safetensors")
    assert held.keys() == written.keys()
    assert all(held[name].equal(tensor) for name, tensor in written.items())


def test_a_mistake_removes_nothing_that_was_there(zygote, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep me")
    status, said = zygote.run("hydra.run.dir=mine", "algorithm.group_size=5", folder=tmp_path)
    assert status == 2, said
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]


def test_a_folder_that_holds_a_run_is_refused(zygote, finished):
    before = sorted(path.name for path in finished[1].iterdir())
    status, said = zygote.run(f"hydra.run.dir={finished[1]}", folder=finished[1].parent)
    assert status == 2
    assert "already holds a run" in said
    assert sorted(path.name for path in finished[1].iterdir()) == before


def children_of(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError):  # a thread that has ended meanwhile
            for child in (task / "children").read_text().split():
                found += [int(child), *children_of(int(child))]
    return found


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_leaves_a_folder_that_says_so_and_no_process(zygote, tmp_path, sent):
    few = ("trainer.steps=500", "trainer.batch_size=16", "evaluation.limit=2", "evaluation.samples=0")
    descendants = []

    def interrupt(pid: int, line: str) -> None:
        if line.lstrip().startswith("1/500"):
            descendants.extend(children_of(pid))
            os.kill(pid, sent)

    status, said = zygote.run(*few, folder=tmp_path, at_line=interrupt)
    assert status == 130, said
    assert "interrupted; what there is stands in" in said
    assert "Traceback" not in said
    assert json.loads((run_folder(tmp_path) / "run.json").read_text())["status"] == "interrupted"
    deadline = time.monotonic() + 30
    while any(map(is_alive, descendants)) and time.monotonic() < deadline:
        os.sched_yield()
    assert not any(map(is_alive, descendants))


def test_grpo_is_a_command_and_a_sweep_gives_each_job_its_folder(zygote, tmp_path):
    few = (*SMOKE, "trainer.steps=1", "evaluation.limit=4", "evaluation.samples=0")
    status, said = zygote.run("--multirun", *few, "seed=1,2", module="rlvr_cpp.grpo", folder=tmp_path)
    assert status == 0, said
    (sweep,) = (tmp_path / "runs" / "grpo-sweep").iterdir()
    records = [json.loads((sweep / number / "run.json").read_text()) for number in ("0", "1")]
    assert [record["seed"] for record in records] == [1, 2]
    assert [record["config"]["algorithm"]["ratio"] for record in records] == ["token", "token"]
    assert (sweep / "comparison.png").stat().st_size > 10_000
    assert "greedy pass@1" in (sweep / "comparison.md").read_text()


@pytest.mark.gpu
@pytest.mark.skipif("not __import__('torch').cuda.is_available()", reason="needs a CUDA device")
def test_the_same_job_runs_on_a_gpu(tmp_path):
    done = gspo(tmp_path, *SMOKE, "policy=gpu")
    assert done.returncode == 0, done.stderr
