"""A comparison that the candidate's own code decides is asked with other literals as well (`challenge` in observer.h).

Who says yes to everything has compared nothing. An honest `==` may ignore or fold what was changed, so that nobody but
a reference can say by which draws of other literals it makes a difference: it is asked all of them in a rehearsal.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from tree_sitter import Node

from rlvr_cpp.verifier.cpp.lexemes import node_text, parse, walk
from rlvr_cpp.verifier.tiers.observer.thunks import Lifted, kept_parameters, last_name

TURNS = re.compile(r'"(?:[^"\\]|\\.)*[A-Za-z0-9](?:[^"\\A-Za-z0-9]|\\[^A-Za-z0-9])*"')
"""A string whose last letter or digit says what it is, and is no part of an escape sequence."""
REHEARSED = re.compile(r"^rlvr_draws((?: [0-9a-f]+)+)$", re.MULTILINE)
CLASSES = ("class_specifier", "struct_specifier", "union_specifier")
CHANGES = ("assignment_expression", "update_expression", "new_expression", "delete_expression", "lambda_expression")


@dataclass(frozen=True)
class Pure:
    """What trusted text says of calls that may be repeated."""

    classes: frozenset[str] = frozenset()
    """A call of one of these makes an object."""
    methods: frozenset[str] = frozenset()
    """Functions that are `const` wherever they are declared."""
    kept: frozenset[tuple[str, int]] = frozenset()
    """Arguments that stay what they are (`kept_parameters`)."""


def read_pure(trusted: str) -> Pure:
    """Read it off a text."""
    nodes = list(walk(parse(trusted.encode(errors="replace"))))
    functions = [node for node in nodes if node.type == "function_declarator"]
    methods = {True: set[str](), False: set[str]()}
    for node in functions:
        is_constant = any(node_text(child) == "const" for child in node.children if child.type == "type_qualifier")
        methods[is_constant].add(last_name(node.child_by_field_name("declarator")))
    classes = {node_text(node.child_by_field_name("name")) for node in nodes if node.type in CLASSES}
    return Pure(frozenset(classes - {""}), frozenset(methods[True] - methods[False]), kept_parameters(functions))


def can_be_repeated(node: Node, pure: Pure) -> bool:
    """Whether a comparison changes nothing that is there before and after it, as far as trusted text tells."""
    parts = list(walk(node))
    if any(part.type in CHANGES for part in parts):
        return False
    return all(_is_pure(part, pure) for part in parts if part.type == "call_expression")


def _is_pure(node: Node, pure: Pure) -> bool:
    function, listed = node.child_by_field_name("function"), node.child_by_field_name("arguments")
    name, owner = last_name(function), function.child_by_field_name("argument") if function is not None else None
    if function is not None and function.type == "field_expression":
        name = last_name(function.child_by_field_name("field"))
        return name in pure.methods or (owner is not None and _makes_object(owner, pure))
    arguments = listed.named_children if listed is not None else []
    kept = all((name, place) in pure.kept for place, _ in enumerate(arguments))
    return name in pure.classes or (bool(arguments) and kept)


def _makes_object(node: Node, pure: Pure) -> bool:
    made = node.child_by_field_name("function") if node.type == "call_expression" else node.child_by_field_name("type")
    return made is not None and made.type != "field_expression" and last_name(made) in pure.classes


def open_arguments(lifted: Lifted, pure: Pure) -> list[str]:
    """The arguments, of which those literals that are compared, or that an object is made of, are another form's in
    another form; empty where there are none."""
    found = [*lifted.arguments]
    for place, literal in lifted.literals.items():
        above = literal.parent
        is_plain = above is not None and above.type in ("initializer_list", "binary_expression")
        is_made_of = is_plain or (above is not None and above.parent is not None and _makes_object(above.parent, pure))
        if is_made_of and (literal.type == "number_literal" or TURNS.fullmatch(node_text(literal))):
            found[place] = f"rlvr_form({place}, {found[place]})"
    return found if found != lifted.arguments else []


def challenge_text(place: int, thunk: int, arguments: list[str]) -> str:
    """A comparison asked in several forms, as an expression without a comma outside of parentheses."""
    asks = f"rlvr::ask<int>({', '.join([str(thunk), *arguments])})"
    return f"rlvr::challenge({place}, [&](const rlvr::Form& rlvr_form) {{ return {asks}; }})"


def challenge_macros(test: str, draws: tuple[int, ...]) -> list[str]:
    """What the oracle is told: by which draws each comparison may be asked, and what makes them this test's own."""
    salt = hashlib.sha256(test.encode(errors="replace")).hexdigest()[:12]
    listed = ", ".join(f"{one:#x}ull" for one in draws)
    return [
        f"#define RLVR_CHALLENGE {{{listed}}}",
        f"#define RLVR_SALT 0x{salt}ull",
        "#include <limits>",
        "#include <random>",
    ]


def rehearsal_of(oracle: str, challenged: int) -> str:
    """The oracle that asks a reference by which draws it may be asked, and prints them."""
    return f"#define RLVR_REHEARSAL {challenged}\n{oracle}"


def read_rehearsal(said: str) -> tuple[int, ...]:
    """The draws of each comparison; empty where the reference did not get to the end."""
    found = REHEARSED.findall(said)
    return tuple(int(one, 16) for one in found[-1].split()) if found else ()
