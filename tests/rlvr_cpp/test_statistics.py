"""Intervals and paired tests against the vectors."""

import json
from math import isnan
from pathlib import Path

import pytest

pytest.importorskip("scipy")

from hypothesis import given
from hypothesis import strategies as st

from rlvr_cpp.statistics import bootstrap_mean, mcnemar_p, sign_flip_p, wilson

VECTORS = json.loads((Path(__file__).parents[1] / "data" / "statistics.json").read_text())


@pytest.mark.parametrize("row", VECTORS["wilson95"], ids=lambda row: f"{row['c']}/{row['n']}")
def test_wilson(row):
    estimate = wilson(row["c"], row["n"])
    assert (estimate.low, estimate.high) == pytest.approx(tuple(row["ci"]), abs=1e-6)


def test_paired_tests_agree_with_the_vectors():
    paired = VECTORS["paired"]
    base, candidate = paired["base"], paired["cand"]
    assert mcnemar_p([bool(x) for x in base], [bool(x) for x in candidate]) == pytest.approx(
        paired["mcnemar_exact_p"], rel=1e-6
    )
    assert sign_flip_p(base, candidate) == pytest.approx(paired["signflip_p"], abs=0.01)


@given(st.lists(st.booleans(), min_size=1, max_size=30))
def test_no_change_is_no_evidence(outcomes):
    assert mcnemar_p(outcomes, outcomes) == 1.0
    assert sign_flip_p(outcomes, outcomes) == 1.0


@given(st.lists(st.booleans(), min_size=1, max_size=30), st.lists(st.booleans(), min_size=30, max_size=30))
def test_direction_does_not_matter(before, after):
    after = after[: len(before)]
    assert mcnemar_p(before, after) == pytest.approx(mcnemar_p(after, before))


def test_the_bootstrap_brackets_the_mean():
    estimate = bootstrap_mean([0.0, 0.5, 1.0, 0.5, 0.0, 1.0, 0.5, 0.5])
    assert estimate.low < estimate.mean == 0.5 < estimate.high
    assert bootstrap_mean([1.0, 1.0]) == wilson(2, 2)
    assert isnan(bootstrap_mean([0.5, 0.5]).low)
