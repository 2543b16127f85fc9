"""Interactors: who talks well passes, who waits forever is out of time, and who fails takes nobody with it."""

import pytest

from rlvr_cpp import Case, Program, UserError, compute_reward
from rlvr_cpp.verifier.cases import OpenCase
from rlvr_cpp.verifier.limits import RunLimits
from rlvr_cpp.verifier.tiers.interactive import read_talk
from rlvr_sandbox import Finished

GUESSING = """
#include <cstdio>
int main(int count, char** files) {
    std::FILE* input = std::fopen(files[1], "r");
    int secret = 0, guess = 0, tries = 0;
    if (count != 4 || !input || std::fscanf(input, "%d", &secret) != 1) return 3;
    if (secret < 0) return std::fputs("FAIL no such number", stderr), 3;
    while (tries++ < 8 && std::scanf("%d", &guess) == 1) {
        std::puts(guess < secret ? "more" : guess > secret ? "less" : "right");
        std::fflush(stdout);
        if (guess == secret) return 0;
    }
    return 1;
}
"""
BEGIN = """
#include <cstdio>
#include <cstdlib>
int main() {
    char said[8] = "";
    int low = 0, high = 128;
"""
HALVES = """
    for (int n = 0; said[0] != 'r' && n < 9; ++n) {
        const int guess = (low + high) / 2;
        std::printf("%d\\n", guess);
        std::fflush(stdout);
        if (std::scanf("%7s", said) != 1) return 1;
        (said[0] == 'm' ? low : high) = guess;
    }
"""
CASES = (OpenCase("77", ""), OpenCase("3", ""), Case("64", "64"))


@pytest.mark.parametrize(
    ("body", "status", "passed"),
    [
        (HALVES, "ok", 3),
        (HALVES.replace("low + high", "low + 128"), "wrong", 1),
        ('std::puts("64");', "wrong", 1),
        ("", "wrong", 0),
        (HALVES + "std::abort();", "wrong", 0),
        (HALVES + 'for (int i = 0; i < 100000; ++i) std::puts("64");', "ok", 3),
        ('std::scanf("%7s", said);', "timeout", 0),
        (HALVES.replace("std::fflush(stdout);", ""), "timeout", 0),
        (HALVES + "for (volatile int i = 0;; ++i) {}", "timeout", 0),
        ('for (;;) std::fputs(" ", stdout);', "timeout", 0),
    ],
)
def test_a_talk_ends_as_the_candidate_deserves(verifier, body, status, passed):
    program = Program(BEGIN + body + "}", cases=CASES, interactor=GUESSING, limits=RunLimits(time=0.2))
    result = verifier.verify(program)
    assert (result.status, result.tests_passed, result.tier) == (status, passed, "cases"), result.stderr


def test_an_interactor_that_fails_is_no_score_unless_the_candidate_has_failed(verifier):
    talks, crashes = (
        Program(BEGIN + body + "}", cases=(OpenCase("-1", ""),), interactor=GUESSING) for body in ("", "std::abort();")
    )
    failed, lost = verifier.verify_many([talks, crashes])
    assert (failed.status, failed.stderr) == ("sandbox_error", "interactor ended with status 3: FAIL no such number")
    assert compute_reward(failed) is None
    assert (lost.status, lost.tests_passed) == ("wrong", 0)


CARELESS = """
#include <cstdio>
#include <cstdlib>
#include <vector>
int main(int, char** files) {
    int secret = 0, guess = 1, how = 0;
    std::FILE* input = std::fopen(files[1], "r");
    std::fscanf(input, "%d%d", &secret, &how);
    if (how == 1) std::abort();
    for (volatile int forever = how; forever == 2;) {}
    for (int read;;) {
        std::puts("guess"), std::fflush(stdout);
        if ((read = std::scanf("%d", &guess)) != 1 && how == 3) std::abort();
        if (std::vector<int>(guess)[0], guess == secret) return 0;
        guess = 1;
    }
}
"""


@pytest.mark.parametrize(
    ("case", "said", "status"),
    [
        ("7 0", "7", "ok"),
        ("7 0", "", "wrong"),  # it asks for ever
        ("7 3", "", "wrong"),
        ("7 0", "-1", "wrong"),
        ("7 1", "7", "sandbox_error"),
        ("7 2", "7", "sandbox_error"),
    ],
)
def test_an_interactor_that_waits_for_a_word_is_broken_by_the_candidate_alone(verifier, case, said, status):
    program = Program(
        f'#include <cstdio>\nint main() {{ std::puts("{said}"); }}', cases=(OpenCase(case, ""),), interactor=CARELESS
    )
    result = verifier.verify(program)
    assert (result.status, result.tests_passed) == (status, int(status == "ok")), result.stderr


def test_who_goes_on_alone_is_out_of_time_only_where_it_was_right():
    killed = Finished("killed", -9)
    assert read_talk(Finished("exit", 0), killed) == (Finished("wall", -9), False)
    assert read_talk(Finished("exit", 1), killed) == (killed, False)


def test_an_interactor_needs_cases_and_no_checker(verifier):
    with pytest.raises(UserError, match="interactor is given but there are no cases"):
        verifier.verify(Program("int main() {}", interactor=GUESSING))
    with pytest.raises(UserError, match="both a checker_program and an interactor"):
        verifier.verify(Program("int main() {}", cases=CASES, interactor=GUESSING, checker_program="int main() {}"))
