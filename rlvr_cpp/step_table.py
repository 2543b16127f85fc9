"""One line a rollout step, under a header: 80 characters while every number is ordinary."""

from __future__ import annotations

import math
from collections.abc import Mapping

HEADER = "   step reward  comp  pass groups     kl  clip  grad   gen wait  upd step| ver s"


def step_line(step: int, steps: int, metrics: Mapping[str, float | None], groups: int) -> str:
    """A step as a row under `HEADER`.

    Times are in seconds: generation, waiting for verdicts and the update add up to the step; how long something was
    being judged meanwhile stands apart.
    """
    m = {name: math.nan if value is None else value for name, value in metrics.items()}
    done, kept = f"{step}/{steps}", f"{m['kept_groups']:.0f}/{groups}"
    return (
        f"{done:>7}{m['reward']:>7.3f}{m['compile_rate']:>6.2f}{m['pass_rate']:>6.2f}{kept:>7}"
        f"{m.get('kl', 0.0):>7.4f}{m['clip_fraction']:>6.2f}{m['grad_norm']:>6.2f}"
        f"{m['generate']:>6.1f}{m['wait']:>5.1f}{m['update']:>5.1f}{m['seconds']:>5.1f}|{m['verify']:>6.1f}"
    )
