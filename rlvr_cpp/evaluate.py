"""Measure a model on C++ problems: `python -m rlvr_cpp.evaluate model=... benchmark=...`.

A greedy completion of each problem and several sampled ones, judged by a real compiler and the problem's tests: greedy
pass@1 and unbiased pass@k with their intervals. The run folder has every sample, a report, and `evaluation.json`, the
evidence that two measurements are compared by. `model=canonical` and `model=negated` are the harness's test of itself.
"""

from __future__ import annotations

from pathlib import Path

from rlvr_cpp.evaluation.config import EvaluationJob, load
from rlvr_cpp.runs.command import hydra_main


def main() -> None:
    """Measure a model."""
    hydra_main(run, "evaluate", load)


def run(job: EvaluationJob, folder: Path) -> float:
    """Load, ask and judge, report; returns pass@1, greedy where that was measured."""
    from rlvr_cpp.evaluation.run import measure, prepare, report

    with prepare(job, folder) as parts:
        evaluation = measure(parts)
        return report(parts, evaluation)


if __name__ == "__main__":
    main()
