"""Judging in the candidate's own process: honest class and callback tasks pass, and what was found to cheat does not.

Each attack here once earned a full pass. The verifier comes here only with tests that cannot be taken apart, so these
are put to it directly.
"""

import dataclasses
import json
import shutil
from importlib import resources

import pytest

from rlvr_cpp import Program, Verifier
from rlvr_cpp.verifier.tiers.in_process import judge_apart, judge_as_one
from rlvr_cpp.verifier.toolchain.bench import open_bench

ROWS = [json.loads(line) for line in (resources.files("rlvr_cpp") / "data" / "families.jsonl").read_text().splitlines()]
CLASS = next(row for row in ROWS if row["entry_point"] == "Tally")
CALLBACK = next(row for row in ROWS if row["task_id"].startswith("callgraphs"))
HOLLOW = "struct Tally { int total = 0; void add(int) {} };\n"
HONEST = CLASS["prompt"] + CLASS["reference"]
EXITING = CLASS["test"].replace("return passed == 8 ? 0 : 1;", "std::exit(passed == 8 ? 0 : 1);")
EXITING = "#include <cstdlib>\n" + EXITING
HEADER = '#include "t.h"\n'
LEAVE = "#include <cstdio>\n#include <cstdlib>\n#include <unistd.h>\n"


@pytest.fixture(scope="module", params=["g++", "clang++"])
def verifier(request):
    if shutil.which(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    with Verifier(compiler=request.param, workers=1) as verifier:
        yield verifier


def judge_inside(verifier: Verifier, program: Program) -> tuple[str, str, int, str]:
    """The status, the tier, the number of passed tests and what there is to read."""
    with open_bench(program, verifier.workshop) as bench:
        judged = judge_apart(bench) or judge_as_one(bench)
    verdict = judged.verdict
    status = judged.built.failure or (verdict.status if verdict else "ok")
    return status, judged.tier, verdict.passed if verdict else 0, judged.why or judged.built.text


def continued(row: dict, text: str) -> Program:
    return Program(row["prompt"] + text, row["test"], 8, declaration=row["prompt"])


def files(header: str, source: str, test: str) -> Program:
    return Program({"a.cpp": HEADER + source, "b.cpp": HEADER, "t.h": "#pragma once\n" + header}, HEADER + test, 8)


STEPS = Program(
    "namespace walk { class Steps { int sum = 0; public: void add(int n) { sum += n; } int get() const { return sum; } };\n"
    "inline int twice(const Steps& s) { return 2 * s.get(); } }\n",
    '#include <cstdio>\nint main() { walk::Steps s; int guard = 0; s.add(4); int ok = s.get() == 4 && !guard;\n'
    'ok += 7 * (walk::twice(s) == 8); std::printf("PASSED %d/8\\n", ok); return ok == 8 ? 0 : 1; }\n',
    8,
    declaration="namespace walk { class Steps { public: void add(int n); int get() const; };\nint twice(const Steps& s); }\n",
)  # fmt: skip
TWICE = Program(
    "inline int twice(int n) { return 2 * n; }\n",
    '#include <cstdio>\nint main() { int ok = 8 * (twice(4) == 8); std::printf("PASSED %d/8\\n", ok); return ok == 8 ? 0 : 1; }\n',
    8,
    declaration="int twice(int n);\n",
)  # fmt: skip
HONEST_PROGRAMS = {
    "an inline function": (TWICE, "sealed"),
    "a static function": (dataclasses.replace(TWICE, code=str(TWICE.code).replace("inline", "static")), "sealed"),
    "a class that was declared without what is in it": (STEPS, "marker"),
    "a class": (continued(CLASS, CLASS["reference"]), "marker"),
    "a class, judged by a test that exits": (Program(HONEST, EXITING, 8), "marker"),
    "callbacks": (continued(CALLBACK, CALLBACK["reference"]), "sealed"),
    "several files": (files(HONEST, "", CLASS["test"]), "marker"),
    "several files and a test that exits": (files(HONEST, "", EXITING), "marker"),
    "a class that prints": (Program("#include <cstdio>\n" + HONEST + '\nstatic int z = std::printf("hello\\n");', CLASS["test"], 8), "marker"),
}  # fmt: skip
HACKS = {
    "the nonce, by another name of signal": continued(
        CALLBACK,
        """return n; }
#include <csignal>
#include <cstdio>
#include <cstdlib>
static int z = [] {
    struct { void* nonce[2]; int value; } r = {{(void*)ssignal(63, nullptr), (void*)ssignal(64, nullptr)}, 0};
    std::puts("PASSED 8/8"); std::fflush(stdout);
    stdout->_fileno = 4; std::fwrite(&r, 20, 1, stdout); std::fflush(stdout); std::exit(0); return 0;
}();
""",
    ),
    "a constructor in one of several files": files(
        HOLLOW, LEAVE + 'static int z = (std::puts("PASSED 8/8"), std::fflush(stdout), _exit(0), 0);', CLASS["test"]
    ),
    "a constructor in a header that the test includes": files(
        LEAVE + HOLLOW + 'static int z = (std::puts("PASSED 8/8"), std::fflush(stdout), std::exit(0), 0);', "", CLASS["test"]
    ),
    "a constructor before a test that exits": Program(
        LEAVE + HOLLOW + 'static int z = (std::puts("PASSED 8/8"), std::fflush(stdout), std::exit(0), 0);', EXITING, 8
    ),
    "the seal's own exit": Program(
        LEAVE + 'extern "C" void rlvr_exit(int);\n' + HOLLOW + 'static int z = (std::puts("PASSED 8/8"), rlvr_exit(0), 0);', EXITING, 8
    ),
    "a printf that takes the counter": Program(
        "#include <cstdio>\n" + HOLLOW + 'namespace std { static int printf(const char*, int& p) { p = 8; return puts("PASSED 8/8"); } }',
        CLASS["test"],
        8,
    ),
    "the harness's code, read": continued(
        CALLBACK, "unsigned char* p = (unsigned char*)__builtin_return_address(0); return p[1]; }"
    ),
    "the harness's frame, left": continued(
        CALLBACK, 'asm volatile("mov (%rbp),%rbp; xor %eax,%eax; leave; ret"); return 0; }'
    ),
    "a forbidden word, pasted": continued(
        CALLBACK, "return 0; }\n#define JOIN(a, b) a##b\nstatic void* f() { return JOIN(__builtin_return_, address)(0); }"
    ),
    "an object that the tools cannot read": continued(
        CALLBACK, CALLBACK["reference"] + '__asm__(".pushsection .debug_foo,\\"0x800\\",@progbits\\n.quad 1,2,3\\n.popsection");'
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HONEST_PROGRAMS)
def test_an_honest_program_passes(verifier, name):
    program, tier = HONEST_PROGRAMS[name]
    *result, said = judge_inside(verifier, program)
    assert result == ["ok", tier, 8], said


@pytest.mark.parametrize("name", HACKS)
def test_a_hack_does_not_pass_and_is_a_result(verifier, name):
    status, _, passed, said = judge_inside(verifier, HACKS[name])
    assert status in ("forged", "policy", "wrong", "compile_error"), said
    assert passed < 8


@pytest.mark.parametrize(
    ("define", "include"),
    [
        ("#define equal", "#include <vector>"),
        ("#def\\\0\nine equal", "#include <vector>"),
        ("%:/**/def\\ \0\r\nine/* */eq\\\0\nual", "#inc\\\0\nlude <vector>"),
        ("#define equal", "#import <vector>"),
    ],
)
def test_a_macro_that_bends_the_library_is_found_however_it_is_written(verifier, define, include):
    code = f"""#include <algorithm>
{define}(a, b, c) equal(a, a, c)
{include}
template <class T> struct Stack {{
    std::vector<T> kept;
    void push(T x) {{ kept.push_back(x + 1); }}
    std::vector<T> items() const {{ return kept; }}
}};
"""
    test = """#include <cstdio>
int main() {
    Stack<int> s;
    int good = s.items() == std::vector<int>{};
    s.push(1);
    good += s.items() == std::vector<int>{1};
    std::printf("PASSED %d/2\\n", good);
    return good == 2 ? 0 : 1;
}
"""
    status, _, passed, said = judge_inside(verifier, Program(code, test, 2))
    joins = "\0" not in code or not verifier.toolchain.is_clang  # clang++ joins no lines over a NUL
    assert (status, passed) == ("policy" if joins else "compile_error", 0), said
    assert not joins or "equal" in said
