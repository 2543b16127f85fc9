"""Make a test that stops at its first failure count all of its assertions and print the marker.

The public C++ benchmarks judge by exit status: a `main` full of `assert` (HumanEval-X, MultiPL-E), or one that throws
behind `if (!(compare(x, expected)))` (MBXP). A syntax tree of the test tells where to edit its text: every `assert`
becomes a counting one, every guarded throw a counted one, and `main` a function that a new `main` calls and reports.

Who passes here has run the old `main` to its end, with status 0, without a stray exception and with at least one
assertion, all of them true. A test that prints the marker itself, or whose shape is not recognised, stays as it is.
"""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from rlvr_cpp.verifier.cpp.asserted import (
    WORD,
    Found,
    Names,
    body_of,
    count_straight,
    declarator_of,
    find_assertions,
    find_main,
    is_foreign,
    is_straight,
    parameters_of,
    read_names,
    statement_of,
)
from rlvr_cpp.verifier.cpp.lexemes import Edit, node_text, parse, walk
from rlvr_cpp.verifier.verdict import MAX_TESTS

if TYPE_CHECKING:
    from tree_sitter import Node

TYPE_BODIES = ("field_declaration_list", "enumerator_list")

# `@` becomes a prefix made from the test's own text: no name of a candidate's can meet it.
# `__builtin_printf` is g++'s and clang++'s `printf` without a header.
PREAMBLE = """
static long @passed = 0, @reached = 0, @loops = 0;
struct @One {
    const long passed, reached, loops;
    const bool is_loop;
    bool failed;
    explicit @One(bool loop) : passed(@passed), reached(@reached), loops(@loops), is_loop(loop), failed(false) {}
    ~@One() {
        const long good = !failed && @passed - passed == @reached - reached;
        const bool only_loops = is_loop || (@loops > loops && @loops - loops == @passed - passed);
        @passed = passed + good, @reached = reached + 1, @loops = loops + (only_loops ? good : 0);
    }
};
#define @check(...) do { ++@reached; try { if (static_cast<bool>((__VA_ARGS__))) ++@passed; } catch (...) {} } while (0)
#define @value(...) ((void)[&] { @check(__VA_ARGS__); }())
"""
# Between `BEGIN` and `END` stands one assertion, whatever else was counted there: it passes where all of that does.
# So do loops over an answer, between `LOOP` and `END`. They hold of an empty one, too, and count where all others hold.
# No macros: what reads the counted test has to tell the declaration behind it from an expression.
BEGIN = "{ @One @one(false); try { {"
LOOP = "{ @One @one(true); try { {"
END = "} } catch (...) { @one.failed = true; } }"
REPORT = """
int main(%(parameters)s) {
    bool @finished = false;
    try { @finished = @main(%(arguments)s) == 0; } catch (...) {}
    if (@reached < %(least)d) @reached = %(least)d;
    if (!@finished && @passed == @reached) --@passed;
    if (@passed < @reached) @passed = @passed > @loops ? @passed - @loops : 0;
    if (@reached > %(most)d) { @passed = @passed * %(most)d / @reached; @reached = %(most)d; }
    __builtin_printf("\\nPASSED %%ld/%%ld\\n", @passed, @reached);
    return @passed == @reached ? 0 : 1;
}
"""


class Counted(NamedTuple):
    """A test whose assertions are counted, and how many there are; None where only a run can tell."""

    harness: str
    declared: int | None


def count_assertions(test: str) -> str:
    """The same test as a harness that prints `PASSED n/m`, `m` being the assertions that an honest run reaches.

    An assertion that throws has failed, and the others still run. Counts above 1000 are scaled down to it. A marker
    harness, a test of unknown shape and what this function has returned before come back unchanged.
    """
    counted = _count(test)
    return counted.harness if counted else test


def count_declared(test: str) -> int | None:
    """How many assertions a test has whatever the candidate does; None where a loop, a helper or a condition decides.

    `test` is the original text, not what `count_assertions` made of it.
    """
    counted = _count(test)
    return counted.declared if counted else None


@lru_cache(maxsize=256)
def _count(test: str) -> Counted | None:
    source = test.encode(errors="replace")
    if b"main" not in source or (b"assert" not in source and b"throw" not in source):
        return None
    root = parse(source)
    main = find_main(root)
    if main is None or any(is_foreign(node) for node in walk(root)):
        return None
    names = read_names(root)
    # What the test catches itself is how it fails only where it fails by nothing else.
    attempts = (find_assertions(root, one) for one in (names, replace(names, catches=False)))
    found = next((one for one in attempts if one.calls or one.macros or one.guards or one.loops), None)
    if found is None:
        return None
    declared = count_straight(found, body_of(main))
    edits = [*_assert_edits(found), *_piece_edits(found, names, root, body_of(main)), *_main_edits(main)]
    first = min(edit.start for edit in edits)
    place = next(item.start_byte for item in root.children if item.end_byte > first)
    prefix = f"rlvr_{hashlib.sha256(source).hexdigest()[:12]}_"
    harness = _apply(source, [Edit(place, place, PREAMBLE), *edits, *found.macros], prefix)
    return Counted(harness + _report(main, declared).replace("@", prefix), declared)


def _assert_edits(found: Found) -> Iterator[Edit]:
    return (Edit(word.start_byte, word.end_byte, "@check" if statement_of(word) else "@value") for word in found.words)


def _piece_edits(found: Found, names: Names, root: Node, body: Node) -> Iterator[Edit]:
    """Count the guards, and let each assertion of a straight `main` fail together with the declarations it needs.

    `int x = f(2); if (x != 4) throw ...;` is one piece: an `f` that throws must not keep the others from running.
    """
    uses = defaultdict[str, list[int]](list)
    for match in re.finditer(rb"[A-Za-z_]\w*", body.text or b""):
        uses[match[0].decode()].append(body.start_byte + match.start())
    shared = _shared_names(root) - names.checks
    tests = [*found.guards, *(statement for word in found.calls if (statement := statement_of(word)))]
    known = {test.id for test in tests}
    for place, test in enumerate(tests):
        start = test.start_byte
        if is_straight(test, body):
            start = _piece_start(test, known, shared, names.hidden_in, uses)
        if place < len(found.guards) or start < test.start_byte:
            yield Edit(start, start, f"{BEGIN} ")
            yield Edit(test.end_byte, test.end_byte, f" {END}")
    for loop in found.loops:
        yield Edit(loop.start_byte, loop.start_byte, f"{LOOP} ")
        yield Edit(loop.end_byte, loop.end_byte, f" {END}")


def _shared_names(root: Node) -> frozenset[str]:
    """The variables by which one piece might reach another; not `auto candidate = f`, another name for a function."""
    values: dict[str, str] = {}
    for node in walk(root):
        is_prototype = node.parent == root and declarator_of(node) is not None
        if node.type == "declaration" and not is_prototype:
            values.update(_declared(node))
    return frozenset(name for name, value in values.items() if not WORD.fullmatch(value) or value in values)


def _declared(declaration: Node) -> Iterator[tuple[str, str]]:
    """Each variable with the text that it starts from."""
    for declarator in declaration.children_by_field_name("declarator"):
        value = declarator.child_by_field_name("value") if declarator.type == "init_declarator" else None
        for node in walk(declarator, lambda node, value=value: node != value):  # type: ignore[misc]
            if node.type == "identifier" and node != value:
                yield node_text(node), node_text(value)


def _piece_start(
    test: Node, tests: set[int], shared: frozenset[str], hidden: frozenset[str], uses: Mapping[str, Sequence[int]]
) -> int:
    """Where the declarations begin that only this assertion needs; its own start where it shares anything."""
    piece = [test]
    while (before := piece[-1].prev_named_sibling) is not None and before.id not in tests and _is_plain(before, shared):
        piece.append(before)
    used = {word for part in piece for word in WORD.findall(node_text(part))}
    declared = {name for part in piece if part.type == "declaration" for name, _ in _declared(part)}
    scope_end = test.parent.end_byte if test.parent else test.end_byte
    is_shared = (
        bool(declared & hidden)
        or any(place < scope_end for name in declared for place in _after(uses, name, test))
        or any(_after(uses, name, test) for name in (used & shared) - declared)
    )
    return test.start_byte if is_shared else piece[-1].start_byte


def _after(uses: Mapping[str, Sequence[int]], name: str, test: Node) -> Sequence[int]:
    """The first place after `test` where a name is used."""
    places = uses.get(name, ())
    following = bisect_left(places, test.end_byte)
    return places[following : following + 1]


def _is_plain(statement: Node, shared: frozenset[str]) -> bool:
    if statement.type == "declaration" and not all(name in shared for name, _ in _declared(statement)):
        return False  # another name for a function: every assertion may use it
    if statement.type not in ("declaration", "expression_statement", "comment"):
        return False
    return not any(part.type in TYPE_BODIES for part in walk(statement))


def _main_edits(main: Node) -> Iterator[Edit]:
    declarator = declarator_of(main)
    name = declarator.child_by_field_name("declarator") if declarator else None
    assert name is not None
    yield Edit(main.start_byte, main.start_byte, "static ")
    yield Edit(name.start_byte, name.end_byte, "@main")
    # only `main` itself may end without a `return`
    yield Edit(main.end_byte - 1, main.end_byte - 1, "return 0; ")


def _report(main: Node, declared: int | None) -> str:
    has_parameters = bool(parameters_of(main))
    return REPORT % {
        "parameters": "int @argc, char** @argv" if has_parameters else "",
        "arguments": "@argc, @argv" if has_parameters else "",
        "least": declared or 1,
        "most": MAX_TESTS,
    }


def _apply(source: bytes, edits: Sequence[Edit], prefix: str) -> str:
    """The text with all edits; those at one place stand in the order of the sequence."""
    parts: list[bytes] = []
    done = 0
    for edit in sorted(edits, key=lambda edit: edit.start):
        parts += [source[done : edit.start], edit.text.replace("@", prefix).encode()]
        done = edit.end
    return b"".join([*parts, source[done:]]).decode()
