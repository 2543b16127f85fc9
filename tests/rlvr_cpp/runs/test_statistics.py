"""Estimates, intervals and paired tests against the vectors, and intervals against what they promise."""

import json
from itertools import combinations
from math import comb, isnan
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from rlvr_cpp.runs import statistics
from rlvr_cpp.runs.statistics import (
    agreement,
    best_of_k,
    bootstrap_mean,
    cohen_kappa,
    holm,
    mcnemar_p,
    over_tasks,
    paired_difference,
    pass_at_k,
    pass_rate,
    sign_flip_p,
    wilson,
)

VECTORS = json.loads((Path(__file__).parents[2] / "data" / "statistics.json").read_text())
NOMINAL = pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize("row", VECTORS["pass_at_k"], ids=lambda row: f"{row['n']}-{row['c']}-{row['k']}")
def test_pass_at_k(row):
    assert pass_at_k(row["n"], row["c"], row["k"]) == pytest.approx(row["value"], rel=1e-12, abs=0)


@pytest.mark.parametrize(("n", "c", "k"), [(5, 2, 6), (5, 6, 1), (5, -1, 1), (5, 2, 0), (0, 0, 1), (0, 0, 0)])
def test_a_pass_at_k_that_does_not_exist_is_no_number(n, c, k):
    with pytest.raises(ValueError, match=r"k is|c is"):
        pass_at_k(n, c, k)


@st.composite
def counted(draw):
    n = draw(st.integers(2, 300))
    return n, draw(st.integers(0, n - 1)), draw(st.integers(1, n - 1))


@given(counted())
def test_more_passes_and_more_tries_never_lower_pass_at_k(case):
    n, c, k = case
    value = pass_at_k(n, c, k)
    assert 0 <= value <= pass_at_k(n, c + 1, k) + 1e-15
    assert value <= pass_at_k(n, c, k + 1) + 1e-15
    assert value == pytest.approx(1 - comb(n - c, k) / comb(n, k), abs=1e-12)
    assert n - c >= k or value == 1.0


def test_pass_at_k_is_unbiased():
    """Over all ways in which 6 completions may end that pass with chance 0.3 each, its mean is 1 - 0.7^k."""
    chances = stats.binom.pmf(range(7), 6, 0.3)
    for k in range(1, 7):
        mean = sum(chance * pass_at_k(6, c, k) for c, chance in enumerate(chances))
        assert mean == pytest.approx(1 - 0.7**k, abs=1e-12)


def test_the_expected_best_of_k():
    rewards, table = VECTORS["best_of_n_expected"]["rewards"], VECTORS["best_of_n_expected"]["table"]
    ranked = sorted(rewards, reverse=True)
    assert {k: best_of_k(ranked, int(k)) for k in table} == pytest.approx(table, abs=1e-12)
    for k in (0, 9):
        with pytest.raises(ValueError, match="k is"):
            best_of_k(ranked, k)


@given(st.lists(st.booleans(), min_size=1, max_size=20), st.data())
def test_the_best_of_k_passes_or_fails_is_pass_at_k(passes, data):
    k = data.draw(st.integers(1, len(passes)))
    expected = pass_at_k(len(passes), sum(passes), k)
    assert best_of_k(sorted(passes, reverse=True), k) == pytest.approx(expected, abs=1e-12)


@given(st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=7), st.data())
def test_the_best_of_k_is_the_mean_over_all_draws(hidden, data):
    """`hidden` need not fall with the rank: the public tests that rank may be wrong."""
    k = data.draw(st.integers(1, len(hidden)))
    draws = [hidden[min(draw)] for draw in combinations(range(len(hidden)), k)]
    assert best_of_k(hidden, k) == pytest.approx(sum(draws) / len(draws), abs=1e-12)


@pytest.mark.parametrize("k", [0, 4])
def test_more_candidates_than_there_are_cannot_be_drawn(k):
    with pytest.raises(ValueError, match=f"k is {k} with 3 candidates"):
        best_of_k([1.0, 0.0, 0.0], k)


@pytest.mark.parametrize("row", VECTORS["wilson95"], ids=lambda row: f"{row['c']}/{row['n']}")
def test_wilson(row):
    estimate = wilson(row["c"], row["n"])
    assert (estimate.low, estimate.high) == pytest.approx(tuple(row["ci"]), abs=1e-12)


@pytest.mark.parametrize("trials", [20, 96, 164])
def test_wilson_covers_what_it_promises(trials):
    """It oscillates with the true rate; over all rates, the chances computed and not drawn, it keeps its word."""
    intervals = [wilson(successes, trials) for successes in range(trials + 1)]
    rates = np.linspace(0.01, 0.99, 197)
    covered = [[found.low <= rate <= found.high for found in intervals] for rate in rates]
    chances = stats.binom.pmf(np.arange(trials + 1), trials, rates[:, None])
    assert float((chances * covered).sum(axis=1).mean()) == NOMINAL


def test_nothing_judged_is_no_rate():
    assert isnan(pass_rate([]).mean)


def task_rates(rng, tasks, samples):
    """The measured pass rates of tasks of all difficulties, and the mean of the true ones over all such tasks."""
    true = rng.beta(0.7, 1.4, tasks)
    return rng.binomial(samples, true) / samples, 0.7 / 2.1


def test_the_bootstrap_covers_what_it_promises(monkeypatch):
    monkeypatch.setattr(statistics, "RESAMPLES", 1_000)
    rng = np.random.default_rng(0)
    covered = []
    for seed in range(500):
        rates, truth = task_rates(rng, 96, 4)
        found = bootstrap_mean(rates.tolist(), seed)
        covered.append(found.low <= truth <= found.high)
    assert np.mean(covered) == NOMINAL


def test_the_interval_of_a_paired_difference_covers_what_it_promises(monkeypatch):
    monkeypatch.setattr(statistics, "RESAMPLES", 1_000)
    monkeypatch.setattr(statistics, "sign_flip_p", lambda *_: 1.0)  # not what is asked
    rng = np.random.default_rng(1)
    covered = []
    for seed in range(250):
        true = rng.beta(0.7, 1.4, 96)
        better = true + 0.2 * (1 - true)  # every task gains, the hard ones most
        first, second = rng.binomial(4, true) / 4, rng.binomial(4, better) / 4
        found = paired_difference(first.tolist(), second.tolist(), seed)
        covered.append(found.low <= 0.2 * (1 - 0.7 / 2.1) <= found.high)
    assert np.mean(covered) == NOMINAL


def test_a_single_pair_is_no_evidence():
    assert sign_flip_p([0.0], [0.5]) == 1.0


def test_paired_tests_agree_with_the_vectors():
    paired = VECTORS["paired"]
    base, candidate = paired["base"], paired["cand"]
    found = paired_difference(base, candidate)
    assert (found.tasks, found.mean) == (163, pytest.approx(paired["mean"], abs=1e-12))
    assert found.standard_error == pytest.approx(paired["se"], abs=1e-12)
    assert (found.low, found.high) == pytest.approx(tuple(paired["boot95"]), abs=0.007)
    assert found.p == pytest.approx(paired["mcnemar_exact_p"], abs=1e-12)
    assert sign_flip_p(base, candidate) == pytest.approx(paired["signflip_p"], abs=0.005)


def test_what_is_no_yes_or_no_is_compared_by_sign_flips():
    base, candidate = VECTORS["paired"]["base"], VECTORS["paired"]["cand"]
    halves = [value / 2 for value in base], [value / 2 for value in candidate]
    assert paired_difference(*halves).p == sign_flip_p(*halves)


def test_pairing_sees_what_two_intervals_do_not():
    base, candidate = VECTORS["paired"]["base"], VECTORS["paired"]["cand"]
    assert wilson(sum(base), 163).high > wilson(sum(candidate), 163).low
    assert paired_difference(base, candidate).low > 0


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=1, max_size=20))
def test_no_change_is_no_evidence(values):
    passes = [bool(value) for value in values]
    assert mcnemar_p(passes, passes) == 1.0
    assert sign_flip_p(values, values) == 1.0
    found = paired_difference(values, values)
    assert (found.mean, found.low, found.high, found.p) == (0, 0, 0, 1)


def test_no_tasks_and_other_tasks_are_refused():
    for pair in (([], []), ([1.0], [1.0, 0.0])):
        with pytest.raises(ValueError, match=r"no task|shorter|longer"):
            paired_difference(*pair)


@given(st.lists(st.booleans(), min_size=1, max_size=30), st.lists(st.booleans(), min_size=30, max_size=30))
def test_direction_does_not_matter(before, after):
    after = after[: len(before)]
    assert mcnemar_p(before, after) == pytest.approx(mcnemar_p(after, before))


def test_the_bootstrap_brackets_the_mean():
    estimate = bootstrap_mean([0.0, 0.5, 1.0, 0.5, 0.0, 1.0, 0.5, 0.5])
    assert estimate.low < estimate.mean == 0.5 < estimate.high
    assert bootstrap_mean([1.0, 1.0]) == wilson(2, 2)
    assert isnan(bootstrap_mean([0.5, 0.5]).low)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([0.02]) == [0.02]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_only_raises_and_keeps_the_order(raw):
    adjusted = holm(raw)
    assert all(p <= q <= min(1, len(raw) * p) + 1e-12 for p, q in zip(raw, adjusted, strict=True))
    assert sorted(adjusted) == [q for _, q in sorted(zip(raw, adjusted, strict=True))]


def test_two_judges(monkeypatch):
    monkeypatch.setattr(statistics, "SLOW_RESAMPLES", 100)
    judge = VECTORS["judge"]
    found = agreement(judge["a"], judge["b"])
    assert found.exact.mean == pytest.approx(judge["exact"], abs=1e-12)
    assert found.kappa.mean == pytest.approx(judge["kappa"], abs=1e-12)
    assert found.quadratic_kappa.mean == pytest.approx(judge["kappa_quadratic"], abs=1e-12)
    assert found.kappa.low < found.kappa.mean < found.kappa.high <= 1


def test_judges_that_know_one_label_agree_on_nothing_beyond_chance(monkeypatch):
    monkeypatch.setattr(statistics, "SLOW_RESAMPLES", 5)
    found = agreement([1, 1, 1], [1, 1, 1])
    assert (found.exact.mean, isnan(found.kappa.mean), isnan(found.kappa.low)) == (1.0, True, True)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4)), min_size=2, max_size=30), st.booleans())
def test_kappa_is_scikit_learns(pairs, quadratic):
    metrics = pytest.importorskip("sklearn.metrics")
    first, second = map(np.array, zip(*pairs, strict=True))
    if len({*first.tolist(), *second.tolist()}) == 1:
        assert isnan(cohen_kappa(first, second, np.arange(1, 5), quadratic=quadratic))
        return
    weights = "quadratic" if quadratic else None
    expected = metrics.cohen_kappa_score(first, second, labels=np.arange(1, 5), weights=weights)
    assert cohen_kappa(first, second, np.arange(1, 5), quadratic=quadratic) == pytest.approx(expected, abs=1e-12)


def test_the_bootstrap_draws_whole_tasks():
    """Ten programs of a task are one draw: the interval is as wide as that of one program a task."""
    truth = np.array([True, False, True, True, False, True, False, True])
    one = [np.array([i]) for i in range(8)]
    ten = [np.arange(10) + 10 * i for i in range(8)]
    alone = over_tasks(lambda rows: float(truth[rows].mean()), one)
    assert over_tasks(lambda rows: float(truth.repeat(10)[rows].mean()), ten) == alone
    assert alone.low < alone.mean == 0.625 < alone.high
