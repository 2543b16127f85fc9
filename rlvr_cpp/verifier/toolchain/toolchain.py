"""The compiler: which one, with which flags and linker, and which files of the host it needs to see.

The compiler runs in a jail that shows it the system's headers, libraries and tools and nothing else, and the built
program in one that shows it its shared libraries alone. Both views are found by asking the compiler, once.
Flags are let in by a list: what reads or writes a file of the user's choice, or loads code, is refused.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from rlvr_cpp.errors import UserError
from rlvr_cpp.verifier.program import TESTLIB

MAX_SECONDS = 86_400
SYSTEM = (
    *("/bin", "/lib", "/lib32", "/lib64", "/libx32", "/usr/bin", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/libx32"),
    *("/usr/libexec", "/usr/include", "/usr/local/include", "/etc/alternatives", "/etc/ld.so.cache"),
)
ALLOWED_FLAGS = tuple(
    re.compile(pattern)
    for pattern in (
        r"-O([0-3sgz]|fast)?",
        r"-g[0-3]?",
        r"-w|-ansi|-pthread|-fopenmp(-simd)?|-pedantic(-errors)?",
        r"-W(no-)?[a-z][a-z0-9+-]*(=[a-z0-9-]+)?",
        r"-[DU][A-Za-z_]\w*(=[^\s@`$]*)?",
        r"-l[A-Za-z0-9_+.-]+",
        r"-m(no-)?[a-z0-9.-]+(=[a-z0-9.+-]+)?",
        r"-static-lib(stdc\+\+|gcc)|-stdlib=lib(c|std)\+\+",
        r"-fno-[A-Za-z][A-Za-z0-9-]*",
        r"-f(sanitize|no-sanitize|sanitize-recover|no-sanitize-recover)=[a-z,-]+",
        r"-f(template-depth|max-errors|error-limit|visibility|fp-model|ffp-contract|ffp-model)=[a-z0-9]+",
        r"-fconstexpr-[a-z-]+=[0-9]+",
        r"-f[A-Za-z][A-Za-z0-9-]*",
    )
)
REFUSED_FLAGS = re.compile(
    r"-f(plugin|dump|save|profile|test-coverage|callgraph|opt-info|record|stack-usage|time-trace|module|coverage|pch"
    r"|directives|preprocessed|debug-prefix|working-directory|syntax-only|use-ld|cs-profile|auto-profile|lto|embed"
    r"|instrument|xray|crash|proc-stat|diagnostics|compare-debug|repo|reproducible|sandbox|verbose).*"
    r"|-W[pal](,.*)?"
)


@dataclass(frozen=True, kw_only=True)
class Toolchain:
    """How programs are built and how long they may take."""

    compiler: str
    """The absolute path."""
    version: str
    """The first line of `--version`."""
    extra_flags: tuple[str, ...] = ()
    timeout: float = 10.0
    """CPU seconds of a run; it may take twice as long and a second on the clock."""
    compile_timeout: float = 30.0
    """CPU seconds of a build; the same for the clock."""
    testlib: str | None = None
    """The folder in which `testlib.h` lies, for checker programs; None where nobody needs one."""
    testlib_hash: str = ""

    @property
    def is_clang(self) -> bool:
        """clang++, whose options for diagnostics and precompiled headers differ."""
        return "clang" in self.version

    @property
    def link_driver(self) -> str:
        """What links objects: g++ for clang++ too, where it is installed, which starts in a twentieth of the time.

        Not where a flag chooses a runtime library that is clang's own.
        """
        own = ("-stdlib", "-fsanitize", "-fopenmp", "-static")
        if not self.is_clang or any(flag.startswith(own) for flag in self.extra_flags):
            return self.compiler
        return shutil.which("g++") or self.compiler

    @property
    def is_sanitized(self) -> bool:
        """Programs are built with a sanitizer, which needs a /proc and more memory."""
        return any(flag.startswith("-fsanitize") for flag in self.extra_flags)


def make_toolchain(
    compiler: str, extra_flags: Sequence[str], timeout: float, compile_timeout: float, testlib: str | None = None
) -> Toolchain:
    """The toolchain with its compiler found on PATH now, so that what was checked is what is run.

    Raises UserError where the compiler is missing or does not start, `testlib` holds no testlib.h, or an argument makes
    no sense.
    """
    check_flags(extra_flags)
    for name, seconds in (("timeout", timeout), ("compile_timeout", compile_timeout)):
        if not (isinstance(seconds, int | float) and 0 < seconds <= MAX_SECONDS):
            raise UserError(f"{name} is {seconds!r}: it must be a number of seconds above 0, at most {MAX_SECONDS}")
    found = shutil.which(compiler)
    if found is None:
        raise UserError(
            f"compiler {compiler!r} was not found on PATH: install it (apt-get install g++ or clang) "
            "or name another one"
        )
    path = os.path.abspath(found)
    return Toolchain(
        compiler=path,
        version=compiler_version(path),
        extra_flags=tuple(extra_flags),
        timeout=timeout,
        compile_timeout=compile_timeout,
        testlib=None if testlib is None else os.path.abspath(testlib),
        testlib_hash="" if testlib is None else _hash_of_header(testlib),
    )


def _hash_of_header(testlib: str) -> str:
    header = Path(testlib, TESTLIB)
    try:
        return hashlib.sha256(header.read_bytes()).hexdigest()[:16]
    except OSError as error:
        raise UserError(
            f"verifier.testlib is {testlib!r}, but {header} cannot be read ({error.strerror}): name the folder that "
            f"holds {TESTLIB}"
        ) from error


def check_flags(flags: Sequence[str]) -> None:
    """Raise UserError for a flag that is not on the list."""
    if isinstance(flags, str):
        raise UserError(f"extra_flags is {flags!r}: it must be a list of flags, such as ['-O2']")
    for flag in flags:
        if not isinstance(flag, str) or not is_allowed(flag):
            raise UserError(
                f"extra_flags has {flag!r}: only flags that choose the language, optimisation, warnings, sanitizers, "
                "macros (-D) and libraries (-l) are allowed, none that names a file or a program"
            )


def is_allowed(flag: str) -> bool:
    """The flag neither reads nor writes a file of its own choice and loads no code."""
    return not REFUSED_FLAGS.fullmatch(flag) and any(pattern.fullmatch(flag) for pattern in ALLOWED_FLAGS)


@cache
def compiler_version(compiler: str) -> str:
    """The first line of `<compiler> --version`. Raises UserError where the compiler cannot be run."""
    return _ask(compiler, "--version").partition("\n")[0]


@cache
def linker_flags(compiler: str) -> tuple[str, ...]:
    """The fastest linker that is installed and that this compiler can be told to use; empty for its own default."""
    for name, program in (("mold", "mold"), ("lld", "ld.lld")):
        if shutil.which(program) and _links_with(compiler, f"-fuse-ld={name}"):
            return (f"-fuse-ld={name}",)
    return ()


def _links_with(compiler: str, flag: str) -> bool:
    return _answers(compiler, flag, "-x", "c++", "-shared", "-o", "/dev/null", "/dev/null")


def _answers(compiler: str, *options: str) -> bool:
    try:
        _ask(compiler, *options)
    except UserError:
        return False
    return True


@cache
def compiler_view(compiler: str) -> tuple[str, ...]:
    """What the compiler must see: the system's tools, headers and libraries, and its own folder where it is another."""
    own = [_home(Path(path)) for path in (compiler, os.path.realpath(compiler))]
    searched = [_home(Path(path)) for path in _searched(compiler)]
    return _without_children([*SYSTEM, *own, *searched])


def _searched(compiler: str) -> Iterable[str]:
    listed = _ask(compiler, "-print-search-dirs") if _answers(compiler, "-print-search-dirs") else ""
    for line in listed.splitlines():
        name, _, paths = line.partition(": =")
        if name in ("programs", "libraries"):
            yield from (os.path.realpath(path) for path in paths.split(":") if os.path.isdir(path))


def _home(path: Path) -> str:
    """The folder to show for a tool or a search folder: its installation where that has the usual shape."""
    folder = path if path.is_dir() else path.parent
    return str(folder.parent if folder.name == "bin" and folder.parent != Path("/") else folder)


def _without_children(paths: Iterable[str]) -> tuple[str, ...]:
    """Each path once and none below another; /usr itself would show more than is needed."""
    kept: list[str] = []
    for path in sorted({p for p in paths if os.path.lexists(p) and p not in ("/", "/usr", "/usr/local")}):
        if not any(path.startswith(parent + "/") for parent in kept):
            kept.append(path)
    return tuple(kept)


def program_view(libraries_listing: str) -> tuple[str, ...]:
    """The files that the dynamic loader named (`ld.so --list`), each with the links that lead to it."""
    view = ["/etc/ld.so.cache"]
    for word in re.findall(r"(?:=> )?(/\S+) \(0x", libraries_listing):
        path = word
        view.append(path)
        while os.path.islink(path):
            path = os.path.join(os.path.dirname(path), os.readlink(path))
            view.append(os.path.normpath(path))
    return tuple(dict.fromkeys(view))


def _ask(compiler: str, *options: str) -> str:
    """What the compiler says about itself; it sees no text of a candidate here."""
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C"}
    try:
        done = subprocess.run([compiler, *options], capture_output=True, env=environment, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise UserError(f"compiler {compiler!r} cannot be run ({error}): mend it or name another one") from error
    return done.stdout.decode(errors="replace")


CANDIDATE_FLAGS = ("-fno-gnu-unique",)
"""What g++ (not clang++) needs for a candidate that is to be localised."""
