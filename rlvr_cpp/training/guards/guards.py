"""Watchers that make a training run speak up instead of silently doing nothing.

An RL run that learns nothing looks healthy: the loss is near zero by construction, rewards are noise and every number
is finite. Each guard here looks for one way in which that happened to somebody, and its finding names cause and fix in
one sentence. `Guards` reads the metrics of each step; what is known only before the first step or around the first
update is in `start.py`. A guard only finds: `heed` warns or raises `GuardStop`, as each finding says.

A collapse is a reward that stays below `mean - 3 sd sqrt(1 + 1/n)`, over the n steps of the start: three standard
errors of the difference between one more step and that mean. The standard error of the mean alone would call an eighth
of all flat runs of 300 steps collapsed; this calls one in a hundred so. Where a curriculum makes the tasks harder, by
a smaller `prefix_frac`, the start is measured anew.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from rlvr_cpp.errors import RunStopped

if TYPE_CHECKING:
    from rlvr_cpp.training.config import GuardSettings

STANDARD_ERRORS = 3.0
LEAST_DROP = 0.1
"""Share of the start's mean reward: a smaller loss is no collapse, however steady the start was."""
UNCLIPPED_PATIENCES = 10
"""Times `patience` is how long the clip fraction may stay 0 from the start."""
METRICS = (
    *("reward", "prefix_frac", "kept_groups", "tied_groups", "unscorable", "truncated", "kl", "clip_fraction"),
    *("sampler_error", "entropy"),
)
"""The metrics of a step that `Guards` reads."""
LEAST_ENTROPY = 0.1
"""Share of the start's mean entropy, below which the completions of a group are hardly ever two."""
SAMPLER_TOLERANCE = {False: 1e-3, True: 0.1}
"""Mean |old - sampler| of a token's log-probability, by whether the policy computes in 16 bits."""


@dataclass(frozen=True)
class Finding:
    """What a guard found."""

    name: str
    """The guard: `all_tied`, `canary`, ..."""
    message: str
    """One sentence with the cause and the fix."""
    fatal: bool
    """It stops the run; the settings' `action` is already in it."""


class GuardStop(RunStopped):
    """A finding that ends the run; its text is the finding's sentence."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(f"{finding.name}: {finding.message}")
        self.finding = finding


def heed(findings: Iterable[Finding], warn: Callable[[str], None]) -> None:
    """Warn of what is not fatal, then raise GuardStop for the first finding that is."""
    found = list(findings)
    for finding in found:
        if not finding.fatal:
            warn(f"{finding.name}: {finding.message}")
    for finding in found:
        if finding.fatal:
            raise GuardStop(finding)


@dataclass
class _Memory:
    """What `Guards` knows of the steps so far: plain data, so that JSON carries all of it."""

    updates: int = 0
    start: list[float] = field(default_factory=list)
    """Rewards of the first `patience` steps that had one."""
    entropies: list[float] = field(default_factory=list)
    """A token's mean entropy in the first `patience` steps that told it."""
    prefix_frac: float = 0.0
    """The curriculum's, of the last step that told it."""
    infra_rates: list[float] = field(default_factory=list)
    """Shares of completions that could not be judged, in the last `patience` steps."""
    streaks: dict[str, int] = field(default_factory=dict)
    """How many steps in a row something was so."""
    unclipped: int | None = 0
    """Steps without a clipped sequence; None once that question is answered."""
    standing: list[str] = field(default_factory=list)
    """Findings that were reported and are not over."""


LOW_PRECISION_KL_PATIENCE = 50
"""Steps. A KL of exactly 0 in float32 means that reference and policy are one; in 16 bits it may be rounding."""


class Guards:
    """Reads the metrics of each step and reports every finding once for as long as it lasts.

    A metric that is absent, None or NaN is no news: what was counted before stands as it was.
    """

    def __init__(
        self, settings: GuardSettings, *, kl_coeff: float, num_minibatches: int, low_precision: bool = False
    ) -> None:
        """`low_precision`: the policy computes in 16 bits, which round what a small update changes."""
        self.settings, self.kl_coeff = settings, kl_coeff
        self.kl_patience = LOW_PRECISION_KL_PATIENCE if low_precision else 1
        self.sampler_tolerance = SAMPLER_TOLERANCE[low_precision]
        self._memory = _Memory(unclipped=0 if num_minibatches > 1 else None)

    @property
    def updates(self) -> int:
        """Optimizer updates taken so far, before a checkpoint included."""
        return self._memory.updates

    def state(self) -> dict[str, Any]:
        """All that was learned from steps so far, as JSON holds it."""
        return asdict(self._memory)

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken."""
        self._memory = _Memory(**copy.deepcopy(dict(state)))

    def after_step(self, metrics: Mapping[str, float | None], updates_taken: int) -> list[Finding]:
        """New findings of a rollout step by its `METRICS`, causes before their consequences.

        `updates_taken` counts the optimizer updates of this step alone, without the skipped ones.
        """
        memory = self._memory
        known = {name: x for name in METRICS if (x := metrics.get(name)) is not None and math.isfinite(x)}
        now = [finding for check in self._checks() for finding in check(known)]
        if updates_taken:
            now += self._never_clipped(known)
        memory.updates += updates_taken
        fresh = [finding for finding in now if finding.name not in memory.standing]
        memory.standing = [finding.name for finding in now]
        return fresh

    def _checks(self) -> Sequence[Callable[[Mapping[str, float]], Iterator[Finding]]]:
        return (
            self._infrastructure,
            self._sampler_differs,
            self._all_truncated,
            self._all_tied,
            self._kl_zero,
            self._entropy_gone,
            self._collapse,
        )

    def _found(self, name: str, message: str, fatal: bool = True) -> Finding:
        return Finding(name, message, fatal and self.settings.action == "stop")

    def _lasts(self, name: str, is_so: bool | None, steps: int | None = None) -> bool:
        """Whether it has been so for `steps` (`patience`) in a row; `is_so` is None where this step cannot tell."""
        streaks = self._memory.streaks
        if is_so is not None:
            streaks[name] = streaks.get(name, 0) + 1 if is_so else 0
        return streaks.get(name, 0) >= (steps or self.settings.patience)

    def _infrastructure(self, known: Mapping[str, float]) -> Iterator[Finding]:
        rates, patience, most = self._memory.infra_rates, self.settings.patience, self.settings.max_infra_rate
        rate = known.get("unscorable")
        if rate is not None:
            rates.append(rate)
            del rates[:-patience]
        if self._lasts("all_unscorable", None if rate is None else rate >= 1):
            yield self._found(
                "all_unscorable",
                f"no completion of the last {patience} steps could be judged, which is the infrastructure's failure "
                "and not the programs': run `python -m rlvr_sandbox doctor` and read a `sandbox_error` in "
                "completions.jsonl, or the warnings that a reward of your own left",
            )
        elif len(rates) == patience and fmean(rates) > most:
            yield self._found(
                "infrastructure",
                f"{fmean(rates):.0%} of the completions of the last {patience} steps could not be judged, more than "
                f"guards.max_infra_rate {most:.0%}: free memory and disk on this host, lower verifier.workers, or "
                "run `python -m rlvr_sandbox doctor`, or read the warnings that a reward of your own left",
            )

    def _sampler_differs(self, known: Mapping[str, float]) -> Iterator[Finding]:
        error = known.get("sampler_error", 0.0)
        if error > self.sampler_tolerance:
            yield self._found(
                "sampler_differs",
                f"a token's log-probability differs by {error:.3g} in the mean from the one by which it was drawn, "
                f"more than {self.sampler_tolerance:g}, so that another distribution is trained than is sampled: give "
                "sampler and trainer the same temperature, dtype and weights",
            )

    def _all_truncated(self, known: Mapping[str, float]) -> Iterator[Finding]:
        truncated = known.get("truncated")
        if self._lasts("all_truncated", None if truncated is None else truncated >= 1):
            yield self._found(
                "all_truncated",
                f"every completion of the last {self.settings.patience} steps was cut at its length limit: raise "
                "algorithm.max_gen_len, or look whether the prompt's format lets this model end its answer",
                fatal=known.get("kept_groups", 0) == 0,  # else there are still differences to learn from
            )

    def _all_tied(self, known: Mapping[str, float]) -> Iterator[Finding]:
        kept, tied = known.get("kept_groups"), known.get("tied_groups")
        is_so = None if kept is None or tied is None else kept == 0 and tied > 0
        if self._lasts("all_tied", is_so):
            yield self._found(
                "all_tied",
                f"all rewards were equal in every group of the last {self.settings.patience} steps, at a mean reward "
                f"of {known.get('reward', math.nan):.2f}, so that nothing was learned: take easier or harder tasks, "
                "a larger algorithm.group_size or a higher algorithm.temperature",
            )

    def _kl_zero(self, known: Mapping[str, float]) -> Iterator[Finding]:
        # A warm-up may have taken the very first update at a rate of 0.
        moved, measured = self.updates > 1, "kl" in known and known.get("kept_groups", 1) > 0
        is_so = known["kl"] == 0 if measured else None
        if self.kl_coeff > 0 and moved and self._lasts("kl_zero", is_so, steps=self.kl_patience):
            yield self._found(
                "kl_zero",
                f"the KL to the reference is exactly 0 after {self.updates} updates, so the reference is the "
                "policy in training: keep a frozen copy of the start as the reference, or set algorithm.kl_coeff=0",
            )

    def _collapse(self, known: Mapping[str, float]) -> Iterator[Finding]:
        memory, patience, reward = self._memory, self.settings.patience, known.get("reward")
        before, memory.prefix_frac = memory.prefix_frac, known.get("prefix_frac", memory.prefix_frac)
        if memory.prefix_frac < before:  # harder tasks: what the reward was says nothing about them
            memory.start, memory.streaks["collapse"] = [], 0
        start = memory.start
        if reward is not None and len(start) < patience:
            start.append(reward)
            return
        floor = collapse_floor(start)
        if self._lasts("collapse", None if reward is None else reward < floor):
            yield self._found(
                "collapse",
                f"the reward stayed below {floor:.3f} for {patience} steps after a start at {fmean(start):.3f}, so "
                "the updates destroy the policy: lower trainer.learning_rate, or clip in a narrower band as "
                "algorithm=gspo_paper does",
            )

    def _entropy_gone(self, known: Mapping[str, float]) -> Iterator[Finding]:
        start, entropy = self._memory.entropies, known.get("entropy")
        if entropy is not None and len(start) < self.settings.patience:
            start.append(entropy)
            return
        floor = LEAST_ENTROPY * fmean(start) if start else 0.0
        if self._lasts("entropy_gone", None if entropy is None else entropy < floor):
            yield self._found(
                "entropy_gone",
                f"a token's entropy stayed below {floor:.3g} for {self.settings.patience} steps after a start at "
                f"{fmean(start):.3g}, so that the policy hardly tries anything any more: lower trainer.learning_rate, "
                "raise algorithm.kl_coeff or algorithm.clip_eps_high, or take harder tasks",
                fatal=False,
            )

    def _never_clipped(self, known: Mapping[str, float]) -> Iterator[Finding]:
        memory, clipped = self._memory, known.get("clip_fraction")
        if memory.unclipped is None or clipped is None:
            return
        memory.unclipped = memory.unclipped + 1 if clipped == 0 else None
        if memory.unclipped == UNCLIPPED_PATIENCES * self.settings.patience:
            yield self._found(
                "never_clipped",
                f"no sequence was clipped in the first {memory.unclipped} steps although a rollout is used for "
                "several updates, so the clip band is too wide for a length-normalised ratio: use a paper's band, "
                "such as algorithm=gspo_paper",
                fatal=False,
            )
            memory.unclipped = None


def collapse_floor(start: Sequence[float]) -> float:
    """The reward below which a step is worse than the steps of the start by more than chance; -inf for no start."""
    if not start:
        return -math.inf
    mean = fmean(start)
    error = stdev(start) * math.sqrt(1 + 1 / len(start)) if len(start) > 1 else 0.0
    return mean - max(STANDARD_ERRORS * error, LEAST_DROP * abs(mean))
