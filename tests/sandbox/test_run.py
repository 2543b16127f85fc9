"""The sandbox, one property each. Commands are small shell and Python programs."""

import os
import sys
import time
from pathlib import Path

import pytest

from rlvr_sandbox import OUTPUT_LIMIT, SandboxError, run


def shell(directory: Path, script: str, **options):
    options.setdefault("timeout", 20.0)
    return run(["/bin/sh", "-c", script], directory, **options)


def python(directory: Path, script: str, **options):
    options.setdefault("timeout", 20.0)
    return run([sys.executable, "-c", script], directory, **options)


def dies(pid: int) -> bool:
    """The process ends within ten seconds; a signal takes a moment to arrive."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        os.sched_yield()
    return False


def test_reports_both_outputs_and_the_exit_status(tmp_path):
    finished = shell(tmp_path, "echo out; echo err >&2; exit 3")
    assert (finished.stdout, finished.stderr, finished.returncode) == (b"out\n", b"err\n", 3)
    assert not finished.timed_out


def test_a_signal_is_a_negative_exit_status(tmp_path):
    assert shell(tmp_path, "kill -SEGV $$").returncode == -11


def test_kills_the_whole_group_at_the_timeout(tmp_path):
    finished = shell(tmp_path, "sleep 1000 & echo $! > pid; wait", timeout=0.5)
    assert finished.timed_out
    assert dies(int((tmp_path / "pid").read_text()))


def test_does_not_wait_for_a_child_that_holds_the_pipe(tmp_path):
    finished = shell(tmp_path, "sleep 1000 & echo $! > pid; echo done", timeout=500.0)
    assert finished.stdout == b"done\n"
    assert not finished.timed_out
    assert dies(int((tmp_path / "pid").read_text()))


def test_a_closed_stdout_is_not_the_end(tmp_path):
    finished = shell(tmp_path, "exec >&- 2>&-; i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; exit 7")
    assert finished.returncode == 7


def test_a_flood_is_cut_and_read_to_the_end(tmp_path):
    finished = python(tmp_path, "import sys; sys.stdout.write('x' * 3_000_000); sys.stderr.write('end')")
    assert finished.returncode == 0
    assert finished.output_cut
    assert finished.stdout == b"x" * OUTPUT_LIMIT
    assert finished.stderr == b"end"


def test_a_flood_is_killed_where_asked(tmp_path):
    finished = shell(tmp_path, "yes", timeout=500.0, kill_at_output_limit=True)
    assert finished.returncode == -9
    assert finished.output_cut
    assert not finished.timed_out
    assert len(finished.stdout) == OUTPUT_LIMIT


def test_exactly_the_limit_is_not_cut(tmp_path):
    finished = python(tmp_path, f"import sys; sys.stdout.write('x' * {OUTPUT_LIMIT})", kill_at_output_limit=True)
    assert not finished.output_cut
    assert finished.returncode == 0


def test_inherits_no_variable(tmp_path, monkeypatch):
    monkeypatch.setenv("API_TOKEN", "secret")
    finished = shell(tmp_path, "env")
    names = {line.split("=")[0] for line in finished.stdout.decode().splitlines()}
    assert names <= {"PATH", "LC_ALL", "HOME", "TMPDIR", "PWD", "SHLVL", "_", "OLDPWD"}


def test_home_and_temporary_files_are_in_its_own_directory(tmp_path):
    finished = shell(tmp_path, 'echo "$HOME $TMPDIR $PWD"')
    assert finished.stdout.decode().split() == [str(tmp_path)] * 3


def test_inherits_no_descriptor(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("secret")
    with secret.open() as held:
        os.set_inheritable(held.fileno(), True)
        finished = shell(tmp_path, "ls /proc/self/fd")
    assert len(finished.stdout.split()) <= 4  # the three, and the one that lists them


def test_stdin_is_empty(tmp_path):
    assert shell(tmp_path, "cat").stdout == b""


def test_a_command_that_does_not_exist_is_our_failure(tmp_path):
    with pytest.raises(SandboxError, match="no-such-compiler"):
        run(["no-such-compiler"], tmp_path, timeout=1.0)


def test_a_directory_that_does_not_exist_is_our_failure(tmp_path):
    with pytest.raises(SandboxError):
        run(["true"], tmp_path / "gone", timeout=1.0)


def test_seconds_are_those_of_the_command(tmp_path):
    started = time.monotonic()
    finished = shell(tmp_path, "true")
    assert 0 < finished.seconds <= time.monotonic() - started
