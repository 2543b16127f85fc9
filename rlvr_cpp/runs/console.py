"""What a person sees while waiting: one bar for each long phase, and lines that stay above it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

console = Console(file=sys.stderr, highlight=False, quiet=os.environ.get("RANK", "0") != "0")
"""Of several processes that a launcher started only the first one speaks."""


def banner(**rows: object) -> None:
    """What a run works with, a line each, before it begins."""
    lines = [f"{name:<8}{words}" for name, words in rows.items()]
    console.print("\n".join(lines), markup=False, soft_wrap=True)


@contextmanager
def progress_bar(label: str, total: int) -> Iterator[Callable[[], None]]:
    """A bar on standard error that the yielded function advances by one; it leaves one line when it is done."""
    columns = (
        TextColumn("{task.description:<34}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, refresh_per_second=5) as progress:
        task = progress.add_task(label, total=total)
        yield lambda: progress.advance(task)
