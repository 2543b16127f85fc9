"""The bench: one program, the workshop that serves it, and the folder in which it is built and run.

How a program is judged is a recipe of a few of its verbs: `compile`, look at what came of it, `link` or `build`, `run`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rlvr_cpp.verifier.cpp.diagnostics import Diagnostic, diagnostic_flags
from rlvr_cpp.verifier.cpp.includes import foreign_includes
from rlvr_cpp.verifier.program import Program
from rlvr_cpp.verifier.toolchain.built import Built, read_built
from rlvr_cpp.verifier.toolchain.workshop import LIBRARY, PROGRAM, Descriptors, Sources, Workshop, write_files
from rlvr_sandbox import Command, Finished

CANDIDATE_OBJECT = "rlvr_candidate.o"
ALONE, MAIN = "rlvr_alone", "rlvr_main.cpp"
OWN_MAIN = "candidates_own_main"
"""What a `main` that an answer brings along is called where another one is the program's."""
RENAME_MAIN = f"-Dmain={OWN_MAIN}"
ONE_TEXT = ("-x", "c++", "-", "-x", "none")
"""How the compiler is told to read a text of ours that no file holds, so that nothing it includes can include it."""
SANITIZER = "rlvr_sanitizer.o"
# Linked into every sanitized program, so that a candidate that defines these, to silence what it did, does not link.
# The leak checker needs ptrace, which the sandbox refuses; the sanitizers read no environment here.
SANITIZER_OPTIONS = """
extern "C" const char* __asan_default_options() { return "detect_leaks=0:exitcode=99"; }
extern "C" const char* __ubsan_default_options() { return "halt_on_error=1:exitcode=99"; }
"""


@contextlib.contextmanager
def open_bench(program: Program, workshop: Workshop) -> Iterator[Bench]:
    """A bench with the candidate's files on it, which is cleared when it is left."""
    with workshop.scratch(program.files) as folder:
        yield Bench(program, workshop, folder)


@dataclass(frozen=True)
class Bench:
    """One program at work. Every verb raises SandboxError where the machine failed it."""

    program: Program
    workshop: Workshop
    folder: Path
    """Holds the candidate's files and what is made of them."""

    @property
    def flags(self) -> tuple[str, ...]:
        """What the candidate's translation units are compiled with."""
        return self.workshop.flags(self.program.std, self.program.optimization)

    @property
    def trusted_flags(self) -> tuple[str, ...]:
        """What our own translation units are compiled with, to go with this candidate's."""
        return self.workshop.trusted_flags(self.program.std)

    def read(self, name: str) -> bytes:
        """What a file in the folder holds."""
        return (self.folder / name).read_bytes()

    def write(self, files: Sources) -> None:
        """Put files into the folder."""
        write_files(self.folder, files)

    def precompiled(self) -> tuple[str, ...]:
        """The flags that put a precompiled header before the candidate's source; empty where it has several."""
        flags, sources = self.flags, self.program.sources
        return self.workshop.precompiled(self.program.files[sources[0]], flags) if len(sources) == 1 else ()

    @property
    def own_headers(self) -> tuple[str, ...]:
        """The flags by which several files find each other. They never stand for what `<...>` names."""
        return ("-iquote", ".") if len(self.program.files) > 1 else ()

    def compile(self, *arguments: str, source: str | None = None, text: str | None = None) -> Built:
        """Compile the candidate's sources with `arguments` behind them; of them `source` alone, or a `text` around it.

        The text is handed over without a file: nothing that the candidate includes can be it.
        """
        workshop, names = (
            self.workshop,
            list(ONE_TEXT) if text is not None else [source] if source else self.program.sources,
        )
        stdin = b"" if text is None else f'#line 1 "{MAIN}"\n{text}'.encode(errors="replace")
        flags, header = self.flags, self.precompiled()
        machine = diagnostic_flags(workshop.toolchain.version)
        objects = self._sanitizer() if "-c" not in arguments else []
        limit = "-ferror-limit=20" if workshop.toolchain.is_clang else "-fmax-errors=20"
        bounded = [*flags, limit, *self.own_headers, *names]
        finished = workshop.compile(self.folder, [*bounded, *machine, *objects, *arguments], header=header, stdin=stdin)
        built = self._of_known_files(read_built(finished))
        flooded = finished.output_cut and not built.diagnostics
        if machine and (built.failure == "compile_error" or flooded):
            again = workshop.compile(self.folder, [*bounded, "-fsyntax-only"], header=header, stdin=stdin)
            return built.with_text(again)
        return built

    def _of_known_files(self, built: Built) -> Built:
        """The same, but no program where it includes more than headers of the system and files of its own."""
        foreign = next(foreign_includes(self.program.files), None) if built.failure is None else None
        if foreign is None:
            return built
        message = f"{foreign.name}: file not found among the system's headers and the program's own"
        return built.refused(Diagnostic(foreign.file, foreign.line, None, "error", message, None))

    def compile_object(self, text: str | None = None) -> Built:
        """Make one object, `CANDIDATE_OBJECT`, of the candidate's only source or of a text that includes it."""
        return self.compile("-c", "-o", CANDIDATE_OBJECT, text=text)

    def link(self, compiled: Built, *arguments: str) -> Built:
        """Make the program of objects. What was compiled comes along: its diagnostics stay, its time is added."""
        return compiled.linked(self.workshop.link(self.folder, [*arguments, *self._sanitizer(), "-o", PROGRAM]))

    def build(self, *objects: str) -> Built:
        """Make the program of the candidate's sources and of `objects`, with as few starts as this toolchain needs.

        Where there are objects, one of them has the program's `main`, and an answer of several files keeps its own.
        """
        toolchain, is_single = self.workshop.toolchain, len(self.program.sources) == 1
        if toolchain.link_driver == toolchain.compiler or not is_single:
            renamed = (RENAME_MAIN,) if objects and not is_single else ()
            return self.compile(*renamed, *objects, "-o", PROGRAM, *self.workshop.link_flags)
        built = self.compile_object()
        return built if built.failure is not None else self.link(built, CANDIDATE_OBJECT, *objects)

    def command(self, *, stdin: bytes = b"", descriptors: Descriptors = (), file_size: int | None = None) -> Command:
        """What runs the program that was built."""
        usual = self.workshop.program(self._alone(), stdin=stdin, descriptors=descriptors, file_size=file_size)
        own = self.program.limits
        if self.workshop.toolchain.is_sanitized:  # which takes more time and memory than any task has in mind
            own = replace(own, time=None, memory=None)
        return replace(usual, limits=own.within(usual.limits))

    def run(self, *, stdin: bytes = b"", descriptors: Descriptors = (), file_size: int | None = None) -> Finished:
        """Run the program that was built."""
        return self.workshop.run(self.command(stdin=stdin, descriptors=descriptors, file_size=file_size))

    def _alone(self) -> Path:
        """A folder that holds the program and nothing of what it was made of."""
        folder = self.folder / ALONE
        folder.mkdir(exist_ok=True)
        self.workshop.open_to_runs(folder, self.folder.stat().st_gid)
        for name in (PROGRAM, LIBRARY):
            if (self.folder / name).exists():
                (self.folder / name).replace(folder / name)
        return folder

    def run_tool(self, argv: Sequence[str], seconds: float, readable: Sequence[str] = ()) -> Finished:
        """Run a tool of the toolchain on what lies here."""
        return self.workshop.run_tool(self.folder, argv, seconds, readable)

    def add_object(self, name: str, text: str, flags: Sequence[str]) -> None:
        """Put the object of a translation unit of ours into the folder. Raises SandboxError if there is none."""
        self.write({name: self.workshop.object_of(name, text, flags)})

    def _sanitizer(self) -> list[str]:
        """The object that keeps a sanitizer's options ours, where there is a sanitizer."""
        if not self.workshop.toolchain.is_sanitized:
            return []
        self.add_object(SANITIZER, SANITIZER_OPTIONS, self.workshop.trusted_flags("c++17"))
        return [SANITIZER]
