"""Think blocks come off the front of a completion and nowhere else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlvr_cpp import strip_think_blocks, strip_think_token_ids
from rlvr_cpp.verifier.think import Thoughts, answer_span, think_block_end

OPEN, CLOSE = "<think>", "</think>"
VOCABULARY = [OPEN, CLOSE, "int x;", " ", "\n", '"', "//", "<", "think", ">", "é"]
IDS = st.lists(st.integers(0, len(VOCABULARY) - 1), max_size=12)
TEXT = st.lists(st.sampled_from(VOCABULARY), max_size=12).map("".join)


def decode(ids: list[int]) -> str:
    return "".join(VOCABULARY[i] for i in ids)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("int x;", "int x;"),
        ("<think>hm</think>int x;", "int x;"),
        ("\n <think>a\nb</think>\nint x;", "\nint x;"),
        ("<think>never closed int x;", ""),
        ("<think></think>", ""),
        ('auto s = "<think>";', 'auto s = "<think>";'),
        ('auto s = R"(<think></think>)";', 'auto s = R"(<think></think>)";'),
        ("// <think> </think>\nint x;", "// <think> </think>\nint x;"),
        ("/*<think>*/ int x; /*</think>*/", "/*<think>*/ int x; /*</think>*/"),
        ('<think>a</think>auto s = "<think></think>";', 'auto s = "<think></think>";'),
        ("int x;</think>", "int x;</think>"),
        ("<think>a</think><think>b</think>", "<think>b</think>"),
        ("<think>a<think>b</think>c</think>int x;", "c</think>int x;"),
        ("<THINK>a</THINK>int x;", "int x;"),
        ("<Thinking>a</thinking>int x;", "int x;"),
        ("[THINK]a[/THINK]int x;", "int x;"),
        ("<seed:think>a</seed:think>int x;", "int x;"),
        ("<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>int x;", "int x;"),
        ("", ""),
    ],
)
def test_only_a_leading_block(text, code):
    assert strip_think_blocks(text) == code


def test_other_markers():
    markers = [("<THINK_PLAN>", "<THINK_END>")]
    assert strip_think_blocks("<THINK_PLAN>x<THINK_END>int y;", markers) == "int y;"
    assert strip_think_blocks("<think>x</think>int y;", markers) == "<think>x</think>int y;"


@given(IDS)
def test_ids_and_text_agree(ids):
    spelled = ids[:3] == [VOCABULARY.index(piece) for piece in ("<", "think", ">")]  # a marker to the text form alone
    if decode(ids[:1]).strip() and not spelled:
        assert decode(strip_think_token_ids(ids, 0, 1)) == strip_think_blocks(decode(ids))


def test_ids_do_not_look_past_white_space_or_for_a_marker_of_several_tokens():
    blank, pieces = VOCABULARY.index(" "), [VOCABULARY.index(piece) for piece in ("<", "think", ">")]
    assert strip_think_token_ids([blank, 0, 1, 2], 0, 1) == [blank, 0, 1, 2]
    assert strip_think_token_ids([*pieces, 1, 2], 0, 1) == [*pieces, 1, 2]


@given(IDS)
def test_what_is_left_of_ids_is_their_end(ids):
    left = strip_think_token_ids(ids, 0, 1)
    assert ids[len(ids) - len(left) :] == left


@given(TEXT)
def test_what_is_left_of_a_text_is_its_end(text):
    assert strip_think_blocks(text) == text[think_block_end(text) :]
    assert text.endswith(strip_think_blocks(text))


@given(TEXT)
def test_a_text_that_begins_with_no_block_is_left_alone(text):
    if not text.lstrip().startswith(OPEN):
        assert strip_think_blocks(text) == text


@given(TEXT)
def test_an_unclosed_block_leaves_nothing(text):
    thought = text.replace(CLOSE, "")
    if CLOSE not in thought:
        assert strip_think_blocks(OPEN + thought) == ""


@given(TEXT, TEXT)
def test_blocks_do_not_nest(thought, code):
    if CLOSE not in thought:
        assert strip_think_blocks(OPEN + thought + CLOSE + code) == code


@given(TEXT)
def test_stripping_twice_changes_nothing_but_a_second_block(text):
    once = strip_think_blocks(text)
    if not once.lstrip().startswith(OPEN):
        assert strip_think_blocks(once) == once


OPENED = Thoughts(are_open=True)


@pytest.mark.parametrize(
    ("text", "thoughts", "answer"),
    [
        ("hm\n</think>\nint x;", Thoughts(), "\nint x;"),
        ("hm\n</think>\nint x;", OPENED, "\nint x;"),
        ("hm", OPENED, ""),
        ("hm", Thoughts(), "hm"),
        ("<think>hm</think>int x;", OPENED, "int x;"),
        ('auto s = "</think>";', Thoughts(), 'auto s = "</think>";'),
        ("int x; // <think></think>", Thoughts(), "int x; // <think></think>"),
        ("<think>hm</think><answer>int x;</answer>!", Thoughts(), "int x;"),
        ("<think>hm<answer>int x;", Thoughts(), "int x;"),
        ("<answer>no</answer> <answer>int x;</answer>", Thoughts(), "int x;"),
        ("<think>an <answer> first</think>int x;", Thoughts(), "int x;"),
    ],
)
def test_where_an_answer_stands(text, thoughts, answer):
    begin, end = answer_span(text, thoughts)
    assert text[begin:end] == answer
