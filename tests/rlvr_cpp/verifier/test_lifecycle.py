"""Verifiers that are closed, cancelled, killed, forked and late: nothing is left, and nothing of it is a score."""

import asyncio
import contextlib
import os
import signal
import subprocess
import threading

import pytest

from rlvr_cpp import Program, Verifier, compute_reward


def launchers() -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(os.getpid()), "-f", "rlvr-cpp/launcher"], capture_output=True, text=True)
    return [int(pid) for pid in found.stdout.split()]


def kill_launchers(times: int, done: threading.Event) -> None:
    """Kill the first launchers that appear."""
    killed: set[int] = set()
    while len(killed) < times and not done.is_set():
        for pid in set(launchers()) - killed:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            killed.add(pid)


@pytest.mark.parametrize(("times", "status"), [(1, "ok"), (2, "sandbox_error")])
def test_a_killed_launcher_is_tried_once_more_and_is_never_a_score(times, status):
    slow = Program("#include <unistd.h>\nint main() { usleep(300000); }")
    with Verifier(workers=1) as verifier:
        verifier.verify(Program("int main() {}"))  # the probes are over
        done = threading.Event()
        killer = threading.Thread(target=kill_launchers, args=(times, done))
        killer.start()
        result = verifier.verify(slow)
        done.set()
        killer.join()
    assert result.status == status
    assert (compute_reward(result) is None) == (status == "sandbox_error")


def test_closing_leaves_no_thread_and_no_process():
    before = threading.active_count()
    verifier = Verifier(workers=2)
    verifier.verify_many([Program(f"int main() {{ return {n}; }}") for n in range(4)])
    verifier.close()
    assert threading.active_count() == before
    assert launchers() == []


def test_a_closed_verifier_says_so():
    verifier = Verifier(workers=1)
    verifier.close()
    with pytest.raises(RuntimeError, match="closed"):
        verifier.verify_many([Program("int main() {}")])


ENDLESS = "#include <unistd.h>\nint main() { for (;;) pause(); }"


def test_the_deadline_of_a_batch_stops_what_is_late():
    programs = [Program("int main() {}"), *(Program(f"{ENDLESS} // {n}") for n in range(4))]
    with Verifier(workers=2, timeout=500.0) as verifier:
        verifier.verify_many(programs[:1])
        results = verifier.verify_many(programs, deadline=2.0)
        assert [r.status for r in results] == ["ok"] + ["sandbox_error"] * 4
        assert launchers() == []
        assert verifier.verify_many(programs[:1])[0].status == "ok"


def test_another_thread_may_close_it_while_it_works():
    verifier = Verifier(workers=1, timeout=500.0)
    timer = threading.Timer(1.0, verifier.close)
    timer.start()
    assert verifier.verify(Program(ENDLESS)).status == "sandbox_error"
    timer.join()
    assert launchers() == []


def test_an_event_loop_can_wait_for_it_and_cancel_it():
    async def wait_and_cancel(verifier: Verifier) -> str:
        good = await verifier.verify_many_async([Program("int main() {}")])
        task = asyncio.create_task(verifier.verify_many_async([Program(ENDLESS)]))
        await asyncio.wait([task], timeout=1.0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return good[0].status

    with Verifier(workers=1, timeout=500.0) as verifier:
        assert asyncio.run(wait_and_cancel(verifier)) == "ok"
        assert launchers() == []


def test_it_works_in_a_forked_child():
    with Verifier(workers=1) as verifier:
        verifier.verify(Program("int main() { return 1; }"))
        child = os.fork()
        if child == 0:
            os._exit(0 if verifier.verify(Program("int main() { return 2; }")).returncode == 2 else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
