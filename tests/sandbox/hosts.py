"""Other hosts than this one: an ordinary user, and containers as Docker makes them. What is true there is tried there.

Python imports, and finds the launcher, before the process becomes the user, who may be unable to reach either.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rlvr_sandbox.launcher import compile_c

USER = 31_337
"""An ordinary user that nobody here is."""
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Host:
    """Who the verifier is, and where it runs."""

    name: str
    container: str | None = None
    """`confined` as Docker does it by default, or `unconfined`, its seccomp profile switched off."""
    as_user: bool = False


HOSTS = (
    Host("this host"),
    Host("user", as_user=True),
    Host("container", "confined"),
    Host("container user", "confined", as_user=True),
    Host("container unconfined", "unconfined"),
)


@contextmanager
def public_folder() -> Iterator[Path]:
    """A folder that every user may reach and write into."""
    place = Path(tempfile.mkdtemp(prefix="rlvr_host_"))
    try:
        place.chmod(0o777)
        compile_c(Path(__file__).with_name("container.c"), place / "container")
        yield place
    finally:
        shutil.rmtree(place)


def run_on(host: Host, place: Path, imports: str, script: str) -> subprocess.CompletedProcess[str]:
    """Run a Python script on that host. `imports` are done before."""
    lines = [imports, "from rlvr_sandbox.launcher import launcher; launcher()"]
    if host.as_user:
        lines.append("from tests.sandbox.hosts import become_user; become_user()")
    command = [sys.executable, "-c", "\n".join([*lines, script])]
    if host.container:
        command = [str(place / "container"), host.container, *command]
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PYTEST")},
        "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "sandbox"))),
        "XDG_CACHE_HOME": str(place / "cache"),
        "TMPDIR": str(place),
    }
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    return done


def become_user() -> None:
    """Stop being root, for good."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(USER, USER, USER)
        os.setresuid(USER, USER, USER)
