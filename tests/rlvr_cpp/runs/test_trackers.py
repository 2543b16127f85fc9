"""Trackers: what cannot be told is one sentence, and a run that goes on is the same run to whom is told of it."""

import inspect
from dataclasses import dataclass
from importlib.util import find_spec
from types import SimpleNamespace

import pytest
from transformers import TrainerControl, TrainerState

from rlvr_cpp import UserError
from rlvr_cpp.runs.record import RunRecord
from rlvr_cpp.runs.trackers import TRACKERS, open_trackers, tracker_names, tracker_problems


def trainer_of(callbacks: list, steps: int = 1) -> SimpleNamespace:
    """What a trainer has that trackers ask for."""
    args = SimpleNamespace(project="rlvr-cpp", run_name=None, to_dict=lambda: {"max_steps": steps})
    return SimpleNamespace(args=args, add_callback=lambda kind: callbacks.append(kind()))


@dataclass
class Job:
    """Settings that a record can hold."""

    seed: int = 0


def record_of(folder) -> RunRecord:
    return RunRecord(folder, Job(), "g++", {})


def tell(tracker, folder, step: int, reward: float) -> None:
    """A run that makes one step; what was begun in the folder goes on."""
    callbacks: list = []
    trainer = trainer_of(callbacks, step)
    with record_of(folder) as record, open_trackers(tracker, trainer, record):
        for callback in callbacks:
            state = TrainerState(global_step=step, is_world_process_zero=True)
            callback.on_train_begin(trainer.args, state, TrainerControl(), model=None)
            callback.on_log(trainer.args, state, TrainerControl(), logs={"reward": reward}, model=None)
            callback.on_train_end(trainer.args, state, TrainerControl(), model=None)


def test_one_several_or_none():
    assert [tracker_names(t) for t in (None, [], "wandb", ["wandb", "mlflow"])] == [
        [],
        [],
        ["wandb"],
        ["wandb", "mlflow"],
    ]


@pytest.mark.parametrize(
    ("tracker", "words"),
    [("tensorbord", "tracker has 'tensorbord'"), (["comet_ml"], "tracker has 'comet_ml'"), (3, "tracker is 3"), ({}, "tracker is {}")],
)  # fmt: skip
def test_what_is_no_tracker_is_named_with_those_that_are(tracker, words):
    (problem,) = tracker_problems(tracker)
    assert problem.startswith(words)
    assert all(name in problem for name in TRACKERS)


def test_a_package_that_is_missing_is_named_before_anything_is_loaded(monkeypatch):
    assert list(tracker_problems(["tensorboard"])) == []
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert list(tracker_problems(["tensorboard", "mlflow"])) == [
        f"tracker has {name!r}, which is not installed: pip install {name}, or leave it out"
        for name in ("tensorboard", "mlflow")
    ]


def test_events_of_tensorboard_alone_need_no_run_of_a_tracker(tmp_path):
    callbacks: list = []
    with record_of(tmp_path) as record, open_trackers("tensorboard", trainer_of(callbacks), record):
        assert "tracker_run" not in record.fields["results"]
    assert callbacks == []


@pytest.mark.skipif(find_spec("mlflow") is None, reason="needs mlflow")
def test_mlflow_goes_on_in_the_same_run(tmp_path, monkeypatch, caplog):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri(f"file:{tmp_path}/mlruns")
    tell("mlflow", tmp_path, 1, 0.25)
    tell("mlflow", tmp_path, 2, 0.5)  # with another number of steps
    mlflow.flush_async_logging()
    (run,) = mlflow.search_runs(search_all_experiments=True, output_format="list")
    history = mlflow.MlflowClient().get_metric_history(run.info.run_id, "reward")
    assert [(point.step, point.value) for point in history] == [(1, 0.25), (2, 0.5)]
    assert run.info.status == "FINISHED"
    assert not caplog.records  # it refuses another value of a parameter


@pytest.mark.skipif(find_spec("mlflow") is None, reason="needs mlflow")
def test_a_tracker_that_cannot_be_reached_is_one_sentence(tmp_path):
    mlflow = pytest.importorskip("mlflow")
    mlflow.set_tracking_uri("nowhere://at-all")
    with pytest.raises(UserError, match=r"tracker has 'mlflow', which cannot be opened .*: set MLFLOW_TRACKING_URI"):
        tell("mlflow", tmp_path, 1, 0.25)


@pytest.mark.skipif(find_spec("wandb") is None, reason="needs wandb")
def test_wandb_takes_what_a_run_is_opened_with():
    wandb = pytest.importorskip("wandb")
    inspect.signature(wandb.init).bind(project="p", id="i", name="n", resume="allow", dir="d")
    inspect.signature(wandb.finish).bind(exit_code=0)


@pytest.mark.skipif(find_spec("trackio") is None, reason="needs trackio")
def test_trackio_goes_on_by_project_and_name():
    trackio = pytest.importorskip("trackio")
    inspect.signature(trackio.init).bind(project="p", name="n", resume="allow")
