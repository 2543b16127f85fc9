"""The order that shaping must keep, which group is measured, and what a real compiler and real sanitizers add."""

import dataclasses
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlvr_cpp import Program, UserError, Verifier, VerifyResult
from rlvr_cpp.reward import shaping as shaping_module
from rlvr_cpp.reward.shaping import CompilerRewardShaper, comparable
from rlvr_cpp.reward.terms import Measured, ShapingWeights, is_sampled, shaped_reward
from rlvr_cpp.verifier.toolchain.tidy import find_tidy

needs_tidy = pytest.mark.skipif(find_tidy() is None, reason="clang-tidy is not installed")

MEASURED = st.builds(
    Measured,
    speed=st.none() | st.floats(0.01, 100),
    sanitizer=st.none() | st.booleans(),
    tidy=st.none() | st.integers(0, 200),
)
WARNINGS = st.integers(0, 30)
TOTALS = st.integers(1, 1000)


@st.composite
def weights(draw) -> ShapingWeights:
    left, parts = 100, {}
    for name in draw(st.permutations(["compile", "run", "test", "speed", "sanitizer", "tidy"])):
        lowest = 1 if name == "test" else 0
        kept_for_test = 0 if "test" in parts or name == "test" else 1
        parts[name] = draw(st.integers(lowest, left - kept_for_test))
        left -= parts[name]
    parts |= {"warning": draw(st.integers(0, 30)), "warning_cap": draw(st.integers(0, 100))}
    return ShapingWeights(**{name: hundredths / 100 for name, hundredths in parts.items()})


@st.composite
def results(draw) -> VerifyResult:
    """Whatever the verifier may say."""
    total = draw(st.integers(0, 1000))
    status = draw(st.sampled_from(["ok", "wrong", "compile_error", "link_error", "forged", "ambiguous", "timeout"]))
    passed = total if status == "ok" else 0
    if status == "wrong":
        total = max(1, total)
        passed = total - draw(st.just(1) | st.integers(1, total))
    return VerifyResult(
        status,
        compile_ok=status not in ("compile_error", "link_error"),
        run_ok=status == "ok",
        returncode=draw(st.sampled_from([None, 0, 1, -11])) if status != "wrong" else 1,
        tests_passed=passed,
        tests_total=total,
        warnings=draw(WARNINGS),
    )


def ran(passed: int, total: int, warnings: int = 0) -> VerifyResult:
    passes = passed == total
    return VerifyResult(
        "ok" if passes else "wrong",
        True,
        passes,
        int(not passes),
        tests_passed=passed,
        tests_total=total,
        warnings=warnings,
    )


@given(results(), TOTALS, WARNINGS, MEASURED, MEASURED, weights())
def test_a_pass_always_outranks_a_failure(other, total, warnings, measured, others, weights):
    if other.status != "ok":
        passing = shaped_reward(ran(total, total, warnings), measured, weights)
        assert passing.value > shaped_reward(other, others, weights).value


@given(TOTALS, TOTALS, weights())
def test_the_worst_pass_outranks_the_best_failure(total, others_total, weights):
    worst = shaped_reward(ran(total, total, warnings=999), Measured(0.1, False, 100), weights)
    best = shaped_reward(ran(others_total - 1, others_total), Measured(10.0, True, 0), weights)
    assert worst.value >= round(best.value + 0.01, 2)


@given(st.data(), TOTALS, weights())
def test_more_tests_never_score_lower(data, total, weights):
    fewer = data.draw(st.integers(0, total - 1))
    more = data.draw(st.integers(fewer + 1, total))
    low, high = (
        shaped_reward(ran(passed, total, data.draw(WARNINGS)), data.draw(MEASURED), weights) for passed in (fewer, more)
    )
    assert low.value <= high.value


@given(results(), MEASURED, weights())
def test_values_stay_in_bounds_and_on_the_grid_and_are_the_sum_of_their_terms(result, measured, weights):
    reward = shaped_reward(result, measured, weights)
    assert (weights.compile if result.compile_ok else 0.0) <= reward.value <= 1.0
    assert reward.value == round(reward.value, 2)
    assert sum(reward.terms.values()) == pytest.approx(reward.value, abs=1e-9)
    assert result.compile_ok or reward.value == 0.0


@given(results(), MEASURED, weights(), st.integers(1, 5))
def test_a_warning_more_never_pays(result, measured, weights, more):
    worse = dataclasses.replace(result, warnings=result.warnings + more)
    assert shaped_reward(worse, measured, weights).value <= shaped_reward(result, measured, weights).value


@given(results(), weights())
def test_only_a_pass_has_the_terms_of_style(result, weights):
    measured = Measured(2.0, True, 0)
    if result.status != "ok" or result.returncode is None or not result.tests_total:
        assert shaped_reward(result, measured, weights).terms.keys() <= {"compile", "run", "test", "warning"}


@pytest.mark.parametrize(
    ("result", "measured", "value", "terms"),
    [
        (ran(4, 4), Measured(), 1.0, {"unmeasured": 0.20}),
        (ran(4, 4), Measured(1.3, True, 0), 1.0, {"speed": 0.05, "sanitizer": 0.10, "tidy": 0.05, "unmeasured": 0.0}),
        (ran(4, 4), Measured(sanitizer=False), 0.90, {"sanitizer": 0.0, "unmeasured": 0.10}),
        (ran(4, 4), Measured(tidy=2), 0.98, {"tidy": 0.03}),
        (ran(4, 4), Measured(tidy=100), 0.95, {"tidy": 0.0}),
        (ran(4, 4, warnings=3), Measured(), 0.94, {"warning": -0.06}),
        (ran(4, 4, warnings=99), Measured(), 0.85, {"warning": -0.15}),
        (ran(4, 4, warnings=99), Measured(0.1, False, 3), 0.80, {"warning": -0.02}),
        (ran(2, 4), Measured(), 0.65, {"compile": 0.30, "run": 0.20, "test": 0.15, "warning": 0.0}),
        (ran(2, 4, warnings=2), Measured(), 0.61, {"warning": -0.04}),
        (ran(2, 4, warnings=99), Measured(), 0.57, {"warning": -0.08}),
        (ran(0, 4, warnings=99), Measured(), 0.35, {"warning": -0.15}),
        (ran(999, 1000), Measured(), 0.79, {"test": 0.29}),
        (VerifyResult("ok", True, True, 0), Measured(), 0.50, {"run": 0.20}),
        (VerifyResult("ok", True, True, None, tests_total=4), Measured(), 0.30, {"compile": 0.30}),
    ],
)
def test_some_rewards_by_hand(result, measured, value, terms):
    reward = shaped_reward(result, measured)
    assert reward.value == value
    assert {name: reward.terms[name] for name in terms} == terms


@pytest.mark.parametrize(
    "status", ["forged", "ambiguous", "policy", "run_error", "timeout", "memory_limit", "output_limit"]
)
def test_a_run_without_an_honest_verdict_has_the_compile_floor_alone(status):
    result = VerifyResult(status, True, False, 0, tests_passed=3, tests_total=4, warnings=7)
    assert shaped_reward(result, Measured(2.0, True, 0)).value == 0.30


def test_infrastructure_trouble_is_unscorable():
    reward = shaped_reward(VerifyResult("sandbox_error", False, False))
    assert reward.value is None
    assert reward.terms == {}


@pytest.mark.parametrize(
    ("ratio", "credit"), [(1.25, 0.05), (100.0, 0.05), (1.24, 0.02), (0.81, 0.02), (0.8, 0.0), (0.1, 0.0)]
)
def test_speed_comes_in_three_sizes(ratio, credit):
    assert shaped_reward(ran(4, 4), Measured(speed=ratio)).terms["speed"] == credit


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"tidy": 0.055}, "tidy is 0.055: it must be in whole hundredths between 0.00 and 1"),
        ({"warning": -0.02}, "warning is -0.02: "),
        ({"test": 0.0}, "test is 0.0: it must be in whole hundredths between 0.01 and 1"),
        ({"speed": float("nan")}, "speed is nan: "),
        ({"run": "0.2"}, "run is '0.2': "),
        ({"sanitizer": True}, "sanitizer is True: "),
        ({"speed": 0.06}, "compile, run, test, speed, sanitizer, tidy add up to 1.01: lower some"),
    ],
)
def test_weights_that_make_no_sense_are_refused(fields, problem):
    with pytest.raises(UserError, match=f"^{problem}"):
        ShapingWeights(**fields)


def test_the_positive_weights_add_up_to_one():
    weight = dataclasses.asdict(ShapingWeights())
    assert sum(value for name, value in weight.items() if not name.startswith("warning")) == pytest.approx(1.0)


def test_groups_are_drawn_by_seed_term_and_name():
    names = [f"task-{i}" for i in range(4000)]
    drawn = {term: {n for n in names if is_sampled(7, term, n, 0.1)} for term in ("sanitizer", "tidy")}
    assert all(300 < len(groups) < 500 for groups in drawn.values())
    assert drawn["sanitizer"] != drawn["tidy"]
    assert drawn["tidy"] == {n for n in names if is_sampled(7, "tidy", n, 0.1)}
    assert drawn["tidy"] < {n for n in names if is_sampled(7, "tidy", n, 0.2)}
    assert drawn["tidy"] != {n for n in names if is_sampled(8, "tidy", n, 0.1)}
    assert all(is_sampled(7, "tidy", n, 1.0) for n in names)
    assert not any(is_sampled(7, "tidy", n, 0.0) for n in names)


def test_what_failed_for_one_is_left_out_for_its_whole_group():
    measured = {0: False, 1: None, 3: True, 4: False}
    assert comparable(measured, ["a", "a", "a", "b", "b"]) == {3: True, 4: False}


# With a real compiler from here on.

HARNESS = """
#include <cstdio>
int main() {
    int passed = (twice(1) == 2) + (twice(3) == 6);
    std::printf("PASSED %d/2\\n", passed);
    return passed == 2 ? 0 : 1;
}
"""
CLEAN = "int twice(int x) { return 2 * x; }"
WRONG = "int twice(int x) { return x + 1; }"
OVERFLOW = "int twice(int x) { int v[2] = {x, x}; volatile int i = 2; return v[0] + v[1] + 0 * v[i]; }"
SHIFT = "int twice(int x) { volatile int bits = 40; return 2 * x + 0 * (x << bits); }"


def task(code: str) -> Program:
    return Program(code, HARNESS, 2)


@pytest.fixture(scope="module", params=["g++", "clang++"])
def verifier(request):
    if shutil.which(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    with Verifier(compiler=request.param, workers=2, timeout=5.0) as verifier:
        yield verifier


@pytest.fixture(scope="module")
def sanitizing(verifier):
    try:
        shaper = CompilerRewardShaper(verifier, sanitizer_fraction=1.0, tidy_fraction=0.0)
    except UserError as error:
        pytest.skip(f"no sanitizers here: {error}")
    with shaper:
        yield shaper


@pytest.fixture(scope="module")
def gxx():
    with Verifier(workers=2, timeout=5.0) as verifier:
        yield verifier


@pytest.fixture
def plain(gxx):
    """A shaper that needs nothing but results."""
    with CompilerRewardShaper(gxx, sanitizer_fraction=0.0, tidy_fraction=0.0) as shaper:
        yield shaper


def score(shaper, codes, groups, **options):
    programs = [task(code) for code in codes]
    return shaper.score_many(programs, shaper.verifier.verify_many(programs), groups, **options)


@pytest.mark.parametrize("code", [OVERFLOW, SHIFT])
def test_undefined_behaviour_that_passes_its_tests_loses_the_sanitizers_term_and_only_that(code, sanitizing):
    clean, unclean, wrong = score(sanitizing, [CLEAN, code, WRONG], ["g"] * 3)
    assert clean.value == 1.0
    assert unclean.value == 0.9
    assert unclean.terms == {**clean.terms, "sanitizer": 0.0}
    assert "sanitizer" not in wrong.terms


@pytest.mark.parametrize(
    "evasion",
    [
        '__attribute__((no_sanitize("address"), no_sanitize("undefined"))) ',
        '__attribute__((no_sani\\\ntize("address"), no_sani\\\ntize("undefined"))) ',
        'extern "C" const char* __asan_default_options() { return "exitcode=0"; }\n',
        "#ifdef __SANITIZE_ADDRESS__\n#define volatile\n#endif\n",
    ],
)
def test_who_escapes_the_sanitizers_is_not_clean(evasion, sanitizing):
    (reward,) = score(sanitizing, [evasion + OVERFLOW], ["g"])
    assert reward.terms["sanitizer"] == 0.0


def test_a_group_is_sampled_whole(gxx):
    groups = [f"prompt-{i // 2}" for i in range(24)]
    with CompilerRewardShaper(gxx, sanitizer_fraction=0.5, tidy_fraction=0.0) as shaper:
        rewards = score(shaper, [CLEAN, OVERFLOW] * 12, groups)
        again = score(shaper, [CLEAN, OVERFLOW] * 12, groups)
    examined = [["sanitizer" in reward.terms for reward in rewards[i : i + 2]] for i in range(0, 24, 2)]
    assert all(first == second for first, second in examined)
    assert {first for first, _ in examined} == {True, False}
    assert rewards == again


def test_a_sanitizer_that_the_machine_failed_is_left_out_for_the_group(gxx, monkeypatch):
    with CompilerRewardShaper(gxx, sanitizer_fraction=1.0, tidy_fraction=0.0) as shaper:
        endings = {CLEAN: ran(2, 2), OVERFLOW: VerifyResult("sandbox_error", False, False)}
        monkeypatch.setattr(shaper._sanitizing, "verify_many", lambda programs: [endings[p.code] for p in programs])
        rewards = score(shaper, [CLEAN, OVERFLOW, CLEAN], ["a", "a", "b"])
    assert [sorted(reward.terms) for reward in rewards[:2]] == [["compile", "run", "test", "unmeasured", "warning"]] * 2
    assert rewards[2].terms["sanitizer"] == 0.10
    assert shaper.left_out["sanitizer"] == 1


def timed(seconds: float, passes: bool = True) -> VerifyResult:
    return dataclasses.replace(ran(2 if passes else 0, 2), timings={"run_cpu": seconds})


@pytest.mark.parametrize(
    ("reference", "candidate", "credit"),
    [
        ([0.10, 0.10, 0.10], [0.05, 0.05, 0.05], 0.05),
        ([0.10, 0.10, 0.10], [0.11, 0.10, 0.09], 0.02),
        ([0.10, 0.10, 0.10], [0.20, 0.20, 0.20], 0.0),
        ([0.10, 0.90, 0.10], [0.90, 0.10, 0.10], 0.02),  # a median, on both sides
        ([0.024], [0.001], 0.02),  # what is too short counts as 20 ms
        ([0.019], [0.001], None),
        ([0.019], [9.0], None),
        ([0.10, 0.10, None], [0.10], None),
        ([None], [0.10], None),
        ([0.10, 0.10, 0.10], [0.10, None], None),
    ],
)
def test_speed_is_measured_against_the_reference(reference, candidate, credit, plain, monkeypatch):
    runs = {"reference": iter([*reference, *reference[-1:] * 2]), "candidate": iter([*candidate[1:], 0.1, 0.1])}

    def judge(program, workshop):
        seconds = next(runs[program.code])
        return timed(seconds or 0.0, passes=seconds is not None)

    monkeypatch.setattr(shaping_module, "judge", judge)
    references = {"g": Program("reference", HARNESS, 2)}
    programs = [Program("candidate", HARNESS, 2), Program("loses", HARNESS, 2)]
    reward, failure = plain.score_many(programs, [timed(candidate[0]), timed(1.0, False)], ["g", "g"], references)
    assert reward.terms.get("speed") == credit
    assert reward.value == pytest.approx(1.0 if credit is None else 0.95 + credit)
    assert "speed" not in failure.terms


def test_runs_are_really_repeated(gxx):
    slow = "int twice(int x) { volatile int sum = 0; for (int i = 0; i < 100000000; ++i) sum = sum + 1; return 2 * x; }"
    with CompilerRewardShaper(gxx, sanitizer_fraction=0.0, tidy_fraction=0.0) as shaper:
        reward = shaper(task(CLEAN), reference=task(slow))
    assert reward.terms["speed"] == 0.05


def test_without_a_reference_speed_is_not_measured(plain):
    (reward,) = score(plain, [CLEAN], ["g"])
    assert reward.terms["unmeasured"] == 0.20


def test_an_unscorable_member_has_no_value_and_changes_nothing_for_the_others(plain):
    results = [VerifyResult("sandbox_error", False, False), ran(2, 2), ran(1, 2)]
    rewards = plain.score_many([task(CLEAN)] * 3, results, ["g"] * 3)
    assert [reward.value for reward in rewards] == [None, 1.0, 0.65]


@needs_tidy
def test_what_clang_tidy_finds_costs_the_same_with_nolint(gxx):
    loud = "int* none() { return 0; }\n"
    with CompilerRewardShaper(gxx, sanitizer_fraction=0.0, tidy_fraction=1.0) as shaper:
        clean, found, hidden = score(shaper, [CLEAN, CLEAN + loud, CLEAN + loud[:-1] + " // NOLINT\n"], ["g"] * 3)
    assert clean.terms["tidy"] == 0.05
    assert found.terms["tidy"] == hidden.terms["tidy"] == 0.04
    assert found.value == hidden.value == 0.99


@needs_tidy
def test_one_program_is_measured_whatever_the_fractions(gxx):
    with CompilerRewardShaper(gxx, sanitizer_fraction=0.001, tidy_fraction=0.001) as shaper:
        terms = shaper(task(CLEAN)).terms
    assert {name: terms[name] for name in ("sanitizer", "tidy", "unmeasured")} == {
        "sanitizer": 0.10,
        "tidy": 0.05,
        "unmeasured": 0.05,
    }


def test_a_missing_clang_tidy_is_one_clear_error(gxx, monkeypatch):
    monkeypatch.setattr(shaping_module, "find_tidy", lambda: None)
    with pytest.raises(UserError, match=r"^tidy_fraction is above 0 but clang-tidy was not found on PATH: install it"):
        CompilerRewardShaper(gxx, sanitizer_fraction=0.0)


def test_terms_that_are_worth_nothing_need_nothing(gxx, monkeypatch):
    monkeypatch.setattr(shaping_module, "find_tidy", lambda: None)
    monkeypatch.setattr(shaping_module, "Verifier", None)
    with CompilerRewardShaper(gxx, ShapingWeights(sanitizer=0.0, tidy=0.0)) as shaper:
        assert score(shaper, [CLEAN], ["g"])[0].value == 0.85


@pytest.mark.parametrize("fraction", [-0.1, 1.5, float("nan"), "all"])
def test_a_fraction_that_makes_no_sense_is_refused(fraction, gxx):
    with pytest.raises(UserError, match=r"^sanitizer_fraction is .*: it must be a fraction of the groups"):
        CompilerRewardShaper(gxx, sanitizer_fraction=fraction)
