"""Whether this g++ can be spared the templates of its precompiled headers, proven by a program.

g++ keeps in a precompiled header the templates that the header's own inline functions have asked for, and instantiates
them again at the end of every program: most of the time of a short one. A plugin (`flush.cpp`) has that done once,
while the header is made; programs that use the header load no plugin. clang++ has an option for it.
A toolchain is trusted with it where a program compiled on such a header has the same symbols, of the same sizes, as on
a plain one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from rlvr_sandbox import Finished

PLUGIN = "flush.so"
SOURCE = Path(__file__).with_name("flush.cpp").read_text()
PRAGMA = "#pragma rlvr instantiate\n"
NM = ("-S", "-C", "-f", "posix")
LOADED = f"-fplugin=./{PLUGIN}"

_HEADERS = "#include <map>\n#include <sstream>\n#include <string>\n#include <vector>\n"
_PROGRAM = """
std::string joined(const std::map<int, std::vector<std::string>>& all) {
    std::ostringstream out;
    for (const auto& [key, texts] : all)
        for (const std::string& text : texts) out << key << text.substr(1) << '\\n';
    return out.str();
}
"""
_SYMBOL = re.compile(r"(?P<name>.*?) (?P<kind>[A-Za-z]) (?:[0-9a-f]+ (?P<size>[0-9a-f]*)| *)")
PROBE = {"flush.cpp": SOURCE, "plain.h": _HEADERS, "flushed.h": _HEADERS + PRAGMA, "program.cpp": _PROGRAM}
_CHECKED = ("-std=c++17", "-O0", "-fPIC", "-Wall", "-Werror=unknown-pragmas", "-Werror=invalid-pch", "-Winvalid-pch")
_STEPS = (
    ("-shared", "-fPIC", "-O1", "flush.cpp", "-o", PLUGIN),
    (*_CHECKED, "-x", "c++-header", "plain.h", "-o", "plain.h.gch"),
    (*_CHECKED, LOADED, "-x", "c++-header", "flushed.h", "-o", "flushed.h.gch"),
    (*_CHECKED, "-include", "plain.h", "-c", "program.cpp", "-o", "plain.o"),
    (*_CHECKED, "-include", "flushed.h", "-c", "program.cpp", "-o", "flushed.o"),
)


def complaint(compile: Callable[[Sequence[str]], Finished], list_symbols: Callable[[str], Finished]) -> str:
    """Why the toolchain cannot do it; empty where it can, and the plugin then lies in the folder.

    `compile(arguments)` runs the compiler in a folder that holds `PROBE`, `list_symbols(object)` runs `NM` there.
    """
    for step in _STEPS:
        finished = compile(step)
        if finished.returncode != 0:
            said = finished.stderr.decode(errors="replace").strip().splitlines() or [finished.ended]
            return said[0]
    plain, flushed = (symbols(list_symbols(name).stdout.decode()) for name in ("plain.o", "flushed.o"))
    return "" if plain == flushed and plain else "a program compiled with it has other symbols than without"


def symbols(listed: str) -> frozenset[tuple[str | None, ...]]:
    """Name, kind and size of each that `NM` lists.

    A constructor is one, whether the object has its two variants as one function of two names or only the one it calls.
    """
    found = filter(None, map(_SYMBOL.fullmatch, listed.splitlines()))
    return frozenset(one.groups() for one in found if one["kind"] != "n")
