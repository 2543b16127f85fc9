"""Files and folders that appear whole or not at all, and are still there after a power cut.

Whatever is written gets a name of its own first, is flushed to the disk and then renamed, which is the one step that
others see. A file that grows line by line cannot be had that way: a process that is killed while it writes leaves half
a line at the end, which every reader ignores and `JsonLines` cuts off. Needs the standard library only.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, TypeVar

from rlvr_cpp.errors import UserError

Row = TypeVar("Row")


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remove_empty(folder: Path, below: Path) -> None:
    """Remove a folder, if it is empty, and then those above it that are, as long as they lie below another."""
    with suppress(OSError):
        for place in (folder, *(above for above in folder.parents if below in above.parents)):
            place.rmdir()


def replace_text(path: Path, text: str) -> None:
    """Give a file new content in one step."""
    with draft_of(path) as draft:
        draft.write_text(text)


@contextmanager
def draft_of(place: Path) -> Iterator[Path]:
    """A path to write a file to, which after the block is the file at `place`; the old one stays if the block raises.

    Drafts of one file share their name: only one process may write it at a time.
    """
    draft = place.with_name(f"{place.name}.partial")
    try:
        yield draft
        flush(draft)
        draft.replace(place)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    flush(place.parent)


def read_lines(path: Path, read: Callable[[str], Row]) -> list[Row]:
    """What `read` makes of the lines of a file; none where there is no file.

    A last line without its end was being written when the process was killed, and is ignored. Raises UserError, which
    names file and line, for any other line that `read` takes for wrong by a ValueError, KeyError or TypeError.
    """
    return [row for _, row in _whole_lines(path, read, _all)]


def cut_lines(path: Path, read: Callable[[str], Row], keep: Callable[[Row], bool]) -> list[Row]:
    """Leave in a file, if there is one, the whole lines that `keep` wants, and return these. Raises like `read_lines`.

    The lines that stay keep their bytes.
    """
    kept = list(_whole_lines(path, read, keep))
    if path.exists():
        replace_text(path, "".join(f"{line}\n" for line, _ in kept))
    return [row for _, row in kept]


def _whole_lines(path: Path, read: Callable[[str], Row], keep: Callable[[Row], bool]) -> Iterator[tuple[str, Row]]:
    if not path.exists():
        return
    try:
        *lines, _torn = path.read_text().split("\n")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} cannot be read ({error}): it is damaged; put back what it held, or remove it"
        ) from error
    for number, line in enumerate(lines, start=1):
        try:
            row = read(line)
            wanted = keep(row)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise UserError(f"{path} line {number}: cannot be read ({error!r}): remove the line") from error
        if wanted:
            yield line, row


def _all(row: object) -> bool:
    return True


class JsonLines(Generic[Row]):
    """A file of JSON, one value a line, that goes on where a killed process left it. Leaving the context closes it."""

    def __init__(self, path: Path, read: Callable[[str], Row], keep: Callable[[Row], bool] = _all) -> None:
        """Cuts off a torn last line and takes back the lines that `keep` does not want. Raises like `read_lines`."""
        self.known = cut_lines(path, read, keep)
        """What the file held when it was opened."""
        self._file = path.open("a")

    def __enter__(self) -> JsonLines[Row]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def write(self, lines: Iterable[str]) -> None:
        """Add lines of JSON, given without their ends; they are on their way to the disk when this returns."""
        self._file.write("".join(f"{line}\n" for line in lines))
        self._file.flush()


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
    flush_folder(draft)
    try:
        draft.rename(place)
    except OSError as error:
        if not place.exists():
            raise
        raise UserError(f"{place} exists already: give a folder that does not") from error
    flush(place.parent)


def flush_folder(folder: Path) -> None:
    """Bring a folder with all that is in it to the disk."""
    for path in (*folder.rglob("*"), folder):
        flush(path)


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
