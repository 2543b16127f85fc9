"""GRPO (arXiv 2402.03300) against a real compiler: `python -m rlvr_cpp.grpo`.

The job of `rlvr_cpp.gspo` with a ratio for each token; every key is the same.
"""

from __future__ import annotations

from rlvr_cpp.runs.command import hydra_main
from rlvr_cpp.training.checks import load
from rlvr_cpp.training.command import run


def main() -> None:
    """Train by token ratios."""
    hydra_main(run, "grpo", load)


if __name__ == "__main__":
    main()
