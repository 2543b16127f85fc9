"""What a sweep found: one table and one plot over its runs, grouped by their settings with the seeds together.

Hydra calls `Comparison` in the launching process when a multirun is over, whichever launcher ran the jobs;
`python -m rlvr_cpp.runs.sweep FOLDER` makes the same again from what is on disk. Only files are read, so that neither
torch nor the job is needed. A run without results (failed, stopped by a guard, still running) is named beneath the
table and counts in no pass rate; a sweep that ends in an error is compared all the same, when the process exits.
"""

from __future__ import annotations

import argparse
import atexit
import json
import math
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from rlvr_cpp.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from rich.console import Console

OVERRIDES = Path(".hydra", "overrides.yaml")
GREEDY, SAMPLED = "greedy pass@1", "sampled pass@1"
COLORS = ("#0072b2", "#d55e00", "#009e73", "#000000", "#e69f00", "#cc79a7", "#56b4e9", "#882255")
MARKERS = "osD^vPX*"
NARROWEST, OTHER_COLUMNS = 24, 49
"""Characters of the terminal's table: the least for a setting, and what the other columns take."""

Curve = dict[int, float]
"""A measure by step."""


@dataclass(frozen=True)
class Change:
    """A pass rate of one run before and after training."""

    before: float
    after: float
    p: float | None
    """Paired and two-sided, over tasks."""


@dataclass(frozen=True)
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


@dataclass(frozen=True)
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
        """In one line."""
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
        """Of all settings."""
        return tuple(run for setting in self.settings for run in setting.runs)


class Comparison(Callback):
    """Hydra's callback: compares the runs of a multirun once it is over, or when the process exits without its end."""

    def __init__(self) -> None:
        self._folder: Path | None = None

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Hydra tells no callback of a sweep that an error ends."""
        self._folder = Path(config.hydra.sweep.dir).absolute()
        atexit.register(self._compare, "the sweep ended early; settings that no run began with are missing here")

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """All jobs have returned."""
        self._folder = Path(config.hydra.sweep.dir).absolute()
        self._compare()

    def _compare(self, remark: str = "") -> None:
        from rlvr_cpp.runs.console import console

        folder, self._folder = self._folder, None
        if folder is None:
            return
        try:
            compare_runs(folder, console)
            if remark:
                console.print(remark, style="yellow")
        except UserError as error:
            console.print(f"no comparison: {error}", markup=False, soft_wrap=True)


def compare_runs(folder: Path, console: Console) -> Sweep:
    """Write `comparison.md`, `.json` and `.png` into the folder and print the table.

    Raises UserError where the folder holds no runs.
    """
    sweep = read_sweep(folder)
    (folder / "comparison.md").write_text(markdown(sweep))
    (folder / "comparison.json").write_text(json.dumps(to_json(sweep), indent=2) + "\n")
    plot(sweep, folder / "comparison.png")
    print_table(sweep, console)
    console.print(f"comparison: {folder / 'comparison.md'}, comparison.png", markup=False, soft_wrap=True)
    return sweep


# --- reading ---


def read_sweep(folder: Path) -> Sweep:
    """The runs in the sub-folders, grouped. Raises UserError where there are none."""
    found = {path.parents[1] for path in folder.rglob(str(OVERRIDES))} | {p.parent for p in folder.rglob("run.json")}
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
    record = _read_record(place / "run.json")
    results = record.get("results") or {}
    rows = _read_metrics(place / "metrics.jsonl")
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
    """Rows by step; a resumed run tells some steps again, and a killed one may leave half a line."""
    rows = {}
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            row = json.loads(line)
            rows[int(row["step"])] = row
        except (ValueError, KeyError):
            continue
    return dict(sorted(rows.items()))


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


# --- numbers ---


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def spread(values: Iterable[float | None]) -> Spread | None:
    """Mean, least and most of the values that are there; None where none is."""
    found = [value for value in values if value is not None and math.isfinite(value)]
    return Spread(sum(found) / len(found), min(found), max(found), len(found)) if found else None


def _mean(values: Iterable[float | None]) -> float | None:
    found = spread(values)
    return found.mean if found else None


def mean_curve(curves: Sequence[Curve]) -> Curve:
    """The mean at the steps that all curves know, so that it never jumps where one of them ends."""
    shared = set.intersection(*(set(curve) for curve in curves)) if curves else set()
    return {step: sum(curve[step] for curve in curves) / len(curves) for step in sorted(shared)}


def smoothed(curve: Curve, reach: int = 3) -> Curve:
    """Each value's mean with those of the steps at most `reach` away."""
    near = {step: [curve[k] for k in range(step - reach, step + reach + 1) if k in curve] for step in curve}
    return {step: sum(values) / len(values) for step, values in near.items()}


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


# --- words ---


def _change(setting: Setting, measure: str, digits: int) -> tuple[str, str]:
    """`before -> after`, and the range of after where there are several runs."""
    before, after = setting.before(measure), setting.after(measure)
    if before is None or after is None:
        return "-", ""
    span = f"({after.low:.{digits}f}–{after.high:.{digits}f})" if after.runs > 1 else ""
    return f"{before.mean:.{digits}f} → {after.mean:.{digits}f}", span


def _number(value: Spread | None, digits: int = 1) -> str:
    return "-" if value is None else f"{value.mean:.{digits}f}"


def _count(setting: Setting) -> str:
    measured, runs = len(setting.measured), len(setting.runs)
    return str(runs) if measured == runs else f"{measured} of {runs}"


def describe_missing(run: Run) -> str:
    """One sentence on a run without results."""
    status = {
        "finished": "finished without results",
        "running": "still running, or killed",
        "stopped": "stopped by a guard",
        "not begun": "did not begin",
    }.get(run.status, run.status)
    seed = () if run.seed is None else (f"seed={run.seed}",)
    reason = f": {' '.join(run.error.split())}" if run.error else ""
    steps = f" after {run.steps} step{'s' * (run.steps != 1)}" if run.steps else ""
    overrides = " ".join((*run.overrides, *seed))
    return f"{run.name}{f' ({overrides})' if overrides else ''} {status}{steps}{reason}"


def _missing(sweep: Sweep) -> list[str]:
    """A sentence for each run without results, which leaves out the overrides that all share."""
    return [
        describe_missing(replace(run, overrides=setting.overrides))
        for setting in sweep.settings
        for run in setting.runs
        if not run.has_results
    ]


def markdown(sweep: Sweep) -> str:
    """The comparison as a page of Markdown."""
    lines = ["# Comparison of the sweep", ""]
    if sweep.shared:
        lines += [f"All runs: `{' '.join(sweep.shared)}`", ""]
    lines += [
        "| setting | runs | seeds | greedy pass@1 | sampled pass@1 | kept groups | seconds a step |",
        "|---|---|---|---|---|---|---|",
    ]
    for setting in sweep.settings:
        changes = (" ".join(filter(None, texts)) for texts in _both(setting, 3))
        cells = (
            "<br>".join(f"`{text}`" for text in setting.overrides) or setting.label,
            _count(setting),
            ", ".join("?" if run.seed is None else str(run.seed) for run in setting.runs),
            *changes,
            _number(setting.kept_groups()),
            _number(setting.seconds(), 2),
        )
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    lines += [
        "",
        "pass@1 on held-out tasks and hidden tests, before → after training: the mean over seeds, in parentheses the "
        "lowest and highest after training. Kept groups and seconds are means over the steps of all runs.",
    ]
    missing = _missing(sweep)
    if missing:
        lines += ["", "Without results:", "", *(f"- {text}" for text in missing)]
    return "\n".join([*lines, "", "![learning curves](comparison.png)", ""])


def _both(setting: Setting, digits: int) -> tuple[tuple[str, str], ...]:
    return _change(setting, GREEDY, digits), _change(setting, SAMPLED, digits)


def print_table(sweep: Sweep, console: Console) -> None:
    """The comparison in the terminal, 80 columns for settings with names of ordinary length."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    width = max(NARROWEST, console.width - OTHER_COLUMNS)
    runs = f"{len(sweep.runs)} run{'s' * (len(sweep.runs) != 1)}"
    console.print(f"\n{runs}: held-out pass@1 before → after (lowest–highest seed)", style="italic")
    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column("setting", overflow="fold")
    for column in ("runs", "greedy", "sampled", "kept", "s/step"):
        table.add_column(column, justify="right", no_wrap=True)
    for setting in sweep.settings:
        table.add_row(
            _cell(setting, width),
            _count(setting),
            *("\n".join(filter(None, texts)) for texts in _both(setting, 2)),
            _number(setting.kept_groups()),
            _number(setting.seconds()),
        )
    console.print(table, markup=False)
    if sweep.shared:
        console.print(f"all runs: {' '.join(sweep.shared)}", markup=False)
    for text in _missing(sweep):
        console.print(f"without results: {text}", style="yellow", markup=False)


def _cell(setting: Setting, width: int) -> Any:
    """One override a line; what is too long for one is broken behind the equals sign."""
    from rich.text import Text

    texts = [text if len(text) <= width else text.replace("=", "=\n  ", 1) for text in setting.overrides]
    return Text("\n".join(texts) or setting.label)


# --- picture ---


def plot(sweep: Sweep, path: Path) -> None:
    """Learning curves: one colour a setting, thin lines for its seeds, a thick one for their mean."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = best_settings(sweep, len(COLORS))
    labels = [_legend_label(setting) for setting in shown]
    columns = 2 if len(shown) > 1 and max(len(line) for text in labels for line in text.splitlines()) <= 60 else 1
    rows = sum(text.count("\n") + 1 for text in labels) / columns
    figure = Figure(figsize=(10, 4.2 + 0.22 * rows), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    handles = []
    for number, setting in enumerate(shown):
        style = {"color": COLORS[number], "zorder": 10 - number}
        handles.append(_draw(left, setting, [run.greedy for run in setting.runs], style, MARKERS[number]))
        _draw(right, setting, [smoothed(run.reward) for run in setting.runs], style, MARKERS[number])
    seeds = any(len(setting.runs) > 1 for setting in shown)
    _dress(left, f"greedy pass@1 on held-out tasks{' (thick: mean over seeds)' * seeds}")
    _dress(right, "training reward, smoothed")
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False, fontsize=9)
    if len(shown) < len(sweep.settings):
        figure.suptitle(f"the best {len(shown)} of {len(sweep.settings)} settings", fontsize=10, x=0.01, ha="left")
    figure.savefig(path)


def best_settings(sweep: Sweep, count: int) -> list[Setting]:
    """At most `count`, in the sweep's order: those with the highest greedy pass@1 after training."""

    def score(setting: Setting) -> float:
        after = setting.after(GREEDY)
        return after.mean if after else -1.0

    best = sorted(sweep.settings, key=score, reverse=True)[:count]
    return [setting for setting in sweep.settings if setting in best]


def _legend_label(setting: Setting) -> str:
    import textwrap

    return textwrap.fill(setting.label, 90).replace("$", r"\$")


def _draw(axes: Axes, setting: Setting, curves: list[Curve], style: dict[str, Any], marker: str) -> Any:
    """A setting's lines, and the thick one for the legend. Its mean is over the runs with results, where any has."""
    whole = [curve for curve, run in zip(curves, setting.runs, strict=True) if curve and run.has_results]
    drawn = [curve for curve in curves if curve]
    for curve in drawn if len(drawn) > 1 else []:
        axes.plot(list(curve), list(curve.values()), linewidth=0.8, alpha=0.45, **style)
    mean = mean_curve(whole or drawn)
    every = max(1, len(mean) // 8)
    (line,) = axes.plot(
        list(mean), list(mean.values()), linewidth=2.4, marker=marker, markersize=6, markevery=every, **style
    )
    return line


def _dress(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=10)
    axes.set_xlabel("step")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    if not any(len(line.get_xdata()) for line in axes.lines):  # type: ignore[arg-type]
        axes.set(xticks=(), yticks=())
        axes.text(0.5, 0.5, "nothing measured", ha="center", va="center", transform=axes.transAxes, color="grey")


# --- the command ---


def main() -> int:
    """Compare the runs of a folder again; exit 2 where it holds none."""
    from rich.console import Console

    parser = argparse.ArgumentParser(prog="python -m rlvr_cpp.runs.sweep", description="Compare the runs of a sweep.")
    parser.add_argument("folder", type=Path, help="the sweep's folder, whose sub-folders are runs")
    try:
        compare_runs(parser.parse_args().folder, Console(highlight=False))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
