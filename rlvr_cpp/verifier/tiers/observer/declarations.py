"""The oracle's side of declarations: objects of the candidate become handles, the test's own variables stay.

Whether a variable stays is for its type to say, or for that of its value. What cannot be sent but never changes is
repeated in the observer.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from tree_sitter import Node

from rlvr_cpp.verifier.cpp.lexemes import node_text, walk
from rlvr_cpp.verifier.tiers.observer.expressions import Expressions, call, child_of, edit, short
from rlvr_cpp.verifier.tiers.observer.scope import CannotSplit, Variable, declared_name, mentions
from rlvr_cpp.verifier.tiers.observer.thunks import Lifted, edited, place_of, throws_own
from rlvr_cpp.verifier.tiers.observer.values import COMPARE, element_type, is_c_string, part_types, sent_type

INITIALIZERS = ("argument_list", "initializer_list", "parameter_list")


@dataclass(frozen=True)
class Declared:
    """One declarator of a declaration."""

    node: Node
    inner: Node
    """What is declared, without its initial value."""
    name: str
    value: Node | None
    kind: Node
    """The type that stands before all declarators."""
    qualifiers: str

    @property
    def is_auto(self) -> bool:
        """The type is that of the value."""
        return self.kind.type == "placeholder_type_specifier" or node_text(self.kind) == "auto"

    @property
    def is_const(self) -> bool:
        """It never changes."""
        return bool(self.qualifiers)

    def has(self, mark: str) -> bool:
        """`reference`, `pointer` or `array`: what the declarator makes of the type."""
        return any(part.type == f"{mark}_declarator" for part in _declarators(self.inner))


class Declarations(Expressions):
    """Cuts declarations."""

    text: str
    """The whole test."""
    templates: frozenset[str] = frozenset()
    """Class templates that trusted text names: a variable may leave their arguments out."""

    def declaration(self, node: Node) -> str:
        """The oracle's text of a declaration. Raises `Moved` or CannotSplit."""
        kind = child_of(node, "type")
        qualifiers = " ".join(node_text(child) for child in node.children if child.type == "type_qualifier")
        is_static = any(child.type == "storage_class_specifier" for child in node.children)
        declarators = node.children_by_field_name("declarator")
        if is_static and self.scopes.depends(node):
            raise CannotSplit(f"the test has a static object: {short(node)}")
        if not declarators and (self.scopes.depends(node) or kind.type.endswith("_specifier")):
            raise CannotSplit("the test defines a class inside of a function")
        return " ".join(self._declare(read_declarator(one, kind, qualifiers), node) for one in declarators)

    def _declare(self, declared: Declared, node: Node) -> str:
        if declared.inner.type == "structured_binding_declarator" or node_text(declared.inner).startswith("["):
            return self._bindings(declared)
        if self._lives_in_observer(declared):
            return self._object(declared)
        before = "".join(
            f"{node_text(child)} "
            for child in node.children
            if child.type in ("type_qualifier", "storage_class_specifier")
        )
        value = declared.value
        text, copy = node_text(declared.node), ""
        kind = self._kept_type(declared)
        if value is not None and value.type == "lambda_expression":
            text, copy = self._lambda_variable(declared, value, f"{before}{node_text(declared.kind)}")
        elif value is not None and self.scopes.depends(value):
            text = edited(declared.node, [edit(value, self._initial(value, kind))])
        elif sent_type(kind) is None and not is_c_string(kind) and self._is_constant(declared):
            constant = "" if "const" in before.split() or "constexpr" in before.split() else "const "
            copy = f"{constant}{before}{node_text(declared.kind)} {node_text(declared.node)};"
        self.scopes.declare(declared.name, Variable(type=kind, copy=copy, is_const=declared.is_const))
        return f"{before}{node_text(declared.kind)} {text};"

    def _lambda_variable(self, declared: Declared, value: Node, before: str) -> tuple[str, str]:
        """The oracle's text of a variable that holds a lambda, and what may be repeated of it."""
        is_closed = self.lifter.is_closed(value) and not self.scopes.depends(value) and not throws_own(value)
        with self.scopes.inside():
            _, parameters = self.parameters(value.child_by_field_name("declarator"))
        self.helpers[declared.name] = parameters
        text = edited(declared.node, [edit(value, self.lambda_text(value))])
        return text, f"{before} {node_text(declared.node)};" if is_closed else ""

    def _initial(self, value: Node, kind: str) -> str:
        """The first value of a variable that stays in the oracle."""
        sent = sent_type(kind) or sent_type(element_type(kind) or "")
        if value.type in ("argument_list", "initializer_list"):
            return self.each_child(value, sent)
        is_asked = not self.travels(value) or (self.learned.guesses and not _is_test(value))
        if sent is not None and is_asked:
            return self.value_as(value, sent)
        return self.expression(value, sent)

    def _lives_in_observer(self, declared: Declared) -> bool:
        value = declared.value
        if self.scopes.depends(declared.kind) or declared.name in self.learned.moved:
            return True
        if value is None or not self.scopes.depends(value) or value.type == "lambda_expression":
            return False
        if declared.has("reference") and not declared.is_const:
            return True
        if not declared.is_auto:
            return False
        unknown = self.learned.guesses and not _is_test(value)
        return unknown or declared.has("pointer") or not self.travels(value)

    def _kept_type(self, declared: Declared) -> str:
        """The type of a variable in the oracle as far as the text or the planner says it."""
        if declared.value is not None and declared.value.type == "lambda_expression":
            return ""
        if declared.is_auto:
            found = self.known.type_of(declared.value) if not self.scopes.depends(declared.value) else None
            learned = self.learned.types.get(place_of(declared.value)) if declared.value is not None else None
            is_test = declared.value is not None and _is_test(declared.value)
            return found or learned or ("bool" if is_test else "")
        shapes = {"pointer_declarator": "*", "array_declarator": "[]"}
        marks = "".join(shapes.get(part.type, "") for part in _declarators(declared.inner))
        return f"{'const ' if declared.is_const and marks else ''}{node_text(declared.kind)}{marks}"

    def _is_constant(self, declared: Declared) -> bool:
        """Whether a variable never changes and is made of nothing that is not there in the observer as well."""
        names = [node_text(part) for part in walk(declared.node) if part.type == "identifier"]
        own = [self.scopes.look(name) for name in names if name != declared.name]
        is_free = not any(variable is not None for variable in own)
        never_changes = declared.is_const or (declared.has("array") and not self.is_changed(declared.name))
        return is_free and declared.value is not None and never_changes

    def is_changed(self, name: str) -> bool:
        """Whether a variable may change: it stands beside an assignment, or something that changes it is called."""
        members = "push|pop|insert|erase|clear|emplace|resize|assign|append|swap|reset|str|ignore"
        change = rf"(\+\+|--)\s*{name}\b|&\s*{name}\b|>>\s*{name}\b|\b{name}\s*(\+\+|--|<<|>>|[-+*/%|&^]?=[^=]|<<=|>>=)"
        return re.search(rf"{change}|\b{name}\s*(\[[^]]*\]\s*[-+*/]?=[^=]|\.\s*({members}))", self.text) is not None

    def _bindings(self, declared: Declared) -> str:
        names = [node_text(part) for part in walk(declared.inner) if part.type == "identifier"]
        value = declared.value
        if value is None or not self.scopes.depends(value):
            kinds = part_types(self.known.type_of(value) or "")
            self.declare_parts(names, kinds)
            return f"{declared.qualifiers} {node_text(declared.kind)} {node_text(declared.node)};".strip()
        learned = self.learned.types.get(place_of(value), "?")
        if self.learned.guesses or learned == "" or (declared.has("reference") and not declared.is_const):
            made, alias = self.referred(value) if self.is_object(value) else self.made(value)
            return self.object_parts(names, made, alias, value)
        self.declare_parts(names, part_types(learned))
        return f"{declared.qualifiers} auto {node_text(declared.inner)} = {self.expression(value)};".strip()

    def declare_parts(self, names: list[str], kinds: list[str]) -> None:
        """Declare the names that a structured binding gives to parts of these types."""
        for place, name in enumerate(names):
            self.scopes.declare(name, Variable(type=kinds[place] if place < len(kinds) else ""))

    def object_parts(self, names: list[str], made: str, alias: str, node: Node) -> str:
        """Names for the parts of an object, which lives in the observer as a whole."""
        whole = f"rlvr_parts_{node.start_byte}"
        texts = [f"rlvr::Handle {whole} = {made};"]
        for place, name in enumerate(names):
            one = Lifted(
                declarations=[
                    f"auto& rlvr_whole = rlvr::object<{alias}>(rlvr_in); auto& [{', '.join(names)}] = rlvr_whole;"
                ]
            )
            maker, part = self.thunks.maker(one, "auto&", name)
            body = f"rlvr::put_slot(rlvr_out, rlvr::refer({maker}(rlvr_in)));"
            number = self.thunks.add_whole((node.start_byte, -2 - place), lambda n, body=body: body)  # type: ignore[misc]
            self.scopes.declare(name, Variable(type=part, in_observer=True))
            texts.append(f"rlvr::Handle {name} = rlvr::make({number}, {whole});")
        return " ".join(texts)

    def _object(self, declared: Declared) -> str:
        """A variable that lives in the observer."""
        if declared.has("array"):
            return self._array(declared)
        spelled = f"{declared.qualifiers} {node_text(declared.kind)}{'*' if declared.has('pointer') else ''}".strip()
        value = declared.value
        if declared.has("reference") and value is not None:
            made, alias = self.referred(value)
        elif value is not None and (declared.is_auto or node_text(declared.kind) in self.templates):
            made, alias = self._deduced(declared, value)
        else:
            made, alias = self._constructed(declared, spelled)
        self.scopes.declare(declared.name, Variable(type=alias, in_observer=True))
        return f"rlvr::Handle {declared.name} = {made};"

    def _array(self, declared: Declared) -> str:
        """Objects in a row, whose number stands in the test."""
        bounds = [
            part.child_by_field_name("size") for part in _declarators(declared.inner) if part.type == "array_declarator"
        ]
        value = declared.value
        listed = value.named_children if value is not None and value.type == "initializer_list" else []
        size = node_text(bounds[0]) if len(bounds) == 1 else ""
        if len(bounds) != 1 or not (size.isdigit() or (not size and listed)):
            raise CannotSplit(f"the test has an array of objects: {short(declared.node)}")
        alias = self.thunks.alias(f"{declared.qualifiers} {node_text(declared.kind)}".strip())
        size = size or str(len(listed))
        lifted = self.lifter.lift(value) if value is not None else Lifted()
        body = f"rlvr::put_slot(rlvr_out, rlvr::hold_array(new {alias}[{size}]{lifted.text}));"
        number = self.thunks.add(place_of(declared.node), lifted, lambda n: body)
        whole = self.thunks.alias(f"rlvr::Array<{alias}, {size}>::type")
        self.scopes.declare(declared.name, Variable(type=whole, in_observer=True))
        return f"rlvr::Handle {declared.name} = {call('rlvr::make', [str(number), *lifted.arguments])};"

    def _hoist(self, kind: Node) -> None:
        """Have the constants that a type is made of, such as the lambda behind a `decltype`, outside of all thunks."""
        for mention in mentions(kind):
            name = node_text(mention)
            variable = self.scopes.look(name)
            if variable is not None and variable.copy and not variable.is_global:
                self.thunks.lines.append(f"static {' '.join(variable.copy.split())}")
                self.scopes.declare(name, Variable(type=variable.type, is_global=True))

    def _deduced(self, declared: Declared, value: Node) -> tuple[str, str]:
        """An object whose type is that of its value, or what a class template deduces."""
        if declared.is_auto:
            return self.made(value)
        lifted = self.lifter.lift(value)
        written = lifted.text if value.type in INITIALIZERS else f"({lifted.text})"
        maker, alias = self.thunks.maker(lifted, "auto", f"{node_text(declared.kind)}{written}")
        body = f"rlvr::put_slot(rlvr_out, rlvr::hold(new {alias}({maker}(rlvr_in))));"
        number = self.thunks.add_whole(place_of(declared.node), lambda n: body)
        return call("rlvr::make", [str(number), *lifted.arguments]), alias

    def _constructed(self, declared: Declared, spelled: str) -> tuple[str, str]:
        self._hoist(declared.kind)
        alias, value = self.thunks.alias(spelled), declared.value
        if value is None:
            number = self.thunks.add_whole(
                place_of(declared.node), lambda n: f"rlvr_in.end(); rlvr::put_slot(rlvr_out, rlvr::hold(new {alias}));"
            )
            return f"rlvr::make({number})", alias
        lifted = self.lifter.lift(value, node_text(declared.kind))
        written = lifted.text if value.type in INITIALIZERS else f"({lifted.text})"
        number = self.thunks.add(
            place_of(value), lifted, lambda n: f"rlvr::put_slot(rlvr_out, rlvr::hold(new {alias}{written}));"
        )
        return call("rlvr::make", [str(number), *lifted.arguments]), alias


def read_declarator(node: Node, kind: Node, qualifiers: str) -> Declared:
    """One declarator; `Stack s(limit)`, which the parser takes for a function, is a variable."""
    value = node.child_by_field_name("value") if node.type == "init_declarator" else None
    inner = child_of(node, "declarator") if node.type == "init_declarator" else node
    if inner.type == "function_declarator":
        value, inner = inner.child_by_field_name("parameters"), child_of(inner, "declarator")
    return Declared(node, inner, declared_name(inner), value, kind, qualifiers)


def _declarators(node: Node | None) -> list[Node]:
    found = []
    while node is not None and node.type.endswith("_declarator"):
        found.append(node)
        inner = node.child_by_field_name("declarator")
        node = inner if inner is not None else node.named_children[-1] if node.named_children else None
    return found


def _is_test(node: Node) -> bool:
    """Whether an expression is true or false whatever the candidate's types are."""
    while node.type == "parenthesized_expression":
        node = node.named_children[0]
    operator = node_text(node.child_by_field_name("operator"))
    return node.type in ("binary_expression", "unary_expression") and operator in (*COMPARE, "&&", "||", "!")
