"""How a command begins and how it ends: Hydra composes, a mistake is one sentence, an interruption no traceback."""

from __future__ import annotations

import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from rlvr_cpp.config import CONF, GSPOJob, load
from rlvr_cpp.errors import UserError

BAD_INPUT, INTERRUPTED = 2, 130


def run_command(job: Callable[[GSPOJob, Path], float], config_name: str) -> None:
    """Compose the config that the command line asks for and run `job` on it and its run folder.

    Exit status 2 tells of a mistake in the input, 130 of an interruption.
    """
    began = False

    @hydra.main(version_base=None, config_path=CONF, config_name=config_name)
    def compose_and_run(raw: DictConfig) -> float:
        nonlocal began
        began = True
        folder = Path(HydraConfig.get().runtime.output_dir)
        with plain_endings(folder):
            return job(load(raw), folder)

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite kill ends like Ctrl-C
    try:
        compose_and_run()
    except SystemExit as end:
        if end.code == 1 and not began:  # Hydra has said which override it could not apply
            sys.exit(BAD_INPUT)
        raise


@contextmanager
def plain_endings(folder: Path) -> Iterator[None]:
    """Turn a UserError into exit status 2 and Ctrl-C into 130.

    A mistake is found before the run begins; what Hydra then wrote into `folder` is removed, and nothing else.
    """
    try:
        yield
    except UserError as error:
        _forget(folder)
        print(f"error: {error}", file=sys.stderr)
        sys.exit(BAD_INPUT)
    except KeyboardInterrupt:
        if (folder / "run.json").exists():
            print(f"interrupted; what there is stands in {folder}", file=sys.stderr)
        else:
            _forget(folder)
            print("interrupted before the run began", file=sys.stderr)
        sys.exit(INTERRUPTED)


def _forget(folder: Path) -> None:
    """Remove Hydra's own files of a run that never began, and the folder if that leaves it empty."""
    if not (folder / "run.json").exists():
        shutil.rmtree(folder / ".hydra", ignore_errors=True)
        with suppress(OSError):
            folder.rmdir()
