"""clang-tidy's findings: the candidate's own, each once, and nothing that it writes makes one go away."""

import dataclasses

import pytest

from rlvr_cpp import Program, UserError, Verifier
from rlvr_cpp.verifier.toolchain.tidy import (
    CHECKS,
    LEFT_OUT,
    UNREADABLE,
    _own_notes,
    check_tidy,
    find_tidy,
    tidy_notes,
)
from rlvr_cpp.verifier.toolchain.workshop import Workshop

TIDY = find_tidy() or ""
needs_tidy = pytest.mark.skipif(not TIDY, reason="clang-tidy is not installed")
NULL = "modernize-use-nullptr"


@pytest.fixture(scope="module")
def workshop() -> Workshop:
    with Verifier(workers=1) as verifier:
        return verifier.workshop


def found(code: str | dict[str, str], workshop: Workshop) -> list[tuple[str, int, str]] | None:
    findings = tidy_notes(Program(code), workshop, TIDY)
    return None if findings is None else [(finding.file, finding.line, finding.check) for finding in findings]


@needs_tidy
def test_the_clang_tidy_of_this_host_works(workshop):
    check_tidy(TIDY, workshop)


@needs_tidy
def test_each_line_and_check_counts_once(workshop):
    code = "#include <vector>\nint* a = 0; int* b = 0;\nint* c = 0;\n"
    assert found(code, workshop) == [("candidate.cpp", 2, NULL), ("candidate.cpp", 3, NULL)]


@needs_tidy
@pytest.mark.parametrize(
    "code",
    [
        "int* p = 0; // NOLINT\n",
        "// NOLINTNEXTLINE\nint* p = 0;\n",
        "// NOLINTBEGIN(modernize-*)\nint* p = 0;\n// NOLINTEND(modernize-*)\n",
        '# 1 "/usr/include/stdio.h" 1 3\nint* p = 0;\n',
        "#pragma GCC system_header\nint* p = 0;\n",
        "#ifdef __clang_analyzer__\nint* p;\n#else\nint* p = 0;\n#endif\n",
    ],
)
def test_nothing_hides_a_finding(code, workshop):
    line = next(i for i, text in enumerate(code.split("\n"), 1) if "= 0" in text)
    assert found(code, workshop) == [("candidate.cpp", line, NULL)]


@needs_tidy
def test_a_header_of_the_candidates_counts_once_for_all_who_include_it(workshop):
    files = {
        "deep/a.h": "#pragma once\ninline int* none() { return 0; }\n",
        "a.cpp": '#include "deep/a.h"\n',
        "b.cpp": '#include "deep/a.h"\nint* p = 0;\n',
    }
    assert found(files, workshop) == [("b.cpp", 2, NULL), ("deep/a.h", 2, NULL)]


@needs_tidy
def test_honest_code_has_no_findings(workshop):
    code = (
        "#include <map>\n#include <string>\n#include <vector>\n"
        "int count(const std::vector<std::string>& words, int low, int high) {\n"
        "    std::map<std::string, int> seen;\n    for (const auto& word : words) ++seen[word];\n"
        "    int n = seen.size();\n    return n < low ? low : n > high ? high : n;\n}\nint main() {}\n"
    )
    assert found(code, workshop) == []


@needs_tidy
def test_code_that_clang_does_not_take_is_a_finding(workshop):
    assert found("int f() { return missing; }\n", workshop) == [("candidate.cpp", 1, UNREADABLE)]


@needs_tidy
def test_a_header_that_clang_has_not_is_nobodys_finding(workshop):
    assert found("#include <only_another_compiler_has_this.h>\nint* p = 0;\n", workshop) is None


@needs_tidy
@pytest.mark.parametrize("code", ["\0\xff\udc80", "#error \udcff", "/*", 'R"(', "NOLINT" * 1_000])
def test_any_text_has_a_result(code, workshop):
    assert found(code, workshop)


def test_trouble_with_the_machine_is_no_finding(workshop):
    assert tidy_notes(Program("int x;"), workshop, "/usr/bin/there-is-no-such-tidy") is None


@needs_tidy
def test_a_run_over_its_limit_is_no_finding(workshop):
    short = Workshop(dataclasses.replace(workshop.toolchain, compile_timeout=0.01), workshop.controls)
    assert found("#include <map>\n#include <vector>\n#include <string>\n#include <iostream>\n", short) is None


def test_a_tool_that_finds_nothing_is_not_clang_tidy(workshop):
    with pytest.raises(UserError, match="'/usr/bin/true' does not see"):
        check_tidy("/usr/bin/true", workshop)


def test_without_clang_tidy_none_is_found(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_tidy() is None


def test_the_newest_version_is_found_where_there_is_no_plain_one(monkeypatch, tmp_path):
    for name in ("clang-tidy-14", "clang-tidy-19"):
        (tmp_path / name).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_tidy() == str((tmp_path / "clang-tidy-19").resolve())


def test_what_the_prompt_decides_is_not_checked():
    assert all(f"-{check}" in CHECKS.split(",") for check in LEFT_OUT)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/work/a.cpp:1:2: warning: use it [bugprone-x]", [("a.cpp", 1, "bugprone-x")]),
        ("/work/b/../a.cpp:1:2: warning: use it [bugprone-x]", [("a.cpp", 1, "bugprone-x")]),
        ("/tmp/rlvr/a.cpp:1:2: warning: m [bugprone-x]", [("a.cpp", 1, "bugprone-x")]),
        ("/work/a.cpp:1:2: warning: m [cert-x,bugprone-x]", [("a.cpp", 1, "bugprone-x"), ("a.cpp", 1, "cert-x")]),
        ("/work/a.cpp:1:2: warning: [[m]] [v] [bugprone-x]", [("a.cpp", 1, "bugprone-x")]),
        ("/work/a.cpp:1:2: warning: no check", []),
        ("/work/a.cpp:1:2: note: m [bugprone-x]", []),
        ("/usr/include/x.h:1:2: warning: m [bugprone-x]", []),
        ("/usr/include/x.h:1:2: error: m [clang-diagnostic-error]", None),
        ("/work/a.cpp:1:2: error: 'omp.h' file not found [clang-diagnostic-error]", None),
        ("8063 warnings generated.\n\n   ^~~\n", []),
    ],
)
def test_the_tools_output_is_read_so(text, expected):
    findings = _own_notes(text, ["/work", "/tmp/rlvr"], {"a.cpp"})
    assert (None if findings is None else [(f.file, f.line, f.check) for f in findings]) == expected
