"""What makes a number believable later: one `run.json` in each run folder, true at every moment.

It is written before the first step with the status `running` and again, whole, whenever something is known: the
evaluations, the end. A run that was interrupted or failed says so.
"""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Any

from rlvr_cpp.config import GSPOJob

PACKAGES = (
    "rlvr-cpp",
    "torch",
    "transformers",
    "trl",
    "peft",
    "accelerate",
    "datasets",
    "hydra-core",
    "numpy",
)


class RunRecord:
    """The record of one run; as a context manager it notes how the run ended."""

    def __init__(self, folder: Path, job: GSPOJob, compiler: str) -> None:
        self.folder = folder
        self.fields: dict[str, Any] = {
            "status": "running",
            "started": _now(),
            "ended": None,
            "error": None,
            "command": sys.orig_argv,
            "seed": job.seed,
            "git_commit": git_commit(),
            "compiler": compiler,
            "python": platform.python_version(),
            "platform": platform.platform(),
            "packages": package_versions(),
            "config": asdict(job),
            "results": {},
        }
        self._write()

    def __enter__(self) -> RunRecord:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        status = "finished" if kind is None else "failed"
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            status = "interrupted"
        self.fields.update(status=status, ended=_now(), error=None if error is None else repr(error))
        self._write()

    def add(self, **results: Any) -> None:
        """Note results under their names."""
        self.fields["results"].update(results)
        self._write()

    def _write(self) -> None:
        partial = self.folder / "run.json.partial"
        partial.write_text(json.dumps(self.fields, indent=2) + "\n")
        partial.replace(self.folder / "run.json")


def package_versions() -> dict[str, str]:
    """The installed version of each package that can change a result."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found


def git_commit() -> str | None:
    """The commit of the checkout that this code stands in, with `+` where it has changes; None outside of one."""
    git = shutil.which("git")
    place = Path(__file__).parents[1]
    if git is None or not (place / ".git").exists():
        return None

    def ask(*arguments: str) -> str:
        return subprocess.run([git, "-C", place, *arguments], capture_output=True, text=True).stdout.strip()

    return (ask("rev-parse", "HEAD") + ("+" if ask("status", "--porcelain") else "")) or None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
