"""How long a closure of the test may be called: until something that it refers to has ended.

A candidate may keep what it is given. Called later, a closure would write to whatever stands in the oracle's memory
then, and a verdict is made of that memory.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from tree_sitter import Node

from rlvr_cpp.verifier.cpp.lexemes import node_text, walk
from rlvr_cpp.verifier.tiers.observer.scope import (
    DECLARES,
    CannotSplit,
    declared_name,
    is_binding,
    mentions,
    names_in_lambdas,
)
from rlvr_cpp.verifier.tiers.observer.values import POINTING

HEADS = (
    *("for_statement", "for_range_loop", "if_statement", "while_statement", "switch_statement", "catch_clause"),
    "function_definition",
)
BLOCK = "compound_statement"
WORD = re.compile(r"[A-Za-z_]\w*")
POINTER = re.compile(r"&|\bnew\b|\bthis\b|\[[^\]]*\]\s*\(|\b(?:begin|end|data|c_str|next|prev|find\w*|\w+_bound)\s*\(")
"""In a value: it may be a pointer, an iterator or a closure."""


def extents(root: Node) -> dict[tuple[int, int], str]:
    """Where an extent begins, by start and end of that statement, and the name of the variable that is it."""
    closures = (node for node in walk(root) if node.type == "lambda_expression")
    found = [place for node in closures if (place := _place(node, _captured(node).references)) is not None]
    return {(place.start_byte, place.end_byte): _name(place) for place in found}


def extent_of(closure: Node) -> str | None:
    """The variable whose end ends a closure; None where it refers to nothing that ends.

    Raises CannotSplit where nobody can tell from the text when that is.
    """
    captured = _captured(closure)
    if captured.unknown or any(_points(closure, name) for name in captured.references | captured.values):
        raise CannotSplit("a callback of the test holds a pointer, or what may hold one")
    place = _place(closure, captured.references)
    return None if place is None else _name(place)


def begin(node: Node, text: str, name: str) -> str:
    """The text of a statement with an extent that ends before the statement's variables do."""
    extent = f"rlvr::Extent {name};"
    if node.type == BLOCK:
        return text.replace("{", f"{{ {extent}", 1)
    return f"{text} {extent}" if node.type == "declaration" else f"{{ {extent} {text} }}"


def _name(place: Node) -> str:
    return f"rlvr_extent_{place.start_byte}"


@dataclass
class _Captured:
    """What a closure has of the variables around it."""

    references: set[str] = field(default_factory=set)
    values: set[str] = field(default_factory=set)
    unknown: bool = False
    """`this`, or the value of an expression that may be a pointer."""


def _captured(closure: Node) -> _Captured:
    found, own = _Captured(), names_in_lambdas(closure)
    items = [item.strip() for item in node_text(closure.child_by_field_name("captures"))[1:-1].split(",")]
    for item in items:
        left, is_made, made = item.partition("=")
        names = set(WORD.findall(made if is_made else item))
        if item in ("&", "=", ""):
            continue
        own |= set(WORD.findall(left))
        if "this" in names or (is_made and not left.startswith("&") and POINTER.search(made)):
            found.unknown = True
        (found.references if item.startswith("&") else found.values).update(names)
    used = {node_text(one) for one in mentions(closure) if one.type == "identifier"} - own
    if "&" in items:
        found.references |= used
    elif "=" in items:
        found.values |= used
    return found


def _points(closure: Node, name: str) -> bool:
    """Whether a captured variable is, by its declaration, a pointer, reference, iterator or another closure."""
    declaration = _declaration(closure, {name})
    if declaration is None:
        return False
    head, _, value = node_text(declaration).partition(":" if declaration.type == "for_range_loop" else "=")
    return bool(POINTING.search(head)) or ("auto" in WORD.findall(head) and bool(POINTER.search(value)))


def _place(closure: Node, names: set[str]) -> Node | None:
    """The last declaration, in the innermost scope, of one of these variables.

    For what the head of a statement or function declares it is its body.
    """
    found = _declaration(closure, names)
    if found is None or (found.type == "declaration" and found.parent is not None and found.parent.type == BLOCK):
        return found
    scope = found
    while scope.type not in HEADS and scope.parent is not None:
        scope = scope.parent
    return _body(scope)


def _body(scope: Node) -> Node | None:
    return scope.child_by_field_name("body") or scope.child_by_field_name("consequence")


def _in_head(scope: Node) -> list[Node]:
    """What declares something in the head of a statement or function."""
    body = _body(scope)
    return [part for part in walk(scope, lambda part: part != body) if part.type in DECLARES and part != body]


def _declaration(closure: Node, names: set[str]) -> Node | None:
    """The last declaration, in the innermost scope, of one of these names; None for what never ends."""
    inner = closure
    while (scope := inner.parent) is not None:
        found = None
        if scope.type == BLOCK:
            earlier = [one for one in scope.named_children if one.end_byte <= inner.start_byte]
            found = next((one for one in reversed(earlier) if _ends(one) and names & _declared(one)), None)
        elif scope.type in HEADS:
            found = next((part for part in reversed(_in_head(scope)) if names & _own(part)), None)
        if found is not None:
            return found
        inner = scope
    return None


def _ends(statement: Node) -> bool:
    return statement.type == "declaration" and "static" not in node_text(statement).split()


def _declared(node: Node) -> set[str]:
    """The names that a statement declares."""
    return {name for part in walk(node) if part.type in DECLARES for name in _own(part)}


def _own(part: Node) -> set[str]:
    declarators = part.children_by_field_name("declarator")
    bound = {node_text(name) for one in declarators if is_binding(one) for name in one.named_children}
    return bound | {declared_name(one) for one in declarators if not is_binding(one)}
