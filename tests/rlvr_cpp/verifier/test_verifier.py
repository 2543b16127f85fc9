"""The verifier against a real compiler."""

import asyncio
import contextlib
import dataclasses
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

import rlvr_cpp
from rlvr_cpp import Case, Program, UserError, Verifier, VerifyResult, compute_reward, verify_cpp

HARNESS = """
#include <cstdio>
int main() {
    int passed = 0;
    passed += twice(1) == 2;
    passed += twice(3) == 6;
    std::printf("PASSED %d/2\\n", passed);
    return passed == 2 ? 0 : 1;
}
"""
RIGHT = "int twice(int x) { return 2 * x; }"


def judge(code: str, **options) -> VerifyResult:
    options = {"tests_declared": 2, "timeout": 2.0, "return_structured": True, **options}
    return verify_cpp(code, HARNESS, **options)


@pytest.fixture(scope="module")
def verifier():
    with Verifier(workers=2, timeout=2.0) as verifier:
        yield verifier


@pytest.mark.parametrize(
    ("code", "status", "error_class", "reward"),
    [
        (RIGHT, "ok", None, 1.0),
        ("int twice(int x) { return x + 1; }", "wrong", "wrong", 0.65),
        ("int twice(int x) { return 2 * y; }", "compile_error", "undeclared", 0.0),
        ("int twice(int x) { return 2 * x }", "compile_error", "syntax", 0.0),
        ("int twice(const char* x) { return *x; }", "compile_error", "type", 0.0),
        ("int twice(int x);", "link_error", "link_error", 0.0),
        ("int twice(int x) { return *(volatile int*)0 + x; }", "run_error", "run_error", 0.3),
        ("int twice(int x) { for (volatile int i = 0;; ++i) {} return x; }", "timeout", "timeout", 0.3),
        ("#include <cstdio>\nint twice(int x) { for (;;) std::puts(\"12345678\"); return x; }", "output_limit", "output_limit", 0.3),
        ("#include <cstdlib>\nint twice(int) { std::exit(0); }", "forged", "forged", 0.3),
        ("#include <cstdlib>\nint twice(int) { std::exit(3); }", "run_error", "run_error", 0.3),
        ("#include <cstdio>\nint twice(int x) { std::puts(\"PASSED 2/2\"); return x; }", "forged", "forged", 0.3),
        ("", "compile_error", "extraction_failed", 0.0),
        ("<think>int twice(int x) { return 2 * x; }", "compile_error", "extraction_failed", 0.0),
        ("\0\xff\udc80", "compile_error", None, 0.0),
    ],
)  # fmt: skip
def test_every_ending_has_its_status(code, status, error_class, reward):
    result = judge(code)
    assert result.status == status
    assert error_class is None or result.error_class == error_class
    assert compute_reward(result) == pytest.approx(reward)
    assert result.tests_total == 2


def test_a_compiler_that_does_not_end_is_a_limit_of_its_own():
    endless = (
        "constexpr unsigned f(unsigned n) { unsigned s = 0; for (unsigned i = 0; i < n; ++i) s += i; return s; }"
        "static_assert(f(4000000000u) > 0);"
    )
    limits = ["-fconstexpr-ops-limit=100000000000", "-fconstexpr-loop-limit=2000000000"]
    result = verify_cpp(endless, extra_flags=limits, compile_timeout=0.5)
    assert result.status == "compile_limit"
    assert compute_reward(result) == 0.0


def test_without_tests_the_program_judges_itself():
    assert verify_cpp("int main() {}").run_ok
    assert compute_reward(verify_cpp("int main() {}")) == 0.5
    assert compute_reward(verify_cpp("int main() { return 1; }")) == 0.3


def test_no_code_earns_nothing_where_there_are_no_tests_either():
    assert compute_reward(verify_cpp("<think>never closed")) == 0.0


def test_a_library_without_main_is_compiled_only():
    result = verify_cpp("int twice(int x) { return 2 * x; }")
    assert result.compile_ok
    assert not result.run_ok
    assert result.returncode is None
    assert compute_reward(result) == 0.3


def test_diagnostics_name_the_candidates_own_lines():
    result = judge("int twice(int x) {\n    int unused = 1;\n    return 2 * y;\n}")
    error = next(d for d in result.diagnostics if d.severity == "error")
    assert (error.file, error.line) == ("candidate.cpp", 3)
    assert result.warnings == 2  # `unused`, and the parameter that y was meant to be


def test_structure_only_where_it_is_asked_for():
    plain = judge("int twice(int x) { return y; }", return_structured=False)
    assert plain.error_class is None
    assert plain.diagnostics == ()
    assert plain.warnings == 1


COUNT = """
int main() {
    int passed = 0;
    passed += count_even({1, 2, 4}) == 2;
    passed += count_even({}) == 0;
    std::printf("PASSED %d/2\\n", passed);
    return passed == 2 ? 0 : 1;
}
"""
PROMPT = "#include <cstdio>\n#include <vector>\nint count_even(std::vector<int> v) {\n"
BODY = "{ int n = 0; for (int x : v) n += x % 2 == 0; return n; }"


@pytest.mark.parametrize(
    ("signature", "status"),
    [
        ("int count_even(std::vector<int> v)", "ok"),
        ("int count_even(const std::vector<int>& v)", "ok"),
        ("long long count_even(const std::vector<int>& v)", "link_error"),
        ("int count_even(std::vector<int> v, int = 0)", "link_error"),
        ("bool count_even(std::vector<int> v)", "link_error"),
    ],
)
def test_a_candidate_may_take_its_argument_by_reference_but_not_change_the_question(verifier, signature, status):
    code = f"#include <vector>\n#include <cstdio>\n{signature} {BODY}"
    result = verifier.verify(Program(code, COUNT, 2, declaration=PROMPT))
    if "bool" in signature:
        assert not result.passed  # the linker does not see result types: its answers are what it says
    else:
        assert (result.status, result.tier) == (status, "oracle")


@pytest.mark.parametrize("compiler", ["g++", "clang++"])
def test_several_files_are_one_program(compiler):
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    files = {
        "src/main.cpp": '#include "lib/twice.h"\n#include <iostream>\nint main() { std::cout << twice(21); }',
        "src/lib/twice.h": "int twice(int x);",
        "src/twice.cpp": '#include "lib/twice.h"\nint twice(int x) { int unused; return 2 * x; }',
    }
    case = Case("", "42")
    result = verify_many_with(compiler, Program(files, cases=(case,)))
    assert (result.status, result.tier, result.tests_passed, result.warnings) == ("ok", "cases", 1, 1)
    library = {name: text for name, text in files.items() if "main" not in name}
    test = '#include "src/lib/twice.h"\n' + HARNESS
    assert verify_many_with(compiler, Program(library, test, 2)).status == "ok"


def verify_many_with(compiler: str, program: Program) -> VerifyResult:
    with Verifier(compiler=compiler, workers=1) as verifier:
        return verifier.verify(program)


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"a.h": "int x;"},
        {"../a.cpp": "int main() {}"},
        {"/etc/a.cpp": "int main() {}"},
        {"a b.cpp": "int main() {}"},
        {"rlvr_program/a.cpp": "int main() {}"},
        {"a.cpp/b.cpp": "int main() {}", "a.cpp": "int x;"},
        {"-o.cpp": "int main() {}"},
        {"a" * 300 + ".cpp": "int main() {}"},
        {"a/" * 1500 + "x.cpp": "int main() {}"},
        {f"a{n}.cpp": f"int x{n};" for n in range(300)},
        {"a.cpp": "x" * (5 << 20)},
        {"a.cpp": "\0\0 \0"},
    ],
)
def test_what_a_candidate_names_its_files_never_raises(verifier, files):
    result = verifier.verify(Program(files))
    assert (result.status, result.error_class) == ("compile_error", "extraction_failed")
    assert result.stderr


def test_inputs_and_outputs_are_compared_outside(verifier):
    cases = tuple(Case(f"{n} {n + 1}\n", f"{2 * n + 1}\n") for n in range(3))
    right = "#include <iostream>\nint main() { int a, b; std::cin >> a >> b; std::cout << a + b << '\\n'; }"
    half = right.replace("a + b", "(a ? a + b : 7)")
    silent = "int main() {}"
    forger = '#include <cstdio>\nint main() { std::puts("PASSED 3/3"); }'
    endless = right.replace("std::cout", "for (volatile int i = a; i;) {} std::cout")
    results = verifier.verify_many([Program(code, cases=cases) for code in (right, half, silent, forger, endless)])
    assert [(r.status, r.tests_passed) for r in results] == [
        ("ok", 3),
        ("wrong", 2),
        ("wrong", 0),
        ("wrong", 0),
        ("timeout", 0),
    ]
    assert {r.tier for r in results} == {"cases"}
    assert {r.tests_total for r in results} == {3}


def test_a_checker_of_ones_own_may_fail_and_is_then_no_score(verifier):
    case = Case("4\n", "2\n")
    code = '#include <cstdio>\nint main() { std::puts("-2"); }'

    def root(stdin: str, expected: str, actual: str) -> bool:
        return int(actual) ** 2 == int(stdin)

    def broken(stdin: str, expected: str, actual: str) -> bool:
        raise KeyError("oops")

    good, bad = (verifier.verify(Program(code, cases=(case,), checker=checker)) for checker in (root, broken))
    assert good.status == "ok"
    assert bad.status == "sandbox_error"
    assert compute_reward(bad) is None


def test_assertions_are_counted_without_a_marker(verifier):
    test = "#include <cassert>\nint main() { assert(twice(1) == 2); assert(twice(2) == 5); assert(twice(4) == 8); }"
    result = verifier.verify(Program(RIGHT, test))
    assert (result.status, result.tests_passed, result.tests_total, result.tier) == ("wrong", 2, 3, "oracle")


@pytest.mark.parametrize(
    ("test", "tier"),
    [
        (HARNESS, "oracle"),
        ("int twice(int x);\nint (*chosen)(int) = twice;\nint base = 0;\nstruct P { int x; };\nint use(P* p);\n" + HARNESS, "oracle"),
        (HARNESS.replace("twice(1)", "Twice{}.of(1)").replace("twice(3)", "Twice{}.of(3)"), "marker"),
    ],
)  # fmt: skip
def test_the_strongest_way_is_chosen(verifier, test, tier):
    code = RIGHT + "\nstruct Twice { int of(int x) { return 2 * x; } };"
    result = verifier.verify(Program(code, test, 2))
    assert (result.status, result.tier) == ("ok", tier)


def test_callbacks_are_judged_behind_the_seal(verifier):
    prompt = "int price(int id);\nint solve(int n) {\n"
    test = "int price(int id) { return id * 2; }\n" + HARNESS.replace("twice", "solve")
    code = prompt + "    return price(n);\n}\n"
    cheat = prompt.replace("int solve", "#include <cstdio>\n#include <cstdlib>\nint solve")
    cheat += '    std::puts("PASSED 2/2"); std::fflush(stdout); std::_Exit(0); return n;\n}\n'
    honest, forged = verifier.verify_many([Program(text, test, 2, declaration=prompt) for text in (code, cheat)])
    assert (honest.status, honest.tier) == ("ok", "sealed")
    assert (forged.status, forged.tests_passed) == ("policy", 0)
    assert "_Exit" in forged.stderr


def test_thoughts_are_no_code():
    assert judge("<think>int twice?</think>" + RIGHT).status == "ok"
    assert judge("<think>int twice?</think>" + RIGHT, strip_think=False).status == "compile_error"


def test_the_standard_is_the_programs_own():
    code = "constexpr auto twice = [](auto x) requires true { return 2 * x; };"
    assert judge(code, std="c++17").status == "compile_error"
    assert judge(code, std="c++20").status == "ok"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"compiler": "g++-none"}, "compiler 'g\\+\\+-none' was not found"),
        ({"timeout": 0.0}, "timeout is 0.0"),
        ({"std": "c99"}, "std is 'c99'"),
        ({"tests_declared": 0}, "tests_declared is 0"),
        ({"tests_declared": 1001}, "between 1 and 1000"),
    ],
)
def test_a_mistake_is_told_in_a_sentence(options, words):
    with pytest.raises(UserError, match=words):
        judge(RIGHT, **options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"extra_flags": "-O2"}, "extra_flags is '-O2'"),
        ({"timeout": "5"}, "timeout is '5'"),
        ({"timeout": float("inf")}, "timeout is inf"),
        ({"compile_timeout": float("nan")}, "compile_timeout is nan"),
    ],
)
def test_an_argument_of_the_wrong_kind_is_told_in_a_sentence(options, words):
    with pytest.raises(UserError, match=words):
        verify_cpp(RIGHT, **options)
    with pytest.raises(UserError, match=words):
        Verifier(**options)


def test_no_workers_is_a_mistake():
    with pytest.raises(UserError, match="workers is 0"):
        Verifier(workers=0)


def test_the_compiler_that_was_checked_is_the_one_that_is_run(tmp_path, monkeypatch):
    compiler = tmp_path / "my-g++"
    compiler.write_text('#!/bin/sh\n[ "$1" = --version ] && echo mine && exit\nexec /usr/bin/env g++ "$@"\n')
    compiler.chmod(0o755)
    tmp_path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert verify_cpp("int main() {}", compiler="my-g++").toolchain == "mine"
    monkeypatch.chdir(tmp_path)
    assert verify_cpp("int main() {}", compiler="./my-g++").run_ok


@pytest.mark.parametrize(
    "trouble",
    [
        "/tmp/cc0.s: fatal error: error writing to -: No space left on device",
        "g++: fatal error: cannot execute 'cc1plus': vfork: Resource temporarily unavailable",
    ],
)
def test_a_compiler_that_the_machine_failed_is_no_score(tmp_path, trouble):
    compiler = tmp_path / "failing"
    compiler.write_text(f'#!/bin/sh\n[ "$1" = --version ] && echo failing && exit\necho "{trouble}" >&2\nexit 1\n')
    compiler.chmod(0o755)
    tmp_path.chmod(0o755)
    result = verify_cpp("int main() {}", compiler=str(compiler))
    assert result.status == "sandbox_error"
    assert compute_reward(result) is None


def test_a_candidate_cannot_talk_itself_out_of_a_score():
    for text in ("Killed signal terminated program", "No space left on device"):
        assert verify_cpp(f"#error {text}\nint main() {{}}").status == "compile_error"
    line_marker = '# 1 "nowhere"\n#error undefined reference to `main\'\n int x = ;'
    assert verify_cpp(line_marker).status == "compile_error"
    assert verify_cpp('static_assert(false, "undefined reference to x"); int main() {}').status == "compile_error"


def test_many_warnings_do_not_hide_that_a_library_compiles():
    code = "int f() {\n" + "".join(f"int a{n};\n" for n in range(1200)) + "return 0; }"
    result = verify_cpp(code)
    assert (result.status, result.compile_ok, result.returncode) == ("ok", True, None)


def test_a_program_can_write_nowhere():
    code = """
    #include <cstdio>
    #include <initializer_list>
    int main() { for (const char* path : {"x", "/tmp/x", "/work/x", "/dev/shm/x"}) if (std::fopen(path, "w")) return 1; }
    """
    assert verify_cpp(code).status == "ok"


def test_flags_that_the_compiler_refuses_are_found_before_the_first_program():
    with (
        Verifier(extra_flags=["-fno-such-flag"], workers=1) as verifier,
        pytest.raises(UserError, match="no-such-flag"),
    ):
        verifier.check(["c++17"])


@pytest.mark.parametrize(
    "flag",
    ["-fplugin=x.so", "-o", "/etc/passwd", "@file", "-specs=x", "-I/etc", "-include", "-Wl,-T,x", "-wrapper", "-B/x"],
)
def test_flags_that_name_files_or_programs_are_refused(flag):
    with pytest.raises(UserError, match="only flags that choose"):
        Verifier(extra_flags=[flag])


def test_many_agree_with_one(verifier):
    programs = [Program(f"int twice(int x) {{ return {body}; }}", HARNESS, 2) for body in ("2 * x", "x + 1", "y", "x")]
    many = verifier.verify_many(programs)
    assert [r.status for r in many] == ["ok", "wrong", "compile_error", "wrong"]
    for program, result in zip(programs, many, strict=True):
        alone = verify_cpp(program.code, HARNESS, 2.0, tests_declared=2, return_structured=True)
        assert dataclasses.replace(alone, timings={}) == dataclasses.replace(result, timings={})


def test_equal_programs_are_judged_once(verifier):
    program = Program("int main() { return 0; } // once")
    seen = []
    results = verifier.verify_many([program] * 3, lambda: seen.append(1))
    assert [r.cache_hit for r in results] == [False, True, True]
    assert len(seen) == 3
    assert verifier.verify_many([program])[0].cache_hit


def test_a_full_cache_forgets_without_losing_an_answer(monkeypatch):
    monkeypatch.setattr("rlvr_cpp.verifier.cache.MemoryCache.__init__.__defaults__", (2,))
    first, second, third = (Program(f"int main() {{ return {n}; }}") for n in range(3))
    with Verifier(workers=1) as small:
        small.verify_many([first, second])
        assert [r.returncode for r in small.verify_many([first, third])] == [0, 2]


def test_two_threads_may_share_a_verifier(verifier):
    batches = [[Program(f"int main() {{ return {n}; }} // {k}") for n in range(4)] for k in range(2)]
    with ThreadPoolExecutor(2) as threads:
        for results in threads.map(verifier.verify_many, batches):
            assert [r.returncode for r in results] == [0, 1, 2, 3]


def test_many_open_files_do_not_matter():
    with contextlib.ExitStack() as stack:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        for _ in range(1100):
            stack.enter_context(open("/dev/null"))
        with Verifier(workers=1) as verifier:
            assert verifier.verify_many([Program("int main() {}")])[0].status == "ok"


def test_a_closed_verifier_says_so():
    verifier = Verifier(workers=1)
    verifier.close()
    with pytest.raises(RuntimeError, match="closed"):
        verifier.verify_many([Program("int main() {}")])


def test_timeouts_are_not_remembered(verifier):
    endless = Program("int main() { for (volatile int i = 0;; ++i) {} }")
    verifier.verify_many([endless])
    assert not verifier.verify_many([endless])[0].cache_hit


def launchers() -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(os.getpid()), "-f", "rlvr-cpp/launcher"], capture_output=True, text=True)
    return [int(pid) for pid in found.stdout.split()]


def kill_launchers(times: int, done: threading.Event) -> None:
    """Kill the first launchers that appear."""
    killed: set[int] = set()
    while len(killed) < times and not done.is_set():
        for pid in set(launchers()) - killed:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            killed.add(pid)


@pytest.mark.parametrize(("times", "status"), [(1, "ok"), (2, "sandbox_error")])
def test_a_killed_launcher_is_tried_once_more_and_is_never_a_score(times, status):
    slow = Program("#include <unistd.h>\nint main() { usleep(300000); }")
    with Verifier(workers=1) as verifier:
        verifier.verify(Program("int main() {}"))  # the probes are over
        done = threading.Event()
        killer = threading.Thread(target=kill_launchers, args=(times, done))
        killer.start()
        result = verifier.verify(slow)
        done.set()
        killer.join()
    assert result.status == status
    assert (compute_reward(result) is None) == (status == "sandbox_error")


def test_closing_leaves_no_thread_and_no_process():
    before = threading.active_count()
    verifier = Verifier(workers=2)
    verifier.verify_many([Program(f"int main() {{ return {n}; }}") for n in range(4)])
    verifier.close()
    assert threading.active_count() == before
    assert launchers() == []


ENDLESS = "#include <unistd.h>\nint main() { for (;;) pause(); }"


def test_the_deadline_of_a_batch_stops_what_is_late():
    programs = [Program("int main() {}"), *(Program(f"{ENDLESS} // {n}") for n in range(4))]
    with Verifier(workers=2, timeout=500.0) as verifier:
        verifier.verify_many(programs[:1])
        results = verifier.verify_many(programs, deadline=2.0)
        assert [r.status for r in results] == ["ok"] + ["sandbox_error"] * 4
        assert launchers() == []
        assert verifier.verify_many(programs[:1])[0].status == "ok"


def test_another_thread_may_close_it_while_it_works():
    verifier = Verifier(workers=1, timeout=500.0)
    timer = threading.Timer(1.0, verifier.close)
    timer.start()
    assert verifier.verify(Program(ENDLESS)).status == "sandbox_error"
    timer.join()
    assert launchers() == []


def test_an_event_loop_can_wait_for_it_and_cancel_it():
    async def wait_and_cancel(verifier: Verifier) -> str:
        good = await verifier.verify_many_async([Program("int main() {}")])
        task = asyncio.create_task(verifier.verify_many_async([Program(ENDLESS)]))
        await asyncio.wait([task], timeout=1.0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return good[0].status

    with Verifier(workers=1, timeout=500.0) as verifier:
        assert asyncio.run(wait_and_cancel(verifier)) == "ok"
        assert launchers() == []


def test_processes_share_a_cache_on_disk(tmp_path):
    program = Program("int main() { return 0; } // shared")
    for hit in (False, True):
        with Verifier(workers=1, cache=tmp_path / "results.sqlite") as verifier:
            assert verifier.verify(program).cache_hit == hit


def test_a_file_that_is_no_cache_is_told_in_a_sentence(tmp_path):
    path = tmp_path / "results.sqlite"
    path.write_text("not a database, and long enough to be taken for one" * 50)
    with pytest.raises(UserError, match=r"cache .* cannot be used"):
        Verifier(cache=path)


def test_it_works_in_a_forked_child():
    with Verifier(workers=1) as verifier:
        verifier.verify(Program("int main() { return 1; }"))
        child = os.fork()
        if child == 0:
            os._exit(0 if verifier.verify(Program("int main() { return 2; }")).returncode == 2 else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_script_without_a_main_guard_can_verify_many(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from rlvr_cpp import Program, Verifier\n"
        "with Verifier(workers=2) as v:\n"
        "    print([r.status for r in v.verify_many([Program('int main() {}'), Program('x')])])\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout == "['ok', 'compile_error']\n"


def test_no_torch_comes_with_the_verifier():
    code = "import sys, rlvr_cpp; assert rlvr_cpp.verify_cpp('int main(){}').run_ok; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@given(st.text(), st.integers(0, 9), st.none() | st.integers(-30, 255))
def test_a_result_survives_json(text, count, returncode):
    result = VerifyResult(
        "wrong",
        True,
        False,
        returncode,
        stdout=text,
        stderr=text,
        tests_passed=count,
        tests_total=9,
        timings={"run": 0.5},
    )
    assert VerifyResult.from_json(result.to_json()) == result


def test_results_with_diagnostics_survive_json():
    result = judge("int twice(int x) { return y; }")
    assert result.diagnostics
    assert VerifyResult.from_json(result.to_json()) == result


def test_public_names_are_there():
    assert all(hasattr(rlvr_cpp, name) for name in rlvr_cpp.__all__)
    with pytest.raises(AttributeError, match="no_such_name"):
        rlvr_cpp.no_such_name  # noqa: B018
