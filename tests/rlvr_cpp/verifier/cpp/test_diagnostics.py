"""Reading what compilers write: no form loses a place, no candidate words a verdict of the machine's."""

import dataclasses
import json
import shutil
import subprocess
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rlvr_cpp.verifier.cpp.diagnostics import (
    Diagnostic,
    add_chains,
    compile_limit_reason,
    count_warnings,
    diagnostic_flags,
    error_class,
    is_link_failure,
    lacks_only_main,
    parse_diagnostics,
    render_diagnostics,
    toolchain_trouble,
)

COMPILERS = [
    pytest.param(name, marks=pytest.mark.skipif(shutil.which(name) is None, reason=f"{name} is not installed"))
    for name in ("g++", "clang++")
]
CANDIDATE = """\
template <class T> T inner(T t) { return t.foo(); }
template <class T> int outer() { return inner(T{}); }
int f(int unused_one) {
  int unused_two;
  return outer<int>();
}
"""


def compile_text(compiler, code, folder, *flags, included=True) -> str:
    """What the compiler says of a program that stands in `candidate.cpp`."""
    (folder / "candidate.cpp").write_text(code)
    (folder / "main.cpp").write_text('#include "candidate.cpp"\n')
    source = "main.cpp" if included else "candidate.cpp"
    command = [compiler, "-std=c++17", "-Wall", "-Wextra", *flags, "-c", source, "-o", "candidate.o"]
    return subprocess.run(command, cwd=folder, capture_output=True).stderr.decode(errors="replace")


def machine_flags(compiler) -> tuple[str, ...]:
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True).stdout
    return diagnostic_flags(version.partition("\n")[0])


def structured(compiler, code, folder) -> tuple[Diagnostic, ...]:
    found = parse_diagnostics(compile_text(compiler, code, folder, *machine_flags(compiler)))
    return add_chains(found, compile_text(compiler, code, folder))


@pytest.mark.parametrize("compiler", COMPILERS)
def test_place_option_severity_and_chain_are_kept(compiler, tmp_path):
    found = structured(compiler, CANDIDATE, tmp_path)
    warnings = {(d.file, d.line, d.flag) for d in found if d.severity == "warning"}
    assert warnings == {("candidate.cpp", 3, "-Wunused-parameter"), ("candidate.cpp", 4, "-Wunused-variable")}
    (error,) = [d for d in found if d.severity == "error"]
    assert (error.file, error.line, error.flag) == ("candidate.cpp", 1, None)
    assert [frame.rsplit(":", 2)[0] for frame in error.chain if frame[14].isdigit()] == [
        "candidate.cpp:2",
        "candidate.cpp:5",
    ]
    assert count_warnings(found, "candidate.cpp") == 2
    assert error_class(found) in ("type", "other")


@pytest.mark.parametrize("compiler", COMPILERS)
def test_machine_readable_and_text_agree(compiler, tmp_path):
    code = CANDIDATE + "void g() { std::sort(1); h(); }\n#include <algorithm>\nbool b = std::min(1, 2L);\n"
    machine = parse_diagnostics(compile_text(compiler, code, tmp_path, *machine_flags(compiler)))
    text = parse_diagnostics(compile_text(compiler, code, tmp_path))
    assert [dataclasses.replace(d, chain=()) for d in machine] == [dataclasses.replace(d, chain=()) for d in text]
    assert add_chains(machine, compile_text(compiler, code, tmp_path)) == text


FORGERIES = [
    '#pragma message("x\\ncandidate.cpp:1:1: error: forged\\nPASSED 5/5")',
    '#pragma message("x\\n    1 | x\\n      | ^\\nPASSED 5/5\\n1 error generated.")',
    'static_assert(false, "x\\ncandidate.cpp:1:1: error: forged\\nPASSED 5/5");',
    '[[deprecated("x\\ncandidate.cpp:1:1: error: forged")]] void f();\nvoid g() { f(); }',
    "#error candidate.cpp:1:1: error: forged \\\ncandidate.cpp:1:1: error: forged",
    "#warning PASSED 5/5",
    "/*\ncandidate.cpp:1:1: error: forged\n*/ int f() { return x; }",
    'auto s = R"(\ncandidate.cpp:1:1: error: forged\n)" + x;',
    '#pragma message("x\\n[{\\"kind\\": \\"error\\", \\"message\\": \\"forged\\"}]")',
]


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("code", FORGERIES)
def test_a_candidate_words_no_error_of_its_own(compiler, code, tmp_path):
    found = structured(compiler, code + "\nint last = missing_name;\n", tmp_path)
    assert [d for d in found if d.severity == "error" and d.message.startswith("forged")] == []
    assert any("missing_name" in d.message for d in found)


@pytest.mark.parametrize("compiler", COMPILERS)
def test_a_forged_message_takes_no_warning_away(compiler, tmp_path):
    code = FORGERIES[0] + "\n" + FORGERIES[1] + "\nint f() { int left_over; return 0; }\n"
    for flags in ((), machine_flags(compiler)):
        found = parse_diagnostics(compile_text(compiler, code, tmp_path, *flags))
        assert any(d.flag == "-Wunused-variable" and d.line == 3 for d in found)


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize(
    "code",
    [
        "#pragma message(\"x\\ng++: fatal error: cannot execute 'cc1plus'\\ncompilation terminated.\")\nint x = y;",
        'int x = y;\n#pragma message("x\\ng++: fatal error: Killed signal terminated program cc1plus")',
        'static_assert(false, "x\\n/usr/bin/ld: final link failed: No space left on device");',
        'asm(".error \\"x\\\\ng++: fatal error: cannot execute \'as\'\\"");',
        'asm(".error \\"x\\\\n/tmp/cc.s: Fatal error: No space left on device\\"");',
        'asm("# 1 \\"g++: fatal error: No space left on device\\"\\n garbage");',
        'asm(".error \\"No space left on device\\"");',
        'asm(".error \\"File too large\\"");',
        "#error No space left on device",
        "/*\ng++: fatal error: cannot execute 'cc1plus'\n*/ int f() { return x; }",
    ],
)
def test_a_candidate_words_no_trouble_and_no_limit(compiler, code, tmp_path):
    for flags in ((), machine_flags(compiler)):
        stderr = compile_text(compiler, code, tmp_path, *flags)
        assert stderr
        assert toolchain_trouble(stderr) is None
        assert compile_limit_reason(stderr) is None


@pytest.mark.parametrize("compiler", COMPILERS)
def test_a_forged_document_takes_no_warning_away(compiler, tmp_path):
    code = (
        f'#line 1 "{compiler}: warning: x"\n#pragma message("x\\n[]\\n{{\\"results\\": []}}")\n'
        '#line 3 "candidate.cpp"\nint f() { int left_over; return 0; }\n'
    )
    for flags in ((), machine_flags(compiler)):
        stderr = compile_text(compiler, code, tmp_path, *flags, included=False)
        assert any(d.flag == "-Wunused-variable" and d.line == 3 for d in parse_diagnostics(stderr))


def test_only_a_line_feed_ends_a_line():
    text = "a.cpp:1:1: warning: x\u2028a.cpp:2:1: error: y\x0ca.cpp:3:1: error: z\r\n"
    assert [(d.line, d.severity) for d in parse_diagnostics(text)] == [(1, "warning")]


def test_a_linker_that_quotes_the_candidate_tells_of_no_trouble():
    told = "/usr/bin/ld: /tmp/a.o: in function `main':\na.cpp:(.text+0xa): warning: x\n"
    forged = "/usr/bin/ld: final link failed: No space left on device\ncollect2: error: ld returned 1 exit status\n"
    assert toolchain_trouble(told + forged) is None
    with_lines = "/usr/bin/ld: /tmp/a.o: in function `main':\n/tmp/a.cpp:4: warning: x\n"
    assert toolchain_trouble(with_lines + forged) is None
    assert toolchain_trouble("mold: error: undefined symbol: No space left on device\n") is None
    assert toolchain_trouble(forged) is not None


@pytest.mark.parametrize("name", ["a", "b c", "{standard input}"])
@pytest.mark.parametrize("forged", ["cc: No space left on device", "x: error: cannot exec y"])
def test_a_symbol_that_looks_like_the_assemblers_heading_tells_of_no_trouble(name, forged):
    for linker in ("mold", "ld.lld", "/usr/bin/ld.mold"):
        assert toolchain_trouble(f"{linker}: error: undefined symbol: {name}: Assembler messages:\n{forged}\n") is None


@pytest.mark.skipif(not shutil.which("clang++") or not shutil.which("mold"), reason="needs clang++ and mold")
def test_a_symbol_of_several_lines_is_a_link_error_and_no_trouble(tmp_path):
    name = r"a: Assembler messages:\ncc: No space left on device"
    (tmp_path / "a.cpp").write_text(f'extern "C" void f() __asm__("{name}"); int main() {{ f(); }}')
    command = ["clang++", "-fuse-ld=mold", "a.cpp", "-o", "a"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert is_link_failure(done.stderr)
    assert toolchain_trouble(done.stderr) is None


def test_an_endless_chain_is_kept_in_part():
    step = "a.cpp:{}:1:   required from 'int f()'\n"
    head = "a.cpp: In instantiation of 'int f()':\n"
    text = head + "".join(map(step.format, range(200_000))) + "a.cpp:1:1: error: x\n"
    (found,) = parse_diagnostics(text)
    assert len(found.chain) == 50
    assert found.chain[:2] == (head.strip()[:-1], step.format(0).strip().replace("   ", " "))


def test_one_long_word_that_names_a_compiler_is_read_once():
    word = "gcc" * 300_000  # a quadratic reader would need an hour
    assert toolchain_trouble(word) is None
    assert parse_diagnostics(f"{word}: warning: x\n[]\n") == ()


HALF_A_WARNING = "a.cpp: In function 'int f()':\na.cpp:2:15: warning: unused variable 'a' [-Wunused-variable]\n"
ECHO = "    2 | int f() { int a; }\n      |               ^\n"
DUMP = "Stack dump:\n0.\tProgram arguments: clang++ a.cpp\n #0 0x7f PrintStackTrace\n"

TROUBLE = [
    "g++: fatal error: cannot execute 'cc1plus': posix_spawnp: No such file or directory\ncompilation terminated.\n",
    "g++: fatal error: cannot execute 'cc1plus': vfork: Resource temporarily unavailable\ncompilation terminated.\n",
    "Cannot create temporary file in /tmp/: No space left on device\n",
    "/tmp/ccx.s: Assembler messages:\n/tmp/ccx.s: Fatal error: can't write 12 bytes to section .data of a.o: 'No space left on device'\n",
    "[]\n{standard input}: Assembler messages:\n{standard input}: Fatal error: can't fill 256 bytes in section .data of a.o: 'No space left on device'\n",
    "/usr/bin/ld: final link failed: No space left on device\ncollect2: error: ld returned 1 exit status\n",
    "mold: failed to write to an output file. Disk full?\nclang++: error: linker command failed with exit code 1\n",
    HALF_A_WARNING + ECHO + "fatal error: error in backend: IO failure on output stream: No space left on device\n"
    "PLEASE submit a bug report to https://x/ and include the crash backtrace\n" + DUMP,
    "clang++: error while loading shared libraries: libicudata.so.72: failed to map segment from shared object\n",
    "clang++: error: unable to execute command: posix_spawn failed: Resource temporarily unavailable\n",
]  # fmt: skip
LIMITS = [
    "g++: fatal error: Killed signal terminated program cc1plus\ncompilation terminated.\n",
    "g++: internal compiler error: Killed (program cc1plus)\n",
    "g++: internal compiler error: File size limit exceeded signal terminated program as\nPlease submit a full bug report.\n",
    "[]\ng++: fatal error: CPU time limit exceeded signal terminated program cc1plus\n",
    "g++: internal compiler error: Segmentation fault signal terminated program cc1plus\n",
    HALF_A_WARNING + ECHO + "g++: fatal error: Killed signal terminated program cc1plus\ncompilation terminated.\n",
    "virtual memory exhausted: Cannot allocate memory\n",
    "cc1plus: out of memory allocating 65536 bytes after a total of 1234 bytes\n",
    "/tmp/ccx.s: Assembler messages:\n/tmp/ccx.s: Fatal error: can't write 4 bytes to section .data of a.o: 'File too large'\n",
    "collect2: fatal error: ld terminated with signal 25 [File size limit exceeded]\ncompilation terminated.\n",
    "/usr/bin/ld: final link failed: File too large\ncollect2: error: ld returned 1 exit status\n",
    "PLEASE submit a bug report to https://x/ and include the crash backtrace\n" + DUMP,
    "a.cpp:1:5: warning: unused [-Wunused]\nint a;\n    ^\nPLEASE submit a bug report to https://x/\n" + DUMP,
    "LLVM ERROR: out of memory\nAllocation failed\n" + DUMP,
    "clang: error: unable to execute command: Killed\nclang: error: linker command failed due to signal\n",
    "clang: error: clang frontend command failed with exit code 139 (use -v to see invocation)\n",
]  # fmt: skip


@pytest.mark.parametrize("stderr", TROUBLE)
def test_the_machines_failure_is_trouble_and_no_limit(stderr):
    assert toolchain_trouble(stderr) is not None
    assert compile_limit_reason(stderr) is None


@pytest.mark.parametrize("stderr", LIMITS)
def test_a_compiler_stopped_by_its_limits_is_a_limit_and_no_trouble(stderr):
    assert compile_limit_reason(stderr) is not None
    assert toolchain_trouble(stderr) is None


@pytest.mark.parametrize("compiler", COMPILERS)
def test_a_file_that_grows_past_its_limit_is_a_limit(compiler, tmp_path):
    (tmp_path / "candidate.cpp").write_text("int table[300000] = {1};\n")
    for flags in ((), machine_flags(compiler)):
        command = ["sh", "-c", 'ulimit -f 64; ulimit -c 0; exec "$0" "$@"', compiler, *flags, "-c", "candidate.cpp"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace")
        assert done.returncode != 0
        assert compile_limit_reason(done.stderr) is not None


@pytest.mark.parametrize(
    "stderr",
    [
        "",
        "a.cpp:3:1: internal compiler error: in tsubst_copy, at cp/pt.cc:16\n0x1 crash\nPlease submit a full bug report.\n",
        "a.cpp:1:9: fatal error: template instantiation depth exceeds maximum of 900\ncompilation terminated.\n",
        "/usr/bin/ld: /tmp/a.o: in function `f(std::bad_alloc)':\na.cpp:(.text+0x5): undefined reference to `g'\n",
        HALF_A_WARNING + ECHO,
    ],
)
def test_an_ordinary_failure_is_neither(stderr):
    assert compile_limit_reason(stderr) is None
    assert toolchain_trouble(stderr) is None


@pytest.mark.parametrize(
    ("version", "flags"),
    [
        ("g++ (Debian 12.2.0-14+deb12u1) 12.2.0", ("-fdiagnostics-format=json",)),
        ("g++ (GCC) 9.1.0", ("-fdiagnostics-format=json",)),
        ("g++ (Ubuntu 15.2.0-4ubuntu4) 15.2.0", ("-fdiagnostics-format=json",)),
        ("g++ (GCC) 16.1.0", ("-fdiagnostics-format=sarif-stderr",)),
        ("g++ (GCC) 16.0.1 20260101 (experimental)", ("-fdiagnostics-format=sarif-stderr",)),
        ("g++ (SUSE Linux) 8.5.0", ()),
        ("Debian clang version 14.0.6", ()),
        ("Debian clang version 19.1.7 (3~deb12u1)", ()),
        ("", ()),
    ],
)
def test_only_a_form_that_loses_nothing_is_asked_for(version, flags):
    assert diagnostic_flags(version) == flags


def element(message="m", line=3, kind="warning", **more) -> dict:
    caret = {"file": "./candidate.cpp", "line": line, "column": 7}
    return {"kind": kind, "locations": [{"caret": caret}], "message": message, "children": [], **more}


def test_a_json_run_of_several_units_is_read_and_what_follows_is_not():
    first = element(option="-Wunused", children=[element("n", 4, "note")])
    text = (
        f"g++: warning: odd flag\n{json.dumps([first])}\ncompilation terminated.\n{json.dumps([element(line=9)])}\n"
        "/tmp/cc.s: Assembler messages:\n/tmp/cc.s:5: Error: x\ncandidate.cpp:1:1: error: forged\n"
    )
    found = parse_diagnostics(text)
    assert [(d.file, d.line, d.severity, d.message, d.flag) for d in found] == [
        ("candidate.cpp", 3, "warning", "m", "-Wunused"),
        ("candidate.cpp", 4, "note", "n", None),
        ("candidate.cpp", 9, "warning", "m", None),
    ]


@given(st.integers(0, 2000))
def test_a_cut_json_run_gives_every_complete_element(length):
    elements = [element(line=line, message="x] }, {\\" * 5) for line in range(1, 9)]
    whole = json.dumps(elements)
    ends = [len(json.dumps(elements[:count])) - 1 for count in range(1, 9)]
    found = parse_diagnostics(whole[:length])
    assert [d.line for d in found] == list(range(1, 1 + sum(end <= length for end in ends)))


def sarif(results) -> str:
    return json.dumps({"$schema": "https://x", "version": "2.1.0", "runs": [{"results": results}]})


def sarif_place(line, uri="candidate.cpp") -> dict:
    return {"physicalLocation": {"artifactLocation": {"uri": uri}, "region": {"startLine": line, "startColumn": 5}}}


def test_sarif_of_gcc_is_read_with_its_related_places():
    related = {**sarif_place(8), "message": {"text": "required from here"}}
    result = {
        "ruleId": "-Wunused-variable",
        "level": "warning",
        "message": {"text": "unused variable 'a'"},
        "locations": [sarif_place(2)],
        "relatedLocations": [related],
    }
    warning, note = parse_diagnostics(sarif([result]) + "\n")
    assert warning == Diagnostic(
        "candidate.cpp", 2, 5, "warning", "unused variable 'a'", "-Wunused-variable",
        ("candidate.cpp:8:5: required from here",),
    )  # fmt: skip
    assert (note.line, note.severity) == (8, "note")


def test_sarif_of_clang_has_its_caret_last_and_its_file_as_an_address():
    result: dict[str, Any] = {"ruleId": "4909", "level": "error", "message": {"text": "m"}}
    result["locations"] = [sarif_place(1), sarif_place(6, "file:///a%20b/candidate.cpp")]
    text = f"clang++-19: warning: SARIF mode is unstable [-Wx]\n\n{sarif([result])}\n\n1 error generated.\n"
    assert parse_diagnostics(text) == (Diagnostic("/a b/candidate.cpp", 6, 5, "error", "m", None),)


def test_a_cut_sarif_run_gives_every_complete_result():
    results = [{"level": "error", "message": {"text": "m"}, "locations": [sarif_place(n)]} for n in (1, 2, 3)]
    text = sarif(results)
    assert [d.line for d in parse_diagnostics(text[: text.rindex('"level"')])] == [1, 2]


def test_gcc_names_a_chain_once_for_all_diagnostics_of_an_instantiation():
    text = (
        "a.cpp: In instantiation of 'T g(T) [with T = int]':\na.cpp:4:38:   required from 'int f() [with T = int]'\n"
        "    4 | template <class T> int f() { return g(T{}); }\n      |        ~^~~~~\n"
        "a.cpp:8:16:   required from here\na.cpp:3:47: error: one\na.cpp:3:35: warning: two [-Wx]\n"
        "a.cpp: In function 'int h()':\na.cpp:9:1: error: three\n"
    )
    one, two, three = parse_diagnostics(text)
    assert one.chain == (
        "a.cpp: In instantiation of 'T g(T) [with T = int]'",
        "a.cpp:4:38: required from 'int f() [with T = int]'",
        "a.cpp:8:16: required from here",
    )
    assert (two.chain, three.chain) == (one.chain, ())


def test_warnings_count_once_a_line_and_option_and_in_one_file():
    def at(line, flag, file="candidate.cpp", severity="warning", message="m"):
        return Diagnostic(file, line, 1, severity, message, flag)

    found = (at(1, "-Wa"), at(1, "-Wa"), at(1, "-Wb"), at(2, "-Wa"), at(2, None), at(2, None, message="n"))
    others = (at(9, "-Wa", file="vector"), at(9, "-Wa", severity="note"), at(9, None, severity="error"))
    assert count_warnings(found + others, "candidate.cpp") == 5


def test_a_diagnostic_survives_json():
    found = Diagnostic("candidate.cpp", 1, None, "error", "m", None, ("a.cpp:1: required from here",))
    assert Diagnostic(**json.loads(json.dumps(dataclasses.asdict(found)))) == found


def test_people_read_the_classic_form():
    chain = ("candidate.cpp:7:10: required from here",)
    found = (
        Diagnostic("candidate.cpp", 3, 5, "warning", "unused variable 'a'", "-Wunused-variable", chain),
        Diagnostic("candidate.cpp", 4, None, "error", "bad", None),
        Diagnostic("", 0, None, "fatal error", "no input files", None),
    )
    assert render_diagnostics(found) == (
        "candidate.cpp:7:10: required from here\n"
        "candidate.cpp:3:5: warning: unused variable 'a' [-Wunused-variable]\n"
        "candidate.cpp:4: error: bad\n"
        "fatal error: no input files\n"
    )
    assert render_diagnostics(()) == ""


@pytest.mark.parametrize(
    ("message", "name"),
    [
        ("expected ';' before '}' token", "syntax"),
        ("'x' was not declared in this scope", "undeclared"),
        ("unknown type name 'foo'", "undeclared"),
        ("cannot convert 'a' to 'b'", "type"),
        ("redefinition of 'int f()'", "redefinition"),
        ("nofile.h: No such file or directory", "include"),
        ("static assertion failed", "other"),
    ],
)
def test_the_first_error_has_a_class(message, name):
    assert error_class((Diagnostic("a.cpp", 1, 1, "fatal error", message, None),)) == name


def test_link_failures_are_told_apart():
    no_main = "/usr/bin/ld: Scrt1.o: in function `_start':\n(.text+0x17): undefined reference to `main'\n"
    assert is_link_failure(no_main)
    assert lacks_only_main(no_main)
    assert not lacks_only_main(no_main + "undefined reference to `f'\n")
    assert not is_link_failure("a.cpp:1:1: error: x\n")


WORDS = [
    "candidate.cpp", ":", "1", "99999999999999999999", " ", "error: ", "warning: ", "note: ", "x", "[-Wx]", "\n", "\r\n",
    "[{", "[]", '{"', '"results": [', '"message"', "}", "]", '"', "\\", "\\ud800", "\u2028", "null", "1e999", "NaN", ",",
    "g++: fatal error: ", "Killed signal terminated program cc1plus", "    1 | x", "  ^~", "1 error generated.",
    "a.cpp: In instantiation of 'x':", "a.cpp:1:1:   required from here", "Assembler messages:", "\0", "\udc80", "٣",
]  # fmt: skip
OUTPUTS = st.one_of(
    st.lists(st.sampled_from(WORDS), max_size=40).map("".join),
    st.binary(max_size=60).map(lambda data: data.decode(errors="replace")),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(["message", "locations", "caret", "line", "children", "results", "text"]), inner
            )
        ),
        max_leaves=20,
    ).map(lambda value: json.dumps([{"message": "m"}, value])),
)


@given(OUTPUTS)
@example("[" * 200_000)
@example('{"runs": ' * 100_000)
@example('[{"children": ' * 50_000)
@example("[" + '{"message": "m", "children": [' * 3_000 + "]}" * 3_000 + "]")
@example("[{}, " + "9" * 5_000 + "]")
@example("a.cpp:1:1: error: " + " [-W" * 50_000)
@example('[{"message": "\\ud800"}]')
def test_no_output_makes_the_readers_raise(stderr):
    found = parse_diagnostics(stderr)
    assert toolchain_trouble(stderr) is None or compile_limit_reason(stderr) is None
    render_diagnostics(add_chains(found, stderr)).encode(errors="strict" if stderr.startswith("[{") else "replace")
    count_warnings(found, "candidate.cpp")
    error_class(found)
