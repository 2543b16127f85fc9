"""Numbers of another kind and text in C's way: an honest class is judged as plain g++ would, whatever a test prints."""

import pytest

from rlvr_cpp import Program

TEST = """#include <cstdio>
#include <cstring>
int main() {
    int passed = 0;
    char text[32];
    Shape s(2);
    if (s.area() != 4) std::printf("100%% of %s: got %5.1f, want %d\\n", s.name(), s.area(), 4);
    if (s.area() == 4) ++passed;
    std::printf("%d corners, %zu sides\\n", s.corners(), s.sides());
    if (s.corners() == 4) ++passed;
    std::snprintf(text, sizeof text, "%s!", s.label().c_str());
    if (std::strcmp(text, "square!") == 0) ++passed;
    if (std::strcmp(s.name(), "Shape") == 0) ++passed;
    std::printf("PASSED %d/4\\n", passed);
    return passed != 4;
}
"""
SHAPE = """#include <string>
struct Shape {{
    int side;
    explicit Shape(int side) : side(side) {{}}
    {area} area() const {{ return side * side; }}
    {corners} corners() const {{ return 4; }}
    unsigned long sides() const {{ return 4; }}
    const char* name() const {{ return "{name}"; }}
    std::string label() const {{ return "square"; }}
}};
"""
REFERENCE = SHAPE.format(area="double", corners="int", name="Shape")


@pytest.mark.parametrize("area", ["double", "float", "int", "long"])
@pytest.mark.parametrize("corners", ["int", "short", "unsigned long"])
def test_a_number_of_another_kind_is_the_same_number(verifier, area, corners):
    result = verifier.verify(Program(SHAPE.format(area=area, corners=corners, name="Shape"), TEST, reference=REFERENCE))
    assert (result.status, result.tier) == ("ok", "observer"), result.stderr


def test_a_fraction_is_no_whole_number(verifier):
    result = verifier.verify(Program(SHAPE.format(area="int", corners="double", name="S"), TEST, reference=REFERENCE))
    assert result.error_class == "value_type"


def test_text_in_the_way_of_c_is_compared_in_the_process_of_the_test(verifier):
    result = verifier.verify(Program(SHAPE.format(area="int", corners="int", name="S"), TEST, reference=REFERENCE))
    assert (result.status, result.tests_passed, result.tier) == ("wrong", 3, "observer")


def test_without_a_reference_a_format_says_what_is_printed(verifier):
    test = """#include <cstdio>
int main() {
    Box b(3);
    int passed = b.get() == 3;
    if (!passed) std::printf("%-10s got %d of %.*f\\n", b.name(), b.get(), 2, b.mean());
    std::printf("PASSED %d/1\\n", passed);
    return passed != 1;
}
"""
    box = """struct Box {
    int value;
    explicit Box(int value) : value(value) {}
    int get() const { return value; }
    const char* name() const { return "box"; }
    double mean() const { return 1.5; }
};
"""
    good, bad = verifier.verify_many([Program(box, test), Program(box.replace("return value", "return 2"), test)])
    assert (good.status, good.tier) == ("ok", "observer"), good.stderr
    assert (bad.status, bad.tests_passed) == ("wrong", 0)
