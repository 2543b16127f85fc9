"""The oracle's side of statements: control flow stays, declarations of the candidate's objects become handles.

A handle's destructor ends the object in the observer, so that destructors run where the test's scopes end, also while
an exception unwinds them. Exceptions of the candidate's own types are stood in for by one that holds a handle.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from tree_sitter import Node

from rlvr_cpp.verifier.cpp.lexemes import node_text, walk
from rlvr_cpp.verifier.cpp.signature import read_trusted_unit
from rlvr_cpp.verifier.tiers.observer.declarations import Declarations
from rlvr_cpp.verifier.tiers.observer.expressions import TRUTH, child_of, edit, short
from rlvr_cpp.verifier.tiers.observer.extents import begin
from rlvr_cpp.verifier.tiers.observer.scope import CannotSplit, Variable, declared_name, is_binding
from rlvr_cpp.verifier.tiers.observer.thunks import edited, place_of
from rlvr_cpp.verifier.tiers.observer.values import element_type, part_types, sent_type
from rlvr_cpp.verifier.tiers.oracle import CAN_BE_CAUGHT

WITH_BODIES = ("if_statement", "while_statement", "switch_statement", "do_statement", "else_clause", "case_statement")
CONDITIONS = ("condition_clause", "parenthesized_expression")
BLOCKS = ("compound_statement", "preproc_if", "preproc_ifdef", "preproc_else", "labeled_statement")
KEPT = ("comment", "break_statement", "continue_statement", "goto_statement", "preproc_call", "preproc_def")
MAX_CAUGHT = 6
"""Classes that a test catches: what stands in for each set of them is compiled once for a task, in a second or two."""
FAILURE = re.compile(
    r"return\s*\(?\s*(?!0\b|EXIT_SUCCESS\b|true\b)[\w-]|(?:std::)?(?:abort|exit)\b|assert\s*\(\s*(?:false|0)\b"
)
NAMING = ("using_declaration", "alias_declaration", "type_definition", "static_assert_declaration")


class Statements(Declarations):
    """Cuts statements."""

    caught: list[str]
    """Types of the candidate's that the test catches."""
    extents: Mapping[tuple[int, int], str]
    """Statements behind which closures may be called, and by what variable that ends."""

    def statement(self, node: Node) -> str:
        """The oracle's text of a statement. Raises `Moved` or CannotSplit."""
        extent = self.extents.get((node.start_byte, node.end_byte))
        return self._statement(node) if extent is None else begin(node, self._statement(node), extent)

    def _statement(self, node: Node) -> str:
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
            "declaration": self.declaration,
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
            with self.negated(is_condition and _is_guard(node)):
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
        if self._catches_candidates(node, listed):
            parameter = listed.named_children[0]
            kind, own = node_text(child_of(parameter, "type")), parameter.child_by_field_name("declarator")
            if own is not None and "*" in node_text(own):
                raise CannotSplit(f"the test catches a pointer: {short(parameter)}")
            number, name = self._number_of_caught(kind), declared_name(own)
            edits.append(edit(listed, f"(const rlvr::Thrown<{number}>& rlvr_thrown_{number})"))
            if name:
                handle = f"rlvr_thrown_{number}.object"
                self.scopes.declare(name, Variable(type=self.thunks.alias(kind), in_observer=True, handle=handle))
        return edited(node, [*edits, edit(body, self.statement(body))])

    def _catches_candidates(self, node: Node, listed: Node) -> bool:
        """Whether what is caught is the candidate's, or else is thrown by it alone and does not travel: `int`."""
        if self.scopes.depends(listed) or not listed.named_children:
            return self.scopes.depends(listed)
        kind = node_text(listed.named_children[0].child_by_field_name("type"))
        travels = kind.removeprefix("::").removeprefix("std::") in CAN_BE_CAUGHT
        is_tests = kind in self.known.fields or "throw" in read_trusted_unit(self.text).identifiers
        tried = node.parent.child_by_field_name("body") if node.parent is not None else None
        return not travels and not is_tests and self.scopes.depends(tried)

    def _number_of_caught(self, kind: str) -> int:
        if kind not in self.caught:
            self.caught.append(kind)
        if len(self.caught) > MAX_CAUGHT:
            raise CannotSplit(f"the test catches more than {MAX_CAUGHT} classes of the candidate's")
        return self.caught.index(kind)

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
            if is_binding(own):
                names = [node_text(part) for part in walk(own) if part.type == "identifier"]
                self.declare_parts(names, part_types(spelled))
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
        if found == "" or self.scopes.depends(kind) or (is_reference and self.is_changed(name)):
            number = self.thunks.add_whole(place, lambda n: f"{at} rlvr::put_slot(rlvr_out, rlvr::refer(*rlvr_a));")
            alias = self.thunks.alias(f"rlvr::Unreferenced<decltype(*rlvr::some<{iterator}&>())>::type")
            if is_binding(own):
                names = [node_text(part) for part in walk(own) if part.type == "identifier"]
                return self.object_parts(names, f"rlvr::make({number}, rlvr_at)", alias, own)
            self.scopes.declare(name, Variable(type=alias, in_observer=True))
            return f"rlvr::Handle {name} = rlvr::make({number}, rlvr_at);"
        number = self.thunks.add_whole(place, lambda n: f"{at} {_given(n, found)}")
        result = self.result_name(found or "int")
        if is_binding(own):
            for part in walk(own):
                if part.type == "identifier":
                    self.scopes.declare(node_text(part), Variable())
            return f"auto {node_text(own).lstrip('& ')} = rlvr::ask<{result}>({number}, rlvr_at);"
        self.scopes.declare(name, Variable(type=found or "int"))
        return f"auto {name} = rlvr::ask<{result}>({number}, rlvr_at);"


def _is_guard(node: Node) -> bool:
    """Whether an `if` fails the test where its condition holds."""
    branch = node.child_by_field_name("consequence") if node.type == "if_statement" else None
    last = branch.named_children[-1] if branch is not None and branch.type == "compound_statement" else branch
    if last is None or last.type not in ("return_statement", "expression_statement", "throw_statement"):
        return False
    return last.type == "throw_statement" or FAILURE.match(node_text(last)) is not None


def _given(thunk: str, found: str | None) -> str:
    """Sends what the iterator `rlvr_a` is at."""
    return f"rlvr::probe<{thunk}>(*rlvr_a);" if found is None else f"rlvr::give<{found}>(rlvr_out, *rlvr_a);"
