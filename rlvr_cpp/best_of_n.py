"""Best of N: sample several candidates, judge them with the compiler and the public tests, keep the best.

`rlvr_cpp.best_of_n_generate` does it for one prompt of any Hugging Face model. `python -m rlvr_cpp.best_of_n` does it
for every task of a split and reports what that is worth: selecting and scoring on the same tests would make best-of-N
equal to pass@N by definition, so the candidates are selected on public tests and the choice is judged by hidden ones.

    python -m rlvr_cpp.best_of_n                                   the embedded demo
    python -m rlvr_cpp.best_of_n model=<id or folder> policy=gpu   any model
    python -m rlvr_cpp.best_of_n n=4 budget_s=5                    what five seconds a task give
    python -m rlvr_cpp.best_of_n split=train dataset=true          a training set
    python -m rlvr_cpp.best_of_n resume=<run folder>               go on where a run was stopped
"""

from __future__ import annotations

from pathlib import Path

from rlvr_cpp.runs.command import hydra_main
from rlvr_cpp.search.config import BestOfNJob, load


def main() -> None:
    """Search on every task."""
    hydra_main(run, "best_of_n", load, kind=BestOfNJob, usage=__doc__)


def run(job: BestOfNJob, folder: Path) -> float:
    """Search on every task, report; returns the share of choices that pass the hidden tests."""
    from rlvr_cpp.runs.console import console

    console.print("loading torch and the model ...")
    from rlvr_cpp.search.dataset import write_dataset
    from rlvr_cpp.search.report import report
    from rlvr_cpp.search.run import prepare, search_all

    with prepare(job, folder) as parts:
        outcomes = search_all(parts)
        if job.dataset:
            write_dataset(outcomes, parts.policy, parts.tasks, folder / "dataset")
        return report(outcomes, parts.record)


if __name__ == "__main__":
    main()
