"""What became of a program: what the compiler said (`Built`), and what running it showed (`Judged`)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from rlvr_cpp.verifier.cpp.diagnostics import (
    Diagnostic,
    add_chains,
    compile_limit_reason,
    is_link_failure,
    parse_diagnostics,
    render_diagnostics,
)
from rlvr_cpp.verifier.status import Failure, Limit, Tier
from rlvr_cpp.verifier.verdict import ENDED_BY, Verdict
from rlvr_sandbox import Finished

TEXT_LIMIT = 64 << 10


@dataclass(frozen=True, kw_only=True)
class Built:
    """What the compiler said."""

    finished: Finished
    """Of the last step: the compiler's run, or the linker's."""
    diagnostics: tuple[Diagnostic, ...]
    text: str
    """What it said, for people."""
    failure: Failure | None = None
    """None where there is what was asked for."""
    limit: Limit | None = None
    """Which limit ended the compiler; `memory` is also the size of a file."""

    def with_text(self, again: Finished) -> Built:
        """The same with what a run in plain text adds: g++'s machine-readable form is lost at the error limit or where
        a flood of it was cut, and leaves out how a template came to be instantiated."""
        raw = again.stderr.decode(errors="replace")
        if not (said := parse_diagnostics(raw)):
            return self
        return replace(self, diagnostics=add_chains(self.diagnostics, raw) or said, text=raw[:TEXT_LIMIT])

    def refused(self, why: Diagnostic) -> Built:
        """The same, though the compiler took it: no program, for a reason of ours."""
        return replace(self, diagnostics=(why,), text=render_diagnostics((why,)), failure="compile_error")

    def linked(self, finished: Finished) -> Built:
        """What was compiled, after it was linked: the compiler's diagnostics stay, its time is added."""
        own = self.finished
        both = replace(
            finished, seconds=finished.seconds + own.seconds, cpu_seconds=finished.cpu_seconds + own.cpu_seconds
        )
        result = read_built(both)
        failure = "link_error" if result.failure == "compile_error" else result.failure
        return replace(result, diagnostics=self.diagnostics, failure=failure)


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What building and running a program showed."""

    tier: Tier
    built: Built
    verdict: Verdict | None = None
    """None where nothing was run."""
    run: Finished | None = None
    """The process in which the candidate's code ran."""
    seconds: float = 0.0
    """On the clock, of all runs."""
    marker: bytes = b""
    """What the harness printed, where it has a process of its own."""
    why: str = ""
    """The reasons why a program that compiled was not run."""
    why_in_process: str = ""
    """Why the tests had to share the candidate's process."""
    self_judged: int = 0
    """Expectations that the candidate's own code decides."""


def read_built(finished: Finished) -> Built:
    """What a run of the compiler, or of the linker, says."""
    raw = finished.stderr.decode(errors="replace")
    diagnostics = parse_diagnostics(raw)
    built = Built(finished=finished, diagnostics=diagnostics, text=_readable(raw, diagnostics))
    if finished.ended != "exit":
        return replace(built, failure="compile_limit", limit=ENDED_BY.get(finished.ended, "signal"))
    if finished.returncode == 0:
        return built
    if not finished.output_cut and compile_limit_reason(raw) is not None:
        return replace(built, failure="compile_limit", limit="memory")
    # Only where the compiler found no error is its output the linker's own, and no text of the candidate's.
    errors = any(diagnostic.severity.endswith("error") for diagnostic in diagnostics)
    return replace(built, failure="link_error" if not errors and is_link_failure(raw) else "compile_error")


def _readable(raw: str, diagnostics: tuple[Diagnostic, ...]) -> str:
    """What the compiler, the assembler and the linker said, with no machine-readable document in it."""
    rest = "".join(line for line in raw.splitlines(keepends=True) if not line.startswith(("[", '{"')))
    rendered = render_diagnostics(diagnostics) if rest != raw else ""
    return (rendered + rest)[:TEXT_LIMIT]
