"""Comparing output with what was expected: equal passes, less or more never does, and no output raises."""

import dataclasses
import json

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rlvr_cpp import UserError
from rlvr_cpp.verifier.cases import CHECKERS, Case, CheckerError, check_checker, outputs_match, read_cases

words = st.text(st.characters(exclude_categories=["Cs", "Z", "Cc"]), min_size=1, max_size=8)
numbers = st.floats(width=64).map(repr) | st.integers().map(str)
tokens = words | numbers
token_lists = st.lists(tokens, min_size=1, max_size=8)
builtin = st.sampled_from(CHECKERS)
checkers = builtin | st.just(lambda given, expected, actual: True)


def passes(checker, expected: str, actual: str | bytes, **options) -> bool:
    output = actual if isinstance(actual, bytes) else actual.encode()
    return outputs_match(checker, Case("", expected), output, **options)


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
    assert [checker for checker in CHECKERS if passes(checker, expected, actual)] == passing.split()


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
    both = [passes(checker, " ".join(expected), " ".join(actual)) for checker in CHECKERS]
    assert both == sorted(both)


@given(tokens, tokens)
def test_the_tolerance_takes_no_side(first, second):
    assert passes("float", first, second) == passes("float", second, first)


@given(st.floats(-1e300, 1e300), st.floats(-1.0, 1.0))
def test_the_tolerance_is_relative_or_absolute(number, share):
    near = number + share * 1e-6 * max(1.0, abs(number)) * 0.999
    far = number + 2.1e-6 * max(1.0, abs(number))
    assert passes("float", repr(number), repr(near))
    assert not passes("float", repr(number), repr(far))
    assert passes("float", repr(number), repr(far), tolerance=1e-5)


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


@pytest.mark.parametrize("stdout", ["", " ", "\n \t\r\n", "\u00a0"])
def test_a_case_expects_something(stdout):
    with pytest.raises(UserError, match="an empty expected output would pass a program that prints nothing"):
        Case("1", stdout)


@pytest.mark.parametrize(
    ("stdin", "stdout", "name"), [(1, "1", "stdin"), ("1", None, "stdout"), ("1", "\ud800", "stdout")]
)
def test_a_case_is_text(stdin, stdout, name):
    with pytest.raises(UserError, match=f"{name} "):
        Case(stdin, stdout)


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


def test_a_checker_that_raises_is_no_fault_of_the_candidate():
    with pytest.raises(CheckerError, match="raised ValueError: invalid literal") as caught:
        passes(lambda stdin, expected, actual: bool(int(actual)), "1", "one")
    assert isinstance(caught.value.__cause__, ValueError)


@pytest.mark.parametrize(
    ("checker", "tolerance", "words"),
    [
        ("fuzzy", 1e-6, "checker is 'fuzzy': it must be one of exact, tokens, float, or a function"),
        (None, 1e-6, "checker is None"),
        (["exact"], 1e-6, "checker is"),
        ("float", 1.0, "tolerance is 1.0"),
        ("float", -1e-9, "tolerance is -1e-09"),
        ("float", float("nan"), "tolerance is nan"),
        ("float", "1e-6", "tolerance is '1e-6'"),
    ],
)
def test_an_unknown_checker_is_refused(checker, tolerance, words):
    with pytest.raises(UserError) as caught:
        check_checker(checker, tolerance)
    assert words in str(caught.value)
    with pytest.raises(UserError):
        outputs_match(checker, Case("", "1"), b"1", tolerance)


TWO = (Case("1\n", "2"), Case("", "3 4\n"))


@pytest.mark.parametrize(
    "value",
    [
        [{"input": "1\n", "output": "2"}, {"input": "", "output": "3 4\n"}],
        [{"input": "1\n", "output": "2", "testtype": "stdin"}, {"input": "", "output": "3 4\n", "extra": 1}],
        {"inputs": ["1\n", ""], "outputs": ["2", "3 4\n"]},
        {"inputs": ["1\n", ""], "outputs": ["2", "3 4\n"], "fn_name": None},
        {"input": ["1\n", ""], "output": ["2", "3 4\n"]},
        {"inputs": [["1", ""], []], "outputs": [["2"], ["3 4", ""]]},
        [["1\n", "2"], ["", "3 4\n"]],
        [("1\n", "2"), ("", "3 4\n")],
        [dataclasses.asdict(case) for case in TWO],
        TWO,
    ],
)
def test_every_shape_of_cases_is_read(value):
    assert read_cases(value) == TWO
    if value is not TWO:
        assert read_cases(json.dumps(value)) == TWO


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([], "io holds no cases"),
        ({"inputs": [], "outputs": []}, "io holds no cases"),
        ("{", "io is no JSON"),
        (7, "io is a int"),
        (b"[]", "io is a bytes"),
        (None, "io is a NoneType"),
        ({"inputs": ["1"], "outputs": []}, "io has 1 inputs and 0 outputs"),
        ({"inputs": ["1"]}, "io has the fields ['inputs']"),
        ({"inputs": "1", "outputs": "2"}, "io has a str for all its inputs"),
        ({"inputs": ["1"], "outputs": ["2"], "fn_name": "add"}, "io has fn_name 'add': its tests call a function"),
        ([{"input": "1", "output": "2", "testtype": "functional"}], "io[0] has testtype 'functional'"),
        ([{"input": "1"}], "io[0] has the fields ['input']"),
        ([["1", "2"], ["1"]], "io[1] is \"['1']\""),
        (["12"], "io[0] is '12'"),
        ([["1", "2"], ["1", " "]], "io[1]: stdout is ' '"),
        ([["1", 2]], "io[0]: stdout is a int"),
        ([[None, "2"]], "io[0]: stdin is a NoneType"),
    ],
)
def test_what_is_no_case_is_named(value, words):
    with pytest.raises(UserError) as caught:
        read_cases(value, "io")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
