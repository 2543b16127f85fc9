"""What a sweep found, in words, as a table and as a picture."""

from __future__ import annotations

import json
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlvr_cpp.runs.files import replace_text
from rlvr_cpp.runs.pages import SERIES, SMALL, axes, markdown_table, print_table, smoothed
from rlvr_cpp.runs.sweep_runs import (
    GREEDY,
    SAMPLED,
    Curve,
    Run,
    Setting,
    Spread,
    Sweep,
    mean_curve,
    read_sweep,
    to_json,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from rich.console import Console

MARKERS = "osD^vPX*"
NARROWEST, OTHER_COLUMNS = 24, 49
"""Characters of the terminal's table: the least for a setting, and what the other columns take."""


def compare_runs(folder: Path, console: Console) -> Sweep:
    """Write `comparison.md`, `.json` and `.png` into the folder and print the table.

    Raises UserError where the folder holds no runs.
    """
    sweep = read_sweep(folder)
    replace_text(folder / "comparison.md", markdown(sweep))
    replace_text(folder / "comparison.json", json.dumps(to_json(sweep), indent=2) + "\n")
    plot(sweep, folder / "comparison.png")
    print_sweep(sweep, console)
    console.print(f"comparison: {folder / 'comparison.md'}, comparison.png", markup=False, soft_wrap=True)
    return sweep


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
    columns = ("setting", "runs", "seeds", GREEDY, SAMPLED, "kept groups", "seconds a step")
    lines += markdown_table(columns, map(_markdown_cells, sweep.settings))
    lines += [
        "",
        "pass@1 on held-out tasks and hidden tests, before → after training: the mean over seeds, in parentheses the "
        "lowest and highest after training. Kept groups and seconds are means over the steps of all runs.",
    ]
    missing = _missing(sweep)
    if missing:
        lines += ["", "Without results:", "", *(f"- {text}" for text in missing)]
    return "\n".join([*lines, "", "![learning curves](comparison.png)", ""])


def _markdown_cells(setting: Setting) -> tuple[str, ...]:
    return (
        "<br>".join(f"`{text}`" for text in setting.overrides) or setting.label,
        _count(setting),
        ", ".join("?" if run.seed is None else str(run.seed) for run in setting.runs),
        *(" ".join(filter(None, texts)) for texts in _both(setting, 3)),
        _number(setting.kept_groups()),
        _number(setting.seconds(), 2),
    )


def _both(setting: Setting, digits: int) -> tuple[tuple[str, str], ...]:
    return _change(setting, GREEDY, digits), _change(setting, SAMPLED, digits)


def print_sweep(sweep: Sweep, console: Console) -> None:
    """The comparison in the terminal, 80 columns for settings with names of ordinary length."""
    width = max(NARROWEST, console.width - OTHER_COLUMNS)
    runs = f"{len(sweep.runs)} run{'s' * (len(sweep.runs) != 1)}"
    title = f"{runs}: held-out pass@1 before → after (lowest–highest seed)"
    columns = ("setting", "runs", "greedy", "sampled", "kept", "s/step")
    print_table(console, title, columns, (_cells(setting, width) for setting in sweep.settings))
    if sweep.shared:
        console.print(f"all runs: {' '.join(sweep.shared)}", markup=False)
    for text in _missing(sweep):
        console.print(f"without results: {text}", style="yellow", markup=False)


def _cells(setting: Setting, width: int) -> tuple[str, ...]:
    """One override a line; what is too long for one is broken behind the equals sign."""
    overrides = [text if len(text) <= width else text.replace("=", "=\n  ", 1) for text in setting.overrides]
    return (
        "\n".join(overrides) or setting.label,
        _count(setting),
        *("\n".join(filter(None, texts)) for texts in _both(setting, 2)),
        _number(setting.kept_groups()),
        _number(setting.seconds()),
    )


def plot(sweep: Sweep, path: Path) -> None:
    """Learning curves: one colour a setting, thin lines for its seeds, a thick one for their mean."""
    shown = best_settings(sweep, len(SERIES))
    labels = [_legend_label(setting) for setting in shown]
    columns = 2 if len(shown) > 1 and max(len(line) for text in labels for line in text.splitlines()) <= 60 else 1
    rows = sum(text.count("\n") + 1 for text in labels) / columns
    with axes(path, (10, 4.2 + 0.22 * rows), panels=2) as (left, right):
        handles = []
        for number, setting in enumerate(shown):
            style = {"color": SERIES[number], "zorder": 10 - number}
            handles.append(_draw(left, setting, [run.greedy for run in setting.runs], style, MARKERS[number]))
            _draw(right, setting, [smoothed(run.reward) for run in setting.runs], style, MARKERS[number])
        seeds = any(len(setting.runs) > 1 for setting in shown)
        _dress(left, f"greedy pass@1 on held-out tasks{' (thick: mean over seeds)' * seeds}")
        _dress(right, "training reward, smoothed")
        figure = left.figure
        figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False, fontsize=SMALL)
        if len(shown) < len(sweep.settings):
            figure.suptitle(f"the best {len(shown)} of {len(sweep.settings)} settings", fontsize=10, x=0.01, ha="left")


def best_settings(sweep: Sweep, count: int) -> list[Setting]:
    """At most `count`, in the sweep's order: those with the highest greedy pass@1 after training."""

    def score(setting: Setting) -> float:
        after = setting.after(GREEDY)
        return after.mean if after else -1.0

    best = sorted(sweep.settings, key=score, reverse=True)[:count]
    return [setting for setting in sweep.settings if setting in best]


def _legend_label(setting: Setting) -> str:
    return textwrap.fill(setting.label, 90).replace("$", r"\$")


def _draw(panel: Axes, setting: Setting, curves: list[Curve], style: dict[str, Any], marker: str) -> Any:
    """A setting's lines, and the thick one for the legend. Its mean is over the runs with results, where any has."""
    whole = [curve for curve, run in zip(curves, setting.runs, strict=True) if curve and run.has_results]
    drawn = [curve for curve in curves if curve]
    for curve in drawn if len(drawn) > 1 else []:
        panel.plot(list(curve), list(curve.values()), linewidth=0.8, alpha=0.45, **style)
    mean = mean_curve(whole or drawn)
    every = max(1, len(mean) // 8)
    (line,) = panel.plot(
        list(mean), list(mean.values()), linewidth=2.4, marker=marker, markersize=6, markevery=every, **style
    )
    return line


def _dress(panel: Axes, title: str) -> None:
    panel.set_title(title, loc="left", fontsize=10)
    panel.set_xlabel("step")
    if not any(len(line.get_xdata()) for line in panel.lines):  # type: ignore[arg-type]
        panel.set(xticks=(), yticks=())
        panel.text(0.5, 0.5, "nothing measured", ha="center", va="center", transform=panel.transAxes, color="grey")
