"""A candidate that is loaded as a library ends as one that is linked whole; where it could differ, it is linked whole."""

import pytest

from rlvr_cpp import Program, Verifier
from rlvr_cpp.verifier.tiers import two_processes
from rlvr_cpp.verifier.tiers.loadable import build_loadable, exports
from rlvr_cpp.verifier.toolchain.bench import open_bench
from rlvr_cpp.verifier.toolchain.workshop import LIBRARY

DECLARATION = "int solve(int n) {\n"
TEST = """#include <cstdio>
int main() {
    int passed = (solve(2) == 4) + (solve(3) == 9);
    std::printf("PASSED %d/2\\n", passed);
    return passed != 2;
}
"""
PLAIN = "int solve(int n) { return n * n; }"
LOADED = {
    "plain": PLAIN,
    "library": "#include <vector>\n#include <algorithm>\n"
    "int solve(int n) { std::vector<int> v(n, n); int s = 0; for (int x : v) s += x; return std::max(s, 0); }",
    "prints": '#include <iostream>\nint solve(int n) { std::cout << "hello" << std::endl; return n * n; }',
    "throws": '#include <stdexcept>\nint solve(int n) { try { throw std::runtime_error("x"); } catch (...) {} return n * n; }',
    "constructor": "struct Table { int two; Table() : two(2) {} } table;\nint solve(int n) { return table.two == 2 ? n * n : 0; }",
    "allocates": "#include <cstdlib>\nint solve(int n) { int* p = (int*)std::malloc(4); *p = n * n; int r = *p; std::free(p); return r; }",
    "wrong": "int solve(int n) { return n + n; }",
    "crashes": "int solve(int n) { int* p = nullptr; return *p + n; }",
    "exits": "#include <cstdlib>\nint solve(int n) { std::exit(0); }",
    "compiler's own library": "int solve(int n) { __int128 x = n + 7; return n ? (int)(x * n / x * n) : 0; }",
    "no compile": "int solve(int n) { return m; }",
}
WHOLE = {
    "undefined": "int helper(int);\nint solve(int n) { return helper(n); }",
    "its own main": PLAIN + "\nint main() { return 0; }",
    "hidden": "__attribute__((visibility(\"hidden\"))) " + PLAIN,
    "static": "static " + PLAIN,
    "another signature": "int solve(long n) { return n * n; }",
    "several versions": "#include <cmath>\nint solve(int n) { return (int)std::lround(std::pow(n, 2)); }",
}  # fmt: skip


@pytest.fixture(scope="module")
def verifier():
    with Verifier(workers=2) as opened:
        yield opened


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    monkeypatch.setattr("rlvr_cpp.verifier.tiers.loadable.PAYS_AFTER", 0)


def program(code):
    return Program(code, TEST, declaration=DECLARATION)


def loadable(verifier, code):
    with open_bench(program(code), verifier.workshop) as bench:
        return build_loadable(bench, two_processes.split_of(bench.program))


@pytest.mark.parametrize("name", LOADED)
def test_a_loaded_candidate_ends_as_a_whole_link(verifier, monkeypatch, name):
    found = loadable(verifier, LOADED[name])
    assert found is not None
    [loaded] = verifier.verify_many([program(LOADED[name])])
    monkeypatch.setattr(two_processes, "build_loadable", lambda *_: None)
    monkeypatch.setattr(two_processes, "build_loadable_oracle", lambda *_: None)
    [whole] = Verifier(workers=1).verify_many([program(LOADED[name])])
    ending = (
        "status",
        "compile_ok",
        "run_ok",
        "returncode",
        "stdout",
        "tests_passed",
        "tests_total",
        "error_class",
        "tier",
    )
    assert [getattr(loaded, field) for field in ending] == [getattr(whole, field) for field in ending]


@pytest.mark.parametrize("name", WHOLE)
def test_what_could_differ_is_linked_whole(verifier, name):
    assert loadable(verifier, WHOLE[name]) is None


def test_a_whole_link_says_what_does_not_link(verifier):
    result = verifier.verify(program(WHOLE["undefined"]))
    assert (result.status, result.compile_ok) == ("link_error", False)


@pytest.mark.parametrize("name", ["its own main", "static", "another signature"])
def test_what_no_linker_tells_apart_is_compiled_with_what_calls_it(verifier, name):
    result = verifier.verify(program(WHOLE[name]))
    assert (result.status, result.tests_passed, result.tier) == ("ok", 2, "oracle"), result.stderr


def test_names_in_several_versions_are_known(verifier):
    offered = exports(verifier.workshop.libraries)
    assert "_ZSt4cout" in offered.single
    assert "printf" in offered.names
    assert offered.single.isdisjoint(offered.ambiguous)


def test_the_first_answer_finds_what_was_prepared(monkeypatch):
    task = Program(DECLARATION, TEST.replace("== 9", "== 9 + 0"), declaration=DECLARATION)
    compiled = []
    with Verifier(workers=1) as verifier:
        verifier.prepare([task])
        verifier._threads().submit(lambda: None).result()  # the one thread has done what came before
        real = type(verifier.workshop).compile

        def counted(self, folder, arguments, **options):
            compiled.append(arguments)
            return real(self, folder, arguments, **options)

        monkeypatch.setattr(type(verifier.workshop), "compile", counted)
        [result] = verifier.verify_many([Program(PLAIN, task.test, declaration=DECLARATION)])
    assert result.passed
    assert [LIBRARY in arguments for arguments in compiled] == [True]


def test_a_signature_that_comes_up_once_is_linked_whole(monkeypatch):
    monkeypatch.setattr("rlvr_cpp.verifier.tiers.loadable.PAYS_AFTER", 2)
    rare = TEST.replace("solve", "seldom")
    answers = [Program(f"int seldom(short n) {{ return n * n + {i} - {i}; }}", rare) for i in range(4)]
    found = []
    monkeypatch.setattr(two_processes, "build_loadable", lambda *a: found.append(build_loadable(*a)) or found[-1])
    with Verifier(workers=1) as verifier:
        before = verifier.workshop._uses.copy()
        assert all(result.passed for result in verifier.verify_many(answers))
        verifier.workshop._uses = before
    assert [one is not None for one in found] == [False, False, True, True]


@pytest.mark.parametrize("loaded", [True, False])
def test_a_library_that_a_flag_names_is_there_when_the_program_runs(monkeypatch, loaded):
    if not loaded:
        monkeypatch.setattr(two_processes, "build_loadable", lambda *_: None)
        monkeypatch.setattr(two_processes, "build_loadable_oracle", lambda *_: None)
    code = 'extern "C" unsigned long crc32(unsigned long, const char*, unsigned);\n'
    code += 'int solve(int n) { return crc32(0, "a", 1) == 0xe8b7be43 ? n * n : 0; }'
    with Verifier(workers=1, extra_flags=["-lz"]) as verifier:
        [result] = verifier.verify_many([program(code)])
        if result.status == "link_error":
            pytest.skip("zlib is not installed to link against")
        assert result.passed
