"""Compare the runs of a sweep: `python -m rlvr_cpp.runs.sweep FOLDER`, and by itself when a multirun is over.

Hydra calls `CompareRuns` in the launching process, whichever launcher ran the jobs; a sweep that ends in an error is
compared all the same, when the process exits. The command makes the same again from what is on disk.
"""

from __future__ import annotations

import argparse
import atexit
import shutil
import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from rlvr_cpp.errors import Parser, UserError
from rlvr_cpp.runs.files import remove_empty
from rlvr_cpp.runs.options import plain_main
from rlvr_cpp.runs.sweep_report import compare_runs


class CompareRuns(Callback):
    """Hydra's callback: compares the runs of a multirun once it is over, or when the process exits without its end."""

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._here = Path.cwd()

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Hydra tells no callback of a sweep that an error ends."""
        self._folder, self._here = Path(config.hydra.sweep.dir).absolute(), Path.cwd()
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
            if not any(path.is_dir() for path in folder.iterdir()):  # no run began
                shutil.rmtree(folder)
                remove_empty(folder.parent, self._here)
            console.print(f"no comparison: {error}", markup=False, soft_wrap=True)


def main() -> int:
    """Compare the runs of a folder again; exit 2 where it holds none."""
    return plain_main(_parser)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m rlvr_cpp.runs.sweep", description="Compare the runs of a sweep.")
    parser.add_argument("folder", type=Path, help="the sweep's folder, whose sub-folders are runs")
    parser.set_defaults(run=_compare)
    return parser


def _compare(call: argparse.Namespace) -> None:
    from rich.console import Console

    compare_runs(call.folder, Console(highlight=False))


if __name__ == "__main__":
    sys.exit(main())
