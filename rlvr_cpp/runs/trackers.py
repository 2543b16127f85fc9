"""Who is told of each step beside the run folder: TensorBoard, Weights & Biases, trackio, MLflow.

TensorBoard's events are written by `steps.py`. The others are told by transformers' own callbacks; here their runs are
opened, before anything is trained and under a name that the run's record keeps, so that a run that goes on is theirs
again. Only the first process tells.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from rlvr_cpp.errors import UserError, first_line

if TYPE_CHECKING:
    from rlvr_cpp.runs.record import RunRecord

TRACKERS = ("tensorboard", "wandb", "trackio", "mlflow")
RUN = "tracker_run"
"""Where the record notes the run's name among its results."""
MLFLOW_RUN = "mlflow_run"


def tracker_names(tracker: Any) -> list[str]:
    """The names in `tracker`: one, a list, or none."""
    return [] if tracker is None else [tracker] if isinstance(tracker, str) else list(tracker)


def tracker_problems(tracker: Any) -> Iterator[str]:
    """What cannot be told, each a sentence."""
    if not isinstance(tracker, str | Sequence | None):
        yield f"tracker is {tracker!r}: it must be some of {', '.join(TRACKERS)}, as in tracker=[tensorboard,wandb]"
        return
    for name in tracker_names(tracker):
        if name not in TRACKERS:
            yield f"tracker has {name!r}: it must be some of {', '.join(TRACKERS)}, or null"
        elif importlib.util.find_spec(name) is None:
            yield f"tracker has {name!r}, which is not installed: pip install {name}, or leave it out"


@contextmanager
def open_trackers(tracker: Any, trainer: Any, record: RunRecord) -> Iterator[None]:
    """Have the trainer's steps told to all trackers but TensorBoard. Raises UserError where one cannot be reached."""
    from transformers.integrations import get_reporting_integration_callbacks

    names = [name for name in tracker_names(tracker) if name != "tensorboard"]
    if not names or not record.write:
        yield
        return
    run = _named(record, RUN, lambda: f"{record.folder.name}-{uuid4().hex[:8]}")
    trainer.args.run_name = run  # by which trackio goes on
    with ExitStack() as stack:
        for name in names:
            if name in _OPENERS:
                stack.enter_context(_OPENERS[name](trainer.args.project, run, record))
        for callback in get_reporting_integration_callbacks(names):
            trainer.add_callback(callback)
        yield


@contextmanager
def _wandb(project: str, run: str, record: RunRecord) -> Iterator[None]:
    import wandb

    with _reachable("wandb", "log in with `wandb login`, set WANDB_MODE=offline, or leave it out"):
        project = os.environ.get("WANDB_PROJECT", project)
        wandb.init(project=project, id=run, name=run, resume="allow", dir=str(record.folder))
    try:
        yield
    finally:
        wandb.finish(exit_code=0 if sys.exc_info()[0] is None else 1)


@contextmanager
def _mlflow(project: str, run: str, record: RunRecord) -> Iterator[None]:
    import mlflow

    known = record.fields["results"].get(MLFLOW_RUN)
    with _reachable("mlflow", "set MLFLOW_TRACKING_URI to a server or folder that can be reached, or leave it out"):
        mlflow.set_experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME", project))
        opened = mlflow.start_run(run_id=known, run_name=None if known else run)
        record.add(**{MLFLOW_RUN: opened.info.run_id})
    if known:  # its parameters stand already, and MLflow refuses others
        os.environ["MLFLOW_MAX_LOG_PARAMS"] = "0"
    try:
        yield
    finally:
        os.environ.pop("MLFLOW_MAX_LOG_PARAMS", None)
        mlflow.end_run("FINISHED" if sys.exc_info()[0] is None else "FAILED")


_OPENERS = {"wandb": _wandb, "mlflow": _mlflow}


@contextmanager
def _reachable(name: str, fix: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise UserError(f"tracker has {name!r}, which cannot be opened ({first_line(error)}): {fix}") from error


def _named(record: RunRecord, name: str, make: Any) -> str:
    """What the record notes under a name, made where it has none yet."""
    if name not in record.fields["results"]:
        record.add(**{name: make()})
    known: str = record.fields["results"][name]
    return known
