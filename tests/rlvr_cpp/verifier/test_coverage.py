"""Which lines the tests of a program left unexecuted, measured with each compiler that is here."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from importlib import resources
from pathlib import Path

import pytest

from rlvr_cpp import Case, Program, UserError, Verifier
from rlvr_cpp.verifier.coverage import find_gcov, measure_coverage, read_report, unexecuted_lines

ROWS = [json.loads(line) for line in (resources.files("rlvr_cpp") / "data" / "families.jsonl").read_text().splitlines()]
CLASS = next(row for row in ROWS if row["entry_point"] == "Tally")
CALLGRAPH = next(row for row in ROWS if row["task_id"].startswith("callgraphs"))
BRANCHES = """#include <vector>
// doubles small numbers
int twice(int x) {
    std::vector<int> seen;
    if (x > 100) {
        seen.push_back(x);  // never
    } else {
        x = 2 * x;
    }
    /* nothing
       here */
    return x;
}
"""
MARKER = """#include <cstdio>
int main() {
    int passed = (twice(1) == 2) + (twice(3) == 6);
    std::printf("PASSED %d/2\\n", passed);
    return passed == 2 ? 0 : 1;
}
"""
ASSERTIONS = "#include <cassert>\nint main() { assert(twice(1) == 2); assert(twice(3) == 7); assert(twice(4) == 8); }\n"


@pytest.fixture(scope="module", params=["g++", "clang++"])
def verifier(request):
    if shutil.which(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    with Verifier(compiler=request.param, workers=2, timeout=2.0) as verifier:
        if find_gcov(verifier.workshop) is None:
            pytest.skip(f"{request.param} has no gcov beside it")
        yield verifier


def unexecuted(verifier: Verifier, code: str, test: str | None = MARKER, **fields) -> set[int] | None:
    lines = unexecuted_lines(Program(code, test, **fields), verifier.workshop)
    return None if lines is None else set(lines)


@pytest.mark.parametrize("test", [MARKER, ASSERTIONS, "int price(int x) { return twice(x); }\n" + MARKER])
def test_a_branch_that_no_test_takes_is_reported_and_one_that_is_taken_is_not(verifier, test):
    assert unexecuted(verifier, BRANCHES, test) == {6}


def test_all_is_executed_where_the_tests_reach_everything(verifier):
    assert unexecuted(verifier, BRANCHES, MARKER.replace("twice(3) == 6", "twice(101) == 101")) == set()


def test_an_early_return_leaves_the_rest_unexecuted(verifier):
    code = "int twice(int x) {\n    if (x < 50)\n        return 2 * x;\n    x += 1;\n    x += 2;\n    return x;\n}\n"
    assert unexecuted(verifier, code) == {4, 5, 6}


def test_a_function_that_nobody_calls_is_unexecuted(verifier):
    code = "int spare(int x) {\n    return x;\n}\nint twice(int x) {\n    return 2 * x;\n}\n"
    assert unexecuted(verifier, code) == {1, 2}


def test_comments_braces_and_bare_keywords_are_never_reported(verifier):
    code = """int twice(int x) {
    if (x < 50) {
        return 2 * x;
    }
    else
    {
        // nothing to see
        do {
            for (int i = 0; i < 3; ++i) {
                x += i;
            }
        } while (x < 0);
    }
    return x;
}  // end
"""
    assert unexecuted(verifier, code) == {9, 10, 12, 14}


def test_an_instance_of_a_template_that_runs_a_line_is_enough(verifier):
    code = """template <class T> T larger(T a, T b) {
    if (a < b)
        return b;
    return a;
}
int twice(int x) {
    return larger(x, 0) + larger<long>(0, x);
}
"""
    assert unexecuted(verifier, code) == set()


def test_a_handler_of_an_exception_that_is_not_thrown_is_unexecuted(verifier):
    code = """int twice(int x) {
    try {
        if (x > 50) throw x;
    } catch (int y) {
        x = y;
    }
    return 2 * x;
}
"""
    assert 5 in unexecuted(verifier, code)


def test_hidden_tests_count_as_tests(verifier):
    hidden = MARKER.replace("twice(1) == 2", "twice(101) == 101")
    assert unexecuted(verifier, BRANCHES, hidden_test=hidden) == set()


def test_without_tests_a_program_runs_alone(verifier):
    code = "int main(int n, char**) {\n    if (n > 5)\n        return 3;\n    return 7;\n}\n"
    assert unexecuted(verifier, code, None) == {3}


def test_every_case_is_run_and_adds_to_what_was_executed(verifier):
    code = """#include <iostream>
int main() {
    int x;
    std::cin >> x;
    if (x == 1)
        std::cout << "one";
    else if (x == 2)
        std::cout << "two";
    else
        std::cout << "many";
}
"""
    assert unexecuted(verifier, code, None, cases=(Case("1", "one"), Case("2", "two"))) == {10}
    assert unexecuted(verifier, code, None, cases=(Case("2", "two"),)) == {6, 10}


@pytest.mark.parametrize("row", [CLASS, CALLGRAPH], ids=["a class", "callbacks"])
def test_a_reference_solution_is_executed_to_its_last_line(verifier, row):
    unreached = "\ninline int unreached(int x) { return x; }\nint outside(int x) {\n    return unreached(x);\n}\n"
    code = row["prompt"] + row["reference"] + unreached
    program = Program(code, row["test"], row["tests_declared"], declaration=row["prompt"])
    lines = unexecuted_lines(program, verifier.workshop)
    assert {code.split("\n")[line - 1].strip() for line in lines} >= {"int outside(int x) {", "return unreached(x);"}
    assert not {line for line in lines if line <= (row["prompt"] + row["reference"]).count("\n")}


@pytest.mark.parametrize(
    "body",
    [
        "return *(volatile int*)0 + x;",
        "__builtin_abort();",
        "for (volatile int i = 0;; ++i) {}",
        "for (;;) std::puts(\"12345678\");",
        "_exit(0);",
        "close(3); return 2 * x;",
        "return y;",
        "return declared_only(x);",
    ],
)  # fmt: skip
def test_what_does_not_build_or_come_to_its_own_end_is_not_measured(verifier, body):
    code = f"#include <cstdio>\n#include <unistd.h>\nint declared_only(int);\nint twice(int x) {{ {body} }}\n"
    assert unexecuted(verifier, code) is None


def test_a_crash_after_a_good_case_is_not_measured(verifier):
    code = "#include <iostream>\nint main() {\n    int x;\n    std::cin >> x;\n    if (x == 2) __builtin_abort();\n}\n"
    assert unexecuted(verifier, code, None, cases=(Case("1", "1"), Case("2", "2"))) is None


def test_a_failing_program_is_measured_like_any_other(verifier):
    assert unexecuted(verifier, BRANCHES.replace("2 * x", "3 * x")) == {6}
    assert unexecuted(verifier, "#include <cstdlib>\nint twice(int x) {\n    std::exit(x);\n}\n") == set()


@pytest.mark.parametrize("code", ["", {"a.cpp": "int main() {}"}, "\0\0", "int main() {}\udc80"])
def test_what_is_no_single_text_is_not_measured(verifier, code):
    assert unexecuted_lines(Program(code), verifier.workshop) is None


def test_other_flags_and_sanitizers_change_nothing(verifier):
    flags = ["-O2", "-fsanitize=address,undefined", "-pthread"]
    with Verifier(compiler=verifier.toolchain.compiler, extra_flags=flags, workers=1) as other:
        assert unexecuted(other, BRANCHES) == {6}


def test_a_precompiled_header_changes_nothing(verifier):
    for number in range(6):
        assert unexecuted(verifier, BRANCHES + f"// {number}\n") == {6}


def test_a_program_can_write_to_no_file(verifier, tmp_path):
    tmp_path.chmod(0o777)
    code = f"""#include <cstdio>
#include <initializer_list>
int twice(int x) {{
    for (const char* path : {{"rlvr_coverage.gcda", "rlvr_coverage.gcno", "x", "/tmp/x", "{tmp_path}/x", "/dev/shm/x"}})
        if (std::FILE* file = std::fopen(path, "w"))
            return std::fputs("forged", file);
    return 2 * x;
}}
"""
    assert unexecuted(verifier, code) == {6}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("bytes_written", [15, 4 << 20])
def test_forged_counters_change_the_mask_of_the_program_at_most(verifier, bytes_written):
    code = f"""#include <unistd.h>
int twice(int x) {{
    for (int i = 0; i < {bytes_written}; i += 15)
        write(3, "forged counters", 15);
    return 2 * x;
}}
"""
    lines = unexecuted(verifier, code)
    assert lines is None or lines <= {2, 3, 4, 5}
    assert unexecuted(verifier, BRANCHES) == {6}


def test_line_markers_move_nothing_out_of_the_text(verifier):
    far = '#line 1000000 "candidate.cpp"\nint twice(int x) {\n    if (x > 50)\n        x = 3;\n    return 2 * x;\n}\n'
    assert unexecuted(verifier, far) == set()
    assert unexecuted(verifier, far.replace("candidate", "elsewhere")) == set()


def test_many_are_measured_in_order_and_nothing_is_left_behind(verifier):
    before = leftovers()
    programs = [Program(BRANCHES, MARKER), Program("int twice(int x) { abort(); }", MARKER), Program({"a.h": ""})] * 2
    programs.insert(1, dataclasses.replace(programs[0], test=MARKER.replace("twice(1) == 2", "twice(200) == 200")))
    found = measure_coverage(programs, verifier)
    assert found == [frozenset({6}), frozenset(), None, None, frozenset({6}), None, None]
    assert leftovers() == before


def test_an_interruption_ends_what_is_measured():
    def interrupt(*_) -> None:
        raise KeyboardInterrupt

    before = leftovers()
    endless = [Program(f"#include <unistd.h>\nint main() {{ for (;;) pause(); }} // {n}") for n in range(5)]
    with Verifier(workers=2, timeout=500.0) as verifier:
        previous = signal.signal(signal.SIGALRM, interrupt)
        signal.setitimer(signal.ITIMER_REAL, 1.5)
        with pytest.raises(KeyboardInterrupt):
            measure_coverage(endless, verifier)
        signal.signal(signal.SIGALRM, previous)
    assert leftovers() == before


def test_a_program_that_makes_no_sense_is_the_users_mistake(verifier):
    with pytest.raises(UserError, match="std is 'c99'"):
        measure_coverage([Program("int main() {}", std="c99")], verifier)


def test_a_machine_that_fails_gives_no_measurement(verifier, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/nonexistent")
    assert measure_coverage([Program(BRANCHES, MARKER)], verifier) == [None]


def test_a_compiler_without_a_gcov_beside_it_measures_nothing(tmp_path):
    compiler = tmp_path / "my-compiler"
    compiler.write_text('#!/bin/sh\nexec g++ "$@"\n')
    compiler.chmod(0o755)
    tmp_path.chmod(0o755)
    with Verifier(compiler=str(compiler), workers=1) as verifier:
        assert find_gcov(verifier.workshop) is None
        assert measure_coverage([Program(BRANCHES, MARKER)], verifier) == [None]


def test_a_report_is_read_for_the_candidate_alone():
    report = (
        "        -:    0:Source:/work/candidate.cpp\n    #####:    2:  f();\n    =====:    3:  g();\n       1*:    4:  h();\n"
        "    #####:    4:  h();\n    #####:    5:}\n        -:    0:Source:rlvr_harness.cpp\n    #####:    9:  i();\n"
    )
    assert read_report(report) == {2, 3}


def leftovers() -> tuple[set[Path], set[str]]:
    """Scratch folders and children of this process."""
    folders = set(Path(tempfile.gettempdir()).glob(f"rlvr_verify_{os.getpid()}_*"))
    children = subprocess.run(["pgrep", "-P", str(os.getpid()), "-f", "launcher"], capture_output=True, text=True)
    return folders, set(children.stdout.split()) | {t.name for t in threading.enumerate() if "coverage" in t.name}
