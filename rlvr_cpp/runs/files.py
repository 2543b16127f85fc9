"""Files and folders that appear whole or not at all, and are still there after a power cut.

Whatever is written gets a name of its own first, is flushed to the disk and then renamed, which is the one step that
others see. Needs the standard library only.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rlvr_cpp.errors import UserError


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def replace_text(path: Path, text: str) -> None:
    """Give a file new content in one step."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text)
    flush(partial)
    partial.replace(path)
    flush(path.parent)


@contextmanager
def new_folder(place: Path) -> Iterator[Path]:
    """An empty folder to fill; after the block it is at `place`, or gone where the block raised.

    Raises UserError where something is at `place` already.
    """
    if place.exists():
        raise UserError(f"{place} exists already: give a folder that does not")
    place.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{place.name}.", suffix=".partial", dir=place.parent))
    try:
        draft.chmod(0o755)
        yield draft
        publish(draft, place)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def publish(draft: Path, place: Path) -> None:
    """Flush a folder and give it its name. Raises UserError where another folder got that name first."""
    for path in (*draft.rglob("*"), draft):
        flush(path)
    try:
        draft.rename(place)
    except OSError as error:
        if not place.exists():
            raise
        raise UserError(f"{place} exists already: give a folder that does not") from error
    flush(place.parent)


def flush(path: Path) -> None:
    """Bring a file's content, or a folder's names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def contract_hash(contract: Mapping[str, Any]) -> str:
    """SHA-256, in hexadecimal, of the contract's canonical JSON: equal for equal contracts, in whatever order."""
    return hashlib.sha256(canonical_json(contract).encode()).hexdigest()


def canonical_json(value: Any) -> str:
    """The one spelling of plain data: sorted keys, no spaces, ASCII. Raises ValueError for NaN and infinities."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def differing_fields(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """What two contracts do not agree on, each as `name: value and value`."""
    names = [name for name in {**first, **second} if first.get(name) != second.get(name)]
    return [f"{name}: {first.get(name)!r} and {second.get(name)!r}" for name in names]
