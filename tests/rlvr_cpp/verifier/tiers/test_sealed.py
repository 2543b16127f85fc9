"""The seal: honest programs are judged as ever, and a verdict that the harness did not reach is none.

Programs that cheat are built and run here. Each only prints, ends itself or writes to the pipes of its own test.
"""

import itertools
import os
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlvr_cpp.verifier.tiers.object_policy import violations
from rlvr_cpp.verifier.tiers.sealed import (
    LINK_FLAGS,
    SEAL,
    SEAL_FLAGS,
    TAMPERED,
    between,
    borrowed_variables,
    calls_exit,
    kept_symbols,
    localise_commands,
    macros_before_headers,
    macros_defined,
    read_record,
    redirect_exits_command,
    sealed_verdict,
    with_decoys,
)
from rlvr_cpp.verifier.toolchain.toolchain import CANDIDATE_FLAGS, linker_flags
from rlvr_sandbox import Finished

WITHOUT_CLANG = pytest.mark.skipif(not shutil.which("clang++"), reason="clang++ is not installed")
COMPILERS = ["g++", pytest.param("clang++", marks=WITHOUT_CLANG)]
HOSTILE = ["g++", pytest.param("clang++", marks=[WITHOUT_CLANG, pytest.mark.slow])]
LINKERS = [
    pytest.param(name, marks=pytest.mark.skipif(not shutil.which(f"ld.{name}"), reason=f"{name} is not installed"))
    for name in ("bfd", "gold", "lld", "mold")
]
NONCE = b"sixteen bytes ok"
HARNESS = """
#include <cstdio>
#include <vector>
std::vector<int> distinct(std::vector<int>);
int main() {
    typedef std::vector<int> V;
    int p = 0;
    if (distinct(V{3, 1, 2, 3}) == V{1, 2, 3}) ++p;
    if (distinct(V{}) == V{}) ++p;
    p += distinct(V{2, 2, 2}) == V{2};
    p += distinct(V{9, -1, 4, 4}) == V{-1, 4, 9};
    std::printf("\\nPASSED %d/4\\n", p);
    return p == 4 ? 0 : 1;
}
"""
RIGHT = """
#include <algorithm>
#include <vector>
std::vector<int> distinct(std::vector<int> v) {
    std::sort(v.begin(), v.end());
    v.erase(std::unique(v.begin(), v.end()), v.end());
    return v;
}
"""
WRONG = "#include <vector>\nstd::vector<int> distinct(std::vector<int> v) { return v; }\n"
STUB = "#include <vector>\nstd::vector<int> distinct(std::vector<int>) { return {}; }\n"


class Sealing:
    """A folder in which programs are built and run, with the commands that the verifier would give to the jail."""

    def __init__(self, folder, compilers):
        self.folder, self.compilers = folder, compilers

    def run(self, *command, **options):
        return subprocess.run(command, cwd=self.folder, capture_output=True, timeout=60, **options)

    def compile(self, compiler, name, text, *flags, beside=None):
        path, done = self.compilers.compile(compiler, text, "-std=c++17", "-w", *flags, beside=beside)
        if done.returncode == 0:
            shutil.copyfile(path, self.folder / f"{name}.o")
        return done

    def link(self, compiler, *objects, linker=None):
        chosen = [f"-fuse-ld={linker}"] if linker else linker_flags(compiler)
        strict = ("-Wall", "-Wextra", "-Werror")
        seal, done = self.compilers.compile(compiler, SEAL.read_text(), *SEAL_FLAGS, *strict)
        assert done.returncode == 0, done.stderr
        return self.run(compiler, *chosen, seal, *objects, *LINK_FLAGS, "-pthread", "-o", "program")

    def build_together(self, compiler, code, harness, *flags):
        """One translation unit."""
        main = f'#include "candidate.cpp"\n{between(code, harness)}#include "harness.cpp"\n'
        beside = {"candidate.cpp": code, "harness.cpp": harness}
        done = self.compile(compiler, "main", main, *flags, beside=beside)
        return self.link(compiler, "main.o") if done.returncode == 0 else done

    def build_apart(self, compiler, code, harness, *flags, linker=None, redirect=False):
        """Two objects, of which the candidate's exposes only what the harness calls."""
        own = CANDIDATE_FLAGS if compiler == "g++" else ()
        for name, text, more in (("candidate", code, own), ("harness", harness, ())):
            done = self.compile(compiler, name, text, *flags, *more)
            if done.returncode != 0:
                return done
        if redirect:
            self.run(*redirect_exits_command("harness.o"), check=True)
        kept = kept_symbols(*((self.folder / name).read_bytes() for name in ("harness.o", "candidate.o")))
        for command in localise_commands("candidate.o", "local.o", kept):
            self.run(*command, check=True)
        return self.link(compiler, "harness.o", "local.o", linker=linker)

    def judge(self, declared=4):
        (self.folder / "nonce").write_bytes(NONCE)
        (self.folder / "record").write_bytes(b"")
        done = self.run("sh", "-c", "exec ./program 3<nonce 4>record", stdin=subprocess.DEVNULL)
        ended = "signal" if done.returncode < 0 else "exit"
        finished = Finished(ended, done.returncode, done.stdout, done.stderr)
        return sealed_verdict(finished, (self.folder / "record").read_bytes(), NONCE, declared)


@pytest.fixture
def sealing(tmp_path, compilers):
    return Sealing(tmp_path, compilers)


BUILDS = [Sealing.build_together, Sealing.build_apart]


def built(done):
    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.parametrize("optimisation", ["-O0", pytest.param("-O2", marks=pytest.mark.slow)])
@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize(("code", "status", "passed"), [(RIGHT, "ok", 4), (WRONG, "wrong", 1), (STUB, "wrong", 1)])
def test_an_honest_program_is_judged_by_its_answers(sealing, code, status, passed, compiler, build, optimisation):
    harness = with_decoys(HARNESS) if build is Sealing.build_together else HARNESS
    built(build(sealing, compiler, code, harness, optimisation))
    verdict = sealing.judge()
    assert (verdict.status, verdict.passed, verdict.total) == (status, passed, 4)


HONEST = {
    "global constructors, noise on the streams": '#include <iostream>\nstatic std::string g("x");\n'
    'struct S { ~S() { std::cout << "bye\\n"; } } s;\n'
    + RIGHT.replace("std::sort", 'std::cout << "PASSED maybe" << std::endl; std::cerr << g; std::sort'),
    "threads": "#include <thread>\n"
    + RIGHT.replace(
        "std::sort", "std::thread t([&] { v.push_back(v.empty() ? 0 : v[0]); v.pop_back(); }); t.join(); std::sort"
    ),
    "macros of its own": "#define ll long long\n#define REP(i, n) for (int i = 0; i < (n); ++i)\n#define MAIN_H\n"
    "#include <climits>\n#ifndef INT_MAX\n#define INT_MAX 2147483647\n#endif\n" + RIGHT,
    "names that the harness has too": "static int p = 7; namespace { int helper() { return p; } }\n"
    "template <class T> T twice(T x) { static int calls = 0; ++calls; return x + x; }\n"
    + RIGHT.replace("std::sort", "twice(helper()); std::sort"),
    "exceptions": "#include <stdexcept>\n"
    + RIGHT.replace("std::sort", 'try { throw std::runtime_error("x"); } catch (const std::exception&) {} std::sort'),
    "streams cut loose": "#include <iostream>\n"
    + RIGHT.replace("std::sort", 'std::ios::sync_with_stdio(false); std::cout << "noise\\n"; std::sort'),
}


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("name", HONEST)
def test_what_honest_programs_do_does_no_harm(sealing, name, compiler, build):
    built(build(sealing, compiler, HONEST[name], HARNESS))
    assert sealing.judge().status == "ok"


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("name", HONEST)
def test_the_object_policy_knows_an_honest_program_together_with_its_harness(sealing, name, compiler):
    harness = with_decoys(HARNESS)
    built(sealing.build_together(compiler, HONEST[name], harness))
    assert violations((sealing.folder / "main.o").read_bytes(), harness) == ()


@pytest.mark.parametrize("linker", LINKERS)
@pytest.mark.parametrize("compiler", COMPILERS)
def test_every_linker_can_finish_a_localised_object(sealing, compiler, linker):
    code = HONEST["names that the harness has too"] + HONEST["threads"].replace("distinct", "unused")
    built(sealing.build_apart(compiler, code, HARNESS, linker=linker))
    assert sealing.judge().status == "ok"
    assert violations((sealing.folder / "candidate.o").read_bytes()) == ()


@pytest.mark.parametrize(
    "signature", ["int main()", "int main(int, char**)", "auto main() -> int", "signed main(void)"]
)
@pytest.mark.parametrize("compiler", COMPILERS)
def test_main_may_have_any_shape_and_need_not_return(sealing, compiler, signature):
    harness = f'#include <cstdio>\nint one();\n{signature} {{ if (one() != 1) return 3; std::puts("PASSED 1/1"); }}'
    for optimisation, (code, status) in itertools.product(
        ("-O0", "-O2"), [("int one() { return 1; }", "ok"), ("int one() { return 2; }", "run_error")]
    ):
        built(sealing.build_apart(compiler, code, harness, optimisation))
        assert sealing.judge(1).status == status


def test_output_that_a_stream_still_holds_is_not_lost(sealing):
    harness = """
#include <iostream>
int one();
int main() {
    std::ios::sync_with_stdio(false);
    std::cout << "PASSED " << one() << "/1\\n";
    return one() != 1;
}"""
    built(sealing.build_apart("g++", "int one() { return 1; }", harness))
    assert sealing.judge(1).status == "ok"


@pytest.mark.parametrize("compiler", COMPILERS)
def test_a_harness_of_its_own_object_may_call_exit(sealing, compiler):
    harness = HARNESS.replace("return p == 4 ? 0 : 1;", "std::exit(p == 4 ? 0 : 1);").replace(
        "<cstdio>", "<cstdlib>\n#include <cstdio>"
    )
    assert calls_exit(harness)
    assert not calls_exit(HARNESS)
    for code, status in ((RIGHT, "ok"), (WRONG, "wrong")):
        built(sealing.build_apart(compiler, code, harness, redirect=True))
        assert sealing.judge().status == status


CHEATS = {
    "prints the marker and leaves": "#include <cstdio>\n#include <cstdlib>\n#include <vector>\n"
    'std::vector<int> distinct(std::vector<int>) { std::puts("PASSED 4/4"); std::fflush(stdout); std::_Exit(0); }',
    "prints it and exits": "#include <cstdio>\n#include <cstdlib>\n#include <vector>\n"
    'std::vector<int> distinct(std::vector<int>) { std::puts("PASSED 4/4"); std::exit(0); }',
    "prints it and exits quickly": "#include <cstdio>\n#include <cstdlib>\n#include <vector>\n"
    'std::vector<int> distinct(std::vector<int>) { std::puts("PASSED 4/4"); std::fflush(0); std::quick_exit(0); }',
    "prints it and ends the main thread": "#include <cstdio>\n#include <pthread.h>\n#include <vector>\n"
    'std::vector<int> distinct(std::vector<int>) { std::puts("PASSED 4/4"); std::fflush(0); pthread_exit(nullptr); }',
    "a constructor": "#include <cstdio>\n#include <cstdlib>\n"
    '__attribute__((constructor)) static void c() { std::puts("PASSED 4/4"); std::fflush(0); std::_Exit(0); }\n' + STUB,
    "a constructor, silent": "#include <cstdlib>\nstruct S { S() { std::_Exit(0); } } s;\n" + STUB,
    "an early constructor that reads what is open": "#include <unistd.h>\n"
    "__attribute__((constructor(101))) static void c() { char b[20] = {0}; long n = read(3, b, 16);"
    ' if (n == 16) { write(1, "PASSED 4/4\\n", 11); write(4, b, 20); _exit(0); } }\n' + STUB,
    "atexit": "#include <cstdio>\n#include <cstdlib>\n#include <unistd.h>\n"
    'static void f() { std::puts("PASSED 4/4"); std::fflush(0); _exit(0); }\nstatic int z = std::atexit(f);\n' + STUB,
    "a static destructor": "#include <cstdio>\n#include <unistd.h>\n"
    'struct D { ~D() { std::puts("PASSED 4/4"); std::fflush(0); _exit(0); } } d;\n' + STUB,
    "longjmp": "#include <csetjmp>\n#include <cstdio>\n#include <cstdlib>\n#include <vector>\nstatic jmp_buf b;\n"
    "std::vector<int> distinct(std::vector<int>) { if (!setjmp(b)) std::longjmp(b, 1);"
    ' std::puts("PASSED 4/4"); std::exit(0); }',
    "every descriptor": "#include <cstdio>\n#include <unistd.h>\n#include <vector>\n"
    'std::vector<int> distinct(std::vector<int>) { for (int i = 1; i < 32; ++i) dprintf(i, "PASSED 4/4\\n"); _exit(0); }',
    "a marker and no more output": "#include <fcntl.h>\n#include <unistd.h>\n"
    'static int z = [] { write(1, "PASSED 4/4\\n", 11); return dup2(open("/dev/null", 1), 1); }();\n' + STUB,
    "its own printf": "#include <unistd.h>\n"
    'extern "C" int printf(const char*, ...) { write(1, "PASSED 4/4\\n", 11); _exit(0); }\n' + STUB,
    "an abort handler": "#include <csignal>\n#include <cstdlib>\n#include <unistd.h>\n#include <vector>\n"
    'static void h(int) { write(1, "PASSED 4/4\\n", 11); _exit(0); }\n'
    "std::vector<int> distinct(std::vector<int>) { std::signal(SIGABRT, h); std::abort(); }",
    "a terminate handler": "#include <exception>\n#include <unistd.h>\n#include <vector>\n"
    'static void h() { write(1, "PASSED 4/4\\n", 11); _exit(0); }\n'
    "std::vector<int> distinct(std::vector<int>) { std::set_terminate(h); throw 1; }",
    "a stream buffer that prints at the last flush": "#include <iostream>\n#include <cstdio>\n#include <cstdlib>\n"
    'struct B : std::streambuf { int sync() override { std::puts("PASSED 4/4"); std::fflush(stdout); std::_Exit(0); } };\n'
    "static int z = [] { std::cout.rdbuf(new B); return 0; }();\n" + STUB,
    "a comparison at global scope": STUB
    + "bool operator==(const std::vector<int>&, const std::vector<int>&) { return true; }\n",
    "a comparison that counts its calls": STUB
    + "static int n; bool operator==(const std::vector<int>&, const std::vector<int>&) { return n++ % 2 == 0; }\n",
    "a specialisation in std": STUB
    + "namespace std { template <> bool operator==(const vector<int>&, const vector<int>&) { return true; } }\n",
    "the counter": STUB + "#define p p = 4, q\n",
    "main": STUB + '#include <cstdio>\nint main() { std::puts("PASSED 4/4"); return 0; }\n#define main other\n',
    "if": STUB + "#define if(x) if (true)\n",
    "if, in digraphs and splices": STUB + "%:/* */def\\\nine/**/i\\\nf(x) if (true)\n",
    "return": STUB + '#define return return 0;\n#define printf(...) puts("PASSED 4/4")\n',
    "a macro put aside": "#include <cstdio>\n"
    + STUB
    + '#define printf(...) puts("PASSED 4/4"), p = 4\n#pragma push_macro("printf")\n#undef printf\n#pragma pop_macro("printf")\n',
}


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("compiler", HOSTILE)
@pytest.mark.parametrize("name", CHEATS)
def test_a_cheat_is_no_pass(sealing, name, compiler, build):
    done = build(sealing, compiler, CHEATS[name], with_decoys(HARNESS) if build is Sealing.build_together else HARNESS)
    if done.returncode != 0:
        return  # it could not even be built
    verdict = sealing.judge()
    assert verdict.status in ("forged", "wrong", "run_error", "ambiguous")
    assert verdict.passed < 2, "the stub is right about the empty list alone"


CERTAINLY_FORGED = [
    "prints the marker and leaves",
    "a constructor, silent",
    "prints it and ends the main thread",
    "a comparison at global scope",
    "a comparison that counts its calls",
    "a specialisation in std",
]


@pytest.mark.parametrize("name", CERTAINLY_FORGED)
def test_a_verdict_that_the_harness_did_not_reach_is_called_forged(sealing, name):
    built(sealing.build_together("g++", CHEATS[name], with_decoys(HARNESS)))
    assert sealing.judge().status == "forged"


@pytest.mark.parametrize("name", ["atexit", "a static destructor"])
def test_a_candidates_last_words_are_not_heard(sealing, name):
    built(sealing.build_together("g++", CHEATS[name], HARNESS))
    assert sealing.judge().status == "wrong"


@pytest.mark.parametrize("name", ["a comparison at global scope", "a specialisation in std", "the counter"])
def test_in_an_object_of_its_own_a_fake_comparison_reaches_nobody(sealing, name):
    built(sealing.build_apart("g++", CHEATS[name], HARNESS))
    assert sealing.judge().status == "wrong"


def test_without_the_decoys_a_fake_comparison_would_pass(sealing):
    built(sealing.build_together("g++", CHEATS["a comparison at global scope"], HARNESS))
    assert sealing.judge().status == "ok"


def test_the_harnesss_counters_can_be_told_from_what_it_gives(sealing):
    harness = "int p = 0; int given(int x) { return x; } int solve(); int main() { p += solve(); }"
    for name, text in (
        ("harness", harness),
        ("candidate", "extern int p; int given(int); int solve() { p = 9; return given(1); }"),
    ):
        sealing.compile("g++", name, text)
    objects = [(sealing.folder / f"{name}.o").read_bytes() for name in ("harness", "candidate")]
    assert kept_symbols(*objects) == ("_Z5solvev",)
    assert borrowed_variables(*objects) == ("p",)


def record(nonce=NONCE, value=0):
    return nonce + value.to_bytes(4, "little", signed=True)


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (record(), 0),
        (record(value=1), 1),
        (record(value=-1), -1),
        (b"", None),
        (record()[:-1], None),
        (record() * 2, None),
        (record() + b"\n", None),
        (record(b"another nonce ..."[:16]), None),
    ],
)
def test_one_record_with_the_right_nonce_counts(data, value):
    assert read_record(data, NONCE) == value


@pytest.mark.parametrize(
    ("stdout", "returncode", "data", "status"),
    [
        (b"PASSED 4/4\n", 0, record(), "ok"),
        (b"PASSED 3/4\n", 1, record(value=1), "wrong"),
        (b"PASSED 3/4\n", 255, record(value=-1), "wrong"),
        (b"PASSED 4/4\n", 0, b"", "forged"),
        (b"PASSED 3/4\n", 1, b"", "forged"),
        (b"PASSED 4/4\nPASSED 4/4\n", 0, b"", "forged"),
        (b"PASSED 4/4\nPASSED 4/4\n", 0, record(), "ambiguous"),
        (b"PASSED 4/4\n", 0, record(value=1), "forged"),
        (b"PASSED 4/4\n", 1, record(value=1), "forged"),
        (b"PASSED 3/4\n", TAMPERED & 255, record(value=TAMPERED), "forged"),
        (b"PASSED 4/4\n", 0, record() * 2, "forged"),
        (b"", 0, b"", "forged"),
        (b"", 0, record(), "forged"),
        (b"", 1, b"", "run_error"),
        (b"", 1, record(value=1), "run_error"),
        (b"PASSED 4/4\n", -6, record(), "run_error"),
    ],
)
def test_a_claim_counts_with_the_record_that_bears_it_out(stdout, returncode, data, status):
    verdict = sealed_verdict(Finished("exit", returncode, stdout), data, NONCE, 4)
    assert (verdict.status, verdict.total) == (status, 4)
    assert verdict.passed == 0 or status in ("ok", "wrong")


@given(st.binary(max_size=60), st.binary(max_size=60), st.integers(-30, 255))
def test_no_output_passes_without_the_nonce(stdout, data, returncode):
    verdict = sealed_verdict(Finished("exit", returncode, b"PASSED 4/4\n" + stdout), data, os.urandom(16), None)
    assert verdict.status != "ok"


MACROS = [
    ("#define if(x) if (true)", ["if"]),
    ("  #  define\tmain other\n# define main2", ["main", "main2"]),
    ("#\\\ndef\\\nine ma\\ \t\nin x", ["main"]),
    ("#def\\\0\nine equal(a, b, c) equal(a, a, c)", ["equal"]),
    ("#define ma\\\0\nin x", ["main", "ma"]),
    ("%:define assert(x)", ["assert"]),
    ("??=define assert(x)", ["assert"]),
    ("#define ma??/\nin x", ["ma", "main"]),
    ("#/* a\n*/define/**//* b */main x", ["main"]),
    ("#define/*\n*/NDEBUG", ["NDEBUG"]),
    ('const char* s = "/*";\n#define main x\n//*/', ["main"]),
    ('const char* s = "\\\\";\n#define std x', ["std"]),
    ('auto s = R"(\n)";\n#define bool int', ["bool"]),
    ("#if 0\ndon't\n#endif\n#define for if", ["for"]),
    ("int x = 1'000;\n#define true false\n'", ["true"]),
    ('#pragma push_macro("assert")\n#pragma pop_macro("assert")', ["assert"]),
    ('_Pragma("pop_macro(\\"main\\")")', ["main"]),
    ("#define\f$a 1\r#define\0b 2\r\n#define c", ["$a", "b", "c"]),
    ("int define; // nothing\n#undef x\n#defined y\n", ["d"]),
    ("// #define 3 words", []),
]


@pytest.mark.parametrize(("code", "names"), MACROS)
def test_a_definition_is_seen_however_it_is_written(code, names):
    assert list(dict.fromkeys(macros_defined(code))) == names


@given(st.text(alphabet="#%:define/*\\\n ab\"'?(=", max_size=80))
def test_reading_macros_never_fails(code):
    assert isinstance(macros_defined(code), list)
    assert isinstance(macros_before_headers(code), tuple)
    assert between(code, "int main() {}").endswith("\n")


@pytest.mark.parametrize("unit", ["#/*", "#define/**/", "/**/#", "# ", "#define a\n", "??/\n", "#include /*"])
def test_reading_macros_takes_a_time_that_grows_with_the_text_alone(unit):
    macros_before_headers(unit * (300_000 // len(unit)))
    between(unit * (300_000 // len(unit)), "")


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("#define equal fake\n#include <vector>", ["equal"]),
        ("#define __equal_aux fake\n#include <vector>", ["__equal_aux"]),
        ("#define private public\n#include <vector>", ["private"]),
        ("#def\\\0\nine equal fake\n#include <vector>", ["equal"]),
        ("#define equal fake\n#inc\\ \0\r\nlude <vector>", ["equal"]),
        ("#define equal fake\n#import <vector>", ["equal"]),
        ("#include <vector>\n#define equal fake", []),
        ("#define _GNU_SOURCE\n#define MAXN 5\n#define ll long long\n#include <cmath>", []),
    ],
)
def test_macros_that_bend_the_headers_are_told(code, names):
    assert list(macros_before_headers(code)) == names


@pytest.mark.parametrize("std", ["c++11", "c++17", "c++20"])
@pytest.mark.parametrize("compiler", COMPILERS)
def test_what_stands_between_is_legal_and_undoes_everything(sealing, compiler, std):
    code = """
#define _GNU_SOURCE 1
#define __LINE__ 1
#include <cassert>
#include <climits>
#define INT_MAX 3
#undef assert
#define assert(x) ((void)0)
#define NDEBUG
#define main other
#define static_assert(...) struct unused
#define passed passed = 4, other
#define size_t int
#define final
#pragma pack(push, 1)
"""
    checks = "".join(
        f"#ifdef {name}\n#error {name}\n#endif\n"
        for name in ("NDEBUG", "main", "static_assert", "passed", "size_t", "final")
    )
    harness = """
static_assert(INT_MAX == 2147483647, "");
struct S { char c; int i; };
static_assert(sizeof(S) == 8, "");
int main() { int x = 1; assert(++x == 2); return x == 2 ? 0 : 1; }
"""
    main = code + between(code, harness) + checks + harness
    built(sealing.compile(compiler, "main", main, f"-std={std}"))


def test_macros_that_the_prompt_gave_stay_where_the_completion_left_them_alone():
    prompt, harness = "#define LIMIT 5\n", "int main() { return LIMIT; }"
    assert "#undef LIMIT" not in between(prompt + "int x;", harness, given=prompt)
    assert "#undef LIMIT" in between(prompt + "#define LIMIT 6\n", harness, given=prompt)
    assert "#undef LIMIT" in between(prompt, harness)


UNCHANGED = {
    "numbers": "int main() { int p = 0; p += f(1) == 2; p += f(2) == 3; }",
    "one literal": "#include <vector>\nint main() { return f() == std::vector<int>{1}; }",
    "values that differ in zeros alone": "int main() { return (f() == std::array<int, 2>{1}) + (f() == std::array<int, 2>{1, 0}); }",
    "values that differ in order alone": "int main() { return (f() == std::set<int>{1, 2}) + (f() == std::set<int>{2, 1, 1}); }",
    "maps, where a key may come twice": "int main() { return (f() == std::map<int, int>{{1, 2}}) + (f() == std::map<int, int>{{1, 3}}); }",
    "constructors": "int main() { return (f() == std::vector<int>(0, 5)) + (f() == std::vector<int>(0, 7)); }",
    "types of somebody's": "int main() { return (f() == Point{1, 2}) + (f() == Point{3, 4}); }",
    "containers of somebody's types": "int main() { return (f() == std::vector<Point>{{1, 2}}) + (f() == std::vector<Point>{{3, 4}}); }",
    "pointers": "int main() { return (f() == std::vector<int*>{0}) + (f() == std::vector<int*>{1}); }",
    "variables": "int main() { int a = 1, b = 1; return (f() == std::vector<int>{a}) + (f() == std::vector<int>{b}); }",
    "numbers in other bases": "int main() { return (f() == std::vector<int>{0x10}) + (f() == std::vector<int>{020}); }",
    "a string of characters": "int main() { return (f() == std::string{'a'}) + (f() == std::string{\"a\"}); }",
    "escapes": r'int main() { return (f() == std::string{"\x61"}) + (f() == std::string{"\141"}); }',
    "an alias for two types": "typedef std::vector<int> V; void g() { typedef P V; f() == V{1}; } int main() { return f() == V{2}; }",
    "constant expressions": "static_assert(f() == std::array<int, 1>{1}); constexpr bool b = f() == std::array<int, 1>{2};",
    "broken": "int main() { f( == std::vector<int>{1}; f() == std::vector<int>{2}",
    "macros": "#define T(x) f() == std::vector<int>{x}\nint main() { return T(1) + T(2); }",
}


@pytest.mark.parametrize("name", UNCHANGED)
def test_a_test_is_left_alone_where_two_values_are_not_certain_to_differ(name):
    assert with_decoys(UNCHANGED[name]) is None


MANY = """
#include <cassert>
#include <cstdio>
#include <set>
#include <string>
#include <utility>
#include <vector>
using Rows = std::vector<std::vector<int>>;
int main() {
    int p = 0, n = 0;
    Box<int> box;
    for (int i = 1; i < 4; ++i) box.put(i);
    ++n; p += box.all() == std::vector<int>{1, 2, 3};
    box.put(9);
    ++n; if (box.all() == std::vector<int>{1, 2, 3, 9}) { ++p; }
    ++n; p += box.name() == "box";
    ++n; p += Box<int>("b").name() == "b" ? 1 : 0;
    ++n; bool same = box.rows() == Rows{{1}, {2, -3}} || box.rows() == Rows{{5LL}}; p += same;
    ++n; p += box.pair() == std::pair<int, std::string>{1, "a"};
    ++n; p += box.pair() == std::pair<int, std::string>{2, "b"} ? 0 : 1;
    ++n; p += (box.keys() == std::set<std::string>{"k"} && !(box.keys() == std::set<std::string>{"l"}));
    assert((box.all() == std::vector<int>{1, 2, 3, 9}));
    std::printf("\\nPASSED %d/8\\n", p);
    return p == n ? 0 : 1;
}
"""
BOX = """
#include <set>
#include <string>
#include <utility>
#include <vector>
template <class T> class Box {
    std::vector<T> items; std::string title;
public:
    explicit Box(const char* t = "box") : title(t) {}
    void put(const T& x) { items.push_back(x); }
    std::vector<T> all() const { return items; }
    const std::string& name() const { return title; }
    std::vector<std::vector<int>> rows() const { return {{1}, {2, -3}}; }
    std::pair<int, std::string> pair() { return {1, "a"}; }
    std::set<std::string> keys() { return {"k"}; }
};
"""


@pytest.mark.parametrize("std", ["c++11", "c++20"])
@pytest.mark.parametrize("compiler", COMPILERS)
def test_decoys_accuse_no_honest_class(sealing, compiler, std):
    harness = with_decoys(MANY)
    assert harness.count("_same(") == 12  # nine comparisons with another value, twice a second one, and the definition
    assert with_decoys(MANY) == harness
    for code, status in (
        (BOX, "ok"),
        (BOX.replace("{2, -3}", "{2}"), "wrong"),
        (BOX.replace('{1, "a"}', '{2, "b"}'), "wrong"),
    ):
        built(sealing.build_together(compiler, code, harness, f"-std={std}"))
        assert sealing.judge(8).status == status


@pytest.mark.parametrize("compiler", COMPILERS)
def test_decoys_catch_a_fake_comparison_of_strings(sealing, compiler):
    fake = BOX.replace('{1, "a"}', '{1, "z"}') + (
        "template <class T> bool operator==(const std::basic_string<char, std::char_traits<char>, std::allocator<char>>&,"
        " const T&) { return true; }\n"
        "bool operator==(const std::string&, const char*) { return true; }\n"
    )
    built(sealing.build_together(compiler, fake, with_decoys(MANY)))
    assert sealing.judge(8).status == "forged"


def test_decoys_leave_a_candidates_own_comparison_to_itself(sealing):
    code = """
#include <vector>
struct Bag { bool operator==(const std::vector<int>&) const { return true; } };
inline Bag bag() { return {}; }
"""
    harness = (
        HARNESS.replace("std::vector<int> distinct(std::vector<int>);", "").replace("distinct", "(void)V")
        if False
        else """
#include <cstdio>
#include <vector>
int main() {
    int p = 0;
    p += bag() == std::vector<int>{1};
    p += bag() == std::vector<int>{2};
    std::printf("PASSED %d/2\\n", p);
    return p == 2 ? 0 : 1;
}
"""
    )
    built(sealing.build_together("g++", code, with_decoys(harness)))
    assert sealing.judge(2).status == "ok"
