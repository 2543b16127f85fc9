"""Which completions carry a signal: the group rules, as functions of rewards.

A group whose scorable rewards are all equal says nothing about the policy: its advantages are zero, yet its rows
would still pull on the KL term, count in denominators and, through momentum, move weights. So they are discarded
(DAPO, arXiv 2503.14476). Unscorable completions belong to no group at all.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

TIE = 1e-8  # on max - min in float64; a standard deviation of equal float32 rewards need not be zero


@dataclass(frozen=True)
class LiveRows:
    """What is left of a batch of groups."""

    mask: torch.Tensor
    """(B,) bool: this completion enters the loss."""
    kept: int
    """Groups that enter the loss."""
    tied: int
    """Groups dropped because all their rewards are equal."""
    infra: int
    """Groups dropped because fewer than two of their completions could be judged."""


def live_rows(rewards: torch.Tensor, group_size: int) -> LiveRows:
    """Apply the group rules to rewards (B,), group after group; NaN is unscorable."""
    groups = rewards.double().view(-1, group_size)
    scorable = ~groups.isnan()
    highest = groups.nan_to_num(nan=-torch.inf).amax(dim=1)
    lowest = groups.nan_to_num(nan=torch.inf).amin(dim=1)
    judged = scorable.sum(dim=1) >= 2
    spread = judged & (highest - lowest > TIE)
    return LiveRows(
        mask=(scorable & spread[:, None]).flatten(),
        kept=int(spread.sum()),
        tied=int((judged & ~spread).sum()),
        infra=int((~judged).sum()),
    )
