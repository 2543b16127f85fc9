"""The observer's side of a test: one function for each shape of expression, with what it is sent to evaluate it.

A thunk holds the expression and nothing else of the test: variables, arguments without the candidate in them and plain
literals are sent when they are needed, so that `t.add(11)` and `t.add(9)` are one thunk and no input lies beside the
candidate before its time. Functions of the test, and lambdas with a state, are stubs that call back.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from tree_sitter import Node

from rlvr_cpp.verifier.cpp.caught import types_thrown_in
from rlvr_cpp.verifier.cpp.lexemes import Edit, node_text, walk
from rlvr_cpp.verifier.tiers.observer.extents import extent_of
from rlvr_cpp.verifier.tiers.observer.scope import (
    NAMES,
    OF_TEMPLATES,
    TEMPLATED,
    CannotSplit,
    Scopes,
    declared_name,
    mentions,
    names_in_lambdas,
)
from rlvr_cpp.verifier.tiers.observer.values import COMPARE, Knowledge, is_c_string, sent_type
from rlvr_cpp.verifier.tiers.oracle import CAN_BE_CAUGHT

REFERRING = ("std::ref", "ref", "std::cref", "cref")
LISTS = ("argument_list", "initializer_list", "subscript_argument_list")
Place = tuple[int, int]
"""Where a node stands in the test."""


def place_of(node: Node) -> Place:
    """The place of what a node says, without parentheses around it."""
    while node.type == "parenthesized_expression":
        node = node.named_children[0]
    return node.start_byte, node.end_byte


class Moved(Exception):
    """A variable or type of the test has to live in the observer: cut again."""


@dataclass
class Learned:
    """What is known about a test's expressions before it is cut, by their places; each round of planning adds to it."""

    types: dict[Place, str] = field(default_factory=dict)
    """Of values; empty of those that do not travel."""
    changed: set[Place] = field(default_factory=set)
    """Expressions that change variables of the test which they are given."""
    kept: frozenset[tuple[str, int]] = frozenset()
    """Parameters, by the function's name and their number, that trusted text takes by value or as constants: what the
    candidate does to such an argument never comes back."""
    unlifted: set[Place] = field(default_factory=set)
    """Expressions that mean the same only with their literals in place."""
    moved: set[str] = field(default_factory=set)
    """Variables and types of the test that live in the observer."""
    guesses: bool = False
    """Nothing says the candidate's types but what the test compares its values with."""


@dataclass
class Lifted:
    """An expression in the observer, and what it is sent."""

    text: str = ""
    declarations: list[str] = field(default_factory=list)
    """One for each argument, in their order."""
    arguments: list[str] = field(default_factory=list)
    """As the oracle says them."""
    literals: dict[int, Node] = field(default_factory=dict)
    """Arguments that are literals, by their number."""
    returned: list[str] = field(default_factory=list)
    """Writes back what the expression may have changed."""

    def send(self, declaration: str, argument: str) -> int:
        """One argument more; its number."""
        self.declarations.append(declaration)
        self.arguments.append(argument)
        return len(self.arguments) - 1


class Thunks:
    """The table of thunks, and the declarations among them."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        """Declarations and thunks, each on a line of its own, in the order of the test."""
        self.count = 0
        self.places: dict[int, list[Place]] = {}
        """The expressions that each thunk evaluates."""
        self._shapes: dict[str, int] = {}
        self._aliases: dict[str, str] = {}

    def add(self, place: Place, lifted: Lifted, body: Callable[[str], str]) -> int:
        """The number of the thunk that evaluates an expression; `body` writes its end, given that number."""
        return self.add_whole(
            place, lambda n: " ".join([*lifted.declarations, "rlvr_in.end();", body(n), *lifted.returned])
        )

    def add_whole(self, place: Place, body: Callable[[str], str]) -> int:
        """The number of the thunk whose text `body` writes, which reads the arguments, too."""
        shape = _thunk("#", body)
        known = self._shapes.get(shape)
        number = self.count if known is None else known
        if known is None:
            self._shapes[shape] = number
            self.lines.append(_thunk(str(number), body))
            self.count += 1
        self.places.setdefault(number, []).append(place)
        return number

    def alias(self, spelled: str) -> str:
        """A name for a type, the same for the same spelling."""
        if spelled not in self._aliases:
            self._aliases[spelled] = f"rlvr_Object{len(self._aliases)}"
            self.lines.append(f"using {self._aliases[spelled]} = {spelled};")
        return self._aliases[spelled]

    def maker(self, lifted: Lifted, result: str, returned: str) -> tuple[str, str]:
        """A function that evaluates an expression to an object of a type that nobody spells; its name, and an alias."""
        parts = " ".join([*lifted.declarations, "rlvr_in.end();", f"return {returned};"])
        line = f"static {result} rlvr_make_#(rlvr::Reader& rlvr_in) {{ {parts} }}".replace("\n", " ")
        if line not in self._aliases:
            number = len(self._aliases)
            self._aliases[line] = str(number)
            self.lines.append(line.replace("#", str(number)))
            made = f"decltype(rlvr_make_{number}(rlvr::some<rlvr::Reader&>()))"
            self.lines.append(f"using rlvr_Made{number} = rlvr::Unreferenced<{made}>::type;")
        return f"rlvr_make_{self._aliases[line]}", f"rlvr_Made{self._aliases[line]}"


def _thunk(number: str, body: Callable[[str], str]) -> str:
    header = f"static void rlvr_thunk_{number}(rlvr::Reader& rlvr_in, rlvr::Writer& rlvr_out)"
    return f"{header} {{ (void)rlvr_out; {body(number)} }}".replace("\n", " ")


class Lifter:
    """Takes expressions out of the test."""

    def __init__(self, scopes: Scopes, known: Knowledge, learned: Learned, functions: Iterable[str]) -> None:
        self.scopes, self.known, self.learned = scopes, known, learned
        self.functions = frozenset(functions)
        """The test's own functions."""
        self.called_back: set[str] = set()
        """Those among them that the observer needs."""
        self.checks: frozenset[str] = frozenset()
        """What judges: it is never said beside the candidate."""
        self.write_lambda: Callable[[Node], str] = node_text

    def lift(self, node: Node, makes: str = "") -> Lifted:
        """The expression as the observer evaluates it, where it `makes` an object of that type. Raises `Moved` or
        `CannotSplit`."""
        lifted = Lifted()
        taking = _Taking(self, node, lifted)
        taking.points = self.known.points(makes)
        taking.visit(node, is_argument=False)
        lifted.text = edited(node, taking.edits)
        return lifted

    def is_closed(self, node: Node) -> bool:
        """Whether a lambda has no state of the test in it and judges nothing, so that it may be repeated."""
        own = names_in_lambdas(node)
        for mention in mentions(node):
            name = node_text(mention)
            if name in self.checks:
                return False
            variable = self.scopes.look(name) if name not in own else None
            is_there = variable is None or variable.in_observer or variable.copy or variable.is_global
            if not is_there:
                return False
            if name in self.functions and name not in own:
                return False
        return True


class _Taking:
    """One expression being taken out."""

    def __init__(self, lifter: Lifter, whole: Node, lifted: Lifted) -> None:
        self.lifter, self.whole, self.lifted = lifter, whole, lifted
        self.edits: list[Edit] = []
        self.own = names_in_lambdas(whole)
        self.done: set[str] = set()
        self.lifts = place_of(whole) not in lifter.learned.unlifted
        self.points = False
        """What is made here holds on to the variables themselves that it is made of."""

    def visit(self, node: Node, is_argument: bool) -> None:
        """Have sent what stands in a node that is none of the candidate's."""
        if node.type == "lambda_expression":
            self._lambda(node)
        elif self._starts_to_point(node):
            self.points = True
            self.visit(node, is_argument)
            self.points = False
        elif node.type in NAMES:
            self._name(node)
        elif (is_argument or node.type == "field_expression") and self._is_sent(node):
            return
        else:
            is_list = node.type in LISTS or (node == self.whole and _compares(node))  # no expectation stays in a thunk
            for child in _below(node):
                self.visit(child, is_argument=is_list and child.is_named)

    def _lambda(self, node: Node) -> None:
        """A closure is called back, or repeated with everything that it says: it may capture nothing."""
        refuse_throws(node)
        if self.lifter.is_closed(node):
            lifts, self.lifts = self.lifts, False
            for child in node.children:
                self.visit(child, is_argument=False)
            self.lifts = lifts
        else:
            self._call_back(node)

    def _starts_to_point(self, node: Node) -> bool:
        """Whether a node makes an object of the test's that refers to what it is made of."""
        made = {"call_expression": "function", "compound_literal_expression": "type"}.get(node.type)
        if made is None or self.points:
            return False
        name = node_text(node.child_by_field_name(made))
        return name in REFERRING or self.lifter.known.points(name)

    def _is_sent(self, node: Node) -> bool:
        """Send the value of a part in which nothing depends on the candidate, where its type is plain."""
        is_plain = node.type not in ("initializer_list", "lambda_expression", *NAMES)
        if not self.lifts or not is_plain or self.lifter.scopes.depends(node):
            return False
        own_functions = {node_text(one) for one in mentions(node)} & self.own
        spelled = None if own_functions else self.lifter.known.type_of(node)
        sent = "const char*" if is_c_string(spelled or "") else sent_type(spelled or "")
        if sent is None:
            return False
        number, text = len(self.lifted.arguments), node_text(node)
        name = f"rlvr_given_{number}"
        if sent == "const char*":
            self.lifted.send(
                f"const char* const {name} = rlvr::get_text(rlvr_in);", f"static_cast<const char*>({text})"
            )
        else:
            self.lifted.send(f"const auto& {name} = rlvr::keep(rlvr_in.get<{sent}>());", f"rlvr::as<{sent}>({text})")
        if node.type in ("number_literal", "string_literal"):
            self.lifted.literals[number] = node
        self.edits.append(Edit(node.start_byte, node.end_byte, name))
        return True

    def _name(self, node: Node) -> None:
        name = node_text(node)
        if name in self.own or name in self.done:
            return
        variable = self.lifter.scopes.look(name)
        if variable is None:
            if name in self.lifter.functions:
                self.lifter.called_back.add(name)
            return
        self.done.add(name)
        sent = sent_type(variable.type)
        if variable.in_observer:
            reference = f"auto& {name} = rlvr::object<{variable.type}>(rlvr_in);"
            self.lifted.send(reference, variable.handle or name)
        elif variable.is_global:
            pass
        elif sent is not None:
            if self.points:
                raise Moved(name)
            self._send_variable(name, sent, variable.is_const)
        elif is_c_string(variable.type):
            self.lifted.send(
                f"const char* const {name} = rlvr::get_text(rlvr_in);", f"static_cast<const char*>({name})"
            )
        elif variable.copy:
            self.lifted.declarations.append(variable.copy)
        else:
            raise Moved(name)

    def _send_variable(self, name: str, sent: str, is_const: bool) -> None:
        is_open = not is_const and place_of(self.whole) in self.lifter.learned.changed
        changes = is_open and not self._is_kept(name)
        reference = f"{'' if is_open else 'const '}auto& {name} = rlvr::keep(rlvr_in.get<{sent}>());"
        self.lifted.send(reference, f"rlvr::changed({name})" if changes else f"rlvr::as<{sent}>({name})")
        if changes:
            self.lifted.returned.append(f"rlvr_out.put<{sent}>({name});")

    def _is_kept(self, name: str) -> bool:
        """Whether a variable is nothing but an argument where trusted text says that it stays what it is."""
        own = [one for one in mentions(self.whole) if node_text(one) == name]
        return all(_parameter_of(one) in self.lifter.learned.kept for one in own)

    def _call_back(self, node: Node) -> None:
        signature = signature_of(node, self.lifter.known)
        name = f"rlvr_given_{len(self.lifted.arguments)}"
        extent = extent_of(node)
        given = self.lifter.write_lambda(node) + (f", {extent}" if extent else "")
        self.lifted.send(
            f"const rlvr::Stub<{signature}> {name}{{rlvr_in.get<unsigned>()}};",
            f"rlvr::called_back<{signature}>({given})",
        )
        self.edits.append(Edit(node.start_byte, node.end_byte, name))


def throws_own(function: Node) -> bool:
    """Whether a function or lambda throws what is no exception of the library's: that does not travel."""
    return not types_thrown_in(function) <= CAN_BE_CAUGHT


def refuse_throws(function: Node) -> None:
    """Raise CannotSplit where a function or lambda that the candidate is given does."""
    if throws_own(function):
        raise CannotSplit("a callback of the test throws what is no exception of the library's")


def _compares(node: Node) -> bool:
    return node.type == "binary_expression" and node_text(node.child_by_field_name("operator")) in COMPARE


def _parameter_of(argument: Node) -> tuple[str, int] | None:
    """The called function's name and the argument's number; None where it is no argument of a plain call."""
    listed = argument.parent
    function = listed.parent.child_by_field_name("function") if listed is not None and listed.parent else None
    if listed is None or listed.type != "argument_list" or function is None:
        return None
    arguments = [child for child in listed.named_children if child.type != "comment"]
    return last_name(function), arguments.index(argument)


def kept_parameters(nodes: Iterable[Node]) -> frozenset[tuple[str, int]]:
    """Of functions that trusted text declares, the parameters that each overload takes by value or as constants."""
    kept: set[tuple[str, int]] = set()
    open_to_change: set[tuple[str, int]] = set()
    for node in nodes:
        name = last_name(node.child_by_field_name("declarator"))
        listed = node.child_by_field_name("parameters")
        for place, parameter in enumerate(listed.named_children if listed is not None else ()):
            spelled = node_text(parameter)
            is_plain = parameter.type in ("parameter_declaration", "optional_parameter_declaration")
            is_kept = is_plain and "*" not in spelled and ("&" not in spelled or "const" in spelled.split())
            (kept if is_kept else open_to_change).add((name, place))
    return frozenset(kept - open_to_change)


def last_name(node: Node | None) -> str:
    """The last name of what is called or declared, without template arguments."""
    words = re.findall(r"[A-Za-z_]\w*", node_text(node).partition("<")[0])
    return words[-1] if words else ""


def _below(node: Node) -> Iterator[Node]:
    """The children in which names may stand for something of the test."""
    if node.type == "field_expression":
        yield from filter(None, [node.child_by_field_name("argument")])
        field_name = node.child_by_field_name("field")
        if field_name is not None and field_name.type == "template_method":
            yield from filter(None, [field_name.child_by_field_name("arguments")])
    elif node.type == "qualified_identifier":
        scope, name = node.child_by_field_name("scope"), node.child_by_field_name("name")
        if scope is not None and node_text(scope) != "std":
            yield scope
        if name is not None and (name.type in TEMPLATED or scope is None):
            yield from ([name] if scope is None else (c for c in name.named_children if c.type in OF_TEMPLATES))
    else:
        yield from node.children


def edited(node: Node, edits: Sequence[Edit]) -> str:
    """The text of a node with parts replaced."""
    source, parts, done = node.text or b"", [], node.start_byte
    for edit in sorted(edits, key=lambda edit: (edit.start, edit.end)):
        parts += [source[done - node.start_byte : edit.start - node.start_byte], edit.text.encode()]
        done = edit.end
    return b"".join([*parts, source[done - node.start_byte :]]).decode(errors="replace")


def parameters_of(node: Node | None) -> list[Node]:
    """The parameters of a function's or lambda's declarator."""
    if node is None:
        return []
    listed = next((part for part in walk(node) if part.type == "parameter_list"), None)
    kinds = ("parameter_declaration", "optional_parameter_declaration")
    return [one for one in listed.named_children if one.type in kinds] if listed is not None else []


def signature_of(node: Node, known: Knowledge) -> str:
    """The signature of a lambda that is called back: its types have to travel. Raises CannotSplit."""
    declarator, body = node.child_by_field_name("declarator"), node.child_by_field_name("body")
    own: dict[str, str] = {}
    types = []
    for parameter in parameters_of(declarator):
        spelled, written = node_text(parameter.child_by_field_name("type")), node_text(parameter)
        sent = sent_type(spelled)
        if sent is None or "*" in written or ("&" in written and "const" not in written):
            raise CannotSplit(f"a callback of the test takes {written!r}, which does not travel")
        types.append(sent)
        own[declared_name(parameter.child_by_field_name("declarator"))] = sent
    trailing = next((part for part in walk(declarator or node) if part.type == "trailing_return_type"), None)
    said = None if trailing is None else node_text(trailing).removeprefix("->")
    result = _result_of(body, known, own) if said is None else sent_type(said)
    if result is None:
        raise CannotSplit("a callback of the test does not say what it returns")
    return f"{result}({', '.join(types)})"


def _result_of(body: Node | None, known: Knowledge, own: dict[str, str]) -> str | None:
    """What a lambda returns, as far as its first `return` says it."""
    returns = [part for part in walk(body) if part.type == "return_statement"] if body is not None else []
    if not returns or not returns[0].named_children:
        return "void"
    value = returns[0].named_children[0]
    found = known.type_of(value)
    if found is None:
        names = {node_text(one) for one in mentions(value)}
        kinds = {own.get(name) or "" for name in names} - {""}
        found = kinds.pop() if len(kinds) == 1 and value.type != "call_expression" else None
    return sent_type(found) if found is not None and re.search(r"\w", found) else None
