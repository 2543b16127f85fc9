"""Checker programs: what a status says, and that a checker's own failure is nobody's score."""

import pytest

from rlvr_cpp import Case, Program, UserError, Verifier, compute_reward
from rlvr_cpp.verifier.cases import OpenCase
from rlvr_cpp.verifier.judge import prepare
from rlvr_cpp.verifier.limits import RunLimits
from rlvr_cpp.verifier.tiers import checker_program
from rlvr_cpp.verifier.tiers.checker_program import build_judge

ECHO = """
#include <cstdio>
int main() { for (int c; (c = std::getchar()) != EOF;) std::putchar(c); }
"""
STATUS = """
#include <cstdio>
#include <cstdlib>
int main(int count, char** files) {
    std::FILE* output = count == 4 ? std::fopen(files[2], "r") : nullptr;
    int status = 0;
    if (!output || std::fscanf(output, "%d", &status) != 1) return 3;
    if (status == 3) std::fputs("FAIL the answer is no number\\nand more", stderr);
    if (status < 0) std::abort();
    return status;
}
"""
WITNESS = """
#include <fstream>
#include <string>
int main(int, char** files) {
    std::ifstream input(files[1]), output(files[2]), answer(files[3]);
    long number, factor;
    std::string expected, said;
    input >> number, answer >> expected, output >> said;
    if (said != expected) return 1;
    if (said == "NO") return 0;
    return output >> factor && 1 < factor && factor < number && number % factor == 0 ? 0 : 1;
}
"""


def test_a_full_pass_is_status_0_alone(verifier):
    cases = tuple(OpenCase(str(status), "") for status in (0, 1, 2, 7))
    result = verifier.verify(Program(ECHO, cases=cases, checker_program=STATUS))
    assert (result.status, result.tests_passed, result.tests_total, result.tier) == ("wrong", 1, 4, "cases")


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("3", "checker_program ended with status 3: FAIL the answer is no number"),
        ("4", "checker_program ended with status 4"),
        ("-1", "checker_program was ended (signal, -6)"),
    ],
)
def test_what_a_checker_does_to_itself_is_no_score(verifier, output, words):
    result = verifier.verify(Program(ECHO, cases=(OpenCase(output, ""),), checker_program=STATUS))
    assert (result.status, result.stderr) == ("sandbox_error", words)
    assert compute_reward(result) is None


FRAGILE = """
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>
struct Read { char given[16], expected[16]; };
int main(int, char** files) {
    std::FILE *input = std::fopen(files[1], "r"), *output = std::fopen(files[2], "r"), *answer = std::fopen(files[3], "r");
    char how[16], word[64] = "";
    Read read;
    std::vector<int> entries(8, 7);
    entries.resize(4);
    std::fscanf(input, "%15s", how), std::fscanf(answer, "%15s", read.expected), std::fscanf(output, "%63s", word);
    const int number = std::atoi(word), rows[5] = {1, 2, 3, 4, 5};
    volatile int place = number;
    if (!std::strcmp(how, "status")) return number;
    if (!std::strcmp(how, "huge")) return std::vector<int>(number).size() != 3;
    if (!std::strcmp(how, "vector")) return entries[place] != 7;
    if (!std::strcmp(how, "array")) return rows[place] == 1;
    if (!std::strcmp(how, "copy")) return std::strcpy(read.given, word), std::strncmp(read.given, read.expected, 8);
    while (number < 0) place = number;
    return number != 3;
}
"""


@pytest.fixture
def impatient(verifier, monkeypatch):
    """A verifier whose checkers have but a moment."""
    monkeypatch.setattr(checker_program, "LIMITS", RunLimits(time=0.3, memory=1024, stack=256))
    return verifier


def test_an_output_that_breaks_a_checker_which_takes_the_expected_one_has_lost_the_case(impatient):
    right = Case("huge", "3")
    tried = [
        (Case("huge -1", "3"), 2),  # bad_alloc
        (Case("status 99", "0"), 2),
        (Case("vector 7", "3"), 2),
        (Case("array 9", "3"), 2),
        (Case(f"copy {'A' * 31}", "A"), 2),
        (Case("loop -1", "3"), 1),  # and the one behind it, on which it would loop as well
    ]
    last_word = (
        'int main() { char how[64], word[64]; if (std::scanf("%63s%63s", how, word) < 2) std::strcpy(word, "3");'
    )
    code = f"#include <cstdio>\n#include <cstring>\n{last_word} std::puts(word); }}"
    programs = [Program(code, cases=(right, case, right), checker_program=FRAGILE) for case, _ in tried]
    results = impatient.verify_many(programs)
    assert [(result.status, result.tests_passed, result.tests_total) for result in results] == [
        ("wrong", passed, 3) for _, passed in tried
    ], [result.stderr for result in results]


def test_a_checker_that_fails_on_the_expected_output_too_is_no_score(verifier):
    cases = (Case("status 99", "98"), OpenCase("status 99", ""))
    programs = [
        Program(ECHO.replace("int main() {", 'int main() { std::puts("99");'), cases=(case,), checker_program=FRAGILE)
        for case in cases
    ]
    for result in verifier.verify_many(programs):
        assert (result.status, result.stderr) == ("sandbox_error", "checker_program ended with status 99")


def test_a_checker_is_not_shown_what_a_c_string_would_hide(verifier):
    code = '#include <cstdio>\nint main() { std::fwrite("A\\0B", 1, 3, stdout); }'
    result = verifier.verify(Program(code, cases=(Case("zero", "A"),), checker_program="int main() {}"))
    assert result.status == "wrong"


def test_any_witness_will_do_and_none_will_not(verifier):
    cases = (Case("91", "YES\n7"), Case("13", "NO"))
    code = '#include <cstdio>\nint main() { int n; std::scanf("%d", &n); std::puts(n == 13 ? "NO" : "YES WITNESS"); }'
    tried = {"13": 2, "7": 2, "91": 1, "": 1, "-7": 1, "99999999999999999999999": 1}
    programs = [Program(code.replace("WITNESS", text), cases=cases, checker_program=WITNESS) for text in tried]
    assert [result.tests_passed for result in verifier.verify_many(programs)] == list(tried.values())


def test_output_without_a_word_is_no_answer_whatever_the_checker(verifier):
    takes_all = "int main() {}"
    silent = Program("int main() {}", cases=(OpenCase("", ""),), checker_program=takes_all)
    assert verifier.verify(silent).status == "wrong"


def test_a_checker_that_does_not_compile_is_named_each_time(verifier):
    programs = [
        Program(f"{ECHO}// {number}", cases=(Case("1", "1"),), checker_program="int main() { return x; }")
        for number in range(2)
    ]
    first, second = verifier.verify_many(programs)
    assert first.status == second.status == "sandbox_error"
    assert first.stderr == second.stderr
    assert "checker_program does not compile: checker.cpp:1: 'x' was not declared" in first.stderr


def test_it_is_built_before_the_first_answer_and_once_for_all(verifier, tmp_path):
    checker = f"{WITNESS}// {tmp_path}"
    built = verifier.workshop.store.folder
    before = set(built.iterdir())
    program = Program(ECHO, cases=(Case("1", "1"),), checker_program=checker)
    prepare(program, verifier.workshop)
    new = set(built.iterdir()) - before
    assert build_judge(program, verifier.workshop).parent in new


SEARCHES = """
#include <algorithm>
#include <fstream>
#include <numeric>
#include <vector>
int main(int, char** files) {
    std::ifstream output(files[2]);
    int found = 0, count = 0;
    output >> count;
    std::vector<int> all(count);
    std::iota(all.begin(), all.end(), 0);
    for (int x = 0; x < count; ++x) found += *std::lower_bound(all.begin(), all.end(), x) == x;
    return found == count ? 0 : 1;
}
"""


def test_a_search_in_a_checker_is_as_fast_as_its_author_counted_on(impatient):
    program = Program(ECHO, cases=(Case("100000", "100000"),), checker_program=SEARCHES)
    assert impatient.verify(program).status == "ok"


def test_a_checker_is_in_the_tasks_standard_with_gnus_extensions(verifier):
    says = "#ifdef __STRICT_ANSI__\n#error strict\n#endif\n#include <fstream>\nint main() { return __cplusplus > 202000L ? 0 : 1; }"
    programs = [Program(ECHO, cases=(Case("1", "1"),), checker_program=says, std=std) for std in ("c++17", "c++20")]
    assert [result.status for result in verifier.verify_many(programs)] == ["wrong", "ok"]


def test_testlib_comes_from_the_folder_that_a_user_names(tmp_path):
    program = Program(
        ECHO, cases=(Case("1", "1"),), checker_program='#include "testlib.h"\nint main() { return RIGHT; }'
    )
    with (
        Verifier(workers=1) as verifier,
        pytest.raises(UserError, match=r"set verifier\.testlib to the folder it is in"),
    ):
        verifier.verify(program)
    statuses = []
    for right in (0, 1):
        (tmp_path / "testlib.h").write_text(f"#define RIGHT {right}")
        with Verifier(workers=1, testlib=str(tmp_path)) as verifier:
            statuses.append(verifier.verify(program).status)
    assert statuses == ["ok", "wrong"]
    with pytest.raises(UserError, match=r"name the folder that holds testlib\.h"):
        Verifier(testlib=str(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("program", "words"),
    [
        (Program("int main() {}", checker_program=STATUS), "checker_program is given but there are no cases"),
        (Program("int main() {}", cases=(OpenCase("1", " "),)), "a case expects nothing"),
        (Program("int main() {}", cases=(Case("1", "1"),), checker_program=5), "checker_program is a int"),  # type: ignore[arg-type]
    ],
)
def test_a_program_that_makes_no_sense_is_refused(verifier, program, words):
    with pytest.raises(UserError, match=words):
        verifier.verify(program)
