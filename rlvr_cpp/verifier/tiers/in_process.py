"""Judge a harness that has to share the candidate's process, behind the seal (`sealed.py`).

`judge_apart` compiles the harness on its own and makes everything of the candidate's object local but what the harness
calls. `judge_as_one` is for harnesses that need the candidate's own types: both are one text, and the weakest way.
No file beside the candidate holds a test, and no macro of the candidate's is left where the test is compiled.
Either way the candidate's object code is looked at before it is run (`object_policy.py`).
"""

from __future__ import annotations

import os
import posixpath
import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache

from rlvr_cpp.verifier.cpp.diagnostics import Diagnostic, toolchain_trouble
from rlvr_cpp.verifier.cpp.lexemes import parse, walk
from rlvr_cpp.verifier.cpp.signature import Function, read_prompt, read_trusted_unit, read_unit, tokens
from rlvr_cpp.verifier.program import Program
from rlvr_cpp.verifier.status import Tier
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
    publish_commands,
    redirect_exits_command,
    sealed_verdict,
    with_decoys,
)
from rlvr_cpp.verifier.toolchain.bench import CANDIDATE_OBJECT, OWN_MAIN, Bench
from rlvr_cpp.verifier.toolchain.built import Built, Judged
from rlvr_cpp.verifier.verdict import Verdict
from rlvr_sandbox import Finished, SandboxError

HARNESS = "rlvr_harness.cpp"
HARNESS_OBJECT, LOCAL_OBJECT, SEAL_OBJECT = "rlvr_harness.o", "rlvr_local.o", "rlvr_seal.o"
OWN_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*"([^"\n]+)"[^\n]*$', re.MULTILINE)
"""A test's line that may name a file of the candidate's."""
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
DECIDED_BY_ANSWERS = (
    *("class_specifier", "struct_specifier", "union_specifier"),
    *("namespace_definition", "template_declaration"),
)
"""What may be declared in part: an answer has a say in how large it is, and where its functions are."""
UNSEEN = frozenset(("inline", "constexpr", "static"))
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


def judge_apart(bench: Bench) -> Judged | None:
    """Candidate and harness as two objects. None where the harness does not compile without the candidate."""
    harness = _harness_object(bench)
    if harness is None:
        return None
    built = bench.compile_object(_with_unseen_kept(bench.program))
    bench.write({HARNESS_OBJECT: harness})
    return _judge_sealed("sealed", bench, built, _against_apart, [HARNESS_OBJECT, LOCAL_OBJECT])


def judge_as_one(bench: Bench) -> Judged:
    """Candidate and harness in one translation unit, the harness behind what undoes the candidate's macros.

    A candidate of several sources, whose headers the harness may include, is as many objects, behind the seal.
    """
    if len(bench.program.sources) != 1:
        objects = [HARNESS_OBJECT, *_objects(bench.program)]
        return _judge_sealed("marker", bench, _compile_each(bench), _against_files, objects)
    built = bench.compile_object(_one_text(bench.program))
    return _judge_sealed("marker", bench, built, _against_one, [CANDIDATE_OBJECT])


def _judge_sealed(
    tier: Tier, bench: Bench, built: Built, against: Callable[[Bench], list[str]], objects: Sequence[str]
) -> Judged:
    """Refuse what there is reason to, link the rest behind the seal, and run it."""
    if built.failure is not None:
        return Judged(tier=tier, built=built)
    if reasons := against(bench):
        verdict = Verdict("policy", total=bench.program.tests_declared or 0)
        why = "".join(f"not run: {reason}\n" for reason in reasons)
        return Judged(tier=tier, built=built, verdict=verdict, why=why)
    built = _link_sealed(bench, built, objects)
    if built.failure is not None:
        return Judged(tier=tier, built=built)
    run, verdict = _run_sealed(bench)
    return Judged(tier=tier, built=built, verdict=verdict, run=run, seconds=run.seconds)


def _harness_object(bench: Bench) -> bytes | None:
    """The harness compiled on its own, once for all answers; None where that is not for this candidate."""
    harness, workshop = _standing_alone(bench.program), bench.workshop
    if harness is None or len(bench.program.sources) != 1 or workshop.toolchain.is_sanitized:
        return None
    compile_it = ["-w", *bench.trusted_flags, "-c", HARNESS, "-o", HARNESS_OBJECT]
    compiled = workshop.built_once(HARNESS_OBJECT, {HARNESS: harness}, compile_it)
    return None if compiled is None else compiled.read_bytes()


def _with_unseen_kept(program: Program) -> str | None:
    """The candidate with a use of each function that the harness calls and no linker sees; None where it has none.

    A compiler leaves out what is `inline` or `static` and nothing in its own text uses.
    """
    [name] = program.sources
    called = {function.name for function in read_trusted_unit(_standing_alone(program) or "").prototypes}
    uses = [
        f"__attribute__((used)) static {function.result} (*const rlvr_used_{number})"
        f"({', '.join(parameter.type for parameter in function.parameters)}) = &{function.name};\n"
        for number, function in enumerate(read_unit(program.files[name]).defined)
        if function.name in called and function.specifiers & UNSEEN
    ]
    return f'#include "{name}"\n{"".join(uses)}' if uses else None


def _one_text(program: Program) -> str:
    """The candidate and the harness."""
    [name], harness = program.sources, _doubled(program)
    undone = _undone(program, harness) + (SEALED_EXITS if calls_exit(harness) else "")
    return f'#define main {OWN_MAIN}\n#include "{name}"\n{undone}{_behind_own_headers(program, harness)}'


def _undone(program: Program, harness: str) -> str:
    """What ends every macro of the candidate's."""
    return between("\n".join(program.files.values()), harness, program.declaration or "")


def _behind_own_headers(program: Program, harness: str) -> str:
    """The harness, in which no macro outlives the header of the candidate's that brought it.

    Nor does a file of the candidate's stand in for one of the system's.
    """

    def included(line: re.Match[str]) -> str:
        name = line[1]
        if posixpath.normpath(name) not in program.files:
            return line[0]
        system = f"#if __has_include(<{name}>)\n#include <{name}>\n#else\n"
        return f'{system}#include "{name}"\n#endif\n{_undone(program, harness)}#line {_line(harness, line) + 1}\n'

    return f'#line 1 "{HARNESS}"\n{OWN_INCLUDE.sub(included, harness)}'


def _line(text: str, match: re.Match[str]) -> int:
    """The number of the line in which a match begins."""
    return text.count("\n", 0, match.start()) + 1


def _doubled(program: Program) -> str:
    """The harness with comparisons that a faked `==` fails."""
    return PRINTF.sub("__builtin_printf(", with_decoys(program.test or "") or program.test or "")


def _plain(program: Program) -> str:
    """The harness, whose report no overload of the candidate's can stand in for."""
    return PRINTF.sub("__builtin_printf(", program.test or "")


def _objects(program: Program) -> list[str]:
    """The name of the object of each source."""
    return [f"rlvr_{number}.o" for number, _ in enumerate(program.sources)]


def _compile_each(bench: Bench) -> Built:
    """An object of each source and of the harness, as far as they compile; the diagnostics of all of them."""
    program, diagnostics = bench.program, list[Diagnostic]()
    for source, target in zip(program.sources, _objects(program), strict=True):
        built = bench.compile("-c", "-o", target, source=source)
        diagnostics += built.diagnostics
        if built.failure is not None:
            return replace(built, diagnostics=tuple(diagnostics))
    built = bench.compile("-c", "-o", HARNESS_OBJECT, text=_behind_own_headers(program, _plain(program)))
    return replace(built, diagnostics=(*diagnostics, *built.diagnostics))


def _against_apart(bench: Bench) -> list[str]:
    """Why an object must not be linked with the harness's; else it is left to expose nothing but what that calls."""
    reasons = [*_words(bench.program), *_against_object(bench, CANDIDATE_OBJECT), *_borrowed(bench)]
    return reasons or _localise(bench)


def _against_one(bench: Bench) -> list[str]:
    """Why a text must not run as one with the harness's."""
    reasons = _against_macros(bench.program)
    names = f"{_doubled(bench.program)} {EXIT_NAMES}"
    return [*reasons, *_words(bench.program), *_against_object(bench, CANDIDATE_OBJECT, names)]


def _against_macros(program: Program) -> list[str]:
    """Macros that have bent a header before they can be undone."""
    bent = [macro for text in program.files.values() for macro in macros_before_headers(text)]
    return [f"it defines the macro {macro} before an #include" for macro in dict.fromkeys(bent)]


def _against_files(bench: Bench) -> list[str]:
    """Why several objects must not be linked with the harness's; else that one ends the process through the seal."""
    harness = _plain(bench.program)
    reasons = [*_against_macros(bench.program), *_words(bench.program)]
    for name in _objects(bench.program):
        reasons += _against_object(bench, name)
    reasons += _against_object(bench, HARNESS_OBJECT, harness)
    if not reasons and calls_exit(harness):
        return _run_tools(bench, [redirect_exits_command(HARNESS_OBJECT)])
    return reasons


def _standing_alone(program: Program) -> str | None:
    """The harness with what the task declares before it. None where no other object has that as it was declared.

    Members of a class that are not said, templates, and methods that are defined in their class are in no other object.
    """
    if program.declaration is None:
        return program.test
    prompt = read_prompt(program.declaration)
    if prompt is None or _declares_more_than_functions(prompt.context):
        return None
    opened = f"{_prototype(prompt.function)};\n" if prompt.function is not None else ""
    return f"{prompt.context}\n{opened}{program.test}"


@lru_cache(maxsize=512)
def _declares_more_than_functions(context: str) -> bool:
    """Whether a text has a class with a body, a template or a namespace."""
    nodes = [node for node in walk(parse(context.encode(errors="replace"))) if node.type in DECIDED_BY_ANSWERS]
    return any(node.child_by_field_name("body") or node.type == "template_declaration" for node in nodes)


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


def _against_object(bench: Bench, name: str, harness: str = "") -> list[str]:
    """Why an object must not share the harness's process."""
    content = bench.read(name)
    reasons = list(violations(content, harness))
    if not reasons and suspicious_opcodes(content):
        listing = _run_tool(bench, objdump_command(name))
        if listing.output_cut or confirms_syscall(listing.stdout.decode(errors="replace")):
            reasons.append("its code makes system calls of its own")
    return reasons


def _borrowed(bench: Bench) -> list[str]:
    """Variables of the harness that the candidate reaches for and the task did not give it."""
    try:
        names = borrowed_variables(bench.read(HARNESS_OBJECT), bench.read(CANDIDATE_OBJECT))
    except MalformedObject:
        return ["it is not a sound object file"]
    given = bench.program.declaration or ""
    return [f"it uses the harness's own variable {name}" for name in names if name not in given]


def _localise(bench: Bench) -> list[str]:
    """Leave nothing of the candidate's to be seen but what the harness calls; why that is impossible."""
    harness = bench.read(HARNESS_OBJECT)
    if reasons := _run_tools(bench, publish_commands(harness, bench.read(CANDIDATE_OBJECT), CANDIDATE_OBJECT)):
        return reasons
    kept = kept_symbols(harness, bench.read(CANDIDATE_OBJECT))
    commands = localise_commands(CANDIDATE_OBJECT, LOCAL_OBJECT, kept)
    if calls_exit(bench.program.test or ""):
        commands.append(redirect_exits_command(HARNESS_OBJECT))
    return _run_tools(bench, commands)


def _run_tools(bench: Bench, commands: Sequence[Sequence[str]]) -> list[str]:
    """Why the tools could not do their work on the candidate's object. Raises SandboxError where the machine failed."""
    for command in commands:
        done = _run_tool(bench, command)
        said = done.stderr.decode(errors="replace")
        if (trouble := toolchain_trouble(said)) is not None:
            raise SandboxError(trouble)
        if done.returncode != 0:
            return [f"{command[0]} cannot read its object: {said.strip()[:200]}"]
    return []


def _run_tool(bench: Bench, command: Sequence[str]) -> Finished:
    """Run a command that begins with a tool's bare name."""
    return bench.run_tool([bench.workshop.tool(command[0]), *command[1:]], TOOL_SECONDS)


def _link_sealed(bench: Bench, built: Built, objects: Sequence[str]) -> Built:
    """Link the objects behind the seal."""
    library = [flag for flag in bench.workshop.toolchain.extra_flags if flag.startswith("-stdlib")]
    bench.add_object(SEAL_OBJECT, SEAL.read_text(), [*SEAL_FLAGS, *library])
    return bench.link(built, SEAL_OBJECT, *objects, *LINK_FLAGS)


def _run_sealed(bench: Bench) -> tuple[Finished, Verdict]:
    """Run with a fresh nonce, and believe the marker only with the record."""
    nonce = secrets.token_bytes(NONCE_SIZE)
    nonce_out, nonce_in = os.pipe()
    record_out, record_in = os.pipe()
    try:
        os.write(nonce_in, nonce)
        os.close(nonce_in)
        run = bench.run(descriptors=((nonce_out, NONCE_DESCRIPTOR), (record_in, RECORD_DESCRIPTOR)))
        os.set_blocking(record_out, False)
        record = os.read(record_out, 2 * RECORD.size + 1)
    finally:
        os.close(record_out)
    return run, sealed_verdict(run, record, nonce, bench.program.tests_declared)
