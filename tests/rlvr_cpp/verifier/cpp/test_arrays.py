"""Which tests have memory written to by who does not know where it ends."""

import pytest

from rlvr_cpp.verifier.cpp.arrays import FENCE, fenced, hands_on_memory


@pytest.mark.parametrize(
    "body",
    [
        "int got[4]; std::copy(v.begin(), v.end(), got);",
        "int got[4] = {0}; fill(got);",
        "int got[2][4] = {0}; int* at = got[0]; *at = 1;",
        "int got[3]; int* at = got;",
        "int got[3]; int* at = &got[1];",
        "int got[3]; int* at = got + 1;",
        "int* got = new int[4];",
        'char text[9]; std::snprintf(text, 9, "%d", f());',
        "std::array<int, 3> got; std::copy_n(v.begin(), n, got.begin());",
        "std::vector<int> got(3); write(got.data());",
    ],
)
def test_a_pointer_into_a_variable_is_handed_on(body):
    assert hands_on_memory(f"int main() {{ {body} }}")


@pytest.mark.parametrize(
    "body",
    [
        "int got[4]; got[0] = f(1); for (int one : got) check(one); int n = sizeof got / sizeof(got[0]);",
        "int got[2][4] = {0}; got[0][1] = 5;",
        "const int want[] = {1, 2}; f(want);",
        "constexpr int want[] = {1, 2}; f(want);",
        "int want[] = {1, 2}; for (int i = 0; i < 2; ++i) if (f(i) == want[i]) ++passed;",
        "std::vector<int> copy = v; int data = 3; f(copy, data);",
    ],
)
def test_elements_and_constants_are_not(body):
    assert not hands_on_memory(f"int main() {{ {body} }}")


def test_the_sign_of_a_fence_stands_behind_the_text():
    needs, needs_none = "int main() { int a[2]; f(a); }", "int main() { f(1); }"
    assert fenced(needs, "text") == f"text{FENCE}"
    assert fenced(needs_none, "text") == "text"
