"""Headers whose templates were instantiated when they were made: proven, unnoticed by programs, and done without."""

import logging
import shutil
from pathlib import Path

import pytest

from rlvr_cpp.verifier.toolchain import flush
from rlvr_cpp.verifier.toolchain.precompiled import PrecompiledHeaders
from rlvr_cpp.verifier.toolchain.store import Store
from rlvr_cpp.verifier.toolchain.toolchain import make_toolchain
from rlvr_cpp.verifier.toolchain.workshop import Workshop
from rlvr_sandbox import host_controls

INCLUDES = "#include <algorithm>\n#include <iostream>\n#include <map>\n#include <sstream>\n#include <vector>\n"
PROGRAMS = {
    "right": "int total(const std::vector<int>& v) { int sum = 0; for (int x : v) sum += x; return sum; }\n",
    "warned": "int f(int x) { std::map<int, int> m; unsigned n = 3; return m[x] < n ? 1 : 0; }\n",
    "undeclared": "int f() { std::vector<int> v; return v.sum(); }\n",
    "deep": "struct S {}; void f(std::vector<S> v) { std::sort(v.begin(), v.end()); }\n",
    "forgotten": "std::deque<int> d;\n",
    "specialised": "struct K { int a; }; template <> struct std::less<K> { bool operator()(const K& x, const K& y) const "
    "{ return x.a < y.a; } };\nint f() { std::map<K, std::string> m; m[K{1}] = std::string(3, 'a'); return 0; }\n",
    "own template": "template <class T> T twice(T x) { std::ostringstream out; out << x + x; return x; }\n"
    "template int twice(int);\n",
    "static": "struct Loud { Loud() { std::cout << 1; } } loud; std::string text = std::to_string(3);\n",
}


def open_workshop(folder, *flags):
    workshop = Workshop(make_toolchain("g++", flags, 5.0, 30.0), host_controls())
    folder.mkdir(exist_ok=True)
    workshop.store = Store(folder / "store", 2 << 30)
    workshop.headers = PrecompiledHeaders(workshop.store, workshop.toolchain, pays_after=1)
    for parent in (folder, *folder.parents[:3]):
        parent.chmod(0o755)
    return workshop


@pytest.fixture
def workshop(tmp_path):
    return open_workshop(tmp_path)


@pytest.fixture
def unproven(tmp_path, monkeypatch):
    """A workshop whose compiler calls the plugin at another moment than it should."""
    wrong = flush.SOURCE.replace("PLUGIN_PRAGMAS = 15", "PLUGIN_PRAGMAS = 3")
    monkeypatch.setitem(flush.PROBE, "flush.cpp", wrong)
    return open_workshop(tmp_path)


def compiled(workshop, header, code, flags):
    """What the compiler says of a program on a header, and the symbols of its object with their sizes."""
    nm = workshop.tool("nm")
    with workshop.scratch({"a.cpp": INCLUDES + code}) as folder:
        built = workshop.compile(folder, [*flags, "a.cpp", "-c", "-o", "a.o"], header=header)
        listed = workshop.run_tool(folder, [nm, *flush.NM, "a.o"], 10.0).stdout.decode()
    return built.returncode, built.stderr.decode(), flush.symbols(listed)


@pytest.mark.parametrize(
    ("std", "optimization", "extra"), [("c++17", "-O0", ()), ("c++20", "-O2", ("-fsanitize=undefined",))]
)
def test_a_program_does_not_notice(tmp_path, std, optimization, extra):
    outcomes, sizes = [], []
    for kind in ("flushed", "plain"):
        workshop = open_workshop(tmp_path / kind, *extra)
        if kind == "flushed":
            workshop._flush_plugin = Workshop(
                workshop.toolchain, workshop.controls
            )._flush_plugin  # of everybody's store
        else:
            workshop._flush_plugin = lambda: None
        flags = workshop.flags(std, optimization)
        header = workshop.precompiled(INCLUDES, flags)
        sizes.append(Path(f"{header[-1]}.gch").stat().st_size)
        outcomes.append([compiled(workshop, header, code, flags) for code in PROGRAMS.values()])
    for name, flushed, plain in zip(PROGRAMS, *outcomes, strict=True):
        assert flushed == plain, name
    assert sizes[0] > sizes[1] * 1.01  # the instantiated templates are in it


def test_the_plugin_is_proven_once_for_all_processes(workshop, tmp_path, monkeypatch):
    plugin = workshop._flush_plugin()
    assert plugin is not None
    monkeypatch.setattr(Workshop, "compile", None)
    assert open_workshop(tmp_path)._flush_plugin() == plugin


def test_where_the_plugin_does_nothing_headers_are_made_without_it(unproven, caplog):
    flags = unproven.flags("c++17")
    with caplog.at_level(logging.WARNING):
        headers = [unproven.precompiled(INCLUDES, unproven.flags(std)) for std in ("c++17", "c++20")]
    assert all(headers)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "plugin" in caplog.text
    assert compiled(unproven, headers[0], PROGRAMS["right"], flags)[0] == 0


def test_a_compiler_that_loads_no_plugins_is_found_out():
    refuses = type(
        "Finished", (), {"returncode": 1, "stderr": b"error: plugin support is disabled\n", "ended": "exit"}
    )()
    assert "disabled" in flush.complaint(lambda arguments: refuses, lambda name: refuses)


def test_other_symbols_are_a_reason_to_do_without():
    fine = type("Finished", (), {"returncode": 0})()
    objects = {"plain.o": b"main T 0 10\n", "flushed.o": b"main T 0 20\n"}
    listed = {name: type("Finished", (), {"stdout": text})() for name, text in objects.items()}
    assert "symbols" in flush.complaint(lambda arguments: fine, listed.__getitem__)


@pytest.mark.skipif(not shutil.which("clang++"), reason="clang++ is not installed")
def test_clang_has_an_option_of_its_own(tmp_path):
    assert Workshop(make_toolchain("clang++", (), 5.0, 30.0), host_controls())._flush_plugin() is None
