"""An in-process verdict that is hard to forge: for tests that need the candidate's own classes or templates.

The seal (`seal.cpp`) is the program's real entry. It takes a nonce before any code of the candidate runs, calls the
harness's `main`, and only when that has returned leaves one record, {nonce, value}, on a descriptor of its own. A
marker counts only with that record: who prints it and ends the process, from a constructor, a destructor or a call, has
none. Three defences stand around the seal. Candidate and harness are separate objects where they can be, and the
candidate's exposes nothing but what the harness calls (tier B). Where they must share a translation unit (tier C), a
text between them undoes the candidate's macros, and comparisons whose outcome is known catch a faked `==`.

This is a fence and no wall: code in the same process can write to the harness's variables. Judging in another process
has no such hole, so it comes first.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from rlvr_cpp.verifier.cpp.lexemes import node_text, parse, possible_directives, readings
from rlvr_cpp.verifier.tiers.object_policy import is_library_name, read_object
from rlvr_cpp.verifier.verdict import Verdict, read_verdict
from rlvr_sandbox import Finished

if TYPE_CHECKING:
    from tree_sitter import Node

SEAL = Path(__file__).with_name("seal.cpp")
NONCE_SIZE = 16
NONCE_DESCRIPTOR, RECORD_DESCRIPTOR = 3, 4
TAMPERED = 0x71A3  # seal.cpp has the same number
RECORD = struct.Struct(f"<{NONCE_SIZE}si")
CLAIMS = ("ok", "wrong", "ambiguous", "forged")

LINK_FLAGS = ("-Wl,--wrap=main,--wrap=syscall", "-Wl,-z,relro,-z,now,-z,noexecstack")
"""What the final link needs, with the seal's object first and the harness's before the candidate's."""
SEAL_FLAGS = ("-std=c++17", "-O2", "-fPIE")
"""What the seal is compiled with, besides a choice of the standard library."""
EXITS = ("exit", "_exit", "_Exit", "quick_exit")


def read_record(data: bytes, nonce: bytes) -> int | None:
    """What the harness's `main` returned, from all that came on the record's descriptor; None unless it is one record.

    That is {nonce, 32-bit value}, little-endian, and nothing else.
    """
    if len(data) != RECORD.size or len(nonce) != NONCE_SIZE:
        return None
    seen, value = RECORD.unpack(data)
    return int(value) if seen == nonce else None


def sealed_verdict(run: Finished, record: bytes, nonce: bytes, declared: int | None) -> Verdict:
    """Judge a sealed run as `read_verdict` does, where a claim counts only with the record that bears it out.

    A marker, or an exit status of 0, without a record of the same status is `forged`.
    """
    verdict = read_verdict(run, has_tests=True, declared=declared)
    value = read_record(record, nonce)
    unborne = verdict.status in CLAIMS and (value is None or value & 255 != run.returncode)
    return Verdict("forged", total=declared or 0) if unborne or value == TAMPERED else verdict


def calls_exit(test: str) -> bool:
    """The harness may end the process itself, past the seal; only an object of its own can be redirected."""
    return any(word in EXITS for word in re.findall(r"\w+", test))


def redirect_exits_command(harness: str) -> list[str]:
    """Make the harness's object, compiled on its own, end the process through the seal."""
    return ["objcopy", *(f"--redefine-sym={name}=rlvr_{name}" for name in EXITS), harness]


def kept_symbols(harness: bytes, candidate: bytes) -> tuple[str, ...]:
    """What the candidate's object has to expose: what the harness's leaves to others. Raises MalformedObject."""
    wanted = read_object(harness).undefined() & read_object(candidate).defined()
    return tuple(sorted(name for name in wanted if not is_library_name(name)))


def borrowed_variables(harness: bytes, candidate: bytes) -> tuple[str, ...]:
    """Variables of the harness that the candidate uses: its counters, unless the prompt declares them.

    Raises MalformedObject.
    """
    wanted = read_object(candidate).undefined()
    return tuple(
        symbol.name
        for symbol in read_object(harness).symbols
        if symbol.defined and symbol.kind in ("object", "tls") and symbol.binding == "global" and symbol.name in wanted
    )


def publish_commands(harness: bytes, candidate: bytes, name: str) -> list[list[str]]:
    """Commands that make a `static` function which the harness calls one that a linker sees. Raises MalformedObject."""
    wanted = read_object(harness).undefined()
    hidden = [symbol.name for symbol in read_object(candidate).symbols if symbol.defined and symbol.binding == "local"]
    called = [(one, one.replace("_ZL", "_Z", 1)) for one in hidden if one.startswith("_ZL")]
    found = [(one, public) for one, public in called if public in wanted and not is_library_name(public)]
    if not found:
        return []
    renamed = ["objcopy", *(f"--redefine-sym={one}={public}" for one, public in found), name]
    return [renamed, ["objcopy", *(f"--globalize-symbol={public}" for _, public in found), name]]


def localise_commands(candidate: str, localised: str, kept: Sequence[str]) -> list[list[str]]:
    """Two commands after which `localised` is the candidate's object with only `kept` to be seen from outside.

    Groups are resolved first: a local copy of a template may not be discarded in favour of another object's. Only
    GNU ld can; the final link may be any linker's.
    """
    # With no name to keep, objcopy would keep all.
    keep = [f"--keep-global-symbol={name}" for name in kept or ("rlvr_nothing",)]
    return [
        ["ld.bfd", "-r", "--force-group-allocation", candidate, "-o", localised],
        ["objcopy", *keep, localised],
    ]


KEYWORD_TEXT = """
alignas alignof asm auto bool break case catch char char8_t char16_t char32_t class concept const consteval constexpr
constinit const_cast continue co_await co_return co_yield decltype default delete do double dynamic_cast else enum
explicit export extern false float for friend goto if inline int long mutable namespace new noexcept nullptr operator
private protected public register reinterpret_cast requires return short signed sizeof static static_assert static_cast
struct switch template this thread_local throw true try typedef typeid typename union unsigned using virtual void
volatile wchar_t while override final
"""
HARNESS_TEXT = """
main std assert NDEBUG printf puts fprintf putchar cout cerr endl string vector pair size begin end equal passed total
"""
BEYOND_REACH_TEXT = """
__FILE__ __LINE__ __DATE__ __TIME__ __TIMESTAMP__ __COUNTER__ __INCLUDE_LEVEL__ __BASE_FILE__ __FILE_NAME__ __cplusplus
__has_include __has_include_next __has_attribute __has_cpp_attribute __has_builtin __has_feature __has_extension
__VA_ARGS__ __VA_OPT__ _Pragma defined and and_eq bitand bitor compl not not_eq or or_eq xor xor_eq
"""
ALWAYS_UNDONE = tuple((KEYWORD_TEXT + HARNESS_TEXT).split())
BEYOND_REACH = frozenset(BEYOND_REACH_TEXT.split())  # the language forbids to undefine them
# What headers only ask about, and what keeps a candidate's own header from being read twice.
SWITCH = re.compile(
    r"_\w*_SOURCE|_GLIBCXX_(DEBUG\w*|ASSERTIONS|USE_CXX11_ABI)|_FILE_OFFSET_BITS|__STDC_\w+_MACROS|_USE_MATH_DEFINES|_CRT_\w+"
    r"|[A-Za-z]\w*_(H|HH|HPP|HXX)_?"
)
# Macros of the C headers, whose own definitions cannot come back: the headers have been read.
HEADER_VALUES = {
    "NULL": "__null",
    "EOF": "(-1)",
    "EXIT_SUCCESS": "0",
    "EXIT_FAILURE": "1",
    "RAND_MAX": "2147483647",
    "CHAR_BIT": "__CHAR_BIT__",
    "INT_MAX": "__INT_MAX__",
    "INT_MIN": "(-__INT_MAX__ - 1)",
    "UINT_MAX": "(__INT_MAX__ * 2U + 1U)",
    "LONG_MAX": "__LONG_MAX__",
    "LONG_MIN": "(-__LONG_MAX__ - 1L)",
    "LLONG_MAX": "__LONG_LONG_MAX__",
    "LLONG_MIN": "(-__LONG_LONG_MAX__ - 1LL)",
    "ULLONG_MAX": "(__LONG_LONG_MAX__ * 2ULL + 1ULL)",
    "SIZE_MAX": "__SIZE_MAX__",
    "INT32_MAX": "2147483647",
    "INT64_MAX": "__INT64_MAX__",
    "DBL_MAX": "__DBL_MAX__",
    "DBL_EPSILON": "__DBL_EPSILON__",
    "M_PI": "3.14159265358979323846",
    "M_E": "2.7182818284590452354",
}
RESET = """
#pragma pack()
#ifdef __clang__
#pragma clang optimize on
#else
#pragma GCC reset_options
#endif
"""
STACKED = re.compile(r'\b(?:push|pop)_macro\s*\(\s*\\?"\s*([A-Za-z_$][\w$]*)')
LIBRARY_TEXT = "std main equal compare size length data begin end memcmp strcmp strlen"
HEADER_PARTS = frozenset((KEYWORD_TEXT + LIBRARY_TEXT).split())


def macros_defined(code: str) -> list[str]:
    """Every macro that a text defines, and some that it only mentions in a comment, a string or a skipped part.

    A name stands as often as it is defined.
    """
    names = []
    for text in readings(code):
        names += [name for _, name in possible_directives(text, "define") if name] + STACKED.findall(text)
    return names


def macros_before_headers(code: str) -> tuple[str, ...]:
    """Macros that are defined before an `#include` and would rewrite the headers: keywords, `equal`, `__x`.

    Undoing them later is too late, the library's own comparisons have been bent.
    """
    found = []
    for text in readings(code):
        last = max((at for word in ("include", "import") for at, _ in possible_directives(text, word)), default=-1)
        found += [name for at, name in possible_directives(text, "define") if at < last and _is_a_part_of_headers(name)]
    return tuple(dict.fromkeys(found))


def between(code: str, harness: str, given: str = "") -> str:
    """What stands between the candidate's text and the harness's in one translation unit.

    Every macro of the candidate's ends here, whether the harness uses its name or not: one that the harness needs and
    nobody gave it is a way to rewrite it. Macros that `given`, the prompt, defines and the completion does not touch
    stay. Constants of the C headers get their own values back, and `assert` its header.
    """
    words = set(re.findall(r"\w+", harness))
    counts, trusted = Counter(macros_defined(code)), Counter(macros_defined(given))
    gone = [name for name, count in counts.items() if not _is_out_of_reach(name, words) and trusted[name] != count]
    lines = [f"#undef {name}" for name in dict.fromkeys([*ALWAYS_UNDONE, *gone])]
    lines += [f"#define {name} {HEADER_VALUES[name]}" for name in gone if name in HEADER_VALUES and name in words]
    if "assert" in words:
        lines.append("#include <assert.h>")
    return RESET + "\n".join(lines) + "\n"


def _is_out_of_reach(name: str, words: set[str]) -> bool:
    return (
        name in BEYOND_REACH
        or re.fullmatch(r"[A-Za-z_$][A-Za-z0-9_$]*", name) is None
        or (name not in words and SWITCH.fullmatch(name) is not None)
    )


def _is_a_part_of_headers(name: str) -> bool:
    reserved = re.match(r"__|_[A-Z]", name) is not None and re.search(r"[a-z]", name) is not None
    return name in HEADER_PARTS or reserved


CONTAINERS = re.compile(r"\bstd::(?:vector|string|pair|tuple|set|multiset|deque|list|array|optional|unordered_set)\b")
BUILTIN = re.compile(r"int|long|short|unsigned|signed|char|bool|\d+")
UNEVALUATED = re.compile(r"static_assert|template|decltype|sizeof|alignof|noexcept|requires|preproc|enumerator|case_")
INTEGER = re.compile(r"(-?(?:0|[1-9][0-9]{0,18}))[uUlL]*")
# `@` becomes a prefix made from the test's own text, which no candidate's name can meet.
DECOYS = """
#include <string>
#include <type_traits>
extern "C" unsigned rlvr_random();
extern "C" [[noreturn]] void rlvr_tampered();
template <class A, class B, class C>
using @plain = std::integral_constant<bool, std::is_same<typename std::decay<A>::type, B>::value
    || (std::is_same<typename std::decay<A>::type, std::string>::value && std::is_array<B>::value)>;
template <class A, class B, class C>
bool @decide(std::true_type, const A& value, const B& right, const C& wrong) {
    int answers[2] = {-1, -1};
    unsigned bits = rlvr_random();
    for (int round = 0; round < 24; ++round, bits >>= 1) {
        const unsigned side = round == 1 ? answers[0] >= 0 : bits & 1;
        const int answer = side ? value == wrong : value == right;
        if (answers[side] == !answer) rlvr_tampered();
        answers[side] = answer;
    }
    if (answers[0] && answers[1]) rlvr_tampered();
    return answers[0];
}
template <class A, class B, class C>
bool @decide(std::false_type, A&& value, const B& right, const C&) { return static_cast<A&&>(value) == right; }
template <class A, class B, class C>
bool @same(A&& value, const B& right, const C& wrong) {
    return @decide(@plain<A, B, C>(), static_cast<A&&>(value), right, wrong);
}
"""


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """A comparison of the harness's with a value that is spelt out."""

    node: Node
    type: str
    """The type's full text; empty for a bare string."""
    written: str
    """The type as it is written here."""
    value: str
    """The rest of the text."""
    leaves: frozenset[int | str]
    """Its elements but zeros and empty strings: values that differ here differ in every container of the standard's."""


@lru_cache(maxsize=512)
def with_decoys(test: str) -> str | None:
    """The test with its `x == literal` comparisons doubled: `x` is compared with another test's literal as well.

    Asked often and in an order that is drawn when the program runs, `==` must not say yes to both, nor now yes and now
    no; a fake does, and the record says so. No value equals two that differ, so an honest candidate is never accused,
    wrong as it may be. Only comparisons with literals of standard containers and strings are touched, since `==` of
    numbers cannot be replaced, and at run time only those whose left side has that very type. None where the test has
    none. The result needs the seal.
    """
    prefix = f"rlvr_{hashlib.sha256(test.encode(errors='replace')).hexdigest()[:12]}_"
    source = test.encode(errors="replace")
    root = parse(source)
    if root.has_error or "\0" in test:
        return None
    expectations = list(_expectations(root))
    edits = []
    for index, expectation in enumerate(expectations):
        rest = expectations[index + 1 :] + expectations[:index]
        wrong = next((e for e in rest if e.type == expectation.type and e.leaves != expectation.leaves), None)
        if wrong is not None:
            edits.append((expectation, expectation.written + wrong.value))
    for expectation, wrong_text in reversed(edits):
        node = expectation.node
        left, right = (node_text(node.child_by_field_name(side)) for side in ("left", "right"))
        doubled = f"{prefix}same({left}, {right}, {wrong_text})".encode()
        source = source[: node.start_byte] + doubled + source[node.end_byte :]
    return DECOYS.replace("@", prefix) + source.decode() if edits else None


def _expectations(root: Node) -> Iterator[Expectation]:
    aliases: dict[str, str] = {}
    stack = [root]
    while stack:
        node = stack.pop()
        if UNEVALUATED.match(node.type) or any(
            node_text(child) in ("constexpr", "consteval") for child in node.children
        ):
            continue
        if node.type in ("type_definition", "alias_declaration"):
            _note_alias(node, aliases)
        if node.type == "binary_expression" and node_text(node.child_by_field_name("operator")) == "==":
            found = _expectation(node, aliases)
            if found is not None:
                yield found
                continue  # an edit inside of an edit would need care, and its left side is a call
        stack.extend(reversed(node.children))


def _note_alias(node: Node, aliases: dict[str, str]) -> None:
    alias = node.child_by_field_name("declarator" if node.type == "type_definition" else "name")
    type_text = _tight(node_text(node.child_by_field_name("type")))
    name = node_text(alias)
    # A name that stands for two types, in two scopes, stands for none here.
    aliases[name] = type_text if aliases.get(name, type_text) == type_text else "?"


def _expectation(node: Node, aliases: dict[str, str]) -> Expectation | None:
    right = node.child_by_field_name("right")
    leaves = _leaves(right)
    if right is None or leaves is None:
        return None
    if right.type == "string_literal":
        return Expectation(node=node, type="", written="", value=node_text(right), leaves=leaves)
    written, value = node_text(right.child_by_field_name("type")), node_text(right.child_by_field_name("value"))
    full = _tight(written)
    full = aliases.get(full, full)
    # A string is never built from numbers here: {'a'} and {"a"} would be the same and look different.
    mixed = "string" in full and not re.search("pair|tuple", full) and not all(isinstance(leaf, str) for leaf in leaves)
    if mixed or not _is_plain(full):
        return None
    return Expectation(node=node, type=full, written=written, value=value, leaves=leaves)


def _tight(text: str) -> str:
    return re.sub(r"\s*([<>,:])\s*", r"\1", " ".join(text.split()))


def _is_plain(type_text: str) -> bool:
    """Containers of the standard's, spelt with `std::`, and built-in types only."""
    bare = CONTAINERS.sub("", type_text)
    return bare != type_text and all(BUILTIN.fullmatch(word) for word in re.findall(r"[^<>,\s]+", bare))


def _leaves(node: Node | None) -> frozenset[int | str] | None:
    """The elements of a literal, numbers as numbers; None for what is more than a literal."""
    if node is None:
        return None
    text = node_text(node)
    if node.type == "compound_literal_expression":
        value = node.child_by_field_name("value")
        return _leaves(value) if value is not None and value.type == "initializer_list" else None
    if node.type == "initializer_list":
        parts = [_leaves(child) for child in node.named_children if child.type != "compound_literal_expression"]
        return None if None in parts or len(parts) < node.named_child_count else frozenset().union(*filter(None, parts))
    if node.type == "string_literal":
        return frozenset({text[1:-1]} - {""}) if re.fullmatch(r'"[^"\\]*"', text) else None
    if node.type == "char_literal":
        return frozenset({ord(text[1])}) if re.fullmatch(r"'[ -~]'", text) and text[1] != "\\" else None
    if node.type in ("true", "false"):
        return frozenset({1} if node.type == "true" else ())
    number = INTEGER.fullmatch(text)
    return frozenset({int(number[1])} - {0}) if number else None
