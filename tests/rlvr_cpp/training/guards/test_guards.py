"""Every guard speaks up on its failure and is silent on a run that works."""

import json
import math
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlvr_cpp.training.config import GuardSettings
from rlvr_cpp.training.guards.guards import Finding, Guards, GuardStop, collapse_floor, heed

HEALTHY = {
    "reward": 0.5,
    "kept_groups": 5,
    "tied_groups": 2,
    "infra_groups": 1,
    "unscorable": 0.02,
    "truncated": 0.1,
    "kl": 0.003,
    "clip_fraction": 0.01,
    "sampler_error": 1e-6,
    "entropy": 0.4,
}
NOTHING_KEPT = {"kept_groups": 0, "tied_groups": 0, "infra_groups": 8, "reward": None, "kl": None}
FAILURES = {
    "all_tied": {"kept_groups": 0, "tied_groups": 8},
    "all_unscorable": {**NOTHING_KEPT, "unscorable": 1.0},
    "all_truncated": {**NOTHING_KEPT, "truncated": 1.0, "reward": 0.5},
    "infrastructure": {"unscorable": 0.25},
    "collapse": {"reward": 0.3},
}


def guards(*, kl_coeff=0.1, num_minibatches=2, **settings) -> Guards:
    chosen = GuardSettings(**{"max_infra_rate": 0.2, **settings})
    return Guards(chosen, kl_coeff=kl_coeff, num_minibatches=num_minibatches)


def watch(watcher: Guards, steps, updates_taken: int = 2) -> list[tuple[int, Finding]]:
    """`(step, finding)` over steps given as what differs from a healthy one."""
    return [
        (number, finding)
        for number, changed in enumerate(steps, 1)
        for finding in watcher.after_step({**HEALTHY, **changed}, updates_taken)
    ]


def names(found) -> list[tuple[int, str]]:
    return [(step, finding.name) for step, finding in found]


def test_an_entropy_that_is_gone_is_told_once_and_stops_nothing():
    gone = [{"entropy": 0.03}] * 12
    found = watch(guards(), [*[{}] * 5, {"entropy": 0.05}, *gone])
    assert names(found) == [(11, "entropy_gone")]
    assert not found[0][1].fatal
    assert watch(guards(), [*[{}] * 5, *[{"entropy": 0.05}] * 30]) == []
    assert watch(guards(), [*[{}] * 5, *[{"entropy": None}] * 30]) == []


@pytest.mark.parametrize(("low_precision", "fine", "off"), [(False, 9e-4, 2e-3), (True, 0.05, 0.2)])
def test_a_sampler_of_another_distribution_stops_the_run_at_its_first_step(low_precision, fine, off):
    watcher = Guards(GuardSettings(), kl_coeff=0.1, num_minibatches=2, low_precision=low_precision)
    found = watch(watcher, [{"sampler_error": fine}, {"sampler_error": off}])
    assert names(found) == [(2, "sampler_differs")]
    assert found[0][1].fatal


def noisy_run(seed: int, steps: int = 200) -> list[dict]:
    """A run that slowly gets better, with ordinary mishaps: a slow machine, hard batches, short answers."""
    rng = random.Random(seed)
    level, run = 0.3, []
    for _ in range(steps):
        level = min(0.95, level + rng.gauss(0.002, 0.004))
        kept = rng.choice([1, 3, 5, 8]) if rng.random() < 0.95 else 0
        step = {"kept_groups": kept, "tied_groups": 8 - kept, "clip_fraction": rng.choice([0.0, 0.01])}
        step["kl"] = rng.uniform(1e-6, 0.1) if kept else 0.0
        step["unscorable"] = rng.choice([0.0, 0.0, 0.0, 0.05, 0.1])
        step["truncated"] = rng.choice([0.0, 0.2, 0.4]) if rng.random() < 0.95 else 1.0
        step["reward"] = rng.gauss(level, 0.04) if rng.random() < 0.95 else None
        run.append(step)
    return run


@pytest.mark.parametrize("seed", range(20))
def test_a_run_that_works_has_no_finding(seed):
    assert watch(guards(), noisy_run(seed)) == []


@given(st.lists(st.lists(st.floats(-1, 1), min_size=1, max_size=4), min_size=1, max_size=20))
def test_a_reward_that_keeps_coming_back_to_the_start_is_no_collapse(dips):
    rewards = [0.5] * 5 + [reward for dip in dips for reward in (*dip, 0.5)]
    assert watch(guards(), [{"reward": reward} for reward in rewards]) == []


@pytest.mark.parametrize(("name", "failure"), FAILURES.items())
def test_a_failure_is_found_after_patience_steps_and_told_once(name, failure):
    start = [
        {"unscorable": None}
    ] * 6  # an earlier rate of failures, even 0, would tell of an outage before all_unscorable
    found = watch(guards(patience=4), start + [failure] * 20)
    assert names(found) == [(10, name)]


@pytest.mark.parametrize(("name", "failure"), FAILURES.items())
def test_a_failure_that_returns_is_told_again(name, failure):
    found = watch(guards(patience=3), [{}] * 3 + [failure] * 3 + [{}] * 9 + [failure] * 3)
    assert [found_name for _, found_name in names(found) if found_name == name] == [name] * 2


@pytest.mark.parametrize("failure", FAILURES.values())
def test_a_failure_shorter_than_patience_is_silent(failure):
    failure = {**failure, **({"unscorable": 0.2} if "unscorable" in failure else {})}
    assert watch(guards(patience=5), ([{}] * 5 + [failure] * 4) * 5) == []


@pytest.mark.parametrize(("action", "fatal"), [("stop", True), ("warn", False)])
@pytest.mark.parametrize("failure", FAILURES.values())
def test_what_leaves_nothing_to_learn_from_stops_unless_told_to_warn(failure, action, fatal):
    ((_, finding),) = watch(guards(action=action), [{"unscorable": None}] * 5 + [failure] * 5)
    assert finding.fatal is fatal


def test_truncated_completions_that_still_differ_in_reward_are_a_warning():
    ((_, finding),) = watch(guards(), [{"truncated": 1.0}] * 5)
    assert (finding.name, finding.fatal) == ("all_truncated", False)


def test_the_cause_is_told_before_its_consequence():
    found = watch(guards(), [{"truncated": 1.0, "kept_groups": 0, "tied_groups": 8}] * 5)
    assert [name for _, name in names(found)] == ["all_truncated", "all_tied"]


def test_groups_of_which_none_is_kept_are_tied_only_where_one_could_be_judged():
    assert watch(guards(max_infra_rate=1.0), [{**NOTHING_KEPT, "unscorable": 0.9}] * 9) == []


def test_an_outage_in_the_middle_of_a_run_is_told_as_soon_as_its_mean_is_too_high():
    outage = {**NOTHING_KEPT, "unscorable": 1.0}
    assert names(watch(guards(), [{}] * 5 + [outage] * 5)) == [(6, "infrastructure"), (10, "all_unscorable")]


def test_infrastructure_is_a_mean_over_steps():
    assert watch(guards(), [{"unscorable": rate} for rate in (0.9, 0.0, 0.0, 0.0, 0.0, 0.0)]) == []
    assert names(watch(guards(), [{"unscorable": rate} for rate in (0.9, 0.0, 0.2, 0.0, 0.0)])) == [
        (5, "infrastructure")
    ]


@pytest.mark.parametrize("nothing", [None, math.nan])
def test_a_step_without_a_reward_neither_counts_towards_a_collapse_nor_against_it(nothing):
    start = [{"reward": reward} for reward in (0.5, nothing, 0.52, 0.48, nothing, 0.5, 0.51)]
    fallen = [{"reward": reward} for reward in (0.1, 0.1, nothing, 0.1, nothing, 0.1, 0.1)]
    assert names(watch(guards(), start + fallen)) == [(14, "collapse")]


def test_the_collapse_of_a_too_large_learning_rate_is_found():
    rewards = [0.70, 0.74, 0.67, 0.72, 0.69, 0.71, 0.66, 0.55, 0.45, 0.40, 0.35, 0.30, 0.28]
    assert names(watch(guards(), [{"reward": reward} for reward in rewards])) == [(12, "collapse")]


def test_a_curriculum_that_makes_tasks_harder_is_no_collapse():
    steps = [{"prefix_frac": frac, "reward": frac} for frac in (0.9, 0.8, 0.5, 0.2) for _ in range(12)]
    assert watch(guards(), steps) == []


def test_a_curriculum_that_makes_tasks_easier_does_not_hide_a_collapse():
    steps = [{"prefix_frac": 0.5}] * 5 + [{"prefix_frac": 0.5 + 0.01 * i, "reward": 0.1} for i in range(5)]
    assert names(watch(guards(), steps)) == [(10, "collapse")]


def test_noise_alone_is_hardly_ever_a_collapse():
    rng = random.Random(0)
    runs = [[{"reward": rng.gauss(0.4, 0.04)} for _ in range(300)] for _ in range(100)]
    assert sum(bool(watch(guards(), run)) for run in runs) <= 2


def test_the_floor_is_three_standard_errors_of_the_difference_to_one_step():
    start = [0.4, 0.5, 0.6, 0.5, 0.5]  # standard deviation sqrt(0.02 / 4)
    assert collapse_floor(start) == pytest.approx(0.5 - 3 * math.sqrt(0.02 / 4 * (1 + 1 / 5)))


def test_a_start_without_noise_allows_a_tenth():
    assert collapse_floor([1.0] * 5) == pytest.approx(0.9)
    assert collapse_floor([0.0] * 5) == 0.0
    assert collapse_floor([]) == -math.inf


def test_a_kl_of_zero_after_updates_means_that_the_reference_is_the_policy():
    assert names(watch(guards(), [{"kl": 0.0}] * 9)) == [(2, "kl_zero")]
    assert names(watch(guards(num_minibatches=1), [{"kl": 0.0}] * 9, updates_taken=1)) == [(3, "kl_zero")]


def test_in_16_bits_a_kl_of_zero_may_be_rounding_for_a_while():
    watched = Guards(guards().settings, kl_coeff=0.1, num_minibatches=2, low_precision=True)
    assert names(watch(watched, [{"kl": 0.0}] * 60)) == [(51, "kl_zero")]
    assert names(watch(watched, [{"kl": 0.1}, *[{"kl": 0.0}] * 49])) == []


@pytest.mark.parametrize(
    ("settings", "step", "updates"),
    [
        ({"kl_coeff": 0.0}, {"kl": 0.0}, 2),
        ({}, {"kl": 0.0}, 0),
        ({}, {"kl": None}, 2),
        ({}, {"kl": 1e-12}, 2),
    ],
    ids=["no reference", "no update", "not measured", "tiny"],
)
def test_a_kl_of_zero_that_must_be_or_may_be_is_silent(settings, step, updates):
    assert watch(guards(**settings), [step] * 9, updates) == []


def test_a_step_that_kept_no_group_has_not_measured_a_kl():
    steps = [{}, {}, {"kl": 0.0, "kept_groups": 0}, {}]
    assert watch(guards(), steps) == []


def test_a_band_that_never_clips_is_a_warning_told_once():
    found = watch(guards(), [{"clip_fraction": 0.0}] * 200)
    assert [(step, finding.name, finding.fatal) for step, finding in found] == [(50, "never_clipped", False)]


@pytest.mark.parametrize(
    ("settings", "steps", "updates"),
    [
        ({"num_minibatches": 1}, [{"clip_fraction": 0.0}] * 99, 1),
        ({}, [{}] + [{"clip_fraction": 0.0}] * 99, 2),
        ({}, [{"clip_fraction": None}] * 99, 2),
        ({}, [{"clip_fraction": 0.0, "kl": None}] * 99, 0),
    ],
    ids=["one update a rollout", "clipped once", "not measured", "no update"],
)
def test_a_clip_fraction_of_zero_that_means_nothing_is_silent(settings, steps, updates):
    assert watch(guards(**settings), steps, updates) == []


@given(st.integers(0, 10_000), st.integers(0, 80), st.integers(1, 6))
def test_a_resumed_run_counts_on_as_if_it_had_not_been_interrupted(seed, cut, patience):
    rng = random.Random(seed)
    choices: list[Any] = [
        {},
        {"clip_fraction": 0.0},
        {"kl": 0.0},
        {"reward": None},
        {"prefix_frac": 0.3},
        {"prefix_frac": 0.2},
        *FAILURES.values(),
    ]
    steps = [
        change for _ in range(20) for change in [{"clip_fraction": 0.0, **rng.choice(choices)}] * rng.randint(1, 8)
    ]
    whole, first, second = guards(patience=patience), guards(patience=patience), guards(patience=patience)
    expected = watch(whole, steps)
    before = watch(first, steps[:cut])
    second.load_state(json.loads(json.dumps(first.state())))
    after = [(step + min(cut, len(steps)), finding) for step, finding in watch(second, steps[cut:])]
    assert before + after == expected
    assert second.state() == whole.state()


def test_a_state_is_a_copy():
    watcher = guards()
    state = watcher.state()
    other = guards()
    other.load_state(state)
    watch(watcher, [{}] * 3)
    watch(other, [{}] * 2)
    assert state == guards().state()


def test_warnings_are_given_before_the_run_stops():
    warned: list[Any] = []
    findings = [
        Finding("first", "stop here", True),
        Finding("second", "only told", False),
        Finding("third", "no", True),
    ]
    with pytest.raises(GuardStop, match=r"^first: stop here$") as stopped:
        heed(findings, warned.append)
    assert stopped.value.finding is findings[0]
    assert warned == ["second: only told"]
    heed([], warned.append)
