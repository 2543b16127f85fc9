"""Where a test of a public benchmark asserts something, and how often, read from its syntax tree.

Such a test fails by an `assert`, by a helper of its own that throws, or by a statement that throws where the candidate
is wrong: a guard, `if (!(compare(x, expected))) throw ...`. What the tree does not show for certain is not counted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rlvr_cpp.verifier.cpp.caught import NEVER_TRUE, gives_up, is_caught, types_thrown_in
from rlvr_cpp.verifier.cpp.lexemes import Edit, node_text, walk
from rlvr_cpp.verifier.cpp.loops import PRINTS_MARKER, open_loops
from rlvr_cpp.verifier.verdict import MAX_TESTS

if TYPE_CHECKING:
    from tree_sitter import Node

MACRO_ASSERT = re.compile(rb"(?P<before>\A|[{};)])?\s*\b(?P<name>assert)\s*\(")
WORD = re.compile(r"[A-Za-z_]\w*", re.ASCII)
JUMPS = ("return_statement", "break_statement", "continue_statement", "goto_statement")
ENDS_THE_PROCESS = ("exit", "_Exit", "quick_exit", "abort", "longjmp")
EXPRESSIONS = ("condition_clause", "parameter_list", "comment", "declaration", "lambda_expression", "return_statement")
NO_STATEMENTS = (*EXPRESSIONS, "class_specifier", "struct_specifier", "function_definition")


@dataclass(frozen=True)
class Names:
    """What the test's own functions, lambdas and macros mean for the statements that use them."""

    checks: frozenset[str]
    """May throw: a call that is a statement is an assertion."""
    failures: frozenset[str]
    """Always throw: a call is as good as a `throw`."""
    asserting: frozenset[str]
    """May assert something, in one way or another."""
    hidden_in: frozenset[str]
    """Words in the bodies of macros: variables used where the text does not show it."""
    thrown: Mapping[str, frozenset[str]]
    """The types that functions and lambdas throw themselves."""
    catches: bool = True
    """What the test catches itself is no failure."""


@dataclass(frozen=True)
class Found:
    """Where a test asserts something."""

    words: tuple[Node, ...]
    """Every `assert`; one inside of a guard is not an assertion of its own."""
    macros: tuple[Edit, ...]
    """Those in the bodies of macros, already replaced."""
    guards: tuple[Node, ...]
    """Statements that throw where the candidate is wrong."""
    loops: tuple[Node, ...]
    """Those that are as long as the candidate's answer: one assertion each, whatever is asserted in them."""
    calls: tuple[Node, ...]
    """The words outside of guards and loops."""


def _functions(root: Node) -> Iterator[Node]:
    return (node for node in walk(root) if node.type == "function_definition" and node.child_by_field_name("body"))


def body_of(function: Node) -> Node:
    """The body of a function that has one."""
    body = function.child_by_field_name("body")
    assert body is not None
    return body


def declarator_of(function: Node) -> Node | None:
    """The part of a function that holds its name and parameters."""
    node = function.child_by_field_name("declarator")
    while node is not None and node.type != "function_declarator":
        node = node.child_by_field_name("declarator")
    return node


def _name(node: Node | None) -> str:
    return node_text(node.child_by_field_name("declarator")) if node else ""


def parameters_of(function: Node) -> list[Node]:
    """The parameters of a function; none for `(void)`."""
    declarator = declarator_of(function)
    listed = declarator.child_by_field_name("parameters") if declarator else None
    return [node for node in listed.named_children if node_text(node) != "void"] if listed else []


def find_main(root: Node) -> Node | None:
    """The one definition of `main`, at the top level, with a plain body and no or two parameters."""
    mains = [node for node in _functions(root) if _name(declarator_of(node)) == "main"]
    if len(mains) != 1 or mains[0] not in root.children:
        return None
    body = body_of(mains[0])
    if body.type != "compound_statement" or body.children[-1].is_missing:
        return None
    parameters = parameters_of(mains[0])
    is_plain = len(parameters) in (0, 2) and not any("const" in node_text(node) for node in parameters)
    return mains[0] if is_plain else None


def _is_test_body(function: Node) -> bool:
    """`main`, and any `void test_this()` beside it."""
    is_method = function.parent is not None and function.parent.type == "field_declaration_list"
    is_procedure = node_text(function.child_by_field_name("type")) == "void" and not parameters_of(function)
    return (is_procedure and not is_method) or _name(declarator_of(function)) == "main"


def is_foreign(node: Node) -> bool:
    """The test prints the marker, or means something of its own by `assert`."""
    if node.type in ("string_literal", "raw_string_literal", "preproc_arg"):
        return PRINTS_MARKER.search(node_text(node)) is not None
    if node.type in ("preproc_def", "preproc_function_def"):
        return node_text(node.child_by_field_name("name")) == "assert"
    return node.type == "function_declarator" and _name(node) == "assert"


def read_names(root: Node) -> Names:
    """What the test's own names mean."""
    macros = {
        node_text(node.child_by_field_name("name")): node_text(node.child_by_field_name("value"))
        for node in walk(root)
        if node.type in ("preproc_def", "preproc_function_def")
    }
    bodies = _helper_bodies(root)
    failures = {name for name, body in bodies.items() if any(part.type == "throw_statement" for part in body.children)}
    failures |= {name for name, text in macros.items() if text.startswith("throw")}
    words = {name: set(WORD.findall(text)) for name, text in macros.items()}
    hidden = frozenset[str]().union(*words.values())
    words |= {name: set(WORD.findall(node_text(body))) for name, body in bodies.items()}
    asserting = {"throw", "assert"}
    while grown := {name for name, used in words.items() if used & asserting} - asserting:
        asserting |= grown
    checks = {"throw"}
    while grown := {name for name, used in words.items() if used & checks and "assert" not in used} - checks:
        checks |= grown
    thrown = {name: types_thrown_in(body) for name, body in bodies.items()}
    return Names(frozenset(checks), frozenset(failures), frozenset(asserting), hidden, thrown)


def _helper_bodies(root: Node) -> dict[str, Node]:
    """The bodies of the test's functions and named lambdas that are no test bodies."""
    bodies = {_name(declarator_of(node)): body_of(node) for node in _functions(root) if not _is_test_body(node)}
    for node in walk(root):
        value = node.child_by_field_name("value") if node.type == "init_declarator" else None
        body = value.child_by_field_name("body") if value and value.type == "lambda_expression" else None
        if body is not None:
            bodies[_name(node)] = body
    bodies.pop("", None)
    return bodies


def find_assertions(root: Node, names: Names) -> Found:
    """Every assertion in `main` and the procedures beside it."""
    bodies = [body_of(node) for node in _functions(root) if _is_test_body(node)]
    loops = open_loops(root, names.asserting)
    looped = {part.id for loop in loops for part in walk(loop)}
    guards = tuple(guard for body in bodies for guard in _find_guards(body, names) if guard.id not in looped)
    words = tuple(node for node in walk(root) if _is_assert(node))
    macros = tuple(edit for node in walk(root) if node.type == "preproc_function_def" for edit in _macro_edits(node))
    guarded = {part.id for guard in guards for part in walk(guard)} if words else set[int]()
    calls = tuple(word for word in words if word.id not in guarded | looped)
    return Found(words, macros, guards, loops, calls)


def _is_assert(node: Node) -> bool:
    call = node.parent
    return node.text == b"assert" and not node.child_count and call is not None and call.type == "call_expression"


def _find_guards(node: Node, names: Names) -> list[Node]:
    """The outermost statements of a body that fail by throwing, not those of functions within."""
    if node.type in NO_STATEMENTS:
        return []
    if node.type == "expression_statement":
        is_check = _called(node) in names.checks - names.failures
        return [node] if is_check and not _is_caught(node, names) else []
    if (node.type == "if_statement" or _must_throw_before_its_end(node, names)) and _is_guard(node, names):
        return [node]
    below = [guard for child in node.named_children for guard in _find_guards(child, names)]
    return [node] if node.type == "try_statement" and not below and _is_guard(node, names) else below


def _must_throw_before_its_end(node: Node, names: Names) -> bool:
    """A `try` whose own block fails where nothing was thrown: one assertion, whatever else it calls."""
    return node.type == "try_statement" and any(_fails(statement, names) for statement in _statements(body_of(node)))


def _is_guard(node: Node, names: Names) -> bool:
    """An `if` or a `try` that may fail at the end of a branch, leaves by no other way, and asserts nothing else."""
    inner = list(walk(node, lambda part: part.type != "lambda_expression"))
    return (
        any(_fails(statement, names) for branch in _branches(node) for statement in _statements(branch))
        and not any(part.type in JUMPS for part in inner)
        and all(_is_never_true(part) for part in walk(node) if _is_assert(part))
    )


def _branches(node: Node) -> Iterator[Node]:
    """What an `if` chain, or a `try` with its handlers, may run."""
    for child in node.named_children:
        if child.type in ("else_clause", "catch_clause", "if_statement"):
            yield from _branches(child)
        elif child.type not in NO_STATEMENTS:
            yield child


def _statements(branch: Node) -> Sequence[Node]:
    return branch.named_children if branch.type == "compound_statement" else [branch]


def _fails(statement: Node, names: Names) -> bool:
    if statement.type == "throw_statement" or _called(statement) in names.failures:
        return not _is_caught(statement, names)
    return _called(statement) == "assert" and NEVER_TRUE.match(node_text(statement)) is not None


def _is_caught(statement: Node, names: Names) -> bool:
    return names.catches and is_caught(statement, names.thrown.get(_called(statement)))


def _called(statement: Node) -> str:
    """The name that a statement calls; empty where it is not a plain call."""
    call = next(iter(statement.named_children), None) if statement.type == "expression_statement" else None
    return node_text(call.child_by_field_name("function")) if call and call.type == "call_expression" else ""


def _is_never_true(word: Node) -> bool:
    """The word of an `assert(false)`: where it stands, the run has gone wrong."""
    return NEVER_TRUE.match(node_text(word.parent)) is not None


def statement_of(word: Node) -> Node | None:
    """The statement that an `assert` makes up; None where it is a part of one."""
    statement = word.parent.parent if word.parent else None
    return statement if statement and statement.type == "expression_statement" else None


def _macro_edits(macro: Node) -> Iterator[Edit]:
    value = macro.child_by_field_name("value")
    for match in MACRO_ASSERT.finditer((value.text if value else None) or b""):
        start, end = ((value.start_byte if value else 0) + place for place in match.span("name"))
        yield Edit(start, end, "@value" if match["before"] is None else "@check")


def count_straight(found: Found, body: Node) -> int | None:
    """The number of assertions where each is reached exactly once by every run that is not cut short."""
    tests = [*found.guards, *found.loops, *(statement_of(word) for word in found.calls)]
    is_known = (
        not found.macros
        and all(test is not None and is_straight(test, body) for test in tests)
        and not any(_is_never_true(word) for word in found.calls)
        and not _may_leave(body)
    )
    return len(tests) if is_known and len(tests) <= MAX_TESTS else None


def is_straight(test: Node, body: Node) -> bool:
    """Whether every honest run through `body` reaches the assertion `test` exactly once."""
    block = test.parent
    while block is not None and block != body:
        if block.type == "try_statement":
            handlers = [child for child in block.children if child.type == "catch_clause"]
            if not all(any(gives_up(part) for part in walk(handler)) for handler in handlers):
                return False  # an honest run may go on, or end, without what the exception skipped
        elif block.type != "compound_statement":
            return False
        block = block.parent
    return block is not None


def _may_leave(body: Node) -> bool:
    """There is a way out before the last statement, handlers of exceptions apart."""
    last = next((child for child in reversed(body.named_children) if child.type != "comment"), None)
    return any(
        (node.type in ("return_statement", "goto_statement") and node != last) or node_text(node) in ENDS_THE_PROCESS
        for node in walk(body, lambda node: node.type not in ("lambda_expression", "catch_clause"))
    )
