"""GSPO against a real compiler: `python -m rlvr_cpp.gspo`, or with `+recipe=prod model=...` on a GPU.

A policy writes C++, a compiler and tests judge it, the reward moves the policy. Without arguments this is the
embedded demo. Everything that a run leaves is in its run folder; open `report.html` there.

    python -m rlvr_cpp.gspo                                   the embedded demo
    python -m rlvr_cpp.gspo +recipe=prod model=<id or folder> the production recipe
    python -m rlvr_cpp.gspo seed=1 trainer.steps=60           any value below can be set
    python -m rlvr_cpp.gspo --multirun seed=0,1,2             a sweep, one run folder each
    python -m rlvr_cpp.gspo resume=<run folder>               go on where a run was stopped
    python -m rlvr_cpp.gspo resume=<run folder> trainer.steps=90  make it longer
    python -m rlvr_cpp.gspo dry_run=true                      what would be done
"""

from __future__ import annotations

from rlvr_cpp.runs.command import hydra_main
from rlvr_cpp.training.checks import load
from rlvr_cpp.training.command import run
from rlvr_cpp.training.config import CHANGEABLE, TrainingJob


def main() -> None:
    """Train by sequence ratios."""
    hydra_main(run, "gspo", load, kind=TrainingJob, usage=__doc__, changeable=CHANGEABLE)


if __name__ == "__main__":
    main()
