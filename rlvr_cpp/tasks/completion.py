"""From what a model wrote to the text that is judged, with a map back.

Think blocks go first. A completion that continues the prompt is cut where it closes the prompt's last open brace: a
base model rarely stops by itself. A chat answer is its longest fenced block; one that defines the entry point itself
replaces the prompt's declaration and keeps the lines before it, includes and given functions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from rlvr_cpp.tasks.task import Task
from rlvr_cpp.verifier.cpp.lexemes import OUTLINE, Lexeme, lexemes
from rlvr_cpp.verifier.think import think_block_end

FENCE = re.compile(r"```[^\n]*(?:\n(.*?)(?:```|\Z)|\Z)", re.DOTALL)


@dataclass(frozen=True)
class Candidate:
    """The code to be judged and where the model's own text stands in it."""

    code: str
    start: int
    """Where in `code` the model's text begins."""
    completion_start: int
    """Where in the completion that text begins."""
    length: int
    """How many characters of the completion stand in `code`; the rest was thoughts, prose or overrun."""


def read_completion(task: Task, completion: str, chat: bool = False) -> Candidate:
    """The candidate in a completion. An unclosed think block or an answer without code is an empty candidate."""
    begin = think_block_end(completion)
    if begin == len(completion) > 0:
        return Candidate("", 0, begin, 0)
    return _fenced(task, completion, begin) if chat else _continued(task, completion, begin)


def _continued(task: Task, completion: str, begin: int) -> Candidate:
    end = _closing_brace(task.prompt, completion[begin:])
    kept = completion[begin : begin + end]
    return Candidate(task.prompt + kept + "\n", len(task.prompt), begin, end)


def _fenced(task: Task, completion: str, begin: int) -> Candidate:
    blocks = [match.span(1) for match in FENCE.finditer(completion, begin) if match[1] is not None]
    if not blocks:
        return _continued(task, completion, begin)
    start, stop = max(blocks, key=lambda span: span[1] - span[0])
    block = completion[start:stop]
    opening = definition_start(task.prompt, task.entry_point)
    is_whole = definition_start(block, task.entry_point) is not None
    prefix = task.prompt[:opening] if is_whole and opening is not None else task.prompt
    return Candidate(prefix + block + "\n", len(prefix), start, len(block))


def definition_start(code: str, name: str) -> int | None:
    """Where the line begins that opens the function or type `name` outside of all braces; None where none does.

    A line before it with the head of a template belongs to it.
    """
    plain = _plain(code)
    depth = begin = 0
    for match in re.finditer("[;{}]", plain):
        if match.group() == "{" and depth == 0 and (place := _opened(plain[begin : match.start()], name)) is not None:
            line = code.rfind("\n", 0, begin + place) + 1
            above = code.rfind("\n", 0, max(0, line - 1)) + 1
            return above if code[above:line].lstrip().startswith("template") else line
        depth += (match.group() == "{") - (match.group() == "}")
        begin = match.end()
    return None


def _plain(code: str) -> str:
    """The code with blanks in place of literals, comments and conditional lines, as long as it was."""
    pieces: list[str] = []
    end = 0
    for lexeme in lexemes(code, OUTLINE):
        width = lexeme.end - lexeme.start
        pieces += code[end : lexeme.start], lexeme.text.ljust(width) if lexeme.kind == "brace" else " " * width
        end = lexeme.end
    return "".join([*pieces, code[end:]])


def _opened(head: str, name: str) -> int | None:
    """Where the function or type is named that the brace behind `head` opens: its parentheses close before."""
    word = re.escape(name)
    found, balance = None, 0
    for match in reversed([*re.finditer(rf"\b(?:struct|class)\s+{word}\b|\b{word}\s*\(|[()]", head)]):
        token = match.group()
        if token == ")":
            balance += 1
            continue
        if token.endswith("("):
            balance -= 1
        if balance < 0:
            break
        if token != "(" and balance == 0:
            found = match.start()
    return found


def _closing_brace(prompt: str, completion: str) -> int:
    """The offset behind the brace (and its semicolon) that closes what the prompt left open; else the whole length."""
    depth = sum(1 if brace.text == "{" else -1 for brace in _braces(prompt))
    if depth <= 0:
        return len(completion)
    for brace in _braces(completion):
        depth += 1 if brace.text == "{" else -1
        if depth == 0:
            semicolon = re.compile(r"[ \t]*;").match(completion, brace.end)
            return semicolon.end() if semicolon else brace.end
    return len(completion)


def _braces(code: str) -> Iterator[Lexeme]:
    """Every brace that is neither in a comment, nor in a literal, nor in what `#if 0` leaves out."""
    left_out = 0  # how many conditionals are open since `#if 0`, itself counted
    for lexeme in lexemes(code, OUTLINE):
        if lexeme.kind == "brace" and not left_out:
            yield lexeme
        elif lexeme.kind not in ("conditional", "zero"):
            continue
        elif lexeme.text.startswith("if"):
            left_out += bool(left_out or (lexeme.text == "if" and lexeme.kind == "zero"))
        elif left_out == 1 or lexeme.text == "endif":
            left_out = max(0, left_out - 1)
