"""The four tiers, against the truth table."""

import json
from pathlib import Path

import pytest

from rlvr_cpp.reward.tiers import compute_reward
from rlvr_cpp.verifier.result import VerifyResult
from rlvr_cpp.verifier.verdict import read_verdict
from rlvr_sandbox import Finished

TABLE = json.loads((Path(__file__).parents[2] / "data" / "curriculum_reward.json").read_text())["four_tier_reward"]


def result_of(row: dict) -> VerifyResult:
    """The result that the verifier makes of one row of the table."""
    if not row["compile_ok"]:
        return VerifyResult("compile_error", compile_ok=False, run_ok=False)
    if not row["ran"]:
        return VerifyResult("ok", compile_ok=True, run_ok=False, tests_total=row["declared_tests"])
    marker = f"PASSED {row['passed']}/{row['total']}\n" if row["nonce_marker"] else ""
    run = Finished("wall" if row["case"] == "timeout" else "exit", row["rc"], marker.encode())
    verdict = read_verdict(run, row["declared_tests"] > 0, row["declared_tests"] or None)
    return VerifyResult(
        verdict.status,
        compile_ok=True,
        run_ok=row["rc"] == 0,
        returncode=row["rc"],
        stdout=marker,
        tests_passed=verdict.passed,
        tests_total=verdict.total,
    )


@pytest.mark.parametrize("row", TABLE, ids=[row["case"] for row in TABLE])
def test_truth_table(row):
    assert compute_reward(result_of(row)) == pytest.approx(row["reward"], abs=1e-12)


def test_infrastructure_trouble_is_unscorable():
    assert compute_reward(VerifyResult("sandbox_error", False, False)) is None


def test_a_full_pass_is_exactly_one():
    assert compute_reward(VerifyResult("ok", True, True, 0, tests_passed=7, tests_total=7)) == 1.0


def test_every_pass_more_is_worth_more():
    rewards = [compute_reward(VerifyResult("wrong", True, False, 1, tests_passed=n, tests_total=10)) for n in range(10)]
    assert rewards == sorted(set(rewards))
