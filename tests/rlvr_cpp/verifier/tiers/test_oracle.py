"""How a test is split from its candidate: what can be, what cannot, and what of a candidate gets through."""

import json
import subprocess
from importlib import resources

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlvr_cpp.verifier.cpp.signature import tokens
from rlvr_cpp.verifier.tiers.oracle import differs, is_open, mentions_all, split
from tests.rlvr_cpp.verifier.tiers.test_two_processes import MARKER_TEST, RIGHT, SOLVE


def test_plain_numbers_need_no_header():
    texts = split(MARKER_TEST, SOLVE, SOLVE + RIGHT)
    header = texts.worker.replace("\n#include", "\n #include")
    wanted = subprocess.run(
        ["g++", "-std=c++11", "-M", "-xc++", "-"], input=header, capture_output=True, text=True, check=True
    )
    assert [name for name in wanted.stdout.split() if name.startswith("/") and "stdc-predef" not in name] == []


def test_tasks_with_the_same_types_share_a_worker():
    first, second = (split(MARKER_TEST.replace("solve", name), SOLVE.replace("solve", name), "") for name in "fg")
    assert first.worker == second.worker
    assert (first.functions, second.functions) == (("f",), ("g",))
    assert split(MARKER_TEST, SOLVE.replace("int n", "long n"), "").worker != first.worker


def test_the_c_librarys_function_is_never_judged_in_the_candidates_place(tmp_path, compilers):
    """A worker that includes `abs` must still call the candidate's own."""
    declaration = "#include <string>\nint abs(int x);\nstd::string sign(int x) {\n"
    test = '#include <cstdio>\nint main() { std::printf("%d%s\\n", abs(-1), sign(1).c_str()); }\n'
    texts = split(test, declaration, "")
    worker = tmp_path / "worker.o"
    worker.write_bytes(texts.with_names(compilers.object("g++", texts.worker, "-std=c++17", "-O0")))
    wanted = subprocess.run(["nm", "--undefined-only", worker], capture_output=True, text=True, check=True).stdout
    assert "_Z3absi" in wanted.split()


@pytest.mark.parametrize(
    ("handler", "wanted"),
    [("...", False), ("const std::out_of_range& error", True), ("std::exception&", True), ("...) {} try {} catch (std::bad_alloc&", True)],
)  # fmt: skip
def test_exceptions_have_a_type_only_where_the_test_asks_for_it(handler, wanted):
    test = f"#include <stdexcept>\nint main() {{ try {{ solve(nullptr, 0); }} catch ({handler}) {{ return 0; }} return 1; }}\n"
    texts = split(test, SOLVE, "")
    assert ("#define RLVR_STANDARD_EXCEPTIONS\n" in texts.worker) == wanted
    assert "#define RLVR_EXCEPTIONS\n" in texts.worker


def test_the_worker_learns_no_expected_value():
    texts = split(MARKER_TEST.replace("== 2", "== 741852"), SOLVE, SOLVE + RIGHT)
    assert "741852" in texts.oracle
    assert "741852" not in texts.worker
    assert "PASSED" not in texts.worker


MAIN = "int main() { return solve(3); }\n"


@pytest.mark.parametrize(
    ("test", "declaration"),
    [
        ("int main() { Tally t; t.add(3); return t.total; }\n", "struct Tally {\n    int total = 0;\n    void add(int x) {\n"),
        ("static int k = 3;\nint price(int id) { return id * k; }\n" + MAIN, "int price(int id);\nint solve(int n) {\n"),
        (MAIN, "int counter = 0;\nint solve(int n) {\n"),
        (MAIN, "extern int limit;\nint solve(int n) {\n"),
        (MAIN, "template <class T> T solve(T n) {\n"),
        (MAIN, "namespace n {\nint solve(int n) {\n"),
        (MAIN, "struct P { int x; };\nint solve(P p) {\n"),
        (MAIN, "struct P { int x; };\nP solve(int n) {\n"),
        (MAIN, "struct string { int x; };\nstring solve(int n) {\n"),
        (MAIN, "void solve(int n) {\n"),
        (MAIN, "void solve(const int& n) {\n"),
        (MAIN, "auto solve(int n) {\n"),
        (MAIN, "int& solve(int n) {\n"),
        (MAIN, "int* solve(int n) {\n"),
        (MAIN, "int solve(int* p) {\n"),
        (MAIN, "int solve(const int* p, double n) {\n"),
        (MAIN, "int solve(const int* p, int key) {\n"),
        (MAIN, "int solve(char* s) {\n"),
        (MAIN, "int solve(char* s, int n) {\n"),
        (MAIN, "int solve(char* s, int size) {\n"),
        (MAIN, "int solve(int** p, int n) {\n"),
        (MAIN, "int solve(void* p, int n) {\n"),
        (MAIN, "int solve(int p[3]) {\n"),
        (MAIN, "int solve(int (&p)[3]) {\n"),
        (MAIN, "int solve(int (*f)(int)) {\n"),
        (MAIN, "#include <functional>\nint solve(std::function<int(int)> f) {\n"),
        (MAIN, "#include <vector>\nint solve(std::vector<int*> f) {\n"),
        (MAIN, "#include <memory>\nint solve(std::unique_ptr<int> f) {\n"),
        (MAIN, "#include <istream>\nint solve(std::istream& in) {\n"),
        (MAIN, "int solve(int n, ...) {\n"),
        (MAIN, "typedef int* P;\nint solve(const P p, int n) {\n"),
        ("int main() { return other(3); }\n", "int solve(int n) {\n"),
        ("int solve(int n) { return n; }\n" + MAIN, "int solve(int n) {\n"),
        ('#include "solution.h"\n' + MAIN, None),
        ("#include <iostream>\nint main() { std::cout.rdbuf(nullptr); return solve(3); }\n", "int solve(int n) {\n"),
        ("int main() { int n; std::cin >> n; return solve(n); }\n", "int solve(int n) {\n"),
        ("int main() { std::thread t([] { solve(3); }); t.join(); }\n", "int solve(int n) {\n"),
        ("void* operator new(decltype(sizeof 0) n) { ++count; return malloc(n); }\n" + MAIN, "int solve(int n) {\n"),
        ("int main() { try { solve(3); } catch (const Own& e) { return 1; } }\n", "struct Own {};\nint solve(int n) {\n"),
        ("int main() { try { solve(3); } catch (int e) { return e; } }\n", "int solve(int n) {\n"),
        ("int main() { return 0; }\n", None),
        ("", None),
        ("", ""),
    ],
)  # fmt: skip
def test_what_needs_one_process_is_not_split(test, declaration):
    assert split(test, declaration, (declaration or "") + "    return n; } int main2() { return 0; }") is None


@pytest.mark.parametrize("specifier", ["static", "inline", "constexpr", "static inline"])
def test_a_declaration_may_say_how_its_function_is_linked(specifier):
    plain, other = (split(MAIN, f"{words} solve(int n) {{\n", "") for words in ("int", f"{specifier} int"))
    assert plain is not None
    assert other == plain


@pytest.mark.parametrize(
    "code",
    [
        "struct Yes { template <class T> bool operator==(T) const { return true; } };\nYes solve(int) { return {}; }\n",
        "auto solve(int n) { return n; }\n",
        "template <class T> T solve(T n) { return n; }\n",
        "namespace n { int solve(int n) { return n; } }\nusing n::solve;\n",
        "#define solve(x) 3\n",
        "#define int struct Yes\nint solve(int n) { return {}; }\n",
        "#define Yes int evil; int\nYes solve(int n) { return 3; }\n",
        "int evil();\nint solve(int n = evil()) { return n; }\n",
        'int solve(int n = sizeof "evil") { return n; }\n',
        "int solve(int n) asm(\"evil\");\nint solve(struct evil { } n) { return 3; }\n",
        "int printed = 0;\nint solve(decltype(printed) n) { return n; }\n",
        "int solve(__attribute__((vector_size(16))) int n, evil) { return 3; }\n",
        "int main() { return 0; }\n",
        "int sólve(int n) { return n; }\n",
        "bool stoi(const char* s) { return true; }\n",
        "#include <array>\nint solve(std::array<std::array<int, 4000>, 4000> n) { return 3; }\n",
    ],
)  # fmt: skip
def test_a_candidates_own_signature_smuggles_nothing(code):
    test = '#include <cstdio>\n#include <string>\nint main() { int passed = solve(3) == 3 && stoi(std::string("1")) == 1; return !passed; }\n'
    assert split(test, None, code) is None


def test_a_candidate_does_not_choose_what_kind_of_test_it_is_put_to():
    assert is_open(MAIN, None)
    assert is_open(
        "using namespace std;\nint main() { auto f = solve; vector<int> v; return f(accumulate(v.begin(), v.end(), 0)); }\n",
        None,
    )
    assert not is_open(MAIN, "int solve(int n);")
    assert not is_open("int solve(int n);\n" + MAIN, None)
    for needs_a_type in (
        "Stack s;",
        "auto s = Stack<int>{};",
        "return Stack::size();",
        "std::vector<Stack> s;",
        "new Stack;",
    ):
        assert not is_open(f"int main() {{ solve(3); {needs_a_type} }}\n", None)
        assert split(f"int main() {{ solve(3); {needs_a_type} }}\n", None, "int solve(int n) { return n; }") is None


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ("F(1, 2).n", "struct F { int n, d; F(int n, int d); };"),
        ("F(1, 2) == F(2, 4)", "class F { int n; public: F(int, int); bool operator==(const F&) const; };"),
        ("pick(1, 2)", "template <class T> T pick(T a, T b) { return a; }"),
        ("pick(Low)", "enum Level { Low, High }; int pick(Level);"),
        ("High == 1", "enum Level { Low, High };"),
        ("limit == 3", "const int limit = 3;"),
        ("value(make(1))", "struct P { int x; }; P make(int); int value(P);"),
    ],
)
def test_what_trusted_text_knows_for_an_object_or_a_template_is_no_call_of_a_function(made, said):
    test = f"int main() {{ return !({made}); }}\n"
    assert is_open(test, None)
    assert not is_open(test, said)
    assert not is_open(test, None, said)
    assert split(test, None, "int F(int, int) { return 1; }", said) is None
    assert is_open(MAIN, None, f"{said}\nint solve(int n) {{ return n; }}\n")


def test_a_declaration_stands_for_the_header_that_a_test_includes():
    with_header = '#include "solution.h"\n' + MAIN
    assert split(with_header, "int solve(int n);", "") == split("\n" + MAIN, "int solve(int n);", "")


def test_what_a_candidate_only_declares_is_for_the_linker_to_miss():
    assert split(MAIN, None, "int solve(int n);") == split(MAIN, None, "int solve(int n) { return n; }")


def test_the_types_that_a_candidate_proposes_are_bounded():
    """Each is compiled on our side; so many could hold it up for minutes."""
    own = [f"int solve(std::vector<std::array<int, {n}>> v) {{ return 1; }}" for n in range(1, 31)]
    small, large = ("\n".join(["#include <array>", "#include <vector>", *own[:n]]) for n in (20, 30))
    assert split(MAIN, None, small) is not None
    assert split(MAIN, None, large) is None


def test_arguments_come_back_only_where_there_is_no_result():
    """Else a candidate could change what its answer is compared with."""
    test = "int main() { int x = 1; return f(x); }\n"
    for code, comes_back in (("void f(int& x) { x = 2; }", True), ("int f(int& x) { return x = 2; }", False)):
        own_part = split(test, None, code).oracle.rpartition("}  // namespace rlvr")[2]
        assert ("receive_into" in own_part) == comes_back


DIFFERENT = {
    "int solve(int n) { return n; }": False,
    "typedef int I;\nint helper();\nI solve(I n) { return n; }": False,
    "int solve(const int n) { return n; }": False,
    "int solve(int n) { return n; }\nlong solve(long n) { return n; }": False,
    "int solve(int n) { return n }": False,
    "int sloved(int n) { return n; }": False,
    "long solve(int n) { return n; }": True,
    "int solve(const int& n) { return n; }": True,
    "static int solve(int n) { return n; }": True,
    "inline int solve(int n) { return n; }": True,
    "template <class T> T solve(T n) { return n; }": True,
    "int solve(int n) { return n; }\nint main() { return solve(3); }": True,
    "struct Yes {};\nYes solve(int n) { return {}; }": True,
}


@pytest.mark.parametrize("code", DIFFERENT)
def test_a_function_that_is_not_what_was_declared_is_compiled_with_what_calls_it(code):
    parts = split(MAIN, "int solve(int n);", "")
    assert differs(parts, code) == DIFFERENT[code]
    assert mentions_all(parts, code) == ("solve" in code)


def test_what_stands_around_a_candidates_signature_is_left_behind():
    code = (
        '#include <vector>\n#include <evil>\n#include "/etc/evil"\n#include </etc/evil>\n// evil\\\nusing evil\n'
        "/* using namespace std; */\n#pragma evil\nnamespace evil { int x; }\n"
        "[[deprecated(\"evil\")]] __attribute__((alias(\"evil\"))) int /* evil\n*/ solve(/*evil*/ int\tevil // evil\n, int b = 3) { evil(); }\n"
        "bool operator==(int, evil);\nint __evil(int) {}\nint rlvr_evil(int) {}\n"
    )  # fmt: skip
    texts = split("int main() { return solve(3) + __evil(1) + rlvr_evil(2); }\n", None, code)
    assert texts.functions == ("solve",)
    assert texts.oracle.count("evil") == 2
    assert "#include <vector>" in texts.oracle
    assert "using namespace" not in texts.oracle


PIECES = st.sampled_from(
    ["int ", "solve", "(", ")", "{", "}", "<", ">", ",", ";", "*", "&", "=", '"', "/*", "*/", "//", "\n", "evil", " evil ",
     "#define int evil\n", "#define evil int\n", "#include <evil>\n", "#include <vector>\n", "int solve(int n) {}\n",
     "std::vector<", "std::", "typedef int evil;", "using evil = int;", "evil solve(evil evil) {}", "[[evil]]", "= 3", "operator",
     "int solve(int evil = 3", "int solve(", "\\\n", "R\"(", ")\"", "auto ", "->", "const ", "string", "noexcept", "throw(evil)"]
)  # fmt: skip

ALLOWED = frozenset(tokens(split(MAIN, None, "int solve(int n) {}").oracle)) | frozenset(tokens(
    "# include < vector > std :: string const & && * char double static_cast long send_array send_text receive_text "
    "receive_into receive_array new using namespace noexcept define RLVR_VECTOR RLVR_STRING = 3 rlvr_1 rlvr_2 rlvr_3 1 2 4"
))  # fmt: skip


@given(st.lists(PIECES, max_size=30).map("".join))
def test_no_word_of_a_candidate_reaches_the_oracle(code):
    texts = split(MAIN, None, code)
    assert texts is None or set(tokens(texts.oracle)) <= ALLOWED


def test_a_function_that_shadows_the_library_does_not_compile(compilers):
    """The test's own `abs` is the library's, whatever the candidate defines."""
    test = "#include <cstdlib>\nint main() { return abs(solve(1) - 2) < 1 ? 0 : 1; }\n"
    code = "long solve(int n) { return 50; }\nint labs(long) { return 0; }\nint div(int, int) { return 0; }\n"
    assert split(test, None, code + "int abs(long) { return 0; }\n").functions == ("solve",)
    texts = split(test.replace("abs(", "labs("), None, code)
    assert "labs" in texts.functions
    with pytest.raises(AssertionError, match="labs"):
        compilers.object("g++", texts.oracle, "-std=c++17", "-O0")


@given(st.text(max_size=60) | st.lists(PIECES, max_size=20).map("".join))
def test_with_a_declaration_the_candidate_has_no_say(code):
    assert split(MARKER_TEST, SOLVE, code) == split(MARKER_TEST, SOLVE, "")
    assert split(MAIN, "struct S {\n", code) is None
    assert split("int solve(int n);\n" + MAIN, None, code) == split("int solve(int n);\n" + MAIN, None, "")


@given(st.text(max_size=60), st.none() | st.text(max_size=60), st.text(max_size=60))
def test_no_texts_raise(test, declaration, code):
    split(test, declaration, code)


FAMILIES = resources.files("rlvr_cpp") / "data" / "families.jsonl"


def families() -> dict[str, list[dict]]:
    rows: dict[str, list[dict]] = {}
    for line in FAMILIES.read_text().splitlines():
        row = json.loads(line)
        rows.setdefault(row["task_id"].split("/")[0], []).append(row)
    return rows


@pytest.mark.parametrize("family", sorted(families()))
def test_every_shipped_task_is_split_but_classes_and_callbacks(family):
    for row in families()[family]:
        for test in (row["test"], row["hidden_test"]):
            texts = split(test, row["prompt"], row["prompt"] + row["reference"])
            assert (texts is None) == (family in ("classes", "callgraphs")), row["task_id"]
