"""GRPO (arXiv 2402.03300) against a real compiler: `python -m rlvr_cpp.grpo`.

The job of `rlvr_cpp.gspo` with a ratio for each token; every key is the same.

    python -m rlvr_cpp.grpo                                   the embedded demo
    python -m rlvr_cpp.grpo +recipe=prod model=<id or folder> the production recipe
    python -m rlvr_cpp.grpo seed=1 trainer.steps=60           any value below can be set
    python -m rlvr_cpp.grpo --multirun seed=0,1,2             a sweep, one run folder each
    python -m rlvr_cpp.grpo resume=<run folder>               go on where a run was stopped
    python -m rlvr_cpp.grpo resume=<run folder> trainer.steps=90  make it longer
    python -m rlvr_cpp.grpo dry_run=true                      what would be done
"""

from __future__ import annotations

from rlvr_cpp.runs.command import hydra_main
from rlvr_cpp.training.checks import load
from rlvr_cpp.training.command import run
from rlvr_cpp.training.config import CHANGEABLE, TrainingJob


def main() -> None:
    """Train by token ratios."""
    hydra_main(run, "grpo", load, kind=TrainingJob, usage=__doc__, changeable=CHANGEABLE)


if __name__ == "__main__":
    main()
