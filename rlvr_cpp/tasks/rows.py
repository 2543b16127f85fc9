"""Rows of a file or of a data set on the hub, each with the words that say where it stands.

A file holds one JSON object a line (`.jsonl`), a JSON list of them (`.json`) or a table (`.parquet`); the first two may
be compressed (`.gz`), and either may be written as the other. A folder is one that `datasets` has saved, or holds a
file for each problem as MultiPL-E leaves them, or files that `datasets` can load. What the rows mean is nobody's
business here.
"""

from __future__ import annotations

import gzip
import json
import logging
import re
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from rlvr_cpp.errors import UserError, first_line

Row = Mapping[str, Any]
Placed = tuple[str, Row]
"""A row behind the words for its place, such as `problems.jsonl line 3`."""
SUFFIXES = (".jsonl", ".json", ".parquet", ".csv", ".gz")
UTF8 = "utf-8-sig"
"""With a byte order mark or without."""
OBJECTS = (".json", ".json.gz")
RESULTS = (".results.json", ".results.json.gz")
"""What MultiPL-E calls its verdicts, which lie beside the files of its problems or in a folder of their own."""
SAVED = ("state.json", "dataset_dict.json")
"""What a folder holds that `save_to_disk` has written."""


def read_source(
    source: str | Path, *, config: str | None = None, split: str | None = None, usual: str = "test"
) -> Iterator[Placed]:
    """The rows of a file, or of a data set that `datasets` can load by name or folder.

    `config` and `split` are handed to `datasets`; without a split it is the `usual` one, or the only one there is.
    Raises UserError where there is no such source or a row is no JSON object.
    """
    path = Path(source)
    if path.suffix in SUFFIXES or path.is_file():
        return read_file(path)
    if path.is_dir() and any(found := _by_problem(path)):
        return _each_problem(path, *found)
    return _download(str(source), config, split, usual)


def read_file(path: Path) -> Iterator[Placed]:
    """The rows of one file. Raises UserError with the line or row that is wrong."""
    if not path.is_file():
        raise UserError(f"task file {str(path)!r} does not exist: give the path of a .jsonl, .json or .parquet file")
    try:
        yield from _parquet(path) if path.suffix == ".parquet" else _text(path)
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise UserError(f"task file {str(path)!r} cannot be read: {error}") from error


def _by_problem(folder: Path) -> tuple[list[Path], list[Path]]:
    """The files of MultiPL-E's problems in a folder, in the order of their numbers, and those of its verdicts.

    None where the folder is another's.
    """
    files = [path for path in folder.iterdir() if not path.name.startswith(".")]
    results = sorted(path for path in files if path.name.endswith(RESULTS))
    problems = sorted((path for path in files if path.name.endswith(OBJECTS) and path not in results), key=_numbers)
    is_theirs = any(map(_is_problem, problems[:2])) if problems else len(results) == len(files)
    return (problems, results) if is_theirs else ([], [])


def _is_problem(path: Path) -> bool:
    """Whether a file holds one object with a name, a prompt and a list of completions."""
    try:
        text = path.read_bytes()
        row = json.loads(gzip.decompress(text) if path.suffix == ".gz" else text)
    except (OSError, EOFError, zlib.error, ValueError, RecursionError):
        return False
    return isinstance(row, dict) and {"name", "prompt", "completions"} <= row.keys()


def _numbers(path: Path) -> list[tuple[int, str]]:
    return [(int(word), "") if word.isdigit() else (0, word) for word in re.findall(r"\d+|\D+", path.name)]


def _each_problem(folder: Path, problems: list[Path], results: list[Path]) -> Iterator[Placed]:
    if not problems:
        raise UserError(
            f"{folder} holds {len(results)} files of verdicts ({results[0].name}) and no answers: give the folder of "
            "the completions that they are of"
        )
    for path in problems:
        yield from read_file(path)


def _text(path: Path) -> Iterator[Placed]:
    is_packed = path.suffix == ".gz"
    kind = Path(path.stem).suffix if is_packed else path.suffix
    if kind == ".csv":
        raise UserError(f"task file {str(path)!r} is a .csv: give the path of a .jsonl, .json or .parquet file")
    with gzip.open(path, "rt", encoding=UTF8) if is_packed else path.open(encoding=UTF8) as text:
        yield from _json(path, text.read()) if kind == ".json" else _json_lines(path, text)


def _json_lines(path: Path, lines: TextIO) -> Iterator[Placed]:
    for number, line in enumerate(lines, start=1):
        if line.strip():
            where = f"{path} line {number}"
            if number == 1 and not _is_json(line) and _is_json(whole := line + lines.read()):  # on several lines
                yield from _json(path, whole)
                return
            row = _parse(line, where, "one object a line")
            if isinstance(row, list) and row and all(isinstance(one, dict) for one in row):
                yield from ((where, one) for one in row)
            else:
                yield where, _object(row, where)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _json(path: Path, text: str) -> Iterator[Placed]:
    """The rows of a list, of a mapping from their names, or of one that the hub's viewer gives as `rows`."""
    rows = _parse(text, str(path), "a list of objects")
    if isinstance(rows, dict):
        inner = rows.get("rows", [rows] if "prompt" in rows or "question" in rows else list(rows.values()))
        is_list = isinstance(inner, list) and inner and all(isinstance(row, dict) for row in inner)
        if not is_list:
            raise UserError(f"{path}: a dict where a list of JSON objects should stand")
        rows = [row["row"] if isinstance(row.get("row"), dict) else row for row in inner]
    if not isinstance(rows, list):
        raise UserError(f"{path}: a {type(rows).__name__} where a list of JSON objects should stand")
    for number, row in enumerate(rows, start=1):
        yield f"{path} row {number}", _object(row, f"{path} row {number}")


def _parse(text: str, where: str, wanted: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: not JSON ({error}): give {wanted}") from error


def _object(row: Any, where: str) -> Row:
    if not isinstance(row, dict):
        raise UserError(f"{where}: a {type(row).__name__} where a JSON object should stand")
    return row


def _parquet(path: Path) -> Iterator[Placed]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise UserError(f"{path} needs the extra 'train': pip install 'rlvr-cpp[train]'") from error
    try:
        rows = parquet.read_table(path).to_pylist()
    except ArrowException as error:
        raise UserError(f"task file {str(path)!r} cannot be read: {error}") from error
    for number, row in enumerate(rows, start=1):
        yield f"{path} row {number}", row


def _download(name: str, config: str | None, split: str | None, usual: str) -> Iterator[Placed]:
    try:
        from datasets import disable_progress_bars, load_dataset, load_from_disk
    except ImportError as error:
        raise UserError(
            f"task source {name!r} is no file, and data sets need the extra 'train': pip install 'rlvr-cpp[train]'"
        ) from error
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # without a network it tells of every try
    disable_progress_bars()
    try:
        if _is_saved(name):
            rows = _split_of(load_from_disk(name), split, usual)
        elif split is None and Path(name).is_dir():
            rows = _split_of(load_dataset(name, config), split, usual)
        else:
            rows = load_dataset(name, config, split=split or usual)
    except Exception as error:  # datasets raises whatever its many loaders and transports raise
        reason = first_line(error)
        raise UserError(
            f"task source {name!r} is neither a file nor a data set that can be loaded ({reason}): "
            "give the path of a .jsonl file, or check the name and the network"
        ) from error
    for number, row in enumerate(rows):
        yield f"{name} row {number}", row


def _is_saved(name: str) -> bool:
    return any((Path(name) / file).is_file() for file in SAVED)


def _split_of(found: Any, split: str | None, usual: str) -> Any:
    """The split that is asked for; else the usual one, or the only one; a set without splits is what it is."""
    if not isinstance(found, Mapping):
        return found
    return found[next(iter(found)) if split is None and usual not in found and len(found) == 1 else split or usual]
