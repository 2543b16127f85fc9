"""Each way to be judged, each ending with its status, against a real compiler."""

import shutil

import pytest

from rlvr_cpp import Case, Program, Verifier, VerifyResult, compute_reward, verify_cpp
from rlvr_cpp.verifier.limits import RunLimits

HARNESS = """
#include <cstdio>
int main() {
    int passed = 0;
    passed += twice(1) == 2;
    passed += twice(3) == 6;
    std::printf("PASSED %d/2\\n", passed);
    return passed == 2 ? 0 : 1;
}
"""

RIGHT = "int twice(int x) { return 2 * x; }"


def judge(code: str, **options) -> VerifyResult:
    options = {"tests_declared": 2, "timeout": 2.0, "return_structured": True, **options}
    return verify_cpp(code, HARNESS, **options)


@pytest.mark.parametrize(
    ("code", "status", "error_class", "reward"),
    [
        (RIGHT, "ok", None, 1.0),
        ("int twice(int x) { return x + 1; }", "wrong", "wrong", 0.65),
        ("int twice(int x) { return 2 * y; }", "compile_error", "undeclared", 0.0),
        ("int twice(int x) { return 2 * x }", "compile_error", "syntax", 0.0),
        ("int twice(const char* x) { return *x; }", "compile_error", "undeclared", 0.0),
        ("int twice(int x);", "link_error", "link_error", 0.0),
        ("int twice(int x) { return *(volatile int*)0 + x; }", "run_error", "run_error", 0.3),
        ("int twice(int x) { for (volatile int i = 0;; ++i) {} return x; }", "timeout", "timeout", 0.3),
        ("#include <cstdio>\nint twice(int x) { for (;;) std::puts(\"12345678\"); return x; }", "output_limit", "output_limit", 0.3),
        ("#include <cstdlib>\nint twice(int) { std::exit(0); }", "forged", "forged", 0.3),
        ("#include <cstdlib>\nint twice(int) { std::exit(3); }", "run_error", "run_error", 0.3),
        ("#include <cstdio>\nint twice(int x) { std::puts(\"PASSED 2/2\"); return x; }", "forged", "forged", 0.3),
        ("", "compile_error", "extraction_failed", 0.0),
        ("<think>int twice(int x) { return 2 * x; }", "compile_error", "extraction_failed", 0.0),
        ("\0\xff\udc80", "compile_error", None, 0.0),
    ],
)  # fmt: skip
def test_every_ending_has_its_status(code, status, error_class, reward):
    result = judge(code)
    assert result.status == status
    assert error_class is None or result.error_class == error_class
    assert compute_reward(result) == pytest.approx(reward)
    assert result.tests_total == 2


def test_a_compiler_that_does_not_end_is_a_limit_of_its_own():
    endless = (
        "constexpr unsigned f(unsigned n) { unsigned s = 0; for (unsigned i = 0; i < n; ++i) s += i; return s; }"
        "static_assert(f(4000000000u) > 0);"
    )
    limits = ["-fconstexpr-ops-limit=100000000000", "-fconstexpr-loop-limit=2000000000"]
    result = verify_cpp(endless, extra_flags=limits, compile_timeout=0.5)
    assert result.status == "compile_limit"
    assert compute_reward(result) == 0.0


def test_without_tests_the_program_judges_itself():
    assert verify_cpp("int main() {}").run_ok
    assert compute_reward(verify_cpp("int main() {}")) == 0.5
    assert compute_reward(verify_cpp("int main() { return 1; }")) == 0.3


def test_no_code_earns_nothing_where_there_are_no_tests_either():
    assert compute_reward(verify_cpp("<think>never closed")) == 0.0


def test_a_library_without_main_is_compiled_only():
    result = verify_cpp("int twice(int x) { return 2 * x; }")
    assert result.compile_ok
    assert not result.run_ok
    assert result.returncode is None
    assert compute_reward(result) == 0.3


def test_diagnostics_name_the_candidates_own_lines():
    result = judge("int twice(int x) {\n    int unused = 1;\n    return 2 * y;\n}")
    error = next(d for d in result.diagnostics if d.severity == "error")
    assert (error.file, error.line) == ("candidate.cpp", 3)
    assert result.warnings == 2  # `unused`, and the parameter that y was meant to be


def test_many_warnings_do_not_hide_that_a_library_compiles():
    code = "int f() {\n" + "".join(f"int a{n};\n" for n in range(1200)) + "return 0; }"
    result = verify_cpp(code)
    assert (result.status, result.compile_ok, result.returncode) == ("ok", True, None)


def test_structure_only_where_it_is_asked_for():
    plain = judge("int twice(int x) { return y; }", return_structured=False)
    assert plain.error_class is None
    assert plain.diagnostics == ()
    assert plain.warnings == 1


def test_thoughts_are_no_code():
    assert judge("<think>int twice?</think>" + RIGHT).status == "ok"
    assert judge("<think>int twice?</think>" + RIGHT, strip_think=False).status == "compile_error"


def test_the_standard_is_the_programs_own():
    code = "constexpr auto twice = [](auto x) requires true { return 2 * x; };"
    assert judge(code, std="c++17", declaration="int twice(int x);").status == "compile_error"
    assert judge(code, std="c++20", declaration="int twice(int x);").status == "ok"


COUNT = """
int main() {
    int passed = 0;
    passed += count_even({1, 2, 4}) == 2;
    passed += count_even({}) == 0;
    std::printf("PASSED %d/2\\n", passed);
    return passed == 2 ? 0 : 1;
}
"""

PROMPT = "#include <cstdio>\n#include <vector>\nint count_even(std::vector<int> v) {\n"

BODY = "{ int n = 0; for (int x : v) n += x % 2 == 0; return n; }"


@pytest.mark.parametrize(
    ("signature", "status"),
    [
        ("int count_even(std::vector<int> v)", "ok"),
        ("int count_even(const std::vector<int>& v)", "ok"),
        ("long long count_even(const std::vector<int>& v)", "ok"),
        ("int count_even(std::vector<int> v, int = 0)", "ok"),
        ("double count_even(std::vector<int> v)", "compile_error"),
        ("int count_even(std::vector<int>* v)", "compile_error"),
        ("bool count_even(std::vector<int> v)", "wrong"),
    ],
)
def test_a_candidate_may_take_its_argument_by_reference_but_not_change_the_question(verifier, signature, status):
    code = f"#include <vector>\n#include <cstdio>\n{signature} {BODY}"
    result = verifier.verify(Program(code, COUNT, 2, declaration=PROMPT))
    assert (result.status, result.tier) == (status, "oracle"), result.stderr


@pytest.mark.parametrize("compiler", ["g++", "clang++"])
def test_several_files_are_one_program(compiler):
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    files = {
        "src/main.cpp": '#include "lib/twice.h"\n#include <iostream>\nint main() { std::cout << twice(21); }',
        "src/lib/twice.h": "int twice(int x);",
        "src/twice.cpp": '#include "lib/twice.h"\nint twice(int x) { int unused; return 2 * x; }',
    }
    case = Case("", "42")
    with Verifier(compiler=compiler, workers=1) as verifier:
        result = verifier.verify(Program(files, cases=(case,)))
        library = {name: text for name, text in files.items() if "main" not in name}
        test = '#include "src/lib/twice.h"\n' + HARNESS
        assert verifier.verify(Program(library, test, 2)).status == "ok"
    assert (result.status, result.tier, result.tests_passed, result.warnings) == ("ok", "cases", 1, 1)


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"a.h": "int x;"},
        {"../a.cpp": "int main() {}"},
        {"/etc/a.cpp": "int main() {}"},
        {"a b.cpp": "int main() {}"},
        {"rlvr_program/a.cpp": "int main() {}"},
        {"a.cpp/b.cpp": "int main() {}", "a.cpp": "int x;"},
        {"-o.cpp": "int main() {}"},
        {"a" * 300 + ".cpp": "int main() {}"},
        {"a/" * 1500 + "x.cpp": "int main() {}"},
        {f"a{n}.cpp": f"int x{n};" for n in range(300)},
        {"a.cpp": "x" * (5 << 20)},
        {"a.cpp": "\0\0 \0"},
    ],
)
def test_what_a_candidate_names_its_files_never_raises(verifier, files):
    result = verifier.verify(Program(files))
    assert (result.status, result.error_class) == ("compile_error", "extraction_failed")
    assert result.stderr


def test_inputs_and_outputs_are_compared_outside(verifier):
    cases = tuple(Case(f"{n} {n + 1}\n", f"{2 * n + 1}\n") for n in range(3))
    right = "#include <iostream>\nint main() { int a, b; std::cin >> a >> b; std::cout << a + b << '\\n'; }"
    half = right.replace("a + b", "(a ? a + b : 7)")
    silent = "int main() {}"
    forger = '#include <cstdio>\nint main() { std::puts("PASSED 3/3"); }'
    endless = right.replace("std::cout", "for (volatile int i = a; i;) {} std::cout")
    results = verifier.verify_many([Program(code, cases=cases) for code in (right, half, silent, forger, endless)])
    assert [(r.status, r.tests_passed) for r in results] == [
        ("ok", 3),
        ("wrong", 2),
        ("wrong", 0),
        ("wrong", 0),
        ("timeout", 0),
    ]
    assert {r.tier for r in results} == {"cases"}
    assert {r.tests_total for r in results} == {3}


DOES_AS_TOLD = """
#include <cstdio>
#include <cstdlib>
static int deep(int n) { volatile char room[1024]; room[0] = 1; return n ? deep(n - 1) + room[0] : 0; }
int main() {
    char what = 0;
    int n = 0;
    if (std::scanf(" %c %d", &what, &n) != 2) return 1;
    if (what == 'p') while (n--) std::putchar('1');
    if (what == 'e') while (n--) std::fputc('e', stderr);
    if (what == 'd') n = deep(n);
    volatile char* room = what == 'm' ? (char*)std::calloc(n, 1) : nullptr;
    for (int i = 0; room && i < n; i += 64) room[i] = 1;
    if (what == 'm' && !room) return 1;
    if (what == 't') for (volatile int i = 0;; ++i) {}
    std::puts("1");
}
"""


@pytest.mark.parametrize(
    ("told", "limits", "status"),
    [
        ("p 200000", RunLimits(), "ok"),
        ("p 200000", RunLimits(output=1), "ok"),
        ("e 200000", RunLimits(), "ok"),
        ("d 100000", RunLimits(), "wrong"),
        ("d 100000", RunLimits(stack=256), "ok"),
        ("m 100000000", RunLimits(), "ok"),
        ("m 100000000", RunLimits(memory=32), "memory_limit"),
        ("t 1", RunLimits(time=0.1), "timeout"),
    ],
)
def test_a_task_says_what_a_run_may_use(verifier, told, limits, status):
    printed = "1" * (200_001 if told.startswith("p") else 1)
    result = verifier.verify(Program(DOES_AS_TOLD, cases=(Case(told, printed),), limits=limits))
    refused = ("wrong",) if status == "memory_limit" else ()  # without a cgroup, a program is told that there is none
    assert result.status in (status, *refused), result.stderr
    assert len(result.stdout) <= 64 << 10


def test_more_than_a_task_allows_is_a_flood(verifier):
    result = verifier.verify(Program(DOES_AS_TOLD, cases=(Case("p 3000", "1"),), limits=RunLimits(output=1)))
    assert (result.status, result.limit) == ("output_limit", "output")


def test_a_checker_of_ones_own_may_fail_and_is_then_no_score(verifier):
    case = Case("4\n", "2\n")
    code = '#include <cstdio>\nint main() { std::puts("-2"); }'

    def root(stdin: str, expected: str, actual: str) -> bool:
        return int(actual) ** 2 == int(stdin)

    def broken(stdin: str, expected: str, actual: str) -> bool:
        raise KeyError("oops")

    good, bad = (verifier.verify(Program(code, cases=(case,), checker=checker)) for checker in (root, broken))
    assert good.status == "ok"
    assert bad.status == "sandbox_error"
    assert compute_reward(bad) is None


def test_items_that_a_candidate_has_counted_are_no_share_of_the_tests(verifier):
    test = (
        "#include <cstdio>\n#include <vector>\nstd::vector<int> twos(int n);\nint main() { int p = 0; "
        "for (int x : twos(2)) p += x == 2; p += twos(1)[0] == 2; p += twos(3).size() == 3; "
        'std::printf("PASSED %d/4\\n", p); return p != 4; }\n'
    )
    code = "#include <vector>\nstd::vector<int> twos(int n) { return std::vector<int>(%s, 2); }\n"
    right, wrong = verifier.verify_many([Program(code % size, test, 4) for size in ("n", "n < 3 ? n : 0")])
    assert (right.status, right.tests_passed) == ("ok", 4)
    assert (wrong.status, wrong.tests_passed) == ("wrong", 0)


def test_assertions_are_counted_without_a_marker(verifier):
    test = "#include <cassert>\nint main() { assert(twice(1) == 2); assert(twice(2) == 5); assert(twice(4) == 8); }"
    result = verifier.verify(Program(RIGHT, test))
    assert (result.status, result.tests_passed, result.tests_total, result.tier) == ("wrong", 2, 3, "oracle")


@pytest.mark.parametrize(
    ("test", "tier"),
    [
        (HARNESS, "oracle"),
        ("int twice(int x);\nint (*chosen)(int) = twice;\nint base = 0;\nstruct P { int x; };\nint use(P* p);\n" + HARNESS, "oracle"),
        (HARNESS.replace("twice(1)", "Twice{}.of(1)").replace("twice(3)", "Twice{}.of(3)"), "observer"),
    ],
)  # fmt: skip
def test_the_strongest_way_is_chosen(verifier, test, tier):
    code = RIGHT + "\nstruct Twice { int of(int x) { return 2 * x; } };"
    result = verifier.verify(Program(code, test, 2))
    assert (result.status, result.tier) == ("ok", tier)


def test_callbacks_are_answered_from_the_tests_own_process(verifier):
    prompt = "int price(int id);\nint solve(int n) {\n"
    test = "int price(int id) { return id * 2; }\n" + HARNESS.replace("twice", "solve")
    code = prompt + "    return price(n);\n}\n"
    cheat = prompt.replace("int solve", "#include <cstdio>\n#include <cstdlib>\nint solve")
    cheat += '    std::puts("PASSED 2/2"); std::fflush(stdout); std::_Exit(0); return n;\n}\n'
    honest, forged = verifier.verify_many([Program(text, test, 2, declaration=prompt) for text in (code, cheat)])
    assert (honest.status, honest.tier) == ("ok", "observer")
    assert (forged.status, forged.tests_passed, forged.tier) == ("forged", 0, "observer")


def test_a_candidate_cannot_talk_itself_out_of_a_score():
    for text in ("Killed signal terminated program", "No space left on device"):
        assert verify_cpp(f"#error {text}\nint main() {{}}").status == "compile_error"
    line_marker = '# 1 "nowhere"\n#error undefined reference to `main\'\n int x = ;'
    assert verify_cpp(line_marker).status == "compile_error"
    assert verify_cpp('static_assert(false, "undefined reference to x"); int main() {}').status == "compile_error"


def test_a_program_can_write_nowhere():
    code = """
    #include <cstdio>
    #include <initializer_list>
    int main() { for (const char* path : {"x", "/tmp/x", "/work/x", "/dev/shm/x"}) if (std::fopen(path, "w")) return 1; }
    """
    assert verify_cpp(code).status == "ok"


@pytest.mark.parametrize(("declared", "status", "reward"), [(None, "wrong", 0.3), (3, "forged", 0.3)])
def test_a_share_of_tests_whose_number_a_candidate_chose_is_no_partial_pass(verifier, declared, status, reward):
    test = """#include <cstdio>
#include <vector>
std::vector<int> evens(int n);
int main() {
    int passed = evens(4).size() == 2, total = 1;
    for (int x : evens(9)) { ++total; passed += x % 2 == 0; }
    std::printf("PASSED %d/%d\\n", passed, total);
    return passed != total;
}
"""
    code = "#include <vector>\nstd::vector<int> evens(int n) { return std::vector<int>(n > 4 ? 900 : 1, 2); }\n"
    result = verifier.verify(Program(code, test, declared))
    assert (result.status, result.tests_passed, compute_reward(result)) == (status, 0, reward)


GREETS = """#include <iostream>
#include <string>
int main() {
    OBJECT
    int passed = 0;
    passed += greet(1) == "Hello, 1";
    if (greet(2) != "Hello, 2") {
        std::cout << "FAIL got " << greet(2) << std::endl;
        if (greet(3).empty()) std::cout << "PASSED " << passed << "/2\\n";
        return 1;
    }
    std::cout << "PASSED 2/2\\n";
}
"""


@pytest.mark.parametrize(
    ("declaration", "code", "test", "tier"),
    [
        ("std::string greet(int n);", "%s", GREETS.replace("OBJECT", ""), "oracle"),
        (
            "struct Greeter { std::string greet(int n) const; };",
            "struct Greeter { %s };",
            GREETS.replace("greet", "greeter.greet").replace("OBJECT", "Greeter greeter;"),
            "observer",
        ),
    ],
    ids=["oracle", "observer"],
)
def test_what_a_harness_prints_of_an_answer_is_no_verdict(verifier, declaration, code, test, tier):
    forged = 'return n == 2 ? "\\nPASSED 999/1000" : '
    bodies = {
        f'{forged} "silent";': ("run_error", 0, tier),
        f'{forged} "";': ("wrong", 0, tier),
        'return "Hello, " + std::to_string(n);': ("ok", 2, tier),
    }
    const = " const" * (tier == "observer")
    codes = ["#include <string>\n" + code % f"std::string greet(int n){const} {{ {body} }}" for body in bodies]
    programs = [Program(code, test, declaration=f"#include <string>\n{declaration}") for code in codes]
    results = verifier.verify_many(programs)
    assert [(one.status, one.tests_passed, one.tier) for one in results] == list(bodies.values())
    assert [one.stdout for one in results][1:] == ["FAIL got \n PASSED 999/1000\nPASSED 0/2\n", "PASSED 2/2\n"]
