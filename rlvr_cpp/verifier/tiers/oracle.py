"""A test and a candidate in two processes: the oracle knows the answers, the worker only ever sees the questions.

The oracle is the test, unchanged, with each of the candidate's functions replaced by one that asks the worker; the
worker is the candidate with a generated `main`. A candidate can then pass only by computing what is asked. This file
writes the two texts and starts nothing: see `rpc.h` for what runs.

The tests and the declaration decide that a test is judged so; no candidate has a say in it. Where neither says what
types a function has, the candidate may propose them, from a fixed list of types whose values compare as they should.
One that proposes others is told that a declaration is missing. Of its text nothing enters the oracle but names of
functions, types spelled anew, literals as default arguments and standard headers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from itertools import pairwise, takewhile
from pathlib import Path
from typing import Literal

from rlvr_cpp.verifier.cpp.arrays import fenced
from rlvr_cpp.verifier.cpp.free_names import free_names
from rlvr_cpp.verifier.cpp.signature import Function, Prompt, Unit, read_prompt, read_trusted_unit, read_unit, tokens
from rlvr_cpp.verifier.tiers.object_policy import LIBRARY
from rlvr_cpp.verifier.tiers.travel import Entry, Passage, Type, read_entry
from rlvr_cpp.verifier.toolchain.precompiled import leading_includes

ORACLE_CHANNEL, WORKER_CHANNEL = 3, 0
"""The descriptors of the two ends of the socket pair over which they talk. The worker's is its standard input, so that
a candidate has no descriptor but the usual three."""

MAX_ENTRY_POINTS = 100
MAX_CANDIDATE_BYTES = 1 << 17
"""Of a candidate whose own signatures are needed: reading the worst one of this length takes half a second."""
MAX_PROPOSED = 48
"""Templates in all the types that a candidate proposes: what it may have our own side compile takes a second or two."""
OWN_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*"[^"\n]*"', re.MULTILINE)

IN_PROCESS = {
    "captures what the candidate prints, or feeds what it reads": """
        rdbuf freopen fdopen dup dup2 dup3 cin wcin stdin scanf getchar gets setvbuf setbuf sync_with_stdio""",
    "shares a state of the process with the candidate": """
        errno setenv unsetenv putenv environ setlocale imbue chdir umask signal sigaction setjmp longjmp setrlimit""",
    "starts processes or threads, while one worker answers one call at a time": """
        fork vfork posix_spawn execl execlp execv execve execvp system popen thread jthread async pthread_create""",
    "shares files with the candidate": """
        fopen tmpfile ifstream ofstream fstream filesystem mmap shm_open""",
    "counts the candidate's allocations": "mallinfo mallinfo2 malloc_stats __malloc_hook",
}
"""Why a test must run in one process with the candidate, and the names that show it."""
IN_PROCESS_NAMES = frozenset(" ".join(IN_PROCESS.values()).split())

STANDARD_EXCEPTIONS = """
    exception bad_alloc invalid_argument domain_error length_error out_of_range logic_error range_error overflow_error
    underflow_error runtime_error"""
CAN_BE_CAUGHT = frozenset(STANDARD_EXCEPTIONS.split()) | {"."}
"""What a test may catch: classes of the library, thrown again as what they were, or everything (three dots)."""
QUALIFIERS = frozenset(("const", "std", "::"))

CPP_HEADERS = """
    algorithm any array atomic bit bitset cassert cctype cerrno cfenv cfloat charconv chrono cinttypes climits clocale
    cmath compare complex concepts condition_variable csetjmp csignal cstdarg cstddef cstdint cstdio cstdlib cstring
    ctime cwchar cwctype deque exception forward_list fstream functional future initializer_list iomanip ios iosfwd
    iostream istream iterator limits list locale map memory memory_resource mutex new numbers numeric optional ostream
    queue random ranges ratio regex set shared_mutex span sstream stack stdexcept streambuf string string_view
    system_error thread tuple type_traits typeindex typeinfo unordered_map unordered_set utility valarray variant
    vector version bits/stdc++.h"""
C_HEADERS = """
    assert.h ctype.h errno.h float.h inttypes.h limits.h locale.h math.h stdbool.h stddef.h stdint.h stdio.h stdlib.h
    string.h time.h wchar.h"""
STANDARD_HEADERS = frozenset(f"{CPP_HEADERS} {C_HEADERS}".split())
"""What a candidate may have included for the test too."""

FOUND_BY_ARGUMENT = """
    abs advance all_of any_of arg back begin cbegin cend conj copy count count_if crbegin crend data distance empty end
    equal erase erase_if exchange find find_if forward front get get_if getline holds_alternative imag is_permutation
    is_sorted isinf isnan iter_swap lexicographical_compare make_pair make_tuple max max_element min min_element minmax
    mismatch move next none_of norm polar prev proj rbegin real rend reverse size sort ssize stod stof stoi stol stold
    stoll stoul stoull swap tie to_string to_wstring transform unique visit"""
LIBRARY_NAMES = frozenset(FOUND_BY_ARGUMENT.split()) | {"main", "assert", "std"}
"""Functions of `std` that a test can call without saying `std`, because of the arguments' types: no candidate's
function may take the place of one of these. For those that need a `using`, see `_function_objects`."""

INCLUDES = re.compile(r"^#ifdef RLVR_(\w+)\n((?:#include <\w+>\n)+)", re.MULTILINE)
PLACEHOLDER = re.compile(rb"_Z\d+rlvr_entry_(\d+)_+([^\0]*)\0")
"""What a compiled worker calls a function: its number, room for a name, and types, as the C++ ABI spells them."""
ROOM = 64
"""Characters of a placeholder, or a multiple."""

PLAIN_NAME = re.compile(r"(?!rlvr)[A-Za-z](?!\w*__)[A-Za-z0-9_]*", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Split:
    """Complete C++ translation units."""

    oracle: str
    """Trusted: the test with the calls over the wire. Linked alone, or behind `#define RLVR_APART` with `runtime`."""
    runtime: str
    """What every oracle has alike."""
    worker: str
    """A `main` that serves the candidate's functions until the end of its input. Linked with the candidate.

    It says what types they have and not how they are called: all tasks with the same types share it, compiled, and
    `with_names` gives it the names.
    """
    stand_in: str
    """Definitions of these functions that are never called, to link the worker with before there is a candidate."""
    functions: tuple[str, ...]
    """The name of each function that is called over the wire."""
    before: str
    """With `behind` the worker once more, as one text with the candidate's between them."""
    behind: str
    """It finds the functions by their names, whatever their parameters are, and serves what was declared."""
    keys: frozenset[tuple[str, ...]]
    """The result, name and types of parameters of each function, in canonical form: what it is linked by."""

    def with_names(self, compiled: bytes) -> bytes:
        """A worker that was compiled, with the names of the functions written over those it was compiled with."""

        def named(placeholder: re.Match[bytes]) -> bytes:
            name = self.functions[int(placeholder[1])].encode()
            return (b"_Z%d%b%b" % (len(name), name, placeholder[2])).ljust(len(placeholder[0]), b"\0")

        return PLACEHOLDER.sub(named, compiled)


def split(test: str, declaration: str | None, code: str, reference: str | None = None) -> Split | None:
    """The oracle and the worker for a test; None where the test cannot be judged in two processes.

    `declaration` is trusted text that a candidate continues or implements, `reference` one that solves the task. Where
    the declaration or the test declares what is called, the answer does not depend on `code`. Otherwise (`is_open`) the
    candidate proposes the types, and None says that it has nothing to propose that can be believed. The oracle may
    still fail to compile, where the test needs more of the candidate than its functions. Never raises.
    """
    declared = _split_declared(test, declaration, reference)
    if declared != "open":
        return declared
    return _from_candidate(read_trusted_unit(test), read_unit(code, MAX_CANDIDATE_BYTES))


def is_open(test: str, declaration: str | None, reference: str | None = None) -> bool:
    """The test calls functions that neither it nor the task declares, and asks nothing else of a candidate."""
    return _split_declared(test, declaration, reference) == "open"


@lru_cache(maxsize=512)
def _split_declared(test: str, declaration: str | None, reference: str | None) -> Split | Literal["open"] | None:
    """The split where trusted text declares what is called; `open` where a test calls functions that nothing declares.

    A header of the candidate that the test includes says nothing that a declaration does not say.
    """
    harness = read_trusted_unit(OWN_INCLUDE.sub("", test) if declaration is not None else test)
    if not _can_stand_alone(harness):
        return None
    if declaration is not None:
        prompt = read_prompt(declaration)
        if prompt is None:
            return None
        context = read_trusted_unit(prompt.context)
        if prompt.function is not None or any(harness.calls(function.name) for function in context.prototypes):
            return _from_declaration(harness, prompt, context)
    if any(harness.calls(function.name) for function in harness.prototypes):
        return _from_test(harness)
    owed = free_names(test)
    if owed.types or not owed.values - LIBRARY - LIBRARY_NAMES:
        return None
    return None if _asks_for_more(harness, owed.values, declaration, reference) else "open"


def _asks_for_more(harness: Unit, owed: frozenset[str], declaration: str | None, reference: str | None) -> bool:
    """Whether trusted text tells that what looks like a call is none of a plain function: `F(1, 2)` makes an object."""
    said = read_trusted_unit(declaration or "")
    if owed & (said.names | said.aliases.keys() | said.constants | said.variables):
        return True
    return reference is not None and _from_candidate(harness, read_trusted_unit(reference)) is None


def differs(parts: Split, code: str) -> bool:
    """The candidate's text, one alone, has a function otherwise than it is called, or a `main` of its own.

    Another result is linked as if it were that one, and another way to take an argument is another function: both have
    to be compiled with what calls them.
    """
    own = read_unit(code, MAX_CANDIDATE_BYTES)
    entries = [read_entry(function, own.aliases, own.names, trusted=False) for function in own.defined]
    given = {_linked_by(entry) for entry in entries if entry is not None}
    missing = {name for result, name, *_ in parts.keys - given}
    return not missing.isdisjoint({function.name for function in own.defined} | own.names) or any(
        function.name == "main" for function in own.defined
    )


def mentions_all(parts: Split, code: str) -> bool:
    """Each function's name stands in the text."""
    return set(parts.functions) <= set(re.findall(r"\w+", code))


def _linked_by(entry: Entry) -> tuple[str, ...]:
    return (str(entry.result), *entry.key)


def _can_stand_alone(harness: Unit) -> bool:
    """Whether the test neither relies on sharing a process with the candidate nor catches what cannot travel."""
    words = tokens(harness.text)
    counts_allocations = any(pair in (("operator", "new"), ("operator", "delete")) for pair in pairwise(words))
    has_own_files = any(name.startswith('"') for name in harness.includes)
    return not (harness.identifiers & IN_PROCESS_NAMES or counts_allocations or has_own_files) and _catches_known(words)


def _catches_known(words: Sequence[str]) -> bool:
    for place, word in enumerate(words):
        if word == "catch":
            caught = [one for one in takewhile(lambda one: one != ")", words[place + 2 :]) if one not in QUALIFIERS]
            if not caught or caught[0] not in CAN_BE_CAUGHT:
                return False
    return True


def _exceptions(*trusted: Unit) -> frozenset[str]:
    """The parts of the library that have exceptions travel. Where nobody asks which, none needs its header."""
    return exceptions_of("\n".join(unit.text for unit in trusted))


def exceptions_of(text: str, all_kinds: bool = False) -> frozenset[str]:
    """The same for one text; `all_kinds` where it catches more than it says."""
    if all_kinds:
        return frozenset({"EXCEPTIONS", "STANDARD_EXCEPTIONS"})
    words = tokens(text) if "catch" in text else []
    if "catch" not in words:
        return frozenset()
    whatever = all(words[place + 2 : place + 3] == ["."] for place, word in enumerate(words) if word == "catch")
    return frozenset(
        {"EXCEPTIONS"} if whatever and "current_exception" not in words else {"EXCEPTIONS", "STANDARD_EXCEPTIONS"}
    )


def _from_declaration(harness: Unit, prompt: Prompt, context: Unit) -> Split | None:
    """Entry points: the function that the declaration leaves open, and prototypes in it that nothing defines."""
    opened = prompt.function
    owed = [function for function in context.prototypes if opened is None or function.key != opened.key]
    called = [function for function in (*([opened] if opened else []), *owed) if _is_called(function, harness, context)]
    wanted = [_without_linkage(function) for function in called]
    given = {function.name for function in harness.defined}
    called_back = any(function.name in given for function in (*owed, *wanted))
    if context.variables or called_back or not _catches_known(tokens(context.text)):  # the candidate shares state
        return None
    entries = _entries(wanted, context, trusted=True)
    if entries is None:
        return None
    first = [_prototype(entries[0], with_defaults=True) + ";"] if opened in called else []
    stubs = [_stub(entry, number) for number, entry in enumerate(entries)]
    return _split(entries, _exceptions(harness, context), [context.text, *first, *stubs, harness.text])


def _from_test(harness: Unit) -> Split | None:
    """Entry points: prototypes in the test that it calls and does not define. Its own text gives their types."""
    wanted = [function for function in harness.prototypes if harness.calls(function.name)]
    entries = _entries(wanted, harness, trusted=True)
    if entries is None or any(entry.name in harness.names for entry in entries):
        return None
    stubs = [_stub(entry, number) for number, entry in enumerate(entries)]
    return _split(entries, _exceptions(harness), [harness.text, *stubs])


def _from_candidate(harness: Unit, candidate: Unit) -> Split | None:
    """Entry points: functions that the test calls and only the candidate has; nothing else of it is believed."""
    given = {function.name for function in harness.defined}
    own = given | {function.name for function in harness.declared} | LIBRARY_NAMES
    own |= harness.names | harness.aliases.keys() | harness.constants | harness.variables
    needed = candidate.names | candidate.aliases.keys() | candidate.constants | candidate.variables
    called_back = any(function.name in given for function in candidate.prototypes)
    if called_back or any(harness.mentions[name] for name in needed - own):
        return None
    wanted = [
        _without_linkage(function)
        for function in (*candidate.defined, *candidate.prototypes)
        if harness.mentions[function.name] and function.name not in own and PLAIN_NAME.fullmatch(function.name)
    ]
    entries = _entries(wanted, candidate, trusted=False)
    if entries is None or sum(entry.size for entry in entries) > MAX_PROPOSED:
        return None
    entries = [_by_value(entry) for entry in entries]
    headers = [name for name in dict.fromkeys(candidate.includes) if name in STANDARD_HEADERS]
    headers += ["math.h", "stdlib.h"] if harness.mentions["abs"] else []  # or it may be that of int: near misses pass
    includes = [f"#include <{name}>" for name in headers]
    using = ["using namespace std;"] if candidate.uses_std and includes else []
    objects = _function_objects(entries)
    return _split(entries, _exceptions(harness), [*includes, *using, *objects, harness.text])


def _without_linkage(function: Function) -> Function:
    """The function as any other text may call it: whether that text sees it is settled where they are compiled."""
    return replace(function, specifiers=function.specifiers - {"static", "inline", "constexpr"})


def _is_called(function: Function, harness: Unit, context: Unit) -> bool:
    return harness.calls(function.name) or context.calls(function.name)


def _entries(wanted: Iterable[Function], source: Unit, trusted: bool) -> list[Entry] | None:
    """Each overload once; None where there is none or where one of them cannot be called from outside."""
    found: dict[tuple[str, ...], Entry] = {}
    for function in list(wanted)[: MAX_ENTRY_POINTS + 1]:
        entry = read_entry(function, source.aliases, source.names, trusted)
        if entry is None or entry.key in found:
            return None
        found[entry.key] = entry
    return list(found.values()) if 0 < len(found) <= MAX_ENTRY_POINTS else None


def _by_value(entry: Entry) -> Entry:
    """The entry without a way back for its arguments, unless that is all that there is to see of it.

    Else a candidate could change what its answer is compared with.
    """
    if entry.result.name == "void":
        return entry
    return replace(entry, passages=tuple(replace(one, send_back="", take_back="") for one in entry.passages))


def _split(entries: Sequence[Entry], exceptions: frozenset[str], oracle: Sequence[str]) -> Split:
    names, text = tuple(entry.name for entry in entries), "\n".join(oracle)
    anonymous = [_anonymous(entry, number) for number, entry in enumerate(entries)]
    services = [_service(entry, number) for number, entry in enumerate(anonymous)]
    stand_ins = [f"{_prototype(entry)} {{ __builtin_trap(); }}" for entry in anonymous]
    return Split(
        oracle=fenced(text, "\n".join([_rpc("RLVR_ORACLE", entries, exceptions, _leading(oracle)), text]) + "\n"),
        runtime="#define RLVR_RUNTIME\n" + _rpc("RLVR_ORACLE", [], exceptions) + "\n",
        worker="\n".join([_rpc("RLVR_WORKER", entries, exceptions), *services, _worker_main(len(entries))]) + "\n",
        stand_in="\n".join([_rpc("RLVR_WORKER", entries, exceptions), *stand_ins]) + "\n",
        functions=names,
        before=_rpc("RLVR_WORKER", entries, exceptions | {"TOGETHER"}) + "\n",
        behind="\n".join([*(_call_by_name(e, n) for n, e in enumerate(entries)), _worker_main(len(entries))]) + "\n",
        keys=frozenset(map(_linked_by, entries)),
    )


def _anonymous(entry: Entry, number: int) -> Entry:
    """The entry under a name that says nothing but its number."""
    room = ROOM * (len(entry.name) // ROOM + 1)
    return replace(entry, name=f"rlvr_entry_{number}".ljust(room, "_"))


def _leading(oracle: Sequence[str]) -> list[str]:
    """The lines by which the test begins that include a header: its candidates share them."""
    first = next((text for text in oracle if text.strip()), "")
    return [f"#include <{name}>" for name in leading_includes(first) if name in STANDARD_HEADERS]


def _rpc(side: str, entries: Sequence[Entry], exceptions: frozenset[str], first: Sequence[str] = ()) -> str:
    """The library's text and the macros that choose its parts, behind `first`, or else the lines that include what they
    need: what a text begins with may be precompiled."""
    return rpc_text(side, frozenset(name for entry in entries for name in entry.templates), exceptions, first)


def rpc_text(side: str, templates: frozenset[str], exceptions: frozenset[str], first: Sequence[str]) -> str:
    """The library of one side, for values made of these templates of `std`, behind the lines of `first`."""
    parts = {name.upper().replace("MULTI", "") for name in templates}
    parts |= {"PAIR"} if parts & {"MAP", "UNORDERED_MAP"} else set()
    parts |= {"STRING"} if "STRING_VIEW" in parts else set()
    parts |= exceptions
    includes = first or [_rpc_includes()[part] for part in sorted(parts) if part in _rpc_includes()]
    chosen = [f"#define {side}", *(f"#define RLVR_{part}" for part in sorted(parts))]
    return "\n".join([*includes, *chosen, _rpc_header()])


@cache
def _rpc_includes() -> dict[str, str]:
    """The lines that include what each part of the library needs, by its macro."""
    return {match[1]: match[2].rstrip() for match in INCLUDES.finditer(_rpc_header())}


@cache
def _rpc_header() -> str:
    return (Path(__file__).parent / "rpc.h").read_text(encoding="utf-8")


def _prototype(entry: Entry, name: str | None = None, with_defaults: bool = False) -> str:
    parameters = [
        f"{passage.type} rlvr_{place}" + (f" = {passage.default}" if with_defaults and passage.default else "")
        for place, passage in enumerate(entry.passages)
    ]
    suffix = " noexcept" if entry.is_noexcept else ""
    return f"{entry.result} {name or entry.name}({', '.join(parameters)}){suffix}"


def _stub(entry: Entry, number: int) -> str:
    """The oracle's definition of an entry point."""
    return f"{_prototype(entry)} {_stub_body(entry, number)}"


def _function_objects(entries: Sequence[Entry]) -> list[str]:
    """The entry points as objects, one for each name.

    An object does not overload: one that is named like a function of the library that the test can see does not
    compile, where a function would silently be preferred to the library's.
    """
    numbered = list(enumerate(entries))
    objects = []
    for name in dict.fromkeys(entry.name for entry in entries):
        operators = "\n".join(
            f"{_prototype(entry, 'operator()', with_defaults=True)} const {_stub_body(entry, number)}"
            for number, entry in numbered
            if entry.name == name
        )
        objects.append(f"struct rlvr_entry_{name} {{\n{operators}\n}};\nconst rlvr_entry_{name} {name} = {{}};")
    return objects


def _stub_body(entry: Entry, number: int) -> str:
    lines = [f"rlvr::Call rlvr_call({number});"]
    lines += [passage.send.format(x=f"rlvr_{place}") for place, passage in enumerate(entry.passages)]
    lines.append("rlvr_call.transfer();")
    lines += _receive_result(entry.result)
    lines += [passage.take_back.format(x=f"rlvr_{place}") for place, passage in enumerate(entry.passages)]
    lines.append("rlvr_call.end();")
    lines += [] if entry.result.name == "void" else ["return rlvr_result;"]
    return _block(lines)


def _receive_result(result: Type) -> list[str]:
    if result.name == "void":
        return []
    if result.reach == "*":
        return [f"{result} rlvr_result = rlvr_call.receive_text();"]
    received = f"rlvr_call.receive<{result.value}>()"
    if result.reach == "&":  # never released: the caller may keep the reference
        return [f"{result} rlvr_result = *new {result.value}({received});"]
    return [f"{result} rlvr_result = {received};"]


def _service(entry: Entry, number: int) -> str:
    """The worker's prototype of a function and the code that answers calls of it."""
    types = ", ".join(str(passage.type) for passage in entry.passages)
    arguments = ", ".join(passage.argument for passage in entry.passages)
    # the cast chooses the overload: a header may have brought others
    call = f"static_cast<{entry.result} (*)({types})>(&::{entry.name})({arguments});"
    lines = [*(passage.take for passage in entry.passages), "rlvr_in.end();"]
    if entry.result.name == "void":
        lines.append(call)
    else:
        put = "rlvr::put_text(rlvr_out, rlvr_result);" if entry.result.reach == "*" else "rlvr_out.put(rlvr_result);"
        lines += [f"{entry.result} rlvr_result = {call}", put]
    lines += [passage.send_back for passage in entry.passages]
    header = f"static void rlvr_serve_{number}(rlvr::Reader& rlvr_in, rlvr::Writer& rlvr_out)"
    return f"{_prototype(entry)};\n{header} {_block(lines)}"


def _call_by_name(entry: Entry, number: int) -> str:
    """The code that answers calls of a function that was defined before it, in whatever way."""
    lines = [*(passage.take for passage in entry.passages), "rlvr_in.end();"]
    call = f"::{entry.name}({', '.join(_named(passage, place) for place, passage in enumerate(entry.passages))})"
    if entry.result.name == "void":
        lines.append(f"{call};")
    elif entry.result.reach == "*":
        lines.append(f"rlvr::put_text(rlvr_out, {call});")
    else:
        lines += [f"typedef {entry.result.value} rlvr_declared;", f"RLVR_RESULT({call})"]
    lines += [passage.send_back for passage in entry.passages]
    return f"static void rlvr_serve_{number}(rlvr::Reader& rlvr_in, rlvr::Writer& rlvr_out) {_block(lines)}"


def _named(passage: Passage, place: int) -> str:
    """An argument that binds to a value, to a reference and to a constant one."""
    return passage.argument if passage.type.reach else f"rlvr_{place}"


def _worker_main(count: int) -> str:
    services = ", ".join(f"rlvr_serve_{number}" for number in range(count))
    table = f"static const rlvr::Service rlvr_services[] = {{{services}}};"
    return f"int main() {_block([table, f'return rlvr::serve(rlvr_services, {count});'])}"


def _block(lines: Iterable[str]) -> str:
    return "\n".join(["{", *(f"    {line}" for line in lines if line), "}"])
