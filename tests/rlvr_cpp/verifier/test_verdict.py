"""Reading the marker strictly: whatever contradicts itself is no verdict."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlvr_cpp.verifier.verdict import WORKER_GONE, WORKER_LIED, read_oracle, read_verdict
from rlvr_sandbox import Finished


def finished(stdout: bytes = b"", returncode: int = 0, timed_out: bool = False, cut: bool = False) -> Finished:
    ended = "wall" if timed_out else "output" if cut else "signal" if returncode < 0 else "exit"
    return Finished(ended, returncode, stdout, output_cut=cut)


@pytest.mark.parametrize(
    ("stdout", "returncode", "status", "passed"),
    [
        (b"PASSED 5/5\n", 0, "ok", 5),
        (b"noise\nPASSED 5/5\r\n\n", 0, "ok", 5),
        (b"PASSED 3/5\n", 1, "wrong", 3),
        (b"PASSED 0/5\n", 1, "wrong", 0),
        (b"PASSED 5/5\n", 1, "forged", 0),
        (b"PASSED 3/5\n", 0, "forged", 0),
        (b"PASSED 6/5\n", 0, "forged", 0),
        (b"PASSED 9/9\n", 0, "forged", 0),
        (b"PASSED 9999/9999\n", 0, "forged", 0),
        (b"PASSED 0/0\n", 0, "forged", 0),
        (b"", 0, "forged", 0),
        (b"PASSED 5/5\nmore\n", 0, "forged", 0),
        (b"PASSED 5/5\nPASSED 5/5\n", 0, "ambiguous", 0),
        (b"PASSED 5/5\nPASSED 3/5\n", 1, "ambiguous", 0),
        (b"", 1, "run_error", 0),
        (b" PASSED 5/5\n", 1, "run_error", 0),
        ("PASSED ٥/٥\n".encode(), 1, "run_error", 0),
        (b"PASSED 5/5\n", -11, "run_error", 0),
    ],
)
def test_five_declared_tests(stdout, returncode, status, passed):
    verdict = read_verdict(finished(stdout, returncode), has_tests=True, declared=5)
    assert (verdict.status, verdict.passed) == (status, passed)
    assert verdict.total == 5


@pytest.mark.parametrize(("run", "status"), [({"timed_out": True}, "timeout"), ({"cut": True}, "output_limit")])
def test_a_limit_outranks_a_full_score(run, status):
    assert read_verdict(finished(b"PASSED 5/5\n", **run), True, 5).status == status


def test_without_tests_the_exit_status_decides():
    assert read_verdict(finished(), has_tests=False, declared=None).status == "ok"
    assert read_verdict(finished(returncode=1), has_tests=False, declared=None).status == "run_error"


def test_an_undeclared_count_is_the_harnesss_own():
    verdict = read_verdict(finished(b"PASSED 7/9\n", 1), has_tests=True, declared=None)
    assert (verdict.status, verdict.passed, verdict.total) == ("wrong", 7, 9)
    assert read_verdict(finished(b"PASSED 1001/1001\n"), True, None).status == "forged"


@given(st.binary(max_size=60), st.integers(-30, 255), st.integers(1, 1000))
def test_never_claims_more_than_was_declared(stdout, returncode, declared):
    verdict = read_verdict(finished(stdout, returncode), True, declared)
    assert 0 <= verdict.passed <= verdict.total == declared
    assert verdict.passed == 0 or verdict.status in ("ok", "wrong")
    assert verdict.status != "ok" or (returncode == 0 and verdict.passed == declared)


WAITING = finished()  # a worker that served to the end of its input


@pytest.mark.parametrize(
    ("oracle", "worker", "status"),
    [
        (finished(b"PASSED 5/5\n"), WAITING, "ok"),
        (finished(b"PASSED 3/5\n", 1), WAITING, "wrong"),
        (finished(b"PASSED 5/5\n"), finished(b"PASSED 5/5\n"), "ok"),
        (finished(b"PASSED 3/5\n", 1), finished(b"debug\nPASSED 5/5\n"), "forged"),
        (finished(returncode=WORKER_GONE), finished(returncode=0), "forged"),
        (finished(returncode=WORKER_LIED), finished(returncode=0), "forged"),
        (finished(returncode=WORKER_LIED), finished(returncode=1), "forged"),
        (finished(returncode=WORKER_LIED), finished(returncode=-11), "forged"),
        (finished(returncode=WORKER_GONE), finished(returncode=3), "run_error"),
        (finished(returncode=WORKER_GONE), finished(returncode=-11), "run_error"),
        (finished(returncode=WORKER_GONE), finished(returncode=-9, timed_out=True), "timeout"),
        (finished(returncode=WORKER_GONE), finished(returncode=-9, cut=True), "output_limit"),
        (finished(returncode=WORKER_GONE), Finished("memory", -9), "memory_limit"),
        (finished(returncode=WORKER_GONE), Finished("killed", -9), "forged"),
        (finished(b"PASSED 5/5\n"), Finished("killed", -9), "ok"),
        (finished(returncode=-6), WAITING, "run_error"),
    ],
)
def test_an_oracle_believes_only_itself(oracle, worker, status):
    verdict = read_oracle(oracle, worker, declared=5)
    assert verdict.status == status
    assert verdict.total == 5
    assert (verdict.passed == 5) == (status == "ok")
