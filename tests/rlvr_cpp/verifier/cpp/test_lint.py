"""The copy for linting: whatever silences a warning has no effect on it, and nothing else changes."""

import re
import shutil
import subprocess

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rlvr_cpp.verifier.cpp.lint import lint_copy

COMPILERS = [
    pytest.param(name, marks=pytest.mark.skipif(shutil.which(name) is None, reason=f"{name} is not installed"))
    for name in ("g++", "clang++")
]
UNUSED = "int f() { int left_over; return 0; }\n"

SILENCED = {  # each silences the one warning on the line that holds `left_over`
    "line directive": '#line 900 "elsewhere.h"\n' + UNUSED,
    "line marker": '# 1 "/usr/include/x.h" 1 3\n' + UNUSED + '# 9 "a.cpp" 2\n',
    "spaced line marker": '  #   1 "/usr/include/x.h" 1 3\n' + UNUSED,
    "marker as digraph": '%: 1 "/usr/include/x.h" 1 3\n' + UNUSED,
    "pragma": '#pragma GCC diagnostic ignored "-Wunused-variable"\n' + UNUSED,
    "spliced pragma": '#pr\\\nagma GCC dia\\  \ngnostic ignored "-Wunused-variable"\n' + UNUSED,
    "commented pragma": '/* a */ # /* b\n */ pragma /**/ GCC /**/ diagnostic ignored "-Wunused-variable"\n' + UNUSED,
    "digraph pragma": '%:pragma GCC diagnostic ignored "-Wunused-variable"\n' + UNUSED,
    "crlf pragma": '#pragma GCC \\\r\n diagnostic ignored "-Wunused-variable"\r\n' + UNUSED,
    "line ends of old": '// a\r#pragma GCC diagnostic ignored "-Wunused-variable"\n' + UNUSED,
    "pragma behind a byte order mark": '\ufeff#pragma GCC diagnostic ignored "-Wunused-variable"\n' + UNUSED,
    "operator": '_Pragma("GCC diagnostic ignored \\"-Wunused-variable\\"")\n' + UNUSED,
    "operator in a macro": '#define OFF _Pragma("GCC diagnostic ignored \\"-Wunused-variable\\"")\nOFF\n' + UNUSED,
    "stringising operator": '#define P(x) _Pragma(#x)\nP(GCC diagnostic ignored "-Wunused-variable")\n' + UNUSED,
    "void cast": "int f() { int left_over; (void)left_over; return 0; }\n",
    "void cast in parentheses": "int f() { int left_over; ( void ) (left_over); return 0; }\n",
    "void cast of the address": "int f() { int left_over; (void)&left_over; return 0; }\n",
    "void cast behind a condition": "int f(bool a) { int left_over; if (a) (void)left_over; return 0; }\n",
    "void cast in a list": "int f(int a) { int left_over; (void)a, (void)left_over; return 0; }\n",
    "spliced void cast": "int f() { int left_over; (vo\\\nid) left\\\n_over; return 0; }\n",
    "static cast": "int f() { int left_over; static_cast<void>(left_over); return 0; }\n",
    "macro with a cast": "#define USED(x) (void)(x)\nint f() { int left_over; USED(left_over); return 0; }\n",
    "spliced macro": "#define USED(x) do { (void) \\\n x; } while (0)\nint f() { int left_over; USED(left_over); return 0; }\n",
    "ignore": "namespace std { struct { template <class T> void operator=(T&&) {} } ignore; }\n"
    "int f() { int left_over; std::ignore = left_over; return 0; }\n",
    "attribute": "int f() { [[maybe_unused]] int left_over; return 0; }\n",
    "attribute among others": "int f() { [[gnu::unused, gnu::aligned(8)]] int left_over; return 0; }\n",
    "attribute of a namespace": "int f() { [[using gnu: __unused__]] int left_over; return 0; }\n",
    "digraph attribute": "int f() { <:<: maybe_unused :>:> int left_over; return 0; }\n",
    "gnu attribute": "int f() { int left_over __attribute__((unused)); return 0; }\n",
    "gnu attribute in a macro": "#define U __attribute__((aligned(8), __unused__))\nint f() { int left_over U; return 0; }\n",
    "attribute in a macro": "#define U [[maybe_unused]]\nint f() { U int left_over; return 0; }\n",
    "macro for the name": "#define U maybe_unused\nint f() { [[U]] int left_over; return 0; }\n",
    "parameter": "int f([[maybe_unused]] int left_over) { return 0; }\n",
    "behind a string with two slashes": 'const char* s = "//";\n#pragma GCC diagnostic ignored "-Wunused-variable"\n' + UNUSED,
    "behind a raw string": 'const char* s = R"x(")" /* )x";\n#pragma GCC diagnostic ignored "-Wunused-variable"\n' + UNUSED,
    "behind a separator of digits": "int s = 1'000; _Pragma(\"GCC diagnostic ignored \\\"-Wunused-variable\\\"\")\n" + UNUSED,
    "behind an unmatched quote": "#if 0\ndon't /*\n#endif\n#pragma GCC diagnostic ignored \"-Wunused-variable\"\n" + UNUSED,
}  # fmt: skip
ONLY_CLANG = {
    "clang's pragma": '#pragma clang diagnostic ignored "-Wunused-variable"\n' + UNUSED,
    "clang's unused": "int f() { int left_over;\n#pragma unused(left_over)\nreturn 0; }\n",
    "raw operator": '_Pragma(R"(GCC diagnostic ignored "-Wunused-variable")")\n' + UNUSED,
    "not a splice to clang": '// a \\\0\n#pragma clang diagnostic ignored "-Wunused-variable"\n' + UNUSED,
}

UNTOUCHED = [
    "",
    "int main() { return 0; }\n",
    "#include <vector>\n#define N 3\n#ifdef N\n#endif\n#error it's (void)x\n",
    "#pragma once\n#pragma GCC optimize(\"O3\")\n#pragma GCC push_options\n#pragma GCC unroll 4\n_Pragma(\"once\")\n",
    'auto s = R"(\n#line 3\n#pragma GCC diagnostic push\n(void)x; [[maybe_unused]]\n)";\n',
    'auto s = "#line 3 (void)x; [[maybe_unused]]"; auto c = \'"\'; auto t = "\\"(void)x;";\n',
    "// (void)x; [[maybe_unused]]\n/*\n#pragma GCC diagnostic push\n*/\n",
    "// a splice \\\n#pragma GCC diagnostic push\n",
    "int f(void) noexcept; struct S { int g(void) const; int (*h)(void) = f; int operator()(void) const; };\n",
    "int f(void) ATTRIBUTE; template <> int f<int>(void) ATTRIBUTE; int (*h(int))(void) ATTRIBUTE;\n",
    "void g() { (void)f(); (void)a.b; (void)a[0]; (void)0; static_cast<void>(f()); }\n",
    "int unused = 3; int g(int unused) { return f(unused) + a[(unused)]; }\n",
    "[[nodiscard]] int f(); [[deprecated(\"unused\")]] int g(); __attribute__((noinline)) void h();\n",
    "int a = b ?: c; std::vector<::X> v; int d = x%:y;\n",
]  # fmt: skip


def warned_lines(compiler, text, folder) -> set[tuple[str, int]]:
    (folder / "a.cpp").write_bytes(text.encode())
    command = [compiler, "-std=c++17", "-fsyntax-only", "-Wall", "-Wextra", "a.cpp"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = re.findall(r"^(\S+?):(\d+):\d+: warning: .*left_over", done.stderr, re.MULTILINE)
    return {(file, int(line)) for file, line in found}


def check_unmasked(compiler, text, folder) -> None:
    line = 1 + text[: text.index("left_over")].replace("\r\n", "\n").replace("\r", "\n").count("\n")
    copy = lint_copy(text)
    assert ("a.cpp", line) not in warned_lines(compiler, text, folder)
    assert ("a.cpp", line) in warned_lines(compiler, copy.code, folder)
    assert copy.suppressions > 0


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("text", SILENCED.values(), ids=SILENCED.keys())
def test_a_suppressed_warning_shows_on_the_copy(compiler, text, tmp_path):
    check_unmasked(compiler, text, tmp_path)


@pytest.mark.skipif(shutil.which("clang++") is None, reason="clang++ is not installed")
@pytest.mark.parametrize("text", ONLY_CLANG.values(), ids=ONLY_CLANG.keys())
def test_what_only_clang_obeys_is_undone_too(text, tmp_path):
    check_unmasked("clang++", text, tmp_path)


TIDY = {
    "comment": "int* f() { return 0; } // NOLINT\n",
    "comment with a check": "int* f() { return 0; } /* NOLINT(modernize-use-nullptr) */\n",
    "next line": "// NOLINTNEXTLINE\nint* f() { return 0; }\n",
    "block": "// NOLINTBEGIN\nint* f() { return 0; }\n// NOLINTEND\n",
    "string": 'int* f() { const char* s = "NOLINT"; if (s) return 0; return 0; }\n',
    "wide string": 'int* f() { const wchar_t* s = L"a NOLINT b"; if (s) return 0; return 0; }\n',
    "raw string": 'int* f() { const char* s = R"x(NOLINT)x"; if (s) return 0; return 0; }\n',
    "character": "int* f() { int s = 'NOLINT'; if (s) return 0; return 0; }\n",
    "block of strings": 'const char* a = "NOLINTBEGIN";\nint* f() { return 0; }\nconst char* b = "NOLINTEND";\n',
    "name": "int* f() { int NOLINT = 1; if (NOLINT) return 0; return 0; }\n",
    "line marker": '# 1 "/usr/include/x.h" 1 3\nint* f() { return 0; }\n',
    "other code for the analyzer": "#ifdef __clang_analyzer__\nint* f();\n#else\nint* f() { return 0; }\n#endif\n",
}


def nulls_found(text, folder) -> int:
    (folder / "a.cpp").write_text(text)
    command = ["clang-tidy", "--checks=-*,modernize-use-nullptr", "a.cpp", "--", "-std=c++17"]
    output = subprocess.run(command, cwd=folder, capture_output=True, text=True).stdout
    return len(set(re.findall(r"a\.cpp:\d+:\d+: warning: use nullptr", output)))


@pytest.mark.skipif(shutil.which("clang-tidy") is None, reason="clang-tidy is not installed")
@pytest.mark.parametrize("text", TIDY.values(), ids=TIDY.keys())
def test_clang_tidy_finds_on_the_copy_what_the_program_hid(text, tmp_path):
    assert nulls_found(text, tmp_path) == 0
    assert nulls_found(lint_copy(text).code, tmp_path) > 0


@pytest.mark.parametrize("text", UNTOUCHED)
def test_a_program_that_silences_nothing_stays_as_it_is(text):
    assert lint_copy(text) == type(lint_copy(""))(text, 0)


@pytest.mark.parametrize(
    ("text", "copy"),
    [
        ('const char* s = "a NOLINT"; // b', 'const char* s = "a NOLIN" "T"; // b'),
        ('auto s = u8"NOLINT"_x;', 'auto s = u8"NOLIN" u8"T"_x;'),
        ('auto s = LR"d(NOLINT\n)d";', 'auto s = LR"d(NOLIN)d" LR"d(T\n)d";'),
        ('#include "NOLINT.h" // NOLINT', '#include "NOLINT.h" // N0LINT'),
    ],
)
def test_a_strings_value_and_a_files_name_stay(text, copy):
    assert lint_copy(text).code == copy


def test_columns_stay():
    text = "void f(int count) { (void)count; } int *p = 0; // NOLINT\n"
    assert lint_copy(text).code == "void f(int count) { (void)0    ; } int *p = 0; // N0LINT\n"


def test_an_unclosed_operator_in_a_skipped_group_hides_nothing_behind_it():
    text = f"#if 0\n_Pragma(\n#endif\n{UNUSED}"
    assert lint_copy(text).code.endswith(UNUSED)


PIECES = [
    "#", "%:", "??=", "??/", "pragma", "_Pragma", "GCC ", "diagnostic ", "line ", "define ", "X", "(", ")", "[", "]",
    "[[", "]]", "<:", ":>", "{", "}", ";", ",", "void", "(void)", "static_cast<void>", "std::ignore", "=", "x", "1",
    "maybe_unused", "gnu::", "unused", "__attribute__((", "NOLINT", "NO", "LINT", "__clang_analyzer__", '"', "'", 'R"',
    'R"(', ')"', "\\", "//", "/*", "*/", " ", "\n", "\r", "\r\n", "\0", "\t", "\ufeff", "\ud800", "é", "include ", "&",
]  # fmt: skip
TEXTS = st.one_of(st.lists(st.sampled_from(PIECES), max_size=40).map("".join), st.text(max_size=60))


def lines(text) -> int:
    return len(re.split(r"\r\n|\r|\n", text))


@given(TEXTS)
@example('#define X\\\0\r"NOLINT"')
@example("'NOLINT")
@example("??/ ??/ \n")
@example("(void) _Pragma(x) y;")
def test_any_text_has_a_copy_with_as_many_lines_that_is_its_own_copy(text):
    copy = lint_copy(text)
    assert lines(copy.code) == lines(text)
    assert (copy.suppressions == 0) == (copy.code == text)
    assert lint_copy(copy.code) == type(copy)(copy.code, 0)


@pytest.mark.parametrize(
    "piece", ["[", "(", "[[", "_Pragma(", "static_cast<void>(x);", "\\\n", 'R"(', "(void)", "#if 0\n"]
)
def test_a_long_text_takes_time_in_proportion(piece):
    # a quadratic reader would need hours for these
    closing = {"[": "]", "[[": "]]", "(": ")"}.get(piece, "")
    assert lint_copy(piece * 20_000 + closing * 20_000).code


def test_a_long_last_line_behind_a_trigraph_is_read_once():
    text = "int x; //??/" + "a" * 400_000  # a quadratic reader would need half an hour
    assert lint_copy(text).suppressions == 0
    assert lint_copy("int x; //??/").suppressions == 0
    assert lint_copy("int x; //??/\n").suppressions == 1
