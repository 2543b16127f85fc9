"""How long a closure of the test may be called: until something that it refers to has ended.

A candidate may keep what it is given. Called later, a closure would write to whatever stands in the oracle's memory
then, and a verdict is made of that memory.
"""

from __future__ import annotations

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

HEADS = (
    *("for_statement", "for_range_loop", "if_statement", "while_statement", "switch_statement", "catch_clause"),
    "function_definition",
)
BLOCK = "compound_statement"


def extents(root: Node) -> dict[tuple[int, int], str]:
    """Where an extent begins, by start and end of that statement, and the name of the variable that is it."""
    found = [place for node in walk(root) if (place := _place(node)) is not None]
    return {(place.start_byte, place.end_byte): _name(place) for place in found}


def extent_of(closure: Node) -> str | None:
    """The variable whose end ends a closure; None where it refers to nothing that ends. Raises CannotSplit."""
    place = _place(closure)
    if place is not None and place.type not in ("declaration", BLOCK):
        raise CannotSplit("a callback of the test refers to a variable of a statement without braces")
    return None if place is None else _name(place)


def begin(node: Node, text: str, name: str) -> str:
    """The text of a statement with an extent that ends before the statement's variables do."""
    extent = f"rlvr::Extent {name};"
    return text.replace("{", f"{{ {extent}", 1) if node.type == BLOCK else f"{text} {extent}"


def _name(place: Node) -> str:
    return f"rlvr_extent_{place.start_byte}"


def _place(closure: Node) -> Node | None:
    """The last declaration, in the innermost scope, of what a closure refers to.

    For what the head of a statement or function declares it is its body.
    """
    if closure.type != "lambda_expression" or "&" not in node_text(closure.child_by_field_name("captures")):
        return None
    used = {node_text(one) for one in mentions(closure) if one.type == "identifier"} - names_in_lambdas(closure)
    inner = closure
    while (scope := inner.parent) is not None:
        if scope.type == BLOCK:
            earlier = [one for one in scope.named_children if one.end_byte <= inner.start_byte]
            if found := next((one for one in reversed(earlier) if _ends(one) and used & _declared(one)), None):
                return found
        elif scope.type in HEADS:
            body = scope.child_by_field_name("body") or scope.child_by_field_name("consequence")
            if used & _declared(scope, body):
                return body
        inner = scope
    return None


def _ends(statement: Node) -> bool:
    return statement.type == "declaration" and "static" not in node_text(statement).split()


def _declared(node: Node, without: Node | None = None) -> set[str]:
    """The names that a statement declares, or its head without its body."""
    declarators = [
        declarator
        for part in walk(node, lambda part: part != without)
        if part.type in DECLARES and part != without
        for declarator in part.children_by_field_name("declarator")
    ]
    bound = {node_text(name) for one in declarators if is_binding(one) for name in one.named_children}
    return bound | {declared_name(one) for one in declarators if not is_binding(one)}
