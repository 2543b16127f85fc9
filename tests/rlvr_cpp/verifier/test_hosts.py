"""Verdicts do not depend on how little a host isolates, and a `Verifier` says once how little that is."""

import json
import logging

import pytest

from rlvr_cpp import Verifier
from rlvr_cpp.errors import UserError
from rlvr_cpp.verifier import verifier as verifier_module
from rlvr_sandbox import controls, host_controls
from tests.sandbox.hosts import HOSTS, public_folder, run_on

pytestmark = pytest.mark.xdist_group("sandbox")
WHERE = [host for host in HOSTS if host.name != "this host"]
NAMESPACES = ("user", "pid", "mount", "net", "ipc", "uts", "cgroup_ns")
KEEPER = """#include <csignal>
#include <sys/resource.h>
#include <unistd.h>
static int attack() {
    rlimit none = {0, 0};
    prlimit(getppid(), RLIMIT_CPU, &none, nullptr);
    kill(getppid(), SIGKILL);
    return 0;
}
"""
SCRIPT = """
os.umask(0o077)
test = '#include <cstdio>\\nint twice(int x);\\nint main() { int n = (twice(1) == 2) + (twice(3) == 6);' \\
       ' std::printf("PASSED %d/2\\\\n", n); return n != 2; }\\n'
programs = {
    "honest": Program("int twice(int x) { return 2 * x; }", test, 2),
    "attacks its keeper": Program(keeper + "int twice(int x) { return attack() + 2 * x; }", test, 2),
    "kills itself": Program(keeper + "int twice(int) { return raise(SIGKILL); }", test, 2),
    "leaves something": Program(
        "#include <cstdio>\\n#include <sys/shm.h>\\n#include <sys/stat.h>\\n"
        'int main() { struct stat own; stat("/proc/self/exe", &own); stat("rlvr_program", &own);'
        "  bool again = shmget(7, 1, 0600) >= 0 || own.st_mtime == 7;"
        "  shmget(7, 1, IPC_CREAT | 0666); timespec at[2] = {{7, 0}, {7, 0}}; utimensat(-100, \\"rlvr_program\\", at, 0);"
        '  std::puts(again ? "again" : "first"); }',
        cases=(Case("1", "first"), Case("2", "first")),
    ),
    "talks": Program(
        '#include <cstdio>\\nint main() { int n = 0; std::scanf("%d", &n); std::printf("%d", n + 1); }',
        cases=(Case("41", "42"),),
        interactor='#include <cstdio>\\nint main(int, char** files) { int n = 0; std::fscanf(std::fopen(files[1], "r"), "%d", &n);'
        ' std::printf("%d ", n); std::fclose(stdout); return std::scanf("%d", &n) != 1 || n != 42; }',
    ),
    "includes what is compiled": Program('#include "/dev/fd/0"\\nint twice(int x) { return 2 * x; }', test, 2),
    "includes its own unit": Program('#include "/dev/stdin"\\nint main() {}'),
}
with Verifier(timeout=2.0, workers=1) as verifier, Verifier(timeout=2.0):
    results = verifier.verify_many(programs.values())
told = {name: (r.status, r.tests_passed, r.isolation) for name, r in zip(programs, results)}
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def public():
    with public_folder() as place:
        yield place


@pytest.mark.parametrize("host", WHERE, ids=lambda host: host.name)
def test_what_a_program_does_is_its_own_on_every_host(host, public):
    (public / "cache").mkdir(exist_ok=True)
    (public / "cache").chmod(0o755 if host.as_user else 0o700)  # as the home of root is
    imports = f"import json, os\nfrom rlvr_cpp import Case, Program, Verifier\nkeeper = {KEEPER!r}"
    done = run_on(host, public, imports, SCRIPT)
    told = json.loads(done.stdout)
    assert {name: tuple(result[:2]) for name, result in told.items()} == {
        "honest": ("ok", 2),
        "attacks its keeper": ("ok", 2),
        "kills itself": ("run_error", 0),
        "leaves something": ("ok", 2),
        "talks": ("ok", 1),
        "includes what is compiled": ("compile_error", 0),
        "includes its own unit": ("compile_error", 0),
    }
    isolation = told["honest"][2]
    assert "memory" not in isolation
    assert ("mount" in isolation) == ("proc" in isolation)
    assert done.stderr.count("isolation controls, without") == 1
    assert "python -m rlvr_sandbox doctor" in done.stderr


def test_it_is_said_once_what_a_host_cannot_give(monkeypatch, caplog):
    poor = host_controls().without(*NAMESPACES, "memory", "pids")
    monkeypatch.setattr(controls, "host_controls", lambda: poor)
    verifier_module._say_what_is_missing.cache_clear()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            Verifier(workers=1).close()
    assert [record.message.partition(":")[0] for record in caplog.records] == [
        f"this host gives {controls.describe(poor.names)}"
    ]
    with pytest.raises(UserError, match="cannot give pid, mount"):
        Verifier(require="contained")
