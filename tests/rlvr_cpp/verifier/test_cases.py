"""Reading cases: whatever the shape, the same cases; what is none is named."""

import dataclasses
import json

import pytest

from rlvr_cpp import UserError
from rlvr_cpp.verifier.cases import Case, OpenCase, read_cases


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


def test_a_case_that_a_program_judges_needs_no_answer():
    assert read_cases([["1", ""], ["2", "3"]], kind=OpenCase) == (OpenCase("1", ""), OpenCase("2", "3"))
    assert read_cases([["1", ""], ["2", "3"]]) == (Case("2", "3"),)
    with pytest.raises(UserError, match="stdout is a NoneType"):
        OpenCase("1", None)


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
