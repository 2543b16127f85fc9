"""Answers that do no work: zeros, NaN, infinities, empty and constant values, the input handed back, the input cleared.

A test that one of them passes says too little: a policy that is paid by it finds the answer in a day. They are made
from the signatures of the functions that a task leaves open; a task that leaves a class open has none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from rlvr_cpp.tasks.task import Task
from rlvr_cpp.verifier.cpp.signature import Function, Parameter, Unit, read_prompt, read_trusted_unit
from rlvr_cpp.verifier.tiers.travel import FLOATS, NUMBERS, SEQUENCES, Type, read_type

MAX_ANSWERS = 24
"""Of one task."""
MAX_ELEMENTS = 4
"""Values of an element that containers are filled with."""
LONG = 1000
"""Elements of an answer that is meant to drown what it fails."""
NOTHING = "nothing is done"
LINES = ("0", "1", "-1", "YES", "NO")
"""What a program may print instead of an answer."""
SPECIAL = {"NaN": '__builtin_nan("")', "infinity": "__builtin_inf()", "minus infinity": "-__builtin_inf()"}
Named = tuple[str, str]
"""What a person calls a value, and the expression."""


def degenerate_answers(task: Task) -> dict[str, str]:
    """Whole candidates by what a person calls them; none where the task leaves no plain function open."""
    if task.cases:
        return dict(_programs())
    prompt = read_prompt(task.prompt)
    if prompt is None:
        return {}
    context = read_trusted_unit(prompt.context)
    test = read_trusted_unit(task.test)
    opened = [prompt.function] if prompt.function is not None else []
    owed = [f for f in (*context.prototypes, *test.prototypes) if test.calls(f.name) and f.name not in _names(opened)]
    if not opened and not owed:
        return {}
    bodies = [(function, dict(_bodies(function, context))) for function in (*opened, *dict.fromkeys(owed))]
    names = dict.fromkeys(name for _, choices in bodies for name in choices)
    start = task.prompt.rstrip() if opened else "\n".join([*_included(test), task.prompt, ""])
    return {name: start + _definitions(start, opened, bodies, name) for name in islice(names, MAX_ANSWERS)}


def _programs() -> Iterator[Named]:
    """Whole programs that do not look at what they read."""
    yield "the input is echoed", "#include <iostream>\nint main() { std::cout << std::cin.rdbuf(); }\n"
    for line in LINES:
        yield f"the line {line}", f'#include <cstdio>\nint main() {{ std::puts("{line}"); }}\n'


def _names(functions: Sequence[Function]) -> set[str]:
    return {function.name for function in functions}


def _included(test: Unit) -> list[str]:
    """The headers that the types in a test's own prototypes come from."""
    return [f"#include <{name}>" for name in test.includes if not name.startswith('"')]


def _definitions(
    start: str, opened: Sequence[Function], bodies: Sequence[tuple[Function, dict[str, str]]], name: str
) -> str:
    """What `start` leaves open, with every function ended in the same way, or else by doing nothing."""
    pieces = []
    for function, choices in bodies:
        body = choices.get(name, choices[NOTHING])
        if function in opened:
            pieces.append(f"{'' if start.endswith('{') else ' {'}\n    {body}\n}}\n")
        else:
            pieces.append(f"{_head(function)} {{\n    {body}\n}}\n")
    return "".join(pieces)


def _head(function: Function) -> str:
    listed = ", ".join(f"{_plain(one)} {_name(one, place)}" for place, one in enumerate(function.parameters))
    return f"{function.result} {function.name}({listed})"


def _plain(parameter: Parameter) -> str:
    return parameter.type.removesuffix("[]") + ("*" if parameter.type.endswith("[]") else "")


def _name(parameter: Parameter, place: int) -> str:
    return parameter.name or f"argument_{place}"


def _bodies(function: Function, context: Unit) -> Iterator[Named]:
    """Ways to end a function, the commonest first."""
    result = read_type(function.result, context.aliases, context.names)
    types = [read_type(_plain(one), context.aliases, context.names) for one in function.parameters]
    parameters = [(_name(one, place), types[place]) for place, one in enumerate(function.parameters)]
    is_void = function.result == "void"
    yield NOTHING, "" if is_void else f"return {_default(result)};"
    values = [] if result is None or is_void else list(_values(result if result.reach == "*" else result.value))
    changed = [(name, own) for name, own in parameters if own is not None and own.reach == "&" and not own.is_const]
    if changed:
        cleared = " ".join(f"{name} = {own.value}();" for name, own in changed)
        yield "the input is cleared", cleared + ("" if is_void else f" return {_default(result)};")
    for name, own in parameters:
        if result is not None and own is not None and own.value == result.value:
            yield f"{name} is handed back", f"return {name};"
    for words, expression in values:
        yield words, f"return {expression};"
    if result is not None:
        yield from _as_long_as_the_input(result.value, parameters)


def _default(result: Type | None) -> str:
    return '""' if result is not None and result.reach == "*" else "{}"


def _values(own: Type) -> Iterator[Named]:
    """Constant values of a type. That of doing nothing is not among them."""
    if own.reach == "*":
        yield "the text 'a'", '"a"'
    elif own.name == "bool":
        yield "true", "true"
    elif own.name in NUMBERS:
        special = SPECIAL if own.name in FLOATS else {}
        for words, number in {**special, "1": "1", "-1": "-1"}.items():
            yield words, f"static_cast<{own}>({number})"
    elif own.name == "std::string":
        yield "the text 'a'", 'std::string("a")'
    elif own.name in ("std::pair", "std::tuple"):
        yield from _each_the_same(own)
    elif own.name.removeprefix("std::") in SEQUENCES and isinstance(own.arguments[0], Type):
        for words, element in _elements(own.arguments[0]):
            yield f"only {words}", f"{own}{{{element}}}"
        if own.name == "std::vector":
            yield f"{LONG} zeros", f"{own}({LONG})"


def _elements(own: Type) -> list[Named]:
    return [("zeros", f"{own}()"), *islice(_values(own), MAX_ELEMENTS - 1)]


def _each_the_same(own: Type) -> Iterator[Named]:
    """Pairs and tuples whose parts are all NaN, all 1, and so on, as far as they can be."""
    parts = [dict(_values(part)) for part in own.arguments if isinstance(part, Type)]
    for words in dict.fromkeys(words for part in parts for words in part):
        filled = (part.get(words, f"{kind}()") for part, kind in zip(parts, own.arguments, strict=True))
        yield words, f"{own}({', '.join(filled)})"


def _as_long_as_the_input(result: Type, parameters: Sequence[tuple[str, Type | None]]) -> Iterator[Named]:
    if result.name != "std::vector" or not isinstance(result.arguments[0], Type):
        return
    for name, own in parameters:
        if own is not None and (own.name == "std::string" or own.name.removeprefix("std::") in SEQUENCES):
            for words, element in _elements(result.arguments[0]):
                yield f"{words}, as many as {name} is long", f"return {result}({name}.size(), {element});"
