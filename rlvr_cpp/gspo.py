"""GSPO against a real compiler: `python -m rlvr_cpp.gspo`, or with `+recipe=prod model=...` on a GPU.

A policy writes C++, a compiler and tests judge it, the reward moves the policy. Without arguments this is the
embedded demo. Everything that a run leaves is in its run folder; open `report.html` there.
"""

from __future__ import annotations

import signal
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from rlvr_cpp.command import plain_endings
from rlvr_cpp.config import CONF, GSPOJob, load


@hydra.main(version_base=None, config_path=CONF, config_name="gspo")
def main(raw: DictConfig) -> float:
    """Run one job; returns held-out greedy pass@1 afterwards, which a sweeper can maximise."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite kill ends like Ctrl-C
    with plain_endings(folder):
        return run(load(raw), folder)


def run(job: GSPOJob, folder: Path) -> float:
    """Measure, train, measure again, report."""
    from rlvr_cpp.training_run import (
        prepare,
        report,
        train,
    )  # torch and friends, seconds after --help has answered

    with prepare(job, folder) as parts:
        before = parts.evaluate("before")
        curve = train(parts)
        after = parts.evaluate("after")
        return report(parts, before, curve, after)


if __name__ == "__main__":
    main()
