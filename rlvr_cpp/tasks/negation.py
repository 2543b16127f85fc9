"""Wrong twins of right solutions: what must fail every problem if the judge compares anything at all.

Where the function returns a number or a truth value, each returned value is negated (`!x` never equals `x`), so that
the twin compiles, runs and is wrong by its values alone; where it returns a string, that is lengthened. Of everything
else (other types, recursion that may undo itself, classes) each function throws before it does anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from tree_sitter import Node

from rlvr_cpp.tasks.task import Task
from rlvr_cpp.verifier.cpp.lexemes import parse, walk
from rlvr_cpp.verifier.cpp.signature import read_prompt

NUMBER = re.compile(r"(?:(?:bool|char|short|int|long|float|double|signed|unsigned|u?int\d+_t|(?:std::)?size_t)\s*)+")
STRING = re.compile(r"(?:std::)?string")


def negated_solution(task: Task) -> str:
    """The wrong twin of the task's reference solution, a completion of its prompt as that is.

    Raises ValueError where the task has no reference.
    """
    if task.reference is None:
        raise ValueError(f"task {task.task_id!r} has no reference solution")
    source, start = (task.prompt + task.reference).encode(), len(task.prompt.encode())
    root = parse(source)
    wrapping = _wrapping(task)
    values = [node for node in _returned_values(root) if node.start_byte >= start] if wrapping else []
    if wrapping is None or not values:
        for place in sorted(_beginnings(root, start), reverse=True) or [start]:
            source = source[:place] + b" throw 0;" + source[place:]
    else:
        before, behind = wrapping
        for node in reversed(values):
            value = source[node.start_byte : node.end_byte]
            source = source[: node.start_byte] + before + value + behind + source[node.end_byte :]
    return source[start:].decode()


def _wrapping(task: Task) -> tuple[bytes, bytes] | None:
    """What around a returned value makes it wrong; None where nothing is certain to."""
    opened = read_prompt(task.prompt)
    function = opened.function if opened else None
    if function is None or re.search(rf"\b{re.escape(function.name)}\s*\(", task.reference or ""):
        return None
    if NUMBER.fullmatch(function.result):
        return b"!(", b")"
    if STRING.fullmatch(function.result):
        return f"{function.result}(".encode(), b') + "~"'
    return None


def _returned_values(root: Node) -> list[Node]:
    """What the functions return, in the order of the text, not what lambdas in them do."""
    statements = (node for node in walk(root, _is_no_lambda) if node.type == "return_statement")
    return [value for node in statements for value in node.named_children[:1]]


def _beginnings(root: Node, start: int) -> Iterator[int]:
    """Where each function begins whose body ends behind `start`: behind its brace, but not before `start`."""
    for node in walk(root, _is_no_lambda):
        body = node.child_by_field_name("body") if node.type == "function_definition" else None
        if body is not None and body.type == "compound_statement" and body.end_byte > start:
            yield max(start, body.start_byte + 1)


def _is_no_lambda(node: Node) -> bool:
    return node.type != "lambda_expression"
