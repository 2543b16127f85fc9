"""The oracle's side of statements: control flow stays, declarations of the candidate's objects become handles.

A handle's destructor ends the object in the observer, so that destructors run where the test's scopes end, also while
an exception unwinds them. Exceptions of the candidate's own types are stood in for by one that holds a handle.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from tree_sitter import Node

from rlvr_cpp.verifier.cpp.lexemes import node_text, walk
from rlvr_cpp.verifier.tiers.observer.expressions import TRUTH, Expressions, call, child_of, edit, short
from rlvr_cpp.verifier.tiers.observer.scope import CannotSplit, Variable, declared_name, mentions
from rlvr_cpp.verifier.tiers.observer.thunks import Lifted, edited, place_of
from rlvr_cpp.verifier.tiers.observer.values import COMPARE, element_type, is_c_string, part_types, sent_type

WITH_BODIES = ("if_statement", "while_statement", "switch_statement", "do_statement", "else_clause", "case_statement")
CONDITIONS = ("condition_clause", "parenthesized_expression")
BLOCKS = ("compound_statement", "preproc_if", "preproc_ifdef", "preproc_else", "labeled_statement")
KEPT = ("comment", "break_statement", "continue_statement", "goto_statement", "preproc_call", "preproc_def")
NAMING = ("using_declaration", "alias_declaration", "type_definition", "static_assert_declaration")
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


class Statements(Expressions):
    """Cuts statements."""

    caught: list[str]
    """Types of the candidate's that the test catches."""
    text: str
    """The whole test."""

    def statement(self, node: Node) -> str:
        """The oracle's text of a statement. Raises `Moved` or CannotSplit."""
        if node.type == "init_statement":
            return self._compound(node)
        if node.type in BLOCKS or node.type in WITH_BODIES or node.type == "catch_clause":
            with self.scopes.inside():
                return self._catch(node) if node.type == "catch_clause" else self._compound(node)
        if node.type in KEPT or not node.is_named:
            return node_text(node)
        if node.type in NAMING:
            return self._naming(node)
        written = {
            "expression_statement": self._expression_statement,
            "declaration": self._declaration,
            "for_statement": self._for,
            "for_range_loop": self._range,
            "return_statement": lambda n: edited(n, [edit(c, self.expression(c)) for c in n.named_children]),
            "try_statement": self._compound,
            "condition_clause": self.expression,
        }.get(node.type)
        if written is not None:
            return written(node)
        if node.type.endswith("_expression"):
            return self.expression(node)
        if node.type in ("struct_specifier", "class_specifier"):
            raise CannotSplit("the test defines a class inside of a function")
        if self.scopes.depends(node):
            raise CannotSplit(f"a statement of the test cannot be taken apart: {short(node)}")
        return node_text(node)

    def _compound(self, node: Node) -> str:
        edits = []
        for child in node.named_children:
            is_condition = child.type in CONDITIONS and node.type in WITH_BODIES
            if child.type == "identifier" and node.type in ("preproc_ifdef",):
                continue
            if node.type == "case_statement" and child == node.child_by_field_name("value"):
                if self.scopes.depends(child):
                    raise CannotSplit(f"a switch of the test has a case of the candidate's: {short(child)}")
                continue
            edits.append(edit(child, self.expression(child, TRUTH) if is_condition else self.statement(child)))
        return edited(node, edits)

    def _expression_statement(self, node: Node) -> str:
        return edited(node, [edit(child, self.statement_expression(child)) for child in node.named_children])

    def _naming(self, node: Node) -> str:
        if not self.scopes.depends(node):
            return node_text(node)
        self.thunks.lines.append(" ".join(node_text(node).split()))
        name = node.child_by_field_name("name") or node.child_by_field_name("declarator")
        if node.type in ("alias_declaration", "type_definition") and name is not None:
            self.scopes.owed.add(node_text(name))
        if node.type == "using_declaration":
            self.scopes.owed.add(re.findall(r"\w+", node_text(node))[-1])
        return ""

    def _for(self, node: Node) -> str:
        with self.scopes.inside():
            edits = []
            for name in ("initializer", "condition", "update", "body"):
                part = node.child_by_field_name(name)
                if part is None:
                    continue
                is_statement = name == "body" or part.type == "declaration"
                if is_statement:
                    text = self.statement(part)
                else:
                    text = self.expression(part, TRUTH) if name == "condition" else self.statement_expression(part)
                edits.append(edit(part, text))
            return edited(node, edits)

    def _catch(self, node: Node) -> str:
        listed, body = child_of(node, "parameters"), child_of(node, "body")
        edits = []
        if self.scopes.depends(listed):
            parameter = listed.named_children[0]
            kind, name = (
                node_text(child_of(parameter, "type")),
                declared_name(parameter.child_by_field_name("declarator")),
            )
            if kind not in self.caught:
                self.caught.append(kind)
            number = self.caught.index(kind)
            edits.append(edit(listed, f"(const rlvr_Thrown{number}& rlvr_thrown_{number})"))
            if name:
                handle = f"rlvr_thrown_{number}.object"
                self.scopes.declare(name, Variable(type=self.thunks.alias(kind), in_observer=True, handle=handle))
        return edited(node, [*edits, edit(body, self.statement(body))])

    # ---------------------------------------------------------------------------------------------------- declarations

    def _declaration(self, node: Node) -> str:
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
        is_closed = self.lifter.is_closed(value) and not self.scopes.depends(value)
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
        never_changes = declared.is_const or (declared.has("array") and not self._is_changed(declared.name))
        return is_free and declared.value is not None and never_changes

    def _is_changed(self, name: str) -> bool:
        """Whether a variable may change: it stands beside an assignment, or something that changes it is called."""
        members = "push|pop|insert|erase|clear|emplace|resize|assign|append|swap|reset|str|ignore"
        change = rf"(\+\+|--)\s*{name}\b|&\s*{name}\b|>>\s*{name}\b|\b{name}\s*(\+\+|--|<<|>>|[-+*/%|&^]?=[^=]|<<=|>>=)"
        return re.search(rf"{change}|\b{name}\s*(\[[^]]*\]\s*[-+*/]?=[^=]|\.\s*({members}))", self.text) is not None

    def _bindings(self, declared: Declared) -> str:
        names = [node_text(part) for part in walk(declared.inner) if part.type == "identifier"]
        value = declared.value
        if value is None or not self.scopes.depends(value):
            kinds = part_types(self.known.type_of(value) or "")
            self._declare_parts(names, kinds)
            return f"{declared.qualifiers} {node_text(declared.kind)} {node_text(declared.node)};".strip()
        learned = self.learned.types.get(place_of(value), "?")
        if self.learned.guesses or learned == "" or (declared.has("reference") and not declared.is_const):
            made, alias = self.referred(value) if self.is_object(value) else self.made(value)
            return self._object_parts(names, made, alias, value)
        self._declare_parts(names, part_types(learned))
        return f"{declared.qualifiers} auto {node_text(declared.inner)} = {self.expression(value)};".strip()

    def _declare_parts(self, names: list[str], kinds: list[str]) -> None:
        for place, name in enumerate(names):
            self.scopes.declare(name, Variable(type=kinds[place] if place < len(kinds) else ""))

    def _object_parts(self, names: list[str], made: str, alias: str, node: Node) -> str:
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
        lifted = self.lifter.lift(value)
        written = lifted.text if value.type in INITIALIZERS else f"({lifted.text})"
        number = self.thunks.add(
            place_of(value), lifted, lambda n: f"rlvr::put_slot(rlvr_out, rlvr::hold(new {alias}{written}));"
        )
        return call("rlvr::make", [str(number), *lifted.arguments]), alias

    templates: frozenset[str] = frozenset()
    """Class templates that trusted text names: a variable may leave their arguments out."""

    # ---------------------------------------------------------------------------------------------------------- ranges

    def _range(self, node: Node) -> str:
        kind, own, right, body = (child_of(node, name) for name in ("type", "declarator", "right", "body"))
        depends = self.scopes.depends(right)
        is_value = depends and self.travels(right) and not self.learned.guesses and not self.is_object(right)
        if depends and not is_value:
            with self.scopes.inside():
                return self._walked(node, kind, own, right, body)
        with self.scopes.inside():
            edits = [edit(right, self.expression(right))] if depends else []
            spelled = f"{node_text(kind)}{'*' if own.type == 'pointer_declarator' else ''}"
            if node_text(kind) == "auto":
                spelled = element_type(self.learned.types.get(place_of(right)) or self._range_type(right)) or ""
            if _is_binding(own):
                names = [node_text(part) for part in walk(own) if part.type == "identifier"]
                self._declare_parts(names, part_types(spelled))
            else:
                self.scopes.declare(declared_name(own), Variable(type=spelled))
            return edited(node, [*edits, edit(body, self.statement(body))])

    def _range_type(self, right: Node) -> str:
        """The type of a range of the test's; of a list in braces that of its first element, as an array."""
        if right.type == "initializer_list" and right.named_children:
            return f"{self.known.type_of(right.named_children[0]) or ''}[]"
        return self.known.type_of(right) or ""

    def _walked(self, node: Node, kind: Node, own: Node, right: Node, body: Node) -> str:
        """A loop over an object of the candidate: its iterators are walked in the observer."""
        place = (node.start_byte, -1)
        if self.is_object(right):
            variable = self.scopes.look(node_text(right)) or Variable()
            made, holder, over = "", variable.type, variable.handle or node_text(right)
        else:
            made, holder = self.made(right)
            made, over = f"rlvr::Handle rlvr_over = {made}; ", "rlvr_over"
        begin, end, differ, step, iterator = self._iterators(holder, place)
        element = self._element(place, kind, own, iterator)
        text = self.statement(body)
        head = (
            f"rlvr::Handle rlvr_at = rlvr::make({begin}, {over}), rlvr_end = rlvr::make({end}, {over}); "
            f"rlvr::ask<bool>({differ}, rlvr_at, rlvr_end); rlvr::tell({step}, rlvr_at)"
        )
        return f"{{ {made}for ({head}) {{ {element} {text} }} }}"

    def _iterators(self, holder: str, place: tuple[int, int]) -> tuple[int, int, int, int, str]:
        """The thunks that begin, end, compare and step, and the alias of the iterator's type."""
        some = f"rlvr::some<{holder}&>()"
        first = self.thunks.alias(f"rlvr::Unreferenced<decltype(std::begin({some}))>::type")
        last = self.thunks.alias(f"rlvr::Unreferenced<decltype(std::end({some}))>::type")
        over = f"auto& rlvr_o = rlvr::object<{holder}>(rlvr_in); rlvr_in.end();"
        at = f"auto& rlvr_a = rlvr::object<{first}>(rlvr_in);"
        bodies = (
            f"{over} rlvr::put_slot(rlvr_out, rlvr::hold(new {first}(std::begin(rlvr_o))));",
            f"{over} rlvr::put_slot(rlvr_out, rlvr::hold(new {last}(std::end(rlvr_o))));",
            f"{at} auto& rlvr_e = rlvr::object<{last}>(rlvr_in); rlvr_in.end(); rlvr_out.put<bool>(rlvr_a != rlvr_e);",
            f"{at} rlvr_in.end(); ++rlvr_a;",
        )
        begin, end, differ, step = (self.thunks.add_whole(place, lambda n, b=b: b) for b in bodies)  # type: ignore[misc]
        return begin, end, differ, step, first

    def _element(self, place: tuple[int, int], kind: Node, own: Node, iterator: str) -> str:
        """The declaration of the loop's variable in the oracle."""
        name, spelled = declared_name(own), node_text(kind)
        found = self.learned.types.get(place)
        if found is None and self.learned.guesses:
            found = sent_type(spelled) or ""
        is_reference = "&" in node_text(own) and "const" not in node_text(own.parent).partition(")")[0].split()
        at = f"auto& rlvr_a = rlvr::object<{iterator}>(rlvr_in); rlvr_in.end();"
        if found == "" or self.scopes.depends(kind) or (is_reference and self._is_changed(name)):
            number = self.thunks.add_whole(place, lambda n: f"{at} rlvr::put_slot(rlvr_out, rlvr::refer(*rlvr_a));")
            alias = self.thunks.alias(f"rlvr::Unreferenced<decltype(*rlvr::some<{iterator}&>())>::type")
            if _is_binding(own):
                names = [node_text(part) for part in walk(own) if part.type == "identifier"]
                return self._object_parts(names, f"rlvr::make({number}, rlvr_at)", alias, own)
            self.scopes.declare(name, Variable(type=alias, in_observer=True))
            return f"rlvr::Handle {name} = rlvr::make({number}, rlvr_at);"
        number = self.thunks.add_whole(place, lambda n: f"{at} {_given(n, found)}")
        result = self.result_name(found or "int")
        if _is_binding(own):
            for part in walk(own):
                if part.type == "identifier":
                    self.scopes.declare(node_text(part), Variable())
            return f"auto {node_text(own).lstrip('& ')} = rlvr::ask<{result}>({number}, rlvr_at);"
        self.scopes.declare(name, Variable(type=found or "int"))
        return f"auto {name} = rlvr::ask<{result}>({number}, rlvr_at);"


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


def _given(thunk: str, found: str | None) -> str:
    """Sends what the iterator `rlvr_a` is at."""
    return f"rlvr::probe<{thunk}>(*rlvr_a);" if found is None else f"rlvr::give<{found}>(rlvr_out, *rlvr_a);"


def _is_binding(node: Node) -> bool:
    return node.type == "structured_binding_declarator" or node_text(node).lstrip("& ").startswith("[")


def _is_test(node: Node) -> bool:
    """Whether an expression is true or false whatever the candidate's types are."""
    while node.type == "parenthesized_expression":
        node = node.named_children[0]
    operator = node_text(node.child_by_field_name("operator"))
    return node.type in ("binary_expression", "unary_expression") and operator in (*COMPARE, "&&", "||", "!")
