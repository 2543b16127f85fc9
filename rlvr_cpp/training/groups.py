"""What a group of rewards says: advantages and the group rules, in float64.

A group whose scorable rewards are all equal says nothing about the policy: its advantages are zero, yet its rows
would still pull on the KL term, count in denominators and, through momentum, move weights. So they are discarded
(DAPO, arXiv 2503.14476). A tie is max - min: the standard deviation of eight equal float32 rewards need not be zero,
and divides their rounding error by itself. Unscorable completions belong to no group at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from rlvr_cpp.training.config import GRPOConfig

TIE = 1e-8
ADVANTAGE_EPS = 1e-4


@dataclass(frozen=True)
class LiveRows:
    """What is left of a batch of groups."""

    mask: torch.Tensor
    """(B,) bool: this completion enters the loss."""
    kept: int
    """Groups that enter the loss."""
    tied: int
    """Groups whose rewards are all equal; dropped unless ties are kept."""
    infra: int
    """Groups dropped because fewer than two of their completions could be judged."""

    def update_of_rows(self, group_size: int, updates: int) -> torch.Tensor:
        """(B,) long: which of the optimizer steps on this batch a row belongs to, -1 for none.

        The kept groups are dealt out in turn, whole, so every step sees its share and the composition depends neither
        on processes nor on passes.
        """
        alive = self.mask.view(-1, group_size).any(dim=1)
        step = (alive.long().cumsum(0) - 1) % updates
        return torch.where(self.mask, step.repeat_interleave(group_size), -1)


def live_rows(metric: torch.Tensor, group_size: int, *, keep_ties: bool = False) -> LiveRows:
    """Apply the group rules to the primary metric (B,) of the completions, group after group; NaN is unscorable.

    The primary metric is the reward by the tests alone: style and length terms would tell solved groups apart.
    """
    groups = metric.double().view(-1, group_size)
    scorable = ~groups.isnan()
    judged = scorable.sum(dim=1) >= 2
    spread = judged & _differs(groups)
    alive = judged if keep_ties else spread
    return LiveRows(
        mask=(scorable & alive[:, None]).flatten(),
        kept=int(alive.sum()),
        tied=int((judged & ~spread).sum()),
        infra=int((~judged).sum()),
    )


def group_advantages(
    rewards: torch.Tensor, group_size: int, *, scale: bool = True, ddof: int = 1, eps: float = ADVANTAGE_EPS
) -> torch.Tensor:
    """(B,) float64 advantages `(r - mean) / (std + eps)` within each group (arXiv 2402.03300); NaN is unscorable.

    Without `scale` only the mean is taken off (arXiv 2503.20783). Equal rewards, unscorable completions and groups
    with fewer than two scorable ones have exactly 0.
    """
    groups = rewards.double().view(-1, group_size)
    scorable = ~groups.isnan()
    count = scorable.sum(dim=1, keepdim=True)
    centred = groups - groups.nansum(dim=1, keepdim=True) / count.clamp(min=1)
    if scale:
        variance = centred.square().nansum(dim=1, keepdim=True) / (count - ddof).clamp(min=1)
        centred = centred / (variance.sqrt() + eps)
    says_something = scorable & ((count >= 2) & _differs(groups)[:, None])
    return torch.where(says_something, centred, 0.0).flatten()


def overlong_penalty(lengths: torch.Tensor, max_length: int, buffer: int) -> torch.Tensor:
    """(B,) float64 in [-1, 0]: DAPO's soft punishment (arXiv 2503.14476, eq. 13) of completions of `lengths` tokens.

    0 up to `max_length - buffer`, from there linearly down to -1 at `max_length` and beyond.
    """
    return ((max_length - buffer - lengths.double()) / buffer).clamp(-1.0, 0.0)


def _differs(groups: torch.Tensor) -> torch.Tensor:
    """(groups,) bool: the scorable values of a group are not all equal."""
    highest = groups.nan_to_num(nan=-torch.inf).amax(dim=1)
    lowest = groups.nan_to_num(nan=torch.inf).amin(dim=1)
    return highest - lowest > TIE


@dataclass(frozen=True)
class Signal:
    """What a batch of groups says."""

    rows: LiveRows
    advantages: torch.Tensor
    """(B,) float64."""


def group_signal(
    primary: Sequence[float | None],
    rewards: Sequence[float | None],
    lengths: Sequence[int],
    truncated: Sequence[bool],
    algorithm: GRPOConfig,
) -> Signal:
    """The live rows and advantages of a batch of completions, group after group; a reward of None is unscorable.

    A masked truncated completion leaves the baseline, too: in it, it would lend the others a positive advantage.
    """
    gone = torch.tensor(truncated) if algorithm.truncated == "mask" else torch.zeros(len(primary), dtype=torch.bool)
    nan = float("nan")
    metric = torch.tensor([nan if x is None else x for x in primary], dtype=torch.float64).masked_fill(gone, nan)
    paid = torch.tensor([nan if x is None else x for x in rewards], dtype=torch.float64).masked_fill(gone, nan)
    if algorithm.overlong_buffer is not None:
        soft = overlong_penalty(torch.tensor(lengths), algorithm.max_gen_len, algorithm.overlong_buffer)
        paid = paid + algorithm.overlong_penalty * soft
    size = algorithm.group_size
    return Signal(
        live_rows(metric, size, keep_ties=algorithm.zero_variance == "keep"),
        group_advantages(paid, size, scale=algorithm.scale_advantages),
    )
