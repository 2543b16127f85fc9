"""Results that are known already, by the hash of everything that they depend on.

In memory for one process, or in an SQLite file that any number of processes share. A verdict that depended on the
machine's mood (a timeout, a failure of the sandbox) is not kept: another try may end otherwise.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

from rlvr_cpp.errors import UserError
from rlvr_cpp.verifier.result import VerifyResult

IN_MEMORY = 10_000  # results; most are some hundred bytes, with a flood of output up to 200 KB
ON_DISK = 1_000_000
NOT_KEPT = ("timeout", "compile_limit", "memory_limit", "sandbox_error")


class ResultCache(Protocol):
    """What the verifier asks of a cache. Both kinds may be used by several threads."""

    def find(self, keys: Iterable[str]) -> dict[str, VerifyResult]:
        """The results that are known."""

    def keep(self, results: Mapping[str, VerifyResult]) -> None:
        """Remember results, except those that another try may change."""

    def close(self) -> None:
        """Give back what is held open."""


class MemoryCache:
    """The last results of this process."""

    def __init__(self, size: int = IN_MEMORY) -> None:
        self.size = size
        self._results: OrderedDict[str, VerifyResult] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, keys: Iterable[str]) -> dict[str, VerifyResult]:
        """The results that are known."""
        with self._lock:
            return {key: self._results[key] for key in keys if key in self._results}

    def keep(self, results: Mapping[str, VerifyResult]) -> None:
        """Remember results, except those that another try may change."""
        with self._lock:
            self._results.update(_lasting(results))
            while len(self._results) > self.size:
                self._results.popitem(last=False)

    def close(self) -> None:
        """Nothing is held."""


class DiskCache:
    """The results of every process that uses one file."""

    def __init__(self, path: Path, size: int = ON_DISK) -> None:
        """Raises UserError where the file is no cache or cannot be written."""
        self.path = path
        self.size = size
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(path, timeout=60.0, isolation_level=None, check_same_thread=False)
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = NORMAL")
            self._database.execute("CREATE TABLE IF NOT EXISTS results (key TEXT PRIMARY KEY, result TEXT NOT NULL)")
        except (sqlite3.Error, OSError) as error:
            raise UserError(f"cache {str(path)!r} cannot be used ({error}): name a new file or delete it") from error

    def find(self, keys: Iterable[str]) -> dict[str, VerifyResult]:
        """The results that are known."""
        found = {}
        with self._lock:
            for key in dict.fromkeys(keys):
                row = self._database.execute("SELECT result FROM results WHERE key = ?", (key,)).fetchone()
                if row is not None:
                    found[key] = VerifyResult.from_json(row[0])
        return found

    def keep(self, results: Mapping[str, VerifyResult]) -> None:
        """Remember results, except those that another try may change; the oldest are forgotten."""
        rows = [(key, result.to_json()) for key, result in _lasting(results).items()]
        if not rows:
            return
        with self._lock:
            self._database.execute("BEGIN IMMEDIATE")
            self._database.executemany("INSERT OR IGNORE INTO results VALUES (?, ?)", rows)
            oldest = "SELECT MAX(rowid) - ? FROM results"
            self._database.execute(f"DELETE FROM results WHERE rowid <= ({oldest})", (self.size,))
            self._database.execute("COMMIT")

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._database.close()


def _lasting(results: Mapping[str, VerifyResult]) -> dict[str, VerifyResult]:
    return {key: result for key, result in results.items() if result.status not in NOT_KEPT}
