"""The training commands' one body: measure, train, measure again, report."""

from __future__ import annotations

from pathlib import Path

from rlvr_cpp.training.config import TrainingJob


def run(job: TrainingJob, folder: Path) -> float:
    """Measure, train, measure again, report; returns held-out greedy pass@1, which a sweeper can maximise."""
    if job.dry_run:
        from rlvr_cpp.training.plan import print_plan

        print_plan(job)
        return 0.0
    from rlvr_cpp.runs.console import console

    console.print("loading torch, trl and the model ...")
    from rlvr_cpp.runs import processes
    from rlvr_cpp.training.run import keep_if_best, prepare, report, train

    processes.connect(job.policy.device)
    folder = processes.shared_folder(folder)
    with prepare(job, folder) as parts:
        before = parts.evaluate_once("before")
        curve = train(parts, before)
        after = parts.evaluate_once("after")
        keep_if_best(parts, before, curve, after)
        return report(parts, before, curve, after)
