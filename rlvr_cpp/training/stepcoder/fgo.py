"""Fine-grained optimisation: which tokens of a completion its verdict says something about.

StepCoder (arXiv 2402.01391) leaves tokens out of the loss that had no part in the outcome. Two masks, 1 for a token
that stays. After a compile error: everything up to the end of the first line with an error, for whatever comes behind
it, that program does not compile. After a run: everything but the lines that were never executed.

Both only ever remove what is known to be beside the point; where the place of an error is not known, all stays. The
kept tokens share one advantage, so what stands before the error is discouraged together with it. A mask must enter
the sequence's ratio and length: applied to a loss that is one number a sequence, it changes nothing.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

from rlvr_cpp.tasks.completion import Candidate
from rlvr_cpp.verifier.cpp.diagnostics import Diagnostic
from rlvr_cpp.verifier.program import CANDIDATE_FILE
from rlvr_cpp.verifier.result import VerifyResult

Decode = Callable[[Sequence[int]], str]
"""Token ids to text, the way the completion was decoded: of a special token that it leaves out, nothing."""

ERRORS = ("error", "fatal error")
PLACE = re.compile(r"(?P<file>[^\s:][^:\n]*):(?P<line>[0-9]+):")


def error_mask(
    result: VerifyResult, candidate: Candidate, ids: Sequence[int], decode: Decode, prefix_length: int = 0
) -> list[int]:
    """1 for the tokens up to the end of the line of the first compile error, its line break included, 0 behind it.

    `ids` are what the model wrote, with its thoughts, its fence and what follows the candidate. `candidate` was read
    from their text behind `prefix_length` characters that were given. All 1 where the program compiled or no error
    has a place in the model's own lines.
    """
    line = None
    if result.status == "compile_error":
        line = first_error_line(result.diagnostics, own_lines(candidate, prefix_length))
    if line is None:
        return [1] * len(ids)
    end = candidate.written_before(_line_end(candidate.code, line))
    kept = tokens_until(ids, max(0, end - prefix_length), decode)
    return [1] * kept + [0] * (len(ids) - kept)


def coverage_mask(
    unexecuted: Collection[int], candidate: Candidate, ids: Sequence[int], decode: Decode, prefix_length: int = 0
) -> list[int]:
    """0 for the tokens whose text lies on lines of the candidate's code in `unexecuted` (1-based), 1 for all others.

    A token that reaches into another line stays, and so does what is no code: thoughts, fences, the end of sequence.
    A mask that would leave nothing leaves everything.
    """
    mask = [1] * len(ids)
    own = own_lines(candidate, prefix_length)
    for first, last in _runs(line for line in unexecuted if line in own):
        lines = _line_end(candidate.code, first - 1) + 1, _line_end(candidate.code, last) + 1
        for begin, end in candidate.stretches(*lines):
            inside = _tokens_within(ids, max(0, begin - prefix_length), max(0, end - prefix_length), decode)
            mask[inside.start : inside.stop] = [0] * len(inside)
    return mask if any(mask) else [1] * len(ids)


def first_error_line(
    diagnostics: Sequence[Diagnostic], lines: Collection[int], file: str = CANDIDATE_FILE
) -> int | None:
    """The line of the first error that has a place in `lines` of `file`; None where none has.

    An error elsewhere, in a header say, has one where its template came to be instantiated from there, the innermost
    such place. One in the tests or in given code has none.
    """
    for diagnostic in diagnostics:
        if diagnostic.severity in ERRORS:
            for place in _places(diagnostic):
                if place[0] == file and place[1] in lines:
                    return place[1]
    return None


def own_lines(candidate: Candidate, prefix_length: int = 0) -> range:
    """The lines of the candidate's code that the model wrote, down to its end; 1-based, shared lines included."""
    first = candidate.code.count("\n", 0, _own_start(candidate, prefix_length)) + 1
    return range(first, candidate.code.count("\n") + 2)


def tokens_until(ids: Sequence[int], offset: int, decode: Decode) -> int:
    """How many tokens begin at or before character `offset` of their decoded text."""
    return bisect_right(range(len(ids)), offset, key=lambda count: len(decode(ids[:count])))


def _tokens_within(ids: Sequence[int], begin: int, end: int, decode: Decode) -> range:
    """The tokens that lie wholly in `begin` to `end`; one without text at the end does not."""

    def boundary(count: int) -> int:
        return len(decode(ids[:count]))

    first = bisect_left(range(len(ids) + 1), begin, key=boundary)
    stop = bisect_left(range(len(ids) + 1), end, key=boundary)
    if stop > len(ids) or boundary(stop) > end:
        stop -= 1
    return range(first, max(first, stop))


def _places(diagnostic: Diagnostic) -> Iterator[tuple[str, int]]:
    """File and line of a diagnostic, then those of the instantiations that led to it, innermost first."""
    yield diagnostic.file, diagnostic.line
    for frame in diagnostic.chain:
        if match := PLACE.match(frame):
            yield match["file"], int(match["line"])


def _own_start(candidate: Candidate, prefix_length: int) -> int:
    """Where in the candidate's code the text begins that was not given."""
    own = (piece for piece in candidate.pieces if piece.origin + piece.length > prefix_length)
    return next((piece.start + max(0, prefix_length - piece.origin) for piece in own), len(candidate.code))


def _line_end(code: str, line: int) -> int:
    """The offset of the line break that ends a line, the text's end where none does; -1 for line 0."""
    offset = -1
    for _ in range(line):
        offset = code.find("\n", offset + 1)
        if offset < 0:
            return len(code)
    return offset


def _runs(lines: Iterable[int]) -> list[tuple[int, int]]:
    """First and last of each run of consecutive numbers."""
    numbers = set(lines)
    firsts = sorted(number for number in numbers if number - 1 not in numbers)
    lasts = sorted(number for number in numbers if number + 1 not in numbers)
    return list(zip(firsts, lasts, strict=True))
