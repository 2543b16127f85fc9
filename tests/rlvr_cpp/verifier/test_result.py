"""A result is plain data."""

from hypothesis import given
from hypothesis import strategies as st

from rlvr_cpp import VerifyResult, verify_cpp

HARNESS = """
#include <cstdio>
int main() {
    int passed = 0;
    passed += twice(1) == 2;
    passed += twice(3) == 6;
    std::printf("PASSED %d/2\\n", passed);
    return passed == 2 ? 0 : 1;
}
"""


@given(st.text(), st.integers(0, 9), st.none() | st.integers(-30, 255))
def test_a_result_survives_json(text, count, returncode):
    result = VerifyResult(
        "wrong",
        True,
        False,
        returncode,
        stdout=text,
        stderr=text,
        tests_passed=count,
        tests_total=9,
        timings={"run": 0.5},
    )
    assert VerifyResult.from_json(result.to_json()) == result


def test_results_with_diagnostics_survive_json():
    result = verify_cpp("int twice(int x) { return y; }", HARNESS, return_structured=True)
    assert result.diagnostics
    assert VerifyResult.from_json(result.to_json()) == result
