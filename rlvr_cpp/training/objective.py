"""What trl's policy loss lacks, as functions of log-probabilities: the KL term, FGO's ratio, exact denominators.

trl computes the policy term. Three things around it are ours. *KL on the full response*: it regularises what the
model emits, so no mask of the policy term (FGO) may enter it; it is summed with the same weights as the policy term.
*A ratio over other tokens than the loss*: with the coverage mask the importance ratio is that of the whole response
while the gradient goes through the executed lines only. That is GSPO-token (arXiv 2507.18071) with equal advantages,
reached by moving the old log-probabilities. *One denominator for an optimizer step*: sequences or tokens of all its
live rows, whatever passes and processes they fall into.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

SEQUENCE_SUMS = ("grpo", "sapo", "luspo", "dr_grpo")
"""trl's losses that divide by sequences."""
TOKEN_SUMS = ("dapo", "cispo", "vespo", "bnpo")
"""trl's losses that divide by tokens; `bnpo` by those of each pass, so it alone depends on how passes are cut."""
LOG_RATIO_LIMIT = 20.0
STALE_WEIGHT_LIMIT = 2.0
"""The most that a token's loss is multiplied by for what the policy has moved since it was drawn."""
GROWTH_INTERVAL = 2000
"""Updates in a row without an overflow, after which the scale doubles."""


@dataclass(frozen=True)
class Window:
    """What the loss of one optimizer step is divided by, over all its passes and processes."""

    sequences: int
    """Live rows."""
    tokens: int
    """Tokens of live rows that enter the policy term."""
    response_tokens: int
    """Tokens of live rows, masked by FGO or not."""


def kl_term(
    new: torch.Tensor, reference: torch.Tensor, estimator: str = "k3", ratio: torch.Tensor | float = 1.0
) -> torch.Tensor:
    """(B, T) estimates of KL(new || reference) at the sampled tokens, from log-probabilities (B, T).

    `k3` is exp(d) - d - 1 with d = reference - new; its gradient is that of the forward KL. `k2` is d^2 / 2, whose
    gradient is the reverse KL's, and so is that of `k3_is`, k3 times the importance `ratio` (arXiv 2506.09477).
    """
    d = (reference - new).clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT)
    if estimator == "k2":
        return d.square() / 2
    k3 = d.expm1() - d  # exp(d) - d - 1 loses everything below 3e-4 in float32
    return k3 * ratio if estimator == "k3_is" else k3


def stale_weights(old: torch.Tensor, drawn: torch.Tensor, staleness: torch.Tensor) -> torch.Tensor:
    """(B, T) what token terms of rows that older weights wrote are weighed with; 1 where `staleness` (B,) is 0.

    The ratio of the policy at the update's start to the one that drew the token, `old` to `drawn` log-probabilities
    (B, T), is truncated at `STALE_WEIGHT_LIMIT` (truncated importance sampling). The loss's own ratio is that to `old`,
    so its band means what it does without staleness (decoupled PPO, arXiv 2110.00641).
    """
    weights = (old - drawn).clamp(max=math.log(STALE_WEIGHT_LIMIT)).exp()
    return torch.where(staleness[:, None] > 0, weights, torch.ones_like(weights))


def importance_ratio(new: torch.Tensor, old: torch.Tensor, mask: torch.Tensor, level: str) -> torch.Tensor:
    """(B, T) token ratios or (B, 1) sequence ratios, the geometric mean over the tokens of `mask` (B, T)."""
    if level == "token":
        return (new - old).exp()
    return mean_log_ratio(new, old, mask).exp()


def clipped(ratio: torch.Tensor, advantages: torch.Tensor, low: float, high: float) -> torch.Tensor:
    """Which of the ratios (B, T) or (B, 1) have left the band 1 - low ... 1 + high on the side that `advantages` (B,)
    push them to, so that no gradient comes from there."""
    sign = advantages[:, None]
    return ((ratio < 1 - low) & (sign < 0)) | ((ratio > 1 + high) & (sign > 0))


def mean_log_ratio(new: torch.Tensor, old: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """(B, 1) mean of new - old over the tokens of `mask` (B, T); 0 for an empty row."""
    total = ((new - old) * mask).sum(dim=1, keepdim=True)
    return total / mask.sum(dim=1, keepdim=True).clamp(min=1)


def old_for_sequence_ratio(new: torch.Tensor, old: torch.Tensor, ratio_mask: torch.Tensor) -> torch.Tensor:
    """(B, T) old log-probabilities with which every *token* ratio is its row's *sequence* ratio over `ratio_mask`.

    Each token then carries its own gradient (GSPO-token, arXiv 2507.18071): value sg[s] * pi / sg[pi].
    """
    return new.detach() - mean_log_ratio(new, old, ratio_mask).detach()


def kl_weights(mask: torch.Tensor, loss_type: str, window: Window, max_length: int, constant: float) -> torch.Tensor:
    """(B, T) weights that sum a token's KL like its policy term is summed, over the response `mask` (B, T), a float."""
    if loss_type in TOKEN_SUMS:
        return mask / max(window.response_tokens, 1)
    by_sequence = mask / max(window.sequences, 1) / constant
    if loss_type == "luspo":
        return by_sequence
    if loss_type == "dr_grpo":
        return by_sequence / max_length
    return by_sequence / mask.sum(dim=1, keepdim=True).clamp(min=1)


def policy_scale(loss_type: str, rows: int, passes: int, processes: int, window: Window, constant: float) -> float:
    """What turns trl's mean over `rows` of one of `passes` into this pass's share of the step's mean.

    trl divides by rows and passes and the processes' gradients are averaged, so all three are multiplied back.
    Losses that divide by tokens need nothing here: they are given the window's tokens, see `items_in_batch`.
    """
    if loss_type not in SEQUENCE_SUMS:
        return 1.0
    return rows * passes * processes / max(window.sequences, 1) / constant


def items_in_batch(window: Window, updates: int) -> float:
    """trl's `num_items_in_batch`, which it spreads evenly over the updates on a batch, for this window's tokens."""
    return float(window.tokens * updates)


def window_of(batch: dict[str, Any], update: torch.Tensor, step: int) -> torch.Tensor:
    """(3,) sequences, tokens and response tokens of this process's rows in optimizer step `step`."""
    rows = update == step
    response = batch["completion_mask"][rows]
    tokens = response * batch["loss_mask"][rows]
    return torch.stack([rows.sum(), tokens.sum(), response.sum()])


@dataclass
class LossScale:
    """A constant that lifts the gradients of a policy in float16 out of its zero (arXiv 1710.03740, section 3.2).

    float16 ends at 6e-8 below and at 65504 above. The loss is multiplied by `value`, and the gradients of the trained
    weights, which are float32, are divided by it before they are clipped. An update in which one overflowed is not
    taken and halves it, and a long time without doubles it: torch.amp.GradScaler's rule with its constants. That one
    works on GPUs only, asserts where an update has no gradient at all, and does not resume exactly.
    """

    value: float = 65536.0
    steady: int = 0
    """Updates since the last overflow or doubling."""

    def unscale(self, parameters: Sequence[torch.nn.Parameter]) -> bool:
        """Divide the gradients by the scale; tells whether all of them are finite."""
        gradients = [p.grad for p in parameters if p.grad is not None]
        for gradient in gradients:
            gradient.div_(self.value)
        return all(bool(gradient.isfinite().all()) for gradient in gradients)

    def update(self, overflowed: bool) -> None:
        """Adapt the scale to what the last update showed."""
        self.steady = 0 if overflowed else self.steady + 1
        if overflowed:
            self.value /= 2
        elif self.steady == GROWTH_INTERVAL:
            self.value, self.steady = self.value * 2, 0
