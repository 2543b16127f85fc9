"""The order of candidates, against the vectors and against plain counting."""

import json
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlvr_cpp.search.ranking import best_first, code_length, mean_by_rank

VECTORS = json.loads((Path(__file__).parents[2] / "data" / "best_of_n.json").read_text())
REWARDS = st.lists(st.one_of(st.none(), st.sampled_from([0.0, 0.3, 0.65, 1.0])), min_size=1, max_size=9)


def test_raw_lengths_rank_as_in_the_vector():
    candidates = VECTORS["best_of_n_ranking"]["cands"]
    rewards = [candidate["reward"] for candidate in candidates]
    assert best_first(rewards, [len(c["code"]) for c in candidates]) == VECTORS["best_of_n_ranking"]["order"]


def test_blanks_win_no_tie_where_only_code_counts():
    candidates = VECTORS["best_of_n_ranking"]["cands"]
    rewards = [candidate["reward"] for candidate in candidates]
    assert best_first(rewards, [code_length(c["code"]) for c in candidates]) == [2, 3, 1, 0]


CODE = {
    "int f() { return 0; }": 16,
    "int f ( )\n{\treturn 0 ; } // the answer": 16,
    "/* a\n long story */int f(){return 0;}": 16,
    "int f(){return 0;} /* never closed": 16,
    'auto s = "a // b  c";': 18,
    "auto s = R\"(a  /* b\n*/)\";": 22,
    "char c = '\"'; // \"": 10,
    "": 0,
    " \n\t": 0,
}  # fmt: skip


@pytest.mark.parametrize("code", CODE)
def test_code_is_measured_without_comments_and_white_space(code):
    assert code_length(code) == CODE[code]


@given(REWARDS, st.data())
def test_reward_counts_before_length_and_length_before_index(rewards, data):
    lengths = data.draw(st.lists(st.integers(0, 3), min_size=len(rewards), max_size=len(rewards)))
    order = best_first(rewards, lengths)
    assert sorted(order) == list(range(len(rewards)))
    for better, worse in pairwise(order):
        first, second = rewards[better], rewards[worse]
        if first is None or second is None:
            assert second is None
            assert first is not None or (-lengths[better], better) < (-lengths[worse], worse)
        else:
            assert (-first, -lengths[better], better) < (-second, -lengths[worse], worse)


def test_a_mean_by_rank_is_over_the_lists_that_reach_it():
    assert mean_by_rank([[4, 2], [2, 2, 9]]) == [3, 2, 9]
    assert mean_by_rank([]) == []
