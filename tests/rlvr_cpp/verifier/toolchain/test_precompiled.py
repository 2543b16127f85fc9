"""A precompiled header stands for the exact leading includes, and changes nothing but the time."""

import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlvr_cpp.verifier.toolchain.precompiled import PrecompiledHeaders, leading_includes
from rlvr_cpp.verifier.toolchain.store import Store
from rlvr_cpp.verifier.toolchain.toolchain import make_toolchain
from rlvr_cpp.verifier.toolchain.workshop import Workshop
from rlvr_sandbox import host_controls


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("#include <vector>\n#include <string>\nint x;", ("vector", "string")),
        ("/* a\n b */\n\n// c\n  # include <a/b.h> // d\n#include<c++.h>\nint x;\n#include <map>", ("a/b.h", "c++.h")),
        ("#define N 1\n#include <vector>", ()),
        ("#include <vector>\n#define N 1\n#include <map>", ("vector",)),
        ('#include "own.h"\n#include <vector>', ()),
        ("#include <vector>\n#pragma once\n#include <map>", ("vector",)),
        ("#include <vector> int x;", ()),
        ("#include <../../etc/passwd>", ()),
        ("#include </etc/passwd>", ()),
        ("// a \\\n#include <vector>\n#include <map>", ()),
        ("#include <vector>", ("vector",)),
        ("/* never closed #include <vector>", ()),
        ("", ()),
    ],
)
def test_only_what_nothing_stands_before(code, names):
    assert leading_includes(code) == names


@given(st.text())
def test_any_text_has_an_answer(text):
    leading_includes(text)


@pytest.fixture(params=["g++", "clang++"])
def workshop(request, tmp_path):
    if shutil.which(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    workshop = Workshop(make_toolchain(request.param, (), 5.0, 30.0), host_controls())
    workshop.headers = PrecompiledHeaders(Store(tmp_path / "store", 1 << 30), workshop.toolchain, pays_after=3)
    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(0o755)
    return workshop


def test_it_is_built_when_it_has_come_up_often_enough_and_then_used(workshop):
    code = "#include <cstdio>\n#include <vector>\nint main() { std::vector<int> v(3); return int(v.size()) - 3; }\n"
    flags = workshop.flags("c++17")
    outputs = []
    for turn in range(5):
        chosen = workshop.precompiled(code, flags)
        assert bool(chosen) == (turn >= 2)
        with workshop.scratch({"a.cpp": code + "int unused() { int x = 1; }\n"}) as folder:
            built = workshop.compile(folder, [*flags, *chosen, "a.cpp", "-c", "-o", "a.o"])
            outputs.append((built.returncode, built.stderr))
    assert len(set(outputs)) == 1
    assert outputs[0][0] == 0


def test_of_many_that_are_announced_the_first_one_has_it(workshop):
    code, flags = "#include <cstdio>\nint x;", workshop.flags("c++17")
    for _ in range(2):
        workshop.headers.announce(code, flags)
    assert not workshop.precompiled(code, flags)
    workshop.headers.announce(code, flags)
    assert workshop.precompiled(code, flags)


def test_tests_share_their_candidates_header_with_gcc(workshop):
    code = "#include <cstdio>\nint x;"
    for _ in range(3):
        candidates = workshop.precompiled(code, workshop.flags("c++17"))
    assert (workshop.precompiled(code, workshop.trusted_flags("c++17")) == candidates) != workshop.toolchain.is_clang


def test_a_program_that_forgot_an_include_still_does_not_compile(workshop):
    flags = workshop.flags("c++17")
    for _ in range(4):
        chosen = workshop.precompiled("#include <cstdio>\nint x;", flags)
    assert chosen
    with workshop.scratch({"a.cpp": "#include <cstdio>\nstd::vector<int> v;\n"}) as folder:
        assert workshop.compile(folder, [*flags, *chosen, "a.cpp", "-c", "-o", "a.o"]).returncode != 0


def test_includes_that_do_not_exist_are_tried_once(workshop):
    code = "#include <no_such_header>\nint x;"
    assert all(workshop.precompiled(code, workshop.flags("c++17")) == () for _ in range(6))


def test_each_set_of_flags_has_its_own(workshop):
    code = "#include <cstdio>\n"
    chosen = [[workshop.precompiled(code, workshop.flags(std)) for _ in range(3)][-1] for std in ("c++17", "c++20")]
    assert len(set(chosen)) == 2
