"""Checkpoints that are whole or not there, and what tells one set of weights from another.

A checkpoint is written beside its place with the hash of each of its files, flushed to the disk and renamed. It is
taken between rollouts only, when the buffer of generated completions is used up, so nothing of a batch has to be kept:
optimizer, schedule, random states, curriculum, guards and the order of tasks are all there is.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

from rlvr_cpp.errors import first_line
from rlvr_cpp.runs.files import flush, flush_folder, sha256_of

FOLDER = "checkpoints"
BEST = "best"
DRAFTS = ".partial"
STATE = "rlvr_state.json"
HASHES = "sha256.json"
KEPT = 2
NAME = re.compile(r"checkpoint-(\d+)")


def open_draft(place: Path) -> Path:
    """An empty folder to write into, for `publish` to put in its place."""
    draft = place.parent / DRAFTS / place.name
    shutil.rmtree(draft.parent, ignore_errors=True)
    draft.mkdir(parents=True)
    return draft


def publish(draft: Path, place: Path) -> None:
    """Note a draft's hashes, flush it to the disk and give it its place: whole, or not at all if the machine stops."""
    hashes = {str(path.relative_to(draft)): sha256_of(path) for path in sorted(draft.rglob("*")) if path.is_file()}
    (draft / HASHES).write_text(json.dumps(hashes))
    flush_folder(draft)
    _remove(place)
    draft.rename(place)
    flush(place.parent)


def find_checkpoints(run: Path) -> list[Path]:
    """The whole checkpoints of a run, oldest first."""
    found = [path for path in (run / FOLDER).glob("checkpoint-*") if NAME.fullmatch(path.name)]
    return sorted(found, key=lambda path: int(path.name.rpartition("-")[2]))


def last_whole(run: Path) -> tuple[Path | None, list[str]]:
    """The last checkpoint that is as it was written, and what is wrong with those behind it."""
    damaged: list[str] = []
    for place in reversed(find_checkpoints(run)):
        problem = _damage(place)
        if problem is None:
            return place, damaged
        damaged.append(f"{place.name}: {problem}")
    return None, damaged


def _damage(place: Path) -> str | None:
    try:
        hashes = json.loads((place / HASHES).read_text())
        changed = [name for name, known in hashes.items() if sha256_of(place / name) != known]
    except (OSError, ValueError, AttributeError) as error:
        return first_line(error)
    return f"{changed[0]} is not as it was written" if changed else None


def remove_old(run: Path) -> None:
    """Keep the last two: the one before the last is there should the disk have lost the last."""
    for path in find_checkpoints(run)[:-KEPT]:
        _remove(path)


def _remove(place: Path) -> None:
    """Take a checkpoint out of sight first: one that is half deleted would look like a whole one."""
    if not place.exists():
        return
    old = place.parent / DRAFTS / f"{place.name}.old"
    old.parent.mkdir(exist_ok=True)
    shutil.rmtree(old, ignore_errors=True)
    place.rename(old)
    shutil.rmtree(old)


def write_state(checkpoint: Path, state: dict[str, Any]) -> None:
    """What only this library knows about the run, beside trainer's own files."""
    (checkpoint / STATE).write_text(json.dumps(state))


def read_state(checkpoint: Path) -> dict[str, Any]:
    """What `write_state` wrote."""
    state: dict[str, Any] = json.loads((checkpoint / STATE).read_text())
    return state
