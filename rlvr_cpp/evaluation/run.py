"""The parts of an evaluation and its three acts: prepare, measure, report.

Everything that can be wrong with the input is found in `prepare`, before the run folder gets its first file. A run that
goes on finds the samples that it had, and that problems, judge and weights are still the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rlvr_cpp.evaluation.attempts import Evaluation, open_samples
from rlvr_cpp.evaluation.config import REPLAYED, EvaluationJob
from rlvr_cpp.evaluation.measure import evaluate
from rlvr_cpp.evaluation.report import print_summary, summarize, write_pages
from rlvr_cpp.evaluation.subject import Subject, given_subject, open_subject
from rlvr_cpp.policy.completers import GREEDY, SAMPLED
from rlvr_cpp.runs.console import banner, console
from rlvr_cpp.runs.evidence import EVIDENCE_FILE, INVALID, PASS, Decoding, EvaluationRecord, task_scores
from rlvr_cpp.runs.files import contract_hash
from rlvr_cpp.runs.record import RunRecord, git_commit, package_versions, utc_now
from rlvr_cpp.runs.samples import write_page
from rlvr_cpp.tasks.answers import Answers, read_answers
from rlvr_cpp.tasks.benchmarks import Benchmark, load_benchmark, with_references
from rlvr_cpp.tasks.reading.contract import answer_contract
from rlvr_cpp.verifier.verifier import Verifier, open_verifier
from rlvr_sandbox import describe

SAMPLES = "samples.jsonl"


@dataclass(kw_only=True)
class Measuring:
    """What an evaluation works with."""

    job: EvaluationJob
    folder: Path
    record: RunRecord
    benchmark: Benchmark
    subject: Subject
    verifier: Verifier


@contextmanager
def prepare(job: EvaluationJob, folder: Path) -> Iterator[Measuring]:
    """Load and check everything, then open the run's record. Raises UserError for whatever is wrong."""
    benchmark = load_benchmark(job.benchmark)
    if job.model in REPLAYED:
        benchmark = with_references(benchmark)
    answers = None if job.completions is None else read_answers(job.completions, benchmark.tasks)
    if answers is not None:
        job = _as_many_as_given(job, answers)
    with open_verifier(job.verifier, job.sandbox.require) as verifier:
        verifier.check(task.std for task in benchmark.tasks)
        verifier.check_testlib(task.program("", benchmark.hidden) for task in benchmark.tasks)
        subject = open_subject(job) if answers is None else given_subject(job, answers)
        with RunRecord(folder, job, verifier.version, _fixed(benchmark, subject, verifier)) as record:
            banner(
                model=f"{subject.model} with {subject.adapter}" if subject.adapter else subject.model,
                tasks=f"{len(benchmark.tasks)} of {benchmark.name}, {benchmark.split} tests",
                judge=f"{verifier.version}, {describe(verifier.workshop.controls.names)}",
                run=folder,
            )
            if answers is not None and (remark := answers.remark(subject.model)):
                console.print(f"warning: {remark}", style="yellow", markup=False, soft_wrap=True)
            yield Measuring(
                job=job,
                folder=folder,
                record=record,
                benchmark=benchmark,
                subject=subject,
                verifier=verifier,
            )


def _as_many_as_given(job: EvaluationJob, answers: Answers) -> EvaluationJob:
    """One answer to each task is measured as a greedy one is, several as samples are."""
    count = answers.samples
    if count == 1:
        return replace(job, greedy=True, samples=0)
    return replace(job, greedy=False, samples=count, k=[k for k in job.k if k <= count] or [1])


def _fixed(benchmark: Benchmark, subject: Subject, verifier: Verifier) -> dict[str, Any]:
    """What has to stay the same when an evaluation goes on."""
    return {
        "benchmark_hash": benchmark.content_hash,
        "contract_hash": contract_hash(answer_contract(verifier)),
        "model_hash": subject.model_hash,
        "adapter_hash": subject.adapter_hash,
        "completions_hash": subject.completions_hash,
    }


def measure(parts: Measuring) -> Evaluation:
    """Ask and judge what the run folder does not know yet."""
    job, benchmark = parts.job, parts.benchmark
    with open_samples(parts.folder / SAMPLES) as log:
        if log.known:
            console.print(f"resume  {len(log.known)} completions are judged already")
        return evaluate(
            parts.subject.completer,
            benchmark.tasks,
            parts.verifier,
            label=benchmark.name,
            batch_size=job.batch_size,
            samples=job.sampled,
            greedy=job.greedy,
            hidden=benchmark.hidden,
            known=log.known,
            on_judged=lambda attempts: log.write(attempt.to_json() for attempt in attempts),
        )


def report(parts: Measuring, evaluation: Evaluation) -> float:
    """Write the evidence and the pages, print the tables, and return pass@1, greedy where that was measured."""
    ks = sorted(set(parts.job.k)) if parts.job.sampled else []
    summary = summarize(evaluation, parts.benchmark.tasks, ks)
    record = make_record(parts, evaluation, ks)
    record.save(parts.folder / EVIDENCE_FILE)
    parts.record.add(
        record_id=record.record_id,
        status=record.status,
        reason=record.reason,
        measures=[asdict(row) for row in summary.measures],
        unscorable=summary.unscorable,
    )
    continued = parts.subject.prompt_format == "completion"
    write_page(parts.folder, f"{record.model} on {record.benchmark}", parts.benchmark.tasks, is_continued=continued)
    page = write_pages(parts.folder, summary, record, parts.record.fields["command"])
    print_summary(summary, record)
    console.print(f"report: {page}", markup=False, soft_wrap=True)
    return summary.measures[0].estimate.mean


def make_record(parts: Measuring, evaluation: Evaluation, ks: list[int]) -> EvaluationRecord:
    """The evidence. It is `INVALID` where a task does not count in every number."""
    job, benchmark, subject = parts.job, parts.benchmark, parts.subject
    greedy, samples = evaluation.outcomes(GREEDY), evaluation.outcomes(SAMPLED)
    asked = [(greedy, 1)] * job.greedy + [(samples, k) for k in ks[-1:]]
    whole = set.intersection(*(set(task_scores(outcomes, k)) for outcomes, k in asked))
    missing = len(benchmark.tasks) - len(whole)
    contract = answer_contract(parts.verifier)
    return EvaluationRecord(
        benchmark=benchmark.name,
        benchmark_hash=benchmark.content_hash,
        split=benchmark.split,
        contract=contract,
        contract_hash=contract_hash(contract),
        model=subject.model,
        model_hash=subject.model_hash,
        adapter=subject.adapter,
        adapter_hash=subject.adapter_hash,
        decoding=_decoding(job),
        prompt_format=subject.prompt_format,
        packages=package_versions(),
        git_commit=git_commit(),
        created=utc_now(),
        status=INVALID if missing else PASS,
        reason=f"{missing} of {len(benchmark.tasks)} tasks {_what_is_missing(parts)}" if missing else None,
        greedy=greedy,
        samples=samples,
    )


def _what_is_missing(parts: Measuring) -> str:
    if parts.job.completions is not None:
        return f"have too few answers in {parts.job.completions} that could be judged"
    return f"could not be judged often enough; resume={parts.folder} judges what is missing"


def _decoding(job: EvaluationJob) -> Decoding:
    is_known = job.completions is None
    return Decoding(
        temperature=job.temperature if is_known else None,
        max_new_tokens=job.max_new_tokens if is_known else None,
        samples=job.sampled,
        greedy=job.greedy,
        seed=job.seed if is_known else None,
    )
