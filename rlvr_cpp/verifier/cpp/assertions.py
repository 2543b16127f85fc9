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
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING, NamedTuple

from rlvr_cpp.verifier.verdict import MAX_TESTS

if TYPE_CHECKING:
    from tree_sitter import Node, Parser

PRINTS_MARKER = re.compile(rb'(?:["(\n]|\\n)PASSED (?:["%{0-9])')
NEVER_TRUE = re.compile(rb'assert\s*\(\s*(?:false|0|!\s*"[^"]*")\s*(?:&&|\))')
MACRO_ASSERT = re.compile(rb"(?P<before>\A|[{};)])?\s*\b(?P<name>assert)\s*\(")
SUCCESS = re.compile(rb"return\s*\(?\s*(?:0|EXIT_SUCCESS)\b")
WORD = re.compile(rb"[A-Za-z_]\w*")
JUMPS = ("return_statement", "break_statement", "continue_statement", "goto_statement")
ENDS_THE_PROCESS = (b"exit", b"_Exit", b"quick_exit", b"abort", b"longjmp")
TYPE_BODIES = ("field_declaration_list", "enumerator_list")
EXPRESSIONS = ("condition_clause", "parameter_list", "comment", "declaration", "lambda_expression", "return_statement")
NO_STATEMENTS = (*EXPRESSIONS, "class_specifier", "struct_specifier", "function_definition")

# `@` becomes a prefix made from the test's own text: no name of a candidate's can meet it.
# `__builtin_printf` is g++'s and clang++'s `printf` without a header.
# Between `begin` and `end` stands one assertion, whatever else was counted there: it passes where all of that does.
PREAMBLE = """
static long @passed = 0, @reached = 0;
#define @check(...) do { ++@reached; try { if (static_cast<bool>((__VA_ARGS__))) ++@passed; } catch (...) {} } while (0)
#define @value(...) ((void)[&] { @check(__VA_ARGS__); }())
#define @begin { const long @p = @passed, @r = @reached; bool @good = false; try { {
#define @end } @good = @passed - @p == @reached - @r; } catch (...) {} @passed = @p + @good; @reached = @r + 1; }
"""
REPORT = """
int main(%(parameters)s) {
    bool @finished = false;
    try { @finished = @main(%(arguments)s) == 0; } catch (...) {}
    if (@reached < %(least)d) @reached = %(least)d;
    if (!@finished && @passed == @reached) --@passed;
    if (@reached > %(most)d) { @passed = @passed * %(most)d / @reached; @reached = %(most)d; }
    __builtin_printf("\\nPASSED %%ld/%%ld\\n", @passed, @reached);
    return @passed == @reached ? 0 : 1;
}
"""


class Edit(NamedTuple):
    """Bytes `start` to `end` of the test give way to `text`."""

    start: int
    end: int
    text: str


class Counted(NamedTuple):
    """A test whose assertions are counted, and how many there are; None where only a run can tell."""

    harness: str
    declared: int | None


@dataclass(frozen=True)
class Names:
    """What the test's own functions, lambdas and macros mean for the statements that use them."""

    checks: frozenset[bytes]
    """May throw: a call that is a statement is an assertion."""
    failures: frozenset[bytes]
    """Always throw: a call is as good as a `throw`."""
    hidden_in: frozenset[bytes]
    """Words in the bodies of macros: variables used where the text does not show it."""


@dataclass(frozen=True)
class Found:
    """Where a test asserts something."""

    words: tuple[Node, ...]
    """Every `assert`; one inside of a guard is not an assertion of its own."""
    macros: tuple[Edit, ...]
    """Those in the bodies of macros, already replaced."""
    guards: tuple[Node, ...]
    """Statements that throw where the candidate is wrong."""
    calls: tuple[Node, ...]
    """The words outside of the guards."""


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
    root = _parser().parse(source).root_node
    main = _find_main(root)
    if main is None or any(_is_foreign(node) for node in _walk(root)):
        return None
    names = _read_names(root)
    found = _find_assertions(root, names)
    if not (found.calls or found.macros or found.guards):
        return None
    declared = _count_straight(found, _body(main))
    edits = [*_assert_edits(found), *_piece_edits(found, names, root, _body(main)), *_main_edits(main)]
    first = min(edit.start for edit in edits)
    place = next(item.start_byte for item in root.children if item.end_byte > first)
    prefix = f"rlvr_{hashlib.sha256(source).hexdigest()[:12]}_"
    harness = _apply(source, [Edit(place, place, PREAMBLE), *edits, *found.macros], prefix)
    return Counted(harness + _report(main, declared).replace("@", prefix), declared)


# Reading: what a statement of the test is


@cache
def _parser() -> Parser:
    import tree_sitter_cpp  # here, so that who counts no assertions needs no parser
    from tree_sitter import Language, Parser

    return Parser(Language(tree_sitter_cpp.language()))


def _walk(node: Node, enter: Callable[[Node], bool] = lambda node: True) -> Iterator[Node]:
    """The node and everything below it, in the order of the text; nothing below a node that `enter` refuses."""
    waiting = [node]
    while waiting:
        node = waiting.pop()
        yield node
        if enter(node):
            waiting.extend(reversed(node.children))


def _text(node: Node | None) -> bytes:
    return (node.text if node is not None else None) or b""


def _functions(root: Node) -> Iterator[Node]:
    return (node for node in _walk(root) if node.type == "function_definition" and node.child_by_field_name("body"))


def _body(function: Node) -> Node:
    body = function.child_by_field_name("body")
    assert body is not None
    return body


def _declarator(function: Node) -> Node | None:
    node = function.child_by_field_name("declarator")
    while node is not None and node.type != "function_declarator":
        node = node.child_by_field_name("declarator")
    return node


def _name(node: Node | None) -> bytes:
    return _text(node.child_by_field_name("declarator")) if node else b""


def _parameters(function: Node) -> list[Node]:
    declarator = _declarator(function)
    listed = declarator.child_by_field_name("parameters") if declarator else None
    return [node for node in listed.named_children if _text(node) != b"void"] if listed else []


def _find_main(root: Node) -> Node | None:
    """The one definition of `main`, at the top level, with a plain body and no or two parameters."""
    mains = [node for node in _functions(root) if _name(_declarator(node)) == b"main"]
    if len(mains) != 1 or mains[0] not in root.children:
        return None
    body = _body(mains[0])
    if body.type != "compound_statement" or body.children[-1].is_missing:
        return None
    parameters = _parameters(mains[0])
    return mains[0] if len(parameters) in (0, 2) and not any(b"const" in _text(node) for node in parameters) else None


def _is_test_body(function: Node) -> bool:
    """`main`, and any `void test_this()` beside it."""
    is_method = function.parent is not None and function.parent.type == "field_declaration_list"
    is_procedure = _text(function.child_by_field_name("type")) == b"void" and not _parameters(function)
    return (is_procedure and not is_method) or _name(_declarator(function)) == b"main"


def _is_foreign(node: Node) -> bool:
    """The test prints the marker, or means something of its own by `assert`."""
    if node.type in ("string_literal", "raw_string_literal", "preproc_arg"):
        return PRINTS_MARKER.search(_text(node)) is not None
    if node.type in ("preproc_def", "preproc_function_def"):
        return _text(node.child_by_field_name("name")) == b"assert"
    return node.type == "function_declarator" and _name(node) == b"assert"


def _read_names(root: Node) -> Names:
    macros = {
        _text(node.child_by_field_name("name")): _text(node.child_by_field_name("value"))
        for node in _walk(root)
        if node.type in ("preproc_def", "preproc_function_def")
    }
    bodies = _helper_bodies(root)
    failures = {name for name, body in bodies.items() if any(part.type == "throw_statement" for part in body.children)}
    failures |= {name for name, text in macros.items() if text.startswith(b"throw")}
    words = {name: set(WORD.findall(text)) for name, text in macros.items()}
    hidden = frozenset[bytes]().union(*words.values())
    words |= {name: set(WORD.findall(_text(body))) for name, body in bodies.items()}
    checks = {b"throw"}
    while grown := {name for name, used in words.items() if used & checks and b"assert" not in used} - checks:
        checks |= grown
    return Names(frozenset(checks), frozenset(failures), hidden)


def _helper_bodies(root: Node) -> dict[bytes, Node]:
    """The bodies of the test's functions and named lambdas that are no test bodies."""
    bodies = {_name(_declarator(node)): _body(node) for node in _functions(root) if not _is_test_body(node)}
    for node in _walk(root):
        value = node.child_by_field_name("value") if node.type == "init_declarator" else None
        body = value.child_by_field_name("body") if value and value.type == "lambda_expression" else None
        if body is not None:
            bodies[_name(node)] = body
    bodies.pop(b"", None)
    return bodies


def _find_assertions(root: Node, names: Names) -> Found:
    bodies = [_body(node) for node in _functions(root) if _is_test_body(node)]
    guards = tuple(guard for body in bodies for guard in _find_guards(body, names))
    words = tuple(node for node in _walk(root) if _is_assert(node))
    macros = tuple(edit for node in _walk(root) if node.type == "preproc_function_def" for edit in _macro_edits(node))
    guarded = {part.id for guard in guards for part in _walk(guard)} if words else set[int]()
    return Found(words, macros, guards, tuple(word for word in words if word.id not in guarded))


def _is_assert(node: Node) -> bool:
    call = node.parent
    return node.text == b"assert" and not node.child_count and call is not None and call.type == "call_expression"


def _find_guards(node: Node, names: Names) -> list[Node]:
    """The outermost statements of a body that fail by throwing, not those of functions within."""
    if node.type in NO_STATEMENTS:
        return []
    if node.type == "expression_statement":
        return [node] if _called(node) in names.checks - names.failures else []
    if (node.type == "if_statement" or _must_throw_before_its_end(node, names)) and _is_guard(node, names):
        return [node]
    below = [guard for child in node.named_children for guard in _find_guards(child, names)]
    return [node] if node.type == "try_statement" and not below and _is_guard(node, names) else below


def _must_throw_before_its_end(node: Node, names: Names) -> bool:
    """A `try` whose own block fails where nothing was thrown: one assertion, whatever else it calls."""
    return node.type == "try_statement" and any(_fails(statement, names) for statement in _statements(_body(node)))


def _is_guard(node: Node, names: Names) -> bool:
    """An `if` or a `try` that may fail at the end of a branch, leaves by no other way, and asserts nothing else."""
    inner = list(_walk(node, lambda part: part.type != "lambda_expression"))
    return (
        any(_fails(statement, names) for branch in _branches(node) for statement in _statements(branch))
        and not any(part.type in JUMPS for part in inner)
        and all(_is_never_true(part) for part in _walk(node) if _is_assert(part))
    )


def _branches(node: Node) -> Iterator[Node]:
    """What an `if` chain, or a `try` with its handlers, may run."""
    for child in node.named_children:
        if child.type in ("else_clause", "catch_clause", "if_statement"):
            yield from _branches(child)
        elif child.type not in NO_STATEMENTS:
            yield child


def _statements(branch: Node) -> Sequence[Node]:
    return branch.named_children if branch.type == "compound_statement" else [branch]


def _fails(statement: Node, names: Names) -> bool:
    if statement.type == "throw_statement" or _called(statement) in names.failures:
        return True
    return _called(statement) == b"assert" and NEVER_TRUE.match(_text(statement)) is not None


def _called(statement: Node) -> bytes:
    """The name that a statement calls; empty where it is not a plain call."""
    call = next(iter(statement.named_children), None) if statement.type == "expression_statement" else None
    return _text(call.child_by_field_name("function")) if call and call.type == "call_expression" else b""


def _is_never_true(word: Node) -> bool:
    """The word of an `assert(false)`: where it stands, the run has gone wrong."""
    return NEVER_TRUE.match(_text(word.parent)) is not None


def _statement(word: Node) -> Node | None:
    """The statement that an `assert` makes up; None where it is a part of one."""
    statement = word.parent.parent if word.parent else None
    return statement if statement and statement.type == "expression_statement" else None


# Counting ahead


def _count_straight(found: Found, body: Node) -> int | None:
    """The number of assertions where each is reached exactly once by every run that is not cut short."""
    tests = [*found.guards, *(_statement(word) for word in found.calls)]
    is_known = (
        not found.macros
        and all(test is not None and _is_straight(test, body) for test in tests)
        and not any(_is_never_true(word) for word in found.calls)
        and not _may_leave(body)
    )
    return len(tests) if is_known and len(tests) <= MAX_TESTS else None


def _is_straight(test: Node, body: Node) -> bool:
    block = test.parent
    while block is not None and block != body:
        if block.type == "try_statement":
            handlers = [child for child in block.children if child.type == "catch_clause"]
            if not all(any(_gives_up(part) for part in _walk(handler)) for handler in handlers):
                return False  # an honest run may go on, or end, without what the exception skipped
        elif block.type != "compound_statement":
            return False
        block = block.parent
    return block is not None


def _gives_up(node: Node) -> bool:
    return node.type == "throw_statement" or (node.type == "return_statement" and not SUCCESS.match(_text(node)))


def _may_leave(body: Node) -> bool:
    """There is a way out before the last statement, handlers of exceptions apart."""
    last = next((child for child in reversed(body.named_children) if child.type != "comment"), None)
    return any(
        (node.type in ("return_statement", "goto_statement") and node != last) or node.text in ENDS_THE_PROCESS
        for node in _walk(body, lambda node: node.type not in ("lambda_expression", "catch_clause"))
    )


# Editing


def _assert_edits(found: Found) -> Iterator[Edit]:
    return (Edit(word.start_byte, word.end_byte, "@check" if _statement(word) else "@value") for word in found.words)


def _macro_edits(macro: Node) -> Iterator[Edit]:
    value = macro.child_by_field_name("value")
    for match in MACRO_ASSERT.finditer(_text(value)):
        start, end = ((value.start_byte if value else 0) + place for place in match.span("name"))
        yield Edit(start, end, "@value" if match["before"] is None else "@check")


def _piece_edits(found: Found, names: Names, root: Node, body: Node) -> Iterator[Edit]:
    """Count the guards, and let each assertion of a straight `main` fail together with the declarations it needs.

    `int x = f(2); if (x != 4) throw ...;` is one piece: an `f` that throws must not keep the others from running.
    """
    uses = defaultdict[bytes, list[int]](list)
    for match in WORD.finditer(_text(body)):
        uses[match[0]].append(body.start_byte + match.start())
    shared = _shared_names(root) - names.checks
    tests = [*found.guards, *(statement for word in found.calls if (statement := _statement(word)))]
    known = {test.id for test in tests}
    for place, test in enumerate(tests):
        start = test.start_byte
        if _is_straight(test, body):
            start = _piece_start(test, known, shared, names.hidden_in, uses)
        if place < len(found.guards) or start < test.start_byte:
            yield Edit(start, start, "@begin ")
            yield Edit(test.end_byte, test.end_byte, " @end")


def _shared_names(root: Node) -> frozenset[bytes]:
    """The variables by which one piece might reach another; not `auto candidate = f`, another name for a function."""
    values: dict[bytes, bytes] = {}
    for node in _walk(root):
        is_prototype = node.parent == root and _declarator(node) is not None
        if node.type == "declaration" and not is_prototype:
            values.update(_declared(node))
    return frozenset(name for name, value in values.items() if not WORD.fullmatch(value) or value in values)


def _declared(declaration: Node) -> Iterator[tuple[bytes, bytes]]:
    """Each variable with the text that it starts from."""
    for declarator in declaration.children_by_field_name("declarator"):
        value = declarator.child_by_field_name("value") if declarator.type == "init_declarator" else None
        for node in _walk(declarator, lambda node, value=value: node != value):  # type: ignore[misc]
            if node.type == "identifier" and node != value:
                yield _text(node), _text(value)


def _piece_start(
    test: Node, tests: set[int], shared: frozenset[bytes], hidden: frozenset[bytes], uses: Mapping[bytes, Sequence[int]]
) -> int:
    """Where the declarations begin that only this assertion needs; its own start where it shares anything."""
    piece = [test]
    while (before := piece[-1].prev_named_sibling) is not None and before.id not in tests and _is_plain(before, shared):
        piece.append(before)
    used = {word for part in piece for word in WORD.findall(_text(part))}
    declared = {name for part in piece if part.type == "declaration" for name, _ in _declared(part)}
    scope_end = test.parent.end_byte if test.parent else test.end_byte
    is_shared = (
        bool(declared & hidden)
        or any(place < scope_end for name in declared for place in _after(uses, name, test))
        or any(_after(uses, name, test) for name in (used & shared) - declared)
    )
    return test.start_byte if is_shared else piece[-1].start_byte


def _after(uses: Mapping[bytes, Sequence[int]], name: bytes, test: Node) -> Sequence[int]:
    """The first place after `test` where a name is used."""
    places = uses.get(name, ())
    following = bisect_left(places, test.end_byte)
    return places[following : following + 1]


def _is_plain(statement: Node, shared: frozenset[bytes]) -> bool:
    if statement.type == "declaration" and not all(name in shared for name, _ in _declared(statement)):
        return False  # another name for a function: every assertion may use it
    if statement.type not in ("declaration", "expression_statement", "comment"):
        return False
    return not any(part.type in TYPE_BODIES for part in _walk(statement))


def _main_edits(main: Node) -> Iterator[Edit]:
    declarator = _declarator(main)
    name = declarator.child_by_field_name("declarator") if declarator else None
    assert name is not None
    yield Edit(main.start_byte, main.start_byte, "static ")
    yield Edit(name.start_byte, name.end_byte, "@main")
    # only `main` itself may end without a `return`
    yield Edit(main.end_byte - 1, main.end_byte - 1, "return 0; ")


def _report(main: Node, declared: int | None) -> str:
    has_parameters = bool(_parameters(main))
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
