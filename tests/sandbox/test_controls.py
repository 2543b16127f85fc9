"""What the host can give is found by trying, named, and never quietly replaced by less."""

import os
import re
import stat
import subprocess

import pytest

from rlvr_sandbox import SandboxError, controls, describe, host_controls, require_controls
from rlvr_sandbox.controls import LEVELS, WHAT_IT_STOPS, cgroup_parents
from rlvr_sandbox.doctor import doctor
from rlvr_sandbox.launcher import cache_folder, launcher, private_temporary_folder
from rlvr_sandbox.remedies import cgroup_remedy, namespace_remedy

NAMESPACES = ("user", "pid", "mount", "net", "ipc", "uts", "cgroup_ns", "proc")


def test_limits_are_always_there_and_every_control_is_known():
    found = host_controls()
    assert "limits" in found.names
    assert set(found.names) <= set(WHAT_IT_STOPS)
    assert ("memory" in found.names) == (found.memory_parent is not None)


def test_any_takes_what_there_is():
    assert require_controls("any") == host_controls()
    assert require_controls(["limits"]) == host_controls()


@pytest.mark.parametrize("level", ["contained", "full", ["pid"]])
def test_what_is_required_and_missing_is_an_error_that_says_what_to_do(monkeypatch, level):
    poor = host_controls().without(*NAMESPACES, "memory", "pids")
    monkeypatch.setattr(controls, "host_controls", lambda: poor)
    with pytest.raises(SandboxError, match=r"cannot give .*pid.*create user namespaces"):
        require_controls(level)
    assert require_controls("any") == poor


@pytest.mark.parametrize("word", ["everything", "", ["pid", "magic"]])
def test_a_word_that_is_no_level_is_told_with_those_that_are(word):
    with pytest.raises(SandboxError, match=r"sandbox.require is .*any, contained, full"):
        require_controls(word)


def test_full_is_every_control_that_every_user_can_have():
    assert set(LEVELS["full"]) | {"drop"} == set(WHAT_IT_STOPS)


def test_the_description_counts_and_names_what_is_missing():
    found = host_controls()
    assert "isolation controls" in describe(found.names)
    assert "seccomp" in describe(found.without("seccomp").names)


@pytest.fixture
def delegated(tmp_path):
    """A cgroup v2 tree as `systemd-run --user --scope` leaves it: a scope that holds this process, and whose parent hands
    two controllers on."""
    parent = tmp_path / "app.slice"
    scope = parent / "run-1.scope"
    scope.mkdir(parents=True)
    (tmp_path / "cgroup.subtree_control").write_text("cpu\n")
    (parent / "cgroup.subtree_control").write_text("memory pids\n")
    (scope / "cgroup.subtree_control").write_text("\n")
    return f"31 23 0:28 / {tmp_path} rw,nosuid - cgroup2 cgroup2 rw\n", parent


def test_a_cgroup_of_version_2_is_made_where_its_controllers_are_handed_on(delegated):
    mounts, parent = delegated
    own = "0::/app.slice/run-1.scope\n"
    assert cgroup_parents("memory", mounts, own) == cgroup_parents("pids", mounts, own) == (str(parent),)
    assert cgroup_parents("io", mounts, own) == ()
    assert cgroup_parents("memory", mounts, "0::/\n") == ()


def test_the_launcher_writes_the_files_of_version_2_and_reads_what_was_killed(tmp_path):
    """The files are plain ones: a kernel whose version 2 has the memory controller is not to be had everywhere."""
    for name in ("memory.max", "memory.swap.max", "pids.max", "cgroup.procs"):
        (tmp_path / name).touch()
    (tmp_path / "memory.events").write_text("low 0\noom 3\noom_kill 2\n")
    limits = ("--memory", "1048576", "--processes", "7", "--wall-ms", "5000", "--cpu-ms", "5000", "--open-files", "64")
    cgroups = ("--memory-cgroup", str(tmp_path), "--pids-cgroup", str(tmp_path))
    command = [launcher(), *limits, *cgroups, "--file-size", "1", "--status", "1"]
    lifeline, ours = os.pipe()
    done = subprocess.run(command, stdin=lifeline, capture_output=True, text=True)
    for end in (lifeline, ours):
        os.close(end)
    assert done.stdout.startswith("ended e 0 ")
    assert done.stdout.split()[-1] == "2"
    written = {name: (tmp_path / name).read_text() for name in ("memory.max", "memory.swap.max", "pids.max")}
    assert written == {"memory.max": "1048576", "memory.swap.max": "0", "pids.max": "7"}
    assert (tmp_path / "cgroup.procs").read_text().isdigit()


def test_a_cgroup_of_version_1_is_made_in_our_own_or_above_it(tmp_path):
    (tmp_path / "jobs").mkdir()
    mounts = f"35 31 0:32 / {tmp_path} rw - cgroup cgroup rw,memory\n"
    assert cgroup_parents("memory", mounts, "4:memory:/jobs\n0::/\n") == (str(tmp_path / "jobs"), str(tmp_path))
    assert cgroup_parents("pids", mounts, "4:memory:/jobs\n0::/\n") == ()


@pytest.mark.parametrize(
    ("switches", "is_filtered", "words"),
    [
        ({}, False, "let this process create user namespaces"),
        ({}, True, "--security-opt seccomp=unconfined --security-opt apparmor=unconfined"),
        ({"/proc/sys/user/max_user_namespaces": "0"}, True, "sysctl user.max_user_namespaces=15000"),
        (
            {"/proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1"},
            False,
            "apparmor_restrict_unprivileged_userns=0",
        ),
        ({"/proc/sys/kernel/apparmor_restrict_unprivileged_userns": "0"}, False, "let this process"),
    ],
)
def test_the_advice_is_for_the_host_that_needs_it(switches, is_filtered, words):
    assert words in namespace_remedy(switches, is_filtered)


def test_nobody_is_told_to_become_what_they_are():
    assert "systemd-run --user" in cgroup_remedy(is_container=False)
    assert not re.search("root|systemd", cgroup_remedy(is_container=True))


def test_a_private_proc_needs_a_mount_namespace():
    assert "proc" not in host_controls().without("mount").names


def test_the_launcher_is_compiled_once_and_belongs_to_us():
    path = launcher()
    assert launcher() == path
    assert os.stat(path).st_uid in (0, os.getuid())
    assert not os.stat(path).st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def test_a_cache_that_others_could_change_is_not_used(tmp_path, monkeypatch):
    shared = tmp_path / "rlvr-cpp"
    shared.mkdir()
    shared.chmod(0o777)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == private_temporary_folder()
    shared.chmod(0o755)
    assert cache_folder() == shared


def test_the_doctor_finds_this_host_sound(capsys):
    status = doctor()
    printed = capsys.readouterr().out
    assert status in (0, 1)
    for line in ("yes  a good program", "yes  a crash", "yes  a hostile program gets nowhere"):
        assert line in printed


def test_the_doctor_says_where_the_hostile_program_got_through(monkeypatch, capsys):
    bare = host_controls().without(*NAMESPACES, "landlock", "seccomp", "drop", "memory", "pids")
    monkeypatch.setattr("rlvr_sandbox.doctor.host_controls", lambda: bare)
    assert doctor() == 2
    printed = capsys.readouterr().out
    assert "no   a hostile program gets nowhere" in printed
    assert "it could read /etc/passwd" in printed
    assert "Do not run untrusted programs here" in printed
