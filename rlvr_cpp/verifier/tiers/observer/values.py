"""The types of values that a test sends and is sent: what its own text says about them, and what a compiler found."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache

from tree_sitter import Node

from rlvr_cpp.verifier.cpp.lexemes import node_text
from rlvr_cpp.verifier.tiers.observer.scope import Variable
from rlvr_cpp.verifier.tiers.travel import NUMBERS, read_value

COMPARE = frozenset(("==", "!=", "<", ">", "<=", ">=", "<=>"))
ARITHMETIC = frozenset("+-*/%&|^")
ANY_NUMBER = "rlvr::AnyNumber"
"""What travels where nobody says more than that a number is compared."""

WHOLE = re.compile(r"-?\d{1,9}(?P<suffix>[uU]?(?:ll|LL|l|L)?[uU]?)")
FRACTION = re.compile(r"-?(?:\d+\.\d*|\.\d+|\d+(?=[eE]))(?:[eE][-+]?\d+)?(?P<suffix>[fFlL]?)")
OF_SUFFIX = {
    "": "int",
    "u": "unsigned int",
    "l": "long",
    "ll": "long long",
    "ul": "unsigned long",
    "lu": "unsigned long",
}
OF_SUFFIX |= {"ull": "unsigned long long", "llu": "unsigned long long"}
OF_FRACTION = {"": "double", "f": "float", "l": "long double"}
POINTING = re.compile(r"[*&]|iterator\b|_view\b|\bspan\b|\breference_wrapper\b|\bfunction\b|_ptr\b")
"""In a declaration before its value: what it declares may outlive what it stands for."""
HOLDERS = ("vector", "set", "multiset", "list", "deque", "initializer_list", "unordered_set", "stack", "queue")
SIZES = ("size", "length", "count", "find")
ELEMENTS = ("front", "back", "top", "at")

LONG_STRING = re.compile(r"std::(?:__cxx11::)?basic_string<char, std::char_traits<char>, std::allocator<char> ?>")
C_STRING = re.compile(r"(?:const )?char(?: const)? ?\*")
NESTED = r"(?:[^<>]|<(?:[^<>]|<(?:[^<>]|<[^<>]*>)*>)*>)*"
DEFAULT_ARGUMENT = re.compile(rf", std::(?:allocator|less|hash|equal_to)<{NESTED}>\s*(?=[,>])")


def is_c_string(spelled: str) -> bool:
    """Whether a type as the test spells it is a string in C's way."""
    return C_STRING.fullmatch(" ".join(spelled.split()).replace("char const", "const char")) is not None


@lru_cache(maxsize=4096)
def sent_type(spelled: str) -> str | None:
    """The canonical form of a declared type without `const` and references; None where its values do not travel."""
    bare = re.sub(r"\bconst\b|\bconstexpr\b|&", " ", spelled).strip()
    found = read_value(bare) if bare else None
    return str(found) if found is not None else None


def found_type(demangled: str) -> str:
    """The canonical form of a type as a linker's tools spell it; empty where its values do not travel."""
    spelled = (
        LONG_STRING.sub("std::string", demangled).replace("std::__cxx11::", "std::").replace("std::__1::", "std::")
    )
    if C_STRING.fullmatch(spelled):
        return "std::string"
    if spelled == "std::_Bit_reference":
        return "bool"
    while (shorter := DEFAULT_ARGUMENT.sub("", spelled)) != spelled:
        spelled = shorter
    spelled = re.sub(r"\s+>", ">", spelled)
    return sent_type(re.sub(r"(?<=\d)ul(?=>)", "", spelled)) or ""


@lru_cache(maxsize=4096)
def literal_type(text: str) -> str | None:
    """The type of a literal that is a number, as far as it is plain."""
    if match := WHOLE.fullmatch(text):
        return OF_SUFFIX.get(match["suffix"].lower())
    if match := FRACTION.fullmatch(text):
        return OF_FRACTION[match["suffix"].lower()]
    return None


class Knowledge:
    """What the text of a test says about the types of its own expressions."""

    def __init__(self, look: Callable[[str], Variable | None]) -> None:
        self._look = look
        self.results: dict[str, str] = {}
        """What the test's own functions return."""
        self.fields: dict[str, dict[str, str]] = {}
        """The members of the test's own classes."""

    def points(self, spelled: str) -> bool:
        """Whether objects of a class of the test hold pointers or references."""
        return any(POINTING.search(kind) for kind in self.fields.get(bare_name(spelled), {}).values())

    def type_of(self, node: Node | None) -> str | None:
        """The type of an expression in which nothing depends on the candidate; None where it is not plain to see."""
        if node is None:
            return None
        readers: dict[str, Callable[[], str | None]] = {
            "number_literal": lambda: literal_type(node_text(node)),
            "string_literal": lambda: "const char*",
            "char_literal": lambda: "char",
            "true": lambda: "bool",
            "false": lambda: "bool",
            "identifier": lambda: self._of_variable(node),
            "parenthesized_expression": lambda: self.type_of(node.named_children[0]),
            "unary_expression": lambda: self._of_unary(node),
            "binary_expression": lambda: self._of_binary(node),
            "field_expression": lambda: self._of_field(node),
            "subscript_expression": lambda: element_type(self.type_of(node.child_by_field_name("argument")) or ""),
            "compound_literal_expression": lambda: sent_type(node_text(node.child_by_field_name("type"))),
            "call_expression": lambda: self._of_call(node),
            "cast_expression": lambda: sent_type(node_text(node.child_by_field_name("type"))),
        }
        return readers[node.type]() if node.type in readers else None

    def _of_variable(self, node: Node) -> str | None:
        variable = self._look(node_text(node))
        return variable.type or None if variable is not None and not variable.in_observer else None

    def _of_unary(self, node: Node) -> str | None:
        inner = self.type_of(node.child_by_field_name("argument"))
        return "bool" if node_text(node.child_by_field_name("operator")) == "!" else inner

    def _of_binary(self, node: Node) -> str | None:
        operator = node_text(node.child_by_field_name("operator"))
        if operator in COMPARE or operator in ("&&", "||"):
            return "bool"
        left, right = (self.type_of(node.child_by_field_name(side)) for side in ("left", "right"))
        return left if left == right or (left, right) == ("std::string", "const char*") else None

    def _of_field(self, node: Node) -> str | None:
        owner = self.type_of(node.child_by_field_name("argument")) or ""
        name, parts = node_text(node.child_by_field_name("field")), part_types(owner)
        if name in ("first", "second") and len(parts) == 2:
            return parts[name == "second"]
        return self.fields.get(bare_name(owner), {}).get(name)

    def _of_call(self, node: Node) -> str | None:
        function = node.child_by_field_name("function")
        if function is None:
            return None
        if function.type == "field_expression":
            owner = self.type_of(function.child_by_field_name("argument"))
            return _of_member(owner or "", node_text(function.child_by_field_name("field")))
        return self.results.get(node_text(function)) or sent_type(node_text(function))


@lru_cache(maxsize=4096)
def element_type(container: str) -> str | None:
    """What a container holds, or an array: its type is spelled with `[]`."""
    bare = bare_name(container)
    if bare.endswith("[]"):
        return bare.removesuffix("[]")
    kind = read_value(bare)
    if kind is not None and len(kind.arguments) == 2 and kind.name != "std::array":
        return f"std::pair<{kind.arguments[0]}, {kind.arguments[1]}>"
    if kind is not None:
        return "char" if kind.name == "std::string" else str(kind.arguments[0]) if kind.arguments else None
    match = re.fullmatch(rf"(?:std::)?(?:(?:{'|'.join(HOLDERS)})<(.*)|priority_queue<([^,]*).*)>", bare)
    return (match[1] or match[2]).strip() if match else None


def _of_member(owner: str, member: str) -> str | None:
    """What a member function of a container of the library returns."""
    if element_type(owner) is None:
        return None
    kind = read_value(owner)
    is_table = kind is not None and len(kind.arguments) == 2 and kind.name != "std::array"
    if member in ELEMENTS:
        return str(kind.arguments[1]) if is_table and kind is not None else element_type(owner)
    if member == "find":
        return "unsigned long" if kind is not None and kind.name == "std::string" else None
    return "bool" if member == "empty" else "unsigned long" if member in SIZES else None


def part_types(whole: str) -> list[str]:
    """The types of what a pair, a tuple or an array is bound to."""
    kind = read_value(whole)
    if kind is None or kind.name not in ("std::pair", "std::tuple", "std::array"):
        return []
    first, last = kind.arguments[0], kind.arguments[-1]
    return [str(first)] * last if isinstance(last, int) else [str(one) for one in kind.arguments]


def bare_name(spelled: str) -> str:
    """A type's name without `const` and references."""
    return re.sub(r"\bconst\b|&", "", spelled).strip()


def is_number(spelled: str | None) -> bool:
    """Whether a type is a number's."""
    return spelled is not None and (sent_type(spelled) or "") in NUMBERS


def fields_of(body: Node | None) -> Mapping[str, str]:
    """The types of the data members in a class."""
    found = {}
    for member in body.named_children if body is not None else ():
        if member.type == "field_declaration":
            before = "const " if any(child.type == "type_qualifier" for child in member.children) else ""
            spelled = before + node_text(member.child_by_field_name("type"))
            for declarator in member.children_by_field_name("declarator"):
                if declarator.type == "field_identifier":
                    found[node_text(declarator)] = spelled
                elif declarator.type in ("pointer_declarator", "reference_declarator") and declarator.named_children:
                    mark = "*" if declarator.type == "pointer_declarator" else "&"
                    found[node_text(declarator.named_children[-1])] = f"{spelled}{mark}"
    return found
