"""GSPO against a real compiler: `python -m rlvr_cpp.gspo`, or with `+recipe=prod model=...` on a GPU.

A policy writes C++, a compiler and tests judge it, the reward moves the policy. Without arguments this is the
embedded demo. Everything that a run leaves is in its run folder; open `report.html` there.
"""

from __future__ import annotations

import sys
from pathlib import Path

from rlvr_cpp.config import TrainingJob, load

INSTALL = "pip install 'rlvr-cpp[train]'"


def main(config_name: str = "gspo") -> None:
    """The command."""
    try:
        from rlvr_cpp.command import run_command
    except ModuleNotFoundError as error:
        print(f"error: {error.name} is missing: training needs the extra 'train': {INSTALL}", file=sys.stderr)
        sys.exit(2)
    run_command(run, config_name, load)


def run(job: TrainingJob, folder: Path) -> float:
    """Measure, train, measure again, report; returns held-out greedy pass@1, which a sweeper can maximise."""
    if job.dry_run:
        from rlvr_cpp.plan import print_plan

        print_plan(job)
        return 0.0
    from rlvr_cpp.progress import console

    console.print("loading torch, trl and the model ...")
    from rlvr_cpp import processes  # seconds that --help need not wait
    from rlvr_cpp.training_run import prepare, report, train

    processes.connect(job.policy.device)
    folder = processes.shared_folder(folder)
    with prepare(job, folder) as parts:
        before = parts.evaluate_once("before")
        curve = train(parts)
        after = parts.evaluate_once("after")
        return report(parts, before, curve, after)


if __name__ == "__main__":
    main()
