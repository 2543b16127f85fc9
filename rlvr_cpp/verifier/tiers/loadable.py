"""Oracles and candidates as shared libraries, beside programs that were linked before: a third of what a small program
costs is the linker reading the same libraries again.

What runs must be what a whole link makes. Where that could differ, it is linked whole, and a whole link alone says what
is wrong with a candidate that does not link: a name that nobody defines or that both sides define, one that it hides,
one that the libraries have in several versions, of which an unlinked name means the oldest.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from rlvr_cpp.verifier.tiers.object_policy import ENTRY, SHARED, MalformedObject, ObjectFile, read_object
from rlvr_cpp.verifier.tiers.oracle import Split
from rlvr_cpp.verifier.toolchain.bench import Bench
from rlvr_cpp.verifier.toolchain.built import Built
from rlvr_cpp.verifier.toolchain.workshop import CHOOSE_RUNTIMES, LIBRARY, PROGRAM, Oracle, Sources, Workshop
from rlvr_sandbox import SandboxError

RUNTIME = "rlvr_runtime.o"
AS_LIBRARY = ("-shared", "-nodefaultlibs", "-o", LIBRARY)
MAIN = "int main() { __builtin_trap(); }\n"
EXPORTED = re.compile(
    r"\s*\d+: \w+ +\w+ \w+ +(?:GLOBAL|WEAK|UNIQUE|<OS).* (?!UND)\w+ (?P<name>[^\s@]+)(?P<version>\S*)"
)
WORD = re.compile(r"[A-Za-z_]\w*", re.ASCII)
OF_A_PROGRAM = ENTRY | {"__data_start", "data_start", "_IO_stdin_used", "__dso_handle"}
"""What a program defines itself."""
PAYS_AFTER = 3
"""Candidates whose functions have the same types: their program and stand-in take as long as three links save."""
MAX_LENGTH = 1 << 16  # of a candidate: the linker's part of a larger one is small


def build_loadable_oracle(std: str, workshop: Workshop, parts: Split) -> Oracle | None:
    """The oracle as a library, with the program that runs it. None where it has to be linked whole."""
    offered = _offered(workshop)
    if offered is None or offered.ambiguous & _words(parts.oracle):
        return None
    flags = ("-w", *workshop.trusted_flags(std))
    host = _build_host("", MAIN, flags, workshop)
    runtime = workshop.built_once(RUNTIME, {"runtime.cpp": parts.runtime}, [*flags, "-c", "runtime.cpp", "-o", RUNTIME])
    if host is None or runtime is None:
        return None
    files: Sources = {"oracle.cpp": parts.oracle, RUNTIME: runtime.read_bytes()}
    whole = [*workshop.oracle_flags(std), "oracle.cpp", "-DRLVR_APART", RUNTIME, *AS_LIBRARY]
    library = workshop.built_once(LIBRARY, files, whole)
    if library is None or not _trusted_fits(library, host, workshop.libraries):
        return None
    return Oracle(library.parent, host, workshop.signature in parts.oracle)


def build_loadable(bench: Bench, parts: Split) -> Built | None:
    """Make the candidate a library, beside the program that serves its functions.

    None where only a whole link says what becomes of it. A candidate that does not compile is told as ever.
    """
    program, workshop = bench.program, bench.workshop
    offered = _offered(workshop)
    if offered is None or list(program.files) != program.sources or len(program.files) != 1:
        return None
    [text] = program.files.values()
    if len(text) > MAX_LENGTH or offered.ambiguous & _words(text):
        return None
    if not workshop.pays(parts.worker, PAYS_AFTER) or (host := build_host(program.std, workshop, parts)) is None:
        return None
    served = bench.folder / PROGRAM
    served.write_bytes(parts.with_names(host.read_bytes()))
    served.chmod(0o755)
    built = bench.compile(*AS_LIBRARY)
    if built.failure in ("compile_error", "compile_limit"):
        return built
    wanted = frozenset(parts.with_names(name.encode() + b"\0").rstrip(b"\0").decode() for name in _asked(host))
    if built.failure is None and _fits(bench.folder / LIBRARY, wanted, offered, own=OF_A_PROGRAM):
        return built
    served.unlink()
    return None


def build_host(std: str, workshop: Workshop, parts: Split) -> Path | None:
    """The worker as a program that loads the candidate's library from the folder it is started in."""
    return _build_host(parts.worker, parts.stand_in, ("-w", *workshop.trusted_flags(std)), workshop)


def _build_host(program: str, stand_in: str, flags: tuple[str, ...], workshop: Workshop) -> Path | None:
    named = f"-Wl,-soname,./{LIBRARY}"  # with a slash it is opened as it stands and searched for nowhere
    library = workshop.built_once(LIBRARY, {"stand_in.cpp": stand_in}, [*flags, "stand_in.cpp", named, *AS_LIBRARY])
    if library is None:
        return None
    files: Sources = {"host.cpp": program, LIBRARY: library.read_bytes()}
    loads = ("-Wl,--no-as-needed", LIBRARY)
    return workshop.built_once(PROGRAM, files, [*flags, "host.cpp", "-o", PROGRAM, *loads, *workshop.link_flags])


def _offered(workshop: Workshop) -> Exports | None:
    """The names of the runtime libraries. None but for g++ with its own, and where it builds nothing."""
    toolchain = workshop.toolchain
    if toolchain.is_clang or any(flag.startswith(CHOOSE_RUNTIMES) for flag in toolchain.extra_flags):
        return None
    try:
        return exports(workshop.libraries)
    except SandboxError:  # a whole link says it better
        return None


def _words(text: str) -> frozenset[str]:
    """Whatever may be a name. One that is none costs time: what a library needs is read from itself."""
    return frozenset(WORD.findall(text))


@lru_cache(maxsize=4096)
def _trusted_fits(library: Path, host: Path, libraries: tuple[str, ...]) -> bool:
    return _fits(library, _asked(host), exports(libraries), own=frozenset())


def _fits(library: Path, asked: frozenset[str], offered: Exports, own: frozenset[str]) -> bool:
    """The library has all that its program asks of it, nothing of the program's own, and needs only what there is."""
    try:
        read = read_object(library.read_bytes(), SHARED)
    except MalformedObject:
        return False
    given = read.defined()
    return _unlinked(read) <= offered.single and asked - offered.names <= given and not own & given


@lru_cache(maxsize=512)
def _asked(host: Path) -> frozenset[str]:
    """What a host, which is never changed, takes from libraries."""
    return _unlinked(read_object(host.read_bytes(), SHARED))


def _unlinked(read: ObjectFile) -> frozenset[str]:
    """The names that a file needs and of which no library said what version they have."""
    return frozenset(s.name for s in read.symbols if not s.defined and s.binding == "global" and not s.version)


@dataclass(frozen=True)
class Exports:
    """The names that shared libraries offer."""

    names: frozenset[str]
    single: frozenset[str]
    """Those that one library has, in one version, which is what a linker takes."""
    ambiguous: frozenset[str]
    """Those of which a linker knows which one it takes, and nothing else does."""


@lru_cache(maxsize=16)
def exports(libraries: tuple[str, ...]) -> Exports:
    """What these files offer; one that is no library offers nothing. Raises SandboxError where readelf is missing."""
    readelf = shutil.which("readelf")
    if readelf is None:
        raise SandboxError("sandbox: readelf is missing: apt-get install binutils")
    paths = sorted({str(Path(library).resolve()) for library in libraries if ".so" in library})
    versions, linkable = Counter[str](), set[str]()
    for path in paths:
        listed = subprocess.run([readelf, "--wide", "--dyn-syms", path], capture_output=True, text=True).stdout
        for symbol in filter(None, map(EXPORTED.match, listed.splitlines())):
            versions[symbol["name"]] += 1
            if not symbol["version"] or symbol["version"].startswith("@@"):  # others are there for old programs alone
                linkable.add(symbol["name"])
    single = frozenset(name for name in linkable if versions[name] == 1)
    return Exports(frozenset(versions), single, frozenset(linkable) - single)
