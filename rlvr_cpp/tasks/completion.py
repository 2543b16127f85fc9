"""From what a model wrote to the text that is judged, with a map back.

Thoughts go first. A completion that continues the prompt is cut where it closes the prompt's last open brace: a base
model rarely stops by itself. Of an answer with code in blocks that one counts which defines what is asked for: the last
that does so completely. It takes from the others what it needs, from the prompt what it does not bring itself, and
loses a `main` of its own, for the tests have one. The rules and their reasons are in docs/completions.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from rlvr_cpp.tasks.blocks import INVISIBLE, Block, fenced_blocks, unfenced_blocks
from rlvr_cpp.tasks.joining import Part, join, parts_of, without_linkage, without_main
from rlvr_cpp.tasks.task import Task
from rlvr_cpp.verifier.cpp.outline import DEFINITIONS, Item, closing_brace, open_braces, open_items, outline
from rlvr_cpp.verifier.think import KNOWN_THOUGHTS, Thoughts, answer_span

MAX_LENGTH = 1 << 17
"""Characters of an answer in which definitions are looked for; a longer one continues the prompt."""
SPECIAL = re.compile(r"\s*(?:(?:<\|[\w-]+\|>|</s>)\s*)+\Z")
"""Special tokens that a decoder has left at the end of an answer."""
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
    asked = _Asked.of(task)
    blocks = _blocks(completion[:end], begin, asked, chat) if end - begin <= MAX_LENGTH else []
    if not blocks:
        return _continued(asked, completion, begin, end)
    chosen = max(blocks, key=lambda block: _merit(asked, block))
    if not asked.is_defined_in(chosen.items):
        return _continued(asked, completion, chosen.block.start, chosen.block.end, is_block=True)
    return _answered(asked, blocks, chosen)


@dataclass(frozen=True)
class _Asked:
    """What the prompt gives and leaves open."""

    task: Task
    opened: tuple[tuple[Item, int], ...]
    """What it leaves open, outermost first, with the offset of its text."""
    depth: int
    """How many braces it leaves open."""

    @classmethod
    def of(cls, task: Task) -> _Asked:
        return cls(task, tuple(open_items(task.prompt)), open_braces(task.prompt))

    @property
    def is_open(self) -> bool:
        """A brace will close what it asks for: one that it has opened, or that the head at its end still needs."""
        return self.depth > 0 or any(item.body is None for item, _ in self.opened)

    @property
    def has_main(self) -> bool:
        """The tests bring a `main`."""
        return bool(self.task.test or self.task.hidden_test) and self.task.entry_point != "main"

    @property
    def prompt(self) -> list[Part]:
        """Its text, for a completion that continues it."""
        parts = parts_of(self.task.prompt)
        is_function = len(self.opened) == 1 and self.opened[0][0].kind == "function"
        return (
            [one for part in parts for one in without_linkage(part, self.opened[0][0].name)] if is_function else parts
        )

    def definition(self, items: Iterable[Item]) -> Item | None:
        """The item that answers the task: the outermost of what is open that is defined, else the entry point.

        A namespace that is opened to all holds it as well, and a class of which the prompt gives another version.
        """
        items = list(items)
        defined = [item for item in items if item.kind in (*DEFINITIONS, "scope") and _may_answer(item)]
        wanted = [opened.name for opened, _ in self.opened] + [self.task.entry_point]
        for name in filter(None, wanted):
            for item in reversed(defined):
                if name in item.names or (name in _inner_names(item) and _is_used(item.name, items)):
                    return item
        given = {} if self.opened else {item.name: item for item in outline(self.task.prompt) if item.kind == "type"}
        twins = (item for item in reversed(defined) if item.kind == "type" and item.name in given)
        return next((item for item in twins if self.task.entry_point in given[item.name].spelling), None)

    def is_defined_in(self, items: Sequence[Item]) -> bool:
        """Before any brace that closes the prompt's: behind one, a base model has begun something else."""
        end = next((number for number, item in enumerate(items) if item.kind == "close"), len(items))
        return self.definition(items[:end]) is not None

    def can_be_called(self, answer: Item) -> bool:
        """It takes as many arguments as the function that the prompt opens, or is none."""
        asked = next((opened for opened, _ in self.opened if opened.name and opened.name == answer.name), answer)
        wanted, taken = asked.read.parameters, answer.read.parameters
        has_defaults = "=" in answer.spelling[: answer.body]
        return wanted is None or taken is None or len(wanted) == len(taken) or has_defaults

    def replaced_from(self, answer: Item, closed: int) -> tuple[int, str, str]:
        """Where the prompt ends that stands before the answer, and what closes it before and behind the answer.

        `closed` braces of the prompt are closed behind the answer already.
        """
        for number, (opened, offset) in enumerate(self.opened):
            if not opened.name or opened.name not in answer.names:
                continue
            around = [outer.kind for outer, _ in self.opened[:number]]
            behind = "".join("\n};" if kind == "type" else "\n}" for kind in [*reversed(around)][closed:])
            inner = [item for item, _ in self.opened[number + 1 :]][:1]
            if opened.kind == "scope" and opened.body is not None:  # what it holds already stays
                stop = offset + opened.tokens[opened.body].end + (inner[0].head if inner else len(self.task.prompt))
                return min(stop, len(self.task.prompt)), "\n}\n", behind
            return offset + opened.head, "", behind
        return (self.opened[0][1] + self.opened[0][0].head if self.opened else len(self.task.prompt)), "", ""


def _inner_names(scope: Item) -> frozenset[str]:
    return frozenset().union(*(item.names for item in scope.inner))


def _is_used(namespace: str, items: Iterable[Item]) -> bool:
    """`using` makes the names of a namespace, or one of them, global."""
    return any(item.spelling[0] == "using" and namespace in item.spelling for item in items)


def _may_answer(item: Item) -> bool:
    """A variable does where it can be called: a body often names its result as the function is named."""
    if item.kind != "variable":
        return True
    words = [token.text for token in item.tokens]
    return "function" in words or ("=", "[") in pairwise(words)


@dataclass(frozen=True)
class _Read:
    """A block and what stands in it."""

    block: Block
    number: int
    items: tuple[Item, ...]
    text: str


def _blocks(text: str, begin: int, asked: _Asked, chat: bool) -> list[_Read]:
    """The blocks of an answer that may hold it. None where it simply continues the prompt."""
    fenced = [block for block in fenced_blocks(text, begin) if text[block.start : block.end].strip()]
    found = [_read(text, block, number) for number, block in enumerate(fenced)]
    if not chat and (before := _before_fences(text, begin, fenced, asked)) is not None:
        return before
    if any(asked.is_defined_in(read.items) for read in found) or not chat:
        return found
    loose = [_read(text, block, number) for number, block in enumerate(unfenced_blocks(text, begin))]
    if any(asked.is_defined_in(read.items) for read in loose):
        return loose
    return found


def _before_fences(text: str, begin: int, fenced: Sequence[Block], asked: _Asked) -> list[_Read] | None:
    """What a base model has written before any fence: the definition anew, or, with no blocks, a body. Else None."""
    whole = _read(text, Block(begin, fenced[0].start if fenced else len(text), ""), 0)
    if asked.is_defined_in(whole.items):
        return _cut_behind(asked, whole, text)
    is_body = not fenced or (asked.is_open and closing_brace(whole.text, asked.depth) is not None)
    return [] if is_body or unfenced_blocks(whole.text) else None


def _read(text: str, block: Block, number: int) -> _Read:
    code = text[block.start : block.end]
    return _Read(block, number, tuple(outline(code)), code)


def _cut_behind(asked: _Asked, read: _Read, text: str) -> list[_Read]:
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


def _merit(asked: _Asked, read: _Read) -> tuple[object, ...]:
    """What makes one block the answer: it defines what is asked for, completely, in C++, and nothing later does.

    Among blocks that define nothing it is the longest body of what the prompt has opened.
    """
    if not asked.is_defined_in(read.items):
        closes = any(item.kind == "close" for item in read.items)
        return (False, read.block.rank > 0, closes, len(read.text), 0)
    answer = asked.definition(read.items)
    assert answer is not None
    return (True, read.block.rank > 0, answer.is_whole, asked.can_be_called(answer), read.number)


def _continued(asked: _Asked, completion: str, begin: int, end: int, is_block: bool = False) -> Candidate:
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


def _missing_braces(asked: _Asked, body: str) -> Iterator[Part]:
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


def _answered(asked: _Asked, blocks: Sequence[_Read], chosen: _Read) -> Candidate:
    """What the prompt gives, the chosen block, and what it needs of the others."""
    answer = asked.definition(chosen.items)
    assert answer is not None
    closed = sum(item.kind == "close" for item in chosen.items)
    stop, between, behind = asked.replaced_from(answer, closed)
    given, own = parts_of(asked.task.prompt[:stop]), _own_parts(asked, chosen)
    given += [Part(between)] if between else []
    prefaces = [part for read in blocks if _is_preface(asked, read, chosen) for part in _own_parts(asked, read)]
    earlier = [_own_parts(asked, read) for read in blocks if read.number < chosen.number and read.block.rank]
    later = [_own_parts(asked, read) for read in blocks if read.number > chosen.number and read.block.rank]
    joined = join(given, own, prefaces, [*reversed(later), *earlier], asked.task.entry_point)
    is_free = stop == (asked.opened[0][0].head if asked.opened else len(asked.task.prompt))
    linked = [one for part in joined for one in (without_linkage(part, answer.name) if is_free else [part])]
    return _candidate([*linked, *([Part(behind)] if behind else [])])


def _is_preface(asked: _Asked, read: _Read, chosen: _Read) -> bool:
    """A block whose includes hold for the chosen one: an earlier draft, or includes alone wherever they stand."""
    is_draft = read.number < chosen.number and asked.is_defined_in(read.items)
    return read.block.rank > 0 and (is_draft or all(item.kind == "directive" or item.includes for item in read.items))


def _own_parts(asked: _Asked, read: _Read) -> list[Part]:
    parts = parts_of(read.text, read.block.start, read.number)
    return without_main(parts) if asked.has_main else parts


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
