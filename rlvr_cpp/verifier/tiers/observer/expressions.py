"""The oracle's side of an expression: what the test says itself stays, what depends on the candidate is asked for.

The cut is as close to the candidate as its values travel. Comparisons, `!`, `&&`, arithmetic with one side of the
test's, casts and calls of the test's functions stay in the oracle; a value whose type does not travel is left where it
is, and what is done with it is asked for instead.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence

from tree_sitter import Node

from rlvr_cpp.verifier.cpp.lexemes import Edit, node_text
from rlvr_cpp.verifier.tiers.observer.challenge import Pure, can_be_repeated, challenge_text, open_arguments
from rlvr_cpp.verifier.tiers.observer.scope import CannotSplit, Scopes, Variable, declared_name, mentions
from rlvr_cpp.verifier.tiers.observer.thunks import (
    Learned,
    Lifted,
    Lifter,
    Moved,
    Thunks,
    edited,
    parameters_of,
    place_of,
)
from rlvr_cpp.verifier.tiers.observer.values import ANY_NUMBER, COMPARE, Knowledge, is_number, sent_type

TRUTH = "truth"
"""Expected of a condition: whatever number it is, it holds or not."""
OBJECT_FUNCTIONS = """
    move forward swap get begin end cbegin cend rbegin rend next prev distance sort find find_if copy make_unique
    make_shared ref cref as_const dynamic_pointer_cast static_pointer_cast addressof tie visit holds_alternative get_if
    advance reverse exchange"""
OF_OBJECTS = frozenset(OBJECT_FUNCTIONS.split())
"""Functions of `std` that are given objects rather than values."""
OF_NUMBERS = frozenset(("abs", "fabs", "fabsf", "fabsl", "sqrt", "floor", "ceil", "round", "lround", "pow"))
OF_NUMBERS |= {"isnan", "isinf", "isfinite"}
C_TEXT = """
    strcmp strncmp strcasecmp strncasecmp strlen strcpy strncpy strcat strncat strstr strchr strrchr strpbrk strspn
    strcspn memcmp memcpy memmove memchr printf fprintf sprintf snprintf puts fputs atoi atol atoll atof strtol strtoll
    strtod"""
OF_C_TEXT = frozenset(C_TEXT.split())
"""Functions that are given text in C's way: no `std::string` of the candidate can be their argument."""
CONVERSION = re.compile(r"%[-+ #0]*(?:\*|\d*)(?:\.(?:\*|\d*))?(?P<size>hh?|ll?|[zjtL])?(?P<kind>[a-zA-Z%])")
PRINTED = {"d": "int", "i": "int", "c": "int", "u": "unsigned int", "x": "unsigned int", "o": "unsigned int"}
PRINTED |= {"X": "unsigned int", "s": "std::string", **dict.fromkeys("fFeEgGaA", "double")}
LONGER = {"int": "long", "unsigned int": "unsigned long"}
LONG_SIZES = ("l", "ll", "z", "j", "t")
FORMATS = ("string_literal", "concatenated_string", "raw_string_literal")
"""What `printf` takes by the letter of a conversion, and by one of a longer number."""
EFFECTS = (
    *("field_expression", "update_expression", "new_expression", "delete_expression", "pointer_expression"),
    *("identifier", "subscript_expression"),
)
ASSERTS = ("assert",)
IS_FALSE = frozenset((("==", "false"), ("!=", "true"), ("==", "0"), ("!=", "1")))
"""Comparisons that say of their other side that it is false."""


class Expressions:
    """Cuts expressions. Raises `Moved` where something of the test has to be moved first, or CannotSplit."""

    def __init__(self, owed: frozenset[str], learned: Learned, functions: frozenset[str]) -> None:
        self.learned = learned
        self.scopes = Scopes(owed | learned.moved)
        self.known = Knowledge(self.scopes.look)
        self.thunks = Thunks()
        self.lifter = Lifter(self.scopes, self.known, learned, functions)
        self.lifter.write_lambda = self.lambda_text
        self.helpers: dict[str, list[Variable]] = {}
        """Functions and lambdas of the test that stay in the oracle and may be given objects: their parameters."""
        self.macros: frozenset[str] = frozenset()
        """Of the test, those that are called like functions."""
        self.self_judged = 0
        """Comparisons that the candidate's own code decides, and counts of the test that it could write to."""
        self.own_state: set[str] = set()
        """What a test counts by beside the candidate, such as the objects of a class that it is used with."""
        self.challenged = 0
        """Those among them that may be asked with other literals, too."""
        self.pure = Pure()
        """What may be repeated."""
        self.draws: tuple[int, ...] | None = None
        """By which draws each of those is, as a reference has said; None where there is no reference."""
        self.is_negated = False
        """Of the expression that is being cut the opposite is expected: a yes to everything fails by itself. As far as
        the text tells; a reference says it in its rehearsal."""
        self._results: dict[str, str] = {}

    # ------------------------------------------------------------------------------------------------ what is asked

    def value(self, node: Node, expected: str | None = None) -> str:
        """Ask for a value; of `expected` type where nothing else says one."""
        kind = self.learned.types.get(place_of(node))
        is_open = kind is None and self.learned.guesses
        if kind == "" and expected != TRUTH:
            raise CannotSplit(f"the value of {short(node)} cannot travel")
        if is_open and expected is None:
            raise CannotSplit(f"nothing says the type of {short(node)}: give a declaration or a reference")
        self.self_judged += any(node_text(mention) in self.own_state for mention in mentions(node))
        lifted = self.lifter.lift(node)
        if expected == TRUTH and (is_open or kind == ""):
            return self._ask("bool", node, lifted, lambda n: f"rlvr::give_truth(rlvr_out, {lifted.text});")
        if is_open:
            kind = sent_type(expected or "") or ANY_NUMBER
        if kind is None:
            return self._ask("int", node, lifted, lambda n: f"rlvr::probe<{n}>({lifted.text});")
        return self._ask(kind, node, lifted, lambda n: f"rlvr::give<{kind}>(rlvr_out, {lifted.text});")

    def value_as(self, node: Node, kind: str) -> str:
        """Ask for a value that is converted to a type, as the declaration of a variable does it."""
        lifted = self.lifter.lift(node)
        body = f"{kind} rlvr_value = {lifted.text}; rlvr_out.put<{kind}>(rlvr_value);"
        return self._ask(kind, node, lifted, lambda n: body)

    def effect(self, node: Node) -> str:
        """Have an expression evaluated for its effect."""
        lifted = self.lifter.lift(node)
        is_statement = node.type == "delete_expression"
        body = f"{lifted.text};" if is_statement else f"(void)({lifted.text});"
        return call("rlvr::tell", [str(self.thunks.add(place_of(node), lifted, lambda n: body)), *lifted.arguments])

    def _ask(self, kind: str, node: Node, lifted: Lifted, body: Callable[[str], str]) -> str:
        thunk = self.thunks.add(place_of(node), lifted, body)
        return call(f"rlvr::ask<{self.result_name(kind)}>", [str(thunk), *lifted.arguments])

    def result_name(self, kind: str) -> str:
        """A type as the oracle may say it inside of a macro's argument: without commas."""
        return self._results.setdefault(kind, f"rlvr_Result{len(self._results)}") if "," in kind else kind

    @property
    def result_names(self) -> list[str]:
        """The oracle's declarations of such names."""
        return [f"using {name} = {kind};" for kind, name in self._results.items()]

    def own_comparison(self, node: Node, operator: str) -> str:
        """A comparison that the candidate's own code decides, where possible with other literals as well."""
        self.self_judged += 1
        said = self.value(node, TRUTH)
        is_asked = said.startswith("rlvr::ask<bool>(") and (self.draws is not None or not self.is_negated)
        if operator != "==" or not is_asked or not can_be_repeated(node, self.pure):
            return said
        lifted = self.lifter.lift(node)
        arguments = open_arguments(lifted, self.pure)
        if not arguments:
            return said
        self.challenged += 1
        place = self.challenged - 1
        if self.draws and not self.draws[place]:
            return said
        body = f"rlvr::give_comparison(rlvr_out, [&] {{ return ({lifted.text}) ? 1 : 0; }});"
        thunk = self.thunks.add(place_of(node), lifted, lambda n: body)
        return challenge_text(place, thunk, arguments)

    @contextlib.contextmanager
    def negated(self, is_so: bool = True) -> Iterator[None]:
        """The opposite is expected of what is cut inside."""
        self.is_negated ^= is_so
        try:
            yield
        finally:
            self.is_negated ^= is_so

    # ---------------------------------------------------------------------------------------------------- expressions

    def travels(self, node: Node) -> bool:
        """Whether a value can be sent; where nobody knows yet, it is tried."""
        return self.learned.types.get(place_of(node)) != ""

    def is_object(self, node: Node) -> bool:
        """Whether it names an object that the oracle has a handle of."""
        variable = self.scopes.look(node_text(node)) if node.type == "identifier" else None
        return variable is not None and variable.in_observer

    def expression(self, node: Node, expected: str | None = None) -> str:
        """The oracle's text of an expression."""
        if node.type == "lambda_expression":
            return self.lambda_text(node)
        if not self.scopes.depends(node):
            return node_text(node)
        cuts: dict[str, Callable[[Node, str | None], str]] = {
            "parenthesized_expression": self._parenthesized,
            "condition_clause": self._condition,
            "comma_expression": lambda n, _: ", ".join(f"({self.statement_expression(c)})" for c in n.named_children),
            "binary_expression": self._binary,
            "unary_expression": self._unary,
            "conditional_expression": self._conditional,
            "assignment_expression": self._assignment,
            "subscript_expression": self._subscript,
            "cast_expression": self._cast,
            "initializer_list": lambda n, _: self.each_child(n),
            "compound_literal_expression": self._compound_literal,
            "call_expression": self._called,
        }
        return cuts.get(node.type, self.value)(node, expected)

    def each_child(self, node: Node, expected: str | None = None) -> str:
        """A node whose children are expressions of their own."""
        children = [child for child in node.named_children if child.type != "comment"]
        return edited(node, [edit(child, self.expression(child, expected)) for child in children])

    def _parenthesized(self, node: Node, expected: str | None) -> str:
        return f"({self.expression(node.named_children[0], expected)})"

    def _condition(self, node: Node, expected: str | None) -> str:
        if any(child.type == "declaration" for child in node.named_children):
            raise CannotSplit("a condition of the test declares a variable")
        first = [child for child in node.named_children if child.type == "init_statement"]
        edits = [edit(child, self.statement(child)) for child in first]
        edits += [edit(child, self.expression(child, TRUTH)) for child in node.named_children if child not in first]
        return edited(node, edits)

    def _binary(self, node: Node, expected: str | None) -> str:
        left, right, operator = _sides(node)
        if operator in ("&&", "||"):
            return f"{self.expression(left, TRUTH)} {operator} {self.expression(right, TRUTH)}"
        if operator in COMPARE:
            return self._comparison(node, left, right, operator)
        if operator in ("<<", ">>") and not self.scopes.depends(_first_operand(node)):
            return self._streamed(node, left, right, operator)
        own, other = (left, right) if self.scopes.depends(left) else (right, left)
        if self.scopes.depends(other) or not self.travels(own):
            return self.value(node, expected)
        hint = self._hint(self.known.type_of(other), exact=operator in "/%")
        if self.learned.guesses and hint is None:
            return self.value(node, expected)
        return f"{self.expression(left, hint)} {operator} {self.expression(right, hint)}"

    def _hint(self, kind: str | None, exact: bool = False) -> str | None:
        """What is expected beside a value of the test of this type; a number may be any, unless it is divided by."""
        if kind == "const char*":
            return "std::string"
        if is_number(kind):
            return kind if exact and kind not in ("float", "double", "long double") else ANY_NUMBER
        return sent_type(kind or "")

    def _comparison(self, node: Node, left: Node, right: Node, operator: str) -> str:
        depends = self.scopes.depends(left), self.scopes.depends(right)
        if "nullptr" in (node_text(left), node_text(right)):
            return self.value(node, TRUTH)
        if all(depends):
            if self.learned.guesses:
                raise CannotSplit(f"nothing says the types in {short(node)}: give a declaration or a reference")
            if self.travels(left) and self.travels(right):
                return f"{self.expression(left)} {operator} {self.expression(right)}"
            return self.own_comparison(node, operator)
        own, other = (left, right) if depends[0] else (right, left)
        if not self.travels(own):
            return self.own_comparison(node, operator)
        hint = self._hint(self.known.type_of(other))
        with self.negated((operator, node_text(other)) in IS_FALSE):
            return f"{self.expression(left, hint)} {operator} {self.expression(right, hint)}"

    def _streamed(self, node: Node, left: Node, right: Node, operator: str) -> str:
        """Into or out of a stream of the test, which moves to the observer where an object needs it."""
        is_unknown = self.is_object(right) or not self.travels(right) or self.learned.guesses
        if self.scopes.depends(right) and (is_unknown or operator == ">>"):
            raise Moved(node_text(_first_operand(node)))
        return f"{self.expression(left)} {operator} {self.expression(right)}"

    def _unary(self, node: Node, expected: str | None) -> str:
        argument, operator = node.child_by_field_name("argument"), node_text(node.child_by_field_name("operator"))
        if argument is None or not self.travels(argument) or operator not in ("!", "-", "+", "~", "not"):
            return self.value(node, expected)
        if operator not in ("!", "not"):
            return f"{operator} {self.expression(argument, expected)}"
        with self.negated():
            return f"{operator} {self.expression(argument, TRUTH)}"

    def _conditional(self, node: Node, expected: str | None) -> str:
        condition, yes, no = (child_of(node, name) for name in ("condition", "consequence", "alternative"))
        if not (self.travels(yes) and self.travels(no)):
            return self.value(node, expected)
        return (
            f"{self.expression(condition, TRUTH)} ? {self.expression(yes, expected)} : {self.expression(no, expected)}"
        )

    def _assignment(self, node: Node, expected: str | None) -> str:
        left, right, operator = _sides(node)
        if self.scopes.depends(left):
            return self.value(node, expected)
        kind = self.known.type_of(left)
        hint = ANY_NUMBER if is_number(kind) else sent_type(kind or "")
        return f"{node_text(left)} {operator} {self.expression(right, hint)}"

    def _subscript(self, node: Node, expected: str | None) -> str:
        argument, indices = child_of(node, "argument"), child_of(node, "indices")
        if self.scopes.depends(argument) and not self._is_helper_call(argument):
            return self.value(node, expected)
        return f"{self.expression(argument)}{self.each_child(indices, 'int')}"

    def _cast(self, node: Node, expected: str | None) -> str:
        kind, value = child_of(node, "type"), child_of(node, "value")
        if self.scopes.depends(kind) or not self.travels(value):
            return self.value(node, expected)
        return f"({node_text(kind)}){self.expression(value, self._hint(sent_type(node_text(kind))))}"

    def _compound_literal(self, node: Node, expected: str | None) -> str:
        kind, value = child_of(node, "type"), child_of(node, "value")
        return self.value(node, expected) if self.scopes.depends(kind) else node_text(kind) + self.each_child(value)

    # ---------------------------------------------------------------------------------------------------------- calls

    def _called(self, node: Node, expected: str | None) -> str:
        function, listed = child_of(node, "function"), child_of(node, "arguments")
        arguments = [child for child in listed.named_children if child.type != "comment"]
        name = _bare_function(function)
        if name in self.helpers and not _is_qualified(function):
            return self._call_helper(node, arguments, self.helpers[name])
        if self._is_cast(function) and len(arguments) == 1:
            kind = self._hint(sent_type(_cast_to(function)))
            is_plain = self.travels(arguments[0]) and not self.scopes.depends(function)
            return (
                edited(node, [edit(arguments[0], self.expression(arguments[0], kind))])
                if is_plain
                else self.value(node)
            )
        owner = function.child_by_field_name("argument") if function.type == "field_expression" else None
        if owner is not None and self._is_helper_call(owner):
            return edited(node, [edit(one, self.expression(one)) for one in (owner, *arguments)])
        of_object = self.scopes.depends(owner)
        if of_object or (function.type != "field_expression" and self.scopes.depends(function)):
            return self.value(node, expected)
        if name in OF_OBJECTS or (name not in self.macros and not all(map(self._can_be_argument, arguments))):
            return self.value(node, expected)
        hints = self._argument_hints(name, arguments)
        texts = [self.expression(argument, hint) for argument, hint in zip(arguments, hints, strict=True)]
        if name in OF_C_TEXT:
            texts = [f"{text}.c_str()" if text.startswith("rlvr::ask<std::string>(") else text for text in texts]
        return edited(node, [edit(argument, text) for argument, text in zip(arguments, texts, strict=True)])

    def _can_be_argument(self, node: Node) -> bool:
        return not self.scopes.depends(node) or (
            self.travels(node) and not (self.learned.guesses and self.is_object(node))
        )

    def _argument_hints(self, name: str, arguments: Sequence[Node]) -> list[str | None]:
        """What is expected of the arguments of a macro, or of a function that is none of the candidate's."""
        if name in ASSERTS or (name in self.macros and len(arguments) == 1):
            return [TRUTH] * len(arguments)
        if name in OF_NUMBERS:
            return [ANY_NUMBER] * len(arguments)
        if name.endswith("printf"):
            return _printed(arguments)
        plain = [self._hint(self.known.type_of(one)) for one in arguments if not self.scopes.depends(one)]
        return [next((kind for kind in plain if kind is not None), None)] * len(arguments)

    def _is_cast(self, function: Node) -> bool:
        is_kind = function.type in ("primitive_type", "sized_type_specifier")
        return is_kind or node_text(function).startswith("static_cast")

    def _is_helper_call(self, node: Node) -> bool:
        """Whether a value is what a function of the test returns, and so the test's own."""
        function = node.child_by_field_name("function") if node.type == "call_expression" else None
        return function is not None and _bare_function(function) in self.helpers and not _is_qualified(function)

    def _call_helper(self, node: Node, arguments: Sequence[Node], parameters: Sequence[Variable]) -> str:
        edits = []
        for place, argument in enumerate(arguments):
            parameter = parameters[place] if place < len(parameters) else Variable()
            if parameter.in_observer:
                text = self._object_argument(argument, parameter)
            elif not self.scopes.depends(argument):
                text = node_text(argument)
            else:
                text = self.expression(argument, self._hint(sent_type(parameter.type)))
            edits.append(edit(argument, text))
        return edited(node, edits)

    def _object_argument(self, node: Node, parameter: Variable) -> str:
        """What a helper is given for an object: the object itself, or a new one."""
        variable = self.scopes.look(node_text(node)) if node.type == "identifier" else None
        if variable is not None and variable.in_observer and not parameter.is_value:
            return variable.handle or node_text(node)
        if self.scopes.depends(node) and not parameter.is_value:
            return self.made(node)[0]
        lifted = self.lifter.lift(node)
        body = f"rlvr::put_slot(rlvr_out, rlvr::hold(new {parameter.type}({lifted.text})));"
        return call("rlvr::make", [str(self.thunks.add(place_of(node), lifted, lambda n: body)), *lifted.arguments])

    def made(self, node: Node) -> tuple[str, str]:
        """A new object in the observer, of a type that nobody spells: what makes it, and the type's alias there."""
        lifted = self.lifter.lift(node)
        maker, alias = self.thunks.maker(lifted, "auto", lifted.text)
        body = f"rlvr::put_slot(rlvr_out, rlvr::hold(new {alias}({maker}(rlvr_in))));"
        return call(
            "rlvr::make", [str(self.thunks.add_whole(place_of(node), lambda n: body)), *lifted.arguments]
        ), alias

    def referred(self, node: Node) -> tuple[str, str]:
        """An object that is there already: what refers to it, and the alias of its type."""
        lifted = self.lifter.lift(node)
        maker, alias = self.thunks.maker(lifted, "decltype(auto)", f"({lifted.text})")
        body = f"rlvr::put_slot(rlvr_out, rlvr::refer({maker}(rlvr_in)));"
        return call(
            "rlvr::make", [str(self.thunks.add_whole(place_of(node), lambda n: body)), *lifted.arguments]
        ), alias

    # --------------------------------------------------------------------------------------- statements, and functions

    def statement_expression(self, node: Node) -> str:
        """The oracle's text of an expression whose value nobody uses."""
        if not self.scopes.depends(node):
            return self.expression(node)
        if node.type in ("comma_expression", "parenthesized_expression"):
            return edited(node, [edit(child, self.statement_expression(child)) for child in node.named_children])
        if node.type in EFFECTS:
            return self.effect(node)
        if node.type == "assignment_expression":
            return self.effect(node) if self.scopes.depends(child_of(node, "left")) else self.expression(node)
        if node.type == "cast_expression" and node_text(child_of(node, "type")) == "void":
            return f"(void)({self.statement_expression(child_of(node, 'value'))})"
        if node.type == "binary_expression" and _sides(node)[2] in ("<<", ">>"):
            return self.effect(node) if self.scopes.depends(_first_operand(node)) else self.expression(node)
        if node.type == "call_expression" and not self._stays(node):
            return self.effect(node)
        return self.expression(node)

    def _stays(self, node: Node) -> bool:
        """Whether a call that is a statement is one of the test's own."""
        function, listed = child_of(node, "function"), child_of(node, "arguments")
        name = _bare_function(function)
        if (name in self.helpers and not _is_qualified(function)) or name in (*self.macros, *ASSERTS):
            return True
        if node_text(function) == "static_cast<void>":
            return False
        owner = function.child_by_field_name("argument") if function.type == "field_expression" else function
        return (
            not self.scopes.depends(owner)
            and name not in OF_OBJECTS
            and all(map(self._can_be_argument, listed.named_children))
        )

    def lambda_text(self, node: Node) -> str:
        """A lambda of the test, which stays in the oracle."""
        with self.scopes.inside():
            edits, _ = self.parameters(node.child_by_field_name("declarator"))
            body = child_of(node, "body")
            return edited(node, [*edits, edit(body, self.statement(body))])

    def parameters(self, declarator: Node | None) -> tuple[list[Edit], list[Variable]]:
        """Declare the parameters of a function of the test: objects of the candidate become handles."""
        edits, variables = [], []
        for parameter in parameters_of(declarator):
            kind, own = parameter.child_by_field_name("type"), parameter.child_by_field_name("declarator")
            name, spelled = declared_name(own), node_text(kind)
            is_pointer = own is not None and "*" in node_text(own)
            variable = Variable(type="" if is_pointer else spelled, is_const="const" in node_text(parameter).split())
            if self.scopes.depends(kind):
                pointed = f"{'const ' if variable.is_const else ''}{spelled}*"
                is_value = "&" not in node_text(own)
                alias = self.thunks.alias(pointed if is_pointer else spelled)
                variable = Variable(type=alias, in_observer=True, is_value=is_value)
                edits.append(edit(parameter, f"const rlvr::Handle& {name}"))
            self.scopes.declare(name, variable)
            variables.append(variable)
        return edits, variables

    def statement(self, node: Node) -> str:
        """The oracle's text of a statement (`statements.py`)."""
        raise NotImplementedError


def edit(node: Node, text: str) -> Edit:
    """What replaces a node."""
    return Edit(node.start_byte, node.end_byte, text)


def child_of(node: Node, name: str) -> Node:
    """A part that every sound node of this kind has. Raises CannotSplit."""
    child = node.child_by_field_name(name)
    if child is None:
        raise CannotSplit(f"the parser does not understand {short(node)}")
    return child


def _printed(arguments: Sequence[Node]) -> list[str | None]:
    """What `printf` and its like are given, as their format says it."""
    place = next((n for n, one in enumerate(arguments) if one.type in FORMATS), len(arguments))
    written = node_text(arguments[place]) if place < len(arguments) else ""
    found: list[str | None] = [None] * (place + 1)
    for conversion in CONVERSION.finditer(written):
        kind = PRINTED.get(conversion["kind"])
        if conversion["kind"] != "%":
            found += ["int"] * conversion[0].count("*")
            found.append(LONGER.get(kind or "", kind) if conversion["size"] in LONG_SIZES else kind)
    return (found + [None] * len(arguments))[: len(arguments)]


def _sides(node: Node) -> tuple[Node, Node, str]:
    return child_of(node, "left"), child_of(node, "right"), node_text(node.child_by_field_name("operator"))


def _first_operand(node: Node) -> Node:
    while node.type == "binary_expression":
        node = child_of(node, "left")
    return node


def _bare_function(function: Node) -> str:
    """The last name of what is called, without template arguments."""
    return re.sub(r"<.*", "", node_text(function), flags=re.DOTALL).rpartition("::")[2].strip()


def _is_qualified(function: Node) -> bool:
    return "::" in node_text(function).partition("<")[0]


def _cast_to(function: Node) -> str:
    return node_text(function).partition("<")[2].rpartition(">")[0] or node_text(function)


def short(node: Node) -> str:
    """The text of a node for a message."""
    text = " ".join(node_text(node).split())
    return repr(text if len(text) <= 60 else text[:57] + "...")


def call(function: str, arguments: Sequence[str]) -> str:
    """The text of a call."""
    return f"{function}({', '.join(arguments)})"
