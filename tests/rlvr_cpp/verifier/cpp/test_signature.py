"""Reading C++ at global scope: functions, the one left open, names; and no text raises."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlvr_cpp.verifier.cpp.signature import Function, Parameter, read_prompt, read_unit


def function(result, name, *parameters, specifiers=()):
    read = tuple(Parameter(*one) if isinstance(one, tuple) else Parameter(one) for one in parameters)
    return Function(result, name, read, frozenset(specifiers))


PROTOTYPES = [
    ("int f(int a);", function("int", "f", ("int", "a"))),
    ("int f(void);", function("int", "f")),
    ("void f(int, const char*);", function("void", "f", "int", "const char*")),
    ("const std::string& f(std :: string && s);", function("const std::string&", "f", ("std::string&&", "s"))),
    ("unsigned long long f(unsigned long long x);", function("unsigned long long", "f", ("unsigned long long", "x"))),
    ("int* f(const int *p, int a[], int b[3]);", function("int*", "f", ("const int*", "p"), ("int[]", "a"), ("int[3]", "b"))),
    (
        "map<int, vector<string>> f(pair<int, int> p, tuple<int, bool, char> t);",
        function("map<int,vector<string>>", "f", ("pair<int,int>", "p"), ("tuple<int,bool,char>", "t")),
    ),
    ("auto f(int x) -> std::vector<int>;", function("std::vector<int>", "f", ("int", "x"))),
    ('int f(int a = 3, string s = "a,)", V v = {1, 2});', function("int", "f", ("int", "a", "3"), ("string", "s", '"a,)"'), ("V", "v", "{1, 2}"))),
    ("int f(int (*g)(int), int (&a)[3]);", function("int", "f", ("int(*)(int)", "g"), ("int(&)[3]", "a"))),
    (
        "[[nodiscard]] static inline constexpr int f([[maybe_unused]] int a) noexcept;",
        function("int", "f", ("int", "a"), specifiers=("static", "inline", "constexpr", "noexcept")),
    ),
    ("__attribute__((noinline)) int f(int a) __attribute__((pure));", function("int", "f", ("int", "a"))),
    ("extern int f(int);", function("int", "f", "int", specifiers=("extern",))),
    ("int /* int g(); */ f( // (\n int /* , int b */ a);", function("int", "f", ("int", "a"))),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), PROTOTYPES, ids=[text for text, _ in PROTOTYPES])
def test_a_prototype_is_read_whole(text, expected):
    unit = read_unit(text)
    assert unit.declared == unit.prototypes == (expected,)
    assert unit.defined == ()


@pytest.mark.parametrize(("text", "expected"), PROTOTYPES, ids=[text for text, _ in PROTOTYPES])
def test_a_definition_reads_like_its_prototype(text, expected):
    assert read_unit(text.removesuffix(";") + " { return {}; }").defined == (expected,)


def test_one_declaration_can_name_several_functions():
    declared = read_unit("int *f(int), g(), &h(char), variable;").declared
    assert declared == (function("int*", "f", "int"), function("int", "g"), function("int&", "h", "char"))


def test_an_overload_is_owed_when_only_the_other_one_is_defined():
    unit = read_unit("int f(int a); int f(double); int f(int b) { return b; }")
    assert unit.prototypes == (function("int", "f", "double"),)


@pytest.mark.parametrize(
    "text",
    [
        "template <class T> T f(T a);",
        "struct S { int f(int); };",
        "namespace n { int f(int); }",
        "int S::f(int a) { return a; }",
        "bool operator==(S, S);",
        "int (*f)(int);",
        "int x(3);",
        "// int f(int);",
        'const char* s = "int f(int);";',
        "#define F int f(int);",
        "int f(int a, ;;);",
        "int f(int a $ b);",
    ],
)
def test_what_is_no_plain_function_at_global_scope_is_none(text):
    unit = read_unit(text)
    assert not unit.declared
    assert not unit.defined


def test_names_of_a_text_are_told_apart():
    unit = read_unit(
        "#include <vector>\n#include<bits/stdc++.h>\n#include \"own.h\"\n#define ll long long\n#define SQUARE(x) x*x\n"
        "using namespace std;\ntypedef const vector<int> V;\nusing P = pair<int, int>;\ntypedef int *I;\n"
        "struct S { int member; }; enum class E { a }; enum D { b = 2 }; union U; template <class T> struct Q {};\n"
        "template <class T> T generic(T t);\nnamespace n { int hidden; }\n"
        "const int LIMIT = 3; constexpr double PI = 3.14; static int counter; extern int other; int table[3];\n"
    )  # fmt: skip
    assert unit.includes == ("vector", "bits/stdc++.h", '"own.h"')
    assert unit.uses_std
    assert {name: meaning.split() for name, meaning in unit.aliases.items()} == {
        "ll": ["long", "long"],
        "V": ["const", "vector<int>"],
        "P": ["pair<int,", "int>"],
    }
    assert unit.names == {"SQUARE", "I", "S", "E", "D", "b", "U", "Q", "generic", "n"}
    assert unit.constants == {"LIMIT", "PI"}
    assert unit.variables == {"counter", "other", "table"}


def test_using_one_name_is_not_using_std():
    assert not read_unit("using std::vector;\n// using namespace std;\n").uses_std


def test_a_call_is_neither_a_declaration_nor_a_member_nor_text():
    unit = read_unit(
        'int f(int); int g(int); int h(int); int k(int);\nint main() { /* g(1) */ x.g(1); p->g(2); n::g(3); "g(4)"; f(1); ::h(2); n::k; }'
    )
    assert [name for name in "fghk" if unit.calls(name)] == ["f", "h"]
    assert "g" in unit.identifiers


@pytest.mark.parametrize(
    ("text", "context", "name"),
    [
        ("// sum\nint solve(const int* v, int n) {\n", "// sum\n", "solve"),
        ("int solve(int n)\n{\n    int r = 0;\n    for (;;) {\n", "", "solve"),
        ("int helper(int a) { return '{'; } // {\nint solve(int n) {", "int helper(int a) { return '{'; } // {\n", "solve"),
        ('const char* s = "{"; auto r = R"x({)x"; int solve(int n) {', 'const char* s = "{"; auto r = R"x({)x"; ', "solve"),
        ("struct S { int x; };\nint solve(S s) {", "struct S { int x; };\n", "solve"),
        ("int solve(int a, int b)", "", "solve"),
        ("int solve(int a);", "int solve(int a);", None),
        ("Write solve(x), which returns {a, b}.", "Write solve(x), which returns {a, b}.", None),
        ("", "", None),
    ],
)  # fmt: skip
def test_the_open_function_is_found_behind_its_context(text, context, name):
    prompt = read_prompt(text)
    assert prompt.context == context
    assert (prompt.function.name if prompt.function else None) == name


@pytest.mark.parametrize(
    "text",
    [
        "struct Tally {\n    int total = 0;\n    void add(int x) {\n",
        "namespace n {\nint solve(int n) {",
        'extern "C" {\nint solve(int n) {',
        "template <class T>\nT solve(T n) {",
        "int table[] = {",
        "int S::solve(int n) {",
        "{",
    ],
)
def test_another_open_brace_is_no_open_function(text):
    assert read_prompt(text) is None


FRAGMENTS = st.sampled_from(
    ["int ", "solve", "(", ")", "{", "}", "<", ">", ",", ";", "*", "&", "[", "]", "=", '"', "'", "/*", "*/", "//", "\n",
     "#define a b\n", "#include <x>", "template", "struct S", "R\"x(", ")x\"", "::", "->", "std", "\\", "\0", "é", "\ud800",
     "1'000", "operator", "typedef ", "using ", "const ", "extern \"C\"", "...", "decltype(auto) ", "~", "#if 1\n"]
)  # fmt: skip


@given(st.lists(FRAGMENTS, max_size=40).map("".join) | st.text(max_size=80))
def test_no_text_raises(text):
    unit = read_unit(text)
    assert unit.identifiers >= set(unit.mentions)
    read_prompt(text)


@pytest.mark.parametrize("piece", ["(", "{", "<", "a<", 'R"x(', "int f(", "/*", '"', "int ****", "vector<", "#if 1\n"])
def test_deep_and_endless_texts_are_read_too(piece):
    text = piece * 5000
    assert read_unit(text).defined == ()
    read_prompt(text)


def test_a_text_beyond_the_limit_is_an_empty_one():
    assert read_unit("int f();" + " " * 100, max_bytes=100).declared == ()


def test_a_declaration_of_thousands_is_read_and_cut_at_sixty_four():
    names = [f"f{i}" for i in range(20_000)]
    unit = read_unit("static const int " + ",".join(f"*{name}(int)" for name in names) + ";")
    assert len(unit.declared) == 64
    assert unit.declared[63] == function("const int*", "f63", "int", specifiers=("static",))
    assert {"f64", "f19999"} <= unit.names


@pytest.mark.parametrize("piece", ["[[a]]", "[[a]];", "[[unused]]"])
def test_a_text_full_of_attributes_is_an_empty_one(piece):
    text = piece * 100_000 + " int f() {"
    assert read_unit(text).declared == ()
    assert read_prompt(text) is None
