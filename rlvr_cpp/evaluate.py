"""Measure a model on C++ problems: `python -m rlvr_cpp.evaluate model=... benchmark=...`.

A greedy completion of each problem and several sampled ones, judged by a real compiler and the problem's tests: greedy
pass@1 and unbiased pass@k with their intervals. The run folder has every sample, a report, and `evaluation.json`, the
evidence that two measurements are compared by. `model=canonical` and `model=negated` are the harness's test of itself.

    python -m rlvr_cpp.evaluate                                      the embedded model on the held-out tasks
    python -m rlvr_cpp.evaluate model=<run folder>                   what a training run made
    python -m rlvr_cpp.evaluate model=<id or folder> policy=gpu benchmark=humaneval_cpp
    python -m rlvr_cpp.evaluate adapter_from=registry:<project>      the active adapter on its base
    python -m rlvr_cpp.evaluate endpoint=http://localhost:8000/v1 model=<name> policy.prompt_format=chat
    python -m rlvr_cpp.evaluate model=canonical benchmark=humaneval_cpp benchmark.source=<file>
    python -m rlvr_cpp.evaluate completions=<file of answers>        what another tool has written
    python -m rlvr_cpp.evaluate resume=<run folder>                  only what is missing
    python -m rlvr_cpp.compare <run folder> <run folder>             is the difference real
"""

from __future__ import annotations

from pathlib import Path

from rlvr_cpp.evaluation.config import EvaluationJob, load
from rlvr_cpp.runs.command import hydra_main


def main() -> None:
    """Measure a model."""
    hydra_main(run, "evaluate", load, kind=EvaluationJob, usage=__doc__)


def run(job: EvaluationJob, folder: Path) -> float:
    """Load, ask and judge, report; returns pass@1, greedy where that was measured."""
    from rlvr_cpp.evaluation.run import measure, prepare, report

    with prepare(job, folder) as parts:
        evaluation = measure(parts)
        return report(parts, evaluation)


if __name__ == "__main__":
    main()
