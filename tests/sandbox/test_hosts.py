"""What holds on the hosts that people have: root of a machine, an ordinary user, and containers, confined and not.

The programs of `tests/data/adversarial/host` are built once, into one executable, and run on each of them.
"""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.sandbox.hosts import HOSTS, Host, public_folder, run_on

pytestmark = pytest.mark.xdist_group("sandbox")
PROGRAMS = sorted((Path(__file__).parents[1] / "data" / "adversarial" / "host").glob("*.cpp"))
NAMES = [path.stem for path in PROGRAMS]
NAMESPACES = {"user", "pid", "mount", "net", "ipc", "uts", "cgroup_ns", "proc"}
GOT_THROUGH = re.compile(r"READ |WROTE |REACHED |KILLED |DEEP|FD \d|ENV (?!PATH=|LC_ALL=|TMPDIR=)")
AGAIN = ("leave", "who")
"""Run twice: what the first left, and who it was, is what the second is asked about."""
SIGNALLERS = ("keeper", "rt_signals")
"""Run without Landlock as well, which keeps signals in from Linux 6.12 on, where no filter can fail unnoticed."""
HONEST = {"memory_shared": ("exit", 0, "done\n"), "leave": ("exit", 0, "done\n"), "keeper": ("exit", 0, "alive\n")}


@pytest.fixture(scope="module")
def public():
    with public_folder() as place:
        (place / "attacks.cpp").write_text(_one_text())
        command = ["g++", "-std=c++17", "-w", "-pthread", "attacks.cpp", "-o", "attacks", "-lrt"]
        subprocess.run(command, cwd=place, check=True)
        yield place


def _one_text() -> str:
    """All programs in one: each in a namespace of its own, with all their headers before them."""
    texts = [path.read_text() for path in PROGRAMS]
    headers = sorted({line for text in texts for line in text.splitlines() if line.startswith("#include")})
    bodies = [re.sub(r"^#include.*$|extern char\*\* environ;", "", text, flags=re.MULTILINE) for text in texts]
    spaces = [f"namespace {name} {{\n{body}\n}}" for name, body in zip(NAMES, bodies, strict=True)]
    cases = "".join(
        f'    if (!std::strcmp(words[1], "{name}")) return start({name}::entry, words);\n' for name in NAMES
    )
    return "\n".join(
        [
            *headers,
            "static int start(int (*entry)(), char**) { return entry(); }",
            "static int start(int (*entry)(int, char**), char** words) { return entry(1, words); }",
            "#define main entry",
            *spaces,
            "#undef main",
            f"int main(int, char** words) {{\n{cases}    return 99;\n}}",
        ]
    )


@pytest.fixture(scope="module", params=HOSTS, ids=lambda host: host.name)
def host(request) -> Host:
    if request.param.name != "this host" and os.geteuid() != 0 and request.param.container is None:
        pytest.skip("this is an ordinary user already")
    return request.param


@pytest.fixture(scope="module")
def seen(host, public) -> dict:
    folder = public / f"on {host.name}"
    folder.mkdir()
    folder.chmod(0o755)
    shutil.copy(public / "attacks", folder)
    (folder / "unread").write_text("x")
    if host.as_user and os.geteuid() == 0:
        for path in (folder, *folder.iterdir()):
            shutil.chown(path, 31_337, 31_337)
    script = f"""
folder = Path({str(folder)!r})
seen = controls_and_doctor()
seen["attacks"] = attacks(folder, {NAMES!r})
seen["again"] = attacks(folder, {AGAIN!r})
seen["old kernel"] = attacks(folder, {SIGNALLERS!r}, "landlock")
seen["survivors"] = survivors(folder)
seen["files"] = sorted(path.name for path in folder.iterdir())
print(json.dumps(seen))
"""
    imports = "import json\nfrom pathlib import Path\nfrom tests.sandbox.on_host import *"
    return json.loads(run_on(host, public, imports, script).stdout)


def test_the_controls_of_each_host_are_found(host, seen):
    found = set(seen["controls"])
    if "landlock" not in found or "seccomp" not in found:
        pytest.skip("this kernel has no Landlock or no seccomp")
    if host.container == "confined":
        assert not found & (NAMESPACES | {"memory", "pids"})
    elif host.name == "this host" or not _users_may_make_namespaces():
        return
    else:
        assert found >= NAMESPACES | {"limits", "landlock", "seccomp"}
    assert ("drop" in found) == (not host.as_user and os.geteuid() == 0)


def _users_may_make_namespaces() -> bool:
    return subprocess.run(["unshare", "--user", "--map-root-user", "true"], capture_output=True).returncode == 0


def test_the_doctor_says_what_is_so_there(host, seen):
    printed = seen["printed"]
    assert "yes  a hostile program gets nowhere" in printed
    assert seen["status"] == (1 if "OFF" in printed else 0)
    assert "start it as root" not in printed
    for name in seen["controls"]:
        assert re.search(rf"^  on   {name} ", printed, re.MULTILINE)
    if host.container == "confined":
        assert "OFF  proc" in printed
        assert "--security-opt seccomp=unconfined --security-opt apparmor=unconfined" in printed
        assert "sandbox.require=any" in printed
    if host.as_user:
        assert "-    drop" in printed


@pytest.mark.parametrize("name", NAMES)
def test_a_program_ends_itself_and_nothing_else(seen, name):
    runs = [seen[times][name] for times in ("attacks", "again", "old kernel") if name in seen[times]]
    for ended, returncode, said in runs:
        assert ended != "sandbox_error", said
        assert not GOT_THROUGH.search(said), said
        assert (ended, returncode, said) == HONEST.get(name, (ended, returncode, said))
    assert len(runs) == 1 + (name in AGAIN) + (name in SIGNALLERS)
    assert seen["survivors"] == []
    assert seen["files"] == ["attacks", "unread"]


def test_what_it_does_to_itself_is_its_end(seen):
    ended, returncode, _ = seen["attacks"]["who"]
    assert (ended, returncode) == ("signal", -9)


def test_each_run_of_root_is_another_user(host, seen):
    users = [seen[times]["who"][2] for times in ("attacks", "again")]
    assert "uid 0 0\n" not in users
    if "drop" in seen["controls"] and "user" not in seen["controls"]:
        assert len(set(users)) == 2


def test_memory_is_bounded_over_all_processes(seen):
    assert seen["attacks"]["rt_memory_forks"][0] == "memory"
