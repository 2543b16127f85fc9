"""The reward that a config names, ready to pay."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rlvr_cpp.reward.own import load_reward
from rlvr_cpp.reward.score import BY_PASSING, BY_TESTS, Judged, Score
from rlvr_cpp.reward.settings import RewardSettings
from rlvr_cpp.reward.shaping import CompilerRewardShaper
from rlvr_cpp.reward.tiers import compute_reward
from rlvr_cpp.tasks.quality.references import reference_program
from rlvr_cpp.verifier.verifier import Verifier


@contextmanager
def open_score(reward: RewardSettings, verifier: Verifier, seed: int) -> Iterator[Score]:
    """What a config pays for, with the shaper of its own that `shaped` needs. Raises UserError as their makers do."""
    if reward.kind == "binary":
        yield BY_PASSING
    elif reward.kind == "tiers":
        yield BY_TESTS
    elif reward.kind != "shaped":
        yield Score(None, load_reward(reward.kind).values)
    else:
        sanitizer, tidy = reward.sanitizer_fraction, reward.tidy_fraction
        with CompilerRewardShaper(verifier, seed=seed, sanitizer_fraction=sanitizer, tidy_fraction=tidy) as shaper:
            yield Score(compute_reward, lambda judged: _shaped(shaper, judged))


def _shaped(shaper: CompilerRewardShaper, judged: Sequence[Judged]) -> list[float | None]:
    """Each completion's shaped reward, in the group and with the reference that it is compared with."""
    tasks = {one.group: one.task for one in judged}
    references = {g: program for g, task in tasks.items() if (program := reference_program(task)) is not None}
    programs, results = [one.program for one in judged], [one.result for one in judged]
    rewards = shaper.score_many(programs, results, [one.group for one in judged], references)
    return [reward.value for reward in rewards]
