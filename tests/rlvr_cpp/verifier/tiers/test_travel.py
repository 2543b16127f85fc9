"""Types in canonical form: one spelling for each type, and none for a type that cannot travel."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlvr_cpp.verifier.cpp.signature import Function, Parameter, read_unit
from rlvr_cpp.verifier.tiers.travel import read_entry, read_type

ALIASES = {
    "ll": "long long",
    "Row": "std::vector<ll>",
    "Loop": "Loop2",
    "Loop2": "Loop",
    "Pointer": "int*",
    "int32": "const int",
}


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("int", "int"),
        ("unsigned", "unsigned int"),
        ("signed", "int"),
        ("long int long unsigned", "unsigned long long"),
        ("short int", "short"),
        ("signed char", "signed char"),
        ("long double", "long double"),
        ("int const &", "const int&"),
        ("char const * const", "const char*"),
        ("std::vector<std :: pair<int, string>> &&", "std::vector<std::pair<int, std::string>>&&"),
        ("::std::size_t", "__SIZE_TYPE__"),
        ("uint16_t", "__UINT16_TYPE__"),
        ("array<Row, 3u>", "std::array<std::vector<long long>, 3>"),
        ("tuple<int, bool, char>", "std::tuple<int, bool, char>"),
        ("int32", "const int"),
    ],
)
def test_each_type_has_one_spelling(text, canonical):
    assert str(read_type(text, ALIASES)) == canonical


@pytest.mark.parametrize(
    "text",
    ["", "int x", "auto", "long char", "double int", "long long double", "int**", "int*&", "int[3]", "volatile int", "struct S",
     "S", "own::vector<int>", "vector", "vector<int", "vector<int>>", "vector<int, Alloc<int>>", "pair<int>", "array<int, N>",
     "array<int, 0>", "array<int, 5000>", "array<array<int, 100>, 100>", "vector<int*>", "vector<int&>", "vector<Pointer>", "Pointer",
     "Loop", "std::function<int(int)>", "vector<" * 11 + "int" + ">" * 11, "x" * 2000, "const", "&", "std::", "decltype(0)"],
)  # fmt: skip
def test_what_is_not_on_the_list_has_none(text):
    assert read_type(text, ALIASES) is None


def test_a_name_that_the_text_defines_is_not_the_librarys():
    assert read_type("string", {}, frozenset({"string"})) is None
    assert str(read_type("std::string", {}, frozenset({"string"}))) == "std::string"


def test_aliases_that_grow_without_end_are_given_up():
    doubling = {f"a{n}": f"pair<a{n + 1}, a{n + 1}>" for n in range(60)}
    assert read_type("a0", doubling) is None


@pytest.mark.parametrize(
    ("parameters", "sends"),
    [
        ("const int* v, int n", "send_array"),
        ("const int* v, size_t numsSize", "send_array"),
        ("const int v[], int", "send_array"),
        ("const double* a, const double* b, const int& n", "send_array"),
        ("const char* s, int n", "send_text(rlvr_0);"),
        ("const char* s, int", "send_text(rlvr_0);"),
        ("const char* s, size_t length", "send_text(rlvr_0, "),
        ("const int* v, int key", None),
        ("const int* v, int k, int n", None),
        ("const int* v, bool n", None),
        ("const int* v, char n", None),
        ("const int* v, int* n", None),
        ("const int* v, double n", None),
    ],
)
def test_a_pointer_needs_a_parameter_that_counts(parameters, sends):
    (function,) = read_unit(f"int f({parameters});").declared
    entry = read_entry(function, {}, frozenset(), trusted=True)
    assert (entry is None) == (sends is None)
    assert entry is None or sends in entry.passages[0].send.format(x="rlvr_0")


@pytest.mark.parametrize("default", ["3", "-1", "1.5e3f", "0u", "true", "nullptr", "{}"])
def test_a_literal_default_may_come_from_anybody(default):
    function = Function("int", "f", (Parameter("int", "a", default),))
    assert read_entry(function, {}, frozenset(), trusted=False).passages[0].default == default


@pytest.mark.parametrize("default", ["f()", "x", '"a"', "1 + 1", "sizeof(int)", "3; evil", "{1}", "'a'"])
def test_another_default_only_from_a_trusted_text(default):
    function = Function("int", "f", (Parameter("int", "a", default),))
    assert read_entry(function, {}, frozenset(), trusted=False) is None
    assert read_entry(function, {}, frozenset(), trusted=True) is not None


@given(
    st.text(max_size=40)
    | st.lists(st.sampled_from(["int", "vector", "<", ">", ",", "&", "*", "std", "::", "const", "3"])).map(" ".join)
)
def test_no_text_raises_and_what_is_read_is_read_again(text):
    found = read_type(text, ALIASES)
    assert found is None or found.name.startswith("__") or read_type(str(found), {}) == found
