"""Whether a test catches what it throws: then the throw is a step of the test, and no way for it to fail.

`try { if (f(1) == 1) throw 7; } catch (int code) { got = code; }` fails nowhere. A handler that throws on, leaves with
a status of failure or asserts what is never true gives the test up, and hands the failure on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rlvr_cpp.verifier.cpp.lexemes import node_text, walk

if TYPE_CHECKING:
    from tree_sitter import Node

NEVER_TRUE = re.compile(r'assert\s*\(\s*(?:false|0|!\s*"[^"]*")\s*(?:&&|\))', re.ASCII)
SUCCESS = re.compile(r"return\s*\(?\s*(?:0|EXIT_SUCCESS)\b", re.ASCII)
BASES = {
    **dict.fromkeys(("invalid_argument", "domain_error", "length_error", "out_of_range"), ("logic_error", "exception")),
    **dict.fromkeys(("range_error", "overflow_error", "underflow_error"), ("runtime_error", "exception")),
    **dict.fromkeys(("logic_error", "runtime_error", "bad_alloc", "bad_cast", "bad_function_call"), ("exception",)),
}
"""Of the library's exceptions; what a test's own class is derived from is not looked up."""
OF_LITERALS = {"string_literal": "char", "char_literal": "char", "true": "bool", "false": "bool"}
FUNCTIONS = ("lambda_expression", "function_definition")


def gives_up(node: Node) -> bool:
    """Whether a statement ends the test with a failure."""
    if node.type == "return_statement":
        return not SUCCESS.match(node_text(node))
    is_assert = node.type == "expression_statement" and NEVER_TRUE.match(node_text(node)) is not None
    return node.type == "throw_statement" or is_assert


def is_caught(statement: Node, thrown: frozenset[str] | None = None) -> bool:
    """Whether the test goes on behind what a statement throws: the types in `thrown`, or its own."""
    types = frozenset(_types_thrown(statement)) if thrown is None else thrown
    inner, outer = statement, statement.parent
    while outer is not None and inner.type not in FUNCTIONS:
        if outer.type == "try_statement" and inner == outer.child_by_field_name("body"):
            for handler in (child for child in outer.children if child.type == "catch_clause"):
                if _catches(handler, types):
                    return not any(gives_up(part) for part in walk(handler))
        inner, outer = outer, outer.parent
    return False


def types_thrown_in(body: Node) -> frozenset[str]:
    """The types that the statements of a function throw."""
    return frozenset(kind for node in walk(body) if node.type == "throw_statement" for kind in _types_thrown(node))


def _types_thrown(statement: Node) -> Iterator[str]:
    for value in statement.named_children if statement.type == "throw_statement" else ():
        if value.type == "call_expression":
            yield _bare(node_text(value.child_by_field_name("function")))
        elif value.type == "compound_literal_expression":
            yield _bare(node_text(value.child_by_field_name("type")))
        elif value.type == "number_literal":
            yield "double" if re.search(r"[.eE]", node_text(value)) else "int"
        else:
            yield OF_LITERALS.get(value.type, "")


def _catches(handler: Node, types: frozenset[str]) -> bool:
    """Whether a handler takes one of these types; nothing but all of them where the text does not name it."""
    listed = handler.child_by_field_name("parameters")
    if listed is None or not listed.named_children:
        return True  # three dots
    kind = _bare(node_text(listed.named_children[0].child_by_field_name("type")))
    return any(kind == one or kind in BASES.get(one, ()) for one in types)


def _bare(spelled: str) -> str:
    return spelled.partition("<")[0].rpartition("::")[2].strip()
