"""How a command with a config and a run folder begins and ends: a mistake is one sentence, an interruption no trace.

Commands that have options alone: `options.py`.
"""

from __future__ import annotations

import errno
import math
import os
import re
import shutil
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from rlvr_cpp.errors import RunStopped, UserError, first_line
from rlvr_cpp.runs import interruption
from rlvr_cpp.runs.config import CONF
from rlvr_cpp.runs.files import remove_empty
from rlvr_cpp.runs.help import config_keys, help_page
from rlvr_cpp.runs.options import BAD_INPUT, INSTALL
from rlvr_cpp.runs.record import RUN_FILE, read_record

if TYPE_CHECKING:
    from omegaconf import DictConfig

STOPPED, INTERRUPTED = 3, 130
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
LEAST_FREE = 1 << 20
"""Bytes; on a disk with less, whatever failed is taken for its fault."""
NO_KEY = re.compile(r"Could not override '([^']+)'")
ADD = re.compile(r"To append to your default list use (\S+)")
OPTIONS = re.compile(r"Available options in '[^']*':\n((?:\t.+\n?)+)")
"""Of what Hydra says of an override that it refuses, in several lines about itself."""
Settings = TypeVar("Settings")
Job = Callable[[Settings, Path], float]
Load = Callable[[Any], Settings]


def hydra_main(
    job: Job[Settings],
    config_name: str,
    load: Load[Settings],
    *,
    kind: type[Settings],
    usage: str,
    changeable: Collection[str] = (),
) -> None:
    """Compose the config that the command line asks for and run `job` on it, as `load` reads it, and its run folder.

    A run that goes on has the config that it had, but for keys that are `changeable`. `--help` prints `usage` and the
    fields of `kind`, which `load` gives, and asks for no extra. Exit status 2 tells of a mistake in the input, 3 of a
    guard that ended the run, 130 of an interruption.
    """
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(help_page(usage, config_name, kind))
        return
    try:
        import hydra
        from hydra.core.hydra_config import HydraConfig
        from hydra.errors import HydraException
        from hydra.types import RunMode
        from omegaconf.errors import OmegaConfBaseException
    except ModuleNotFoundError as error:
        _refuse(f"{error.name} is missing: this command needs the extra 'train': {INSTALL}")
    began = False

    @hydra.main(version_base=None, config_path=CONF, config_name=config_name)
    def compose_and_run(raw: DictConfig) -> float:
        nonlocal began
        began = True
        own = Path(HydraConfig.get().runtime.output_dir)
        folder = own if raw.resume is None else Path(str(raw.resume))  # which is told, whatever it is
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            return _one_of_many(job, load, raw, folder)
        asked = HydraConfig.get().overrides.task
        with _plain_endings(folder, own):
            return _run(job, load, raw, folder, own, asked, changeable)

    interruption.listen()  # a polite kill ends like Ctrl-C
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors are told here, not by Hydra
    try:
        _check_options(sys.argv[1:])
        _refuse_a_known_run(sys.argv[1:])
        if not _is_first():
            sys.argv.append("hydra.output_subdir=null")
        compose_and_run()
    except UserError as error:
        _refuse(str(error))
    except (HydraException, OmegaConfBaseException, ValueError, OSError) as error:
        if began and not isinstance(error, HydraException):
            raise
        _refuse(_what_is_wrong(error, config_name))


def _refuse(sentence: str) -> NoReturn:
    print(f"error: {sentence}", file=sys.stderr)
    sys.exit(BAD_INPUT)


def _check_options(argv: Sequence[str]) -> None:
    """Raise UserError for what begins with a dash and is no option of Hydra's."""
    from hydra._internal.utils import get_args_parser

    def refuse(message: str) -> NoReturn:
        raise UserError(f"{message}: settings are given as key=value, --help lists them")

    parser: Any = get_args_parser()
    parser.error = refuse
    parser.parse_intermixed_args(argv)


def _what_is_wrong(error: Exception, config_name: str) -> str:
    """The sentence for an error of Hydra's, with the setting that is nearest to what was written."""
    text = str(error)
    if isinstance(error, OSError) and error.filename is not None:
        return f"the run folder cannot be made ({first_line(error)}): choose another hydra.run.dir"
    if add := ADD.search(text):
        return f"{first_line(error).rstrip('.')}: use {add[1]}"
    if missing := NO_KEY.search(text):
        keys = config_keys(config_name)
        near = get_close_matches(missing[1], [*keys, *{key.partition(".")[0] for key in keys}], 1, 0.7)
        return f"there is no setting {missing[1]!r}: {f'do you mean {near[0]!r}? ' if near else ''}--help lists all"
    if options := OPTIONS.search(text):
        return f"{first_line(error)}: it must be one of {', '.join(options[1].split())}"
    return f"{first_line(error).rstrip('.')}: settings are given as key=value, --help lists them"


def _refuse_a_known_run(argv: Sequence[str]) -> None:
    """Raise UserError for a run folder that holds a run, over whose files Hydra would write its own."""
    given = dict(word.split("=", 1) for word in argv if "=" in word)
    folder = Path(given.get("hydra.run.dir", ""))
    if "hydra.run.dir" in given and "resume" not in given and (folder / RUN_FILE).exists():
        raise UserError(f"{folder} already holds a run: choose another hydra.run.dir, or go on with resume={folder}")


def _one_of_many(job: Job[Settings], load: Load[Settings], raw: DictConfig, folder: Path) -> float:
    """A job of a sweep: what refuses or stops it is told and is no reason to drop the others; it scores NaN."""
    try:
        return _run(job, load, raw, folder, folder, [])
    except (UserError, RunStopped) as end:
        print(f"{'error' if isinstance(end, UserError) else 'stopped'}: {end}", file=sys.stderr)
        return math.nan


def _run(
    job: Job[Settings],
    load: Load[Settings],
    raw: DictConfig,
    folder: Path,
    own: Path,
    asked: Sequence[str],
    changeable: Collection[str] = (),
) -> float:
    """Run what is asked for in `folder`, which is Hydra's `own` one unless a run goes on."""
    if raw.resume is not None:
        _forget(own)
        settings = _known_settings(load, _resumed_config(folder, raw, asked, changeable), folder)
    elif (folder / RUN_FILE).exists():
        raise UserError(f"{folder} already holds a run: choose another hydra.run.dir, or go on with resume={folder}")
    else:
        settings = load(raw)
    value = job(settings, folder)
    _forget(own)
    return value


def _known_settings(load: Load[Settings], config: Any, folder: Path) -> Settings:
    try:
        return load(config)
    except UserError as error:
        if "missing mandatory value" not in str(error):
            raise
        raise UserError(f"the run in {folder} is another command's or version's ({error}): go on with that") from error


def _resumed_config(folder: Path, raw: DictConfig, asked: Sequence[str], changeable: Collection[str]) -> Any:
    """The config that the run in `folder` has, with what is `asked` of it that is `changeable`.

    Raises UserError where there is no run or more is asked for.
    """
    keys = {word: word.partition("=")[0] for word in asked if not word.startswith("resume=")}
    if others := [word for word, key in keys.items() if key not in changeable]:
        raise UserError(
            f"resume={folder} goes on with the config that the run has, but {' '.join(others)} was given as well: "
            f"leave it out, or begin a new run{_may_change(changeable)}"
        )
    config = read_record(folder)["config"]
    for key in keys.values():
        *groups, name = key.split(".")
        place, value = config, raw
        for group in groups:
            place, value = place[group], value[group]
        place[name] = value[name]
    return config


def _may_change(changeable: Collection[str]) -> str:
    return f"; {', '.join(changeable)} may be changed" if changeable else ""


def is_disk_full(error: BaseException | None, folder: Path) -> bool:
    """Whether an error, or one that led to it, comes of a disk, a quota or a limit that lets nothing more be written.

    Libraries that write by themselves tell it in words, or only that writing failed.
    """
    while error is not None:
        if isinstance(error, OSError) and error.errno in NO_SPACE:
            return True
        if any(f"os error {code}" in str(error) or os.strerror(code) in str(error) for code in NO_SPACE):
            return True
        error = error.__cause__ or error.__context__
    with suppress(OSError):
        return shutil.disk_usage(folder).free < LEAST_FREE
    return False


@contextmanager
def _plain_endings(folder: Path, own: Path) -> Iterator[None]:
    """Turn a UserError into exit status 2, a guard's finding into 3 and Ctrl-C into 130.

    A mistake is found before the run begins; what Hydra then wrote into its `own` folder is removed, and nothing else:
    a `folder` that was given to go on with is left as it is.
    """
    try:
        yield
    except UserError as error:
        _forget(own)
        _refuse(str(error))
    except RunStopped as stop:
        print(f"stopped: {stop}", file=sys.stderr)
        sys.exit(STOPPED)
    except Exception as error:
        if not is_disk_full(error, folder):
            raise
        _forget(own)
        going_on = f", then go on with resume={folder}" if (folder / RUN_FILE).exists() else ""
        _refuse(f"the disk takes no more ({first_line(error)}): free some of it{going_on}")
    except KeyboardInterrupt:
        if (folder / RUN_FILE).exists():
            print(f"interrupted; what there is stands in {folder}; go on with resume={folder}", file=sys.stderr)
        else:
            _forget(own)
            print("interrupted before the run began", file=sys.stderr)
        sys.exit(INTERRUPTED)


def _forget(folder: Path) -> None:
    """Remove Hydra's own files of a run that never began, and the folders below the working one that are empty then."""
    if (folder / RUN_FILE).exists():
        return
    if _is_first():
        shutil.rmtree(folder / ".hydra", ignore_errors=True)
    remove_empty(folder, Path.cwd())


def _is_first() -> bool:
    """Of several processes that share a folder only the first one has Hydra's files written, and removes them."""
    return os.environ.get("RANK", "0") == "0"
