"""What a run that goes on has to find: a checkpoint that is whole, steps to make, tasks that both evaluations have.

All of it is looked for before the record is opened, so that a run that is refused stays as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rlvr_cpp.errors import UserError
from rlvr_cpp.evaluation.attempts import Evaluation
from rlvr_cpp.runs import processes
from rlvr_cpp.runs.console import console
from rlvr_cpp.runs.record import RUN_FILE, read_record
from rlvr_cpp.tasks.task import Task
from rlvr_cpp.training.checkpoints import last_whole
from rlvr_cpp.training.config import TrainingJob

BEFORE, AFTER = "evaluation_before.jsonl", "evaluation_after.jsonl"


def place_to_go_on(job: TrainingJob, folder: Path, held_out: Sequence[Task]) -> Path | None:
    """The checkpoint that a run goes on from; None at its beginning. Raises UserError where it cannot go on."""
    last = _last_checkpoint(folder)
    _check_length(job, folder, last)
    _check_comparison(held_out, folder)
    return last


def steps_of(checkpoint: Path, job: TrainingJob) -> int:
    """The rollout steps behind a checkpoint."""
    return int(checkpoint.name.rpartition("-")[2]) // job.algorithm.num_minibatches


def _last_checkpoint(folder: Path) -> Path | None:
    """Where a run goes on; None at its beginning. Raises UserError where no checkpoint that it has is whole."""
    last, damaged = processes.of_the_first(last_whole(folder) if processes.rank() == 0 else (None, []))
    if damaged and last is None:
        raise UserError(
            f"no checkpoint of the run in {folder} is whole ({'; '.join(damaged)}): put one back, or remove them to "
            "begin from the first step"
        )
    for problem in damaged:
        console.print(f"warning: passed over {problem}", style="yellow", soft_wrap=True)
    return last


def _check_length(job: TrainingJob, folder: Path, last: Path | None) -> None:
    """Raise UserError where a run that goes on cannot have another number of steps."""
    if not (folder / RUN_FILE).exists():
        return
    steps, known = job.trainer.steps, read_record(folder)["config"]["trainer"]["steps"]
    if steps != known and last is None and (folder / AFTER).exists():
        raise UserError(
            f"trainer.steps is {steps} and the run in {folder} ended after {known}, without a checkpoint to go on "
            "from: begin a new run with adapter.start, and set trainer.save_every there"
        )
    done = steps_of(last, job) if last else 0
    if steps < done:
        raise UserError(f"trainer.steps is {steps}, but the run in {folder} has made {done}: give {done} or more")


def _check_comparison(held_out: Sequence[Task], folder: Path) -> None:
    """Raise UserError where nothing that a run measured before its training can be measured after it."""
    path = folder / BEFORE
    if path.exists() and not Evaluation.load(path).over(held_out).attempts:
        raise UserError(
            f"none of the tasks in {path} is held out any more, so before and after cannot be compared: put the tasks "
            "back, or begin a new run"
        )
