"""Think blocks come off the front of a completion and nowhere else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlvr_cpp import strip_think_blocks, strip_think_token_ids


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("int x;", "int x;"),
        ("<think>hm</think>int x;", "int x;"),
        ("\n <think>a\nb</think>\nint x;", "\nint x;"),
        ("<think>never closed int x;", ""),
        ('auto s = "<think>";', 'auto s = "<think>";'),
        ("// <think> </think>\nint x;", "// <think> </think>\nint x;"),
        ("<think>a</think><think>b</think>", "<think>b</think>"),
    ],
)
def test_only_a_leading_block(text, code):
    assert strip_think_blocks(text) == code


def test_other_markers():
    markers = [("<THINK_PLAN>", "<THINK_END>")]
    assert strip_think_blocks("<THINK_PLAN>x<THINK_END>int y;", markers) == "int y;"


@given(st.lists(st.sampled_from(["<think>", "</think>", "a", "b;"]), max_size=8))
def test_ids_and_text_agree(tokens):
    vocabulary = ["<think>", "</think>", "a", "b;"]
    ids = [vocabulary.index(token) for token in tokens]
    stripped = "".join(vocabulary[i] for i in strip_think_token_ids(ids, 0, 1))
    assert stripped == strip_think_blocks("".join(tokens))
