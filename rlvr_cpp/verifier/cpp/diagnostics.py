"""Compiler output as data: what kind of failure it was, and each warning and error with its place.

Which form is asked for was decided by experiment (g++ 12.2, clang++ 14.0 and 19.1):

* g++ writes JSON on request. It keeps file, line, column, severity, option, message and notes, and a candidate cannot
  forge an element of it: in text `#pragma message("x\\nmain.cpp:1:1: error: y")` and `static_assert` put whole lines
  of the candidate's choice between the real ones. JSON loses the "required from here" lines altogether; they are
  found in the text of a second run and laid on with `add_chains`. From 16 on SARIF stands in JSON's place.
* clang++'s SARIF keeps the instantiation notes and loses the option: `ruleId` is a bare internal number. Its text
  keeps both, and its last line counts the warnings and errors, which shows a forged line up. So clang stays text.

A forged line of text can add a warning, which only its author pays for; it can never take one away.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain as joined
from itertools import pairwise
from typing import Any
from urllib.parse import unquote

SEVERITIES = ("fatal error", "internal compiler error", "sorry, unimplemented", "error", "warning", "note")
DIAGNOSTIC = re.compile(
    r"(?P<file>[^\s:][^:\n]*):(?P<line>[0-9]{1,9}):(?:(?P<column>[0-9]{1,9}):)? "
    rf"(?P<severity>{'|'.join(SEVERITIES)}): (?P<message>.*?)(?: \[(?P<flag>-W[^\]\s]{{1,99}})\])?"
)
MAX_CHAIN = 50
"""Entries of an instantiation chain that are kept, the innermost ones."""
MARKS = r"\s*[~^][~^ ]*"
ECHO = re.compile(rf"\s*[0-9]* \|.*|{MARKS}")
"""A source line as the compilers repeat it, or the marks below it."""
GCC_CONTEXT = re.compile(
    r"(?P<place>[^\s:][^:\n]*:[0-9]+:(?:[0-9]+:)?)\s+"
    r"(?P<reason>(?:recursively )?required (?:from|by|for) .*|in .constexpr. expansion of .*|\[ ?skipping .*)|"
    r"(?P<start>[^\s:][^:\n]*: In (?:instantiation|substitution) of .*):|"
    r"[^\s:][^:\n]*: (?:In .*|At global scope):"
)
"""The lines that g++ writes above a diagnostic: where an instantiation starts, how it came about, a plain function."""
CHAIN_NOTE = re.compile(
    r"in instantiation of |in evaluation of |while (?:substituting|checking|calculating|building) |"
    r"during template argument deduction |in call to |\(skipping [0-9]+ contexts|required from "
)
"""The notes by which clang says how a template came to be instantiated."""
CLANG_COUNT = re.compile(r"(?:[0-9]{1,9} warnings?)?(?: and )?(?:(?P<errors>[0-9]{1,9}) errors?)? generated\.")
VERSION = re.compile(r"\s([0-9]{1,4})\.[0-9]+")
DRIVER_REMARK = re.compile(
    r"(?!.*:[0-9]+:)(?:(?:\S*/)?(?=[\w-]*(?:g\+\+|gcc|clang|cc1plus))[\w.+-]+: (?:warning|error|fatal error): .*|"
    r"compilation terminated.*|\s*)"
)
"""Lines that may stand around machine-readable documents. A line with a place is never the driver's own."""
DOCUMENT = re.compile(r'\[(?:\{|\])|\{\s*"')
GAP = re.compile(r"[\s,]*")
SARIF_RESULTS = re.compile(r'"results"\s*:\s*(?=\[)')

LINK_FAILURE = re.compile(
    r"undefined reference to|undefined symbol|multiple definition of|duplicate symbol|ld returned \d|"
    r"linker command failed"
)
UNDEFINED = re.compile(r"undefined (?:reference to|symbol:)")
UNDEFINED_MAIN = re.compile(r"undefined (?:reference to|symbol:) [`']?main\b")

TROUBLE = re.compile(
    r"(?!virtual memory exhausted).*(?:No space left on device|Disk quota exceeded|Disk full\?|Too many open files|"
    r"Resource temporarily unavailable|Read-only file system|Input/output error|Cannot allocate memory)[’'\"]?|"
    r"\S+: (?:fatal error: |error: )?(?:cannot exec|unable to make temporary file|Cannot create temporary file).*|"
    r"\S+: error while loading shared libraries: .*"
)
LIMIT = re.compile(
    r"\S+: (?:fatal|internal compiler) error: .*(?: signal terminated program | \(program ).*|"
    r"collect2: fatal error: \S+ terminated with signal .*|"
    r"(?:\S+: )?virtual memory exhausted.*|\S+: out of memory allocating .*|"
    r"terminate called after throwing an instance of .std::bad_alloc.|"
    r"(?:\{standard input\}|\S+|fatal error): .*(?:File too large|[Mm]emory exhausted|Bus error)'?|"
    r"\S+: error: (?:unable to execute command: .*|.* command failed (?:due to signal|with exit code 1[0-9][0-9]).*)|"
    r"PLEASE submit a bug report.*|LLVM ERROR: out of memory.*"
)
NAMES_A_SYMBOL = re.compile(r"`|symbol|reference to|definition of|in function|: warning: ")
"""A linker's line that may quote a name, which in assembler can be any text."""
ASSEMBLER_LINE = re.compile(r".*:[0-9]+: (?:Error|Warning|Info|Note|Fatal error): ")
"""The assembler on a line of its input; the words behind may be the candidate's, line breaks included."""
ASSEMBLER_HEADING = re.compile(r"(?:\{standard input\}|\S+): Assembler messages:")
LINKER_LINE = re.compile(r"(?:\S*/)?(?:ld|ld\.\w+|mold|lld|collect2): ")

ERROR_CLASSES = tuple(
    (name, re.compile("|".join(phrases)))
    for name, phrases in (
        ("syntax", ("expected ", "stray ", "missing terminating", "unterminated", "extraneous ")),
        ("undeclared", ("was not declared", "undeclared", "not a member of", "no member named", "has no member")),
        ("undeclared", ("unknown type", "does not name a type")),
        ("type", ("cannot convert", "invalid conversion", "no match", "no viable", "incompatible", "invalid operands")),
        ("redefinition", ("redefinition", "redeclar", "conflicting declaration", "previously defined")),
        ("include", ("No such file or directory", "file not found")),
    )
)


@dataclass(frozen=True)
class Diagnostic:
    """One warning, error or note."""

    file: str
    """As the compiler names it, without a leading `./`; empty where it names no place."""
    line: int
    """1-based; 0 where the compiler names no place."""
    column: int | None
    severity: str
    """One of `SEVERITIES`."""
    message: str
    flag: str | None
    """The warning's option, `-Wunused-variable` and the like."""
    chain: tuple[str, ...] = ()
    """How the template came to be instantiated, innermost first: `candidate.cpp:7:10: required from 'int f() ...'`.
    Empty outside of templates and for notes."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "chain", tuple(self.chain))  # JSON has lists only


def diagnostic_flags(compiler_version_line: str) -> tuple[str, ...]:
    """The flags for machine-readable diagnostics on stderr, from the first line of `<compiler> --version`.

    Empty where there is no such form or it would lose what is needed (every clang, g++ before 9).
    """
    if "clang" in compiler_version_line or not (version := VERSION.search(f" {compiler_version_line}")):
        return ()
    major = int(version[1])
    if major >= 16:
        return ("-fdiagnostics-format=sarif-stderr",)
    return ("-fdiagnostics-format=json",) if major >= 9 else ()


def parse_diagnostics(stderr: str) -> tuple[Diagnostic, ...]:
    """Every diagnostic of a g++ or clang++ run, in order, from JSON, SARIF or text; what is cut off is left out.

    Where the output begins with a machine-readable document only such documents are read: what follows them may be
    words of the candidate by way of the assembler or the linker.
    """
    documents, _ = _documents(stderr)
    return _with_chains(joined.from_iterable(documents) if documents else _read_text(stderr))


def add_chains(diagnostics: tuple[Diagnostic, ...], text: str) -> tuple[Diagnostic, ...]:
    """The diagnostics of a JSON run with the instantiation chains that the same compiler wrote as text.

    The text adds nothing but chains, and only to a diagnostic with the same place and message.
    """
    chains: defaultdict[tuple[str, int, str], list[tuple[str, ...]]] = defaultdict(list)
    for found in reversed(parse_diagnostics(text)):
        chains[found.file, found.line, _first_line(found.message)].append(found.chain)
    result = []
    for diagnostic in diagnostics:
        candidates = chains[diagnostic.file, diagnostic.line, _first_line(diagnostic.message)]
        result.append(replace(diagnostic, chain=diagnostic.chain or (candidates.pop() if candidates else ())))
    return tuple(result)


def render_diagnostics(diagnostics: Iterable[Diagnostic]) -> str:
    """A text for people, one `file:line:column: severity: message [flag]` each below its instantiation chain."""
    lines: list[str] = []
    for diagnostic in diagnostics:
        lines += diagnostic.chain
        flag = f" [{diagnostic.flag}]" if diagnostic.flag else ""
        lines.append(f"{_place(diagnostic)}{diagnostic.severity}: {diagnostic.message}{flag}")
    return "".join(f"{line}\n" for line in lines)


def error_class(diagnostics: tuple[Diagnostic, ...]) -> str:
    """A word for the first error: `syntax`, `undeclared`, `type`, `redefinition`, `include` or `other`."""
    for diagnostic in diagnostics:
        if diagnostic.severity.endswith("error"):
            matching = (name for name, pattern in ERROR_CLASSES if pattern.search(diagnostic.message))
            return next(matching, "other")
    return "other"


def count_warnings(diagnostics: tuple[Diagnostic, ...], file: str) -> int:
    """Warnings in one file, each line and option once."""
    found = {(d.line, d.flag or d.message) for d in diagnostics if d.severity == "warning" and d.file == file}
    return len(found)


def is_link_failure(stderr: str) -> bool:
    """The compiler was content and the linker was not."""
    return LINK_FAILURE.search(stderr) is not None


def lacks_only_main(stderr: str) -> bool:
    """The one thing missing is a `main`: the program compiles, there is nothing to run."""
    return len(UNDEFINED.findall(stderr)) == 1 and UNDEFINED_MAIN.search(stderr) is not None


def toolchain_trouble(stderr: str) -> str | None:
    """The line in which the driver, the compiler or a tool says that the machine failed it; None where none does.

    `stderr` must be whole: of a cut text it is not known where the candidate's words end.
    """
    line = _last_word(stderr)
    return line if TROUBLE.fullmatch(line) and not NAMES_A_SYMBOL.search(line) else None


def compile_limit_reason(stderr: str) -> str | None:
    """The line in which a tool says that a limit of memory, time, size or stack stopped it; None where none does.

    A clang that a signal ends says nothing: a negative exit status of the compiler means the same. `stderr` must be
    whole, as for `toolchain_trouble`, which goes first: a full disk is no limit of the program's.
    """
    line = _last_word(stderr)
    hit = LIMIT.fullmatch(line) and not TROUBLE.fullmatch(line) and not NAMES_A_SYMBOL.search(line)
    return line if hit else None


def _last_word(stderr: str) -> str:
    """The first line behind all that a candidate may have worded: of a tool that gave up, if any; else empty.

    A message may hold line breaks, but the front ends close it with the echo of the source line, and clang with its
    count. The assembler and the linker close nothing, so what follows a first word of theirs is not believed: what a
    linker quotes from a candidate may look like the lines that stand before a tool's last word.
    """
    documents, rest = _documents(stderr)
    lines = _lines(rest if documents else stderr)
    behind = max((i + 1 for i, line in enumerate(lines) if _is_front_end(line)), default=0)
    if any(map(ASSEMBLER_LINE.match, lines)) or any(map(LINKER_LINE.match, lines[:behind])):
        return ""
    last = next((i for i in range(behind, len(lines)) if not _is_preamble(lines[i])), len(lines))
    return "" if last == len(lines) or any(map(LINKER_LINE.match, lines[behind:last])) else lines[last]


def _is_front_end(line: str) -> bool:
    return bool(DIAGNOSTIC.fullmatch(line) or ECHO.fullmatch(line) or CLANG_COUNT.fullmatch(line))


def _is_preamble(line: str) -> bool:
    """A blank or indented line, the assembler's heading, a remark on the flags, the context of what never came."""
    return bool(
        not line.strip()
        or line[0].isspace()
        or ASSEMBLER_HEADING.fullmatch(line)
        or (DRIVER_REMARK.fullmatch(line) and ": warning: " in line)
        or GCC_CONTEXT.fullmatch(line)
        or line.startswith("In file included from ")
    )


def _lines(text: str) -> list[str]:
    """Lines as the compilers break them; `str.splitlines` would also break where a candidate put U+2028."""
    return [line.removesuffix("\r") for line in text.split("\n")]


def _documents(stderr: str) -> tuple[list[list[Diagnostic]], str]:
    """What the machine-readable documents at the head of `stderr` say, each by itself, and what follows them."""
    documents: list[list[Diagnostic]] = []
    position = behind = 0
    while position < len(stderr):
        if DOCUMENT.match(stderr, position):
            read = _sarif_document if stderr[position] == "{" else _json_document
            diagnostics, position = read(stderr, position)
            documents.append(diagnostics)
            behind = position
            continue
        end = stderr.find("\n", position) % (len(stderr) + 1)
        if not DRIVER_REMARK.fullmatch(stderr, position, end):
            break
        position = end + 1
    return documents, stderr[behind:]


def _elements(text: str, start: int) -> tuple[list[Any], int]:
    """The complete elements of the JSON array that begins at `start`, and where it ends (the text's end if cut)."""
    decoder = json.JSONDecoder()
    elements: list[Any] = []
    position = start + 1
    while gap := GAP.match(text, position):
        if text.startswith("]", gap.end()):
            return elements, gap.end() + 1
        try:
            element, position = decoder.raw_decode(text, gap.end())
        except (ValueError, RecursionError):
            break
        elements.append(element)
    return elements, len(text)


def _json_document(text: str, start: int) -> tuple[list[Diagnostic], int]:
    """g++'s array at `start`, each element with its children behind it, and where the array ends."""
    elements, end = _elements(text, start)
    found: list[Diagnostic] = []
    waiting = elements[::-1]
    while waiting:
        element = waiting.pop()
        if isinstance(message := _get(element, "message"), str):
            caret = _get(element, "locations", 0, "caret")
            file, line, column = (_get(caret, key) for key in ("file", "line", "column"))
            found.append(_decoded(file, line, column, _get(element, "kind"), message, _get(element, "option")))
        children = _get(element, "children")
        waiting += children[::-1] if isinstance(children, list) else []
    return found, end


def _sarif_document(text: str, start: int) -> tuple[list[Diagnostic], int]:
    """The results of the document at `start`, each with its related places as notes, and where the document ends."""
    try:
        _, end = json.JSONDecoder().raw_decode(text, start)
    except (ValueError, RecursionError):
        end = len(text)  # cut off
    heading = SARIF_RESULTS.search(text, start, end)
    found: list[Diagnostic] = []
    for result in _elements(text, heading.end())[0] if heading else []:
        rule = _get(result, "ruleId")
        severity = rule if rule in SEVERITIES else _get(result, "level")
        found += _sarif_place(result, _get(result, "locations", -1), severity, rule)  # clang: ranges, then the caret
        related = _get(result, "relatedLocations")
        for place in related if isinstance(related, list) else []:
            found += _sarif_place(place, place, "note", None)
    return found, end


def _sarif_place(holder: Any, place: Any, severity: Any, rule: Any) -> Iterator[Diagnostic]:
    if isinstance(message := _get(holder, "message", "text"), str):
        physical = _get(place, "physicalLocation")
        uri = _get(physical, "artifactLocation", "uri")
        file = unquote(uri).removeprefix("file://") if isinstance(uri, str) else None
        line, column = (_get(physical, "region", key) for key in ("startLine", "startColumn"))
        yield _decoded(file, line, column, severity, message, rule)


def _decoded(file: Any, line: Any, column: Any, severity: Any, message: str, flag: Any) -> Diagnostic:
    """A diagnostic of values that may be anything."""
    return Diagnostic(
        file=_whole(file).removeprefix("./") if isinstance(file, str) else "",
        line=line if type(line) is int and line > 0 else 0,
        column=column if type(column) is int and column > 0 else None,
        severity=severity if severity in SEVERITIES else "note",
        message=_whole(message),
        flag=_whole(flag) if isinstance(flag, str) and flag.startswith("-W") else None,
    )


def _get(value: Any, *path: str | int) -> Any:
    """What stands at a path of keys and indices; None where the path breaks off."""
    for key in path:
        try:
            value = value[key]
        except (KeyError, IndexError, TypeError):
            return None
    return value


def _whole(decoded: str) -> str:
    """JSON can spell half of a surrogate pair, which no file takes."""
    return decoded.encode(errors="replace").decode()


def _read_text(stderr: str) -> list[Diagnostic]:
    """The diagnostics of a plain text, without the errors that clang's own count shows to be forged."""
    lines = _lines(stderr)
    diagnostics, doubtful = _text_diagnostics(lines)
    counts = [count["errors"] for line in lines if (count := CLANG_COUNT.fullmatch(line))]
    surplus = sum(d.severity.endswith("error") for d in diagnostics) - int(counts[-1] or 0) if counts else 0
    if surplus <= 0 or surplus != len(doubtful):
        return diagnostics
    return [diagnostic for i, diagnostic in enumerate(diagnostics) if i not in doubtful]


def _text_diagnostics(lines: list[str]) -> tuple[list[Diagnostic], set[int]]:
    """One diagnostic a line that has a place, and the indices of the errors that may be none: those between an error
    or a warning and its echo may be part of its message, one right above the marks of an old clang is the echo."""
    found: list[Diagnostic] = []
    doubtful: set[int] = set()
    chain: tuple[str, ...] = ()
    above, in_message = False, False
    for line, below in pairwise([*lines, ""]):
        if match := DIAGNOSTIC.fullmatch(line):
            if (in_message or re.fullmatch(MARKS, below)) and match["severity"].endswith("error"):
                doubtful.add(len(found))
            found.append(_matched(match, chain))
            chain = chain if chain and ": In " in chain[0] else ()
            above, in_message = False, in_message or match["severity"] != "note"
        elif context := GCC_CONTEXT.fullmatch(line):
            chain = _longer_chain(context, chain if above else ())
            above = True
        elif ECHO.fullmatch(line):
            in_message = False
    return found, doubtful


def _longer_chain(context: re.Match[str], chain: tuple[str, ...]) -> tuple[str, ...]:
    """g++ names the chain once, above the first diagnostic of an instantiation; a plain function ends it."""
    if context["reason"]:
        if len(chain) >= MAX_CHAIN:
            return chain
        return (*chain, f"{context['place'].removeprefix('./')} {context['reason']}")
    return (context["start"].removeprefix("./"),) if context["start"] else ()


def _matched(match: re.Match[str], chain: tuple[str, ...]) -> Diagnostic:
    line, column = int(match["line"]), int(match["column"] or 0)
    found = _decoded(match["file"], line, column, match["severity"], match["message"], match["flag"])
    return found if found.severity == "note" else replace(found, chain=chain)


def _with_chains(diagnostics: Iterable[Diagnostic]) -> tuple[Diagnostic, ...]:
    """clang writes the chain as the first notes below an error; they stay, and the error gets them as its chain."""
    result: list[Diagnostic] = []
    frames: dict[int, list[str]] = {}
    owner: int | None = None
    for diagnostic in diagnostics:
        if diagnostic.severity != "note":
            owner = len(result)
        elif owner is not None and CHAIN_NOTE.match(diagnostic.message):
            frames.setdefault(owner, []).append(f"{_place(diagnostic)}{_first_line(diagnostic.message)}")
        else:
            owner = None
        result.append(diagnostic)
    for owner, below in frames.items():
        result[owner] = replace(result[owner], chain=(*result[owner].chain, *below)[:MAX_CHAIN])
    return tuple(result)


def _place(diagnostic: Diagnostic) -> str:
    """`file:line:column: ` as far as they are known."""
    if not diagnostic.file:
        return ""
    column = f"{diagnostic.column}:" if diagnostic.column else ""
    return f"{diagnostic.file}:{diagnostic.line}:{column} "


def _first_line(message: str) -> str:
    return message.partition("\n")[0]
