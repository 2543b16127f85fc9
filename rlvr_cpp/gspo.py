"""GSPO against a real compiler: `python -m rlvr_cpp.gspo`, or with `+recipe=prod model=...` on a GPU.

A policy writes C++, a compiler and tests judge it, the reward moves the policy. Without arguments this is the
embedded demo. Everything that a run leaves is in its run folder; open `report.html` there.
"""

from __future__ import annotations

from rlvr_cpp.runs.command import hydra_main
from rlvr_cpp.training.checks import load
from rlvr_cpp.training.command import run


def main() -> None:
    """Train by sequence ratios."""
    hydra_main(run, "gspo", load)


if __name__ == "__main__":
    main()
