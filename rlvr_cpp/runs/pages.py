"""How reports look, said once: a table for the terminal, axes to draw on, a page from a template.

matplotlib is used through its objects and never through pyplot, whose state belongs to the program that imports us. It
and Jinja are loaded where something is drawn: a command that only reads runs does not wait for them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal

from rlvr_cpp.runs.files import draft_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from rich.console import Console
    from rich.text import Text

BLUE, GREEN, ORANGE, GREY = "#2563a8", "#2f855a", "#c05621", "#9aa5b1"
SERIES = ("#0072b2", "#d55e00", "#009e73", "#000000", "#e69f00", "#cc79a7", "#56b4e9", "#882255")
"""Colours of many lines that colour-blind readers can tell apart (Okabe and Ito)."""
SMALL = 9
"""Points: a legend beside several panels."""


def print_table(
    console: Console,
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[str | Text]],
    *,
    justify: Literal["left", "right"] = "right",
) -> None:
    """A table that fits 80 columns: its first column is folded where it is too long, numbers never are.

    All columns but the first are set as `justify` says; texts on the left may be folded as well. Cells are shown as
    they are: brackets are no markup.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for number, column in enumerate(columns):
        is_number = bool(number) and justify == "right"
        table.add_column(column, justify="right" if is_number else "left", overflow="fold", no_wrap=is_number)
    for row in rows:
        table.add_row(*row)
    if title:
        console.print(f"\n{title}", style="italic", markup=False, soft_wrap=True)
    console.print(table, markup=False)


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table in Markdown."""
    cells = ([cell.replace("|", r"\|") for cell in row] for row in (columns, *rows))
    head, *lines = [" ".join(("|", *(f"{cell} |".lstrip() for cell in row))) for row in cells]
    return [head, f"|{'---|' * len(columns)}", *lines]


@contextmanager
def axes(path: Path, size: tuple[float, float], panels: int = 1) -> Iterator[list[Axes]]:
    """Axes side by side, to draw on; after the block they are the PNG at `path`. `size` is in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    drawn = list(figure.subplots(1, panels, squeeze=False)[0])
    for panel in drawn:
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(alpha=0.25)
    yield drawn
    with draft_of(path) as draft:
        figure.savefig(draft, format="png")


def smoothed(curve: Mapping[int, float], reach: int = 3) -> dict[int, float]:
    """Each value's mean with those of the steps at most `reach` away."""
    near = {step: [curve[k] for k in range(step - reach, step + reach + 1) if k in curve] for step in curve}
    return {step: fmean(values) for step, values in near.items()}


def render(template: Path, **values: Any) -> str:
    """The page that a Jinja template makes of values and functions; where it is HTML, values are escaped."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(template.parent),
        autoescape=jinja2.select_autoescape(["html.j2"]),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(template.name).render(values)
