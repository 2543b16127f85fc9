"""An answer of several files may bring a demonstration along, whose `main` is not the program's."""

import pytest

from rlvr_cpp import Program

HEADER = """#pragma once
struct Square { int side; int area() const; };
int twice(int x);
"""
SOURCE = """#include "shape.h"
int Square::area() const { return side * side; }
int twice(int x) { return 2 * x; }
"""
DEMONSTRATION = """#include "shape.h"
#include <cstdio>
int main() { std::printf("%d\\n", Square{3}.area() + twice(2)); return 0; }
"""
ANSWER = {"shape.h": HEADER, "shape.cpp": SOURCE, "main.cpp": DEMONSTRATION}
OF_FUNCTION = "#include <cassert>\nint twice(int);\nint main() { assert(twice(2) == 4); assert(twice(0) == 0); }"
OF_CLASS = (
    '#include "shape.h"\n#include <cassert>\nint main() { assert(Square{3}.area() == 9); assert(twice(3) == 6); }'
)


@pytest.mark.parametrize(("test", "tier"), [(OF_FUNCTION, "oracle"), (OF_CLASS, "observer")])
def test_a_main_beside_the_answer_is_not_the_programs(verifier, test, tier):
    right, wrong = verifier.verify_many(
        [Program(files, test) for files in (ANSWER, {**ANSWER, "shape.cpp": SOURCE.replace("2 * x", "x + 1")})]
    )
    assert (right.status, right.tier) == ("ok", tier), right.stderr
    assert wrong.status == "wrong"


def test_without_tests_it_is_the_programs(verifier):
    assert verifier.verify(Program(ANSWER)).stdout == "13\n"
