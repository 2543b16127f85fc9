"""What a prompt gives and what it leaves open: by what an answer defines, it is known and fitted in.

A prompt may open a function, a class around it, a namespace around both, or nothing at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from rlvr_cpp.tasks.reading.joining import Part, parts_of, without_linkage
from rlvr_cpp.tasks.task import Task
from rlvr_cpp.verifier.cpp.braces import open_braces
from rlvr_cpp.verifier.cpp.heads import DEFINITIONS
from rlvr_cpp.verifier.cpp.outline import Item, open_items, outline


@dataclass(frozen=True)
class Asked:
    """What the prompt gives and leaves open."""

    task: Task
    opened: tuple[tuple[Item, int], ...]
    """What it leaves open, outermost first, with the offset of its text."""
    depth: int
    """How many braces it leaves open."""

    @classmethod
    def of(cls, task: Task) -> Asked:
        """What a task's prompt says."""
        return cls(task, tuple(open_items(task.prompt)), open_braces(task.prompt))

    @property
    def is_open(self) -> bool:
        """A brace will close what it asks for: one that it has opened, or that the head at its end still needs."""
        return self.depth > 0 or any(item.body is None for item, _ in self.opened)

    @property
    def has_main(self) -> bool:
        """The tests bring a `main`."""
        return bool(self.task.test or self.task.hidden_test) and self.task.entry_point != "main"

    @property
    def prompt(self) -> list[Part]:
        """Its text, for a completion that continues it."""
        parts = parts_of(self.task.prompt)
        is_function = len(self.opened) == 1 and self.opened[0][0].kind == "function"
        return (
            [one for part in parts for one in without_linkage(part, self.opened[0][0].name)] if is_function else parts
        )

    def definition(self, items: Iterable[Item]) -> Item | None:
        """The item that answers the task: the outermost of what is open that is defined, else the entry point.

        A namespace that is opened to all holds it as well, and a class of which the prompt gives another version.
        """
        items = list(items)
        defined = [item for item in items if item.kind in (*DEFINITIONS, "scope") and _may_answer(item)]
        wanted = [opened.name for opened, _ in self.opened] + [self.qualified_name, self.task.entry_point]
        for name in filter(None, wanted):
            for item in reversed(defined):
                if name in item.names or (name in _inner_names(item) and _is_used(item.name, items)):
                    return item
        given = {} if self.opened else {item.name: item for item in outline(self.task.prompt) if item.kind == "type"}
        twins = (item for item in reversed(defined) if item.kind == "type" and item.name in given)
        return next((item for item in twins if self.task.entry_point in given[item.name].spelling), None)

    @property
    def qualified_name(self) -> str:
        """By which the innermost of what is open is defined outside of it all, such as `Solution::gain`."""
        return "::".join(opened.name for opened, _ in self.opened)

    def is_defined_in(self, items: Sequence[Item]) -> bool:
        """Before any brace that closes the prompt's: behind one, a base model has begun something else."""
        end = next((number for number, item in enumerate(items) if item.kind == "close"), len(items))
        return self.definition(items[:end]) is not None

    def can_be_called(self, answer: Item) -> bool:
        """It takes as many arguments as the function that the prompt opens, or is none."""
        name = self.opened[-1][0].name if answer.name == self.qualified_name and self.opened else answer.name
        asked = next((opened for opened, _ in self.opened if opened.name and opened.name == name), answer)
        wanted, taken = asked.read.parameters, answer.read.parameters
        has_defaults = "=" in answer.spelling[: answer.body]
        return wanted is None or taken is None or len(wanted) == len(taken) or has_defaults

    def replaced_from(self, answer: Item, closed: int) -> tuple[int, str, str]:
        """Where the prompt ends that stands before the answer, and what closes it before and behind the answer.

        `closed` braces of the prompt are closed behind the answer already.
        """
        if len(self.opened) > 1 and answer.name == self.qualified_name:
            method, offset = self.opened[-1]
            end = method.end if method.body is None else method.tokens[method.body].start
            return offset + end, ";" + "".join(map(_closer, reversed(self.opened[:-1]))) + "\n", ""
        for number, (opened, offset) in enumerate(self.opened):
            if not opened.name or opened.name not in answer.names:
                continue
            behind = "".join(map(_closer, [*reversed(self.opened[:number])][closed:]))
            inner = [item for item, _ in self.opened[number + 1 :]][:1]
            if opened.kind == "scope" and opened.body is not None:  # what it holds already stays
                stop = offset + opened.tokens[opened.body].end + (inner[0].head if inner else len(self.task.prompt))
                return min(stop, len(self.task.prompt)), "\n}\n", behind
            return offset + opened.head, "", behind
        return (self.opened[0][1] + self.opened[0][0].head if self.opened else len(self.task.prompt)), "", ""


def _closer(opened: tuple[Item, int]) -> str:
    return "\n};" if opened[0].kind == "type" else "\n}"


def _inner_names(scope: Item) -> frozenset[str]:
    return frozenset().union(*(item.names for item in scope.inner))


def _is_used(namespace: str, items: Iterable[Item]) -> bool:
    """`using` makes the names of a namespace, or one of them, global."""
    return any(item.spelling[0] == "using" and namespace in item.spelling for item in items)


def _may_answer(item: Item) -> bool:
    """A variable does where it can be called: a body often names its result as the function is named."""
    if item.kind != "variable":
        return True
    words = [token.text for token in item.tokens]
    return "function" in words or ("=", "[") in pairwise(words)
