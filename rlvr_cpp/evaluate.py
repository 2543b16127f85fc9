"""Measure a model on C++ problems: `python -m rlvr_cpp.evaluate model=... benchmark=...`.

A greedy completion of each problem and several sampled ones, judged by a real compiler and the problem's tests: greedy
pass@1 and unbiased pass@k with their intervals. The run folder has every sample, a report, and `evaluation.json`, the
evidence that two measurements are compared by. `model=canonical` and `model=negated` are the harness's test of itself.
"""

from __future__ import annotations

import sys
from pathlib import Path

from rlvr_cpp.evaluation_config import EvaluationJob, load

INSTALL = "pip install 'rlvr-cpp[train]'"


def main() -> None:
    """The command."""
    try:
        from rlvr_cpp.command import run_command
    except ModuleNotFoundError as error:
        print(f"error: {error.name} is missing: evaluating needs the extra 'train': {INSTALL}", file=sys.stderr)
        sys.exit(2)
    run_command(run, "evaluate", load)


def run(job: EvaluationJob, folder: Path) -> float:
    """Load, ask and judge, report; returns pass@1, greedy where that was measured."""
    from rlvr_cpp.evaluation_run import measure, prepare, report  # seconds that --help need not wait

    with prepare(job, folder) as parts:
        evaluation = measure(parts)
        return report(parts, evaluation)


if __name__ == "__main__":
    main()
