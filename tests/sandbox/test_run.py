"""The sandbox, one property each. Commands are small shell and Python programs that run inside it.

Everything is tried with all the controls of this host and again with what remains in a container that allows neither
namespaces nor cgroups.
"""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from rlvr_sandbox import (
    OUTPUT_LIMIT,
    Command,
    Controls,
    Limits,
    SandboxError,
    Stopped,
    Stopper,
    host_controls,
    run,
    run_together,
)

pytestmark = pytest.mark.xdist_group("sandbox")  # without namespaces, runs share the user's limit of processes
MARK = str(10_000_000 + os.getpid())  # in the command lines of processes, to find survivors by
NAMESPACES = ("user", "pid", "mount", "net", "ipc", "uts", "cgroup_ns", "proc", "memory", "pids")
SYSTEM = ("/bin", "/lib", "/lib64", "/usr/bin", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache")
PYTHON = next(path for path in ("/usr/bin/python3", os.path.realpath(sys.executable)) if os.path.exists(path))


@pytest.fixture(params=["every control", "without namespaces and cgroups"])
def controls(request) -> Controls:
    found = host_controls()
    return found if request.param == "every control" else found.without(*NAMESPACES)


@pytest.fixture
def folder(tmp_path_factory) -> Path:
    """A folder that the unprivileged user may reach."""
    folder = tmp_path_factory.mktemp("work")
    for place in (folder, *folder.parents[:3]):
        place.chmod(0o755)
    return folder


def shell(folder: Path, controls: Controls, script: str, **options):
    limits = Limits(
        cpu=options.pop("cpu", 5.0), wall=options.pop("wall", 20.0), memory=options.pop("memory", 256 << 20)
    )
    return run(Command(("/bin/sh", "-c", script), folder, limits, SYSTEM, **options), controls)


def python(folder: Path, controls: Controls, script: str, **options):
    limits = Limits(
        cpu=options.pop("cpu", 5.0), wall=options.pop("wall", 20.0), memory=options.pop("memory", 256 << 20)
    )
    readable = (*SYSTEM, str(Path(PYTHON).parent.parent))
    return run(Command((PYTHON, "-I", "-c", script), folder, limits, readable, **options), controls)


def processes_named(word: str) -> list[str]:
    """Command lines on this machine that contain a word."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if word in line and "pytest" not in line:
            found.append(line)
    return found


def test_reports_both_outputs_and_the_exit_status(folder, controls):
    finished = shell(folder, controls, "echo out; echo err >&2; exit 3")
    assert (finished.ended, finished.returncode) == ("exit", 3)
    assert (finished.stdout, finished.stderr) == (b"out\n", b"err\n")


def test_a_signal_is_a_negative_exit_status(folder, controls):
    finished = shell(folder, controls, "kill -SEGV $$")
    assert (finished.ended, finished.returncode) == ("signal", -signal.SIGSEGV)


def test_gives_it_its_standard_input_and_no_more(folder, controls):
    assert shell(folder, controls, "cat", stdin=b"x" * 200_000, cpu=2.0).stdout == b"x" * OUTPUT_LIMIT
    assert shell(folder, controls, "cat").stdout == b""


def test_time_on_the_clock_is_bounded(folder, controls):
    assert shell(folder, controls, "sleep 1000", wall=0.3).ended == "wall"
    assert shell(folder, controls, "kill -STOP $$", wall=0.3).ended == "wall"


def test_cpu_time_is_bounded_to_a_fraction_of_a_second(folder, controls):
    finished = shell(folder, controls, "while :; do :; done", cpu=0.2)
    assert finished.ended == "cpu"
    assert 0.2 <= finished.cpu_seconds < 1.0


def test_memory_is_bounded(folder, controls):
    finished = python(folder, controls, "x = bytearray(1_000_000_000)", memory=128 << 20)
    assert finished.ended in ("memory", "exit")
    assert finished.returncode != 0
    assert finished.peak_memory < 200 << 20


def test_the_memory_of_all_processes_together_is_bounded(folder):
    if "memory" not in host_controls().names:
        pytest.skip("no cgroup can be written here")
    script = "import os\nfor _ in range(4):\n    if not os.fork():\n        x = bytearray(50_000_000); os._exit(0)\nx = bytearray(50_000_000)\nos.wait()"
    assert python(folder, host_controls(), script, memory=90 << 20).ended == "memory"


def test_a_fork_bomb_is_bounded(folder, controls):
    finished = python(folder, controls, f"import os\nwhile {MARK}: os.fork()", wall=2.0)
    assert finished.ended in ("exit", "cpu", "wall", "memory", "signal", "output")
    assert processes_named(MARK) == []


def test_nobody_outlives_the_run(folder, controls):
    finished = shell(
        folder, controls, f"setsid sleep {MARK}1 > /dev/null 2>&1 & setsid sleep {MARK}1 & echo done", wall=500.0
    )
    assert (finished.ended, finished.stdout, finished.stderr) == ("exit", b"done\n", b"")
    assert processes_named(f"{MARK}1") == []


def test_nobody_outlives_a_timeout(folder, controls):
    assert shell(folder, controls, f"setsid sleep {MARK}2 & sleep {MARK}2", wall=0.3).ended == "wall"
    assert processes_named(f"{MARK}2") == []


def test_a_closed_stdout_is_not_the_end(folder, controls):
    script = "exec >&- 2>&-; i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; exit 7"
    assert shell(folder, controls, script).returncode == 7


def test_a_flood_is_cut_and_read_to_the_end(folder, controls):
    finished = python(folder, controls, "import sys; sys.stdout.write('x' * 3_000_000); sys.stderr.write('end')")
    assert (finished.returncode, finished.output_cut) == (0, True)
    assert (finished.stdout, finished.stderr) == (b"x" * OUTPUT_LIMIT, b"end")


def test_a_flood_is_killed_where_asked(folder, controls):
    finished = shell(folder, controls, "yes", wall=500.0, cpu=500.0, kill_at_output_limit=True)
    assert (finished.ended, finished.output_cut, len(finished.stdout)) == ("output", True, OUTPUT_LIMIT)


def test_exactly_the_limit_is_not_cut(folder, controls):
    finished = python(folder, controls, f"print('x' * {OUTPUT_LIMIT}, end='')", kill_at_output_limit=True)
    assert (finished.ended, finished.output_cut) == ("exit", False)


def test_the_environment_is_literal(folder, controls, monkeypatch):
    monkeypatch.setenv("RLVR_SECRET", "leak")
    names = {line.partition("=")[0] for line in shell(folder, controls, "/usr/bin/env").stdout.decode().splitlines()}
    assert names - {"PWD", "_", "SHLVL", "OLDPWD"} == {"PATH", "LC_ALL", "TMPDIR"}


def test_no_descriptor_is_inherited(folder, controls):
    with open("/dev/null") as extra:
        os.set_inheritable(extra.fileno(), True)
        script = (
            "import os\nfor fd in range(3, 256):\n    try: os.fstat(fd)\n    except OSError: continue\n    print(fd)"
        )
        assert python(folder, controls, script).stdout == b""


def test_only_what_was_shown_is_there(folder, controls):
    secret = folder.parent / "secret"
    secret.write_text("leak")
    secret.chmod(0o644)
    finished = shell(
        folder, controls, f"cat {secret} /etc/passwd /proc/1/environ; ls /root /home; echo x > here; echo x > /tmp/x"
    )
    assert finished.stdout == b""
    assert list(folder.iterdir()) == []


def test_writes_only_where_it_may(folder, controls):
    if os.geteuid() == 0:
        os.chown(folder, 65534, 65534)
    shell(folder, controls, "echo yes > here", writable=True)
    assert (folder / "here").read_text() == "yes\n"


def test_the_network_is_closed(folder, controls):
    script = "import socket\ntry: socket.socket()\nexcept PermissionError: print('refused')"
    assert python(folder, controls, script).stdout == b"refused\n"


def test_foreign_processes_cannot_be_signalled(folder, controls):
    finished = shell(folder, controls, f"kill -0 {os.getpid()}; kill -0 1; kill -9 -1; echo alive")
    assert finished.stdout in (b"alive\n", b"")
    with subprocess.Popen(["sleep", "100"]) as bystander:
        shell(folder, controls, f"kill -9 {bystander.pid}; kill -9 -1")
        assert bystander.poll() is None
        bystander.kill()


def test_two_commands_can_talk(folder, controls):
    ends = os.pipe()
    limits = Limits(cpu=5.0, wall=20.0)
    writer = Command(("/bin/sh", "-c", "echo question >&5"), folder, limits, SYSTEM, descriptors=((ends[1], 5),))
    reader = Command(("/bin/sh", "-c", "cat <&6"), folder, limits, SYSTEM, descriptors=((ends[0], 6),))
    assert run_together([reader, writer], controls)[0].stdout == b"question\n"


def test_a_companion_does_not_outstay(folder, controls):
    limits = Limits(cpu=5.0, wall=500.0)
    commands = [Command(("/bin/sh", "-c", f"sleep {seconds}"), folder, limits, SYSTEM) for seconds in (0, 500)]
    first, second = run_together(commands, controls, grace=lambda place, ended: 0.1)
    assert (first.ended, second.ended) == ("exit", "killed")
    first, second = run_together(commands[::-1], controls, grace=lambda place, ended: 0.1 if place else 500.0)
    assert (first.ended, second.ended) == ("killed", "exit")


def test_another_thread_can_stop_it(folder, controls):
    stopper = Stopper()
    timer = threading.Timer(0.2, stopper.stop)
    timer.start()
    command = Command(("/bin/sh", "-c", f"sleep {MARK}3"), folder, Limits(cpu=5.0, wall=500.0), SYSTEM)
    with pytest.raises(Stopped):
        run(command, controls, stopper)
    timer.join()
    assert processes_named(f"{MARK}3") == []


def test_a_killed_launcher_is_no_result_and_leaves_nobody(folder):
    command = Command(("/bin/sh", "-c", f"sleep {MARK}4"), folder, Limits(cpu=5.0, wall=500.0), SYSTEM)

    def kill_launcher() -> None:
        while not (
            found := subprocess.run(["pgrep", "-f", f"^[^ ]*launcher.*{MARK}4"], capture_output=True).stdout.split()
        ):
            os.sched_yield()
        os.kill(min(map(int, found)), signal.SIGKILL)

    killer = threading.Thread(target=kill_launcher)
    killer.start()
    with pytest.raises(SandboxError, match="ended without a word"):
        run(command, host_controls())
    killer.join()
    for _ in range(1000):
        if not processes_named(f"sleep {MARK}4"):
            break
        os.sched_yield()
    assert processes_named(f"{MARK}4") == []


def test_a_killed_keeper_is_the_end_of_what_it_keeps(folder, controls):
    command = Command(("/bin/sh", "-c", f"sleep {MARK}5"), folder, Limits(cpu=5.0, wall=500.0), SYSTEM)

    def kill_keeper() -> None:
        while not (launchers := pids(f"^[^ ]*launcher.*{MARK}5", os.getpid())) or not pids(f"^sleep {MARK}5"):
            os.sched_yield()
        for launcher in launchers:
            for keeper in pids("launcher", launcher):
                os.kill(keeper, signal.SIGKILL)

    killer = threading.Thread(target=kill_keeper)
    killer.start()
    finished = run(command, controls)
    killer.join()
    assert (finished.ended, finished.returncode) == ("signal", -signal.SIGKILL)
    assert processes_named(f"sleep {MARK}5") == []


def pids(pattern: str, parent: int | None = None) -> list[int]:
    """Processes by their command line, and whose children they are."""
    below = [] if parent is None else ["-P", str(parent)]
    return [int(pid) for pid in subprocess.run(["pgrep", *below, "-f", pattern], capture_output=True).stdout.split()]


def test_a_missing_program_is_ours(folder, controls):
    with pytest.raises(SandboxError, match="No such file"):
        run(Command(("/bin/no-such-program",), folder, Limits(cpu=1.0, wall=1.0), SYSTEM), controls)


def test_nothing_is_left_behind(folder, controls):
    parents = [p for p in (controls.memory_parent, controls.pids_parent) if p]
    descriptors = len(os.listdir("/proc/self/fd"))
    for script in ("exit 0", "kill -9 $$", "sleep 100"):
        shell(folder, controls, script, wall=0.2)
    assert len(os.listdir("/proc/self/fd")) == descriptors
    assert not [path for parent in parents for path in Path(parent).glob(f"rlvr-{os.getpid()}-*")]
    assert subprocess.run(["pgrep", "-P", str(os.getpid()), "launcher"], capture_output=True).stdout == b""
