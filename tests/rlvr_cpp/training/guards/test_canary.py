"""A judge that lies is found by two programs whose verdict is known, and one that works is believed."""

import pytest

from rlvr_cpp.training.guards.canary import canary_due, canary_finding
from rlvr_cpp.verifier.result import VerifyResult
from rlvr_cpp.verifier.verifier import Verifier


class Liar:
    """A judge that gives every program the same result."""

    def __init__(self, **result):
        self.result = VerifyResult(**{"status": "ok", "compile_ok": True, "run_ok": True, **result})
        self.texts = set()

    def verify_many(self, programs):
        programs = list(programs)
        self.texts.update(program.code for program in programs)
        return [self.result] * len(programs)


def test_a_judge_that_works_passes_its_canaries_each_time_anew(tmp_path):
    for _ in range(2):  # the second verifier finds the results of the first in its cache
        with Verifier(workers=2, timeout=2.0, cache=tmp_path / "results") as verifier:
            assert canary_finding(verifier, 0) is None
            assert canary_finding(verifier, 0) is None


@pytest.mark.parametrize("status", ["ok", "wrong", "compile_error", "timeout", "forged"])
def test_a_judge_with_one_answer_for_all_is_found(status):
    finding = canary_finding(Liar(status=status), 40)
    assert finding.fatal
    assert f"`{status}`" in finding.message
    assert "step 40" in finding.message
    assert not canary_finding(Liar(status=status), 40, action="warn").fatal


def test_an_answer_from_a_cache_is_no_judgement():
    assert "cache" in canary_finding(Liar(cache_hit=True), 20).message


def test_every_canary_is_a_new_text():
    liar = Liar()
    for _ in range(3):
        canary_finding(liar, 0)
    assert len(liar.texts) == 6


@pytest.mark.parametrize(
    ("options", "verdict"),
    [
        ({"timeout": 1e-4, "compile_timeout": 1e-3}, "judged `"),
        ({"extra_flags": ["-fno-such-flag"]}, "judged `compile_error` (g++: error: unrecognized"),
    ],
    ids=["no time", "a flag it does not know"],
)
def test_a_verifier_that_fails_everything_is_found(options, verdict):
    with Verifier(workers=2, **options) as verifier:
        finding = canary_finding(verifier, 0)
    assert finding.fatal
    assert f"a program that must pass was {verdict}" in finding.message


def test_infrastructure_that_cannot_judge_a_canary_stops_at_the_start_only():
    broken = Liar(status="sandbox_error", stderr="sandbox: no process left\n")
    assert canary_finding(broken, 0).fatal
    assert not canary_finding(broken, 20).fatal
    assert "(sandbox: no process left)" in canary_finding(broken, 20).message


def test_canaries_are_due_at_the_start_and_every_so_many_steps():
    assert [step for step in range(50) if canary_due(step, 20)] == [0, 20, 40]
    assert [step for step in range(50) if canary_due(step, None)] == [0]
