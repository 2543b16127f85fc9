"""Where programs are built and run: scratch folders, the jailed compiler, the jailed program, things built once.

One workshop serves one toolchain. Every compiler run sees the system's headers and its own scratch folder; every
program sees its shared libraries and that folder read-only. A compiler that its own limits stopped is told apart from
one that the machine failed, which is nobody's score.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import math
import os
import re
import shutil
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from rlvr_cpp.verifier.cpp.diagnostics import compile_limit_reason, parse_diagnostics, toolchain_trouble
from rlvr_cpp.verifier.limits import on_the_clock
from rlvr_cpp.verifier.program import Program
from rlvr_cpp.verifier.toolchain import flush
from rlvr_cpp.verifier.toolchain.precompiled import PrecompiledHeaders
from rlvr_cpp.verifier.toolchain.store import Store, content_key
from rlvr_cpp.verifier.toolchain.toolchain import CANDIDATE_FLAGS, Toolchain, compiler_view, linker_flags, program_view
from rlvr_cpp.verifier.verdict import WORKER_GONE
from rlvr_sandbox import Command, Controls, Finished, Limits, SandboxError, Stopper, can_mount, run, run_together
from rlvr_sandbox.launcher import cache_folder, private_temporary_folder

LOG = logging.getLogger(__name__)
PROGRAM = "rlvr_program"
LIBRARY = "rlvr_library.so"
"""What a program is built as that is loaded by another one."""
SCRATCH = "rlvr_verify_"
COMPILER_MEMORY = 2_500 << 20
COMPILER_NICE = 10  # what trains or samples beside it goes first
COMPILER_OUTPUT = 1 << 20  # machine-readable diagnostics are long
PROGRAM_MEMORY = 1 << 30
SANITIZED_MEMORY = 2 << 30
HEADER_SIZE = 512 << 20  # a precompiled <bits/stdc++.h> has 100 MB
ERRORS_LIMIT = 64 << 20  # what a program says of itself on stderr is not counted; more is an attack
STORE_LIMIT = 2 << 30
STALE = 3600.0  # seconds after which the scratch folder of a dead process is removed
CHOOSE_RUNTIMES = ("-fsanitize", "-pthread", "-fopenmp", "-stdlib", "-static", "-m")  # flags that the linker needs
LAST_WORDS = 1.0  # seconds for a worker's own destructors when its oracle has seen enough

Sources = Mapping[str, str | bytes]
Descriptors = tuple[tuple[int, int], ...]
"""Of ours and what the program knows them by."""
_LIBRARIES: dict[tuple[str, tuple[str, ...], Controls], tuple[str, ...]] = {}


class Oracle(NamedTuple):
    """A test that was made a program of its own."""

    folder: Path
    """The one that it is run in."""
    host: Path | None
    """The program, where that is not in the folder."""
    is_signed: bool
    """It prints its marker behind the workshop's signature."""
    is_fenced: bool = False
    """Whoever writes beside one of its variables ends it; that takes memory, and a look at its own process."""


class Workshop:
    """Builds and runs with one toolchain under one set of controls."""

    def __init__(self, toolchain: Toolchain, controls: Controls, memory: int = PROGRAM_MEMORY) -> None:
        self.toolchain = toolchain
        self.controls = controls
        self.memory = memory
        """Bytes that a program may use."""
        self.stopper: Stopper | None = None
        self.store = Store(_cache(controls) / "built", STORE_LIMIT)
        self.headers = PrecompiledHeaders(self.store, toolchain)
        self.signature = self.store.secret()
        """With what a harness signs its marker; no candidate knows it."""
        self.oracles: dict[str, Oracle] = {}
        """Those that were built."""
        self._failed: dict[str, str] = {}
        self._building: dict[str, threading.Lock] = {}
        self._uses: Counter[str] = Counter()
        _sweep_scratch()

    def stopped_by(self, stopper: Stopper) -> Workshop:
        """The same workshop, whose runs end when `stopper` says so."""
        other = copy.copy(self)
        other.stopper = stopper
        return other

    def flags(self, std: str, optimization: str = "-O0") -> tuple[str, ...]:
        """What every translation unit of a program is compiled with."""
        chosen = (flag for flag in self.toolchain.extra_flags if not flag.startswith("-l"))
        # A unique symbol cannot be made local, which sealing needs, and a candidate may become a library; precompiled
        # headers want equal flags everywhere.
        own = () if self.toolchain.is_clang else (*CANDIDATE_FLAGS, "-fPIC")
        return (f"-std={std}", optimization, "-Wall", "-Wextra", *own, *chosen)

    def trusted_flags(self, std: str) -> tuple[str, ...]:
        """What our own translation units are compiled with: they need no sanitizer and no warnings."""
        return tuple(flag for flag in self.flags(std) if not flag.startswith(("-W", "-fsanitize")))

    def oracle_flags(self, std: str) -> tuple[str, ...]:
        """What a test is compiled with that runs in a process of its own.

        An index or iterator that the candidate chose must not reach the test's other variables.
        """
        bounds = (
            "array-bounds" if self.toolchain.is_clang else "bounds-strict"
        )  # clang's other bounds forbid shared headers
        checked = (f"-fsanitize={bounds}", "-fsanitize-undefined-trap-on-error", "-D_GLIBCXX_DEBUG")
        return ("-w", *self.trusted_flags(std), *checked)

    @property
    def fence_flags(self) -> tuple[str, ...]:
        """What moreover a test is compiled with that has memory written to through pointers.

        Reads stay as they are: a test that reads a little too far has its reasons, and changes nothing by it.
        """
        if self.toolchain.is_clang:
            return ("-fsanitize=address", "-mllvm", "-asan-instrument-reads=0")
        return ("-fsanitize=address", "-static-libasan", "--param", "asan-instrument-reads=0")

    @property
    def link_flags(self) -> tuple[str, ...]:
        """What stands behind the objects of a program: the fastest linker here, and the libraries."""
        chosen = (flag for flag in self.toolchain.extra_flags if flag.startswith("-l"))
        return (*linker_flags(self.toolchain.compiler), *chosen)

    def precompiled(self, code: str, flags: tuple[str, ...]) -> tuple[str, ...]:
        """The flags that put a precompiled header before `code`, where there is one that changes nothing."""
        return self.headers.flags(code, flags, self._build_header)

    def announce(self, program: Program) -> None:
        """This candidate is going to be compiled."""
        if isinstance(program.code, str):
            self.headers.announce(program.code, self.flags(program.std, program.optimization))

    def compile(
        self,
        folder: Path,
        arguments: Sequence[str],
        *,
        header: Sequence[str] = (),
        stdin: bytes = b"",
        file_size: int = 64 << 20,
    ) -> Finished:
        """Run the compiler in a scratch folder. Raises SandboxError where the machine failed it.

        `header` is what `precompiled` gave. It may have been removed meanwhile, and is then done without.
        """
        compiler = self.toolchain.compiler
        finished = self._drive(compiler, folder, [*header, *arguments], stdin, file_size)
        if header and finished.returncode != 0 and not Path(header[-1]).parent.exists():
            return self._drive(compiler, folder, arguments, stdin, file_size)
        return finished

    def link(self, folder: Path, arguments: Sequence[str]) -> Finished:
        """Link objects and libraries. Raises SandboxError where the machine failed the linker."""
        runtimes = (flag for flag in self.toolchain.extra_flags if flag.startswith(CHOOSE_RUNTIMES))
        return self._drive(self.toolchain.link_driver, folder, [*runtimes, *arguments, *self.link_flags])

    def _drive(
        self, driver: str, folder: Path, arguments: Sequence[str], stdin: bytes = b"", file_size: int = 64 << 20
    ) -> Finished:
        seconds = self.toolchain.compile_timeout
        finished = run(
            Command(
                (driver, *arguments),
                folder,
                Limits(
                    cpu=seconds,
                    wall=4 * seconds + 1,  # it steps back for others
                    memory=COMPILER_MEMORY,
                    file_size=file_size,
                    output=COMPILER_OUTPUT,
                    nice=COMPILER_NICE,
                ),
                readable=(*compiler_view(driver), *_existing(arguments)),
                writable=True,
                stdin=stdin,
            ),
            self.controls,
            self.stopper,
        )
        trouble = toolchain_trouble(finished.stderr.decode(errors="replace"))
        if finished.ended == "exit" and finished.returncode != 0 and trouble is not None:
            raise SandboxError(trouble)
        return finished

    def run_tool(self, folder: Path, argv: Sequence[str], seconds: float, readable: Sequence[str] = ()) -> Finished:
        """Run a tool of the toolchain, such as a linker or a linter, as the compiler is run."""
        limits = Limits(cpu=seconds, wall=2 * seconds + 1, memory=COMPILER_MEMORY, output=COMPILER_OUTPUT)
        view = (*compiler_view(self.toolchain.compiler), *readable)
        return run(
            Command(tuple(argv), folder, limits, readable=view, writable=True, proc=True), self.controls, self.stopper
        )

    def tool(self, name: str) -> str:
        """The path of a tool of the same installation. Raises SandboxError where it is missing."""
        found = shutil.which(name)
        if found is None:
            raise SandboxError(f"sandbox: {name} is missing: apt-get install binutils")
        return found

    def run(self, command: Command) -> Finished:
        """Run one program."""
        return run(command, self.controls, self.stopper)

    def run_split(self, oracle: Command, worker: Command, afterwards: float = math.inf) -> tuple[Finished, Finished]:
        """Run a harness and the candidate that it calls. A worker that let its oracle down still has all its time.

        `afterwards` is how many seconds the oracle has when its worker has ended.
        """

        def grace(place: int, ended: Finished) -> float:
            of_worker = math.inf if ended.returncode == WORKER_GONE else LAST_WORDS
            return of_worker if place == 0 else afterwards

        commands = [oracle, worker]
        harness, candidate = run_together(commands, self.controls, grace=grace, stopper=self.stopper)
        return harness, candidate

    def program(
        self,
        folder: Path,
        *,
        stdin: bytes = b"",
        descriptors: Descriptors = (),
        host: Path | None = None,
        file_size: int | None = None,
        is_fenced: bool = False,
    ) -> Command:
        """The command that runs the program that was built in a folder, or a `host` from elsewhere that loads it."""
        seconds, sanitized = self.toolchain.timeout, self.toolchain.is_sanitized or is_fenced
        limits = Limits(
            cpu=seconds,
            wall=on_the_clock(seconds),
            memory=SANITIZED_MEMORY if sanitized else self.memory,
            errors=ERRORS_LIMIT,
        )
        return Command(
            (str(host or f"./{PROGRAM}"),),
            folder,
            limits if file_size is None else replace(limits, file_size=file_size),
            readable=(*self.libraries, *([str(host)] if host else [])),
            proc=sanitized,
            bounded_address_space=not sanitized,
            stdin=stdin,
            descriptors=descriptors,
            kill_at_output_limit=True,
        )

    @property
    def libraries(self) -> tuple[str, ...]:
        """The shared libraries of a program built with this toolchain, and the dynamic loader."""
        key = (self.toolchain.compiler, self.toolchain.extra_flags, self.controls)
        if key not in _LIBRARIES:
            _LIBRARIES[key] = self._find_libraries()
        return _LIBRARIES[key]

    def _find_libraries(self) -> tuple[str, ...]:
        everything = "#include <iostream>\n#include <cmath>\nint main() { std::cout << std::sin(1.0); }\n"
        with self.scratch({"probe.cpp": everything}) as folder:
            chosen = [flag for flag in self.toolchain.extra_flags if not flag.startswith("-l")]
            libraries = ["-Wl,--no-as-needed", "-pthread", "-lm", *self.link_flags]
            built = self.compile(folder, [*chosen, "probe.cpp", *libraries, "-o", PROGRAM])
            if built.returncode != 0:
                raise SandboxError(f"{self.toolchain.compiler} cannot build: {built.stderr.decode(errors='replace')}")
            loader = _loader((folder / PROGRAM).read_bytes())
            if loader is None:
                return ()  # static
            listed = self.run_tool(folder, [loader, "--list", f"./{PROGRAM}"], 10.0)
        return program_view(listed.stdout.decode(errors="replace") + f"\n{loader} (0x")

    def open_to_runs(self, folder: Path, group: int) -> None:
        """Let runs read a folder and nobody else: where root starts them, each is a user of its own, in its group."""
        if "drop" in self.controls.names:
            os.chown(folder, group, group)
        folder.chmod(0o750)

    @contextlib.contextmanager
    def scratch(self, files: Sources) -> Iterator[Path]:
        """A folder with these files that the jailed compiler may write into, removed afterwards."""
        folder = Path(tempfile.mkdtemp(prefix=f"{SCRATCH}{os.getpid()}_"))
        try:
            write_files(folder, files)
            self.open_to_runs(folder, self.controls.account())
            yield folder
        finally:
            remove_tree(folder)

    def built_once(self, name: str, files: Sources, arguments: Sequence[str]) -> Path | None:
        """The file `name` that compiling trusted `files` with `arguments` makes; None where they do not compile.

        It is kept for everybody under the hash of all of that. The compiler's environment enters by its version.
        Threads that want the same wait for the first of them. Raises SandboxError where a limit ended the compiler: a
        busy machine must not weaken how a task is judged.
        """
        key = self._key(name, files, arguments)
        with self._building.setdefault(key, threading.Lock()):
            return None if key in self._failed else self._build_once(key, name, files, arguments)

    def complaint(self, name: str, files: Sources, arguments: Sequence[str]) -> str:
        """The first error of what `built_once` could not build."""
        said = self._failed.get(self._key(name, files, arguments), "")
        found = (one for one in parse_diagnostics(said) if one.severity.endswith("error"))
        lines = said.strip().splitlines() or [""]
        return next((f"{one.file}:{one.line}: {one.message}" for one in found), lines[0])

    def _key(self, name: str, files: Sources, arguments: Sequence[str]) -> str:
        return content_key(name, sorted(files.items()), arguments, self.toolchain.compiler, self.toolchain.version)

    def _build_once(self, key: str, name: str, files: Sources, arguments: Sequence[str]) -> Path | None:
        def build(draft: Path) -> bool:
            with self.scratch(files) as folder:
                finished = self.compile(folder, arguments, header=self._header(files, arguments))
                said = finished.stderr.decode(errors="replace")
                reason = compile_limit_reason(said) if finished.returncode != 0 else None
                if finished.ended != "exit" or reason is not None:
                    raise SandboxError(
                        f"sandbox: a test did not compile within its limits ({reason or finished.ended})"
                    )
                if finished.returncode != 0:
                    self._failed[key] = said
                    return False
                shutil.copyfile(folder / name, draft / name)
                (draft / name).chmod(0o755)
            return True

        entry = self.store.make(key, build)
        return None if entry is None else entry / name

    def _header(self, files: Sources, arguments: Sequence[str]) -> tuple[str, ...]:
        """The precompiled header of the one source among the files, whose flags stand before its name."""
        place = next(n for n, word in enumerate(arguments) if word in files and word.endswith(".cpp"))
        flags = tuple(word for word in arguments[:place] if word not in ("-w", "-c"))
        return self.precompiled(str(files[arguments[place]]), flags)

    def still_has(self, path: Path | None) -> bool:
        """Something built once, or its folder, is still there, and will be for a while. Nothing is always there."""
        return path is None or self.store.find(path.relative_to(self.store.folder).parts[0]) is not None

    def pays(self, text: str, after: int, uses: int = 1) -> bool:
        """Whether `text` has come up more than `after` times, these `uses` included: something may be built for it."""
        self._uses[text] += uses
        return self._uses[text] > after

    def object_of(self, name: str, text: str, flags: Sequence[str]) -> bytes:
        """The object, called `name`, of a translation unit of ours. Raises SandboxError if there is none."""
        source = f"{Path(name).stem}.cpp"
        path = self.built_once(name, {source: text}, [*flags, "-c", source, "-o", name])
        if path is None:
            raise SandboxError(f"sandbox: {source} does not compile")
        return path.read_bytes()

    def _build_header(self, draft: Path, text: str, recipe: tuple[str, ...]) -> bool:
        plugin = self._flush_plugin()
        files: Sources = {"prefix.h": text}
        if plugin is not None:
            files = {"prefix.h": text + flush.PRAGMA, flush.PLUGIN: plugin.read_bytes()}
            recipe = (flush.LOADED, *recipe)
        with self.scratch(files) as folder:
            finished = self.compile(folder, recipe, stdin=text.encode(), file_size=HEADER_SIZE)
            output = recipe[-1]
            if finished.returncode != 0:
                return False
            for name in ("prefix.h", output):
                shutil.copyfile(folder / name, draft / name)
                (draft / name).chmod(0o644)
        return True

    def _flush_plugin(self) -> Path | None:
        """The plugin for making precompiled headers, proven at its first use; None where the compiler takes none."""
        if self.toolchain.is_clang:
            return None
        key = content_key("flush", flush.PROBE, self.toolchain.compiler, self.toolchain.version)
        with self._building.setdefault(key, threading.Lock()):
            entry = None if key in self._failed else self.store.make(key, lambda draft: self._prove_plugin(key, draft))
        return None if entry is None else entry / flush.PLUGIN

    def _prove_plugin(self, key: str, draft: Path) -> bool:
        nm = self.tool("nm")
        with self.scratch(flush.PROBE) as folder:
            why = flush.complaint(
                lambda arguments: self.compile(folder, arguments),
                lambda name: self.run_tool(folder, [nm, *flush.NM, name], 10.0),
            )
            if why:
                self._failed[key] = why
                LOG.warning("%s: programs cost more, for its plugin does not work (%s)", self.toolchain.compiler, why)
                return False
            shutil.copyfile(folder / flush.PLUGIN, draft / flush.PLUGIN)
        return True


def _cache(controls: Controls) -> Path:
    """The folder for what is built once; in a public place where root has dropped its rights before it has a view."""
    if "drop" in controls.names and not ("mount" in controls.names and can_mount()):
        return private_temporary_folder()
    return cache_folder()


def write_files(folder: Path, files: Sources) -> None:
    """Write texts, whatever they hold, with folders as needed."""
    for name, text in files.items():
        path = folder / name
        for place in reversed(path.parents[: len(Path(name).parents) - 1]):
            place.mkdir(exist_ok=True)
            place.chmod(0o755)
        path.write_bytes(text if isinstance(text, bytes) else text.encode(errors="replace"))
        path.chmod(0o644)  # whatever our umask says: the folder around them is closed, and the compiler is another user


def remove_tree(folder: Path) -> None:
    """Delete a folder in which something untrusted has written."""
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        return
    except (OSError, RecursionError):  # nested deeper than Python goes, or without permissions
        subprocess.run(["rm", "-rf", "--", str(folder)], check=False, capture_output=True)


def _existing(arguments: Sequence[str]) -> tuple[str, ...]:
    """The folders of the files that arguments name: our own precompiled headers."""
    return tuple(dict.fromkeys(os.path.dirname(word) for word in arguments if word.startswith("/")))


def _loader(binary: bytes) -> str | None:
    """The dynamic loader that an executable asks for."""
    found = re.search(rb"/[\w/.-]*ld[\w.-]*\.so[\w.]*(?=\0)", binary[:4096])
    return found.group().decode() if found else None


def _sweep_scratch() -> None:
    """Remove what killed processes left behind."""
    for folder in Path(tempfile.gettempdir()).glob(f"{SCRATCH}*_*"):
        owner = folder.name.removeprefix(SCRATCH).partition("_")[0]
        with contextlib.suppress(OSError):
            if not Path(f"/proc/{owner}").exists() and time.time() - folder.stat().st_mtime > STALE:
                remove_tree(folder)
