"""What makes a number believable later: one `run.json` in each run folder, true at every moment.

It is written before the first step with the status `running` and again, whole, whenever something is known: the
evaluations, the end. A run that was interrupted, failed or was stopped by a guard says so. What has to stay the same
when a run goes on, such as the weights and the judge, is noted as `fixed` and compared.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Collection, Mapping
from contextlib import nullcontext, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rlvr_cpp.errors import RunStopped, UserError
from rlvr_cpp.runs.files import differing_fields, replace_text

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

RUN_FILE, METRICS = "run.json", "metrics.jsonl"
PACKAGES = (
    "rlvr-cpp",
    "torch",
    "transformers",
    "trl",
    "peft",
    "accelerate",
    "bitsandbytes",
    "datasets",
    "hydra-core",
    "numpy",
)


class RunRecord:
    """The record of one run; as a context manager it notes how the run ended.

    A folder that holds one already is a run that goes on: what is known of it stays. `fixed` begins a new run's results
    and raises UserError where a run that goes on had something else there, unless it is `accepted` by its name; None
    where a command has no way to accept. What it did not note stays unknown, for nobody can tell any more what it was.
    Accepted changes, and settings of the job that are others now, are noted under `changes`. With `write` false nothing
    reaches the disk, for the processes of a run that are not its first.
    """

    def __init__(
        self,
        folder: Path,
        job: DataclassInstance,
        compiler: str,
        fixed: Mapping[str, Any],
        *,
        accepted: Collection[str] | None = None,
        write: bool = True,
    ) -> None:
        self.folder, self.write = folder, write
        if (folder / RUN_FILE).exists():
            self.fields = read_record(folder)
            changes = _fact_changes(folder, self.fields["results"], fixed, accepted)
            self.fields["results"].update({change["name"]: change["is"] for change in changes})
            changes += _setting_changes(self.fields["config"], asdict(job))
            self.fields.update(status="running", ended=None, error=None, config=asdict(job))
            self.fields.setdefault("resumed", []).append(utc_now())
            if changes:
                self.fields.setdefault("changes", []).extend({"at": utc_now(), **change} for change in changes)
        else:
            self.fields = _fresh(job, compiler, fixed)
        self._write()

    def __enter__(self) -> RunRecord:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        status = "finished" if kind is None else "failed"
        for ending, name in ((KeyboardInterrupt, "interrupted"), (RunStopped, "stopped")):
            if kind is not None and issubclass(kind, ending):
                status = name
        self.fields.update(status=status, ended=utc_now(), error=None if error is None else str(error) or repr(error))
        with suppress(OSError) if error else nullcontext():  # a disk that ended the run does not take this either
            self._write()

    def add(self, **results: Any) -> None:
        """Note results under their names."""
        self.fields["results"].update(results)
        self._write()

    def _write(self) -> None:
        if self.write:
            replace_text(self.folder / RUN_FILE, json.dumps(self.fields, indent=2) + "\n")


def read_record(folder: Path) -> dict[str, Any]:
    """The record of the run in a folder. Raises UserError where there is none that can be read."""
    try:
        fields: dict[str, Any] = json.loads((folder / RUN_FILE).read_text())
        if not all(isinstance(fields[name], dict) for name in ("config", "results")):
            raise TypeError("its config or results are no objects")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(
            f"{folder} holds no run that can be read ({error}): give the folder with its {RUN_FILE}"
        ) from error
    return fields


def _fact_changes(
    folder: Path, known: Mapping[str, Any], fixed: Mapping[str, Any], accepted: Collection[str] | None
) -> list[dict[str, Any]]:
    """What is another than the run noted. Raises UserError where that was not accepted."""
    changed = [name for name, value in fixed.items() if known.get(name, value) != value]
    if refused := [name for name in changed if name not in (accepted or ())]:
        way_out = "" if accepted is None else f", or go on with accept_changes=[{','.join(refused)}], which is noted"
        details = "; ".join(_difference(name, known[name], fixed[name]) for name in refused)
        raise UserError(
            f"{' and '.join(refused)} of the run in {folder} {'is' if len(refused) == 1 else 'are'} not what it was "
            f"({details}): the tasks, the compiler, its limits, the model or its adapter have changed since; put back "
            f"what it had, or begin a new run{way_out}"
        )
    return [{"name": name, "was": known[name], "is": fixed[name]} for name in changed]


def _difference(name: str, was: Any, now: Any) -> str:
    if isinstance(was, Mapping) and isinstance(now, Mapping):
        return "; ".join(differing_fields(was, now))
    return f"{name}: {_shown(was)} and {_shown(now)}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:60]}..."


def _setting_changes(was: Mapping[str, Any], now: Mapping[str, Any], group: str = "") -> list[dict[str, Any]]:
    """What a run that goes on is told otherwise."""
    changes = []
    for name, value in now.items():
        if isinstance(value, dict) and isinstance(was.get(name), dict):
            changes += _setting_changes(was[name], value, f"{group}{name}.")
        elif name in was and was[name] != value:
            changes.append({"name": f"{group}{name}", "was": was[name], "is": value})
    return changes


def _fresh(job: DataclassInstance, compiler: str, results: Mapping[str, Any]) -> dict[str, Any]:
    config = asdict(job)
    return {
        "status": "running",
        "started": utc_now(),
        "ended": None,
        "error": None,
        "command": sys.orig_argv,
        "git_commit": git_commit(),
        "compiler": compiler,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "hardware": hardware(),
        "packages": package_versions(),
        "seed": config["seed"],
        "config": config,
        "results": dict(results),
    }


def hardware() -> dict[str, Any]:
    """Cores this process may use, and the GPUs that torch sees, where this process has any use for it."""
    torch = sys.modules.get("torch")
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if torch else []
    return {"cores": len(os.sched_getaffinity(0)), "gpus": gpus}


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
    place = Path(__file__).parents[2]
    if git is None or not (place / ".git").exists():
        return None

    def ask(*arguments: str) -> str:
        return subprocess.run([git, "-C", place, *arguments], capture_output=True, text=True).stdout.strip()

    return (ask("rev-parse", "HEAD") + ("+" if ask("status", "--porcelain") else "")) or None


def utc_now() -> str:
    """The time as records have it: ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
