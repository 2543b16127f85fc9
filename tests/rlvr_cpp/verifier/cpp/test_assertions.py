"""Counting the assertions of tests that would stop at the first one that fails: right, half, throwing, wrong."""

import re
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlvr_cpp.verifier.cpp.assertions import count_assertions, count_declared
from rlvr_cpp.verifier.toolchain.toolchain import linker_flags
from rlvr_cpp.verifier.verdict import MAX_TESTS

COMPILERS = [
    "g++",
    pytest.param(
        "clang++", marks=pytest.mark.skipif(shutil.which("clang++") is None, reason="clang++ is not installed")
    ),
]

# f(x) is x * x; MODE makes it wrong or throwing for odd x, or wrong always.
CANDIDATE = """
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>
int f(int x) {
    const char mode = *std::getenv("MODE");
    if (mode == 't' && x % 2) throw std::out_of_range("odd");
    return mode == 'w' || (mode == 'h' && x % 2) ? -1 : x * x;
}
"""

# Each asserts f(1), f(2), f(3) and f(4) once. The number is what is known without a run.
SHAPES = {
    "plain": (4, "#undef NDEBUG\n#include<assert.h>\nint main(){\n"
        "    assert (f(1)==1);\n    assert (f(2)==4);\n    assert(f(3) == 9);\n    assert(f(4)==16);\n\n}\n"),
    "closes the candidate": (4, "}\nint main() {\n    auto candidate = f;\n    int one = candidate((1));\n    assert(one == (1));\n"
        "    assert(candidate((2)) == (4));\n    assert(candidate((3)) == (9));\n    assert(candidate((4)) == (16));\n}\n"),
    "void": (4, "int main(void) { assert(f(1) == 1); assert(f(2) == 4); assert(f(3) == 9); assert(f(4) == 16); return 0; }"),
    "trailing type": (4, "auto main() -> int { assert(f(1) == 1); assert(f(2) == 4);\nassert(f(3) == 9); assert(f(4) == 16); }"),
    "arguments": (4, "int main(int argc, char** argv) {\n  assert(argc == 1 && argv[0] && f(1) == 1);\n"
        "  assert(f(2) == 4); assert(f(3) == 9); assert(f(4) == 16);\n}\n"),
    "commas and lines": (4, "int main() {\n"
        "  assert(std::vector<int>{f(1), 0} == std::vector<int>{1, 0});\n"
        "  assert(std::pair<int, int>(f(2), 0)\n         == std::pair<int, int>(4, 0)\n  );\n"
        "  assert((f(3) == 9 && \"a message, with a } and a comma\"));\n"
        "  assert(f(4) == 16);  // assert(false) }\n  /* } */\n}\n"),
    "helpers after main": (4, "void note();\nint same(int x);\nint main() {\n  int one = same(f(1));\n  assert(one == 1); assert(same(f(2)) == 4);\n"
        "  { assert(same(f(3)) == 9); }\n  note();\n  assert(f(4) == 16);\n}\nvoid note() { if (false) { note(); } }\nint same(int x) { return x; }\n// }\n"),
    "declarations": (4, "int main() {\n  int x1 = f(1);\n  assert(x1 == 1);\n  int x2 = f(2); assert(x2 == 4);\n"
        "  auto [x3, y] = std::pair<int, int>(f(3), 0);\n  assert(x3 == 9 + y);\n  int x4;\n  x4 = f(4);\n  assert(x4 == 16);\n}\n"),
    "loop": (None, "int main() { for (int i = 1; i <= 4; ++i) assert(f(i) == i * i); }"),
    "structured bindings": (None, "int main() {\n  const std::pair<int, int> table[] = {{1, 1}, {2, 4}, {3, 9}, {4, 16}};\n"
        "  for (const auto& [x, y] : table) {\n    assert(f(x) == y);\n  }\n}\n"),
    "helper": (None, "#include <cassert>\nstatic void expect(int x, int y);\n"
        "int main() { expect(1, 1); expect(2, 4); expect(3, 9); expect(4, 16); }\n"
        "static void expect(int x, int y) {\n    assert(f(x) == y);\n}\n"),
    "lambda": (None, "int main() {\n  auto expect = [](int x) { assert(f(x) == x * x); };\n"
        "  for (int x = 1; x <= 4; ++x) expect(x);\n}\n"),
    "several returns": (None, "int main(int argc, char**) {\n  if (argc > 9) return 1;\n  assert(f(1) == 1); assert(f(2) == 4);\n"
        "  if (argc > 8) { return 0; }\n  assert(f(3) == 9); assert(f(4) == 16);\n  return 0;\n}\n"),
    "macro": (None, "#define CHECK(x, y) assert(f(x) == (y))\nint main() { CHECK(1, 1); CHECK(2, 4); CHECK(3, 9); CHECK(4, 16); }"),
    "expressions": (None, "int main() { int n = 0; assert(f(1) == 1), ++n, assert(f(2) == 4);\n"
        "  n > 0 ? assert(f(3) == 9) : (void)0;\n  if (n) assert(f(4) == 16); else assert(false);\n}\n"),
    "branches": (4, "int main() {\n  if (f(1) != 1) assert(false);\n  if (f(2) != 4) { assert(false && \"two\"); }\n"
        "  if (f(3) == 9) {} else assert(!\"three\");\n  if (f(4) != 16) { assert(0); }\n}\n"),
    "compared": (4, "\ntemplate <typename T> bool compare(T a, T b){\n    return a == b;\n}\n\n"
        "int main() {\n    int x0 = f(1);\n    if (!(compare(x0, 1))) {\n"
        "        throw std::runtime_error(\"case 0\");\n    }\n\n    int x1 = f(2);\n    if (!(compare(x1, 4))) {\n"
        "        throw std::runtime_error(\"case 1\");\n    }\n\n    int x2 = f(3);\n    if (!(compare(x2, 9))) {\n"
        "        throw std::runtime_error(\"case 2\");\n    }\n    int x3 = f(4);\n    if (!(compare(x3, 16))) {\n"
        "        throw std::runtime_error(\"case 3\");\n    }\n\n    return 0;\n}\n"),
    "throw without braces": (4, "int main() {\n  if (f(1) != 1) throw 1;\n  if (f(2) != 4) throw 2;\n"
        "  if (f(3) == 9) {} else throw 3;\n  if (f(4) < 16) throw 4; else if (f(4) > 16) throw 5;\n}\n"),
    "throw in else": (4, "int main() {\n  int good = 0;\n"
        "  if (f(1) == 1) { ++good; } else { throw std::logic_error(\"1\"); }\n"
        "  if (f(2) == 4) { ++good; } else { throw std::logic_error(\"2\"); }\n"
        "  if (f(3) == 9) { ++good; } else { throw std::logic_error(\"3\"); }\n"
        "  if (f(4) == 16) { ++good; } else { throw std::logic_error(\"4\"); }\n  return good == 4 ? 0 : 0;\n}\n"),
    "one try": (4, "int main() {\n  try {\n    int a = f(1);\n    if (a != 1) throw std::runtime_error(\"1\");\n"
        "    int b = f(2);\n    if (b != 4) throw std::runtime_error(\"2\");\n"
        "    int c = f(3);\n    if (c != 9) throw std::runtime_error(\"3\");\n"
        "    if (f(4) != 16) throw std::runtime_error(\"4\");\n"
        "  } catch (const std::exception&) {\n    return 1;\n  }\n  return 0;\n}\n"),
    "a try each": (4, "int main() {\n"
        + "".join(f"  try {{ int a = f({x}); if (a != {x * x}) throw {x}; }} catch (int) {{ throw; }}\n" for x in (1, 2, 3, 4))
        + "}\n"),
    "throwing helper": (4, "template <typename T> void expect(const T& a, const T& b, const char* name) {\n"
        "  if (!(a == b)) throw std::runtime_error(name);\n}\n"
        "int main() { expect(f(1), 1, \"1\"); expect(f(2), 4, \"2\"); expect(f(3), 9, \"3\"); expect(f(4), 16, \"4\"); }\n"),
    "throwing lambda": (4, "int main() {\n  auto expect = [](int a, int b) { if (a != b) throw a; };\n"
        "  int one = f(1);\n  expect(one, 1);\n  expect(f(2), 4);\n  expect(f(3), 9);\n  expect(f(4), 16);\n}\n"),
    "throwing macro": (4, "#define EXPECT(c) do { if (!(c)) throw std::runtime_error(#c); } while (0)\n"
        "int main() { EXPECT(f(1) == 1); EXPECT(f(2) == 4); EXPECT(f(3) == 9); EXPECT(f(4) == 16); }\n"),
    "failing helper": (4, "[[noreturn]] void fail(int n) { throw std::runtime_error(std::to_string(n)); }\n"
        "int main() {\n  if (f(1) != 1) fail(1);\n  if (f(2) != 4) { fail(2); }\n  if (f(3) != 9) fail(3);\n"
        "  if (f(4) != 16) fail(4);\n}\n"),
    "throw in a loop": (None, "int main() {\n  for (int x = 1; x <= 4; ++x) {\n    if (f(x) != x * x) {\n      throw x;\n    }\n  }\n}\n"),
    "test functions": (None, "void test_odd() { if (f(1) != 1) throw 1; assert(f(3) == 9); }\n"
        "static void test_even() {\n  if (f(2) != 4) throw 2;\n  if (f(4) != 16) throw 4;\n}\n"
        "int main() { test_odd(); test_even(); return 0; }\n"),
    "caught": (4, "int main() {\n  int code = 0;\n  bool got = false;\n"
        "  try { if (f(1) == 1) throw 7; } catch (int c) { code = c; } catch (const std::exception&) {}\n  assert(code == 7);\n"
        "  try { throw std::out_of_range(std::to_string(f(2))); } catch (const std::logic_error& e) { got = e.what()[0] == '4'; }\n"
        "  assert(got);\n  assert(f(3) == 9);\n  assert(f(4) == 16);\n}\n"),
    "caught helper": (4, "int main() {\n  auto odd = [](int x) { if (x == 1) throw std::length_error(\"1\"); };\n  int n = 0;\n"
        "  try { odd(f(1)); } catch (const std::length_error&) { ++n; } catch (const std::exception&) {}\n  assert(n == 1);\n"
        "  assert(f(2) == 4); assert(f(3) == 9); assert(f(4) == 16);\n}\n"),
    "caught and counted": (None, "void expect(int x, int y) { if (x != y) throw x; }\nint main() {\n  int bad = 0;\n"
        + "".join(f"  try {{ expect(f({x}), {x * x}); }} catch (...) {{ ++bad; }}\n" for x in (1, 2, 3, 4))
        + "  return bad;\n}\n"),
    "both": (4, "int main() { assert(f(1) == 1); if (f(2) != 4) throw 2; if (f(3) != 9) throw 3; assert(f(4) == 16); }"),
}  # fmt: skip

EXPECTED = {"right": (4, 4), "half": (2, 4), "throwing": (2, 4), "wrong": (0, 4)}


@pytest.fixture
def counted(tmp_path, compilers):
    """The program of a candidate and a counted test, neither of which may cause a single warning."""
    flags = ("-std=c++17", "-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Werror")

    def build(compiler: str, test: str) -> str:
        harness = count_assertions(test)
        assert harness != test
        candidate = CANDIDATE.rstrip().removesuffix("}") if test.startswith("}") else CANDIDATE
        path, done = compilers.compile(compiler, candidate + harness, *flags)
        assert done.returncode == 0, done.stderr.decode()
        command = [compiler, *linker_flags(compiler), path, "-o", "main"]
        subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
        return str(tmp_path / "main")

    return build


def outcome(program: str, mode: str = "right") -> tuple[int, int]:
    """The counts of the one marker, which must agree with the exit status."""
    done = subprocess.run([program], env={"MODE": mode}, capture_output=True, text=True, timeout=60)
    (marker,) = re.findall(r"^PASSED (\d+)/(\d+)$", done.stdout, re.MULTILINE)
    passed, total = map(int, marker)
    assert (done.returncode, done.stdout.endswith(f"PASSED {passed}/{total}\n")) == (int(passed != total), True)
    return passed, total


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_counts_each_assertion_once(counted, compiler, shape):
    program = counted(compiler, SHAPES[shape][1])
    assert {mode: outcome(program, mode) for mode in EXPECTED} == EXPECTED


@pytest.mark.parametrize("shape", SHAPES)
def test_the_number_is_declared_where_the_text_alone_decides_it(shape):
    assert count_declared(SHAPES[shape][1]) == SHAPES[shape][0]


# What a full pass needs besides true assertions: (right, throwing)
ENDINGS = {
    "an exception between assertions": (
        "int main() { int x = f(1); assert(x == 1); assert(x > 0); assert(f(2) == 4); }",
        (3, 3),
        (0, 3),
    ),
    "an exception in a loop": (
        "int main() { for (int i = 0; i < 3; ++i) { int x = f(i); assert(x == i * i); } }",
        (3, 3),
        (0, 1),
    ),
    "an exception after the last assertion": ("int main() { assert(f(2) == 4); f(1); }", (1, 1), (0, 1)),
    "a failing status": ("int main() { assert(f(2) == 4); assert(f(4) == 16); return 3; }", (1, 2), (1, 2)),
    "an assertion at all": ("int main() { for (int i = 2; i < 2; ++i) assert(f(i) == 4); }", (0, 1), (0, 1)),
    "an exception that is asked for": (
        "int main() {\n  try { f(-2); throw 1; } catch (const std::exception&) {}\n"
        "  try { f(-1); assert(false); } catch (const std::out_of_range&) {}\n"
        "  bool thrown = false;\n  try { f(1); } catch (...) { thrown = true; }\n  assert(thrown);\n}\n",
        (0, 3),
        (2, 3),
    ),
    "an exception that a helper throws": (
        "void need(bool good) { if (!good) throw 1; }\nstruct Fake { void pop() { if (f(2) == 4) throw 2; } };\n"
        "int main() {\n  try { need(false); assert(false); } catch (int) {}\n"
        "  try { Fake().pop(); assert(false); } catch (int) {}\n"
        "  struct Near { int pop() { if (f(2) == 4) throw 2; return 3; } };\n"
        "  int caught = 0;\n  try { Near().pop(); } catch (int) { ++caught; }\n  assert(caught == 1 && f(1) == 1);\n}\n",
        (3, 3),
        (2, 3),
    ),
    "every assertion of a helper": (
        "bool same(int x, int y) { assert(x < 9); assert(y < 9); return x == y; }\n"
        "int main() { if (!same(f(2), 4)) throw 1; if (!same(f(1), 1)) throw 2; if (!same(f(4), 16)) throw 3; }",
        (2, 3),
        (1, 3),
    ),
    "no exception": (
        "int main() { try { f(1); } catch (...) { assert(false); } assert(f(2) == 4); }",
        (2, 2),
        (1, 2),
    ),
    "more than a verdict can tell": (
        "int main() { for (int i = 0; i < 5000; ++i) assert(f(i ? 2 : 1) > 0); }",
        (MAX_TESTS, MAX_TESTS),
        (MAX_TESTS - 1, MAX_TESTS),
    ),
}


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("need", ENDINGS)
def test_a_full_pass_needs(counted, compiler, need):
    test, right, throwing = ENDINGS[need]
    program = counted(compiler, test)
    assert (outcome(program), outcome(program, "throwing")) == (right, throwing)


MANY = """#include <cassert>
static std::vector<int> many(int n) { return std::vector<int>(f(3) == 9 ? n : 100 * n, 2); }
static void each(const std::vector<int>& got) {
    for (int x : got) {
        if (x == 7) return;
        assert(x == 2);
    }
}
int main() {
    assert(f(1) == 1);
    for (int x : many(5)) assert(x == 2);
    for (int x : many(6)) if (x != 2) throw x;
    each(many(7));
    auto r = many(8);
    for (std::size_t i = 0; i < r.size(); ++i) {
        assert(r[i] % 2 == 0);
        assert(f(int(i)) >= 0 || i > 3);
    }
    for (int i = 2; i < 4; ++i) assert(f(i) == i * i);
}
"""


def test_a_loop_over_an_answer_is_one_assertion_and_counts_only_with_all_others(counted):
    """Else a long answer would drown what it failed, and an empty one would pass every loop."""
    program = counted("g++", MANY)
    assert outcome(program) == (7, 7)
    assert outcome(program, "half") == (1, 7)
    assert outcome(program, "wrong") == (0, 7)


def test_what_a_later_assertion_still_needs_is_left_where_it_is(counted):
    # if the declarations moved into a block with the first assertion, `second` would be gone before the last one
    test = """
struct Item { int value; Item* next; };
static int alive = 0;
struct Counter { Counter() { ++alive; } ~Counter() { --alive; } };
struct Group { int size = 0; };
struct Member {
    Group& group;
    explicit Member(Group& joined) : group(joined) { ++group.size; }
    ~Member() { --group.size; }
};
#define SAME(x) if (f(x) != square) throw x
int main() {
    Counter counter;
    Item first{f(2), nullptr};
    Item second{f(4), nullptr};
    first.next = &second;
    if (first.value != 4) throw 1;
    int unused = first.next->value;
    if (unused != 16) throw 2;
    assert(first.next->value == 16 && alive == 1);
    if (sizeof(counter) > 1) throw 3;
    int square = 9;
    SAME(3);
    SAME(-3);
    Group group;
    auto& alias = group;
    Member member(alias);
    if (alias.size != 1) throw 4;
    if (alias.size != 1) throw 5;
}
"""
    assert outcome(counted("g++", test)) == (8, 8)


@pytest.mark.parametrize(
    "test",
    [
        "",
        "int f(int);",
        "int main() {}",
        "int main() { return f(1) == 1 ? 0 : 1; }",
        "static void test() { assert(f(1) == 1); }",
        "TEST(Square, One) { assert(f(1) == 1); }",
        '#include <cstdio>\nint main() { assert(f(1) == 1); std::printf("PASSED %d/%d\\n", 1, 1); }',
        'int main() { assert(f(1) == 1); std::cout << "\\nPASSED " << 1 << "/" << 1; }',
        '#define REPORT(n) std::puts("PASSED 3/3")\nint main() { assert(f(1) == 1); REPORT(3); }',
        'int main() { assert(f(1) == 1); std::cout << R"(PASSED 1/1)"; }',
        "#define assert(x) if (!(x)) return 1\nint main() { assert(f(1) == 1); }",
        "void assert(bool good) { if (!good) throw 1; }\nint main() { assert(f(1) == 1); }",
        "#if X\nint main() { assert(f(1) == 1); }\n#else\nint main() { assert(f(2) == 4); }\n#endif\n",
        "int main() try { assert(f(1) == 1); } catch (...) { return 1; }",
        "int main() { for (int x = 1; x < 5; ++x) { if (f(x) == x * x) continue; else throw x; } }",
        "int main() { assert(f(1) == 1); //\x80",
        "int main(int, const char** argv) { assert(f(1) == 1); }",
        "int main() { std::thread([] { if (f(1) != 1) throw 1; }).join(); }",
        "}}}} int main( { assert(",
        'int main() { /* assert(f(1) == 1); */ const char* text = "assert(false)"; }',
    ],
)
def test_any_other_test_comes_back_unchanged(test):
    assert (count_assertions(test), count_declared(test)) == (test, None)


@pytest.mark.parametrize("text", ["ALL TESTS PASSED\\n", "PASSED", "tests PASSED 3 times", "a@b.c"])
def test_a_test_may_talk(counted, text):
    test = f'#include <cstdio>\nint main() {{ assert(f(2) == 4); std::puts("{text}"); }}\n// PASSED 1/1\n'
    assert count_declared(test) == 1
    done = subprocess.run([counted("g++", test)], env={"MODE": "right"}, capture_output=True, text=True)
    assert done.stdout == text.replace("\\n", "\n") + "\n\nPASSED 1/1\n"


@pytest.mark.parametrize("shape", SHAPES)
def test_a_counted_test_is_a_marker_harness(shape):
    harness = count_assertions(SHAPES[shape][1])
    assert (count_assertions(harness), count_declared(harness)) == (harness, None)


def test_lines_before_the_first_assertion_keep_their_numbers():
    test = SHAPES["compared"][1]
    kept = test.index("int main")
    assert count_assertions(test)[:kept] == test[:kept]


def test_names_of_the_harness_depend_on_the_test():
    names = [set(re.findall(r"rlvr_\w+", count_assertions(SHAPES[shape][1]))) for shape in ("plain", "void")]
    assert all(names)
    assert names[0].isdisjoint(names[1])


STATEMENTS = {
    "assert(f({n}) == {n});": 1,
    "if (f({n}) != {n}) throw {n};": 1,
    "{{ int x = f({n}); assert(x == {n}); }}": 1,
    "try {{ f({n}); throw {n}; }} catch (const std::exception&) {{}}": 1,
    "int v{n} = f({n}); if (!(v{n} == {n})) {{ throw std::runtime_error(\"{n}\"); }}": 1,
    "for (;;) {{ assert(f({n})); }}": 1,
    "while (f({n})) if (f(0)) throw 1;": 1,
    "f({n});  // assert(f({n}));": 0,
}  # fmt: skip
FREE = [
    "try {{ f({n}); assert(false); }} catch (int) {{ return 1; }}",
    "try {{ assert(f({n})); f(-{n}); }} catch (int) {{ return 0; }}",
    "try {{ assert(f({n})); f(-{n}); }} catch (int) {{ }}",
    "#ifdef X\nassert(f({n}));\n#endif",
    "for (int i = 0; i < 3; ++i) {{ assert(f({n})); }}",
    "for (int i : {{1, 2}}) if (f(i)) throw 1;",
    "if (f({n})) assert(f(0));",
    "return f({n});",
]


@given(st.lists(st.sampled_from(list(STATEMENTS)), max_size=12), st.none() | st.sampled_from(FREE), st.integers(0, 12))
def test_the_declared_number_is_that_of_the_straight_assertions(lines, free, place):
    number = sum(STATEMENTS[line] for line in lines)
    lines = [*lines[:place], *([free] if free else []), *lines[place:], "assert(f(0));"]
    test = "int main() {\n" + "".join(line.format(n=n) + "\n" for n, line in enumerate(lines)) + "}\n"
    assert count_declared(test) == (None if free else number + 1)


@given(st.text(alphabet="{}();=\"'#\n /\\@ aé\ud800", max_size=40), st.text(max_size=20))
def test_no_text_is_too_strange(before, after):
    test = f"{before}\nint main() {{ assert(f(1) == 1); {after}"
    assert isinstance(count_assertions(test), str)
    assert count_declared(test) in (None, 1, 2)
