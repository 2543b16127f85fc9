"""An answer that is longer than the array of the test it is copied to does not write over the expectation."""

import shutil

import pytest

from rlvr_cpp import Program, Verifier
from rlvr_cpp.verifier.tiers.two_processes import build_oracle, split_of

COPIES = """#include <algorithm>
#include <cstdio>
#include <cstring>
{answer}
int main() {{
    int passed = 0, want[4] = {{1, 2, 3, 4}}, got[4] = {{0}};
    auto given = {call};
    {copy};
    for (int i = 0; i < 4; ++i) if (got[i] == want[i]) ++passed;
    std::printf("PASSED %d/4\\n", passed);
    return passed != 4;
}}
"""
COPY = "std::copy(given.begin(), given.end(), got)"
MOVE = "std::memcpy(got, given.data(), given.size() * sizeof(int))"
FUNCTION = "#include <vector>\nstd::vector<int> items() {{ return {{{}}}; }}"
CLASS = "#include <vector>\nstruct Items {{ std::vector<int> all() const {{ return {{{}}}; }} }};"
RIGHT, SHORT, LONG = "1, 2, 3, 4", "1, 2, 9", "7, 7, 7, 7, 7, 7, 7, 7"


def answers(copy, values):
    function, of_class = FUNCTION.format(values), CLASS.format(values)
    declared = "#include <vector>\nstd::vector<int> items();"
    return [
        Program(function, COPIES.format(answer=declared, call="items()", copy=copy)),
        Program(of_class, COPIES.format(answer="", call="Items().all()", copy=copy), reference=CLASS.format(RIGHT)),
    ]


@pytest.mark.parametrize("copy", [COPY, MOVE], ids=["copy", "memcpy"])
def test_a_long_answer_ends_the_test_and_others_are_judged_as_ever(verifier, copy):
    programs = [one for values in (RIGHT, SHORT, LONG) for one in answers(copy, values)]
    results = verifier.verify_many(programs)
    assert [result.tier for result in results] == ["oracle", "observer"] * 3
    assert [result.status for result in results] == ["ok", "ok", "wrong", "wrong", "run_error", "run_error"]
    assert [result.tests_passed for result in results] == [4, 4, 2, 2, 0, 0]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("clang++") is None, reason="needs clang++")
def test_clang_builds_the_fence_too():
    with Verifier(compiler="clang++") as clang:
        results = clang.verify_many([one for values in (RIGHT, LONG) for one in answers(COPY, values)])
    assert [result.status for result in results] == ["ok", "ok", "run_error", "run_error"]


def test_a_compiler_without_a_sanitizer_builds_the_test_without_a_fence(verifier, monkeypatch):
    monkeypatch.setattr(type(verifier.workshop), "fence_flags", ("-fsanitize=nothing",))
    [program, _] = answers("int* at = got; for (int one : given) *at++ = one", RIGHT)
    parts = split_of(program)
    oracle = build_oracle(program.std, verifier.workshop, parts)
    assert oracle is not None
    assert not oracle.is_fenced
