"""How a run's evaluations become its curve."""

from rlvr_cpp.evaluation.attempts import Attempt, Evaluation
from rlvr_cpp.policy.completers import Kind
from rlvr_cpp.training.run import Curve
from rlvr_cpp.verifier.result import VerifyResult

PASS = VerifyResult("ok", True, True, 0, tests_passed=1, tests_total=1)
FAIL = VerifyResult("wrong", True, False, 1, tests_total=1)


def evaluation(greedy, *samples):
    rows: list[tuple[Kind, int, list[VerifyResult]]] = [
        ("greedy", 0, greedy),
        *(("sampled", number, row) for number, row in enumerate(samples)),
    ]
    return Evaluation(
        tuple(
            Attempt(kind=kind, task_id=f"t{i}", sample=n, completion="", result=r)
            for kind, n, row in rows
            for i, r in enumerate(row)
        )
    )


def test_every_evaluation_is_a_point_of_the_curve_with_its_pass_at_k():
    curve = Curve([], [], [])
    curve.note(0, evaluation([FAIL, PASS]))
    curve.note(10, evaluation([PASS, PASS], [PASS, FAIL], [FAIL, FAIL]))
    assert curve.facts() == {
        "greedy_by_step": [(0, 0.5), (10, 1.0)],
        "pass_at_k_by_step": [(10, {"1": 0.25, "2": 0.5})],
    }
