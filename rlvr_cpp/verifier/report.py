"""A result in words, for people at a terminal."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence

from rlvr_cpp.verifier.cpp.diagnostics import Diagnostic
from rlvr_cpp.verifier.program import Program
from rlvr_cpp.verifier.result import VerifyResult
from rlvr_cpp.verifier.toolchain.tidy import TidyNote
from rlvr_sandbox.controls import WHAT_IT_STOPS

SHOWN = 5  # errors, warnings, lines of a program's stderr
TAB = 8  # g++ counts columns with these tab stops, and they are what is shown
RED, GREEN, YELLOW, BOLD = 31, 32, 33, 1

WORDS = {
    "wrong": "it fails tests",
    "compile_error": "it does not compile",
    "link_error": "it does not link",
    "memory_limit": "it used up its memory",
    "output_limit": "it printed too much",
    "forged": "its verdict contradicts the exit status, the number of tests or itself, and does not count",
    "ambiguous": "it printed more than one verdict, and none counts",
    "policy": "its object code could tamper with the verdict, so it was not run",
    "sandbox_error": "what judges it failed, not the program",
}
TIMES = {"cpu": "its CPU time", "wall": "its time on the clock"}


def describe_result(
    result: VerifyResult, program: Program, tidy: str | None = None, findings: Sequence[TidyNote] | None = None
) -> str:
    """What happened, for people."""
    errors = [found for found in result.diagnostics if found.severity.endswith("error")]
    warnings = [found for found in result.diagnostics if found.severity == "warning" and found.file in program.files]
    lines = [_verdict(result)]
    if result.status != "ok":
        lines += [line for found in errors[:SHOWN] for line in _shown(found, program.files, result.toolchain)]
        lines += _more(len(errors), "errors")
        if not errors and result.status not in ("wrong", "sandbox_error"):
            lines += [printable(line) for line in result.stderr.splitlines() if line.strip(" =")][:SHOWN]
    lines += [_headline(found) for found in warnings[:SHOWN]] + _more(len(warnings), "warnings")
    if result.suppressions:
        lines.append(
            f"{result.suppressions} attempts to silence warnings were undone, {result.warnings} warnings counted"
        )
    if tidy is not None and result.compile_ok:
        lines += _tidied(findings)
    return "\n".join([*lines, _isolation(result)])


def _verdict(result: VerifyResult) -> str:
    """`fail: it fails tests (wrong, tests 3/4, tier oracle, compile 0.05 s, run 0.01 s)`."""
    word, colour = ("pass", GREEN) if result.status == "ok" else ("fail", RED)
    if result.status == "sandbox_error":
        word, colour = "not judged", YELLOW
    facts: list[str] = [result.status]
    if result.tests_total:
        hidden = f", of which hidden {result.hidden_passed}/{result.hidden_total}" if result.hidden_total else ""
        facts.append(f"tests {result.tests_passed}/{result.tests_total}{hidden}, tier {result.tier}")
    facts += [f"{name} {result.timings[name]:.2f} s" for name in ("compile", "run") if name in result.timings]
    return f"{_paint(f'{word}:', colour)} {_ending(result)} ({', '.join(facts)})"


def _ending(result: VerifyResult) -> str:
    """How it went, and what ended it."""
    if result.status == "ok":
        return "it passes all tests" if result.tests_total else "it ran to its end" if result.run_ok else "it compiles"
    if result.status == "compile_limit":
        return f"the compiler used up {TIMES.get(result.limit or '', f'its {result.limit}')}"
    if result.status == "timeout":
        return f"it used up {TIMES.get(result.limit or '', 'its time')}"
    if result.status == "run_error":
        return _exit(result.returncode)
    if result.status == "sandbox_error":
        return f"{WORDS[result.status]}: {printable(result.stderr.strip().partition(chr(10))[0])}"
    return WORDS[result.status]


def _exit(returncode: int | None) -> str:
    if returncode is None or returncode >= 0:
        return f"it ended with status {returncode}" + (" and no verdict" if returncode == 0 else "")
    try:
        return f"it was ended by {signal.Signals(-returncode).name} ({signal.strsignal(-returncode)})"
    except ValueError:
        return f"it was ended by signal {-returncode}"


def _shown(found: Diagnostic, files: Mapping[str, str], toolchain: str) -> Iterator[str]:
    """A diagnostic with its source line and a caret, where the line is the candidate's."""
    yield _headline(found)
    lines = files.get(found.file, "").split("\n")
    if not 0 < found.line <= len(lines):
        return
    raw = lines[found.line - 1].rstrip("\r")
    line, caret = raw.expandtabs(TAB), (found.column or 1) - 1
    if "clang" in toolchain:  # counts bytes where g++ counts what is seen
        caret = len(raw.encode(errors="replace")[:caret].decode(errors="ignore").expandtabs(TAB))
    width = max(40, shutil.get_terminal_size((120, 24)).columns - 10)
    start = max(0, caret - width + 20)
    gutter = f"{found.line:>5} | "
    yield gutter + printable(line[start : start + width])
    if found.column is not None:
        yield " " * (len(gutter) - 2) + "| " + " " * (caret - start) + _paint("^", GREEN)


def _headline(found: Diagnostic) -> str:
    column = f"{found.column}:" if found.column else ""
    place = f"{found.file}:{found.line}:{column} " if found.file else ""
    flag = f" [{found.flag}]" if found.flag else ""
    colour = YELLOW if found.severity == "warning" else RED
    message = printable(found.message.partition("\n")[0])
    return f"{_paint(printable(place), BOLD)}{_paint(f'{found.severity}:', colour)} {message}{flag}"


def _tidied(findings: Sequence[TidyNote] | None) -> list[str]:
    if findings is None:
        return ["clang-tidy could not read it"]
    found = [
        f"{_paint(f'{finding.file}:{finding.line}:', BOLD)} {printable(finding.message)} [{finding.check}]"
        for finding in findings[:SHOWN]
    ]
    count = f"{len(findings) or 'no'} finding{'s' * (len(findings) != 1)}"
    return [f"clang-tidy: {count}", *found, *_more(len(findings), "findings")]


def _more(count: int, what: str) -> list[str]:
    return [f"... and {count - SHOWN} more {what}"] if count > SHOWN else []


def _isolation(result: VerifyResult) -> str:
    missing = [name for name in WHAT_IT_STOPS if name not in result.isolation]
    if not result.isolation:
        return "isolation: nothing was run"
    count = f"isolation: {len(result.isolation)} of {len(WHAT_IT_STOPS)} controls"
    return f"{count}, without {', '.join(missing)} (see python -m rlvr_sandbox doctor)" if missing else count


def _paint(text: str, colour: int) -> str:
    is_plain = not text or os.environ.get("NO_COLOR") or not sys.stdout.isatty()
    return text if is_plain else f"\033[{colour}m{text}\033[0m"


def printable(text: str) -> str:
    """What a candidate wrote must not steer the terminal that it is shown on."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
