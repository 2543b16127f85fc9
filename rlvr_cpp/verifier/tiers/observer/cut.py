"""Take a whole test apart: which of its declarations stay, which move to the observer, and the two texts that are made.

The observer holds what thunks mention and nothing more: types of the test that the candidate is used with, constants
that cannot be sent, stubs for functions that are called back. What compares or counts never goes there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from tree_sitter import Node

from rlvr_cpp.verifier.cpp.arrays import fenced
from rlvr_cpp.verifier.cpp.assertions import count_assertions
from rlvr_cpp.verifier.cpp.lexemes import node_text, parse, walk
from rlvr_cpp.verifier.cpp.signature import read_trusted_unit
from rlvr_cpp.verifier.tiers.observer.challenge import Pure, challenge_macros
from rlvr_cpp.verifier.tiers.observer.expressions import ASSERTS, child_of, edit, short
from rlvr_cpp.verifier.tiers.observer.extents import extents
from rlvr_cpp.verifier.tiers.observer.scope import (
    DECLARES,
    CannotSplit,
    Variable,
    declared_name,
    mentions,
    names_declared,
)
from rlvr_cpp.verifier.tiers.observer.statements import Statements
from rlvr_cpp.verifier.tiers.observer.thunks import Learned, Moved, Place, edited, parameters_of, refuse_throws
from rlvr_cpp.verifier.tiers.observer.units import header, templates, thrown_in_observer, thrown_in_oracle
from rlvr_cpp.verifier.tiers.observer.values import COMPARE, fields_of, sent_type
from rlvr_cpp.verifier.tiers.oracle import IN_PROCESS_NAMES, exceptions_of, rpc_text

MAX_ROUNDS = 40
TYPES = ("struct_specifier", "class_specifier", "union_specifier", "enum_specifier")
OUTPUT = ("cstdio", "stdio.h", "cassert", "assert.h", "iostream")
SAYS_OUTPUT = re.compile(r"\b(?:s?printf|puts|FILE|std(?:out|err|in)|cout|cerr|clog|cin|endl|[io]stream|assert)\b")
WORD = re.compile(r"[A-Za-z_]\w*")
CHECKS = frozenset((*ASSERTS, "printf", "cout", "cerr", "exit", "abort"))


@dataclass(frozen=True, kw_only=True)
class Cut:
    """A test in two texts."""

    oracle: str
    """A whole translation unit."""
    runtime: str
    """What every observer has alike: a unit that is linked with it."""
    observer: str
    """Stands behind the candidate, or behind declarations of what it owes."""
    quoted: tuple[str, ...]
    """Headers of the candidate that the test includes."""
    places: dict[int, list[Place]]
    """The expressions that each thunk evaluates."""
    self_judged: int
    challenged: int
    """Those that may be asked with other literals, too."""
    draws: tuple[int, ...]
    """By which draws each of them is."""
    probes: bool
    """Types have still to be found out."""


@dataclass(frozen=True)
class Owing:
    """What a test is taken apart by."""

    owed: frozenset[str]
    """Names that the candidate has to define."""
    callees: frozenset[str] = frozenset()
    """Functions that the test defines and the candidate is told of."""
    templates: frozenset[str] = frozenset()
    """Class templates among the owed names."""
    headers: tuple[str, ...] = ()
    """Of the library, which trusted text includes: a test that counts on them needs them in its own process, too."""
    pure: Pure = field(default_factory=Pure)
    """What trusted text says of calls that may be repeated."""
    draws: tuple[int, ...] | None = None
    """By which draws of other literals a reference bears to be asked each of the candidate's own comparisons: empty
    where it has not said so yet, None where there is none."""


@dataclass
class _Item:
    """A declaration of the test that the observer may need."""

    names: frozenset[str]
    text: str
    is_needed: bool = False
    has_state: bool = False


def cut_test(test: str, owing: Owing, learned: Learned) -> Cut:
    """The two texts of a test. Raises CannotSplit with the reason where there are none."""
    for _ in range(MAX_ROUNDS):
        try:
            return _Cutter(test, owing, learned).cut()
        except Moved as moved:
            name = str(moved.args[0])
            if name in learned.moved or not name.isidentifier():
                raise CannotSplit(f"{name!r} would have to be in both processes") from None
            learned.moved.add(name)
    raise CannotSplit("too much of the test would have to be beside the candidate")


@dataclass
class _Texts:
    """What the two units are made of."""

    standard: list[str] = field(default_factory=list)
    quoted: list[str] = field(default_factory=list)
    oracle: list[str] = field(default_factory=list)
    items: list[_Item] = field(default_factory=list)


class _Cutter(Statements):
    """One attempt."""

    def __init__(self, test: str, owing: Owing, learned: Learned) -> None:
        self.root = parse(test.encode(errors="replace"))
        self.text = test
        self.owing = owing
        self.caught = []
        self.extents = extents(self.root)
        self.templates = owing.templates
        self.texts = _Texts()
        self.defined = {
            declared_name(node.child_by_field_name("declarator")): node
            for node in self.root.children
            if node.type == "function_definition"
        }
        super().__init__(owing.owed, learned, frozenset(self.defined) - {"main"} - owing.owed)
        self.lifter.called_back |= owing.callees & self.defined.keys()
        self.macros = frozenset(
            node_text(child_of(node, "name")) for node in self.root.children if node.type == "preproc_function_def"
        )
        self.lifter.checks = CHECKS | self.macros
        self.pure, self.draws = owing.pure, owing.draws
        self.globals: set[str] = set()
        """Variables of the test that can change."""

    def cut(self) -> Cut:
        """Go through the test once."""
        if "main" not in self.defined:
            raise CannotSplit("the test has no main that the parser finds")
        if words := read_trusted_unit(self.text).identifiers & IN_PROCESS_NAMES:
            raise CannotSplit(f"the test uses {min(words)}, which has to happen in the candidate's process")
        self._declare_globals()
        for node in self.root.children:
            self._item(node)
        stubs, registered = self._stubs()
        self._reach("\n".join([*self.thunks.lines, *self.caught]))
        return self._assemble(stubs, registered)

    def _declare_globals(self) -> None:
        for node in self.root.children:
            if node.type == "function_definition":
                kind, name = node.child_by_field_name("type"), declared_name(node.child_by_field_name("declarator"))
                self.known.results[name] = node_text(kind)
            elif node.type in TYPES:
                self.known.fields[node_text(node.child_by_field_name("name"))] = dict(
                    fields_of(node.child_by_field_name("body"))
                )

    # ---------------------------------------------------------------------------------------------------------- items

    def _item(self, node: Node) -> None:
        handle = {
            "preproc_include": self._include,
            "preproc_def": self._macro,
            "preproc_function_def": self._macro,
            "using_declaration": self._using,
            "alias_declaration": self._alias,
            "type_definition": self._alias,
            "template_declaration": self._template,
            "declaration": self._top_declaration,
            "function_definition": self._function,
            **dict.fromkeys(TYPES, self._type),
        }.get(node.type)
        if handle is not None:
            handle(node)
        elif self.scopes.depends(node):
            raise CannotSplit(f"the test says at its top level what cannot be taken apart: {short(node)}")
        elif node.type == "namespace_definition":
            self._both(
                node, {node_text(node.child_by_field_name("name"))} | names_declared(child_of(node, "body").children)
            )
        elif node.type != "comment":
            self.texts.oracle.append(node_text(node))

    def _both(self, node: Node, names: Iterable[str], has_state: bool = False) -> None:
        """It stays in the oracle, and the observer may need it."""
        end = ";" if node.type in TYPES else ""
        self.texts.oracle.append(node_text(node) + end)
        self.texts.items.append(_Item(frozenset(names), node_text(node) + end, has_state=has_state))

    def _moves(self, node: Node, names: Iterable[str]) -> None:
        """It lives in the observer alone."""
        end = ";" if node.type in TYPES else ""
        self.texts.items.append(_Item(frozenset(names), node_text(node) + end, is_needed=True))
        self.scopes.owed.update(names)

    def _include(self, node: Node) -> None:
        path = node_text(node.child_by_field_name("path"))
        (self.texts.standard if path.startswith("<") else self.texts.quoted).append(path)

    def _macro(self, node: Node) -> None:
        words = set(WORD.findall(node_text(node.child_by_field_name("value"))))
        if words & self.scopes.owed:
            raise CannotSplit(f"a macro of the test uses the candidate itself: {short(node)}")
        self._both(node, {node_text(node.child_by_field_name("name"))})

    def _using(self, node: Node) -> None:
        is_needed = "namespace" in node_text(node).split()
        if self.scopes.depends(node):
            self._moves(node, ())
        else:
            self._both(node, {WORD.findall(node_text(node))[-1]})
            self.texts.items[-1].is_needed = is_needed

    def _alias(self, node: Node) -> None:
        name = node_text(node.child_by_field_name("name") or node.child_by_field_name("declarator"))
        if self.scopes.depends(node):
            self._moves(node, {name})
        else:
            self._both(node, {name})

    def _type(self, node: Node) -> None:
        name = node_text(node.child_by_field_name("name"))
        self.scopes.owed.discard(name)
        depends = self.scopes.depends(node)
        used = {node_text(mention) for mention in mentions(node)}
        if depends or name in self.learned.moved:
            self._refuse_checks(node, used)
            for changing in used & self.globals:
                raise Moved(changing)
            if _has_static(node):
                self.own_state.add(name)
            self._moves(node, {name})
        else:
            names = {name, *(node_text(child_of(one, "name")) for one in walk(node) if one.type == "enumerator")}
            self._both(node, names, has_state=_has_static(node) or bool(used & self.globals))

    def _refuse_checks(self, node: Node, used: set[str]) -> None:
        if bad := used & (CHECKS | self.macros):
            raise CannotSplit(f"the test checks, by {min(bad)}, inside of what has to be beside the candidate")

    def _template(self, node: Node) -> None:
        names = names_declared([node])
        is_function = any(child.type == "function_definition" for child in node.children)
        if self.scopes.depends(node) or names & self.learned.moved:
            if any(part.type == "binary_expression" and _compares(part) for part in walk(node)):
                raise CannotSplit(f"a template of the test compares values of the candidate: {short(node)}")
            self._refuse_checks(node, {node_text(mention) for mention in mentions(node)})
            self._moves(node, names)
        else:
            self._both(node, names)
            self.macros |= names if is_function else frozenset()

    def _top_declaration(self, node: Node) -> None:
        kind, declarators = node.child_by_field_name("type"), node.children_by_field_name("declarator")
        names = [declared_name(one) for one in declarators]
        is_function = any(part.type == "function_declarator" for one in declarators for part in _outer(one))
        owner = next((part for one in declarators for part in walk(one) if part.type == "qualified_identifier"), None)
        if is_function:
            self._prototype(node, names)
        elif owner is not None:
            scope = node_text(owner.child_by_field_name("scope")).partition("<")[0]
            has_moved = scope in self.scopes.owed
            self._moves(node, ()) if has_moved else self._both(node, {scope})
        elif set(names) & self.learned.moved:
            self.own_state.update(names)
            self._moves(node, names)
        elif self.scopes.depends(node):
            if self.scopes.depends(kind) and any("(" in node_text(one) for one in declarators) and not is_function:
                raise CannotSplit(f"the test has an object at its top level: {short(node)}")
            self.texts.oracle.append(self.declaration(node))
        else:
            self._variable(node, kind, names)

    def _variable(self, node: Node, kind: Node | None, names: list[str]) -> None:
        words = node_text(node).split()
        is_const = "const" in words or "constexpr" in words
        self.texts.oracle.append(self.declaration(node))
        for name in names:
            variable = self.scopes.look(name) or Variable()
            copy = node_text(node) if is_const and sent_type(variable.type) is None else ""
            self.scopes.declare(name, Variable(type=variable.type, copy=copy, is_const=is_const))
        if is_const:
            self.texts.items.append(_Item(frozenset(names), node_text(node)))
        else:
            self.globals |= set(names)

    def _prototype(self, node: Node, names: list[str]) -> None:
        if set(names) & self.scopes.owed or self.scopes.depends(node):
            self.texts.items.append(_Item(frozenset(names), node_text(node), is_needed=True))
            self.scopes.owed.update(set(names) - self.defined.keys())
        else:
            self._both(node, names)

    # ------------------------------------------------------------------------------------------------------ functions

    def _function(self, node: Node) -> None:
        declarator, body = child_of(node, "declarator"), node.child_by_field_name("body")
        name = declared_name(declarator)
        owner = next((part for part in walk(declarator) if part.type == "qualified_identifier"), None)
        if owner is not None and name == "":
            scope = node_text(owner.child_by_field_name("scope")).partition("<")[0]
            return self._moves(node, ()) if scope in self.scopes.owed else self._both(node, {scope})
        self.scopes.owed.discard(name)
        if not self.scopes.depends(node) or body is None:
            self.texts.oracle.append(node_text(node))
            return None
        result = node.child_by_field_name("type")
        if name != "main" and self.scopes.depends(result):
            return self._builder(node, name)
        with self.scopes.inside():
            edits, parameters = self.parameters(declarator)
            self.helpers[name] = parameters
            if any(one.in_observer for one in parameters):
                self.scopes.taking.add(name)
            self.texts.oracle.append(edited(node, [*edits, edit(body, self.statement(body))]))
        return None

    def _builder(self, node: Node, name: str) -> None:
        """A function that makes an object of the candidate's: it moves, as long as it judges nothing."""
        if self._compares_objects(node):
            raise CannotSplit(f"{name} of the test compares, beside the candidate that it makes an object of")
        used = {node_text(mention) for mention in mentions(node)}
        self._refuse_checks(node, used)
        for changing in used & self.globals:
            raise Moved(changing)
        self.lifter.called_back |= used & self.lifter.functions - {name}
        self.lifter.called_back.discard(name)
        self.lifter.functions -= {name}
        self._moves(node, {name})

    def _compares_objects(self, function: Node) -> bool:
        """Whether a function compares what it has of the candidate, but for a pointer with none."""
        own = self.scopes.owed | {
            declared_name(one)
            for part in walk(function)
            if part.type in DECLARES and self._may_be_object(part.child_by_field_name("type"))
            for one in part.children_by_field_name("declarator")
        }
        compared = (part for part in walk(function) if part.type == "binary_expression" and _compares(part))
        return any(
            own & {node_text(mention) for mention in mentions(part)}
            for part in compared
            if "nullptr" not in (node_text(side) for side in part.named_children)
        )

    def _may_be_object(self, kind: Node | None) -> bool:
        return self.scopes.depends(kind) or node_text(kind) == "auto"

    def _stubs(self) -> tuple[list[str], list[str]]:
        """Functions of the test as the observer calls them, and how the oracle offers them, in one order."""
        stubs: list[str] = []
        registered: list[str] = []
        for name in sorted(self.lifter.called_back):
            node = self.defined[name]
            refuse_throws(node)
            declarator, spelled = child_of(node, "declarator"), node_text(child_of(node, "type"))
            types = [node_text(p.child_by_field_name("type")) for p in parameters_of(declarator)]
            marks = [node_text(p) for p in parameters_of(declarator)]
            changes = any("*" in text or ("&" in text and "const" not in text) for text in marks)
            sent, result = [sent_type(one) for one in types], "void" if spelled == "void" else sent_type(spelled)
            if changes or None in sent or result is None or declarator.type != "function_declarator":
                raise CannotSplit(f"the candidate is given {name} of the test, whose types do not travel")
            listed = ", ".join(str(one) for one in sent)
            parameters = ", ".join(
                f"{'const ' if '&' in m else ''}{t}{'&' if '&' in m else ''} rlvr_{n}"
                for n, (t, m) in enumerate(zip(sent, marks, strict=True))
            )
            before = "static " if "static" in node_text(node).partition("(")[0].split() else ""
            arguments = ", ".join(f"rlvr_{n}" for n in range(len(sent)))
            stub = f"rlvr::Stub<{result}({listed})>{{{len(stubs)}}}"
            stubs.append(f"{before}{result} {name}({parameters}) {{ return {stub}({arguments}); }}")
            pointer = f"{spelled} (*)({', '.join(_parameter_type(p) for p in parameters_of(declarator))})"
            registered.append(f"rlvr::called_back<{result}({listed})>(static_cast<{pointer}>({name}))")
        return stubs, registered

    # ------------------------------------------------------------------------------------------------------- assembly

    def _reach(self, text: str) -> None:
        """Find the declarations that the observer needs. Raises `Moved` for one that has a state."""
        waiting = [text, *(item.text for item in self.texts.items if item.is_needed)]
        while waiting:
            words = set(WORD.findall(waiting.pop()))
            for item in self.texts.items:
                if not item.is_needed and item.names & words:
                    if item.has_state:
                        raise Moved(min(item.names & words))
                    item.is_needed = True
                    waiting.append(item.text)

    def _assemble(self, stubs: list[str], registered: list[str]) -> Cut:
        offered = f"static const unsigned rlvr_offered[] = {{{', '.join(registered)}}};"
        body = count_assertions("\n".join([*self.texts.oracle, *([offered] if registered else [])]))
        lines = [*(item.text for item in self.texts.items if item.is_needed), *stubs, *self.thunks.lines]
        probes = any("rlvr::probe<" in line for line in self.thunks.lines)
        kinds = templates([*self.thunks.lines, *stubs, *self.result_names])
        draws = self.draws or (0,) * self.challenged
        exceptions = exceptions_of(body, all_kinds=bool(self.caught))
        standard = dict.fromkeys([*self.texts.standard, *self.owing.headers])
        oracle = [
            rpc_text("RLVR_ORACLE", kinds, exceptions, [f"#include {path}" for path in standard]),
            *(challenge_macros(self.text, draws) if draws else []),
            *(["#include <exception>"] if self.caught else []),
            header(),
            *self.result_names,
            *thrown_in_oracle(len(self.caught)),
            body,
        ]
        return Cut(
            oracle=fenced(self.text, "\n".join(oracle) + "\n"),
            runtime="\n".join(
                ["#define RLVR_RUNTIME", rpc_text("RLVR_OBSERVER", frozenset(), exceptions, ()), header()]
            )
            + "\n",
            observer=self._observer(lines, kinds, exceptions, probes),
            quoted=tuple(self.texts.quoted),
            places=self.thunks.places,
            self_judged=self.self_judged,
            challenged=self.challenged,
            draws=draws,
            probes=probes,
        )

    def _observer(self, lines: list[str], kinds: frozenset[str], exceptions: frozenset[str], probes: bool) -> str:
        says = "\n".join(lines)
        standard = [path for path in self.texts.standard if path.strip("<>") not in OUTPUT or SAYS_OUTPUT.search(says)]
        standard += ["<iterator>"] if "std::begin(" in says else []
        table = ", ".join([*(f"rlvr_thunk_{number}" for number in range(self.thunks.count)), "nullptr"])
        parts = [
            "#undef main",
            "#define RLVR_APART",
            *(f"#include {path}" for path in standard),
            *(["#define RLVR_PROBE"] if probes else []),
            rpc_text("RLVR_OBSERVER", kinds, exceptions, ()),
            header(),
            *lines,
            *thrown_in_observer(self.caught, bool(exceptions)),
            f"static const rlvr::Thunk rlvr_thunks[] = {{{table}}};",
            f"int main() {{ return rlvr::serve_table(rlvr_thunks, {self.thunks.count}); }}",
        ]
        return "\n".join(parts) + "\n"


def _compares(node: Node) -> bool:
    return node_text(node.child_by_field_name("operator")) in COMPARE


def _outer(node: Node) -> Iterator[Node]:
    """The declarators of one declarator, without its first value."""
    while True:
        yield node
        inner = node.child_by_field_name("declarator")
        if inner is None or node.type == "init_declarator":
            return
        node = inner


def _parameter_type(node: Node) -> str:
    """The type of a parameter as the test spells it, with `const` and `&`."""
    own = node.child_by_field_name("declarator")
    text, name = node_text(node), declared_name(own)
    text = text.partition("=")[0]
    return re.sub(rf"\b{name}\b\s*$", "", text.strip()) if name else text


def _has_static(kind: Node) -> bool:
    """Whether a class has a variable of all of its objects."""
    fields = (node_text(part) for part in walk(kind) if part.type == "field_declaration")
    return any(text.startswith(("static ", "inline static ")) and "const" not in text for text in fields)
