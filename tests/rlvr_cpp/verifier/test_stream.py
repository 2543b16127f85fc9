"""Programs that are judged one by one, while others are still on their way."""

import contextlib
import dataclasses
import os
import subprocess
import threading
import time

import pytest

from rlvr_cpp import Case, Program, UserError, Verifier

HARNESS = """
#include <cstdio>
int main() {
    int passed = (twice(1) == 2) + (twice(3) == 6);
    std::printf("PASSED %d/2\\n", passed);
    return passed == 2 ? 0 : 1;
}
"""
ENDLESS = "#include <unistd.h>\nint main() { for (;;) pause(); }"
BODIES = ("2 * x", "x + 1", "y", "2 * x", "x / (x - x)")


@pytest.fixture
def verifier():
    with Verifier(workers=2, timeout=2.0) as verifier:
        yield verifier


def returning(number: int, note: str = "") -> Program:
    return Program(f"int main() {{ return {number}; }} // {note}")


def launchers() -> list[str]:
    found = subprocess.run(["pgrep", "-P", str(os.getpid()), "-f", "rlvr-cpp/launcher"], capture_output=True, text=True)
    return found.stdout.split()


def test_results_come_in_the_order_of_submission(verifier):
    slow = Program("#include <unistd.h>\nint main() { usleep(300000); return 1; }")
    with verifier.stream() as stream:
        for program in (slow, returning(2), returning(3), returning(4)):
            stream.submit(program)
        assert [result.returncode for result in stream.results()] == [1, 2, 3, 4]


def test_an_empty_stream_has_no_results(verifier):
    with verifier.stream() as stream:
        assert stream.results() == []
        assert stream.seconds == 0.0


def test_a_stream_says_what_verify_many_says(verifier):
    programs = [Program(f"int twice(int x) {{ return {body}; }}", HARNESS, 2) for body in BODIES]
    with verifier.stream() as stream:
        for program in programs:
            stream.submit(program)
        streamed = stream.results()
    with Verifier(workers=2, timeout=2.0) as other:
        many = other.verify_many(programs)
        assert other.endings == verifier.endings
    assert [r.status for r in streamed] == ["ok", "wrong", "compile_error", "ok", "run_error"]
    assert [r.cache_hit for r in streamed] == [False, False, False, True, False]
    assert without_times(streamed) == without_times(many)


def without_times(results):
    return [dataclasses.replace(result, timings={}) for result in results]


def test_equal_programs_are_judged_once_even_in_flight(verifier):
    program = Program("#include <unistd.h>\nint main() { usleep(200000); }")
    seen = []
    with verifier.stream() as stream:
        for _ in range(4):
            stream.submit(program)
        results = stream.results(lambda: seen.append(1))
    assert [r.cache_hit for r in results] == [False, True, True, True]
    assert {tuple(r.timings.items()) for r in results} == {tuple(results[0].timings.items())}
    assert len(seen) == 4
    assert verifier.endings == {"ok": 4}


def test_what_timed_out_is_judged_once_and_not_remembered(verifier):
    endless = Program("int main() { for (volatile int i = 0;; ++i) {} }")
    for _ in range(2):
        with verifier.stream() as stream:
            stream.submit(endless)
            stream.submit(endless)
            assert [(r.status, r.cache_hit) for r in stream.results()] == [("timeout", False), ("timeout", True)]


def test_streams_and_batches_share_what_is_known(verifier):
    verifier.verify(returning(1))
    with verifier.stream() as stream:
        stream.submit(returning(1))
        stream.submit(returning(2))
        assert [r.cache_hit for r in stream.results()] == [True, False]
    assert verifier.verify(returning(2)).cache_hit


def test_what_was_judged_before_an_interruption_is_remembered(verifier):
    def interrupted() -> None:
        raise KeyboardInterrupt

    with verifier.stream() as stream:
        stream.submit(returning(5))
        with pytest.raises(KeyboardInterrupt):
            stream.results(interrupted)
    assert verifier.verify(returning(5)).cache_hit


def test_a_checker_of_ones_own_is_asked_every_time(verifier):
    asked = []

    def equal(stdin: str, expected: str, actual: str) -> bool:
        asked.append(actual)
        return expected == actual

    program = Program(
        '#include <cstdio>\nint main() { std::fputs("1", stdout); }', cases=(Case("", "1"),), checker=equal
    )
    for _ in range(2):
        with verifier.stream() as stream:
            stream.submit(program)
            assert [(r.status, r.cache_hit) for r in stream.results()] == [("ok", False)]
    assert asked == ["1", "1"]


def announcing(judged: threading.Event) -> Program:
    """A program whose output is looked at by a checker that says so."""
    case = Case("", "1")
    code = '#include <cstdio>\nint main() { std::fputs("1", stdout); }'
    return Program(code, cases=(case,), checker=lambda *_: judged.set() is None)


def test_programs_are_judged_while_others_are_still_to_come(verifier):
    judged = threading.Event()
    with verifier.stream() as stream:
        stream.submit(announcing(judged))
        assert judged.wait(30.0)
        stream.submit(returning(7))
        assert [(r.status, r.returncode) for r in stream.results()] == [("ok", 0), ("run_error", 7)]


def test_idle_time_and_the_programs_of_others_do_not_count(verifier):
    judged = threading.Event()
    with verifier.stream() as stream:
        stream.submit(announcing(judged))
        assert judged.wait(30.0)
        wait_until(lambda: stream.seconds == stream.seconds)
        seconds = stream.seconds
        verifier.verify(returning(9))
        assert stream.seconds == seconds > 0.0


def wait_until(holds) -> None:
    end = time.monotonic() + 30.0
    while not holds():
        assert time.monotonic() < end


def test_the_seconds_are_those_on_the_clock_with_something_to_judge(verifier):
    begin = time.monotonic()
    with verifier.stream() as stream:
        for number in range(2):
            stream.submit(Program(f"#include <unistd.h>\nint main() {{ usleep(500000); return {number}; }}"))
        stream.results()
        elapsed = time.monotonic() - begin
        assert 0.5 <= stream.seconds <= elapsed
        assert stream.seconds == stream.seconds


def test_what_is_known_takes_no_time_to_judge(verifier):
    verifier.verify(returning(8))
    with verifier.stream() as stream:
        stream.submit(returning(8))
        assert stream.results()[0].cache_hit
        assert stream.seconds == 0.0


def divide_by_zero_in(stream) -> None:
    for number in range(5):
        stream.submit(Program(f"{ENDLESS} // {number}"))
    wait_until(launchers)
    _ = 1 / 0


def test_an_exception_in_the_body_leaves_no_process():
    before = threading.active_count()
    with Verifier(workers=2, timeout=500.0) as verifier:
        with contextlib.suppress(ZeroDivisionError), verifier.stream() as stream:
            divide_by_zero_in(stream)
        assert launchers() == []
        assert verifier.verify(returning(0)).status == "ok"
    assert threading.active_count() == before


def test_leaving_without_asking_for_results_stops_what_runs():
    with Verifier(workers=1, timeout=500.0) as verifier:
        with verifier.stream() as stream:
            stream.submit(Program(ENDLESS))
            wait_until(launchers)
        assert launchers() == []
        assert verifier.endings.total() == 0


def test_the_deadline_counts_from_the_question_for_results():
    with Verifier(workers=2, timeout=500.0) as verifier:
        verifier.verify(returning(0))  # the probes are over
        with verifier.stream(deadline=0.5) as stream:
            stream.submit(returning(1))
            stream.submit(Program(ENDLESS))
            wait_until(lambda: stream.seconds > 1.5)
            first, second = stream.results()
        assert (first.returncode, second.status) == (1, "sandbox_error")
        assert "0.5 s" in second.stderr
        assert launchers() == []


def test_a_closing_verifier_ends_its_streams():
    verifier = Verifier(workers=1, timeout=500.0)
    with verifier.stream() as stream:
        stream.submit(Program(ENDLESS))
        wait_until(launchers)
        verifier.close()
        assert [r.status for r in stream.results()] == ["sandbox_error"]
        with pytest.raises(RuntimeError, match="given its results"):
            stream.submit(returning(1))
    stream.stop()
    with pytest.raises(RuntimeError, match="closed"), verifier.stream():
        pass


def test_a_closed_verifier_takes_no_more_programs():
    with Verifier(workers=1) as verifier, verifier.stream() as stream:
        verifier.close()
        with pytest.raises(RuntimeError, match="closed"):
            stream.submit(returning(1))


def test_a_stream_gives_its_results_once(verifier):
    with verifier.stream() as stream:
        stream.submit(returning(1))
        stream.results()
        for again in (stream.results, lambda: stream.submit(returning(2))):
            with pytest.raises(RuntimeError, match="given its results"):
                again()


def test_a_program_that_makes_no_sense_is_told_at_once_and_harms_no_other(verifier):
    with verifier.stream() as stream:
        stream.submit(returning(1))
        with pytest.raises(UserError, match="std is 'c99'"):
            stream.submit(Program("int main() {}", std="c99"))
        assert [r.returncode for r in stream.results()] == [1]


def test_two_streams_may_be_open_at_once(verifier):
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(verifier.stream()) for _ in range(2)]
        for number in range(3):
            for stream in streams:
                stream.submit(returning(number, f"of {streams.index(stream)}"))
        assert [[r.returncode for r in stream.results()] for stream in streams] == [[0, 1, 2]] * 2


def test_submitting_does_not_wait(verifier):
    with verifier.stream() as stream:
        begin = time.monotonic()
        for number in range(20):
            stream.submit(Program(f"{ENDLESS} // {number}"))
        assert time.monotonic() - begin < 1.0
