"""Judge one program from the command line: `rlvr-verify file.cpp --tests tests.cpp`.

The files are one program, told apart by name; no file, or `-`, is standard input. Without tests a program has to end
with status 0, and one without a `main` to compile.

With `--jsonl FILE` each line is a JSON object: a program by itself, `code` and what else the options name (`test`,
`hidden_test`, `declaration`, `cases`, `checker`, `std`), or an answer, `completion` or `solution`, beside the columns
of its task. Options hold for lines that say nothing else. Each result is a line, in order, as soon as it is known, with
the line's `id` or `task_id`; a line that makes no sense has an `error`.

exit status   0 it passes, 1 it does not, 2 it could not be judged: a mistake in the call, or the machine's failure

A file is taken as it is. `--think` treats the input as a model's answer and takes a leading think block off first.
Bytes that are no UTF-8 are replaced, as they are in whatever a model writes. `--json` prints the fields of a
`VerifyResult`, with `--tidy` also `tidy`: clang-tidy's findings in a program that compiles, null where there are none
to be had. Findings change no exit status.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
import os
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TextIO

from rlvr_cpp.errors import Parser, UserError
from rlvr_cpp.verifier.cases import Case, OpenCase, read_cases
from rlvr_cpp.verifier.checkers import CHECKERS
from rlvr_cpp.verifier.lines import ReadRow, judge_lines, program_in
from rlvr_cpp.verifier.program import FILE_NAME, SOURCES, Program, refusal
from rlvr_cpp.verifier.report import describe_result, printable
from rlvr_cpp.verifier.result import BAD_TEST, VerifyResult
from rlvr_cpp.verifier.think import strip_think_blocks
from rlvr_cpp.verifier.toolchain.tidy import TidyNote, check_tidy, find_tidy, tidy_notes
from rlvr_cpp.verifier.toolchain.toolchain import make_toolchain
from rlvr_cpp.verifier.toolchain.workshop import Workshop
from rlvr_cpp.verifier.verifier import Verifier
from rlvr_sandbox import SandboxError, require_controls
from rlvr_sandbox.controls import LEVELS

PASSED, FAILED, NOT_JUDGED, INTERRUPTED = 0, 1, 2, 130
STDIN = "-"
"""What the compiler calls a program that is one text."""
MAX_BYTES = 16 << 20
COMPILE_SECONDS = 30.0


def main(argv: Sequence[str] | None = None, read_row: ReadRow = program_in) -> int:
    """Judge what the command line names, print the verdict and return the exit status.

    `read_row` finds the program in a line of JSON.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        arguments = _parser().parse_args(_joined(sys.argv[1:] if argv is None else argv))
        if arguments.jsonl is not None:
            return _judge_lines(arguments, read_row)
        program = _program(arguments)
        tidy = _find_tidy() if arguments.tidy else None
        result = _judge(program, arguments)
        findings = _findings(program, result, tidy, arguments) if tidy else None
        printed = _json(result, tidy, findings) if arguments.json else describe_result(result, program, tidy, findings)
        print(printed, flush=True)
    except (UserError, SandboxError) as error:
        print("error: " + printable(str(error).strip().partition("\n")[0]), file=sys.stderr)
        return NOT_JUDGED
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # nobody reads on; the exit must not try to flush once more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return NOT_JUDGED
    return NOT_JUDGED if result.status == "sandbox_error" else PASSED if result.status == "ok" else FAILED


def _parser() -> Parser:
    parser = Parser(prog="rlvr-verify", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("files", nargs="*", metavar="file", help="sources and headers of one program; `-` is standard input")
    add("--tests", metavar="FILE", help="C++ that prints `PASSED n/m`, or a main of assertions")
    add("--hidden-tests", metavar="FILE", help="more tests of the same kind")
    add("--declaration", metavar="FILE", help="C++ that declares what the tests call, where they do not")
    add("--cases", metavar="FILE", help="JSON: inputs and expected outputs, instead of --tests")
    add("--checker", choices=CHECKERS, help="how outputs are compared (tokens)")
    add("--checker-program", metavar="FILE", help="C++ that compares them instead, as testlib has it")
    add("--interactor", metavar="FILE", help="C++ that talks to the program and judges it, likewise")
    add("--testlib", metavar="FOLDER", help="where testlib.h is, for a program that includes it")
    add("--json", action="store_true", help="print the whole result as one line of JSON")
    add("--jsonl", metavar="FILE", help="programs or answers, one JSON object a line; `-` is standard input")
    add("--std", default=Program.std, help="language standard (%(default)s)")
    add("--compiler", default="g++", help="name or path (%(default)s)")
    add("--flag", action="append", default=[], metavar="FLAG", help="one more flag for the compiler, such as -O2")
    add("--sanitize", metavar="NAMES", help="such as address,undefined")
    add("--tidy", action="store_true", help="also ask clang-tidy, if it compiles")
    add("--timeout", type=float, default=10.0, metavar="S", help="CPU seconds of a run (%(default)s)")
    add("--require", choices=tuple(LEVELS), default="any", help="isolation that the host must give (%(default)s)")
    add("--think", action="store_true", help="take a leading think block off first")
    return parser


def _joined(argv: Sequence[str]) -> list[str]:
    """`--flag -O2` as `--flag=-O2`: argparse takes a value that begins with a dash for an option."""
    words = iter(argv)
    return [f"{word}={value}" if word == "--flag" and (value := next(words, "")) else word for word in words]


def _program(arguments: argparse.Namespace) -> Program:
    if arguments.cases and arguments.tests:
        raise UserError("there are both --tests and --cases: leave one of them out")
    kind = Case if arguments.checker_program is None and arguments.interactor is None else OpenCase
    if arguments.checker and not arguments.cases:
        raise UserError(f"--checker is {arguments.checker} but there are no cases to compare: add --cases")
    code = _read_code(arguments.files or [STDIN])
    if arguments.think:
        code = (
            strip_think_blocks(code) if isinstance(code, str) else {k: strip_think_blocks(v) for k, v in code.items()}
        )
    return Program(
        code,
        _read(arguments.tests) if arguments.tests else None,
        std=arguments.std,
        declaration=_read(arguments.declaration) if arguments.declaration else None,
        hidden_test=_read(arguments.hidden_tests) if arguments.hidden_tests else None,
        cases=read_cases(_read(arguments.cases), arguments.cases, kind) if arguments.cases else (),
        checker=arguments.checker or Program.checker,
        checker_program=_read(arguments.checker_program) if arguments.checker_program else None,
        interactor=_read(arguments.interactor) if arguments.interactor else None,
    )


def _read_code(paths: Sequence[str]) -> str | dict[str, str]:
    """One text, or texts by name: as they lie below the folder that all of them share, so that includes find them."""
    if paths == [STDIN]:
        return _read(STDIN)
    if STDIN in paths:
        raise UserError("standard input is one of several files: name files only, or give nothing but `-`")
    resolved = {path: Path(os.path.abspath(path)) for path in paths}
    shared = os.path.commonpath([path.parent for path in resolved.values()])
    texts = {path.relative_to(shared).as_posix(): _read(name) for name, path in resolved.items()}
    if len(texts) > 1:
        if (reason := refusal(Program(texts))) is not None:
            raise UserError(reason)
        return texts
    ((name, text),) = texts.items()
    is_name = FILE_NAME.fullmatch(name) and PurePosixPath(name).suffix in SOURCES and not name.startswith("rlvr_")
    return texts if is_name else text


def _read(path: str) -> str:
    try:
        if path == STDIN:
            content = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            with open(path, "rb") as file:
                content = file.read(MAX_BYTES + 1)
    except IsADirectoryError as error:
        raise UserError(f"{path!r} is a directory: name the files in it") from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"{path!r} cannot be read ({reason}): give a file that can") from error
    if len(content) > MAX_BYTES:
        raise UserError(f"{path!r} is longer than {MAX_BYTES >> 20} MiB: give less")
    return content.decode(errors="replace")


def _judge_lines(arguments: argparse.Namespace, read_row: ReadRow) -> int:
    """Judge lines of JSON; the exit status is that of the worst of them."""
    for option in ("files", "think", "tidy"):
        if getattr(arguments, option):
            raise UserError(f"--jsonl takes no {option}: each line says what is judged")
    usual = {
        "test": arguments.tests and _read(arguments.tests),
        "hidden_test": arguments.hidden_tests and _read(arguments.hidden_tests),
        "declaration": arguments.declaration and _read(arguments.declaration),
        "cases": arguments.cases and _read(arguments.cases),
        "checker": arguments.checker,
        "checker_program": arguments.checker_program and _read(arguments.checker_program),
        "interactor": arguments.interactor and _read(arguments.interactor),
        "std": arguments.std,
    }
    given = {name: value for name, value in usual.items() if value is not None}
    with _open_lines(arguments.jsonl) as lines, _verifier(arguments, workers=None) as verifier:
        verifier.check([arguments.std])
        statuses = judge_lines(lines, verifier, partial(print, flush=True), lambda row: read_row({**given, **row}))
    return NOT_JUDGED if statuses & {"error", "sandbox_error"} else PASSED if statuses <= {"ok"} else FAILED


def _open_lines(path: str) -> AbstractContextManager[TextIO]:
    try:
        return open(
            sys.stdin.fileno() if path == STDIN else path, encoding="utf-8", errors="replace", closefd=path != STDIN
        )
    except OSError as error:
        raise UserError(f"{path!r} cannot be read ({error.strerror}): give a file that can") from error


def _verifier(arguments: argparse.Namespace, workers: int | None) -> Verifier:
    return Verifier(
        compiler=arguments.compiler,
        timeout=arguments.timeout,
        compile_timeout=COMPILE_SECONDS,
        extra_flags=_flags(arguments),
        workers=workers,
        require=arguments.require,
        testlib=arguments.testlib,
    )


def _judge(program: Program, arguments: argparse.Namespace) -> VerifyResult:
    """The result. Raises UserError where it is the flags that do not compile, or the tests, and not the program."""
    with _verifier(arguments, workers=1) as verifier:
        result = verifier.verify(program)
        if result.status in ("compile_error", "link_error"):
            verifier.check([program.std])
        if result.error_class == BAD_TEST:
            field, _, why = result.stderr.partition(" ")
            path = arguments.tests if field == "test" else arguments.hidden_tests
            raise UserError(f"{path!r} {why}")
        return result


def _flags(arguments: argparse.Namespace) -> list[str]:
    sanitize = [] if arguments.sanitize is None else [f"-fsanitize={arguments.sanitize}"]
    return [*arguments.flag, *sanitize]


def _find_tidy() -> str:
    tidy = find_tidy()
    if tidy is None:
        raise UserError("--tidy needs clang-tidy, which was not found on PATH: install it (apt-get install clang-tidy)")
    return tidy


def _findings(
    program: Program, result: VerifyResult, tidy: str, arguments: argparse.Namespace
) -> tuple[TidyNote, ...] | None:
    """What clang-tidy says; None where it cannot. Raises UserError where the fault is its own."""
    if not result.compile_ok:
        return None
    toolchain = make_toolchain(arguments.compiler, _flags(arguments), arguments.timeout, COMPILE_SECONDS)
    workshop = Workshop(toolchain, require_controls(arguments.require))
    findings = tidy_notes(program, workshop, tidy)
    if findings is None:
        check_tidy(tidy, workshop)
    return findings


def _json(result: VerifyResult, tidy: str | None, findings: Sequence[TidyNote] | None) -> str:
    if tidy is None:
        return result.to_json()
    found = None if findings is None else [dataclasses.asdict(finding) for finding in findings]
    return json.dumps({**json.loads(result.to_json()), "tidy": found})


if __name__ == "__main__":
    sys.exit(main())
