"""A test in one process and the candidate in another: same answers, and nothing else gets through."""

import json
import os
import shutil
import socket
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlvr_cpp.verifier.cpp.signature import tokens
from rlvr_cpp.verifier.tiers.oracle import ORACLE_CHANNEL, WORKER_CHANNEL, split
from rlvr_cpp.verifier.verdict import WORKER_GONE

COMPILERS = [
    pytest.param(name, marks=pytest.mark.skipif(shutil.which(name) is None, reason=f"{name} is not installed"))
    for name in ("g++", "clang++")
]
STRICT = ("-Wall", "-Wextra", "-Werror")


def build(compiler: str, program: Path, *texts: str, std: str = "c++17", flags: tuple[str, ...] = ()) -> str:
    sources = []
    for number, text in enumerate(texts):
        sources.append(program.with_name(f"{program.name}_{number}.cpp"))
        sources[-1].write_text(text)
    command = [compiler, f"-std={std}", "-O0", *flags, *map(str, sources), "-o", str(program)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return str(program)


def start(command: list[str], end: socket.socket, channel: int) -> subprocess.Popen:
    def take_channel() -> None:
        os.dup2(end.fileno(), channel)
        os.closerange(max(channel, 2) + 1, 120)

    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        close_fds=False,
        preexec_fn=take_channel,
    )


def start_both(oracle: str, worker: list[str]) -> tuple[subprocess.Popen, subprocess.Popen]:
    ask, answer = socket.socketpair()
    with ask, answer:
        return start([oracle], ask, ORACLE_CHANNEL), start(worker, answer, WORKER_CHANNEL)


def run_both(oracle: str, worker: list[str]) -> tuple[int, bytes, int]:
    """The oracle's exit status and output, and the worker's exit status."""
    processes = start_both(oracle, worker)
    try:
        stdout, _ = processes[0].communicate(timeout=60)
        processes[1].communicate(timeout=60)
    finally:
        for process in processes:
            process.kill()
    return processes[0].returncode, stdout, processes[1].returncode


def judge(compiler, folder, test, declaration, code, std="c++17"):
    """Build and run oracle and worker, both free of warnings."""
    texts = split(test, declaration, code)
    assert texts is not None
    oracle = build(compiler, folder / "oracle", texts.oracle, std=std, flags=STRICT)
    object_only = Path(build(compiler, folder / "worker.o", texts.worker, std=std, flags=(*STRICT, "-c")))
    object_only.write_bytes(texts.with_names(object_only.read_bytes()))
    (folder / "worker.cpp").write_text(code)
    command = [compiler, f"-std={std}", str(folder / "worker.cpp"), str(object_only), "-o", str(folder / "worker")]
    linked = subprocess.run(command, capture_output=True, text=True)
    assert linked.returncode == 0, linked.stderr
    return run_both(oracle, [str(folder / "worker")])


def in_process(compiler, folder, test, code, std="c++17"):
    program = build(compiler, folder / "whole", f"{code}\n{test}", std=std, flags=("-w",))
    done = subprocess.run([program], capture_output=True)
    return done.returncode, done.stdout


def assert_same(compiler, folder, test, declaration, code, std="c++17"):
    status, stdout, worker = judge(compiler, folder, test, declaration, code, std)
    assert (status, stdout) == in_process(compiler, folder, test, code, std)
    assert worker == 0
    return stdout


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


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize(("body", "marker"), [(RIGHT, b"\nPASSED 4/4\n"), (WRONG, b"\nPASSED 3/4\n")])
def test_a_marker_test_says_what_it_says_in_one_process(compiler, tmp_path, body, marker):
    assert assert_same(compiler, tmp_path, MARKER_TEST, SOLVE, SOLVE + body) == marker


def test_plain_numbers_need_no_header():
    texts = split(MARKER_TEST, SOLVE, SOLVE + RIGHT)
    header = texts.worker.replace("\n#include", "\n #include")
    wanted = subprocess.run(
        ["g++", "-std=c++11", "-M", "-xc++", "-"], input=header, capture_output=True, text=True, check=True
    )
    assert [name for name in wanted.stdout.split() if name.startswith("/") and "stdc-predef" not in name] == []


LONG = "a_name_of_one_hundred_and_ten_letters_which_needs_more_room_than_others_do_" + 35 * "x"


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("name", ["f", "sum_of_all", LONG])
def test_a_compiled_worker_calls_the_functions_by_the_names_they_have(compiler, tmp_path, name):
    test = f'#include <cstdio>\nint main() {{ std::printf("%s\\n", {name}({{1, 2}}, "x").c_str()); }}\n'
    code = (
        "#include <string>\n#include <vector>\n"
        f"std::string {name}(std::vector<int> v, const std::string& s) {{ return s + std::to_string(v[0] + v[1]); }}\n"
    )
    assert assert_same(compiler, tmp_path, test, None, code) == b"x3\n"


def test_tasks_with_the_same_types_share_a_worker():
    first, second = (split(MARKER_TEST.replace("solve", name), SOLVE.replace("solve", name), "") for name in "fg")
    assert first.worker == second.worker
    assert (first.functions, second.functions) == (("f",), ("g",))
    assert split(MARKER_TEST, SOLVE.replace("int n", "long n"), "").worker != first.worker


def test_the_c_librarys_function_is_never_judged_in_the_candidates_place(tmp_path):
    """A worker that includes `abs` must still call the candidate's own."""
    declaration = "#include <string>\nint abs(int x);\nstd::string sign(int x) {\n"
    test = '#include <cstdio>\nint main() { std::printf("%d%s\\n", abs(-1), sign(1).c_str()); }\n'
    texts = split(test, declaration, "")
    worker = Path(build("g++", tmp_path / "worker.o", texts.worker, flags=("-c",)))
    worker.write_bytes(texts.with_names(worker.read_bytes()))
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


@pytest.mark.parametrize("compiler", COMPILERS)
def test_every_type_travels_unchanged(compiler, tmp_path):
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
    stdout = assert_same(compiler, tmp_path, test, EVERYTHING + declared, EVERYTHING + defined)
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


@pytest.mark.parametrize("compiler", COMPILERS)
def test_every_shape_of_signature_is_called_as_in_one_process(compiler, tmp_path):
    assert_same(compiler, tmp_path, SHAPES_TEST, SHAPES_DECLARED, SHAPES_DECLARED + SHAPES_DEFINED)


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("std", ["c++11", "c++20"])
def test_other_standards_build_too(compiler, tmp_path, std):
    opened = "#include <map>\n#include <string>\nstd::map<std::string, int> count(std::string s, int n = 2) {\n"
    body = "    std::map<std::string, int> r;\n    r[s] = n;\n    return r;\n}\n"
    test = '#include <cstdio>\nint main() { std::printf("%d\\n", count("a")["a"]); return count("b", 5).at("b"); }\n'
    assert assert_same(compiler, tmp_path, test, opened, opened + body, std) == b"2\n"


@pytest.mark.parametrize("compiler", COMPILERS)
def test_helpers_of_the_prompt_live_on_both_sides(compiler, tmp_path):
    opened = (
        "#include <string>\nusing namespace std;\nstruct Unrelated { int x = 0; };\nconst int SHIFT = 5;\n"
        "int helper(int a) { return a + SHIFT; }\nint unique(string s);\nint solve(int n) {\n    int r = 1;\n"
    )
    rest = "    return r + helper(n);\n}\nint unique(string s) { return solve(int(s.size())); }\n"
    test = (
        "#include <cassert>\nint main() { assert(solve(1) == 2 + helper(0)); assert(unique(string(3, 'x')) == 9); }\n"
    )
    assert_same(compiler, tmp_path, test, opened, opened + rest)


@pytest.mark.parametrize("compiler", COMPILERS)
def test_prototypes_of_the_test_name_the_entry_points(compiler, tmp_path):
    test = (
        "#include <cstdio>\n#include <vector>\ntypedef std::vector<int> V;\nV sorted_unique(V values);\nint other(int);\n"
        'int main() { V v = sorted_unique(V{3, 1, 3}); std::printf("%d %d\\n", int(v.size()), v[0]); return 0; }\n'
    )
    code = "#include <set>\n#include <vector>\nusing namespace std;\nvector<int> sorted_unique(vector<int> v) { set<int> s(v.begin(), v.end()); return {s.begin(), s.end()}; }\n"
    assert split(test, None, code).functions == ("sorted_unique",)
    assert_same(compiler, tmp_path, test, None, code)


@pytest.mark.parametrize("compiler", COMPILERS)
def test_without_a_declaration_the_candidates_signatures_are_spelled_anew(compiler, tmp_path):
    code = (
        "#include <bits/stdc++.h>\nusing namespace std;\ntypedef long long ll;\n#define vi vector<ll>\n"
        "static int hidden(int a) { return a; }\n"
        "ll total(const vi& values, int scale = 1) { return scale * accumulate(values.begin(), values.end(), ll(hidden(0))); }\n"
        "string total(string a, string b) { return a + b; }\n"
    )
    test = 'int main() { vector<long long> v{1, 2}; printf("%lld %s\\n", total(v) + total(v, 2), total("a", "b").c_str()); return max(0, 4); }\n'
    assert split(test, None, code).functions == ("total", "total")
    assert assert_same(compiler, tmp_path, test, None, code) == b"9 ab\n"


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


@pytest.mark.parametrize("compiler", COMPILERS)
def test_exceptions_are_thrown_again(compiler, tmp_path):
    assert_same(compiler, tmp_path, THROWING_TEST, THROWING, THROWING + THROWING_BODY)


def test_an_exception_that_no_test_catches_ends_the_worker(tmp_path):
    code = "int solve(int a) {\n    throw a;\n}\n"
    status, _, worker = judge("g++", tmp_path, "int main() { return solve(3); }\n", code.splitlines()[0], code)
    assert (status, worker) == (WORKER_GONE, -6)


# ---------------------------------------------------------------------------------------------- what cannot be split

MAIN = "int main() { return solve(3); }\n"


@pytest.mark.parametrize(
    ("test", "declaration"),
    [
        ("int main() { Tally t; t.add(3); return t.total; }\n", "struct Tally {\n    int total = 0;\n    void add(int x) {\n"),
        ("static int k = 3;\nint price(int id) { return id * k; }\n" + MAIN, "int price(int id);\nint solve(int n) {\n"),
        (MAIN, "int counter = 0;\nint solve(int n) {\n"),
        (MAIN, "extern int limit;\nint solve(int n) {\n"),
        (MAIN, "template <class T> T solve(T n) {\n"),
        (MAIN, "static int solve(int n) {\n"),
        (MAIN, "inline int solve(int n) {\n"),
        (MAIN, "constexpr int solve(int n) {\n"),
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
        ('#include "solution.h"\n' + MAIN, "int solve(int n) {\n"),
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


@pytest.mark.parametrize(
    "code",
    [
        "struct Yes { template <class T> bool operator==(T) const { return true; } };\nYes solve(int) { return {}; }\n",
        "auto solve(int n) { return n; }\n",
        "template <class T> T solve(T n) { return n; }\n",
        "static int solve(int n) { return n; }\n",
        "namespace n { int solve(int n) { return n; } }\nusing n::solve;\n",
        "int solve(int n);\n",
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


def test_a_function_that_shadows_the_library_does_not_compile(tmp_path):
    """The test's own `abs` is the library's, whatever the candidate defines."""
    test = "#include <cstdlib>\nint main() { return abs(solve(1) - 2) < 1 ? 0 : 1; }\n"
    code = "long solve(int n) { return 50; }\nint labs(long) { return 0; }\nint div(int, int) { return 0; }\n"
    assert split(test, None, code + "int abs(long) { return 0; }\n").functions == ("solve",)
    texts = split(test.replace("abs(", "labs("), None, code)
    assert "labs" in texts.functions
    with pytest.raises(AssertionError, match="labs"):
        build("g++", tmp_path / "oracle", texts.oracle)


def test_a_candidate_cannot_choose_the_abs_that_compares_it(tmp_path):
    """Without <math.h>, the only global `abs` is that of int, and a difference of 0.9 is 0."""
    test = '#include <cstdio>\nint main() { std::printf("%d", abs(solve(1) - 2.0) < 1e-6); return 0; }\n'
    assert judge("g++", tmp_path, test, None, "#include <cstdlib>\ndouble solve(int) { return 2.9; }\n")[1] == b"0"


@given(st.text(max_size=60) | st.lists(PIECES, max_size=20).map("".join))
def test_with_a_declaration_the_candidate_has_no_say(code):
    assert split(MARKER_TEST, SOLVE, code) == split(MARKER_TEST, SOLVE, "")
    assert split(MAIN, "struct S {\n", code) is None
    assert split("int solve(int n);\n" + MAIN, None, code) == split("int solve(int n);\n" + MAIN, None, "")


@given(st.text(max_size=60), st.none() | st.text(max_size=60), st.text(max_size=60))
def test_no_texts_raise(test, declaration, code):
    split(test, declaration, code)


# ------------------------------------------------------------------------------------------------- a hostile worker

NUMBERS_TEST = """#include <cstdio>
int main() {
    int v[3] = {1, 2, 3};
    bool good = solve(v, 3);
    std::printf("PASSED %d/1 %d %d\\n", good + 0, v[0], good == true);
    return 0;
}
"""
CONTAINERS_TEST = """#include <cstdio>
int main() {
    std::printf("PASSED %d/1\\n", int(solve(std::string(1 << 20, 'q')).first.size()));
    return 0;
}
"""
HOSTILE = """
import os, struct, sys
def request():
    size = struct.unpack("<I", os.read(0, 4))[0]
    data = b""
    while len(data) < size:
        data += os.read(0, size - len(data))
    return data
def write(data):
    while data:
        data = data[os.write(0, data):]
def reply(payload, number=1, outcome=0):
    body = struct.pack("<IB", number, outcome) + payload
    write(struct.pack("<I", len(body)) + body)
"""
ARRAY = r"b'\x01\x03\0\0\0' + bytes(12)"


@pytest.fixture(scope="module")
def oracles(tmp_path_factory):
    folder = tmp_path_factory.mktemp("oracles")
    numbers = split(NUMBERS_TEST, "bool solve(int* v, int n) {", "")
    opened = "#include <list>\n#include <set>\n#include <string>\n#include <utility>\n"
    opened += "std::pair<std::set<int>, std::list<char>> solve(std::string question) {"
    containers = split(CONTAINERS_TEST, opened, "")
    return {
        "numbers": build("g++", folder / "numbers", numbers.oracle),
        "containers": build("g++", folder / "containers", containers.oracle),
    }


@pytest.mark.parametrize(
    ("oracle", "worker"),
    [
        ("numbers", "sys.exit(0)"),
        ("numbers", "os.close(3); os.close(4)"),
        ("numbers", "request()"),
        ("numbers", "request(); os.kill(os.getpid(), 9)"),
        ("numbers", "request(); write(b'\\1\\0')"),
        ("numbers", "request(); write(b'\\0' * 4)"),
        ("numbers", "request(); write(b'\\xff' * 4)"),
        ("numbers", "request(); write(b'\\xff' * 400)"),
        ("numbers", "request(); write(struct.pack('<I', (64 << 20) + 1))"),
        ("numbers", "request(); write(struct.pack('<I', 64 << 20) + b'few')"),
        ("numbers", "request(); write(struct.pack('<I', 24)[:3])"),
        ("numbers", "request(); write(struct.pack('<IIB', 23, 1, 0) + b'\\1')"),
        ("numbers", "request(); reply(b'')"),
        ("numbers", f"request(); reply(b'\\1' + {ARRAY} + b'\\0')"),
        ("numbers", f"request(); reply(b'\\1' + {ARRAY}, number=2)"),
        ("numbers", f"request(); reply(b'\\1' + {ARRAY}, outcome=1)"),
        ("numbers", f"request(); reply(b'\\1' + {ARRAY}, outcome=255)"),
        ("numbers", "request(); reply(b'\\1\\0')"),
        ("numbers", "request(); reply(b'\\1\\1\\2\\0\\0\\0' + bytes(8))"),
        ("numbers", "request(); reply(b'\\1\\1\\4\\0\\0\\0' + bytes(16))"),
        ("numbers", "request(); reply(b'\\1\\1\\xff\\xff\\xff\\xff' + bytes(12))"),
        ("numbers", "request(); write(bytes(range(256)) * 20)"),
        ("numbers", "request(); write(b'\\nPASSED 1/1\\n' * 9)"),
        ("containers", "sys.exit(0)"),
        ("containers", "request(); reply(b'')"),
        ("containers", "request(); write(struct.pack('<IIB', 13, 1, 0))"),
        ("containers", "request(); reply(struct.pack('<IiiI', 2, 5, 5, 0))"),
        ("containers", "request(); reply(struct.pack('<Ii', 2, 5))"),
        ("containers", "request(); reply(struct.pack('<I', 1 << 24) + bytes(1000))"),
        ("containers", "request(); reply(struct.pack('<II', 0, 1 << 31) + bytes(1000))"),
        ("containers", "request(); reply(struct.pack('<II', 0, 30 << 20) + bytes(30 << 20))"),
    ],
)
def test_a_worker_that_breaks_the_protocol_ends_the_oracle(oracles, oracle, worker):
    status, stdout, _ = run_both(oracles[oracle], [sys.executable, "-S", "-c", HOSTILE + worker])
    assert status == WORKER_GONE
    assert stdout == b""


def test_a_worker_that_follows_the_protocol_is_believed(oracles):
    """The control of the test above: without it, every refusal there could be for another reason."""
    worker = [sys.executable, "-S", "-c", HOSTILE + f"request(); reply(b'\\1' + {ARRAY})"]
    assert run_both(oracles["numbers"], worker)[:2] == (0, b"PASSED 1/1 0 1\n")
    pair = "request(); reply(struct.pack('<IiiI', 2, 5, 6, 3) + b'abc')"
    assert run_both(oracles["containers"], [sys.executable, "-S", "-c", HOSTILE + pair])[:2] == (0, b"PASSED 2/1\n")


def test_a_bool_is_one_or_zero_whatever_the_byte(oracles):
    worker = [sys.executable, "-S", "-c", HOSTILE + f"request(); reply(b'\\x7e' + {ARRAY})"]
    assert run_both(oracles["numbers"], worker)[:2] == (0, b"PASSED 1/1 0 1\n")


def test_the_request_holds_the_arguments_and_nothing_else(oracles):
    worker = [sys.executable, "-S", "-c", HOSTILE + "print(request().hex(), file=sys.stderr)"]
    oracle, asked = start_both(oracles["numbers"], worker)
    seen = bytes.fromhex(asked.communicate(timeout=60)[1].decode())
    oracle.communicate(timeout=60)
    array = b"\1" + (3).to_bytes(4, "little") + b"".join(n.to_bytes(4, "little") for n in (1, 2, 3))
    assert seen == bytes([1, 0, 0, 0, 0, 0, 0, 0]) + array + (3).to_bytes(4, "little")


@pytest.mark.parametrize("compiler", COMPILERS)
def test_a_candidate_that_ends_the_process_ends_the_oracle(compiler, tmp_path):
    code = SOLVE.replace("// ", "#include <cstdio>\n#include <cstdlib>\n// ")
    code += '    std::printf("\\nPASSED 4/4\\n"); std::fflush(stdout); std::_Exit(0); return v[n]; }\n'
    status, stdout, worker = judge(compiler, tmp_path, MARKER_TEST, SOLVE, code)
    assert (status, stdout, worker) == (WORKER_GONE, b"", 0)


# ------------------------------------------------------------------------------------------------ the shipped tasks

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


@pytest.mark.parametrize("family", sorted(set(families()) - {"classes", "callgraphs"}))
def test_a_shipped_task_passes_as_in_one_process(family, tmp_path):
    row = families()[family][7]
    assert_same("g++", tmp_path, row["test"], row["prompt"], row["prompt"] + row["reference"])
