"""What does a discarded group cost? `python -m benchmarks.discards RUN [RUN ...]` reads the steps of finished runs.

By least squares over the steps, the seconds that a group takes beside sampling and the wait for verdicts: one that is
kept has log-probabilities under the policy and the reference, a forward and a backward pass; one that is discarded
should have none of them. A run needs steps with unlike numbers of both.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from rlvr_cpp.training.steps import read_steps

WARM_UP = 2
"""Steps that pay for first calls."""


def main(folders: list[str]) -> None:
    """Print a line for each run."""
    print("seconds beside sampling and waiting    a kept group    a discarded one   a step   share that is discarded")
    for folder in folders:
        steps = read_steps(Path(folder), sys.maxsize)[WARM_UP:]
        gone = [step["tied_groups"] + step["infra_groups"] for step in steps]
        known = np.array([[step["kept_groups"], dead, 1.0] for step, dead in zip(steps, gone, strict=True)])
        taken = np.array([step["update"] for step in steps])
        (kept, dead, _), *_ = np.linalg.lstsq(known, taken, rcond=None)
        share = sum(gone) / known[:, :2].sum()
        print(f"{folder:<36}{kept:>15.3f}{dead:>19.3f}{taken.mean():>9.2f}{share:>15.0%}")


if __name__ == "__main__":
    main(sys.argv[1:])
