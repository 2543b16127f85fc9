"""Which loops of a test a candidate makes as long as it likes."""

import pytest

from rlvr_cpp.verifier.cpp.lexemes import node_text, parse
from rlvr_cpp.verifier.cpp.loops import counts_what_an_answer_repeats, open_loops

BEFORE = """#define N 4
const int M = 3;
void check(std::vector<int> got);
void run(const char* name, void (*body)()) { body(); }
void seen(int x) { assert(x); }
int main() {
    int n = 5;
    std::vector<int> in{1, 2}, given{3}, grown;
    std::vector<std::pair<int, int>> cases{{1, 2}};
    std::vector<std::function<bool()>> named;
    named.push_back([] { return f(1) == 2; });
    std::vector<std::unique_ptr<Shape>> shapes;
    shapes.emplace_back(new Square(2));
    std::vector<int> maybe, tried, many;
    if (f(1)) maybe.push_back(1);
    try { tried.push_back(f(2)); } catch (...) {}
    while (more()) many.push_back(3);
    auto r = f(n);
    int size = f(2);
    g(given);
    h(&n);
    for (int x : r) grown.push_back(x);
"""
FIXED = """for (int i = 0; i < N; ++i) assert(f(i) == i);
for (int i = 0; i < M; ++i) for (int j = i; j < M; ++j) assert(f(i) == j);
for (auto& c : cases) assert(f(c.first) == c.second);
for (auto [a, b] : cases) assert(f(a) == b);
for (int x : {1, 2, 3}) assert(f(x));
for (std::size_t i = 0; i < in.size(); ++i) assert(f(in[i]) == 2);
for (auto i = in.begin(); i != in.end(); ++i) assert(f(*i) == 2);
std::for_each(in.begin(), in.end(), [](int x) { assert(f(x)); });
for (auto& test : named) assert(test());
for (std::size_t i = 0; i < shapes.size(); ++i) assert(shapes[i]->area() == 4);
for (int x : r) sum += x;
run("a name", [] { assert(f(1) == 2); });
seen(f(2));
o.on([](int x) { if (x) throw 1; assert(x); });"""
OPEN = """for (int x : f(3)) assert(x);
for (int x : r) assert(x);
for (int x : r) check({x});
for (int x : given) assert(x);
for (int x : grown) assert(x);
for (int x : maybe) assert(x);
for (int x : tried) assert(x);
for (int x : many) assert(x);
for (std::size_t i = 0; i < r.size(); ++i) assert(r[i]);
for (int i = 0; i < size; ++i) assert(r[i]);
for (int i = 0; i < n; ++i) assert(f(i));
for (int i = 0; i < UNKNOWN; ++i) assert(f(i));
for (;;) { assert(f(1)); }
while (n-- > 0) assert(f(n));
do { assert(f(n)); } while (more());
std::for_each(r.begin(), r.end(), [](int x) { assert(x); });
for (auto& c : cases) for (int y : f(c.first)) assert(y);"""


def found(loop):
    root = parse(f"{BEFORE}    {loop}\n}}\n".encode())
    return [node_text(node) for node in open_loops(root, frozenset({"assert", "check"}))]


@pytest.mark.parametrize("loop", FIXED.split("\n"))
def test_a_loop_over_what_the_test_says_is_as_long_as_the_test_says(loop):
    assert found(loop) == []


@pytest.mark.parametrize("loop", OPEN.split("\n"))
def test_a_loop_over_what_a_candidate_returned_or_could_change_is_not(loop):
    assert found(loop) == [loop[loop.rindex("for (int y") :] if "int y" in loop else loop]


def test_a_helper_knows_nothing_of_what_it_is_handed():
    text = "void check(const std::vector<int>& got) { for (int x : got) assert(x); }"
    assert len(open_loops(parse(text.encode()), frozenset({"assert"}))) == 1


COUNTED = """int main() {
    int passed = 0, total = 0, sum = 0;
    %s
    std::printf("PASSED %%d/%%d\\n", passed, total);
}
"""


@pytest.mark.parametrize(
    ("loop", "decides"),
    [
        ("for (int x : f(3)) { ++total; passed += x == 2; }", True),
        ("auto r = f(3); for (std::size_t i = 0; i < r.size(); ++i) total = total + 1;", True),
        ("while (more()) total++;", True),
        ("for (int i = 0; i < 3; ++i) { ++total; passed += f(i) == 2; }", False),
        ("for (int x : f(3)) sum += x; passed += sum == 6; total = 1;", False),
        ("passed += f(1) == 1; total = 1;", False),
    ],
)
def test_who_counts_in_a_loop_over_an_answer_leaves_the_number_of_tests_to_it(loop, decides):
    assert counts_what_an_answer_repeats(COUNTED % loop) == decides
