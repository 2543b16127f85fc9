"""The names that a test uses and neither declares nor has from the library: what its candidates owe.

Read from the test alone, so that no candidate has a say in what kind of test it is put to: one of functions, or one
that needs types of the candidate's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from tree_sitter import Node

from rlvr_cpp.verifier.cpp.lexemes import node_text, parse, walk

LIBRARY_TYPES_TEXT = """
    string wstring u16string u32string string_view vector deque list forward_list array set multiset map multimap
    unordered_set unordered_multiset unordered_map unordered_multimap stack queue priority_queue pair tuple optional
    variant any bitset complex valarray span initializer_list function reference_wrapper unique_ptr shared_ptr weak_ptr
    allocator less greater equal_to not_equal_to less_equal greater_equal plus minus multiplies hash byte nullptr_t
    ostream istream iostream ostringstream istringstream stringstream ofstream ifstream fstream streambuf ios ios_base
    exception bad_alloc invalid_argument domain_error length_error out_of_range logic_error range_error overflow_error
    underflow_error runtime_error bad_cast bad_typeid bad_optional_access bad_variant_access regex smatch cmatch
    mt19937 mt19937_64 random_device default_random_engine uniform_int_distribution uniform_real_distribution
    normal_distribution numeric_limits is_same decay decay_t true_type false_type integral_constant enable_if_t
    chrono literals string_literals chrono_literals this_thread numbers ranges views filesystem placeholders
    thread mutex lock_guard unique_lock condition_variable atomic future promise fpos iterator back_insert_iterator
    FILE va_list time_t clock_t tm div_t ldiv_t lldiv_t ssize_t wint_t locale error_code type_info source_location
    """
LIBRARY_TYPES = frozenset(LIBRARY_TYPES_TEXT.split())
"""Types and namespaces of the library that a test may name without `std`."""
NAMES = ("identifier", "type_identifier", "namespace_identifier")
MEMBER = "field_identifier"
DECLARED_BY_NAME = {
    *("class_specifier", "struct_specifier", "union_specifier", "enum_specifier", "enumerator", "concept_definition"),
    *("namespace_definition", "namespace_alias_definition", "alias_declaration", "preproc_def", "preproc_function_def"),
}
DECLARED_INSIDE = {
    *("init_declarator", "function_declarator", "pointer_declarator", "reference_declarator", "array_declarator"),
    *("structured_binding_declarator", "type_parameter_declaration", "optional_type_parameter_declaration"),
    *("variadic_type_parameter_declaration", "variadic_declarator", "parenthesized_declarator", "preproc_params"),
    *("lambda_capture_initializer", "declaration", "parameter_declaration", "optional_parameter_declaration"),
    *(
        "for_range_loop",
        "type_definition",
        "field_declaration",
        "using_declaration",
        "labeled_statement",
        "goto_statement",
    ),
}


class FreeNames(NamedTuple):
    """What a text uses and does not declare."""

    values: frozenset[str]
    """Functions, variables, constants; such of the library as are used without `std`, too."""
    types: frozenset[str]
    """Types and namespaces that are not the library's."""


@lru_cache(maxsize=512)
def free_names(text: str) -> FreeNames:
    """The names that a text leaves to others. Any text will do."""
    root = parse(text.encode(errors="replace"))
    declared = {node_text(name) for node in walk(root) for name in _declared(node)}
    used = [(node.type, node_text(node)) for node in walk(root, _is_read) if node.type in NAMES and not _is_inner(node)]
    values = {name for kind, name in used if kind == "identifier"} - declared
    types = {name for kind, name in used if kind != "identifier"} - declared - LIBRARY_TYPES - {"std", ""}
    return FreeNames(frozenset(values), frozenset(types))


def _declared(node: Node) -> Iterator[Node]:
    if node.type in DECLARED_BY_NAME and (name := node.child_by_field_name("name")) is not None:
        yield name
    if node.type in DECLARED_INSIDE:
        typed = node.child_by_field_name("type")
        valued = node.child_by_field_name("value"), node.child_by_field_name("right"), node.child_by_field_name("body")
        yield from (
            child for child in node.children if child.type in (*NAMES, MEMBER) and child not in (typed, *valued)
        )


def _is_read(node: Node) -> bool:
    return node.type not in ("preproc_include", "using_declaration", "attribute_declaration")


def _is_inner(node: Node) -> bool:
    """It stands behind a `::`, whose left side says whose it is."""
    above = node.parent
    while above is not None and above.type in ("template_type", "template_function", "qualified_identifier"):
        if above.type == "qualified_identifier" and above.child_by_field_name("scope") not in (None, node):
            return True
        node, above = above, above.parent
    return False
