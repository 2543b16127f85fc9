"""Precompiled headers that change no semantics.

Parsing the standard headers is four fifths of a verification. A precompiled header may only stand for the exact block
of `#include <...>` lines that a program begins with (comments and blank lines aside): a larger one would accept
programs that forgot an include, and one after a `#define` would ignore it. All completions of one prompt share that
block, so it is compiled when it has come up often enough to pay, and kept for each set of flags.
"""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from rlvr_cpp.verifier.cpp.lexemes import POSSIBLE_SPLICE, lexemes
from rlvr_cpp.verifier.toolchain import flush
from rlvr_cpp.verifier.toolchain.store import Store, content_key
from rlvr_cpp.verifier.toolchain.toolchain import Toolchain

PAYS_AFTER = 4  # uses; building one takes as long as five or six plain parses
HEADER = re.compile(r"<([A-Za-z0-9_+.-][A-Za-z0-9_+./-]*)>")
BuildHeader = Callable[[Path, str, tuple[str, ...]], bool]


def leading_includes(code: str) -> tuple[str, ...]:
    """The system headers that a program includes before anything else, in its order."""
    splice = POSSIBLE_SPLICE.search(code)  # compilers disagree on which of them join lines
    known = code[: code.rfind("\n", 0, splice.start()) + 1] if splice else code
    names: list[str] = []
    for line in _lines(known):
        header = HEADER.fullmatch(line[-1])
        if line[:-1] != ["#", "include"] or header is None or ".." in header[1]:
            break
        names.append(header[1])
    return tuple(names)


def _lines(code: str) -> Iterator[list[str]]:
    """The tokens of each line that has any."""
    line: list[str] = []
    for lexeme in lexemes(code):
        if lexeme.kind == "newline" and line:
            yield line
            line = []
        elif lexeme.kind not in ("comment", "newline"):
            line.append(lexeme.text)
    if line:
        yield line


class PrecompiledHeaders:
    """Finds the precompiled header for a program, and has it built when its includes have come up often enough."""

    def __init__(self, store: Store, toolchain: Toolchain, pays_after: int = PAYS_AFTER) -> None:
        self.store = store
        self.toolchain = toolchain
        self.pays_after = pays_after
        self._uses: Counter[str] = Counter()
        self._announced: Counter[str] = Counter()
        self._building: set[str] = set()
        self._lock = threading.Lock()

    def flags(self, code: str, flags: tuple[str, ...], build: BuildHeader) -> tuple[str, ...]:
        """The flags that put the header before `code`; empty where there is none, or not yet.

        `build(folder, text, recipe)` compiles a text into a folder and says whether that went well.
        """
        text, recipe, key = self._header(code, flags)
        if not text:
            return ()
        entry = self.store.find(key)
        if entry is None and self._claim(key):
            try:
                entry = self.store.make(key, lambda folder: build(folder, text, recipe))
            finally:
                self._release(key, failed=entry is None)
        return self._use(entry) if entry is not None else ()

    def announce(self, code: str, flags: tuple[str, ...]) -> None:
        """`code` is going to be compiled: of many that are, already the first one may have the header built."""
        text, _, key = self._header(code, flags)
        if text:
            with self._lock:
                self._announced[key] += 1

    def _header(self, code: str, flags: tuple[str, ...]) -> tuple[str, tuple[str, ...], str]:
        """The text that may be precompiled for a program, empty where there is none, how, and the key of both.

        Warnings change nothing in g++'s header: candidates, and tests that are not warned about, can share it.
        """
        text = "".join(f"#include <{name}>\n" for name in leading_includes(code))
        matter = flags if self.toolchain.is_clang else tuple(flag for flag in flags if not flag.startswith("-W"))
        recipe = (*matter, *self._recipe())
        made_by = (self.toolchain.compiler, self.toolchain.version, flush.SOURCE, recipe)
        return text, recipe, content_key("header", made_by, text)

    def _recipe(self) -> tuple[str, ...]:
        if self.toolchain.is_clang:
            # From standard input: clang remembers the path of a header file and would look for it again.
            return ("-Xclang", "-fpch-instantiate-templates", "-x", "c++-header", "-", "-o", "prefix.pch")
        return ("-x", "c++-header", "prefix.h", "-o", "prefix.h.gch")

    def _use(self, entry: Path) -> tuple[str, ...]:
        if self.toolchain.is_clang:
            return ("-include-pch", str(entry / "prefix.pch"))
        return ("-include", str(entry / "prefix.h"))  # g++ takes prefix.h.gch, which lies beside it, instead

    def _claim(self, key: str) -> bool:
        """This caller is to build it: often enough asked for, and nobody else is at it."""
        with self._lock:
            self._uses[key] += 1
            if max(self._uses[key], self._announced[key]) < self.pays_after or key in self._building:
                return False
            self._building.add(key)
            return True

    def _release(self, key: str, failed: bool) -> None:
        """A header that cannot be built (a name that does not exist) is not tried again."""
        if not failed:
            with self._lock:
                self._building.discard(key)
