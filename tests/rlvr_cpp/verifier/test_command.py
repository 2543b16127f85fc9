"""The command `rlvr-verify`: what it prints, how it exits, and what it says to a call that makes no sense."""

import io
import json
import os
import shutil
import subprocess
import sys

import pytest

from rlvr_cpp import VerifyResult
from rlvr_cpp.verifier import verifier
from rlvr_cpp.verifier.command import main
from rlvr_cpp.verifier.verifier import Verifier
from rlvr_sandbox import SandboxError

RIGHT = "int twice(int x) { return 2 * x; }\n"
HALF = "int twice(int x) { return x < 3 ? 2 * x : 0; }\n"
TESTS = """#include <cassert>
int twice(int);
int main() {
    assert(twice(1) == 2);
    assert(twice(3) == 6);
}
"""
ADDS = "#include <iostream>\nint main() { int a, b; std::cin >> a >> b; std::cout << a + b; }\n"
CRASHES = "int main() { return *(volatile int*)0; }\n"


@pytest.fixture(params=["g++", "clang++"])
def compiler(request):
    if shutil.which(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    return request.param


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def file(name: str, content: str | bytes) -> str:
    os.makedirs(os.path.dirname(name) or ".", exist_ok=True)
    with open(name, "wb") as opened:
        opened.write(content.encode() if isinstance(content, str) else content)
    return name


def feed(monkeypatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_declaration_says_what_an_answer_has_to_define(capsys):
    own_type = "struct Yes { bool operator==(int) const { return true; } };\nYes twice(int) { return {}; }\n"
    tests = ["--tests", file("tests.cpp", TESTS.replace("int twice(int);\n", ""))]
    declared = [*tests, "--declaration", file("declared.cpp", "int twice(int x);\n")]
    assert main([file("right.cpp", "template <class T> T twice(T x) { return 2 * x; }\n"), *declared]) == 0
    assert main([file("own.cpp", own_type), *declared]) == 1
    capsys.readouterr()
    assert main(["own.cpp", *tests]) == 1
    assert "the test calls what was not declared: give `declaration`" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("code", "options", "status", "said"),
    [
        (RIGHT, ["--tests", "t.cpp"], 0, "pass: it passes all tests (ok, tests 2/2, tier oracle, compile"),
        (HALF, ["--tests", "t.cpp"], 1, "fail: it fails tests (wrong, tests 1/2, tier oracle, compile"),
        (RIGHT, ["--tests", "t.cpp", "--hidden-tests", "t.cpp"], 0, "tests 4/4, of which hidden 2/2"),
        (RIGHT, [], 0, "pass: it compiles (ok, compile"),
        ("int main() {}", [], 0, "pass: it ran to its end (ok, compile"),
        ("int main() { return 3; }", [], 1, "fail: it ended with status 3 (run_error"),
        (CRASHES, [], 1, "fail: it was ended by SIGSEGV"),
        ("int main() { for (volatile int i = 0;; ++i) {} }", ["--timeout", "0.3"], 1, "fail: it used up its CPU time"),
        ("int absent(); int main() { return absent(); }", [], 1, "fail: it does not link (link_error"),
        ("#include <cstdio>\nint main() { for (;;) std::puts(\"12345678\"); }", [], 1, "fail: it printed too much"),
        (ADDS, ["--cases", "cases.json"], 0, "tests 2/2, tier cases"),
        (ADDS, ["--cases", "wrong.json"], 1, "tests 1/2, tier cases"),
        (ADDS, ["--cases", "float.json", "--checker", "float"], 0, "tests 1/1, tier cases"),
        (ADDS, ["--cases", "wrong.json", "--checker-program", "takes_all.cpp"], 0, "tests 2/2, tier cases"),
    ],
)  # fmt: skip
def test_the_first_line_tells_the_verdict_and_the_exit_status_agrees(code, options, status, said, compiler, capsys):
    file("t.cpp", TESTS)
    file("cases.json", '[{"input": "1 2", "output": "3"}, {"input": "2 2", "output": "4"}]')
    file("wrong.json", '{"inputs": ["1 2", "2 2"], "outputs": ["3", "5"]}')
    file("float.json", '[["1 2", "3.0"]]')
    file("takes_all.cpp", "int main() {}")
    assert main([file("a.cpp", code), "--compiler", compiler, *options]) == status
    first = capsys.readouterr().out.partition("\n")[0]
    assert first.startswith(said) or said in first


@pytest.mark.parametrize("line", ["\treturn 2 * y;", "  /* äöü */ return 2 * y;"])
def test_an_error_is_shown_with_its_line_and_a_caret_below_its_column(line, compiler, capsys):
    assert main([file("twice.cpp", f"int twice(int x) {{\n{line}\n}}\n"), "--compiler", compiler]) == 1
    shown = capsys.readouterr().out.split("\n")
    at = next(number for number, text in enumerate(shown) if text.startswith("twice.cpp:2:"))
    assert "error: " in shown[at]
    assert shown[at + 1] == f"    2 | {line.expandtabs(8)}"
    assert shown[at + 2].index("^") == shown[at + 1].index("y;")


def test_warnings_and_what_was_done_against_them_are_shown(capsys):
    silenced = '#pragma GCC diagnostic ignored "-Wall"\nint main() { int unused; }\n'
    assert main([file("a.cpp", silenced)]) == 0
    shown = capsys.readouterr().out
    assert "attempts to silence warnings were undone, 1 warnings counted" in shown
    assert main([file("b.cpp", "int main() { int unused; }\n")]) == 0
    assert "b.cpp:1:18: warning: unused variable 'unused' [-Wunused-variable]" in capsys.readouterr().out


def test_of_many_errors_the_first_are_shown(capsys):
    main([file("a.cpp", "int main() {\n" + "".join(f"a{number};\n" for number in range(9)) + "}\n")])
    shown = capsys.readouterr().out
    assert shown.count(": error: ") == 5
    assert "... and 4 more errors" in shown


def test_a_long_line_is_shown_around_its_error(capsys):
    main([file("a.cpp", "int main() { /*" + " " * 3000 + "*/ return y; }\n")])
    source, caret = capsys.readouterr().out.split("\n")[2:4]
    assert len(source) < 200
    assert source[caret.index("^")] == "y"


def test_nothing_that_a_candidate_writes_steers_the_terminal(capsys):
    main([file("a.cpp", "#error \033[2J\n")])
    main([file("a.cpp", '#include <cstdio>\nint main() { std::fputs("\\033[2J", stderr); return 1; }\n')])
    shown = capsys.readouterr().out
    assert "?[2J" in shown
    assert "\033" not in shown


def test_the_isolation_is_named(monkeypatch, capsys):
    main([file("a.cpp", "int main() {}")])
    line = capsys.readouterr().out.strip().split("\n")[-1]
    assert line.startswith("isolation: ")
    assert " of 14 controls" in line
    less = VerifyResult("ok", True, True, isolation=("limits", "seccomp"))
    monkeypatch.setattr(Verifier, "verify", lambda self, program: less)
    main(["a.cpp"])
    assert "isolation: 2 of 14 controls, without drop, user, pid" in capsys.readouterr().out


def test_what_could_not_be_judged_is_neither_pass_nor_fail(monkeypatch, capsys):
    failure = VerifyResult("sandbox_error", False, False, stderr="no process left")
    monkeypatch.setattr(Verifier, "verify", lambda self, program: failure)
    assert main([file("a.cpp", "int main() {}")]) == 2
    assert capsys.readouterr().out.startswith("not judged: what judges it failed, not the program: no process left")


@pytest.mark.parametrize(("no_color", "is_coloured"), [("", True), ("1", False)])
def test_colour_is_for_terminals_that_want_it(no_color, is_coloured, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("NO_COLOR", no_color)
    main([file("a.cpp", "int main() {}")])
    assert ("\033[32mpass:\033[0m" in terminal.getvalue()) == is_coloured


def test_json_is_the_whole_result_and_nothing_else(compiler, capsys):
    assert main([file("a.cpp", HALF), "--tests", file("t.cpp", TESTS), "--json", "--compiler", compiler]) == 1
    printed = capsys.readouterr().out
    result = VerifyResult.from_json(printed)
    assert (result.status, result.tests_passed, result.tests_total, result.tier) == ("wrong", 1, 2, "oracle")
    assert printed == result.to_json() + "\n"


@pytest.mark.parametrize("files", [[], ["-"]])
def test_without_a_file_the_program_comes_from_standard_input(files, monkeypatch, capsys):
    feed(monkeypatch, b"int main() { return 1 }")
    assert main(files) == 1
    assert "candidate.cpp:1:22: error: expected ';' before '}' token" in capsys.readouterr().out


def test_files_lie_as_they_do_on_disk(compiler, capsys):
    file("src/main.cpp", '#include "lib/twice.h"\nint main() { return twice(0); }\n')
    file("src/lib/twice.h", "#pragma once\nint twice(int);\n")
    file("src/lib/twice.cpp", '#include "twice.h"\n' + RIGHT)
    names = ["src/main.cpp", "src/lib/twice.cpp", "src/lib/twice.h"]
    assert main([*names, "--compiler", compiler]) == 0
    assert main(names[:2]) == 1
    assert "main.cpp:1:10: fatal error: lib/twice.h: No such file or directory" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["a file.cpp", "rlvr_main.cpp", "header.h", "old.c", "no_suffix"])
def test_one_file_may_have_any_name(name, capsys):
    assert main([file(name, RIGHT)]) == 0


def test_think_blocks_go_only_where_one_says_so(monkeypatch):
    answer = b"<think>easy</think>int main() {}"
    feed(monkeypatch, answer)
    assert main([]) == 1
    feed(monkeypatch, answer)
    assert main(["--think"]) == 0


def test_a_flag_may_begin_with_a_dash(capsys):
    code = "int main() { return EXPECTED; }\n#ifndef __OPTIMIZE__\n#error no\n#endif\n"
    assert main([file("a.cpp", code), "--flag", "-O2", "--flag=-DEXPECTED=0", "--std", "c++20"]) == 0


def test_sanitizers_find_what_tests_do_not(compiler, capsys):
    reads_behind = file("a.cpp", "int main() { volatile int* p = new int[2]; p[2]; }")
    assert main([reads_behind, "--compiler", compiler]) == 0
    assert main([reads_behind, "--compiler", compiler, "--sanitize", "address,undefined"]) == 1
    assert "ERROR: AddressSanitizer: heap-buffer-overflow" in capsys.readouterr().out


NULL = "#include <cstdio>\nint main() { char* p = NULL; return p != NULL; }\n"


@pytest.mark.skipif(shutil.which("clang-tidy") is None, reason="clang-tidy is not installed")
def test_tidy_adds_its_findings_and_changes_no_status(capsys):
    assert main([file("a.cpp", NULL), "--tidy"]) == 0
    shown = capsys.readouterr().out
    assert "clang-tidy: 1 finding\n" in shown
    assert "a.cpp:2: use nullptr [modernize-use-nullptr]" in shown
    assert main(["a.cpp", "--tidy", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    finding = {"file": "a.cpp", "line": 2, "check": "modernize-use-nullptr", "message": "use nullptr"}
    assert printed.pop("tidy") == [finding]
    assert VerifyResult.from_json(json.dumps(printed)).status == "ok"
    assert main([file("b.cpp", "int main() { return y; }"), "--tidy", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["tidy"] is None


@pytest.mark.parametrize(
    ("content", "status", "exit_status"),
    [
        (b"", "compile_error", 1),
        (b" \n\t\n", "compile_error", 1),
        (b"int main() { \0 }", "ok", 0),
        (b"\xff\xfe", "compile_error", 1),
        (b"int main() {} // \xe4\xf6\xfc", "ok", 0),
        (b'int main() { return sizeof("\xff") != 4; }', "ok", 0),
        (b"int main() {} //" + b"x" * 10_000_000, "compile_error", 1),
        (b"int main() {}\n" * 2 + b"(" * 10_000, "compile_error", 1),
    ],
    ids=["empty", "blank", "NUL", "no UTF-8", "Latin-1", "byte in a string", "10 MB", "10,000 braces"],
)  # fmt: skip
def test_source_that_is_no_source_has_a_result(content, status, exit_status, capsys):
    assert main([file("a.cpp", content), "--json"]) == exit_status
    assert json.loads(capsys.readouterr().out)["status"] == status


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--std", "c++99"], "std is 'c++99': it must be"),
        (["--std", "c++17 -o x"], "std is 'c++17 -o x': it must be"),
        (["--std", ""], "std is '': it must be"),
        *((["--flag", flag], f"extra_flags has {flag!r}: only flags that")
          for flag in ("-fplugin=evil.so", "-o", "-oout", "@file", "-specs=evil", "-specs", "-include", "-I/etc", "-B.",
                       "a.cpp", "-", "-x", "-fuse-ld=evil", "-wrapper", "-save-temps", "-fdump-tree-all", "-Wl,-T,x")),
        (["--flag"], "argument --flag: expected one argument"),
        (["--flag", "-fno-such-flag-at-all"], "does not judge an empty program as it should"),
        (["--flag", "-fsanitize=address", "--sanitize", "thread"], "does not judge an empty program as it should"),
        (["--sanitize", "address,../x"], "extra_flags has '-fsanitize=address,../x'"),
        (["--sanitize", ""], "extra_flags has '-fsanitize='"),
        (["--compiler", "no-such-compiler"], "compiler 'no-such-compiler' was not found on PATH"),
        (["--compiler", ""], "compiler '' was not found on PATH"),
        (["--timeout", "0"], "timeout is 0.0: it must be"),
        (["--timeout", "nan"], "timeout is nan: it must be"),
        (["--timeout", "soon"], "argument --timeout: invalid float value: 'soon'"),
        (["--require", "magic"], "argument --require: invalid choice: 'magic'"),
        (["--no-such-option"], "unrecognized arguments: --no-such-option"),
        (["--checker", "float"], "--checker is float but there are no cases"),
        (["--tests", "a.cpp", "--cases", "a.cpp"], "there are both --tests and --cases"),
        (["--cases", "a.cpp"], "a.cpp is no JSON"),
        (["--cases", "empty.json"], "empty.json holds no cases"),
        (["--tests", "absent.cpp"], "'absent.cpp' cannot be read (No such file or directory)"),
        (["--tests", "folder"], "'folder' is a directory"),
        (["absent.cpp"], "'absent.cpp' cannot be read (No such file or directory)"),
        (["folder"], "'folder' is a directory"),
        (["nul\0.cpp"], "cannot be read (embedded null byte)"),
        (["-"], "standard input is one of several files"),
        (["data.txt"], "the code has a file named 'data.txt'"),
        (["/dev/zero"], "'/dev/zero' is longer than 16 MiB"),
    ],
)  # fmt: skip
def test_a_call_that_makes_no_sense_is_one_line_and_exit_status_2(argv, said, capsys):
    file("a.cpp", "int main() {}")
    file("empty.json", "[]")
    file("data.txt", "1 2 3")
    os.mkdir("folder")
    assert main(["a.cpp", *argv]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert said in printed.err
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1


def test_a_host_that_cannot_give_what_is_required_is_one_line(monkeypatch, capsys):
    def refuse(require):
        raise SandboxError("sandbox: this host cannot give memory")

    monkeypatch.setattr(verifier, "require_controls", refuse)
    assert main([file("a.cpp", "int main() {}"), "--require", "full"]) == 2
    assert capsys.readouterr().err == "error: sandbox: this host cannot give memory\n"


def test_a_missing_clang_tidy_is_one_line(monkeypatch, capsys):
    gxx = os.path.realpath(shutil.which("g++"))
    monkeypatch.setenv("PATH", "")
    assert main([file("a.cpp", "int main() {}"), "--tidy", "--compiler", gxx]) == 2
    assert capsys.readouterr().err.startswith("error: --tidy needs clang-tidy, which was not found on PATH")


def run(*argv: str, stdin: bytes, **options) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "rlvr_cpp.verifier.command", *argv], input=stdin, capture_output=True, **options
    )


def test_it_is_a_command(tmp_path):
    done = run("--tests", file("t.cpp", TESTS), "--json", stdin=RIGHT.encode())
    assert (done.returncode, done.stderr) == (0, b"")
    assert VerifyResult.from_json(done.stdout.decode()).passed
    assert run("--help", stdin=b"").returncode == 0
    ascii_only = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = run(stdin="int main() { return ä; }".encode(), env=ascii_only)
    assert (done.returncode, done.stderr) == (1, b"")


def test_a_reader_that_goes_away_leaves_no_traceback():
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "rlvr_cpp.verifier.command"],
        input=b"int main() {}",
        stdout=write,
        stderr=subprocess.PIPE,
    )
    os.close(write)
    assert done.stderr == b""


def test_it_loads_nothing_beyond_the_base_install():
    probe = "import sys, rlvr_cpp.verifier.command; print(sorted({'torch', 'hydra', 'rich', 'transformers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True).stdout == "[]\n"
