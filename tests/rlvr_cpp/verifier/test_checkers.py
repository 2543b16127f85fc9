"""Comparing output with what was expected: equal passes, less or more never does, and no output raises."""

import json
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rlvr_cpp import UserError
from rlvr_cpp.verifier.cases import Case
from rlvr_cpp.verifier.checkers import CHECKERS, CheckerError, Tolerance, check_checker, outputs_match

words = st.text(st.characters(exclude_categories=["Cs", "Z", "Cc"]), min_size=1, max_size=8)
numbers = st.floats(width=64).map(repr) | st.integers().map(str)
tokens = words | numbers
token_lists = st.lists(tokens, min_size=1, max_size=8)
CORPUS = Path(__file__).parents[2] / "data" / "checkers" / "corpus.jsonl"
BY_STRICTNESS = ("exact", "tokens", "float")
builtin = st.sampled_from(CHECKERS)
checkers = builtin | st.just(lambda given, expected, actual: True)


def passes(checker, expected: str, actual: str | bytes, **options) -> bool:
    output = actual if isinstance(actual, bytes) else actual.encode()
    return outputs_match(checker, Case("", expected), output, **options)


@pytest.mark.parametrize("checker", CHECKERS)
def test_each_checker_gives_the_verdicts_of_the_corpus(checker):
    rows = [row for row in map(json.loads, CORPUS.read_text().splitlines()) if row["checker"] == checker]
    assert len(rows) >= 40
    for row in rows:
        tolerance = Tolerance(row.get("absolute", 1e-6), row.get("relative", 1e-6))
        assert passes(checker, row["expected"], row["actual"], tolerance=tolerance) == row["passes"], row


@pytest.mark.parametrize(
    ("expected", "actual", "passing"),
    [
        ("1 2\n3\n", "1 2\n3\n", "exact tokens float"),
        ("1 2\n3\n", "1 2\n3", "exact tokens float"),
        ("1 2\n3", "1 2  \r\n3\t\n\n \n", "exact tokens float"),
        ("1 2\n3\n", "1  2\n3\n", "tokens float"),
        ("1 2\n3\n", " 1 2\n3\n", "tokens float"),
        ("1 2\n3\n", "\n1 2\n3\n", "tokens float"),
        ("1 2\n3\n", "1 2\n\n3\n", "tokens float"),
        ("1 2\n3\n", "1 2 3\n", "tokens float"),
        ("1 2\n3\n", "1\r2\n3\n", "tokens float"),
        ("2", "2.0", "float"),
        ("2.0", "2.0000001", "float"),
        ("0", "-0.0000001", "float"),
        ("1e10", "10000000000", "float"),
        (".5", "+0.5", "float"),
        ("2.0", "2.00001", ""),
        ("0", "0.00001", ""),
        ("yes 2", "Yes 2", ""),
        ("yes 2", "yes 2x", ""),
        ("12", "1_2", ""),
        ("12", "١٢", ""),
        ("10", "0xA", ""),
        ("0x10", "0x1p4", ""),
        ("nan", "-nan", "float"),
        ("NaN", "nan(0x8)", "float"),
        ("inf", "+Infinity", "float"),
        ("inf", "-inf", ""),
        ("inf", "nan", ""),
        ("nan", "0", ""),
        ("inf", "1e999", ""),
        ("1e999", "1e998", ""),
        ("1e999", "1e999", "exact tokens float"),
        ("1.0", "1.0 1.0", ""),
        ("é", "é", "exact tokens float"),
        ("é", "é".encode("latin-1"), ""),
        ("\ufffd", b"\xff", ""),
        ("a\u00a0b", "a b", ""),
        ("a", b"a\x00", ""),
    ],
)
def test_what_passes_which_checker(expected, actual, passing):
    assert [checker for checker in BY_STRICTNESS if passes(checker, expected, actual)] == passing.split()


@given(builtin, token_lists)
def test_every_output_matches_itself(checker, expected):
    assert passes(checker, " ".join(expected), " ".join(expected))
    assert passes(checker, " ".join(expected) + "\n", " ".join(expected))


@given(checkers, token_lists, st.data())
def test_a_proper_prefix_never_passes(checker, expected, data):
    kept = data.draw(st.integers(0, len(expected) - 1))
    separator = data.draw(st.sampled_from([" ", "\n", "\r\n", " \t"]))
    assert not passes(checker, " ".join(expected), separator.join(expected[:kept]) + separator)


@given(builtin, token_lists, tokens)
def test_a_further_token_never_passes(checker, expected, token):
    assert not passes(checker, " ".join(expected), " ".join([*expected, token]))
    assert not passes(checker, " ".join(expected), "\n".join([token, *expected]))


@given(checkers, st.sampled_from(["", " ", "\n\n", "\u2003"]), token_lists)
def test_nothing_never_passes(checker, actual, expected):
    assert not passes(checker, " ".join(expected), actual)


@given(token_lists, token_lists, st.sampled_from([" ", "\n", "  \t "]))
def test_tokens_are_compared_one_by_one(expected, actual, separator):
    assert passes("tokens", " ".join(expected), separator.join(actual)) == (expected == actual)


@given(builtin, token_lists, token_lists)
def test_exact_is_the_strictest_and_float_the_most_tolerant(checker, expected, actual):
    both = [passes(checker, " ".join(expected), " ".join(actual)) for checker in BY_STRICTNESS]
    assert both == sorted(both)


@given(st.lists(token_lists, min_size=1, max_size=5), st.randoms())
def test_lines_may_come_in_any_order_and_words_within_them_may_not(lines, rng):
    shuffled = rng.sample(lines, len(lines))
    assert passes("unordered_lines", text_of(lines), text_of(shuffled))
    turned = [*lines[:-1], lines[-1][::-1]]
    assert passes("unordered_lines", text_of(lines), text_of(turned)) == (sorted(turned) == sorted(lines))


@given(token_lists)
def test_case_matters_to_all_but_one(expected):
    swapped = " ".join(token.upper() if token.isascii() else token for token in expected)
    assert passes("tokens_nocase", " ".join(expected), swapped)
    assert passes("tokens", " ".join(expected), swapped) == (swapped.split() == expected)


def text_of(lines):
    return "\n".join(" ".join(line) for line in lines) + "\n"


@given(st.floats(-1e300, 1e300), st.floats(-1.0, 1.0))
def test_the_tolerance_is_relative_or_absolute(number, share):
    near = number + share * 1e-6 * max(1.0, abs(number)) * 0.999
    far = number + 2.1e-6 * max(1.0, abs(number))
    assert passes("float", repr(number), repr(near))
    assert not passes("float", repr(number), repr(far))
    assert passes("float", repr(number), repr(far), tolerance=Tolerance(1e-5, 1e-5))
    assert passes("float", repr(number), repr(far), tolerance=Tolerance(1e295, 0.0))
    assert passes("float", repr(number), repr(far), tolerance=Tolerance(0.0, 3e-6)) or abs(number) < 0.71


@given(checkers, st.binary(max_size=40), token_lists)
def test_no_output_raises_or_passes_as_other_text(checker, actual, expected):
    text = " ".join(expected)
    assume(actual.split() != text.encode().split())
    try:
        actual.decode()
    except UnicodeDecodeError:
        assert not passes(checker, text, actual)
    else:
        assert passes(checker, text, actual) in (False, True)


@pytest.mark.parametrize("digit", ["7", "-7", "7.", ".7", "7e7"])
def test_digits_without_end_are_a_word(digit):
    long = digit + "7" * 1_000_000
    assert passes("float", long, long)
    assert not passes("float", long, long + "7")
    assert not passes("float", "7", long)


def test_a_users_checker_sees_input_expected_and_actual_text():
    seen = []

    def checker(stdin, expected, actual):
        seen.append((stdin, expected, actual))
        return int(actual) % int(stdin) == 0

    assert outputs_match(checker, Case("7", "14"), b"21\n")
    assert not outputs_match(checker, Case("7", "14"), b"22\n")
    assert seen == [("7", "14", "21\n"), ("7", "14", "22\n")]


@pytest.mark.parametrize("actual", [b"\xff", b"1\x80", b"\xed\xa0\x80", b"", b" \n", b"1 ", b"1\n2"])
def test_a_users_checker_is_not_asked_about_no_answer(actual):
    def checker(stdin, expected, actual):
        raise AssertionError("asked")

    assert not outputs_match(checker, Case("", "1 2 3"), actual)


@pytest.mark.parametrize("answer", [None, 1, "yes"])
def test_a_checker_that_gives_no_answer_is_no_fault_of_the_candidate(answer):
    with pytest.raises(CheckerError, match="must return True or False"):
        passes(lambda stdin, expected, actual: answer, "1", "1")


def test_a_checker_that_raises_whatever_is_printed_is_no_fault_of_the_candidate():
    for expected in ("uno", "0"):  # it fails on that, or does not take it
        with pytest.raises(CheckerError, match="raised ValueError: invalid literal") as caught:
            passes(lambda stdin, expected, actual: bool(int(actual)), expected, "one")
        assert isinstance(caught.value.__cause__, ValueError)


def test_an_output_that_breaks_a_checker_which_takes_the_expected_one_does_not_match():
    assert not passes(lambda stdin, expected, actual: bool(int(actual)), "1", "one")
    assert not passes(lambda stdin, expected, actual: True if actual == "1" else None, "1", "one")


@pytest.mark.parametrize(
    ("checker", "words"),
    [("fuzzy", "checker is 'fuzzy': it must be one of exact, tokens, "), (None, "is None"), (["exact"], "checker is")],
)
def test_an_unknown_checker_is_refused(checker, words):
    with pytest.raises(UserError, match=words):
        check_checker(checker)
    with pytest.raises(UserError):
        outputs_match(checker, Case("", "1"), b"1")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ((1e-6, 1.0), "relative_tolerance is 1.0: it must be a number, from 0 to below 1"),
        ((-1e-9, 0.0), "absolute_tolerance is -1e-09: it must be a number, 0 or more"),
        ((float("nan"), 0.0), "absolute_tolerance is nan"),
        ((0.0, "1e-6"), "relative_tolerance is '1e-6'"),
    ],
)
def test_what_is_no_tolerance_is_refused(values, words):
    with pytest.raises(UserError) as caught:
        Tolerance(*values)
    assert words in str(caught.value)
