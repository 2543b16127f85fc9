"""What the names of a test stand for, and which of its expressions depend on the candidate.

A name is *owed* where the candidate has to define it. An expression depends on the candidate where it mentions an owed
name or a variable that lives in the observer; everything else is the test's own business and stays in the oracle.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tree_sitter import Node

from rlvr_cpp.verifier.cpp.lexemes import node_text, walk

NAMES = ("identifier", "type_identifier", "namespace_identifier")
DECLARES = (
    "parameter_declaration",
    "optional_parameter_declaration",
    "init_declarator",
    "declaration",
    "for_range_loop",
)
TEMPLATED = ("template_type", "template_function", "qualified_identifier")
NAMED = ("alias_declaration", "concept_definition", "namespace_definition", "preproc_def", "preproc_function_def")
OF_TEMPLATES = (*TEMPLATED, "template_argument_list")


class CannotSplit(Exception):
    """The test cannot be taken apart; says why in one line."""


@dataclass(frozen=True, kw_only=True)
class Variable:
    """A variable of the test, or the observer's object behind it."""

    type: str = ""
    """As the test spells it, or an alias in the observer; empty where nobody said."""
    in_observer: bool = False
    copy: str = ""
    """A declaration that may be repeated in the observer: constants that cannot be sent, functions without state."""
    handle: str = ""
    """How the oracle names an object of the observer, where not by the variable."""
    is_const: bool = False
    is_value: bool = False
    """A parameter that is a copy of what is given."""
    is_global: bool = False
    """The observer has it as well, outside of all thunks."""


class Scopes:
    """The variables in sight at one place of a test, and the names that are owed."""

    def __init__(self, owed: Iterable[str]) -> None:
        self.owed = set(owed)
        self.taking: set[str] = set()
        """Functions of the test that take objects of the candidate's."""
        self._frames: list[dict[str, Variable]] = [{}]

    def declare(self, name: str, variable: Variable) -> None:
        """Put a variable into the innermost scope."""
        self._frames[-1][name] = variable

    def look(self, name: str) -> Variable | None:
        """The variable that a name means here."""
        return next((frame[name] for frame in reversed(self._frames) if name in frame), None)

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """One scope more."""
        self._frames.append({})
        try:
            yield
        finally:
            self._frames.pop()

    def depends(self, node: Node | None) -> bool:
        """Whether what the node says depends on the candidate."""
        if node is None:
            return False
        own = names_in_lambdas(node)
        for mention in mentions(node):
            name = node_text(mention)
            if name in own:
                continue
            variable = self.look(name) if mention.type == "identifier" else None
            if variable.in_observer if variable is not None else name in self.owed or name in self.taking:
                return True
        return False


def mentions(node: Node) -> Iterator[Node]:
    """The names in a node that may be variables, functions or types: no members, and nothing of `std`."""
    waiting = [node]
    while waiting:
        node = waiting.pop()
        if node.type in NAMES:
            yield node
        elif node.type == "field_expression":
            field = node.child_by_field_name("field")
            waiting += [field] if field is not None and field.type == "template_method" else []
            waiting += filter(None, [node.child_by_field_name("argument")])
        elif node.type == "template_method":
            waiting += filter(None, [node.child_by_field_name("arguments")])
        elif node.type == "qualified_identifier":
            scope, name = node.child_by_field_name("scope"), node.child_by_field_name("name")
            parts = name.named_children if name is not None and name.type in TEMPLATED else []
            waiting += [part for part in parts if part.type in OF_TEMPLATES]
            waiting += [scope] if scope is not None and node_text(scope) != "std" else []
            if scope is None and name is not None:
                waiting.append(name)
        else:
            waiting += reversed(node.children)


def names_in_lambdas(node: Node) -> set[str]:
    """Names that lambdas below the node declare for themselves."""
    found: set[str] = set()
    for inner in walk(node):
        if inner.type == "lambda_expression":
            for part in walk(inner):
                if part.type in DECLARES:
                    found.update(declared_name(one) for one in part.children_by_field_name("declarator"))
    return found


def declared_name(declarator: Node | None) -> str:
    """The name inside of a declarator."""
    while declarator is not None and declarator.type not in (*NAMES, "field_identifier"):
        inner = declarator.child_by_field_name("declarator")
        if inner is None:
            wrapped = ("identifier", "reference_declarator", "pointer_declarator", "function_declarator")
            inner = next((child for child in declarator.named_children if child.type in wrapped), None)
        declarator = inner
    return node_text(declarator)


def is_binding(node: Node) -> bool:
    """Whether a declarator gives names to the parts of what it declares."""
    return node.type == "structured_binding_declarator" or node_text(node).lstrip("& ").startswith("[")


def names_declared(nodes: Iterable[Node]) -> set[str]:
    """What the parts of a text name at the scope of namespaces."""
    found: set[str] = set()
    for node in nodes:
        if node.type in ("class_specifier", "struct_specifier", "union_specifier", "enum_specifier"):
            found |= _names_of_type(node)
        elif node.type in (
            "template_declaration",
            "linkage_specification",
            "declaration_list",
            "ERROR",
            "preproc_ifdef",
        ):
            found |= names_declared(node.children)
        elif node.type in ("declaration", "type_definition", "function_definition"):
            found |= {declared_name(one) for one in node.children_by_field_name("declarator")}
            found |= _names_of_type(node.child_by_field_name("type"))
        elif node.type in NAMED:
            found.add(node_text(node.child_by_field_name("name")))
    return {name for name in found if name.isidentifier()} - {"main", "std"}


def _names_of_type(node: Node | None) -> set[str]:
    if node is None or not node.type.endswith("_specifier"):
        return set()
    found = {node_text(node.child_by_field_name("name"))}
    if node.type == "enum_specifier":
        found |= {node_text(one.child_by_field_name("name")) for one in walk(node) if one.type == "enumerator"}
    return found
