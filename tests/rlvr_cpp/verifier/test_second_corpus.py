"""Programs that attack what stands around a verdict, each as its index says that it must end.

What a compiler reads, where tests lie, several files, declarations, types, sanitizers (`tests/data/adversarial/round2`).
"""

import json
import shutil
from pathlib import Path

import pytest

from rlvr_cpp import Case, Program, Verifier, compute_reward
from rlvr_cpp.tasks.quality.weak import check_tasks
from rlvr_cpp.tasks.task import Task

CORPUS = Path(__file__).parents[2] / "data" / "adversarial" / "round2"
ROWS = {row["name"]: row for row in json.loads((CORPUS / "index.json").read_text())}
HELD = ("cp_", "mf_", "or_", "ca_", "san_", "mk_", "se_", "fam_", "ct_")
SLOW = ("cp_template_bomb", "cp_constexpr")
"""The compiler's own limits end them, and nothing sooner."""
ENDINGS = {
    "<=0.3": lambda reward: reward is not None and reward <= 0.3,
    "a warning about the test, or <=0.3": lambda reward: reward is not None,
    "compile error or limit within bounds": lambda reward: reward is not None,
    "<=0.5": lambda reward: reward is not None and reward <= 0.5,
    "policy is defensible": lambda reward: reward is not None,
    "ok (honest)": lambda reward: reward is not None and reward > 0.999,
}
COMPILERS = [
    "g++",
    pytest.param(
        "clang++",
        marks=[
            pytest.mark.slow,
            pytest.mark.skipif(not shutil.which("clang++"), reason="clang++ is not installed"),
        ],
    ),
]


def text(name):
    return None if name is None else (CORPUS / name).read_text(errors="surrogateescape")


def program(row):
    files = {name: text(path) for name, path in row["files"].items()}
    return Program(
        files["candidate.cpp"] if list(files) == ["candidate.cpp"] else files,
        text(row.get("test")),
        row.get("tests_declared"),
        declaration=text(row.get("declaration")),
        hidden_test=text(row.get("hidden")),
        hidden_tests_declared=row.get("hidden_declared"),
        cases=tuple(Case(*case) for case in row.get("cases", [])),
    )


def toolchain_of(row):
    return tuple(row.get("flags", ()))


@pytest.fixture(scope="module")
def verifiers():
    """One for each compiler and its flags."""
    opened: dict[tuple, Verifier] = {}

    def find(compiler, flags=()):
        if (compiler, flags) not in opened:
            opened[compiler, flags] = Verifier(
                compiler=compiler, extra_flags=flags, workers=2, timeout=2.0, compile_timeout=6.0
            )
        return opened[compiler, flags]

    yield find
    for verifier in opened.values():
        verifier.close()


@pytest.fixture(scope="module")
def results(verifiers):
    """What became of all of them, judged together where they are asked for."""
    known: dict[tuple[str, str], object] = {}

    def find(compiler, name):
        if (compiler, name) not in known:
            flags = toolchain_of(ROWS[name])
            together = [one for one in NAMES if toolchain_of(ROWS[one]) == flags and (one == name or one not in SLOW)]
            judged = verifiers(compiler, flags).verify_many([program(ROWS[one]) for one in together])
            known.update({(compiler, one): result for one, result in zip(together, judged, strict=True)})
        return known[compiler, name]

    return find


NAMES = [name for name in ROWS if name.startswith(HELD)]


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in NAMES])
def test_an_attack_ends_as_its_index_says(results, compiler, name):
    result = results(compiler, name)
    assert ENDINGS[ROWS[name]["expect"]](compute_reward(result)), (result.status, result.tests_passed, result.stderr)


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("or_")])
def test_no_answer_to_a_test_of_functions_chooses_a_weaker_tier(results, name):
    assert results("g++", name).tier == "oracle"


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith(("mf_", "mk_", "se_", "fam_", "ct_"))])
def test_no_test_shares_the_process_of_what_it_judges(results, name):
    assert results("g++", name).tier == "observer"


def test_a_type_bomb_is_asked_for_a_declaration(results):
    result = results("g++", "or_type_bomb")
    assert (result.status, result.tier) == ("compile_error", "oracle")
    assert "give `declaration`" in result.stderr
    assert result.timings["compile"] < 60


@pytest.mark.parametrize("name", ["or_nan"])
def test_a_test_that_says_too_little_is_named(verifiers, name):
    task = Task(name, "", text(ROWS[name]["test"]), "mean", tests_declared=ROWS[name]["tests_declared"])
    (checked,) = check_tasks([task], verifiers("g++"))
    assert "NaN" in checked.weak


@pytest.mark.parametrize(
    ("compiler", "flag"),
    [
        ("g++", "-fsanitize=address,undefined"),
        pytest.param("clang++", "-fsanitize=address", marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_an_honest_class_passes_under_a_sanitizer(verifiers, compiler, flag):
    result = verifiers(compiler, (flag,)).verify(program(ROWS["fam_class_right"]))
    assert result.status == "ok", result.stderr


HIDES = """#include <cstdio>
int passed = 0;
#include "kept.h"
int main() { passed += kept(3) == 9; passed += kept(4) == 16; std::printf("PASSED %d/2\\n", passed); return passed != 2; }
"""
KEPT = "#pragma once\nint kept(int);\n"


@pytest.mark.parametrize(
    ("files", "declaration", "expected"),
    [
        ({"kept.h": KEPT, "kept.cpp": '#include "kept.h"\nint kept(int x) { return x * x; }\n'}, None, ("ok", "observer")),
        ({"kept.h": KEPT, "kept.cpp": '#include "kept.h"\nint kept(int x) { return x * x; }\n'}, "int kept(int);", ("ok", "oracle")),
        ({"kept.h": KEPT + "#define kept(x) ((x) * (x))\n", "kept.cpp": "int kept(int x) { return 1; }\n"}, None, ("wrong", "observer")),
        ({"kept.h": KEPT, "kept.cpp": "int kept(int x) { return 1; }\n", "cstdio.h": "", "stdio.h": "#define printf(...) puts(\"PASSED 2/2\")\n"}, None, ("wrong", "observer")),
        ({"kept.h": KEPT, "kept.cpp": "#include \"rlvr_harness.cpp\"\n"}, None, ("compile_error", "observer")),
        ({"kept.h": KEPT, "kept.cpp": "#include \"/proc/self/fd/0\"\nint kept(int x) { return 1; }\n"}, None, ("compile_error", "observer")),
    ],
)  # fmt: skip
def test_a_test_is_compiled_without_the_macros_and_files_of_a_candidate(verifiers, files, declaration, expected):
    result = verifiers("g++").verify(Program(files, HIDES, 2, declaration=declaration))
    assert (result.status, result.tier) == expected, result.stderr


def test_a_test_that_was_compiled_apart_is_not_there_while_a_candidate_is_compiled(verifiers):
    row = program(ROWS["fam_call_off10"])
    asked = row.declaration + 'return 0; }\n__asm__(".incbin \\"rlvr_harness.o\\"");\n'
    result = verifiers("g++").verify(Program(asked, row.test, row.tests_declared, declaration=row.declaration))
    assert result.status == "compile_error", result.stderr


def test_a_program_runs_beside_nothing_that_it_was_made_of(verifiers):
    code = """#include <cstdio>
#include <dirent.h>
int main() {
    DIR* folder = opendir(".");
    for (dirent* entry; (entry = readdir(folder)) != nullptr;) if (entry->d_name[0] != '.') std::puts(entry->d_name);
}
"""
    assert verifiers("g++").verify(Program(code)).stdout == "rlvr_program\n"
