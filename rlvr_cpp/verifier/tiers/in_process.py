"""Judge a harness that has to share the candidate's process, behind the seal (`sealed.py`).

`judge_apart` compiles the harness on its own and makes everything of the candidate's object local but what the harness
calls. `judge_as_one` is for harnesses that need the candidate's own types: both are one text, and the weakest way.
Either way the candidate's object code is looked at before it is run (`object_policy.py`).
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rlvr_cpp.verifier.cpp.diagnostics import Diagnostic, toolchain_trouble
from rlvr_cpp.verifier.cpp.signature import Function, read_prompt, tokens
from rlvr_cpp.verifier.program import Program
from rlvr_cpp.verifier.tiers.object_policy import (
    MalformedObject,
    confirms_syscall,
    objdump_command,
    suspicious_opcodes,
    violations,
)
from rlvr_cpp.verifier.tiers.sealed import (
    LINK_FLAGS,
    NONCE_DESCRIPTOR,
    NONCE_SIZE,
    RECORD,
    RECORD_DESCRIPTOR,
    SEAL,
    SEAL_FLAGS,
    between,
    borrowed_variables,
    calls_exit,
    kept_symbols,
    localise_commands,
    macros_before_headers,
    redirect_exits_command,
    sealed_verdict,
    with_decoys,
)
from rlvr_cpp.verifier.toolchain.build import (
    CANDIDATE_OBJECT,
    Built,
    Outcome,
    compile_candidate,
    link_candidate,
    sources,
)
from rlvr_cpp.verifier.toolchain.workshop import Workshop
from rlvr_cpp.verifier.verdict import Verdict
from rlvr_sandbox import Finished, SandboxError

HARNESS, MAIN = "rlvr_harness.cpp", "rlvr_main.cpp"
HARNESS_OBJECT, LOCAL_OBJECT, SEAL_OBJECT = "rlvr_harness.o", "rlvr_local.o", "rlvr_seal.o"
TOOL_SECONDS = 20.0
PRINTF = re.compile(r"(?:\bstd\s*::\s*)?\bprintf\s*\(")
"""The harness's report is made by a builtin, which no overload of the candidate's can stand in for."""
FORBIDDEN = frozenset(
    (
        *("asm", "__asm", "__asm__", "__builtin_return_address", "__builtin_frame_address", "__builtin_eh_return"),
        *("__builtin_unwind_init", "__builtin_apply", "__builtin_apply_args", "__builtin_return"),
        *("__builtin_longjmp", "__builtin_setjmp"),
    )
)
"""Words by which code reads or rewrites the harness's frame. No honest answer to a function or class task says them."""
EXIT_NAMES = "rlvr_exit rlvr__exit rlvr__Exit rlvr_quick_exit"
SEALED_EXITS = """
#include <cstdlib>
#include <unistd.h>
extern "C" {
[[noreturn]] void rlvr_exit(int);
[[noreturn]] void rlvr__exit(int);
[[noreturn]] void rlvr__Exit(int);
[[noreturn]] void rlvr_quick_exit(int);
}
namespace std {
using ::rlvr__Exit;
using ::rlvr_exit;
using ::rlvr_quick_exit;
}
#define exit rlvr_exit
#define _exit rlvr__exit
#define _Exit rlvr__Exit
#define quick_exit rlvr_quick_exit
"""
"""A harness that ends the process itself does so through the seal."""


def judge_apart(program: Program, workshop: Workshop) -> Outcome | None:
    """Candidate and harness as two objects. None where the harness does not compile without the candidate."""
    harness = _standing_alone(program)
    if harness is None or len(sources(program)) != 1 or workshop.toolchain.is_sanitized:
        return None
    flags = ("-w", *workshop.trusted_flags(program.std))
    compiled = workshop.built_once(HARNESS_OBJECT, {HARNESS: harness}, [*flags, "-c", HARNESS, "-o", HARNESS_OBJECT])
    if compiled is None:
        return None
    with workshop.scratch({**program.files, HARNESS_OBJECT: compiled.read_bytes()}) as folder:
        built = compile_candidate(program, workshop, folder, ["-c", "-o", CANDIDATE_OBJECT])
        if built.failure is not None:
            return Outcome("sealed", built)
        reasons = [*_words(program), *_reasons(workshop, folder, CANDIDATE_OBJECT), *_borrowed(program, folder)]
        reasons = reasons or _localise(program, workshop, folder)
        if reasons:
            return _refused("sealed", program, built, reasons)
        return _link_and_run("sealed", program, workshop, folder, built, [HARNESS_OBJECT, LOCAL_OBJECT])


def judge_as_one(program: Program, workshop: Workshop) -> Outcome:
    """Candidate and harness in one translation unit, the harness behind what undoes the candidate's macros."""
    if len(sources(program)) != 1:
        return _judge_files(program, workshop)
    [name] = sources(program)
    harness = PRINTF.sub("__builtin_printf(", with_decoys(program.test or "") or program.test or "")
    code = "\n".join(program.files.values())
    before = between(code, harness, program.declaration or "") + (SEALED_EXITS if calls_exit(harness) else "")
    main = f'#include "{name}"\n{before}#include "{HARNESS}"\n'
    with workshop.scratch({**program.files, HARNESS: harness, MAIN: main}) as folder:
        built = compile_candidate(program, workshop, folder, ["-c", "-o", CANDIDATE_OBJECT], main=MAIN)
        if built.failure is not None:
            return Outcome("marker", built)
        reasons = [f"it defines the macro {macro} before an #include" for macro in macros_before_headers(code)]
        reasons += [*_words(program), *_reasons(workshop, folder, CANDIDATE_OBJECT, f"{harness} {EXIT_NAMES}")]
        if reasons:
            return _refused("marker", program, built, reasons)
        return _link_and_run("marker", program, workshop, folder, built, [CANDIDATE_OBJECT])


def _judge_files(program: Program, workshop: Workshop) -> Outcome:
    """A candidate of several sources, whose headers the harness may include: each is an object, behind the seal."""
    harness = PRINTF.sub("__builtin_printf(", program.test or "")
    objects = [f"rlvr_{number}.o" for number, _ in enumerate(sources(program))]
    diagnostics: list[Diagnostic] = []
    with workshop.scratch({**program.files, HARNESS: harness}) as folder:
        for source, target in zip([*sources(program), HARNESS], [*objects, HARNESS_OBJECT], strict=True):
            built = compile_candidate(program, workshop, folder, ["-I.", "-c", "-o", target], main=source)
            diagnostics += built.diagnostics
            if built.failure is not None:
                return Outcome("marker", replace(built, diagnostics=tuple(diagnostics)))
        built = replace(built, diagnostics=tuple(diagnostics))
        reasons = _words(program)
        for target in objects:
            reasons += _reasons(workshop, folder, target)
        reasons += _reasons(workshop, folder, HARNESS_OBJECT, harness)
        if not reasons and calls_exit(harness):
            reasons = _run_tools(workshop, folder, [redirect_exits_command(HARNESS_OBJECT)])
        if reasons:
            return _refused("marker", program, built, reasons)
        return _link_and_run("marker", program, workshop, folder, built, [HARNESS_OBJECT, *objects])


def _standing_alone(program: Program) -> str | None:
    """The harness with what the task declares before it."""
    if program.declaration is None:
        return program.test
    prompt = read_prompt(program.declaration)
    if prompt is None:
        return None
    opened = f"{_prototype(prompt.function)};\n" if prompt.function is not None else ""
    return f"{prompt.context}\n{opened}{program.test}"


def _prototype(function: Function) -> str:
    parameters = ", ".join(p.type + (f" = {p.default}" if p.default else "") for p in function.parameters)
    return f"{function.result} {function.name}({parameters})"


def _words(program: Program) -> list[str]:
    """What in the text would reach around everything that is checked in the object."""
    found = {word for text in program.files.values() for word in tokens(text)}
    reasons = [f"it says {word}" for word in sorted(found & FORBIDDEN)]
    reasons += [f"it says {word}, a name of the verifier's own" for word in sorted(found) if word.startswith("rlvr_")]
    if any("##" in text or "%:%:" in text for text in program.files.values()):
        reasons.append("it pastes tokens (##), which can spell any of these")
    return reasons


def _reasons(workshop: Workshop, folder: Path, name: str, harness: str = "") -> list[str]:
    """Why an object must not share the harness's process. A sanitizer's own machinery would look like an attack."""
    if workshop.toolchain.is_sanitized:
        return []
    content = (folder / name).read_bytes()
    reasons = list(violations(content, harness))
    if not reasons and suspicious_opcodes(content):
        listing = workshop.run_tool(folder, _tool(workshop, objdump_command(name)), TOOL_SECONDS)
        if listing.output_cut or confirms_syscall(listing.stdout.decode(errors="replace")):
            reasons.append("its code makes system calls of its own")
    return reasons


def _borrowed(program: Program, folder: Path) -> list[str]:
    """Variables of the harness that the candidate reaches for and the task did not give it."""
    objects = [(folder / name).read_bytes() for name in (HARNESS_OBJECT, CANDIDATE_OBJECT)]
    try:
        names = borrowed_variables(*objects)
    except MalformedObject:
        return ["it is not a sound object file"]
    given = program.declaration or ""
    return [f"it uses the harness's own variable {name}" for name in names if name not in given]


def _localise(program: Program, workshop: Workshop, folder: Path) -> list[str]:
    """Leave nothing of the candidate's to be seen but what the harness calls; why that is impossible."""
    kept = kept_symbols(*((folder / name).read_bytes() for name in (HARNESS_OBJECT, CANDIDATE_OBJECT)))
    commands = localise_commands(CANDIDATE_OBJECT, LOCAL_OBJECT, kept)
    if calls_exit(program.test or ""):
        commands.append(redirect_exits_command(HARNESS_OBJECT))
    return _run_tools(workshop, folder, commands)


def _run_tools(workshop: Workshop, folder: Path, commands: Sequence[Sequence[str]]) -> list[str]:
    """Why the tools could not do their work on the candidate's object. Raises SandboxError where the machine failed."""
    for command in commands:
        done = workshop.run_tool(folder, _tool(workshop, command), TOOL_SECONDS)
        said = done.stderr.decode(errors="replace")
        if (trouble := toolchain_trouble(said)) is not None:
            raise SandboxError(trouble)
        if done.returncode != 0:
            return [f"{command[0]} cannot read its object: {said.strip()[:200]}"]
    return []


def _tool(workshop: Workshop, command: Sequence[str]) -> list[str]:
    """The command with the tool's path."""
    return [workshop.tool(command[0]), *command[1:]]


def _refused(tier: str, program: Program, built: Built, reasons: Sequence[str]) -> Outcome:
    verdict = Verdict("policy", total=program.tests_declared or 0)
    return Outcome(tier, built, verdict, why="".join(f"not run: {reason}\n" for reason in reasons))


def _link_and_run(
    tier: str, program: Program, workshop: Workshop, folder: Path, built: Built, objects: Sequence[str]
) -> Outcome:
    """Link behind the seal, run with a fresh nonce, and believe the marker only with the record."""
    library = [flag for flag in workshop.toolchain.extra_flags if flag.startswith("-stdlib")]
    workshop.add_object(folder, SEAL_OBJECT, SEAL.read_text(), [*SEAL_FLAGS, *library])
    built = link_candidate(workshop, folder, built, [SEAL_OBJECT, *objects, *LINK_FLAGS])
    if built.failure is not None:
        return Outcome(tier, built)
    nonce = secrets.token_bytes(NONCE_SIZE)
    run, record = _run_sealed(workshop, folder, nonce)
    verdict = sealed_verdict(run, record, nonce, program.tests_declared)
    return Outcome(tier, built, verdict, run, run.seconds)


def _run_sealed(workshop: Workshop, folder: Path, nonce: bytes) -> tuple[Finished, bytes]:
    nonce_out, nonce_in = os.pipe()
    record_out, record_in = os.pipe()
    try:
        os.write(nonce_in, nonce)
        os.close(nonce_in)
        descriptors = ((nonce_out, NONCE_DESCRIPTOR), (record_in, RECORD_DESCRIPTOR))
        run = workshop.run(workshop.program(folder, descriptors=descriptors))
        os.set_blocking(record_out, False)
        return run, os.read(record_out, 2 * RECORD.size + 1)
    finally:
        os.close(record_out)
