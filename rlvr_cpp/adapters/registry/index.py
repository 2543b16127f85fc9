"""The registry's index: SQLite, for questions over many versions. Folders are the truth, this file can be lost.

Everybody who reads or changes a registry holds its lock, an `flock` that ends with its holder however that ends. On
opening, the index takes in every project with a state that changed since it last looked (by the file's inode, time and
size) and writes down what a killed process left undone. So it is right even where folders were copied in by hand.
"""

from __future__ import annotations

import fcntl
import random
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from rlvr_cpp.adapters.registry.versions import (
    STATE_FILE,
    Version,
    read_versions,
    settled,
    version_folders,
    write_version,
)
from rlvr_cpp.errors import UserError

INDEX_FILE, LOCK_FILE = "index.sqlite", ".lock"
PATIENCE = 120.0  # seconds
SCHEMA = """
CREATE TABLE IF NOT EXISTS versions (
    project TEXT, number INTEGER, status TEXT, base_hash TEXT, adapter_hash TEXT, signature TEXT, state TEXT,
    PRIMARY KEY (project, number)
);
CREATE UNIQUE INDEX IF NOT EXISTS one_active ON versions (project, base_hash) WHERE status = 'active';
"""


class Index:
    """An open index, made by `opened` alone: whoever has one holds the registry's lock."""

    def __init__(self, root: Path, connection: sqlite3.Connection) -> None:
        self.root, self._connection = root, connection

    def versions(self, project: str | None = None) -> list[Version]:
        """Of one project or of all, in order."""
        rows = self._connection.execute(
            "SELECT state FROM versions WHERE ?1 IS NULL OR project = ?1 ORDER BY project, number", (project,)
        )
        return [Version.from_json(state) for (state,) in rows]

    def refresh(self) -> None:
        """Take in the projects that changed; archive what a promotion in them has replaced."""
        known = {
            (project, number): signature
            for project, number, signature in self._connection.execute(
                "SELECT project, number, signature FROM versions"
            )
        }
        present = {_key(folder): _signature(folder) for folder in version_folders(self.root)}
        for project in sorted({project for (project, _), _ in known.items() ^ present.items()}):
            versions = read_versions(self.root, project)
            changed = {version.number: version for version in settled(versions)}
            for version in changed.values():
                write_version(self.root, version)
            self._replace(project, [changed.get(version.number, version) for version in versions])

    def _replace(self, project: str, versions: list[Version]) -> None:
        rows = [
            (v.project, v.number, v.status, v.base_hash, v.adapter_hash, _signature(self.root / v.folder), v.to_json())
            for v in versions
        ]
        with self._connection as transaction:
            transaction.execute("BEGIN IMMEDIATE")
            transaction.execute("DELETE FROM versions WHERE project = ?", (project,))
            transaction.executemany("INSERT INTO versions VALUES (?, ?, ?, ?, ?, ?, ?)", rows)


@contextmanager
def opened(root: Path) -> Iterator[Index]:
    """The index of the registry in a folder, locked and up to date.

    Raises UserError where there is no such folder, the index is damaged or somebody holds the lock for two minutes.
    """
    if not root.is_dir():
        raise UserError(f"there is no registry in {root}: register an adapter, or give another --registry")
    path = root / INDEX_FILE
    with _locked(root):
        try:
            with closing(sqlite3.connect(path, isolation_level=None)) as connection:
                connection.executescript(SCHEMA)
                index = Index(root, connection)
                index.refresh()
                yield index
        except sqlite3.Error as error:
            raise UserError(
                f"{path} cannot be used ({error}): `python -m rlvr_cpp.registry rebuild` makes it anew from the "
                "version folders, where nothing is lost"
            ) from error


def rebuild(root: Path) -> list[Version]:
    """Make the index anew from the folders; everything in it is then what they say. The versions are returned."""
    if root.is_dir():
        with _locked(root):
            for name in (f"{INDEX_FILE}-journal", INDEX_FILE):  # a journal must not outlive its index
                (root / name).unlink(missing_ok=True)
    with opened(root) as index:
        return index.versions()


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    deadline = time.monotonic() + PATIENCE
    with (root / LOCK_FILE).open("a") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    raise UserError(
                        f"another process has held {file.name} for {PATIENCE:.0f} seconds: end it, or try again later"
                    ) from error
                time.sleep(random.uniform(0.01, 0.05))
        yield


def _key(folder: Path) -> tuple[str, int]:
    return folder.parent.name, int(folder.name[1:])


def _signature(folder: Path) -> str:
    try:
        stat = (folder / STATE_FILE).stat()
    except FileNotFoundError:
        return "missing"
    return f"{stat.st_ino} {stat.st_mtime_ns} {stat.st_size}"
