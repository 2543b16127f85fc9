"""Every hostile program that we know of, against the real thing: each must end as it should, on both compilers.

The corpus (`tests/data/adversarial`) attacks the compiler (`compile`), the machine (`run`) and the verdict (`hack`); its
honest `control` programs must pass however they are judged. The task is `sorted_unique`, five tests; the empty answer
honestly earns one of them.
"""

import contextlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from rlvr_cpp import Program, Verifier, compute_reward
from rlvr_cpp.verifier.cpp.assertions import count_assertions
from rlvr_cpp.verifier.tiers.in_process import judge_apart, judge_as_one
from rlvr_cpp.verifier.toolchain.bench import open_bench
from rlvr_sandbox import host_controls

CORPUS = Path(__file__).parents[2] / "data" / "adversarial"
INDEX = json.loads((CORPUS / "index.json").read_text())
HARNESS = {kind: (CORPUS / f"harness_{kind}.cpp").read_text() for kind in ("marker", "assert")}
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
NAMESPACED = "mount" in host_controls().names

LIMIT, ERROR, OK, WRONG = (frozenset({status}) for status in ("compile_limit", "compile_error", "ok", "wrong"))
RUN_ERROR, TIMEOUT, FLOOD = (frozenset({status}) for status in ("run_error", "timeout", "output_limit"))
COMPILE = {
    **dict.fromkeys(("ct_template_bomb", "ct_macro_lines"), LIMIT),
    **dict.fromkeys(
        (
            *("ct_asm_fill", "ct_asm_rept", "ct_giant_data", "ct_many_arrays", "ct_constexpr_loop", "ct_constexpr_mem"),
            *("ct_deep_nesting", "ct_macro_bomb", "ct_static_assert_flood", "ct_include_self", "ct_operator_arrow"),
            "ct_template_depth",
        ),
        LIMIT | ERROR,
    ),
    **dict.fromkeys(
        (
            *("ct_include_devzero", "ct_include_devurandom", "ct_include_devstdin", "ct_include_fifo"),
            *("ct_include_passwd", "ct_include_harness", "ct_include_procself", "ct_incbin_secret"),
            *("ct_incbin_harness", "ct_incbin_devzero", "ct_module_import", "ct_invalid_utf8", "ct_line_forge"),
            *("ct_fpermissive", "ct_nul_bytes"),
        ),
        ERROR,
    ),
    **dict.fromkeys(
        (
            *("ct_attr_plugin", "ct_bidi", "ct_crlf_splice", "ct_error_flood", "ct_has_include", "ct_linemarker_sys"),
            *("ct_ofast", "ct_output_name", "ct_pragma_diag_ignored", "ct_pragma_system_header", "ct_unicode_ident"),
        ),
        OK,
    ),
    **dict.fromkeys(("ct_asm_print", "ct_pragma_message"), WRONG),
    "ct_giant_bss": frozenset({"run_error", "link_error", "memory_limit"}),
    "ct_long_line": OK | LIMIT,
}
SUPPRESS = ("ct_pragma_diag_ignored", "ct_pragma_system_header", "ct_linemarker_sys", "ct_line_forge")
WAITING = ("rt_sleep", "rt_pause_sigs", "rt_sigstop", "rt_close_stdio")
RUN = {
    "rt_inf_loop": TIMEOUT,
    **dict.fromkeys(("rt_out_flood", "rt_err_flood", "rt_out_slow_big"), FLOOD),
    **dict.fromkeys(("rt_stack_overflow", "rt_core_dump"), RUN_ERROR),
    "rt_mem_bomb": RUN_ERROR | {"memory_limit"},
}
CONTAINED = {"wrong", "run_error", "timeout", "memory_limit", "output_limit", "forged"}
ESCAPED = re.compile(r"READ |WROTE |FD \d|RAISED|CONNECTED|root:|=(?!-1\b|32512\b)-?\d+\b(?<!i386 getpid=\d)")
OUTSIDE = (
    "/tmp/sbx_pwned",
    "/dev/shm/sbx_pwned",
    "/var/tmp/sbx_pwned",
    "/root/sbx_pwned",
    "/dev/shm/sbx_chan",
    "/tmp/sbx_chan",
)


def names(group: str) -> list[str]:
    return sorted(path.stem for path in (CORPUS / group).glob("*.cpp"))


def source(group: str, name: str) -> str:
    raw = (CORPUS / group / f"{name}.cpp").read_bytes()
    return raw.decode(errors="surrogateescape")


@pytest.fixture(scope="module", params=COMPILERS)
def verifier(request):
    with Verifier(compiler=request.param, workers=1, timeout=1.0, compile_timeout=3.0, memory=512 << 20) as verifier:
        yield verifier


def judged(verifier: Verifier, group: str, name: str, kind: str = "marker"):
    result = verifier.verify(Program(source(group, name), HARNESS[kind]))
    assert result.status != "sandbox_error", result.stderr
    assert result.tier == "oracle"
    return result


@pytest.fixture(autouse=True)
def nothing_is_left():
    yield
    children = subprocess.run(["pgrep", "-P", str(os.getpid()), "launcher"], capture_output=True).stdout
    assert children == b""
    assert not list(Path(tempfile.gettempdir()).glob(f"rlvr_verify_{os.getpid()}_*"))
    for parent in filter(None, (host_controls().memory_parent, host_controls().pids_parent)):
        assert not list(Path(parent).glob(f"rlvr-{os.getpid()}-*"))
    assert not [path for path in OUTSIDE if os.path.exists(path)]
    with contextlib.suppress(ChildProcessError):
        assert os.waitpid(-1, os.WNOHANG) == (0, 0), "a zombie"


def test_the_table_knows_the_whole_corpus():
    assert set(names("compile")) == set(COMPILE)
    assert set(RUN) <= set(names("run"))
    assert {name for group in ("compile", "run", "hack", "control") for name in names(group)} == set(INDEX)


@pytest.mark.parametrize("name", names("compile"))
def test_an_attack_on_the_compiler(verifier, name):
    result = judged(verifier, "compile", name)
    assert result.status in COMPILE[name], result.stderr
    assert "root:" not in result.stderr
    assert len(result.stderr) <= 64 << 10
    assert not re.search(r"\bHOME=|\bPATH=", result.stderr)
    if name in SUPPRESS:
        assert result.suppressions > 0
        assert result.warnings > 0 or result.status == "compile_error"
    if name == "ct_line_forge":
        assert {d.file for d in result.diagnostics if d.severity == "error"} == {"candidate.cpp"}
    assert compute_reward(result) == {"ok": 1.0, "wrong": 0.3 + 0.7 / 5}.get(
        result.status, 0.3 if result.compile_ok else 0.0
    )


@pytest.mark.parametrize("name", [name for name in names("run") if name not in WAITING])
def test_an_attack_on_the_machine(verifier, name):
    result = judged(verifier, "run", name)
    assert result.status in RUN.get(name, CONTAINED), result.stderr
    assert not ESCAPED.search(result.stdout), result.stdout
    if name == "rt_shm_channel":
        again = verifier.verify(Program(source("run", name) + "\n// a sibling", HARNESS["marker"]))
        assert "READ" not in again.stdout


def test_who_only_waits_is_ended_by_the_clock(verifier):
    programs = [Program(source("run", name), HARNESS["marker"]) for name in WAITING]
    with Verifier(compiler=verifier.toolchain.compiler, workers=len(WAITING), timeout=1.0) as together:
        results = dict(zip(WAITING, together.verify_many(programs), strict=True))
    assert {name: (result.status, result.limit) for name, result in results.items()} == dict.fromkeys(
        WAITING, ("timeout", "wall")
    )
    assert not any(ESCAPED.search(result.stdout) for result in results.values())


@pytest.mark.parametrize("kind", HARNESS)
@pytest.mark.parametrize("name", names("hack"))
def test_an_attack_on_the_verdict(verifier, name, kind):
    result = judged(verifier, "hack", name, kind)
    assert result.passed == (name == "hk_specialise_inputs")
    assert result.passed or result.tests_passed <= 2  # what the answers themselves are worth


@pytest.mark.parametrize("kind", HARNESS)
@pytest.mark.parametrize("name", names("control"))
def test_an_honest_program(verifier, name, kind):
    result = judged(verifier, "control", name, kind)
    assert (result.status, result.tests_passed) == (("wrong", 2) if name == "wrong_half" else ("ok", 5))
    assert result.tests_total == 5


@pytest.mark.parametrize("tier", [judge_apart, judge_as_one])
@pytest.mark.parametrize(("group", "name"), [(g, n) for g in ("hack", "control") for n in names(g)])
def test_the_weaker_tiers_on_their_own(verifier, tier, group, name):
    program = Program(source(group, name), count_assertions(HARNESS["marker"]), 5)
    with open_bench(program, verifier.workshop) as bench:
        judged = tier(bench)
    assert judged is not None
    status = judged.built.failure or judged.verdict.status
    if group == "control":
        assert status == ("wrong" if name == "wrong_half" else "ok"), judged.why
        assert judged.verdict.passed == (2 if name == "wrong_half" else 5)
    else:
        assert (status == "ok") == (name == "hk_specialise_inputs")


HIDDEN = """
#include <cstdio>
#include <vector>
std::vector<int> sorted_unique(std::vector<int> v);
int main() {
    int passed = 0;
    passed += sorted_unique({7, 6, 7}) == std::vector<int>{6, 7};
    passed += sorted_unique({0, -2}) == std::vector<int>{-2, 0};
    passed += sorted_unique({4, 4, 4, 4}) == std::vector<int>{4};
    std::printf("PASSED %d/3\\n", passed);
    return passed == 3 ? 0 : 1;
}
"""


def test_hidden_inputs_find_out_who_knows_the_visible_ones(verifier):
    cheat = Program(source("hack", "hk_specialise_inputs"), HARNESS["marker"], hidden_test=HIDDEN)
    honest = Program(source("control", "ok_reference"), HARNESS["marker"], hidden_test=HIDDEN)
    cheating, working = verifier.verify_many([cheat, honest])
    assert (cheating.status, cheating.tests_total) == ("wrong", 8)
    assert cheating.hidden_passed < cheating.hidden_total == 3
    assert (working.status, working.tests_passed, working.hidden_passed) == ("ok", 8, 3)


def test_a_sanitizer_cannot_be_switched_off_from_inside():
    with Verifier(workers=1, extra_flags=["-fsanitize=address,undefined"]) as verifier:
        result = judged(verifier, "hack", "hk_asan_default_options")
    assert result.status == "link_error"
