"""The parts of a training run and its four acts: prepare, evaluate, train, report.

Everything that can be wrong with the input is found in `prepare`, before the run folder gets its first file.
"""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import transformers
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from torch.utils.tensorboard import SummaryWriter

from rlvr_cpp.config import GSPOJob, TaskSettings
from rlvr_cpp.errors import UserError
from rlvr_cpp.evaluate import Evaluation, evaluate
from rlvr_cpp.policy import Policy, load_policy
from rlvr_cpp.progress import console
from rlvr_cpp.report import (
    by_family,
    compare,
    pick_examples,
    plot_curve,
    print_comparison,
    print_examples,
    write_report,
)
from rlvr_cpp.run_record import RunRecord
from rlvr_cpp.tasks import BUILTIN, Task, load_tasks
from rlvr_cpp.trainer import GSPOTrainer, StepMetrics
from rlvr_cpp.verifier import Verifier
from rlvr_sandbox import describe

SHOWN_EXAMPLES = 3
HEADER_EVERY = 20


@dataclass
class Parts:
    """What a run works with."""

    job: GSPOJob
    folder: Path
    record: RunRecord
    train_tasks: list[Task]
    held_out: list[Task]
    policy: Policy
    verifier: Verifier
    trainer: GSPOTrainer

    def evaluate(self, label: str, samples: int | None = None, keep: bool = True) -> Evaluation:
        """Measure the policy on the held-out tasks; where asked, every attempt is kept in the run folder."""
        job = self.job
        evaluation = evaluate(
            self.policy,
            self.held_out,
            self.verifier,
            job.algorithm,
            job.evaluation,
            seed=job.seed,
            label=label,
            samples=samples,
        )
        if keep:
            lines = (json.dumps(asdict(attempt)) + "\n" for attempt in (*evaluation.greedy, *evaluation.sampled))
            (self.folder / f"evaluation_{label}.jsonl").write_text("".join(lines))
        return evaluation


@dataclass
class Curve:
    """How a run went."""

    steps: list[StepMetrics]
    greedy: list[tuple[int, float]]
    """Held-out greedy pass@1 by step, where it was measured."""


@contextmanager
def prepare(job: GSPOJob, folder: Path) -> Iterator[Parts]:
    """Load and check everything, then open the run's record. Raises UserError for whatever is wrong."""
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")  # of its own arguments, by trl
    _require_one_process()
    if (folder / "run.json").exists():
        raise UserError(f"{folder} already holds a run: choose another hydra.run.dir")
    train_tasks, held_out = choose_tasks(job.tasks, job.evaluation.limit, job.seed)
    with ExitStack() as stack:
        verifier = stack.enter_context(
            Verifier(
                compiler=job.verifier.compiler,
                timeout=job.verifier.timeout,
                compile_timeout=job.verifier.compile_timeout,
                extra_flags=job.verifier.extra_flags,
                workers=job.verifier.workers,
                cache=job.verifier.cache,
                require=job.sandbox.require,
            )
        )
        verifier.check(task.std for task in (*train_tasks, *held_out))
        policy = load_policy(job.model, job.policy)
        parameters = sum(p.numel() for p in policy.model.parameters())
        trainer = build_trainer(job, policy, train_tasks, verifier, folder)
        record = stack.enter_context(RunRecord(folder, job, verifier.version))
        console.print(
            f"model   {job.model}, {parameters:,} parameters\n"
            f"tasks   {len(train_tasks)} for training, {len(held_out)} held out\n"
            f"judge   {verifier.version}, {describe(verifier.workshop.controls)}\n"
            f"run     {folder}",
            soft_wrap=True,
        )
        yield Parts(job, folder, record, train_tasks, held_out, policy, verifier, trainer)


def _require_one_process() -> None:
    """Each process would write the same run folder and drop its own rows from a loss that all must agree on."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError(
            "this job was started in several processes, which it does not support: start it without a launcher"
        )


def build_trainer(job: GSPOJob, policy: Policy, tasks: list[Task], verifier: Verifier, folder: Path) -> GSPOTrainer:
    """The trainer, with its adapter in the policy. Raises UserError for an argument that trl or peft refuses."""
    try:
        return GSPOTrainer(
            policy, tasks, verifier, job.algorithm, job.trainer, out=folder, adapter=job.adapter, seed=job.seed
        )
    except UserError:
        raise
    except (ValueError, TypeError, ImportError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise UserError(
            f"the trainer cannot be built with these trainer, adapter and algorithm settings: {reason}"
        ) from error


def choose_tasks(settings: TaskSettings, limit: int | None, seed: int) -> tuple[list[Task], list[Task]]:
    """`(training, held out)`: as the source marks them, else a random split by the seed.

    Raises UserError where one of the two is empty.
    """
    source = settings.source or BUILTIN
    tasks = load_tasks(source, config=settings.config, split=settings.split)
    training = [task for task in tasks if task.split == "train"]
    held_out = [task for task in tasks if task.split == "held_out"]
    if not training or not held_out:
        Random(seed).shuffle(tasks)
        cut = round(len(tasks) * settings.held_out_fraction)
        held_out, training = tasks[:cut], tasks[cut:]
    if not training or not held_out:
        raise UserError(
            f"{source} gives {len(training)} training and {len(held_out)} held-out tasks with tasks.held_out_fraction "
            f"{settings.held_out_fraction}: both need at least one"
        )
    return training, _spread(held_out, limit)


def _spread(tasks: list[Task], limit: int | None) -> list[Task]:
    """At most `limit` tasks, evenly spaced so that every part of the list is heard."""
    if limit is None or limit >= len(tasks):
        return tasks
    return [tasks[i * len(tasks) // limit] for i in range(limit)]


def train(parts: Parts) -> Curve:
    """Run the trainer with a bar, one line a step, and metrics on disk; saves the trained weights at the end."""
    job = parts.job
    curve = Curve([], [])
    columns = (TextColumn("{task.description:<16}"), BarColumn(30), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        Progress(*columns, TimeRemainingColumn(), console=console, refresh_per_second=4) as progress,
        (parts.folder / "metrics.jsonl").open("a", buffering=1) as metrics_file,
        SummaryWriter(parts.folder / "tensorboard") as board,
    ):
        bar = progress.add_task("train", total=job.trainer.steps)

        def on_phase(phase: str) -> None:
            progress.update(bar, description=f"train: {phase}")

        def on_step(step: int, metrics: StepMetrics) -> None:
            row = {"step": step, **metrics}
            curve.steps.append(row)
            metrics_file.write(json.dumps(row) + "\n")
            for name, value in metrics.items():
                if isinstance(value, int | float):
                    board.add_scalar(name, value, step)
            if (step - 1) % HEADER_EVERY == 0:
                console.print(HEADER, style="bold", soft_wrap=True)
            console.print(step_line(step, job.trainer.steps, metrics, groups_of(job)), soft_wrap=True)
            progress.update(bar, completed=step)
            if job.evaluation.every and step % job.evaluation.every == 0 and step < job.trainer.steps:
                progress.stop()  # the evaluation draws bars of its own
                curve.greedy.append(
                    (step, parts.evaluate(f"step {step}", samples=0, keep=False).greedy_pass_at_1().mean)
                )
                progress.start()

        parts.trainer.on_step, parts.trainer.on_phase = on_step, on_phase
        parts.trainer.train()
    parts.trainer.save_model(str(parts.folder / ("adapter" if job.adapter.enabled else "model")))
    return curve


def groups_of(job: GSPOJob) -> int:
    """Groups in one step."""
    return job.trainer.batch_size // job.algorithm.group_size


HEADER = "   step  reward compiles passes groups     kl   clip   grad  gen s  ver s  upd s"


def step_line(step: int, steps: int, metrics: StepMetrics, groups: int) -> str:
    """One step as a row under `HEADER`: 80 characters, and no more while every number is ordinary."""
    m = {name: math.nan if value is None else value for name, value in metrics.items()}
    done, kept = f"{step}/{steps}", f"{m['kept_groups']:.0f}/{groups}"
    return (
        f"{done:>7}{m['reward']:>8.3f}{m['compile_rate']:>9.2f}{m['pass_rate']:>7.2f}{kept:>7}"
        f"{m.get('kl', 0.0):>7.4f}{m['clip_fraction']:>7.2f}{m['grad_norm']:>7.2f}"
        f"{m['generate']:>7.1f}{m['verify']:>7.1f}{m['update']:>7.1f}"
    )


def report(parts: Parts, before: Evaluation, curve: Curve, after: Evaluation) -> float:
    """Print the comparison, write the curve and the page, and return greedy pass@1 after training."""
    rows = compare(before, after)
    families = by_family(parts.held_out, before, after)
    examples = pick_examples(parts.held_out, before, after, SHOWN_EXAMPLES)
    greedy = [
        (0, before.greedy_pass_at_1().mean),
        *curve.greedy,
        (parts.job.trainer.steps, after.greedy_pass_at_1().mean),
    ]
    plot_curve(curve.steps, greedy, parts.folder / "curve.png")
    parts.record.add(
        measured=datetime.now(UTC).isoformat(timespec="seconds"),
        comparison=[{**asdict(row), "rise": row.rise} for row in rows],
        greedy_by_step=greedy,
        unscorable={"before": before.unscorable, "after": after.unscorable},
    )
    page = write_report(parts.folder, parts.record.fields, rows, families, examples)
    print_examples(examples)
    print_comparison(rows, families)
    console.print(f"report: {page}", soft_wrap=True)
    return rows[0].after.mean
