"""How `python -m rlvr_cpp.evaluate` begins: Hydra composes, or a run that is gone on with brings its own config."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from rlvr_cpp import interruption
from rlvr_cpp.command import BAD_INPUT, plain_endings
from rlvr_cpp.config import CONF
from rlvr_cpp.errors import UserError
from rlvr_cpp.evaluation_config import EvaluationJob, load
from rlvr_cpp.run_record import FILE, read_record


def run_command(job: Callable[[EvaluationJob, Path], float]) -> None:
    """Compose the config that the command line asks for and run `job` on it and its run folder.

    Exit status 2 tells of a mistake in the input, 130 of an interruption.
    """
    began = False

    @hydra.main(version_base=None, config_path=CONF, config_name="evaluate")
    def compose_and_run(raw: DictConfig) -> float:
        nonlocal began
        began = True
        own = Path(HydraConfig.get().runtime.output_dir)
        folder = own if raw.resume is None else Path(raw.resume)
        with plain_endings(folder, own):
            return job(_settings(raw, folder, own), folder)

    interruption.listen()  # a polite kill ends like Ctrl-C
    try:
        compose_and_run()
    except SystemExit as end:
        if end.code == 1 and not began:  # Hydra has said which override it could not apply
            sys.exit(BAD_INPUT)
        raise


def _settings(raw: DictConfig, folder: Path, own: Path) -> EvaluationJob:
    """The config of the run in `folder`, which is Hydra's `own` one unless a run goes on."""
    if raw.resume is None:
        if (folder / FILE).exists():
            raise UserError(
                f"{folder} already holds a run: choose another hydra.run.dir, or go on with resume={folder}"
            )
        return load(raw)
    with suppress(OSError):
        own.rmdir()
    if others := [word for word in HydraConfig.get().overrides.task if not word.startswith("resume=")]:
        raise UserError(
            f"resume={folder} goes on with the config that the run has, but {' '.join(others)} was given as well: "
            "leave it out, or begin a new run"
        )
    return load(read_record(folder)["config"])
