"""What a C++ text says at global scope: functions declared and defined, names of types, the function left open.

Everything is read from the syntax tree or from lexemes; nothing is compiled and no text makes it raise. A text that
the grammar does not understand yields fewer functions, never wrong ones that matter: whoever calls a function by a
signature found here has a compiler and a linker check it. Only the global scope counts: members, templates,
namespaces, `extern "C"` blocks and conditional lines are names that the text defines, not functions to be called.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import takewhile

from tree_sitter import Node

from rlvr_cpp.verifier.cpp.lexemes import OUTLINE, lexemes, node_text, parse

MAX_BYTES = 1 << 20
"""Longer texts are read as empty ones."""
MAX_ATTRIBUTES = 500
"""Texts in which `[[` stands more often are read as empty ones: the grammar takes quadratic time for them."""

MAX_DECLARATORS = 64
"""Of one declaration; functions among those behind are read as names."""

SPACE_BETWEEN_WORDS = re.compile(r"(?<=\w) (?=\w)")
NOT_PART_OF_A_TYPE = ("storage_class_specifier", "attribute_declaration", "attribute_specifier", "comment")
TYPE_DEFINITIONS = ("struct_specifier", "class_specifier", "union_specifier", "enum_specifier", "concept_definition")
DECLARATORS = ("pointer_declarator", "reference_declarator", "array_declarator", "parenthesized_declarator")


@dataclass(frozen=True)
class Parameter:
    """One parameter of a function."""

    type: str
    """As written, without name, default and attributes: `const int*`, `int[]`, `std::vector<int>&`."""
    name: str = ""
    """Empty where it has none."""
    default: str = ""
    """The expression behind `=`, as written."""


@dataclass(frozen=True)
class Function:
    """The signature of a function at global scope."""

    result: str
    """Its type, as written; behind the arrow where it trails."""
    name: str
    parameters: tuple[Parameter, ...] = ()
    specifiers: frozenset[str] = frozenset()
    """Of `static`, `inline`, `extern`, `constexpr`, `noexcept`, ...; other suffixes as written."""

    @property
    def key(self) -> tuple[str, ...]:
        """What tells overloads apart, as far as spelling goes."""
        return (self.name, *(parameter.type for parameter in self.parameters))


@dataclass(frozen=True)
class Unit:
    """A text, read at global scope."""

    text: str
    defined: tuple[Function, ...] = ()
    declared: tuple[Function, ...] = ()
    """Prototypes, with or without a definition in the same text."""
    includes: tuple[str, ...] = ()
    """Of `#include <name>`, in order; `"name"` keeps its quotes."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """What `typedef`, `using x =` and macros without parameters stand for, where that is a plain sequence of tokens."""
    names: frozenset[str] = frozenset()
    """Everything else that the text names: types, enumerators, templates, namespaces, macros with parameters, broken
    functions."""
    constants: frozenset[str] = frozenset()
    """Variables that are `const` or `constexpr`."""
    variables: frozenset[str] = frozenset()
    """Variables that can change, `extern` ones too."""
    uses_std: bool = False
    """It says `using namespace std;`."""

    @property
    def prototypes(self) -> tuple[Function, ...]:
        """The functions that it declares and does not define."""
        keys = {function.key for function in self.defined}
        return tuple(function for function in self.declared if function.key not in keys)

    @cached_property
    def mentions(self) -> Counter[str]:
        """How often each identifier stands in the text outside of comments, literals and qualified names."""
        return Counter(word for before, word in _words(self.text) if before not in (".", "->", "::"))

    @cached_property
    def identifiers(self) -> frozenset[str]:
        """Every identifier outside of comments and literals, members and qualified names too."""
        return frozenset(word for _, word in _words(self.text))

    def calls(self, name: str) -> bool:
        """Whether it mentions the function beyond declaring and defining it."""
        return self.mentions[name] > sum(function.name == name for function in (*self.declared, *self.defined))


@dataclass(frozen=True)
class Prompt:
    """A text that a completion continues."""

    context: str
    """What stands before the function that is left open; all of it where none is."""
    function: Function | None
    """The function at global scope that is left open; None where nothing is open."""


def read_unit(text: str, max_bytes: int = MAX_BYTES) -> Unit:
    """Read a text; one longer than `max_bytes`, or full of attributes, as an empty one. Never raises; see `Unit`."""
    source = text.encode(errors="replace")
    if len(source) > max_bytes or _is_endless(source):
        return Unit("")
    reader = _Reader()
    for node in parse(source).children:
        reader.read(node)
    return Unit(
        text,
        tuple(dict.fromkeys(reader.defined)),
        tuple(dict.fromkeys(reader.declared)),
        tuple(reader.includes),
        reader.aliases,
        frozenset(reader.names),
        frozenset(reader.constants),
        frozenset(reader.variables),
        reader.uses_std,
    )


read_trusted_unit = lru_cache(maxsize=512)(read_unit)
"""`read_unit` for tests and declarations, which come back with every answer to a task."""


@lru_cache(maxsize=512)
def read_prompt(text: str) -> Prompt | None:
    """The function that a text leaves open at its end, and what stands before it.

    None where it leaves something else open, such as a class: no function at global scope continues there.
    """
    brace = _open_brace(text)
    source = (text[:brace] if brace is not None else text).rstrip().encode(errors="replace")
    if len(source) <= MAX_BYTES and not _is_endless(source):
        root = parse(source + b"{}")
        last = root.children[-1] if root.children else None
        ends_in_one = last is not None and last.type == "function_definition" and last.end_byte == len(source) + 2
        # without a brace it may be prose that happens to end like a function
        function = _function(last) if last and ends_in_one and not (brace is None and root.has_error) else None
        if last is not None and function is not None:
            return Prompt(source[: last.start_byte].decode(errors="replace"), function)
    return Prompt(text, None) if brace is None else None


def tokens(text: str) -> list[str]:
    """The lexemes of a text without its comments."""
    return [lexeme.text for lexeme in lexemes(text) if lexeme.kind not in ("comment", "newline")]


def _words(text: str) -> Iterator[tuple[str, str]]:
    """Each identifier with the lexeme before it; a leading `::` is the global scope's and qualifies nothing."""
    before = further = ""
    for lexeme in lexemes(text):
        if lexeme.kind in ("comment", "newline"):
            continue
        if lexeme.kind == "word":
            is_global = before == "::" and not re.match(r"\w|>", further)
            yield "" if is_global else before, lexeme.text
        before, further = lexeme.text, before


def _open_brace(text: str) -> int | None:
    """Where the outermost brace stands that is never closed."""
    opened: list[int] = []
    for lexeme in lexemes(text, OUTLINE):
        if lexeme.kind == "brace" and lexeme.text == "{":
            opened.append(lexeme.start)
        elif lexeme.kind == "brace" and opened:
            opened.pop()
    return opened[0] if opened else None


def _is_endless(source: bytes) -> bool:
    return source.count(b"[[") > MAX_ATTRIBUTES


class _Reader:
    """Collects what the nodes at global scope say."""

    def __init__(self) -> None:
        self.defined: list[Function] = []
        self.declared: list[Function] = []
        self.includes: list[str] = []
        self.aliases: dict[str, str] = {}
        self.names: set[str] = set()
        self.constants: set[str] = set()
        self.variables: set[str] = set()
        self.uses_std = False

    def read(self, node: Node) -> None:
        """Take in one node at global scope."""
        if node.type == "function_definition":
            self.defined.extend(filter(None, [_function(node)]))
        elif node.type == "declaration":
            self._read_declaration(node)
        elif node.type == "preproc_include":
            path = node.child_by_field_name("path")
            self.includes.append(node_text(path).strip().removeprefix("<").removesuffix(">"))
        elif node.type == "using_declaration":
            self.uses_std |= tokens(node_text(node)) == ["using", "namespace", "std", ";"]
        else:
            self._read_names(node)

    def _read_declaration(self, node: Node) -> None:
        declarators = node.children_by_field_name("declarator")
        heading = _heading(node)
        functions = [_function(node, declarator, heading) for declarator in declarators[:MAX_DECLARATORS]]
        functions += [None] * (len(declarators) - len(functions))
        self.declared.extend(filter(None, functions))
        is_constant = any(child.type == "type_qualifier" and _is_constant(child) for child in node.children)
        for declarator, function in zip(declarators, functions, strict=True):
            if function is None and (name := _declared_name(declarator)) is not None:
                is_function = _function_declarator(declarator) is not None  # one that could not be read
                kind = self.names if is_function else self.constants if is_constant else self.variables
                kind.add(node_text(name))
        self._read_type(node.child_by_field_name("type"))

    def _read_names(self, node: Node) -> None:
        if node.type == "type_definition":
            self._read_typedef(node)
        elif node.type in ("alias_declaration", "preproc_def"):
            meaning = node.child_by_field_name("type") or node.child_by_field_name("value")
            self.aliases[node_text(node.child_by_field_name("name"))] = node_text(meaning)
        elif node.type in ("preproc_function_def", "namespace_definition", "namespace_alias_definition"):
            self.names.add(node_text(node.child_by_field_name("name")))
        elif node.type == "template_declaration":
            self.names.update(_template_names(node))
        else:
            self._read_type(node)

    def _read_typedef(self, node: Node) -> None:
        meaning = node.child_by_field_name("type")
        for declarator in node.children_by_field_name("declarator"):
            if declarator.type == "type_identifier":
                before = node.text[: meaning.start_byte - node.start_byte] if meaning and node.text else b""
                qualifiers = before.decode(errors="replace").replace("typedef", "")
                self.aliases[node_text(declarator)] = f"{qualifiers} {node_text(meaning)}"
            else:
                self.names.update(node_text(name) for name in _leaves(declarator) if name.type == "type_identifier")
        self._read_type(meaning)

    def _read_type(self, node: Node | None) -> None:
        if node is None or node.type not in TYPE_DEFINITIONS:
            return
        if (name := node.child_by_field_name("name")) is not None:
            self.names.add(node_text(name))
        listed = node.child_by_field_name("body") if node.type == "enum_specifier" else None
        if listed is not None and not any(child.type in ("class", "struct") for child in node.children):
            named = (child.child_by_field_name("name") for child in listed.named_children)
            self.names.update(node_text(one) for one in named if one is not None)


def _template_names(node: Node) -> Iterator[str]:
    """The name that a template declares: a class, a function, an alias, a variable."""
    inner = node.named_children[-1]
    name = inner.child_by_field_name("name")
    declarators = [name] if name is not None else inner.children_by_field_name("declarator")
    for declarator in declarators:
        function = _function_declarator(declarator)
        found = _declared_name(declarator if function is None else function.child_by_field_name("declarator"))
        yield node_text(found)


def _function(node: Node, declarator: Node | None = None, heading: list[Node] | None = None) -> Function | None:
    """The function that a definition or one declarator of a declaration names; None where it names no plain one.

    `heading` is the declaration's, for all of its declarators at once.
    """
    whole = _function_declarator(declarator or node.child_by_field_name("declarator"))
    if whole is None or node.child_by_field_name("type") is None:
        return None
    name, listed = whole.child_by_field_name("declarator"), whole.child_by_field_name("parameters")
    if name is None or name.type != "identifier" or listed is None or _is_broken(listed):
        return None
    suffixes = [child for child in whole.children if child.start_byte >= listed.end_byte]
    trailing = [child for child in suffixes if child.type == "trailing_return_type"]
    heading = _heading(node) if heading is None else heading
    result = _result(heading, declarator or node.child_by_field_name("declarator"), whole, trailing)
    parameters = [_parameter(child) for child in listed.children if child.type not in ("(", ")", ",", "comment")]
    if len(parameters) == 1 and parameters[0] == Parameter("void"):
        parameters = []
    return Function(result, node_text(name), tuple(parameters), _specifiers(heading, suffixes))


def _is_broken(listed: Node) -> bool:
    """Whether a list of parameters has an error outside of the defaults: the grammar does not know `= {1, 2}`."""
    for parameter in listed.children:
        default = parameter.child_by_field_name("default_value")
        parts = [part for part in parameter.children if part != default] or [parameter]
        if parameter.is_error or any(part.has_error or part.is_missing for part in parts):
            return True
    return False


def _heading(node: Node) -> list[Node]:
    """The tokens of a declaration that all of its declarators share: specifiers and type."""
    first = node.child_by_field_name("declarator")
    shared = takewhile(lambda child: first is None or child.start_byte < first.start_byte, node.children)
    return [
        leaf for child in shared for leaf in ([child] if child.type == "storage_class_specifier" else _leaves(child))
    ]


def _result(heading: list[Node], own: Node | None, whole: Node, trailing: list[Node]) -> str:
    """The tokens before the declarator, this one's own `*` and `&` included; or those behind the arrow."""
    if trailing:
        return _joined(leaf for leaf in _leaves(trailing[0]) if leaf.type != "->")
    marks = _leaves(own) if own is not None else iter(())
    leaves = [*heading, *takewhile(lambda leaf: leaf.end_byte <= whole.start_byte, marks)]
    kept = (leaf for leaf in leaves if not _is_specifier(leaf))
    return _joined(kept)


def _specifiers(heading: list[Node], suffixes: list[Node]) -> frozenset[str]:
    words = {node_text(leaf) for leaf in heading if _is_specifier(leaf)}
    ignored = (*NOT_PART_OF_A_TYPE, "trailing_return_type")
    return frozenset(words | {node_text(child) for child in suffixes if child.type not in ignored})


def _is_specifier(node: Node) -> bool:
    return node.type == "storage_class_specifier" or node_text(node) in ("constexpr", "consteval")


def _function_declarator(node: Node | None) -> Node | None:
    """The function's declarator inside of the `*` and `&` of its result."""
    while node is not None and node.type in ("pointer_declarator", "reference_declarator"):
        node = _inner(node)
    return node if node is not None and node.type == "function_declarator" else None


def _parameter(node: Node) -> Parameter:
    default = node.child_by_field_name("default_value")
    name = _declared_name(node.child_by_field_name("declarator"))
    kept = [
        leaf
        for leaf in _leaves(node)
        if not (name is not None and leaf.start_byte == name.start_byte)
        and not (default is not None and leaf.start_byte >= default.start_byte)
        and leaf.type != "="
    ]
    return Parameter(_joined(kept), node_text(name), node_text(default).strip())


def _declared_name(node: Node | None) -> Node | None:
    """The identifier inside of a declarator."""
    while node is not None and node.type in (*DECLARATORS, "init_declarator", "function_declarator"):
        node = _inner(node)
    return node if node is not None and node.type in ("identifier", "type_identifier") else None


def _inner(node: Node) -> Node | None:
    """What a declarator wraps; the grammar names that child only for some of them."""
    named = node.child_by_field_name("declarator")
    if named is not None or not node.named_children:
        return named
    return node.named_children[-1]


def _leaves(node: Node) -> Iterator[Node]:
    """The tokens of a type or declarator in order, without specifiers, attributes, comments and bodies."""
    stack = [node]
    while stack:
        current = stack.pop()
        if current.type in NOT_PART_OF_A_TYPE or current.type == "compound_statement":
            continue
        if current.children:
            stack.extend(reversed(current.children))
        elif current.text:
            yield current


def _joined(leaves: Iterable[Node]) -> str:
    spaced = " ".join(node_text(leaf) for leaf in leaves)
    return SPACE_BETWEEN_WORDS.sub("\0", spaced).replace(" ", "").replace("\0", " ")


def _is_constant(node: Node) -> bool:
    return node_text(node) in ("const", "constexpr", "constinit")
