"""FGO for a batch: which tokens of each live rollout enter the loss, and over which tokens its ratio is taken.

A compile error is a fact about the kept part alone, so ratio, length and gradient are those of the kept tokens. What
was executed depends on the whole program, so there the ratio stays that of all tokens and only the gradient is cut
(arXiv 2402.01391 has the masks; the ratio is the sequence's, which that paper does not have).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rlvr_cpp.training.rollout import Rollout
from rlvr_cpp.training.stepcoder.fgo import Decode, coverage_mask, error_mask
from rlvr_cpp.verifier.coverage import measure_coverage
from rlvr_cpp.verifier.verifier import Verifier


@dataclass(frozen=True)
class TokenMask:
    """Which tokens of one completion count."""

    tokens: list[int]
    """1 for each token that enters the loss."""
    keeps_ratio: bool
    """The importance ratio is that of all tokens, masked or not."""


def token_masks(
    rollouts: Sequence[Rollout], live: Sequence[bool], mode: str, decode: Decode, verifier: Verifier
) -> list[TokenMask]:
    """A mask for each rollout; `mode` is `compile_error`, `coverage` or `both`. Dead ones are left whole."""
    masks = [TokenMask([1] * len(rollout.ids), False) for rollout in rollouts]
    if mode != "coverage":
        for row, rollout in enumerate(rollouts):
            if live[row] and not rollout.result.compile_ok:
                tokens = error_mask(rollout.result, rollout.candidate, rollout.ids, decode, len(rollout.prefix))
                masks[row] = TokenMask(tokens, False)
    if mode != "compile_error":
        ran = [row for row, rollout in enumerate(rollouts) if live[row] and rollout.result.compile_ok]
        found = measure_coverage([rollouts[row].program for row in ran], verifier)
        for row, unexecuted in zip(ran, found, strict=True):
            rollout = rollouts[row]
            if unexecuted:
                tokens = coverage_mask(unexecuted, rollout.candidate, rollout.ids, decode, len(rollout.prefix))
                masks[row] = TokenMask(tokens, True)
    return masks
