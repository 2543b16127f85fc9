"""Loops of a test that are as long as a candidate's answer makes them.

What such a loop asserts holds of an empty answer and holds a thousand times of a long one: it is one assertion,
whatever is counted in it. A loop over the test's own numbers and lists asserts as often as it is run. What a candidate
is given to call back is such a loop, too: it is run as often as the candidate likes.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

from rlvr_cpp.verifier.cpp.lexemes import node_text, parse, walk

if TYPE_CHECKING:
    from tree_sitter import Node

PRINTS_MARKER = re.compile(r'(?:["(\n]|\\n)PASSED (?:["%{0-9])')
LOOPS = ("for_statement", "for_range_loop", "while_statement", "do_statement")
ALGORITHMS = frozenset(("for_each", "for_each_n", "all_of", "any_of", "none_of", "transform", "accumulate", "count_if"))
READS = frozenset(
    ("size", "length", "begin", "end", "cbegin", "cend", "rbegin", "rend", "empty", "front", "back", "at")
)
"""Members and functions of the library that change nothing."""
ADDS = frozenset(("push_back", "emplace_back"))
"""Members that make a list one longer."""
NOT_ALWAYS = (
    *LOOPS,
    "if_statement",
    "switch_statement",
    "try_statement",
    "conditional_expression",
    "lambda_expression",
)
"""What stands in them is run as often as something else says, or not at all."""
CALLED_BACK = ("lambda_expression", "function_definition")
NUMBERS = ("primitive_type", "sized_type_specifier")


def open_loops(root: Node, asserting: frozenset[str]) -> tuple[Node, ...]:
    """The outermost loops of that kind that assert something, by one of the names in `asserting`."""
    known = _Known(root)
    found: list[Node] = []

    def enter(node: Node) -> bool:
        is_open = _is_loop(node) and _asserts(node, asserting) and not known.bounds(node)
        if is_open:
            found.append(_repeated(node))
        return not is_open

    for _ in walk(root, enter):
        pass
    return tuple(found)


@lru_cache(maxsize=512)
def counts_what_an_answer_repeats(test: str) -> bool:
    """Whether a test that prints the marker itself counts in loops of that kind, whose turns the candidate chooses."""
    root = parse(test.encode(errors="replace"))
    reports = [
        node for node in walk(root) if node.type == "expression_statement" and PRINTS_MARKER.search(node_text(node))
    ]
    counters = frozenset(name for report in reports for name in _identifiers(report))
    known = _Known(root)
    loops = [node for node in walk(root) if _is_loop(node) and not known.bounds(node)]
    return any(not counters.isdisjoint(_counted(loop)) for loop in loops)


def _counted(loop: Node) -> Iterator[str]:
    """The variables that a loop changes, but for those it is counted by."""
    header = [loop.child_by_field_name(name) for name in ("initializer", "condition", "update")]
    for node in walk(loop, lambda part: part not in header):
        if node.type == "update_expression":
            yield from _identifiers(node.child_by_field_name("argument"))
        elif node.type == "assignment_expression":
            yield from _identifiers(node.child_by_field_name("left"))


def _is_loop(node: Node) -> bool:
    if node.type in CALLED_BACK:
        return node.child_by_field_name("body") is not None and not any(
            part.type == "throw_statement" for part in walk(node)
        )
    return node.type in LOOPS or (node.type == "expression_statement" and _algorithm(node) is not None)


def _repeated(loop: Node) -> Node:
    """The statement that is one assertion: the loop, or the body of what is called back."""
    body = loop.child_by_field_name("body") if loop.type in CALLED_BACK else None
    return loop if body is None else body


def _algorithm(statement: Node) -> Node | None:
    """The arguments of the library's loop that a statement is a call of."""
    call = statement.named_children[0] if statement.named_children else None
    if call is None or call.type != "call_expression":
        return None
    name = node_text(call.child_by_field_name("function")).rpartition("::")[2]
    return call.child_by_field_name("arguments") if name in ALGORITHMS else None


def _asserts(node: Node, asserting: frozenset[str]) -> bool:
    return any(not part.child_count and node_text(part) in asserting for part in walk(node))


def _callables(node: Node) -> Iterator[str]:
    """The function, macro or lambda of the test's own that a node defines."""
    value = node.child_by_field_name("value")
    if node.type == "function_definition":
        yield _defined(node)
    elif node.type == "preproc_function_def":
        yield node_text(node.child_by_field_name("name"))
    elif node.type == "init_declarator" and value is not None and value.type == "lambda_expression":
        yield node_text(node.child_by_field_name("declarator"))


def _defined(function: Node) -> str:
    """The name of a function definition; empty for anything else."""
    declarator = function.child_by_field_name("declarator") if function.type == "function_definition" else None
    return node_text(declarator.child_by_field_name("declarator")) if declarator is not None else ""


class _Known:
    """What a test's variables are made of."""

    def __init__(self, root: Node) -> None:
        self.sources: defaultdict[str, list[Node | None]] = defaultdict(list)
        """What each variable is given; None is what cannot be told."""
        self.visiting: set[str] = set()
        self.own = {name for node in walk(root) for name in _callables(node)}
        self.handed_out = {part for node in walk(root) for part in self._given_away(node)}
        """The functions and lambdas that others than the test's own functions are given: names, or where they stand."""
        numbers = {name for node in walk(root) if node.type == "declaration" for name in _numbers(node)}
        for node in walk(root):
            self._read(node, numbers)

    def bounds(self, loop: Node) -> bool:
        """How often a loop is run does not depend on a candidate."""
        if loop.type in CALLED_BACK:
            return not self._is_handed_out(loop)
        if loop.type == "for_range_loop":
            return self._is_fixed(loop.child_by_field_name("right"))
        if loop.type == "for_statement":
            first, condition = (loop.child_by_field_name(name) for name in ("initializer", "condition"))
            own = frozenset(_declared(first))
            return (
                condition is not None
                and (first is None or self._is_fixed(first, own))
                and self._is_fixed(condition, own)
            )
        arguments = _algorithm(loop)
        given = arguments.named_children if arguments is not None else []
        return bool(given) and all(one.type == "lambda_expression" or self._is_fixed(one) for one in given)

    def _given_away(self, call: Node) -> Iterator[str | int]:
        function, arguments = call.child_by_field_name("function"), call.child_by_field_name("arguments")
        if call.type != "call_expression" or function is None or arguments is None:
            return
        name = node_text(function).rpartition("::")[2]
        if name in self.own or name in ALGORITHMS:
            return
        for argument in arguments.named_children:
            if argument.type == "lambda_expression":
                yield argument.start_byte
            elif argument.type in ("identifier", "pointer_expression"):
                yield node_text(argument).lstrip("& ")

    def _is_handed_out(self, function: Node) -> bool:
        holder = function.parent
        is_named = function.type == "lambda_expression" and holder is not None and holder.type == "init_declarator"
        name = node_text(holder.child_by_field_name("declarator")) if is_named and holder else _defined(function)
        return bool({name, function.start_byte} & self.handed_out)

    def _read(self, node: Node, numbers: set[str]) -> None:
        if node.type == "init_declarator":
            self._note(node.child_by_field_name("declarator"), node.child_by_field_name("value"))
        elif node.type == "for_range_loop":
            self._note(node.child_by_field_name("declarator"), node.child_by_field_name("right"))
        elif node.type == "assignment_expression":
            self._note(node.child_by_field_name("left"), node.child_by_field_name("right"))
        elif node.type == "preproc_def":
            self.sources[node_text(node.child_by_field_name("name"))] = []
        elif node.type == "declaration":
            for child in node.children_by_field_name("declarator"):
                if child.type != "init_declarator":
                    self.sources[node_text(child)] += []
        elif node.type in ("parameter_declaration", "optional_parameter_declaration"):
            self._note(node.child_by_field_name("declarator"), None)
        elif node.type == "call_expression":
            self._read_call(node, numbers)

    def _read_call(self, call: Node, numbers: set[str]) -> None:
        """What a function was handed, or was called on, is what it made of it, but for plain numbers."""
        function, arguments = call.child_by_field_name("function"), call.child_by_field_name("arguments")
        if function is None or _reads_only(call):
            return
        if function.type == "field_expression" and not _adds_one(call) and not _is_of_element(function):
            self._note(function.child_by_field_name("argument"), None)
        for argument in arguments.named_children if arguments is not None else []:
            bare = argument.named_children[0] if node_text(argument).startswith("&") else argument
            if bare.type == "identifier" and (bare != argument or node_text(bare) not in numbers):
                self._note(bare, None)

    def _note(self, target: Node | None, value: Node | None) -> None:
        for name in _identifiers(target):
            self.sources[name].append(value)

    def _is_fixed(self, expression: Node | None, own: frozenset[str] = frozenset()) -> bool:
        """`own` is what a loop counts with: it is what its beginning says, whatever has the same name elsewhere."""
        if expression is None:
            return False
        calls = (part for part in walk(expression) if part.type == "call_expression")
        if not all(_reads_only(call) for call in calls):
            return False
        return all(self._is_fixed_name(name) for name in set(_identifiers(expression)) - own)

    def _is_fixed_name(self, name: str) -> bool:
        if name in self.visiting:
            return True
        if name not in self.sources:
            return False
        self.visiting.add(name)
        try:
            return all(self._is_fixed(value) for value in self.sources[name])
        finally:
            self.visiting.discard(name)


def _adds_one(call: Node) -> bool:
    """A list of the test's own is written down piece by piece: this piece is added whatever a candidate does."""
    function = call.child_by_field_name("function")
    if function is None or node_text(function.child_by_field_name("field")) not in ADDS:
        return False
    holder = call.parent
    while holder is not None and holder.type not in NOT_ALWAYS:
        if holder.type == "function_definition":
            return _defined(holder) == "main"
        holder = holder.parent
    return False


def _is_of_element(function: Node) -> bool:
    """`shapes[i]->area`: what an element points to does not hold the list."""
    argument = function.child_by_field_name("argument")
    is_arrow = any(child.type == "->" for child in function.children)
    return is_arrow and argument is not None and argument.type == "subscript_expression"


def _identifiers(node: Node | None) -> Iterator[str]:
    """The variables in an expression or a declarator; not those of lambdas within, nor functions that are called."""
    if node is not None:
        inner = list(walk(node, lambda part: part.type not in ("lambda_expression", "qualified_identifier")))
        called = [part.child_by_field_name("function") for part in inner if part.type == "call_expression"]
        yield from (node_text(part) for part in inner if part.type == "identifier" and part not in called)


def _numbers(declaration: Node) -> Iterator[str]:
    """The plain numbers that a declaration declares: what is handed on is a copy of them."""
    kind = declaration.child_by_field_name("type")
    if kind is not None and kind.type in NUMBERS:
        yield from _declared(declaration)


def _declared(declaration: Node | None) -> Iterator[str]:
    for child in declaration.children_by_field_name("declarator") if declaration is not None else []:
        yield from _identifiers(child.child_by_field_name("declarator") or child)


def _reads_only(call: Node) -> bool:
    function = call.child_by_field_name("function")
    if function is not None and function.type == "field_expression":
        function = function.child_by_field_name("field")
    return node_text(function).rpartition("::")[2] in READS
