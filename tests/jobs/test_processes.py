"""Two processes train the very policy that one does, and keep one run folder.

This file is also what the launcher starts: `accelerate launch ... test_processes.py FOLDER` runs the jobs below one
after the other through the command's own `main`, so that torch is imported once a process and not once a job. Beside
it the same module trains in one process what the two are compared with.
"""

import json
import os
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.jobs.zygote import ENVIRONMENT

GROUP = 4
COMMON = (
    "trainer.batch_size=16", f"algorithm.group_size={GROUP}", "algorithm.max_gen_len=64", "algorithm.kl_coeff=0.1",
    "algorithm.num_minibatches=2", "evaluation.samples=0", "evaluation.every=null", "trainer.learning_rate=1e-3",
)  # fmt: skip
TRAINED = {
    "gspo": (
        "model=tiny-cpp",
        "algorithm=gspo",
        "stepcoder=cccs_fgo",
        "algorithm.refill_rounds=1",
        "generation.ahead=1",
        "algorithm.clip_eps=0.0003",
        "algorithm.temperature=1.3",
    ),
    "dapo": ("algorithm=dapo", "algorithm.clip_eps=0.05", "hydra.run.dir=${oc.env:HERE}/dapo-${oc.env:RANK,0}"),
}
"""Of the last one each process has a Hydra folder of its own."""
STEPS = {"gspo": 3, "dapo": 2}
FOLDERS = {"gspo": "gspo", "dapo": "dapo-0"}
UNEVEN = ("trainer.batch_size=15", "algorithm.group_size=5", "algorithm.num_minibatches=3")
"""Mini-batches of 5 completions, which one process can take and two cannot share."""
SAME = (
    "loss", "grad_norm", "reward", "pass_rate", "compile_rate", "kept_groups", "tied_groups", "kl", "clip_fraction",
    "skipped_updates", "entropy", "tokens", "num_tokens",
)  # fmt: skip


def job(*arguments):
    """What the command ends with: None, or its exit status."""
    from rlvr_cpp.gspo import main

    sys.argv = ["gspo", *arguments]
    try:
        main()
    except SystemExit as end:
        return end.code


def train(name, here):
    sizes = (f"trainer.steps={STEPS[name]}", "trainer.micro_batch_size=2", "trainer.save_every=1", "evaluation.limit=3")
    return job(f"hydra.run.dir={here / name}", *COMMON, *sizes, *TRAINED[name])


def resume(here):
    """Go on with a copy of a run as it was before its last step."""
    from rlvr_cpp.runs import processes

    copy = here / "resumed"
    if processes.rank() == 0:
        shutil.copytree(here / "gspo", copy)
        shutil.rmtree(copy / "checkpoints" / "checkpoint-6")
        shutil.rmtree(copy / "adapter")
        (copy / "evaluation_after.jsonl").unlink()
    processes.of_everyone(None)  # until the copy is there
    return job(f"resume={copy}", f"hydra.run.dir={here / 'nothing'}")


def stop_by_the_second(here):
    """A run in which a guard of the second process alone finds something; only the first has a task to evaluate."""
    from rlvr_cpp.runs import processes
    from rlvr_cpp.training import trainer
    from rlvr_cpp.training.guards.canary import canary_finding
    from rlvr_cpp.training.guards.guards import Finding

    replaced: Any = trainer
    if processes.rank() == 1:
        replaced.canary_finding = lambda *_, **__: Finding("canary", "found by the second process", True)
    ended = job(f"hydra.run.dir={here / 'stopped'}", *COMMON, "evaluation.limit=1")
    replaced.canary_finding = canary_finding
    return ended


def main(here):
    """All jobs of one process; how each ended is left in a file."""
    rank = os.environ.get("RANK")
    os.environ["HERE"] = str(here)
    ended = {name: train(name, here) for name in TRAINED}
    if rank is not None:
        ended["resumed"] = resume(here)
        ended["stopped"] = stop_by_the_second(here)
        ended["uneven"] = job(f"hydra.run.dir={here / 'uneven'}", *COMMON, *UNEVEN)
    (here / f"ended-{rank}.json").write_text(json.dumps(ended))


@pytest.fixture(scope="module")
def finished(zygote, tmp_path_factory):
    """The folders of the jobs in one process and in two, and what the two said."""
    one, two = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    launch = [
        "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1",
        "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0",
    ]  # fmt: skip
    both = subprocess.Popen(
        [sys.executable, *launch, __file__, str(two)],
        cwd=two, env=ENVIRONMENT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    status, text = zygote.run(one, module="tests.jobs.test_processes", folder=one)
    said = both.communicate()[1]
    assert status == 0, text
    assert both.returncode == 0, said
    return one, two, said


def weights(run):
    from safetensors.torch import load_file

    return load_file(run / "adapter" / "adapter_model.safetensors")


def norm(tensors):
    return sum(float(tensor.double().square().sum()) for tensor in tensors) ** 0.5


def json_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def live_rows_by_process(run, step):
    """Of two processes that share each round of a step's rows evenly, in order."""
    rows = [row for row in json_lines(run / "completions.jsonl") if row["step"] == step]
    live = [
        len({row["reward"] for row in rows[start : start + GROUP]}) > 1
        for start in range(0, len(rows), GROUP)
        for _ in range(GROUP)
    ]
    counts = [0, 0]
    for begin, end in pairwise(sorted({0, 16, len(rows)})):
        half = (begin + end) // 2
        counts[0] += sum(live[begin:half])
        counts[1] += sum(live[half:end])
    return counts


@pytest.mark.parametrize("name", TRAINED)
def test_two_processes_train_the_weights_that_one_trains(finished, name):
    one, two = (weights(folder / FOLDERS[name]) for folder in finished[:2])
    assert one.keys() == two.keys()
    assert all(tensor.abs().max() > 1e-4 for tensor in two.values())
    # All together: Adam divides a gradient by its own size, so one that is only rounding can move its weight anywhere.
    trained = [key for key in one if "lora_B" in key]  # from zero
    assert norm(one[key] - two[key] for key in one) < 1e-4 * norm(two[key] for key in trained)


@pytest.mark.parametrize("name", TRAINED)
def test_two_processes_tell_of_the_steps_what_one_does(finished, name):
    one, two = (json_lines(folder / FOLDERS[name] / "metrics.jsonl") for folder in finished[:2])
    for first, second in zip(one, two, strict=True):
        assert {key: second[key] for key in SAME} == pytest.approx(
            {key: first[key] for key in SAME}, rel=1e-3, abs=1e-6
        )


@pytest.mark.parametrize("name", TRAINED)
def test_the_two_processes_had_different_numbers_of_live_rows(finished, name):
    run = finished[1] / FOLDERS[name]
    counts = [live_rows_by_process(run, step) for step in range(1, STEPS[name] + 1)]
    assert [sum(pair) for pair in counts] == [GROUP * row["kept_groups"] for row in json_lines(run / "metrics.jsonl")]
    assert any(mine != others for mine, others in counts)


@pytest.mark.parametrize("name", TRAINED)
def test_two_processes_write_and_evaluate_what_one_does(finished, name):
    for file in ("completions.jsonl", "evaluation_before.jsonl", "evaluation_after.jsonl"):
        one, two = (json_lines(folder / FOLDERS[name] / file) for folder in finished[:2])
        assert [(row["task_id"], row["completion"]) for row in one] == [
            (row["task_id"], row["completion"]) for row in two
        ]


def test_clipping_focus_and_refill_were_at_work(finished):
    metrics = [json_lines(finished[1] / FOLDERS[name] / "metrics.jsonl") for name in TRAINED]
    assert any(row["clip_fraction"] > 0 for rows in metrics for row in rows)
    active = json.loads((finished[1] / "gspo" / "run.json").read_text())["results"]["active"]
    assert active["fgo"]["focused_rows"] > 0
    assert active["cccs"]["completions_with_a_prefix"] > 0
    assert len(json_lines(finished[1] / "gspo" / "completions.jsonl")) > 3 * 16


def test_a_resumed_run_ends_as_if_it_had_not_been_interrupted(finished):
    whole, resumed = finished[1] / "gspo", finished[1] / "resumed"
    assert json.loads((resumed / "run.json").read_text())["resumed"]
    before, after = weights(whole), weights(resumed)
    assert all(before[key].equal(after[key]) for key in before)
    assert [row["reward"] for row in json_lines(whole / "metrics.jsonl")] == [
        row["reward"] for row in json_lines(resumed / "metrics.jsonl")
    ]


def test_the_first_process_alone_writes_and_speaks(finished):
    _, two, said = finished
    held = {path.name for path in two.iterdir()}
    assert held == {*FOLDERS.values(), "resumed", "stopped", "ended-0.json", "ended-1.json"}
    assert said.count("loading torch") == 5
    for name, folder in FOLDERS.items():
        assert [row["step"] for row in json_lines(two / folder / "metrics.jsonl")] == [*range(1, STEPS[name] + 1)]
        assert json.loads((two / folder / "run.json").read_text())["status"] == "finished"
        assert len(list((two / folder / "tensorboard").iterdir())) == 1
        last = two / folder / "checkpoints" / f"checkpoint-{2 * STEPS[name]}"
        assert {"optimizer.pt", "rng_state_0.pth", "rng_state_1.pth"} <= {path.name for path in last.iterdir()}


def how_they_ended(folder, name):
    return [json.loads((folder / f"ended-{rank}.json").read_text())[name] for rank in (0, 1)]


def test_what_a_guard_of_one_process_finds_stops_both(finished):
    _, two, said = finished
    assert how_they_ended(two, "stopped") == [3, 3]
    record = json.loads((two / "stopped" / "run.json").read_text())
    assert (record["status"], record["error"]) == ("stopped", "canary: found by the second process")
    assert "stopped: canary: found by the second process" in said


def test_a_batch_that_two_processes_cannot_share_is_refused_in_one_sentence(finished):
    _, two, said = finished
    assert how_they_ended(two, "uneven") == [2, 2]
    assert "error: trainer.batch_size is 15, which 2 processes cannot share evenly in 3 mini-batches" in said
    assert "Traceback" not in said


if __name__ == "__main__":
    main(Path(sys.argv[1]))
