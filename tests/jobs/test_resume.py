"""A run that was killed goes on as if it had not been: the same weights to the bit, the same numbers, each step once."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.kills import STATEFUL, differences, few_tasks
from tests.jobs.zygote import ENVIRONMENT

STEPS = 4


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    """Eight tasks and four in a step: there are two epochs."""
    tasks = few_tasks(tmp_path_factory.mktemp("tasks") / "tasks.jsonl", training=8)
    return (*STATEFUL, f"tasks.source={tasks}", f"trainer.steps={STEPS}", "evaluation.every=2")


@pytest.fixture(scope="module")
def uninterrupted(zygote, settings, tmp_path_factory):
    """From a process of its own, as a person starts it; so that its hashes of strings are others than the zygote's."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    arguments = [*settings, "trainer.save_every=1", f"hydra.run.dir={folder}/run"]
    done = subprocess.run(
        [sys.executable, "-m", "rlvr_cpp.gspo", *arguments], cwd=folder, capture_output=True, text=True, env=ENVIRONMENT
    )
    assert done.returncode == 0, done.stderr
    return folder / "run"


def begin(zygote, folder: Path, settings, *more: str, **kill: str) -> Path:
    """A run that was killed."""
    status, text = zygote.run(*settings, *more, f"hydra.run.dir={folder}/run", **kill)
    assert status == -signal.SIGKILL, text
    return folder / "run"


def resume(zygote, run: Path) -> str:
    """Go on to the end; gives what was written."""
    status, text = zygote.run(f"resume={run}")
    assert status == 0, text
    assert json.loads((run / "run.json").read_text())["status"] == "finished"
    return text


def steps_of(run: Path, name: str) -> list[int]:
    return [json.loads(line)["step"] for line in (run / name).read_text().splitlines()]


def test_the_uninterrupted_run_has_every_state_that_could_be_lost(uninterrupted):
    rows = [json.loads(line) for line in (uninterrupted / "metrics.jsonl").read_text().splitlines()]
    completions = steps_of(uninterrupted, "completions.jsonl")
    assert any(completions.count(row["step"]) > 16 for row in rows)  # refilled
    assert len({row["prefix_frac"] for row in rows}) > 1
    assert len({row["learning_rate"] for row in rows}) > 2
    assert sum(row["masked_tokens"] for row in rows) > 0
    assert sum(row["kept_groups"] for row in rows) > 0
    assert rows[-1]["epoch"] == 2


def test_a_run_killed_between_two_checkpoints_ends_as_if_it_had_not_been(zygote, uninterrupted, settings, tmp_path):
    run = begin(zygote, tmp_path, settings, "trainer.save_every=2", kill_at=f"3/{STEPS}")
    assert "resume  after step 2," in resume(zygote, run)
    assert differences(uninterrupted, run) == []
    assert steps_of(run, "metrics.jsonl") == list(range(1, STEPS + 1))


MOMENTS = {  # one run is killed at each in turn, at the n-th call of a function that its process makes
    "in the evaluation before": ("training.run", "evaluate", 0),
    "while the first batch is judged": ("training.rollout", "RolloutScorer.finish", 0),
    "in the first checkpoint": ("training.trainer", "write_state", 0),
    "after the first checkpoint": ("training.trainer", "remove_old", 0),
    "while a resumed run reads its state": ("training.trainer", "GRPOTrainer._load_state", 0),
    "in the evaluation of a step": ("training.run", "evaluate", 0),
    "after a step was told": ("training.trainer", "open_draft", 0),
    "while an old checkpoint goes": ("training.checkpoints", "_remove", 2),
    "before the adapter is saved": ("training.run", "active_parts", 0),
    "in the evaluation after": ("training.run", "evaluate", 0),
}


@pytest.mark.slow
def test_a_run_killed_at_every_kind_of_moment_ends_as_if_it_had_not_been(zygote, uninterrupted, settings, tmp_path):
    run = tmp_path / "run"
    for number, (moment, place) in enumerate(MOMENTS.items()):
        arguments = (f"resume={run}",) if number else (*settings, "trainer.save_every=1", f"hydra.run.dir={run}")
        status, text = zygote.run(*arguments, fault=f"die_at{place}")
        assert (moment, status) == (moment, -signal.SIGKILL), text
        assert number == 0 or "resume  " in text, text
        tear(run)
    assert "with nothing left to train" in resume(zygote, run)
    assert differences(uninterrupted, run) == []


@pytest.mark.slow
def test_a_run_that_samples_ahead_goes_on_from_the_completions_that_it_had(zygote, settings, tmp_path):
    few = (*settings, "generation.ahead=1", "trainer.save_every=1", "evaluation.every=null")
    status, text = zygote.run(*few, f"hydra.run.dir={tmp_path}/whole")
    assert status == 0, text
    run = begin(zygote, tmp_path, few, kill_at=f"3/{STEPS}")
    assert "resume  after step 2," in resume(zygote, run)
    assert differences(tmp_path / "whole", run) == []
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["staleness"] > 0 for row in rows] == [False, True, True, True]


def tear(run: Path) -> None:
    """As if the process had ended in the middle of a line; after the last step it writes none."""
    ended = (run / "checkpoints" / f"checkpoint-{2 * STEPS}").exists()
    for name in ("metrics.jsonl", "completions.jsonl"):
        if (run / name).exists() and not ended:
            with (run / name).open("a") as file:
                file.write('{"step": 2, "rew')


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["adapter.start={adapter}", "adapter=none"])
def test_whatever_is_trained_is_restored(zygote, uninterrupted, settings, tmp_path, kind):
    few = (*settings, kind.format(adapter=uninterrupted / "adapter"), "trainer.steps=2", "evaluation.every=null")
    few += ("trainer.save_every=1", "algorithm.refill_rounds=0")
    status, text = zygote.run(*few, f"hydra.run.dir={tmp_path}/whole")
    assert status == 0, text
    run = begin(zygote, tmp_path, few, fault="die_at('training.rollout', 'RolloutScorer.finish', 1)")
    assert "resume  after step 1," in resume(zygote, run)
    assert differences(tmp_path / "whole", run) == []


@pytest.mark.slow
def test_a_mixture_goes_on_where_it_was(zygote, settings, tmp_path):
    """Two sources of unlike weights, whose shares change from step to step."""
    rows = Path(settings[-3].removeprefix("tasks.source=")).read_text().splitlines(keepends=True)
    for name in ("a", "b"):
        (tmp_path / name).with_suffix(".jsonl").write_text("".join(rows[name == "b" :: 2]))
    mixed = (*settings, f"tasks.source={{{tmp_path}/a.jsonl:5,{tmp_path}/b.jsonl:2}}", "trainer.save_every=1")
    status, text = zygote.run(*mixed, f"hydra.run.dir={tmp_path}/whole")
    assert status == 0, text
    run = begin(zygote, tmp_path, mixed, kill_at=f"4/{STEPS}")
    assert "resume  after step 3," in resume(zygote, run)
    assert differences(tmp_path / "whole", run) == []


@pytest.mark.slow
def test_what_is_known_of_pass_rates_goes_on_where_it_was(zygote, settings, tmp_path):
    learnable = (*settings, "algorithm.prompt_sampling=learnability", "trainer.save_every=1")
    status, text = zygote.run(*learnable, f"hydra.run.dir={tmp_path}/whole")
    assert status == 0, text
    run = begin(zygote, tmp_path, learnable, kill_at=f"4/{STEPS}")
    assert "resume  after step 3," in resume(zygote, run)
    assert differences(tmp_path / "whole", run) == []


@pytest.fixture
def finished(uninterrupted, tmp_path):
    return shutil.copytree(uninterrupted, tmp_path / "run")


@pytest.mark.parametrize("checkpoints", [True, False])
def test_a_finished_run_trains_nothing_and_makes_its_report_anew(zygote, uninterrupted, finished, checkpoints):
    (finished / "report.html").unlink()
    if not checkpoints:
        shutil.rmtree(finished / "checkpoints")
    text = resume(zygote, finished)
    assert "with nothing left to train" in text
    assert f"{STEPS}/{STEPS} " not in text
    assert "measured already" in text
    assert (finished / "report.html").exists()
    assert differences(uninterrupted, finished) == []


def without_its_end(run: Path) -> Path:
    """As if the last step, its checkpoint written, had been the last that the process did."""
    shutil.rmtree(run / "adapter")
    (run / "evaluation_after.jsonl").unlink()
    return run / "checkpoints" / f"checkpoint-{2 * STEPS}"


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before_it(zygote, uninterrupted, finished):
    weights = without_its_end(finished) / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    text = resume(zygote, finished)
    assert "passed over checkpoint-8: adapter_model.safetensors is not as it was written" in text
    assert "resume  after step 3," in text
    assert differences(uninterrupted, finished) == []


def test_damaged_checkpoints_alone_are_refused(zygote, finished):
    without_its_end(finished)
    for place in (finished / "checkpoints").glob("checkpoint-*"):
        (place / "optimizer.pt").unlink()
    assert "no checkpoint of the run in" in is_refused(zygote, finished, f"resume={finished}")


FULL = """
import resource, rlvr_cpp.training.trainer as trainer
real = trainer.open_draft
def full(place):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
    return real(place)
trainer.open_draft = full
"""
"""From its next checkpoint on no file of the process may grow beyond a page."""


def test_a_disk_that_is_full_is_one_sentence_and_the_run_goes_on_when_it_is_not(zygote, uninterrupted, finished):
    shutil.rmtree(without_its_end(finished))
    status, text = zygote.run(f"resume={finished}", fault=FULL)
    assert status == 2, text
    assert "Traceback" not in text
    assert "error: the disk takes no more (" in text
    assert f"go on with resume={finished}" in text
    resume(zygote, finished)
    assert differences(uninterrupted, finished) == []


def files_of(folder: Path) -> dict[str, bytes | None]:
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


def is_refused(zygote, folder: Path, *arguments: str) -> str:
    """The sentence; nothing in the folder is another afterwards."""
    before = files_of(folder)
    status, text = zygote.run(*arguments)
    assert status == 2, text
    assert "Traceback" not in text
    assert files_of(folder) == before
    (sentence,) = [line for line in text.splitlines() if line.startswith("error: ")]
    return sentence


def test_other_settings_are_refused(zygote, finished):
    sentence = is_refused(zygote, finished, f"resume={finished}", "trainer.batch_size=8", "seed=1")
    assert "goes on with the config that the run has, but trainer.batch_size=8 seed=1 was given" in sentence
    assert "accept_changes, trainer.steps, trainer.learning_rate, tracker may be changed" in sentence


def test_fewer_steps_than_were_made_are_refused(zygote, finished):
    sentence = is_refused(zygote, finished, f"resume={finished}", "trainer.steps=3")
    assert "trainer.steps is 3, but the run in" in sentence


def test_a_run_that_ended_is_made_longer_at_another_rate(zygote, finished):
    status, text = zygote.run(f"resume={finished}", "trainer.steps=5", "trainer.learning_rate=1e-5")
    assert status == 0, text
    assert "resume  after step 4, from" in text
    record = json.loads((finished / "run.json").read_text())
    assert [(row["name"], row["is"]) for row in record["changes"]] == [
        ("trainer.steps", 5), ("trainer.learning_rate", 1e-5)
    ]  # fmt: skip
    assert record["config"]["trainer"]["steps"] == 5
    assert [step for step, _ in record["results"]["greedy_by_step"]] == [0, 2, 4, 5]
    rows = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5]
    assert 0 <= rows[-1]["learning_rate"] <= 1e-5 < rows[1]["learning_rate"]


def test_an_edited_task_is_refused_and_taken_where_that_is_accepted(zygote, finished, tmp_path):
    record = json.loads((finished / "run.json").read_text())
    *others, last = Path(record["config"]["tasks"]["source"]).read_text().splitlines()
    assert json.loads(last)["split"] == "held_out"
    record["config"]["tasks"]["source"] = str(tmp_path / "fewer.jsonl")
    (tmp_path / "fewer.jsonl").write_text("\n".join(others))
    (finished / "run.json").write_text(json.dumps(record))
    sentence = is_refused(zygote, finished, f"resume={finished}")
    assert "tasks of the run in" in sentence
    assert "go on with accept_changes=[tasks], which is noted" in sentence
    status, text = zygote.run(f"resume={finished}", "accept_changes=[tasks]")
    assert status == 0, text
    (change,) = json.loads((finished / "run.json").read_text())["changes"]
    assert change["name"] == "tasks"
    assert "nan" not in text


def test_another_reference_is_refused(zygote, finished):
    record = json.loads((finished / "run.json").read_text())
    record["results"]["reference_sha256"] = "0" * 64
    (finished / "run.json").write_text(json.dumps(record))
    sentence = is_refused(zygote, finished, f"resume={finished}")
    assert "reference_sha256 of the run in" in sentence
    assert "the model or its adapter have changed since; put back what it had" in sentence


def test_what_a_run_did_not_note_stays_unknown(zygote, finished):
    record = json.loads((finished / "run.json").read_text())
    del record["results"]["contract"]
    (finished / "run.json").write_text(json.dumps(record))
    resume(zygote, finished)
    assert "contract" not in json.loads((finished / "run.json").read_text())["results"]


def test_another_compiler_is_refused(zygote, finished):
    record = json.loads((finished / "run.json").read_text())
    record["results"]["contract"]["compiler_version"] = "g++ 1.0"
    (finished / "run.json").write_text(json.dumps(record))
    assert "contract of the run in" in is_refused(zygote, finished, f"resume={finished}")


@pytest.mark.parametrize("held", [None, ".hydra/config.yaml", "run.json"])
def test_a_folder_without_a_run_is_refused_and_left_as_it_was(zygote, tmp_path, held):
    folder = tmp_path / "mine"
    folder.mkdir()
    if held is not None:
        (folder / held).parent.mkdir(exist_ok=True)
        (folder / held).write_text("{")
    assert "holds no run that can be read" in is_refused(zygote, folder, f"resume={folder}")
    assert folder.exists()


def test_a_folder_that_is_not_there_is_refused(zygote, tmp_path):
    assert "holds no run that can be read" in is_refused(zygote, tmp_path, f"resume={tmp_path}/nowhere")
