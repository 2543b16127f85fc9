"""The launcher: a small C program that builds the jail, compiled once on the machine that uses it.

It is started by `vfork` and `exec`, so its cost does not grow with the memory of the process that starts it; a
`preexec_fn`, by contrast, costs a fork of the whole trainer. The binary is kept in the cache under the hash of its
source, so a new version of the library compiles a new one and two versions live side by side.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from rlvr_sandbox.errors import SandboxError

SOURCE = Path(__file__).with_name("launcher.c")
COMPILERS = ("cc", "gcc", "g++", "clang", "clang++")


def cache_folder() -> Path:
    """The folder for what is built once: `$XDG_CACHE_HOME/rlvr-cpp`, or one of this user's own in the temporary folder.

    Raises SandboxError where neither can be written.
    """
    preferred = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rlvr-cpp"
    return preferred if _is_usable(preferred) else private_temporary_folder()


def private_temporary_folder() -> Path:
    """A folder of this user's own below the temporary folder, which others can read but not change."""
    folder = Path(tempfile.gettempdir()) / f"rlvr-cpp-{os.getuid()}"
    if not _is_usable(folder):
        raise SandboxError(f"{folder} cannot be written or is not ours: set XDG_CACHE_HOME to a folder that is")
    return folder


def make_public(folder: Path) -> None:
    """Make a folder that every user may read, whatever our umask says; one that is there stays as it is."""
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)


def _is_usable(folder: Path) -> bool:
    with contextlib.suppress(OSError):
        make_public(folder)
        return _is_ours(folder) and os.access(folder, os.W_OK | os.X_OK)
    return False


@cache
def launcher() -> str:
    """The path of the launcher, compiled if this machine has none yet. Raises SandboxError where that fails."""
    binary = cache_folder() / f"launcher-{hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]}"
    if not (binary.is_file() and _is_ours(binary)):
        _compile(binary)
    return str(binary)


def _compile(binary: Path) -> None:
    with tempfile.TemporaryDirectory(dir=binary.parent, prefix=".launcher-") as folder:
        output = Path(folder) / "launcher"
        compile_c(SOURCE, output)
        output.chmod(0o755)
        output.replace(binary)  # complete or not at all, also where two processes build it at once


def compile_c(source: Path, output: Path) -> None:
    """Compile one of our own C programs. Raises SandboxError where no compiler does."""
    compiler = next((found for name in COMPILERS if (found := shutil.which(name))), None)
    if compiler is None:
        raise SandboxError(f"no C compiler for the launcher ({', '.join(COMPILERS)}): apt-get install g++")
    command = [compiler, "-x", "c", "-O2", str(source), "-o", str(output)]
    # A static binary starts faster and needs no library inside the jail; some systems have no static C library.
    done = subprocess.run([*command, "-static"], capture_output=True, text=True)
    if done.returncode != 0:
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise SandboxError(f"{compiler} cannot compile {source.name}: {done.stderr.strip()[:500]}")


def _is_ours(path: Path) -> bool:
    """Nobody else can have put it there or can change it."""
    info = path.stat()
    return info.st_uid in (os.getuid(), 0) and not info.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
