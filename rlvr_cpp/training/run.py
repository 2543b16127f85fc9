"""The parts of a training run and its four acts: prepare, evaluate, train, report.

Everything that can be wrong with the input is found in `prepare`, before the run folder gets its first file. A run
that goes on finds what it had: its record, the evaluation before, the steps up to its last checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from rlvr_cpp.adapters.fit import base_facts
from rlvr_cpp.adapters.from_run import parents_of
from rlvr_cpp.errors import UserError, first_line
from rlvr_cpp.evaluation.attempts import Evaluation, in_order
from rlvr_cpp.evaluation.measure import evaluate
from rlvr_cpp.policy.completers import LocalModel
from rlvr_cpp.policy.lengths import fitting
from rlvr_cpp.policy.policy import Policy, attach_adapter, load_policy
from rlvr_cpp.policy.settings import Sampling
from rlvr_cpp.reward.configured import open_score
from rlvr_cpp.reward.score import Score
from rlvr_cpp.runs import interruption, processes
from rlvr_cpp.runs.console import banner, console
from rlvr_cpp.runs.record import RunRecord, utc_now
from rlvr_cpp.runs.samples import write_page
from rlvr_cpp.runs.trackers import open_trackers, tracker_names
from rlvr_cpp.tasks.choice import split_sources
from rlvr_cpp.tasks.mixture import Mixture, describe_sources, mixture_of
from rlvr_cpp.tasks.quality.references import check_references
from rlvr_cpp.tasks.quality.weak import try_unknown, weak_remarks
from rlvr_cpp.tasks.sources import SHIPPED, Source, load_sources
from rlvr_cpp.tasks.task import Task
from rlvr_cpp.tasks.tiers import tier_remarks
from rlvr_cpp.training.active import active_parts, overlap
from rlvr_cpp.training.checks import remarks
from rlvr_cpp.training.config import TrainingJob
from rlvr_cpp.training.guards.best import Points, best_point, nothing_better
from rlvr_cpp.training.guards.facts import reward_facts
from rlvr_cpp.training.guards.resume import AFTER, place_to_go_on, steps_of
from rlvr_cpp.training.report import (
    by_family,
    compare,
    pick_examples,
    plot_curve,
    print_comparison,
    print_examples,
    write_report,
)
from rlvr_cpp.training.steps import HEADER, StepLog, StepMetrics, read_steps, step_line
from rlvr_cpp.training.trainer import GRPOTrainer, GSPOTrainer
from rlvr_cpp.verifier.coverage import find_gcov
from rlvr_cpp.verifier.verifier import Verifier, open_verifier
from rlvr_sandbox import describe

SHOWN_EXAMPLES = 3
HEADER_EVERY = 20


@dataclass
class Parts:
    """What a run works with."""

    job: TrainingJob
    folder: Path
    record: RunRecord
    train_tasks: list[Task]
    held_out: list[Task]
    policy: Policy
    verifier: Verifier
    trainer: GRPOTrainer
    checkpoint: Path | None
    """Where a resumed run goes on; None at its beginning."""

    def evaluate(self, label: str) -> Evaluation:
        """Measure the policy on the held-out tasks, which the processes share."""
        job = self.job
        with self.trainer.ready_to_sample():
            own = evaluate(
                LocalModel(self.policy, Sampling(job.seed, job.algorithm.temperature, job.algorithm.max_gen_len)),
                processes.share_of(self.held_out),
                self.verifier,
                label=label,
                batch_size=job.evaluation.batch_size,
                samples=job.evaluation.samples,
            )
        everyone = {attempt.key: attempt for share in processes.of_everyone(own) for attempt in share.attempts}
        return in_order(everyone.values(), self.held_out)

    def evaluate_once(self, label: str) -> Evaluation:
        """The same, kept in the run folder with every attempt; a run that goes on reads what it has."""
        path = self.folder / f"evaluation_{label}.jsonl"
        known = processes.of_the_first(Evaluation.load(path) if path.exists() else None)
        if known is not None:
            console.print(f"{label}: measured already, see {path}", soft_wrap=True)
            return known.over(self.held_out)
        evaluation = self.evaluate(label)
        if self.record.write:
            evaluation.save(path)
        return evaluation


@dataclass
class Curve:
    """How a run went."""

    steps: list[StepMetrics]
    greedy: list[tuple[int, float]]
    """Held-out greedy pass@1 by step, where it was measured."""
    sampled: list[tuple[int, dict[str, float]]]
    """Held-out pass@k by step and k; k is 1 and the number of samples."""

    def note(self, step: int, evaluation: Evaluation) -> None:
        """Add what was measured after a step."""
        self.greedy.append((step, evaluation.greedy_pass_at_1().mean))
        if sampled := evaluation.pass_at_k():
            self.sampled.append((step, {str(k): rate for k, rate in sampled.items()}))

    def since(self, before: Evaluation) -> Points:
        """Greedy pass@1 from before the first step on."""
        return [(0, before.greedy_pass_at_1().mean), *self.greedy]

    def whole(self, before: Evaluation, after: Evaluation) -> Curve:
        """The same with what was measured before the first step and after the last."""
        whole = Curve(self.steps, [], [])
        whole.note(0, before)
        whole.greedy += self.greedy
        whole.sampled += self.sampled
        whole.note(self.steps[-1]["step"], after)
        return whole

    def facts(self) -> dict[str, Any]:
        """The same for the run's record."""
        return {"greedy_by_step": self.greedy, "pass_at_k_by_step": self.sampled}


@contextmanager
def prepare(job: TrainingJob, folder: Path) -> Iterator[Parts]:
    """Load and check everything, then open the run's record. Raises UserError for whatever is wrong."""
    sources = load_sources(job.tasks)
    train_tasks, held_out = split_sources(sources, job.tasks.held_out_fraction, job.evaluation.limit, job.seed)
    with ExitStack() as stack:
        verifier = stack.enter_context(open_verifier(job.verifier, job.sandbox.require, processes.on_this_machine()))
        verifier.check(task.std for task in (*train_tasks, *held_out))
        verifier.check_testlib(task.program("") for task in (*train_tasks, *held_out))
        tried = try_own_tasks(job, sources, train_tasks, held_out, verifier)
        check_coverage_tool(job, verifier)
        score = stack.enter_context(open_score(job.reward, verifier, job.seed))
        policy = load_policy(job.model, job.policy)
        count = len(train_tasks) + len(held_out)
        train_tasks, held_out = (
            fitting(tasks, policy, job.tasks.max_prompt_tokens, job.algorithm.max_gen_len)
            for tasks in (train_tasks, held_out)
        )
        left_out = count - len(train_tasks) - len(held_out)
        parameters = policy.model.num_parameters()
        mixture = mixture_of(sources, train_tasks, job.seed)
        fixed = reward_facts(job, policy, verifier, sources, train_tasks, held_out)
        fixed |= facts_for_an_artifact(job, policy)
        attach_adapter(policy, job.adapter)
        trainer = build_trainer(job, policy, train_tasks, verifier, score, folder, mixture)
        fixed["reference_sha256"] = trainer.reference_hash()
        first = processes.rank() == 0
        last = place_to_go_on(job, folder, held_out)
        noted, accepted = replace(job, accept_changes=[]), job.accept_changes
        record = stack.enter_context(RunRecord(folder, noted, verifier.version, fixed, accepted=accepted, write=first))
        banner(
            model=f"{job.model}, {parameters:,} parameters",
            tasks=f"{len(train_tasks)} for training, {len(held_out)} held out"
            + _too_long(left_out)
            + _mixed(sources, train_tasks),
            judge=f"{verifier.version}, {describe(verifier.workshop.controls.names)}",
            run=folder,
        )
        for remark in (*remarks(job), *tier_remarks(train_tasks), *weak_remarks(tried)):
            console.print(f"warning: {remark}", style="yellow", soft_wrap=True)
        record.add(prompts_left_out=left_out, sources=describe_sources(sources, train_tasks))
        trainer.check_gradients()
        stack.enter_context(open_trackers(job.tracker, trainer, record))
        yield Parts(job, folder, record, train_tasks, held_out, policy, verifier, trainer, last)


def try_own_tasks(
    job: TrainingJob, sources: Sequence[Source], training: Sequence[Task], held_out: Sequence[Task], verifier: Verifier
) -> list[Task]:
    """The training tasks of every source, with what was found of those that are not shipped; the first process looks.

    Their references have to pass, and answers without work should not. Raises UserError.
    """
    tried: list[Task] = []
    for source in sources:
        own = source.among(training)
        if source.name != SHIPPED and processes.rank() == 0:
            check_references([*own, *source.among(held_out)], job.tasks.check_references, verifier, source.name)
            own = try_unknown(own, job.tasks.check_references, verifier)
        tried += own
    return tried


def _too_long(left_out: int) -> str:
    return f", {left_out} left out for their prompts' length" if left_out else ""


def _mixed(sources: Sequence[Source], training: Sequence[Task]) -> str:
    return f" ({'; '.join(describe_sources(sources, training))})" if len(sources) > 1 else ""


def facts_for_an_artifact(job: TrainingJob, policy: Policy) -> dict[str, Any]:
    """What packing the trained adapter needs to know of the base as it was loaded; nothing where it cannot be told."""
    if not job.adapter.enabled:
        return {}
    try:
        return {**base_facts(policy.model), "parents": parents_of(job.adapter.start)}
    except UserError as error:
        console.print(f"warning: no artifact can be made of this run: {error}", style="yellow", soft_wrap=True)
        return {}


def check_coverage_tool(job: TrainingJob, verifier: Verifier) -> None:
    """Raise UserError where FGO is to know which lines ran and nothing here can tell."""
    if job.stepcoder.fgo in ("coverage", "both") and find_gcov(verifier.workshop) is None:
        raise UserError(
            f"stepcoder.fgo is {job.stepcoder.fgo!r}, but beside {verifier.toolchain.compiler} there is no gcov (g++) "
            "or llvm-cov (clang++): install it, or use compile_error"
        )


def build_trainer(
    job: TrainingJob,
    policy: Policy,
    tasks: list[Task],
    verifier: Verifier,
    score: Score,
    folder: Path,
    mixture: Mixture | None = None,
) -> GRPOTrainer:
    """The trainer, with its adapter in the policy. Raises UserError for an argument that trl or peft refuses."""
    if mixture is not None:
        mixture.check(job.trainer.batch_size // job.algorithm.group_size)
    kind = GSPOTrainer if job.algorithm.ratio == "sequence" else GRPOTrainer
    try:
        trainer = kind(
            policy,
            tasks,
            verifier,
            job.algorithm,
            job.trainer,
            out=folder,
            guards=job.guards,
            adapter=job.adapter,
            generation=job.generation,
            stepcoder=job.stepcoder,
            score=score,
            seed=job.seed,
            processes=processes.count(),
            mixture=mixture,
        )
        trainer.try_optimizer()
    except UserError:
        raise
    except (ValueError, TypeError, ImportError, RuntimeError) as error:
        reason = first_line(error)
        raise UserError(
            f"the trainer cannot be built with these trainer, adapter and algorithm settings: {reason}"
        ) from error
    return trainer


def train(parts: Parts, before: Evaluation) -> Curve:
    """Run the trainer, from its last checkpoint on, with a bar, one line a step, and metrics on disk."""
    job, trainer = parts.job, parts.trainer
    trained = parts.folder / ("adapter" if job.adapter.enabled else "model")
    done, source = _known_state(parts, trained)
    if source is not None:
        left = "" if done < _last_step(parts) else ", with nothing left to train"
        console.print(f"resume  after step {done}, from {source}{left}", soft_wrap=True)
    elif "resumed" in parts.record.fields:
        console.print("resume  from the first step, for there is no checkpoint")
    curve = _known_curve(parts, done)
    if source is not None and done >= _last_step(parts):
        trainer.load_weights(source)
    else:
        _train_steps(parts, curve, done, before)
    console.print(f"a step took {overlap(curve.steps):.2f} x max(generate + update, verify) in the median")
    parts.record.add(active=active_parts(job, trainer.model, trainer.loss_type, curve.steps))
    # by every process: the first one writes, but shards of a weight have to meet
    trainer.save_model(str(trained))
    return curve


def _last_step(parts: Parts) -> int:
    """The step that a run ends or ended with."""
    early: int | None = parts.record.fields["results"].get("stopped_early")
    ended = processes.of_the_first((parts.folder / AFTER).exists())
    return early if early is not None and ended else parts.job.trainer.steps


def _known_state(parts: Parts, trained: Path) -> tuple[int, Path | None]:
    """The steps that need not be made again and the weights they led to."""
    if _last_step(parts) < parts.job.trainer.steps:
        return _last_step(parts), trained
    if parts.checkpoint is not None:
        return steps_of(parts.checkpoint, parts.job), parts.checkpoint
    if processes.of_the_first((parts.folder / AFTER).exists()):  # of the weights that were saved
        return parts.job.trainer.steps, trained
    return 0, None


def _known_curve(parts: Parts, done: int) -> Curve:
    between = range(1, min(done + 1, parts.job.trainer.steps))  # a report adds what was measured before and after
    greedy, sampled = (
        [(step, value) for step, value in parts.record.fields["results"].get(name, []) if step in between]
        for name in ("greedy_by_step", "pass_at_k_by_step")
    )
    return Curve(read_steps(parts.folder, done), greedy, sampled)


def _train_steps(parts: Parts, curve: Curve, done: int, before: Evaluation) -> None:
    job, trainer = parts.job, parts.trainer
    if parts.record.write:
        (parts.folder / AFTER).unlink(missing_ok=True)  # of a run that had ended and is made longer
    columns = (TextColumn("{task.description:<23}"), BarColumn(24), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        Progress(*columns, TimeRemainingColumn(), console=console, refresh_per_second=4) as progress,
        StepLog(parts.folder, done, write=parts.record.write, board="tensorboard" in tracker_names(job.tracker)) as log,
    ):
        bar = progress.add_task("train", total=job.trainer.steps, completed=done)

        def on_phase(phase: str) -> None:
            interruption.check()
            progress.update(bar, description=f"train: {phase}")

        def on_step(step: int, metrics: StepMetrics) -> None:
            row = {"step": step, **metrics}
            curve.steps.append(row)
            log.write(row)
            if (step - done - 1) % HEADER_EVERY == 0:
                console.print(HEADER, style="bold", soft_wrap=True)
            console.print(step_line(step, job.trainer.steps, metrics, groups_of(job)), soft_wrap=True)
            progress.update(bar, completed=step)
            if job.evaluation.every and step % job.evaluation.every == 0 and step < job.trainer.steps:
                progress.stop()  # the evaluation draws bars of its own
                curve.note(step, parts.evaluate(f"step {step}"))
                parts.record.add(**curve.facts())
                if _consider(parts, curve.since(before)):
                    console.print(f"stopped after step {step}: no evaluation was better than the best before it")
                    parts.record.add(stopped_early=step)
                    trainer.control.should_training_stop = True
                progress.start()

        trainer.on_step, trainer.on_phase = on_step, on_phase
        trainer.train(resume_from_checkpoint=str(parts.checkpoint) if parts.checkpoint else None)


def _consider(parts: Parts, points: Points) -> bool:
    """Keep the weights where the last point is the best; tells whether there is nothing more to hope for."""
    best, settings = best_point(points), parts.job.evaluation
    if best is not None:
        parts.record.add(best={"step": best[0], "greedy_pass_at_1": best[1]})
        if settings.keep_best and best[0] == points[-1][0] > 0:
            parts.trainer.keep_as_best()
    return nothing_better(points, settings.patience)


def keep_if_best(parts: Parts, before: Evaluation, curve: Curve, after: Evaluation) -> None:
    """Take the weights that training ended with for the best where none before them were better."""
    _consider(parts, curve.whole(before, after).greedy)


def groups_of(job: TrainingJob) -> int:
    """Groups in one step."""
    return job.trainer.batch_size // job.algorithm.group_size


def report(parts: Parts, before: Evaluation, curve: Curve, after: Evaluation) -> float:
    """Print the comparison, write the curve and the page, and return greedy pass@1 after training."""
    rows = compare(before, after)
    if not parts.record.write:
        return rows[0].after.mean
    families = by_family(parts.held_out, before, after)
    examples = pick_examples(parts.held_out, before, after, SHOWN_EXAMPLES)
    whole = curve.whole(before, after)
    plot_curve(whole.steps, whole.greedy, whole.sampled, parts.folder / "curve.png")
    parts.record.add(
        measured=utc_now(),
        comparison=[{**asdict(row), "rise": row.rise} for row in rows],
        unscorable={"before": before.unscorable, "after": after.unscorable},
        **whole.facts(),
    )
    title = f"{parts.job.model}, {parts.folder.name}"
    write_page(parts.folder, title, parts.train_tasks + parts.held_out, is_continued=not parts.policy.chat)
    page = write_report(parts.folder, parts.record.fields, rows, families, examples)
    print_examples(examples)
    print_comparison(rows, families)
    console.print(f"report: {page}", soft_wrap=True)
    return rows[0].after.mean
