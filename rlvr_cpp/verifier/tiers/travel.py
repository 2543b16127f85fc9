"""The types whose values can travel between two processes, and how one parameter of a function does.

A type is read into a canonical form in which aliases are expanded and every name is from a fixed list, so that a
signature found in an untrusted text can be written out again without one token of that text. A `Passage` is the C++
that carries one parameter: a line for each of the places where it appears.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import KW_ONLY, dataclass, replace

from rlvr_cpp.verifier.cpp.signature import Function, tokens

INTEGERS = frozenset(
    f"{sign}{kind}" for sign in ("", "unsigned ") for kind in ("short", "int", "long", "long long", "__int128")
)
CHARACTERS = frozenset(("char", "signed char", "unsigned char", "wchar_t", "char8_t", "char16_t", "char32_t"))
FLOATS = frozenset(("float", "double", "long double"))
ARITHMETIC = INTEGERS | CHARACTERS | FLOATS | {"bool"}
BUILTIN_WORDS = frozenset(word for name in ARITHMETIC for word in name.split()) | {"signed"}
LIBRARY_NUMBERS = {
    **{f"{u}int{bits}_t": f"__{u.upper()}INT{bits}_TYPE__" for u in ("", "u") for bits in (8, 16, 32, 64)},
    **{name: f"__{name.removesuffix('_t').upper()}_TYPE__" for name in ("size_t", "ptrdiff_t", "intptr_t")},
    **{name: f"__{name.removesuffix('_t').upper()}_TYPE__" for name in ("uintptr_t", "intmax_t", "uintmax_t")},
    "ssize_t": "__PTRDIFF_TYPE__",
}
"""Names of the library for built-in types, and the compiler's own names for the same: they need no header."""
NUMBERS = ARITHMETIC | frozenset(LIBRARY_NUMBERS.values())
LENGTH_TYPES = INTEGERS - {"__int128", "unsigned __int128"} | frozenset(LIBRARY_NUMBERS.values())

SEQUENCES = ("vector", "deque", "list", "set", "multiset", "unordered_set", "optional", "complex")
TABLES = ("map", "multimap", "unordered_map", "pair")
TEMPLATES = {**dict.fromkeys(SEQUENCES, 1), **dict.fromkeys(TABLES, 2), "array": 2, "tuple": None}
"""How many arguments each of the library's templates takes; None is one or more."""
HASHED = ("std::unordered_set", "std::unordered_map")

MAX_LENGTH, MAX_TOKENS, MAX_DEPTH = 1000, 120, 8
"""Of a type: the characters as written, the tokens with its aliases expanded, the nesting."""
MAX_ELEMENTS = 4096
"""Of fixed-size arrays: they live on the stack."""

LENGTH = re.compile(r"(?i).*(len|length|size|sz)[0-9]?")
COUNT = re.compile(rf"(?i)[nm][a-z0-9]?|{LENGTH.pattern[4:]}|.*(count|cnt)[0-9]?|(num|n)_.*")
"""Names of a parameter that says how many elements the pointer before it points to; `n` behind a C string does not."""
DEFAULT = re.compile(r"-?[0-9][0-9.]*(?:[eE][+-]?[0-9]+)?[uUlLfF]{0,3}|true|false|nullptr|\{\}")
"""Default arguments that may come from an untrusted text."""


@dataclass(frozen=True)
class Type:
    """A type in canonical form."""

    name: str
    """`int`, `std::vector`, `void`, ..."""
    arguments: tuple[Type | int, ...] = ()
    _: KW_ONLY
    is_const: bool = False
    reach: str = ""
    """What stands behind it: nothing, `&`, `&&` or `*`. References and pointers only occur on the outside."""

    def __str__(self) -> str:
        listed = f"<{', '.join(map(str, self.arguments))}>" if self.arguments else ""
        return f"{'const ' if self.is_const else ''}{self.name}{listed}{self.reach}"

    @property
    def value(self) -> Type:
        """The same type without `const` and without what stands behind it."""
        return replace(self, is_const=False, reach="")

    @property
    def templates(self) -> Iterator[str]:
        """The names in `std` that it is built of, without the namespace."""
        if self.name.startswith("std::"):
            yield self.name.removeprefix("std::")
        for argument in self.arguments:
            if isinstance(argument, Type):
                yield from argument.templates


@dataclass(frozen=True, kw_only=True)
class Passage:
    """How one parameter travels. `{x}` in `send` and `take_back` is the caller's own parameter."""

    type: Type
    """The parameter's type, as a prototype of the function says it."""
    send: str
    """In the oracle: writes the argument."""
    take: str
    """In the worker: declares the argument, read from the request."""
    argument: str
    """In the worker: what the function is given."""
    send_back: str = ""
    """In the worker: writes what the function may have changed."""
    take_back: str = ""
    """In the oracle: reads it into the caller's object."""
    default: str = ""
    """The default argument."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A function that can be called in another process."""

    name: str
    result: Type
    passages: tuple[Passage, ...]
    is_noexcept: bool

    @property
    def key(self) -> tuple[str, ...]:
        """What tells overloads apart."""
        return (self.name, *(str(passage.type) for passage in self.passages))

    @property
    def size(self) -> int:
        """How many templates of `std` its signature is built of, each as often as it stands there."""
        return sum(1 for one in (self.result, *(passage.type for passage in self.passages)) for _ in one.templates)

    @property
    def templates(self) -> frozenset[str]:
        """The names in `std` that its signature is built of."""
        types = (self.result, *(passage.type for passage in self.passages))
        return frozenset(name for one in types for name in one.templates)


def read_type(text: str, aliases: Mapping[str, str], names: frozenset[str] = frozenset()) -> Type | None:
    """The canonical form of a type; None where it is not built of names that are known to travel.

    `aliases` and `names` are what the text that the type comes from defines: the latter shadow the library's.
    """
    expanded = _expand(text, aliases)
    if expanded is None:
        return None
    parser = _TypeParser(expanded, names | frozenset(aliases))
    found = parser.read(outside=True)
    return found if not parser.rest and found is not None and _elements(found) <= MAX_ELEMENTS else None


def read_value(text: str) -> Type | None:
    """The canonical form of a type without reference, whose values travel; None of any other."""
    found = read_type(text, {})
    return found.value if found is not None and not found.reach and _travels(found.value) else None


def read_entry(function: Function, aliases: Mapping[str, str], names: frozenset[str], trusted: bool) -> Entry | None:
    """How a function is called across processes; None where a part of its signature cannot travel.

    Default arguments are kept where the text is `trusted`; otherwise only plain literals are.
    """
    result = read_type(function.result, aliases, names)
    types = [read_type(_decayed(parameter.type), aliases, names) for parameter in function.parameters]
    if function.specifiers - {"extern", "noexcept"} or result is None or not _can_return(result):
        return None
    passages: list[Passage] = []
    for place, (parameter, own) in enumerate(zip(function.parameters, types, strict=True)):
        passage = _passage(own, place, _length_place(function, types, place)) if own is not None else None
        if passage is None or (parameter.default and not trusted and not DEFAULT.fullmatch(parameter.default)):
            return None
        passages.append(replace(passage, default=parameter.default))
    entry = Entry(
        name=function.name,
        result=result,
        passages=tuple(passages),
        is_noexcept="noexcept" in function.specifiers,
    )
    returns_nothing = result.name == "void" and not any(passage.take_back for passage in passages)
    return None if returns_nothing else entry


def _passage(own: Type, place: int, length: int | None) -> Passage | None:
    """How a parameter of this type travels; `length` is the place of the parameter that counts its elements."""
    x, name = "{x}", f"rlvr_{place}"
    if own.reach == "*":
        return _pointer(own, name, length)
    if own.name == "std::string_view":
        if own.reach and not own.is_const:
            return None
        take = f"std::string {name} = rlvr_in.get<std::string>();"
        return Passage(type=own, send=f"rlvr_call.send({x});", take=take, argument=f"std::string_view({name})")
    if not _travels(own.value):
        return None
    send, take = f"rlvr_call.send({x});", f"{own.value} {name} = rlvr_in.get<{own.value}>();"
    if own.reach == "&":
        passage = Passage(type=own, send=send, take=take, argument=name)
        if own.is_const:
            return passage
        return replace(passage, send_back=f"rlvr_out.put({name});", take_back=f"rlvr_call.receive_into({x});")
    if own.is_const:  # by value that changes nothing for the caller, and a const rvalue reference is a slip
        return _passage(own.value, place, length) if not own.reach else None
    argument = f"static_cast<{own}&&>({name})" if not own.reach else f"static_cast<{own}>({name})"
    return Passage(type=own, send=send, take=take, argument=argument)


def _pointer(own: Type, name: str, length: int | None) -> Passage | None:
    """An array whose length is the next parameter, or a C string."""
    x, count = "{x}", f"static_cast<long long>(rlvr_{length})"
    if str(own) == "const char*":
        send = f"rlvr_call.send_text({x});" if length is None else f"rlvr_call.send_text({x}, {count});"
        return Passage(type=own, send=send, take=f"rlvr::Text {name}(rlvr_in);", argument=f"{name}.data")
    if length is None or own.name not in NUMBERS or own.name == "char":  # a buffer is often longer than its length
        return None
    send, take = f"rlvr_call.send_array({x}, {count});", f"rlvr::Array<{own.value}> {name}(rlvr_in);"
    passage = Passage(type=own, send=send, take=take, argument=f"{name}.data")
    if own.is_const:
        return passage
    back = f"rlvr_call.receive_array({x}, {count});"
    return replace(passage, send_back=f"{name}.put(rlvr_out);", take_back=back)


def _length_place(function: Function, types: list[Type | None], place: int) -> int | None:
    """The parameter that counts the elements of the pointer at `place`: the first one behind it and further pointers.

    A C string has a zero at its end: only a name that can mean nothing else makes it an array.
    """
    own = types[place]
    if own is None or own.reach != "*":
        return None
    while place < len(types) and (pointed := types[place]) is not None and pointed.reach == "*":
        place += 1
    counter = types[place] if place < len(types) else None
    if counter is None or counter.name not in LENGTH_TYPES:
        return None
    by_value = counter.reach == "" or (counter.reach == "&" and counter.is_const)
    name, wanted = function.parameters[place].name, LENGTH if own.name == "char" else COUNT
    return place if by_value and (wanted.fullmatch(name) or not (name or own.name == "char")) else None


def _can_return(own: Type) -> bool:
    """By value, by const reference, as a C string, or nothing."""
    if own.name == "void":
        return str(own) == "void"
    if own.reach == "*":
        return str(own) == "const char*"
    return own.reach in ("", "&") and own.is_const == (own.reach == "&") and _travels(own.value)


def _travels(own: Type) -> bool:
    """Whether a value of this type can be sent and received."""
    if own.name in HASHED and str(own.arguments[0]) not in NUMBERS | {"std::string"}:
        return False
    if own.name == "std::complex" and str(own.arguments[0]) not in FLOATS:
        return False
    parts = [argument for argument in own.arguments if isinstance(argument, Type)]
    return own.name not in ("void", "std::string_view") and all(not part.is_const and _travels(part) for part in parts)


def _elements(own: Type) -> int:
    """How many values stand in the fixed-size arrays of a type, at most."""
    inner = sum(_elements(argument) for argument in own.arguments if isinstance(argument, Type))
    extent = own.arguments[1] if own.name == "std::array" else 1
    return max(1, inner) * (extent if isinstance(extent, int) else 1)


def _decayed(text: str) -> str:
    """A parameter's array is a pointer; one with a bound stays what it is and does not travel."""
    return text.removesuffix("[]") + "*" if text.endswith("[]") else text


def _expand(text: str, aliases: Mapping[str, str], depth: int = 0) -> list[str] | None:
    """The tokens with every alias replaced; None where there is no end to it or where tokens would not do."""
    result: list[str] = []
    before = ""
    for word in tokens(text[: MAX_LENGTH + 1]):
        if word in aliases and before != "::" and depth < MAX_DEPTH:
            meaning = _expand(aliases[word], aliases, depth + 1)
            if meaning is None or set(meaning) & {"*", "&", "(", "["}:  # `const` before it would not mean the same
                return None
            result.extend(meaning)
        else:
            result.append(word)
        before = word
    return result if len(text) <= MAX_LENGTH and len(result) <= MAX_TOKENS else None


class _TypeParser:
    """Recursive descent over the tokens of a type; None at the first one that is not on the list."""

    def __init__(self, words: list[str], shadowed: frozenset[str]) -> None:
        self.rest = words
        self.shadowed = shadowed

    def read(self, outside: bool = False, depth: int = 0) -> Type | None:
        is_const = self._take_all("const") > 0
        head = self._builtin() or self._library(depth)
        if head is None:
            return None
        is_const = self._take_all("const") > 0 or is_const
        reach = self._reach() if outside else ""
        return replace(head, is_const=is_const, reach=reach)

    def _reach(self) -> str:
        reach = ""
        while self.rest and self.rest[0] in ("*", "&"):
            reach += self.rest.pop(0)
        self._take_all("const")  # of the pointer itself: says nothing to the caller
        if reach not in ("", "*", "&", "&&"):
            self.rest = ["?"]
        return reach

    def _builtin(self) -> Type | None:
        words = []
        while self.rest and self.rest[0] in (*BUILTIN_WORDS, "void"):
            words.append(self.rest.pop(0))
        if not words:
            return None
        if words == ["void"]:
            return Type("void")
        kept = [word for word in words if word != "int" and (word != "signed" or "char" in words)]
        order = ("unsigned", "signed", "long", "short")
        name = " ".join(sorted(kept, key=lambda word: order.index(word) if word in order else len(order)))
        name = f"{name} int".strip() if name in ("", "unsigned") else name
        return Type(name) if name in ARITHMETIC and ("int" not in words or name in INTEGERS) else None

    def _library(self, depth: int) -> Type | None:
        is_qualified = self.rest[:2] == ["std", "::"] or self.rest[:3] == ["::", "std", "::"]
        if is_qualified:
            del self.rest[: self.rest.index("std") + 2]
        if not self.rest or depth > MAX_DEPTH:
            return None
        name = self.rest.pop(0)
        if name in self.shadowed and not is_qualified:
            return None
        if name in LIBRARY_NUMBERS:
            return Type(LIBRARY_NUMBERS[name])
        if name in ("string", "string_view"):
            return Type(f"std::{name}")
        return self._template(name, depth) if name in TEMPLATES else None

    def _template(self, name: str, depth: int) -> Type | None:
        if not self._take("<"):
            return None
        arguments: list[Type | int] = []
        while True:
            argument = self._extent() if name == "array" and arguments else self.read(depth=depth + 1)
            if argument is None:
                return None
            arguments.append(argument)
            if not self._take(","):
                break
        count = TEMPLATES[name]
        fits = self._take(">") and (count is None or len(arguments) == count)
        return Type(f"std::{name}", tuple(arguments)) if fits else None

    def _extent(self) -> int | None:
        literal = re.fullmatch(r"([1-9][0-9]{0,3})[uUlL]{0,3}", self.rest.pop(0) if self.rest else "")
        return int(literal[1]) if literal else None

    def _take(self, word: str) -> bool:
        if self.rest[:1] != [word]:
            return False
        self.rest.pop(0)
        return True

    def _take_all(self, word: str) -> int:
        count = 0
        while self._take(word):
            count += 1
        return count
