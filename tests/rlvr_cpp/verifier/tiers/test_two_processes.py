"""A harness in one process and the candidate in another end as both do in one."""

import json
import re
import shutil
from importlib import resources
from typing import Any

import pytest

from rlvr_cpp import Program
from rlvr_cpp.verifier.tiers.oracle import split
from rlvr_cpp.verifier.tiers.two_processes import build_oracle, build_worker, run_in_two, split_of
from rlvr_cpp.verifier.toolchain.bench import open_bench
from rlvr_cpp.verifier.toolchain.toolchain import make_toolchain
from rlvr_cpp.verifier.verdict import WORKER_GONE
from rlvr_cpp.verifier.verifier import shared_workshop
from rlvr_sandbox import host_controls

STRICT = ("-O0", "-Wall", "-Wextra", "-Werror")


class Two:
    """A workshop, and the same compiler for what must not cause a single warning."""

    def __init__(self, compiler, compilers):
        if shutil.which(compiler) is None:
            pytest.skip(f"{compiler} is not installed")
        self.compiler, self.compilers = compiler, compilers
        self.workshop = shared_workshop(make_toolchain(compiler, (), 60.0, 60.0), host_controls())


@pytest.fixture(params=["g++", pytest.param("clang++", marks=pytest.mark.slow)])
def two(request, compilers):
    return Two(request.param, compilers)


@pytest.fixture(params=["g++", "clang++"])
def each(request, compilers):
    return Two(request.param, compilers)


@pytest.fixture
def gnu(compilers):
    return Two("g++", compilers)


def judge(two, test, declaration, code, std="c++17"):
    """How the harness and the candidate ended, each in its process."""
    with open_bench(Program(code, test, std=std, declaration=declaration), two.workshop) as bench:
        parts = split_of(bench.program)
        for text in (parts.oracle, parts.worker):
            two.compilers.object(two.compiler, text, f"-std={std}", *STRICT)
        oracle, built = build_oracle(std, two.workshop, parts), build_worker(bench, parts)
        assert built.failure is None, built.text
        return run_in_two(bench, oracle)


def in_process(two, test, code, std="c++17"):
    """How one text of both ended."""
    with open_bench(Program(f"{code}\n{test}", std=std), two.workshop) as bench:
        built = bench.build()
        assert built.failure is None, built.text
        return bench.run()


def assert_same(two, test, declaration, code, std="c++17"):
    harness, candidate = judge(two, test, declaration, code, std)
    whole = in_process(two, test, code, std)
    assert (harness.returncode, harness.stdout) == (whole.returncode, whole.stdout)
    assert candidate.returncode == 0
    return harness.stdout


MARKER_TEST = """#include <cstdio>

int main() {
    int passed = 0;
    { const int v[] = {3, 1, -2}; passed += solve(v, 3) == 2; }
    { const int v[] = {0}; passed += solve(v, 0) == 0; }
    { const int* v = nullptr; passed += solve(v, 0) == 0; }
    { const int v[] = {-2147483647 - 1, 2147483647}; passed += solve(v, 2) == -1; }
    std::printf("\\nPASSED %d/4\\n", passed);
    return passed == 4 ? 0 : 1;
}
"""
SOLVE = "// The sum of v.\nint solve(const int* v, int n) {\n"
RIGHT = "    int r = 0;\n    for (int i = 0; i < n; ++i) r += v[i];\n    return r;\n}\n"
WRONG = "    return n ? v[0] + v[1] + v[n - 1] : 0;\n}\n"


@pytest.mark.parametrize(("body", "marker"), [(RIGHT, b"\nPASSED 4/4\n"), (WRONG, b"\nPASSED 3/4\n")])
def test_a_marker_test_says_what_it_says_in_one_process(each, body, marker):
    assert assert_same(each, MARKER_TEST, SOLVE, SOLVE + body) == marker


LONG = "a_name_of_one_hundred_and_ten_letters_which_needs_more_room_than_others_do_" + 35 * "x"


@pytest.mark.parametrize("name", ["f", "sum_of_all", LONG])
def test_a_compiled_worker_calls_the_functions_by_the_names_they_have(two, name):
    test = f'#include <cstdio>\nint main() {{ std::printf("%s\\n", {name}({{1, 2}}, "x").c_str()); }}\n'
    code = (
        "#include <string>\n#include <vector>\n"
        f"std::string {name}(std::vector<int> v, const std::string& s) {{ return s + std::to_string(v[0] + v[1]); }}\n"
    )
    assert assert_same(two, test, None, code) == b"x3\n"


VALUES = {
    "bool": "true false",
    "char": "'a' '\\0' '\\xff'",
    "signed char": "-128",
    "unsigned char": "255",
    "wchar_t": "L'x'",
    "char16_t": "u'x'",
    "char32_t": "U'\\U0001F600'",
    "short": "-32768",
    "unsigned short int": "65535",
    "int": "-2147483647 7",
    "unsigned": "4294967295u",
    "long": "-5000000000L",
    "unsigned long": "18446744073709551615ul",
    "long long int": "-9000000000000000000LL",
    "unsigned long long": "18446744073709551615ull",
    "__int128": "(__int128(1)<<100)",
    "float": "1.5f -0.0f",
    "double": "1e300 -1.0/3",
    "long double": "1.0L/3 -1e4000L",
    "std::int64_t": "-9000000000000000000LL",
    "size_t": "18446744073709551615ul",
    "uint8_t": "200",
    "std::string": 'std::string("a\\0b",3) std::string()',
    "std::vector<int>": "std::vector<int>{1,2,3} std::vector<int>{}",
    "vector<bool>": "std::vector<bool>{true,false,true}",
    "vector<vector<string>>": 'std::vector<std::vector<std::string>>{{"a","bc"},{},{""}}',
    "std::deque<long>": "std::deque<long>{1,2}",
    "std::list<char>": "std::list<char>{'a','b'}",
    "std::array<double,3>": "std::array<double,3>{{1,2,3}}",
    "std::set<std::string>": 'std::set<std::string>{"b","a"}',
    "std::multiset<int>": "std::multiset<int>{2,1,2}",
    "std::unordered_set<int>": "std::unordered_set<int>{5,6,7}",
    "std::map<std::string,vector<int>>": 'std::map<std::string,std::vector<int>>{{"k",{1}},{"l",{}}}',
    "std::multimap<int,char>": "std::multimap<int,char>{{1,'a'},{1,'b'}}",
    "std::unordered_map<std::string,int>": 'std::unordered_map<std::string,int>{{"x",1},{"y",2}}',
    "pair<int,string>": 'std::pair<int,std::string>(4,"four")',
    "std::tuple<int,bool,std::string>": 'std::tuple<int,bool,std::string>(1,true,"t")',
    "std::optional<int>": "std::optional<int>(3) std::optional<int>()",
    "std::complex<double>": "std::complex<double>(1,-2)",
    "Table": "Table{{1,2}}",
}

EVERYTHING = (
    "#include <bits/stdc++.h>\nusing namespace std;\ntypedef vector<int> Row;\nusing Table = std::vector<Row>;\n"
    "#define LL long long\n"
)


def test_every_type_travels_unchanged(two):
    """By value, by const reference, by reference and as a result; the text of one case is `type: values`."""
    declared, defined, calls = "", "", ""
    for number, (kind, values) in enumerate(VALUES.items()):
        headers = [f"{kind} same_{number}({kind} x)", f"void twice_{number}(const {kind}& from, {kind}& to)"]
        declared += "".join(f"{header};\n" for header in headers)
        defined += f"{headers[0]} {{ return x; }}\n{headers[1]} {{ to = from; }}\n"
        for value in values.split(" "):
            calls += f"  {{ {kind} x = {value}, y{{}}, z = same_{number}(x); twice_{number}(x, y);\n"
            calls += f'    std::printf("{number} %d %d\\n", int(z == x), int(y == x)); }}\n'
    test = f"#include <cstdio>\nint main() {{\n{calls}}}\n"
    stdout = assert_same(two, test, EVERYTHING + declared, EVERYTHING + defined)
    assert all(line.endswith(b" 1 1") for line in stdout.splitlines())
    assert len(stdout.splitlines()) == sum(len(values.split(" ")) for values in VALUES.values())


SHAPES_DECLARED = """#include <string>
#include <string_view>
#include <utility>
#include <vector>
void fill(int* v, int n, int value);
double dot(const double* a, const double* b, size_t count);
void swap_ends(unsigned char a[], int size);
int measure(const char* s);
int bytes(const char* s, int length);
int times(const char* s, int n);
const char* name(int which);
const std::string& longer(const std::string& a, const std::string& b);
int view(std::string_view s, const std::string_view t);
std::string take(std::string&& s);
bool divide(int a, int b, int& quotient, int& rest);
int count_calls();
int defaults(int a, int b = 40, const std::vector<int>& c = {1, 1});
int pick(int a);
int pick(double a);
int pick(const std::string& a);
int edit(std::string& a);
int edit(const std::string& a);
int quiet(int a) noexcept;
"""

SHAPES_DEFINED = """#include <cstring>
void fill(int* v, int n, int value) { for (int i = 0; i < n; ++i) v[i] = value + i; }
double dot(const double* a, const double* b, size_t count) { double r = 0; for (size_t i = 0; i < count; ++i) r += a[i] * b[i]; return r; }
void swap_ends(unsigned char a[], int size) { std::swap(a[0], a[size - 1]); }
int measure(const char* s) { return s ? (int)std::strlen(s) : -1; }
int bytes(const char* s, int length) { int r = 0; for (int i = 0; i < length; ++i) r += s[i]; return r; }
int times(const char* s, int n) { return (int)std::strlen(s) * n; }
const char* name(int which) { return which ? "some name" : nullptr; }
const std::string& longer(const std::string& a, const std::string& b) { return a.size() < b.size() ? b : a; }
int view(std::string_view s, const std::string_view t) { return (int)(s.size() * 10 + t.size()); }
std::string take(std::string&& s) { return std::move(s) + "!"; }
bool divide(int a, int b, int& quotient, int& rest) { if (!b) return false; quotient = a / b; rest = a % b; return true; }
int count_calls() { static int calls = 0; return ++calls; }
int defaults(int a, int b, const std::vector<int>& c) { return a + b + (int)c.size(); }
int pick(int a) { return a + 1; }
int pick(double a) { return (int)(a * 100); }
int pick(const std::string& a) { return (int)a.size(); }
int edit(std::string& a) { a += "x"; return 1; }
int edit(const std::string&) { return 2; }
int quiet(int a) noexcept { return a; }
"""

SHAPES_TEST = """#include <cstdio>
int main() {
    int v[4] = {9, 9, 9, 9};
    fill(v, 3, 5);
    std::printf("%d %d %d %d\\n", v[0], v[1], v[2], v[3]);
    const double a[] = {1, 2, 3}, b[] = {4, 5, 6};
    std::printf("%g\\n", dot(a, b, 3));
    unsigned char c[] = {1, 2, 3};
    swap_ends(c, 3);
    std::printf("%d %d %d\\n", c[0], c[1], c[2]);
    std::printf("%d %d %d\\n", measure("hello"), measure(""), measure(nullptr));
    std::printf("%d %d\\n", bytes("\\1\\0\\2", 3), times("ab", 300));
    std::printf("%s %d\\n", name(1), name(0) == nullptr);
    const std::string& first = longer("aa", "b");
    const std::string& second = longer("c", "ddd");
    std::printf("%s %s\\n", first.c_str(), second.c_str());
    std::printf("%d %s\\n", view("abc", std::string("de")), take(std::string("x")).c_str());
    int quotient = -1, rest = -1;
    std::printf("%d %d %d\\n", divide(17, 0, quotient, rest), quotient, rest);
    bool done = divide(17, 5, quotient, rest);
    std::printf("%d %d %d\\n", done, quotient, rest);
    count_calls();
    std::printf("%d\\n", count_calls());
    std::printf("%d %d %d\\n", defaults(1), defaults(1, 2), defaults(1, 2, {}));
    std::printf("%d %d %d %d\\n", pick(1), pick(1.5), pick("four"), quiet(6));
    std::string text = "text";
    const std::string fixed = text;
    std::printf("%d %d\\n", edit(text), edit(fixed));
    std::printf("%s\\n", text.c_str());
    return 3;
}
"""


def test_every_shape_of_signature_is_called_as_in_one_process(each):
    assert_same(each, SHAPES_TEST, SHAPES_DECLARED, SHAPES_DECLARED + SHAPES_DEFINED)


@pytest.mark.parametrize("std", ["c++11", "c++20"])
def test_other_standards_build_too(two, std):
    opened = "#include <map>\n#include <string>\nstd::map<std::string, int> count(std::string s, int n = 2) {\n"
    body = "    std::map<std::string, int> r;\n    r[s] = n;\n    return r;\n}\n"
    test = '#include <cstdio>\nint main() { std::printf("%d\\n", count("a")["a"]); return count("b", 5).at("b"); }\n'
    assert assert_same(two, test, opened, opened + body, std) == b"2\n"


def test_helpers_of_the_prompt_live_on_both_sides(two):
    opened = (
        "#include <string>\nusing namespace std;\nstruct Unrelated { int x = 0; };\nconst int SHIFT = 5;\n"
        "int helper(int a) { return a + SHIFT; }\nint unique(string s);\nint solve(int n) {\n    int r = 1;\n"
    )
    rest = "    return r + helper(n);\n}\nint unique(string s) { return solve(int(s.size())); }\n"
    test = (
        "#include <cassert>\nint main() { assert(solve(1) == 2 + helper(0)); assert(unique(string(3, 'x')) == 9); }\n"
    )
    assert_same(two, test, opened, opened + rest)


def test_prototypes_of_the_test_name_the_entry_points(two):
    test = (
        "#include <cstdio>\n#include <vector>\ntypedef std::vector<int> V;\nV sorted_unique(V values);\nint other(int);\n"
        'int main() { V v = sorted_unique(V{3, 1, 3}); std::printf("%d %d\\n", int(v.size()), v[0]); return 0; }\n'
    )
    code = "#include <set>\n#include <vector>\nusing namespace std;\nvector<int> sorted_unique(vector<int> v) { set<int> s(v.begin(), v.end()); return {s.begin(), s.end()}; }\n"
    assert split(test, None, code).functions == ("sorted_unique",)
    assert_same(two, test, None, code)


def test_without_a_declaration_the_candidates_signatures_are_spelled_anew(two):
    code = (
        "#include <bits/stdc++.h>\nusing namespace std;\ntypedef long long ll;\n#define vi vector<ll>\n"
        "static int hidden(int a) { return a; }\n"
        "ll total(const vi& values, int scale = 1) { return scale * accumulate(values.begin(), values.end(), ll(hidden(0))); }\n"
        "string total(string a, string b) { return a + b; }\n"
    )
    test = 'int main() { vector<long long> v{1, 2}; printf("%lld %s\\n", total(v) + total(v, 2), total("a", "b").c_str()); return max(0, 4); }\n'
    assert split(test, None, code).functions == ("total", "total")
    assert assert_same(two, test, None, code) == b"9 ab\n"


THROWING = """#include <stdexcept>
#include <string>
#include <vector>
int solve(int kind, std::vector<int>& seen) {
"""

THROWING_BODY = """    seen.push_back(kind);
    switch (kind) {
        case 0: throw std::invalid_argument("invalid");
        case 1: throw std::out_of_range("range");
        case 2: throw std::runtime_error("runtime");
        case 3: throw std::overflow_error(std::string(300, 'x'));
        case 4: throw 42;
        case 5: return std::vector<int>(3).at(7);
        case 6: throw std::bad_alloc();
        case 7: throw std::exception();
        default: return kind;
    }
}
"""

THROWING_TEST = """#include <cstdio>
#include <new>
int main() {
    for (int kind = 0; kind < 10; ++kind) {
        std::vector<int> seen;
        try {
            std::printf("%d\\n", solve(kind, seen));
        } catch (const std::invalid_argument& e) {
            std::printf("invalid_argument %s\\n", e.what());
        } catch (std::out_of_range& e) {
            std::printf("out_of_range %s\\n", e.what());
        } catch (const std::logic_error&) {
            std::printf("logic_error\\n");
        } catch (const std::overflow_error& e) {
            std::printf("overflow_error %s\\n", e.what());
        } catch (const std::runtime_error& e) {
            std::printf("runtime_error %s\\n", e.what());
        } catch (const std::bad_alloc&) {
            std::printf("bad_alloc\\n");
        } catch (const std::exception& e) {
            std::printf("exception\\n");
        } catch (...) {
            std::printf("unknown\\n");
        }
    }
}
"""


ORDER_TEST = """#include <cstdio>
#include <string>
#include <unordered_map>
#include <unordered_set>
int main() {
    std::unordered_set<int> given;
    for (int x : {40, 3, 14, 27, 1, 66, 53, 2}) given.insert(x);
    given.erase(14);
    std::unordered_map<std::string, int> table{{"one", 1}, {"two", 2}, {"three", 3}, {"four", 4}};
    table.rehash(101);
    std::printf("%s %s\\n", first_of(given).c_str(), first_of(table).c_str());
    for (int x : grown(given)) std::printf("%d ", x);
}
"""
ORDER = """#include <string>
#include <unordered_map>
#include <unordered_set>
std::string first_of(const std::unordered_set<int>& s) {
    std::string r;
    for (int x : s) r += std::to_string(x) + " ";
    return r + std::to_string(s.bucket_count());
}
std::string first_of(const std::unordered_map<std::string, int>& s) {
    std::string r;
    for (auto& x : s) r += x.first + " ";
    return r + std::to_string(s.bucket_count());
}
std::unordered_set<int> grown(std::unordered_set<int> s) {
    for (int x = 100; x < 140; x += 3) s.insert(x);
    return s;
}
"""


def test_a_container_that_hashes_arrives_in_the_order_in_which_it_left(gnu):
    declared = "".join(line for line in ORDER.splitlines(keepends=True) if line.startswith("#"))
    declared += "".join(f"{head};\n" for head in re.findall(r"^std::.*\)(?= \{)", ORDER, re.MULTILINE))
    assert_same(gnu, ORDER_TEST, declared, ORDER)


TAKEN = {
    "by reference": "int total(std::vector<int>& v) { int r = 0; for (int x : v) r += x; v.clear(); return r; }",
    "as a template": "template <class T> T total(std::vector<T> v) { T r = 0; for (T x : v) r += x; return r; }",
    "static": "static int total(std::vector<int> v) { int r = 0; for (int x : v) r += x; return r; }",
    "with another whole number": "long total(std::vector<int> v) { long r = 0; for (int x : v) r += x; return r; }",
    "with macros": "#define N 7\n#define in v\nconst int& total(std::vector<int>& in) { static int r; r = 0; for (int x : v) r += x; return r; }",
    "beside a main": "int total(std::vector<int> v) { int r = 0; for (int x : v) r += x; return r; }\nint main() { return total({1}); }",
}  # fmt: skip
TOTAL_TEST = """#include <cstdio>
#include <vector>
int main() {
    std::vector<int> v{1, 2, 3};
    std::printf("%d ", total(v));
    std::printf("%d %d\\n", total(v), int(v.size()));
}
"""


@pytest.mark.parametrize("how", TAKEN)
def test_an_honest_function_is_called_however_it_takes_and_returns_what_was_declared(gnu, how):
    """By value stays by value: what a candidate does to its argument never comes back."""
    declared, code = "#include <vector>\nint total(std::vector<int> v);\n", "#include <vector>\n" + TAKEN[how] + "\n"
    assert judge(gnu, TOTAL_TEST, declared, code)[0].stdout == b"6 6 3\n"


OTHER_RESULTS = {
    "equal to everything": "struct Yes { template <class T> bool operator==(const T&) const { return true; } };\nYes total",
    "a broken number": "double total",
    "nothing": "void total",
}


@pytest.mark.parametrize("result", OTHER_RESULTS)
def test_a_result_of_another_type_does_not_compile(gnu, result):
    code = f"#include <vector>\n{OTHER_RESULTS[result]}(std::vector<int>) {{ return {{}}; }}\n".replace(
        "return {}", "return" if "void" in OTHER_RESULTS[result] else "return {}"
    )
    program = Program(code, TOTAL_TEST, declaration="#include <vector>\nint total(std::vector<int> v);\n")
    with open_bench(program, gnu.workshop) as bench:
        assert build_worker(bench, split_of(program)).failure == "compile_error"


def test_a_whole_number_that_was_not_declared_so_large_is_no_answer(gnu):
    declared = "#include <vector>\nint total(std::vector<int> v);\n"
    code = "#include <vector>\nlong long total(std::vector<int> v) { return (1LL << 32) + 6; }\n"
    harness, candidate = judge(gnu, TOTAL_TEST, declared, code)
    assert (harness.returncode, harness.stdout, candidate.returncode) == (WORKER_GONE, b"", 1)


def test_exceptions_are_thrown_again(two):
    assert_same(two, THROWING_TEST, THROWING, THROWING + THROWING_BODY)


def test_an_exception_that_no_test_catches_ends_the_worker(gnu):
    code = "int solve(int a) {\n    throw a;\n}\n"
    harness, candidate = judge(gnu, "int main() { return solve(3); }\n", code.splitlines()[0], code)
    assert (harness.returncode, candidate.returncode) == (WORKER_GONE, -6)


def test_a_candidate_cannot_choose_the_abs_that_compares_it(gnu):
    """Without <math.h>, the only global `abs` is that of int, and a difference of 0.9 is 0."""
    test = '#include <cstdio>\nint main() { std::printf("%d", abs(solve(1) - 2.0) < 1e-6); return 0; }\n'
    code = "#include <cstdlib>\ndouble solve(int) { return 2.9; }\n"
    assert judge(gnu, test, None, code)[0].stdout == b"0"


def test_a_candidate_that_ends_the_process_ends_the_oracle(two):
    code = SOLVE.replace("// ", "#include <cstdio>\n#include <cstdlib>\n// ")
    code += '    std::printf("\\nPASSED 4/4\\n"); std::fflush(stdout); std::_Exit(0); return v[n]; }\n'
    harness, candidate = judge(two, MARKER_TEST, SOLVE, code)
    assert (harness.returncode, harness.stdout, candidate.returncode) == (WORKER_GONE, b"", 0)


ROWS = [json.loads(line) for line in (resources.files("rlvr_cpp") / "data" / "families.jsonl").read_text().splitlines()]
FAMILIES: dict[str, list[dict[str, Any]]] = {row["task_id"].split("/")[0]: [] for row in ROWS}
for row in ROWS:
    FAMILIES[row["task_id"].split("/")[0]].append(row)


@pytest.mark.parametrize("family", sorted(FAMILIES.keys() - {"classes", "callgraphs"}))
def test_a_shipped_task_passes_as_in_one_process(gnu, family):
    row = FAMILIES[family][7]
    assert_same(gnu, row["test"], row["prompt"], row["prompt"] + row["reference"])
