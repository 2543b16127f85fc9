"""Which of several candidates is the best.

A candidate is better by its reward, then by the length of its code, then by being earlier. Raw length would let blanks
and comments win ties, so what counts is what the compiler reads. Longer winning ties is a choice with a price: code
that is selected this way and then trained on teaches length, so the lengths by rank are worth a look.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from rlvr_cpp.verifier.cpp.lexemes import lexemes


def code_length(code: str) -> int:
    """Characters of the code's tokens: without comments, and without white space outside of literals."""
    return sum(len(lexeme.text) for lexeme in lexemes(code) if lexeme.kind not in ("comment", "newline"))


def best_first(rewards: Sequence[float | None], lengths: Sequence[int]) -> list[int]:
    """The candidates' indices by reward and then length, both descending, then index; a reward of None comes last."""

    def key(index: int) -> tuple[bool, float, int, int]:
        reward = rewards[index]
        return reward is None, -(reward or 0.0), -lengths[index], index

    return sorted(range(len(rewards)), key=key)


def mean_by_rank(ranked: Sequence[Sequence[float]]) -> list[float]:
    """The mean at each rank of lists that may differ in length."""
    longest = max(map(len, ranked), default=0)
    columns = ([values[rank] for values in ranked if rank < len(values)] for rank in range(longest))
    return [fmean(column) for column in columns]
