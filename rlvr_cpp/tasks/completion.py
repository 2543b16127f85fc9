"""From what a model wrote to the text that is judged, with a map back.

Thoughts go first. A completion that continues the prompt is cut where it closes the prompt's last open brace: a base
model rarely stops by itself. Of an answer with code in blocks that one counts which defines what is asked for: the last
that does so completely. It takes from the others what it needs, from the prompt what it does not bring itself, and
loses a `main` of its own, for the tests have one. The rules and their reasons are in docs/completions.md.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from rlvr_cpp.tasks.reading.asked import Asked
from rlvr_cpp.tasks.reading.blocks import INVISIBLE, Block, fenced_blocks, loose_body, unfenced_blocks
from rlvr_cpp.tasks.reading.joining import (
    Part,
    join,
    overloads,
    parts_of,
    without_linkage,
    without_main,
    without_operators,
)
from rlvr_cpp.tasks.reading.left_out import without_wrapping
from rlvr_cpp.tasks.task import Task
from rlvr_cpp.verifier.cpp.braces import closing_brace, open_braces
from rlvr_cpp.verifier.cpp.lexemes import Joined
from rlvr_cpp.verifier.cpp.outline import Item, outline
from rlvr_cpp.verifier.think import KNOWN_THOUGHTS, Thoughts, answer_span

MAX_LENGTH = 1 << 17
"""Characters of an answer in which definitions are looked for; a longer one continues the prompt."""
SPECIAL = re.compile(
    r"\s*(?:(?:<\|[\w▁-]+\|>|<｜[\w▁]+｜>|</s>|<eos>|<EOT>|<end_of_turn>|<endoftext>|<fim_\w+>)\s*)+\Z"
)
"""Special tokens that a decoder has left at the end of an answer, as those of ChatML, DeepSeek, Llama and Gemma."""
MAX_SPECIAL = 200
FENCE = re.compile(r"(?m)^[ \t]*(?:```|~~~)")
"""What ends a body whose last brace is missing."""


@dataclass(frozen=True)
class Piece:
    """A stretch of the model's own text in the code that is judged."""

    start: int
    """Where it begins in the code."""
    origin: int
    """Where it begins in the completion."""
    length: int


@dataclass(frozen=True)
class Candidate:
    """The code to be judged and where the model's own text stands in it."""

    code: str
    pieces: tuple[Piece, ...] = ()
    """In the order of the code; what is in none of them was given by the task."""

    def written_before(self, place: int) -> int:
        """How far into the completion what stands in the code before `place` reaches; where it begins for none."""
        ends = [piece.origin + min(place - piece.start, piece.length) for piece in self.pieces if piece.start <= place]
        return max(ends, default=self.pieces[0].origin if self.pieces else 0)

    def stretches(self, begin: int, end: int) -> Iterator[tuple[int, int]]:
        """Where in the completion the model's text was written that stands in the code from `begin` to `end`."""
        for piece in self.pieces:
            first, last = max(begin, piece.start), min(end, piece.start + piece.length)
            if first < last:
                yield piece.origin + first - piece.start, piece.origin + last - piece.start


def read_completion(task: Task, completion: str, chat: bool = False, thoughts: Thoughts = KNOWN_THOUGHTS) -> Candidate:
    """The candidate in a completion. An unclosed think block or an answer without code is an empty candidate."""
    begin, end = answer_span(completion, thoughts)
    if begin == len(completion) > 0:
        return Candidate("")
    while begin < end and completion[begin] in INVISIBLE:
        begin += 1
    if special := SPECIAL.search(completion, max(begin, end - MAX_SPECIAL), end):
        end = special.start()
    shown = without_wrapping(completion[begin:end])
    return _as_written(_read_answer(Asked.of(task), shown.text, chat), shown, begin)


def _read_answer(asked: Asked, text: str, chat: bool) -> Candidate:
    """The candidate in an answer without thoughts."""
    is_searched = len(text) <= MAX_LENGTH
    blocks = _blocks(text, asked, chat) if is_searched else []
    if not blocks:
        begin, end = loose_body(text) if chat and is_searched and asked.is_open else (0, len(text))
        return _continued(asked, text, begin, end)
    chosen = max(blocks, key=lambda block: _merit(asked, block))
    if not asked.is_defined_in(chosen.items):
        return _continued(asked, text, chosen.block.start, chosen.block.end, is_block=True)
    return _answered(asked, blocks, chosen)


def _as_written(candidate: Candidate, shown: Joined, begin: int) -> Candidate:
    """The candidate with its pieces where they stand in the completion, of which `shown` is what begins at `begin`."""
    pieces = []
    for piece in candidate.pieces:
        end = piece.origin + piece.length
        inside = shown.starts[bisect_right(shown.starts, piece.origin) : bisect_left(shown.starts, end)]
        for first, last in pairwise([piece.origin, *inside, end]):
            start = piece.start + first - piece.origin
            pieces.append(Piece(start, begin + shown.written(first), last - first))
    return replace(candidate, pieces=tuple(pieces))


@dataclass(frozen=True)
class _Read:
    """A block and what stands in it."""

    block: Block
    number: int
    items: tuple[Item, ...]
    text: str


def _blocks(text: str, asked: Asked, chat: bool) -> list[_Read]:
    """The blocks of an answer that may hold it. None where it simply continues the prompt."""
    fenced = [block for block in fenced_blocks(text) if text[block.start : block.end].strip()]
    found = [_read(text, block, number) for number, block in enumerate(fenced)]
    if not chat:
        before = _before_fences(text, fenced, asked)
        return found if before is None else before
    if any(asked.is_defined_in(read.items) for read in found):
        return _with_prose(text, found, asked)
    loose = [_read(text, block, number) for number, block in enumerate(unfenced_blocks(text))]
    if any(asked.is_defined_in(read.items) for read in loose):
        return loose
    return found if any(read.block.rank and unfenced_blocks(read.text) for read in found) else []


def _with_prose(text: str, fenced: Sequence[_Read], asked: Asked) -> list[_Read]:
    """The blocks in fences and, among the prose around them, corrections and definitions that they may need."""
    found: list[_Read] = []
    position = 0
    for read in [*fenced, None]:
        end = read.block.start if read else len(text)
        loose = [_read(text, block, 0) for block in unfenced_blocks(text, position, end)]
        found += [one for one in loose if asked.is_defined_in(one.items) or _is_told(one)]
        if read is not None:
            found.append(read)
            position = max(position, read.block.end)
    return [replace(read, number=number) for number, read in enumerate(found)]


def _is_told(read: _Read) -> bool:
    """Nothing but functions, types and includes, which are no examples of a use."""
    return all(item.kind in ("function", "type", "directive") and item.is_closed for item in read.items)


def _before_fences(text: str, fenced: Sequence[Block], asked: Asked) -> list[_Read] | None:
    """What a base model has written before any fence: the definition anew, or, with no blocks, a body. Else None."""
    whole = _read(text, Block(0, fenced[0].start if fenced else len(text), ""), 0)
    if asked.is_defined_in(whole.items):
        return _cut_behind(asked, whole, text)
    is_body = not fenced or (asked.is_open and closing_brace(whole.text, asked.depth) is not None)
    return [] if is_body or unfenced_blocks(whole.text) else None


def _read(text: str, block: Block, number: int) -> _Read:
    code = text[block.start : block.end]
    return _Read(block, number, tuple(outline(code)), code)


def _cut_behind(asked: Asked, read: _Read, text: str) -> list[_Read]:
    """The text down to the answer, and what a base model went on to write, of which the answer may need something.

    Where it writes another answer it has begun something else.
    """
    answers = [item for item in read.items if asked.definition([item]) is item and asked.can_be_called(item)]
    answer = next((item for item in answers if item.is_whole), asked.definition(read.items))
    assert answer is not None
    if not answer.is_closed:
        return [read]
    end = next((item.start for item in answers if item.start >= answer.end), len(read.text))
    overloads = (item.end for item in read.items if item.start < end and item.names & answer.names)
    begin, middle = read.block.start, read.block.start + max([answer.end, *overloads])
    return [_read(text, Block(begin, middle, ""), 0), _read(text, Block(middle, begin + end, ""), 1)]


def _merit(asked: Asked, read: _Read) -> tuple[object, ...]:
    """What makes one block the answer: it defines what is asked for, completely, in C++, and nothing later does. What
    stands between ticks in a sentence is what the sentence speaks of, where there is a block besides.

    Among blocks that define nothing it is the longest body of what the prompt has opened.
    """
    if not asked.is_defined_in(read.items):
        closes = any(item.kind == "close" for item in read.items)
        return (False, read.block.rank > 0, closes, len(read.text))
    answer = asked.definition(read.items)
    assert answer is not None
    is_block = not read.block.is_inline
    return (True, read.block.rank > 0, answer.is_whole, is_block, asked.can_be_called(answer), read.number)


def _continued(asked: Asked, completion: str, begin: int, end: int, is_block: bool = False) -> Candidate:
    """The prompt and its continuation, down to the brace that closes it. In a block all is kept but a `main` behind."""
    text = completion[begin:end]
    cut = closing_brace(text, asked.depth) if asked.is_open else None
    prompt = asked.prompt
    if is_block and len(text) <= MAX_LENGTH:
        own = without_main(parts_of(text, begin)) if asked.has_main else [Part(text, begin)]
        return _candidate([*prompt, *own, *_missing_braces(asked, text)])
    if cut is not None:
        return _candidate([*prompt, Part(text[:cut], begin)])
    kept = text if is_block or (fence := FENCE.search(text)) is None else text[: fence.start()]
    return _candidate([*prompt, Part(kept, begin), *_missing_braces(asked, kept)])


def _missing_braces(asked: Asked, body: str) -> Iterator[Part]:
    """The last braces of what the prompt opened, where a stop string took them: the body has closed all its own."""
    missing = open_braces(asked.task.prompt + body)
    around = [opened.kind for opened, _ in asked.opened] + ["statement"] * asked.depth
    if not 0 < missing <= asked.depth or not _ends_a_body(body, around[asked.depth - 1]):
        return
    closers = ["};" if kind == "type" else "}" for kind in reversed(around[:missing])]
    yield Part("\n" * (not body.endswith("\n")) + "\n".join(closers))


def _ends_a_body(body: str, around: str) -> bool:
    """The last thing in a text may be the last in a body: a statement, or in a class a member."""
    items = outline(body) if len(body) <= MAX_LENGTH and body.rstrip().endswith((";", "}")) else []
    return bool(items) and (items[-1].kind not in ("type", "scope", "function") or around in ("type", "scope"))


def _answered(asked: Asked, blocks: Sequence[_Read], chosen: _Read) -> Candidate:
    """What the prompt gives, the chosen block, and what it needs of the others."""
    answer = asked.definition(chosen.items)
    assert answer is not None
    closed = sum(item.kind == "close" for item in chosen.items)
    stop, between, behind = asked.replaced_from(answer, closed)
    given, own = parts_of(asked.task.prompt[:stop]), _own_parts(asked, chosen)
    given += [Part(between)] if between else []
    prefaces = [part for read in blocks if _is_preface(asked, read, chosen) for part in _own_parts(asked, read)]
    earlier = [_spare_parts(asked, read) for read in blocks if read.number < chosen.number and read.block.rank]
    later = [_spare_parts(asked, read) for read in blocks if read.number > chosen.number and read.block.rank]
    others = [*reversed(later), *earlier]
    joined = join(given, [*overloads(answer, others), *own], prefaces, others, asked.task.entry_point)
    is_free = stop == (asked.opened[0][0].head if asked.opened else len(asked.task.prompt))
    linked = [one for part in joined for one in (without_linkage(part, answer.name) if is_free else [part])]
    return _candidate([*linked, *([Part(behind)] if behind else [])])


def _is_preface(asked: Asked, read: _Read, chosen: _Read) -> bool:
    """A block whose includes hold for the chosen one: an earlier draft, or a header that defines nothing, anywhere."""
    is_draft = read.number < chosen.number and asked.is_defined_in(read.items)
    is_header = all(item.kind in ("directive", "prototype") or item.includes for item in read.items)
    return read.block.rank > 0 and (is_draft or is_header)


def _own_parts(asked: Asked, read: _Read) -> list[Part]:
    parts = parts_of(read.text, read.block.start, read.number)
    return without_main(parts) if asked.has_main else parts


def _spare_parts(asked: Asked, read: _Read) -> list[Part]:
    """Of another block. A draft's operators may be those of types that the answer has changed."""
    parts = _own_parts(asked, read)
    return without_operators(parts) if asked.is_defined_in(read.items) else parts


def _candidate(parts: Sequence[Part]) -> Candidate:
    """The text of the parts and the map of those that the model wrote; neighbours are one piece."""
    pieces: list[Piece] = []
    length = 0
    for part in parts:
        if part.origin is not None and part.text:
            last = pieces[-1] if pieces else None
            if last and (last.start + last.length, last.origin + last.length) == (length, part.origin):
                pieces[-1] = Piece(last.start, last.origin, last.length + len(part.text))
            else:
                pieces.append(Piece(length, part.origin, len(part.text)))
        length += len(part.text)
    return Candidate("".join([*(part.text for part in parts), "\n"]), tuple(pieces))
