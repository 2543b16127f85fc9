"""Tests that have memory written to by who does not know where it ends.

An index is checked where a test says it. What is handed a pointer, or an iterator that is one, checks nothing: with
`std::copy(answer.begin(), answer.end(), got)` a long answer writes over whatever stands behind `got`, such as the
expectation. Such tests need a fence around each of their variables.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from rlvr_cpp.verifier.cpp.lexemes import node_text, parse, walk

if TYPE_CHECKING:
    from tree_sitter import Node

OF_THE_LIBRARY = """
    copy copy_n copy_if copy_backward move_backward transform fill_n generate_n merge set_union set_intersection
    set_difference set_symmetric_difference unique_copy reverse_copy rotate_copy remove_copy remove_copy_if replace_copy
    replace_copy_if partition_copy sample partial_sum adjacent_difference inclusive_scan exclusive_scan swap_ranges
    uninitialized_copy uninitialized_copy_n uninitialized_fill_n data memcpy memmove mempcpy memset strcpy strcat stpcpy
    strncpy strncat sprintf vsprintf sscanf fread alloca malloc calloc realloc"""
WRITERS = frozenset(OF_THE_LIBRARY.split())
"""What writes where it is told, and where such memory comes from."""
CONSTANT = ("const", "constexpr")
FENCE = """
extern "C" const char* __asan_default_options() {
    return "abort_on_error=1:detect_leaks=0:detect_stack_use_after_return=0:allocator_may_return_null=1";
}
"""
"""By which the text of a fenced test is known; the leak checker would need ptrace, and an oracle forgets on purpose."""


@lru_cache(maxsize=512)
def hands_on_memory(test: str) -> bool:
    """Whether a test has something written to through a pointer or an iterator that may leave its variable."""
    root = parse(test.encode(errors="replace"))
    arrays = dict(found for node in walk(root) if (found := _array(node)) is not None)
    return any(_is_handed_on(node, arrays) for node in walk(root))


def fenced(test: str, oracle: str) -> str:
    """The text of the oracle that was made of a test, with the sign that it needs a fence where it does."""
    return oracle + FENCE if hands_on_memory(test) else oracle


def _array(node: Node) -> tuple[str, int] | None:
    """The name and the dimensions of the array that is declared here, unless nobody may write to it."""
    dimensions, inner, holder = 0, node, node.parent
    while inner.type == "array_declarator" and (within := inner.child_by_field_name("declarator")) is not None:
        dimensions, inner = dimensions + 1, within
    while holder is not None and holder.type == "init_declarator":
        holder = holder.parent
    if not dimensions or inner.type != "identifier" or holder is None or holder.type != "declaration":
        return None
    return None if any(node_text(one) in CONSTANT for one in holder.children) else (node_text(inner), dimensions)


def _is_handed_on(node: Node, arrays: dict[str, int]) -> bool:
    if node.type == "new_declarator":
        return True
    name, holder = node_text(node), node.parent
    if node.type not in ("identifier", "field_identifier") or holder is None:
        return False
    if name in WRITERS:
        return holder.type in ("call_expression", "qualified_identifier", "field_expression", "template_function")
    return name in arrays and holder.type != "array_declarator" and not _is_bounded(node, holder, arrays[name])


def _is_bounded(node: Node, holder: Node, dimensions: int) -> bool:
    """An array is used by one who knows how long it is: as an element, in a loop over all, or for its size alone."""
    while holder.type == "subscript_expression" and holder.child_by_field_name("argument") == node:
        if holder.parent is None:
            break
        node, holder, dimensions = holder, holder.parent, dimensions - 1
    if holder.type == "parenthesized_expression" and holder.parent is not None:
        node, holder = holder, holder.parent
    is_address = holder.type == "pointer_expression" and node_text(holder).startswith("&")
    is_whole = holder.type == "sizeof_expression" or holder.child_by_field_name("right") == node
    return not is_address and (dimensions <= 0 or (is_whole and holder.type in ("sizeof_expression", "for_range_loop")))
