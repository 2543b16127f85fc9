"""The runs of a sweep, read from what they left, grouped by their settings with the seeds together, and their numbers.

Only files are read, so that neither torch nor the job is needed. A run without results (failed, stopped by a guard,
still running) is named and counts in no pass rate; one whose files are broken is `unreadable`, and breaks no other.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from omegaconf import OmegaConf

from rlvr_cpp.errors import UserError
from rlvr_cpp.runs.files import read_lines
from rlvr_cpp.runs.record import METRICS, RUN_FILE

OVERRIDES = Path(".hydra", "overrides.yaml")
GREEDY, SAMPLED = "greedy pass@1", "sampled pass@1"

Curve = dict[int, float]
"""A measure by step."""


@dataclass(frozen=True)
class Change:
    """A pass rate of one run before and after training."""

    before: float
    after: float
    p: float | None
    """Paired and two-sided, over tasks."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One job of the sweep, as far as it came."""

    name: str
    """Its folder, as seen from the sweep's."""
    overrides: tuple[str, ...]
    """As given, without `seed`."""
    seed: int | None
    status: str
    """`finished`, `failed`, `interrupted`, `stopped` (by a guard), `running`, `not begun` or `unreadable`."""
    error: str | None
    changes: dict[str, Change]
    """By measure; empty without results."""
    greedy: Curve
    """Held-out greedy pass@1."""
    reward: Curve
    """Of the training batches; a step without a scorable completion is left out."""
    steps: int
    kept_groups: float | None
    """Mean over steps."""
    seconds: float | None
    """Mean over steps."""

    @property
    def has_results(self) -> bool:
        """Whether it was measured before and after training."""
        return bool(self.changes)


@dataclass(frozen=True, kw_only=True)
class Spread:
    """One number of several runs."""

    mean: float
    low: float
    """The lowest run's."""
    high: float
    runs: int


@dataclass(frozen=True)
class Setting:
    """Runs that differ in nothing but the seed."""

    overrides: tuple[str, ...]
    """Those that not all settings share."""
    runs: tuple[Run, ...]

    @property
    def label(self) -> str:
        """Its overrides in one line."""
        return " ".join(self.overrides) or "as configured"

    @property
    def measured(self) -> tuple[Run, ...]:
        """The runs with results."""
        return tuple(run for run in self.runs if run.has_results)

    def before(self, measure: str) -> Spread | None:
        """Over the runs with results; None where there are none."""
        return spread(run.changes[measure].before for run in self.runs if measure in run.changes)

    def after(self, measure: str) -> Spread | None:
        """Over the runs with results; None where there are none."""
        return spread(run.changes[measure].after for run in self.runs if measure in run.changes)

    def kept_groups(self) -> Spread | None:
        """Over all runs that took a step."""
        return spread(run.kept_groups for run in self.runs)

    def seconds(self) -> Spread | None:
        """Of a step, over all runs that took one."""
        return spread(run.seconds for run in self.runs)


@dataclass(frozen=True)
class Sweep:
    """All that is compared."""

    shared: tuple[str, ...]
    """Overrides of all runs."""
    settings: tuple[Setting, ...]

    @property
    def runs(self) -> tuple[Run, ...]:
        """The runs of all settings."""
        return tuple(run for setting in self.settings for run in setting.runs)


def read_sweep(folder: Path) -> Sweep:
    """The runs in the sub-folders, grouped. Raises UserError where there are none."""
    found = {path.parents[1] for path in folder.rglob(str(OVERRIDES))} | {p.parent for p in folder.rglob(RUN_FILE)}
    runs = [read_run(place, folder) for place in sorted(found - {folder}, key=lambda p: _natural(p, folder))]
    if not runs:
        raise UserError(f"{folder} holds no runs: give the folder of a sweep, whose sub-folders are run folders")
    return group(runs)


def _natural(place: Path, folder: Path) -> list[tuple[int, str]]:
    parts = re.split(r"(\d+)", place.relative_to(folder).as_posix())
    return [(int(part), "") if part.isdigit() else (0, part) for part in parts]


def read_run(place: Path, sweep: Path) -> Run:
    """What a run folder tells, however little that is."""
    given = _read_overrides(place / OVERRIDES)
    try:
        rows, record = _read_metrics(place / METRICS), _read_record(place / RUN_FILE)
    except UserError as error:
        rows, record = {}, {"status": "unreadable", "error": str(error)}
    results = record.get("results") or {}
    seed = record.get("seed", given.pop("seed", None))
    greedy = {int(step): value for step, value in results.get("greedy_by_step") or [] if _is_number(value)}
    return Run(
        name=place.relative_to(sweep).as_posix(),
        overrides=tuple(text for key, text in given.items() if key != "seed"),
        seed=int(str(seed).rpartition("=")[2]) if seed is not None else None,
        status=record.get("status", "not begun"),
        error=record.get("error"),
        changes={
            row["measure"]: Change(row["before"]["mean"], row["after"]["mean"], row.get("p"))
            for row in results.get("comparison") or []
            if _is_number(row["before"]["mean"]) and _is_number(row["after"]["mean"])
        },
        greedy=greedy,
        reward={step: row["reward"] for step, row in rows.items() if _is_number(row.get("reward"))},
        steps=len(rows),
        kept_groups=_mean(row.get("kept_groups") for row in rows.values()),
        seconds=_mean(row.get("seconds") for row in rows.values()),
    )


def _read_overrides(path: Path) -> dict[str, str]:
    """The overrides by key; of a key given twice the last counts, as in Hydra."""
    texts = OmegaConf.to_container(OmegaConf.load(path)) if path.exists() else []
    return {str(text).partition("=")[0].lstrip("+"): str(text) for text in texts or []}


def _read_record(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        record: dict[str, Any] = json.loads(path.read_text())
    except ValueError as error:
        return {"status": "unreadable", "error": str(error)}
    return record


def _read_metrics(path: Path) -> dict[int, dict[str, Any]]:
    """Rows by step; where a resumed run told a step again the last one counts."""
    return dict(sorted(dict(read_lines(path, _read_row)).items()))


def _read_row(line: str) -> tuple[int, dict[str, Any]]:
    row = json.loads(line)
    return int(row["step"]), row


def group(runs: Sequence[Run]) -> Sweep:
    """Runs with the same overrides together, in the order of their first; what all share is taken out."""
    together: dict[tuple[str, ...], list[Run]] = {}
    for run in runs:
        together.setdefault(tuple(sorted(run.overrides)), []).append(run)
    common = set.intersection(*(set(key) for key in together))
    first = runs[0].overrides
    settings = [
        Setting(tuple(text for text in members[0].overrides if text not in common), tuple(members))
        for members in together.values()
    ]
    return Sweep(tuple(text for text in first if text in common), tuple(settings))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def spread(values: Iterable[float | None]) -> Spread | None:
    """Mean, least and most of the values that are there; None where none is."""
    found = [value for value in values if value is not None and math.isfinite(value)]
    if not found:
        return None
    return Spread(mean=fmean(found), low=min(found), high=max(found), runs=len(found))


def _mean(values: Iterable[float | None]) -> float | None:
    found = spread(values)
    return found.mean if found else None


def mean_curve(curves: Sequence[Curve]) -> Curve:
    """The mean at the steps that all curves know, so that it never jumps where one of them ends."""
    shared = set.intersection(*(set(curve) for curve in curves)) if curves else set()
    return {step: fmean(curve[step] for curve in curves) for step in sorted(shared)}


def to_json(sweep: Sweep) -> dict[str, Any]:
    """All numbers, settings first."""
    return {
        "shared_overrides": sweep.shared,
        "settings": [
            {
                "overrides": setting.overrides,
                "runs": [run.name for run in setting.runs],
                "seeds": [run.seed for run in setting.runs],
                "measured_runs": [run.name for run in setting.measured],
                "pass_at_1": {
                    measure: {"before": asdict(before), "after": asdict(after)}
                    for measure in (GREEDY, SAMPLED)
                    if (before := setting.before(measure)) and (after := setting.after(measure))
                },
                "kept_groups": (kept := setting.kept_groups()) and asdict(kept),
                "seconds_per_step": (seconds := setting.seconds()) and asdict(seconds),
            }
            for setting in sweep.settings
        ],
        "runs": [asdict(run) for run in sweep.runs],
    }
