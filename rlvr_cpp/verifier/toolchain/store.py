"""A folder of things that were built once, found again by the hash of everything that went into them.

Several processes may share it: an entry appears whole or not at all, is never changed, and disappears only when it has
not been used for a while and the folder is over its size.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rlvr_sandbox import SandboxError
from rlvr_sandbox.launcher import make_public

DRAFT = ".draft-"
SECRET = "secret"
IN_USE = 600.0  # seconds since its last use for which an entry is safe: longer than any build that may need it
SHARERS = 8  # processes that may fill one folder at once


class Store:
    """Content-addressed folders below one folder, the least recently used removed first."""

    def __init__(self, folder: Path, limit: int) -> None:
        """`limit` is in bytes."""
        self.folder = folder
        self.limit = limit
        self._unseen = 0
        make_public(folder)

    def find(self, key: str) -> Path | None:
        """The entry, marked as used; None where there is none."""
        entry = self.folder / key
        try:
            os.utime(entry)
        except OSError:
            return None
        return entry

    def make(self, key: str, build: Callable[[Path], bool]) -> Path | None:
        """The entry, built into a fresh folder if it is missing; None where `build` says that it failed."""
        if (entry := self.find(key)) is not None:
            return entry
        draft = Path(tempfile.mkdtemp(prefix=DRAFT, dir=self.folder))
        try:
            draft.chmod(0o755)
            if not build(draft):
                return None
            self._make_room(sum(path.stat().st_size for path in draft.iterdir()))
            with contextlib.suppress(OSError):  # another process was faster: its entry is as good
                draft.rename(self.folder / key)
            return self.find(key)
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def drop(self, key: str) -> None:
        """Forget an entry that turned out to be of no use."""
        shutil.rmtree(self.folder / key, ignore_errors=True)

    def secret(self) -> str:
        """A word that is drawn at random once for all who share the folder, and again where it was removed."""

        def draw(draft: Path) -> bool:
            (draft / SECRET).touch(0o600)
            (draft / SECRET).write_text(f"rlvr_{secrets.token_hex(8)}")
            return True

        entry = self.make(SECRET, draw)
        if entry is None:
            raise SandboxError(f"sandbox: {self.folder} does not keep what is put into it")
        return (entry / SECRET).read_text()

    def _make_room(self, coming: int) -> None:
        """Look through the folder when a part of what was free then may have been used up since the last time."""
        self._unseen -= coming
        if self._unseen < 0:
            self._unseen = max(0, self.limit - self._evict(coming)) // SHARERS

    def _evict(self, coming: int) -> int:
        """Remove what is over the limit; returns the bytes there then are, with those that are coming."""
        entries = []
        for entry in self.folder.iterdir():
            with contextlib.suppress(OSError):
                size = 0 if entry.name.startswith(DRAFT) else sum(path.stat().st_size for path in entry.iterdir())
                entries.append((entry.stat().st_mtime, size, entry))
        total = coming + sum(size for _, size, _ in entries)
        for used, size, entry in sorted(entries):
            if time.time() - used < IN_USE:
                break
            if total > self.limit or entry.name.startswith(DRAFT):  # the draft of a builder that was killed
                shutil.rmtree(entry, ignore_errors=True)
                total -= size
        return total


def content_key(*parts: object) -> str:
    """A name for what is made of these parts."""
    return hashlib.sha256(repr(parts).encode(errors="surrogatepass")).hexdigest()[:32]
