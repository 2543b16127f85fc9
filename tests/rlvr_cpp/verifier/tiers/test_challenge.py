"""Who does not compare gains nothing by remembering what a comparison was asked before."""

import subprocess

import pytest

from rlvr_cpp import Program
from rlvr_cpp.verifier.tiers.observer.challenge import challenge_macros
from rlvr_cpp.verifier.tiers.observer.units import header
from rlvr_cpp.verifier.tiers.oracle import rpc_text

GAMES = 2000
PLAYERS = """
typedef std::pair<int, int> Asked;
struct Player {  // what is told of one comparison: what is asked now, and what was asked before, in order and once each
    std::vector<Asked> seen;
    std::map<Asked, int> answers;
    Asked own;  // for the honest one alone
    virtual int guess(const Asked& now) = 0;
    int answer(const Asked& now) {
        const auto known = answers.find(now);
        if (known != answers.end()) return known->second;
        const int said = guess(now);
        seen.push_back(now);
        return answers[now] = said;
    }
    int rank(const Asked& now) const {
        return static_cast<int>(std::count_if(seen.begin(), seen.end(), [&](const Asked& one) { return one < now; }));
    }
};
#define PLAYER(name, how) struct name : Player { int guess(const Asked& now) override { (void)now; return how; } };
PLAYER(honest, now == own)
PLAYER(yes, 1)
PLAYER(no, 0)
PLAYER(first, seen.empty())
PLAYER(last, seen.size() == 7)
PLAYER(fifth, seen.size() == 4)
PLAYER(largest, seen.size() > 3 && rank(now) == (int)seen.size())
PLAYER(smallest, seen.size() > 3 && rank(now) == 0)
PLAYER(middle, seen.size() > 3 && rank(now) * 2 == (int)seen.size())
PLAYER(above_another, std::count_if(seen.begin(), seen.end(), [&](const Asked& one) {
    return one.first + 1 == now.first || one.second + 1 == now.second; }) > 0)
struct turns : Player { int n = 0; int answer(const Asked&) { return n++ % 2; } int guess(const Asked&) override { return 0; } };

template <class P> void play(const char* name, unsigned place) {
    int won = 0;
    for (int game = 0; game < GAMES; ++game) {
        P player;
        player.own = Asked(2 + game % 40, 2 + game % 37);
        const auto ask = [&](const rlvr::Form& form) {
            const auto a = rlvr::as<int>(player.own.first), b = rlvr::as<int>(player.own.second);
            return player.answer(Asked(form(0, a).value, form(1, b).value));
        };
        won += rlvr::challenge(place, ask);
    }
    std::printf("%s %d\\n", name, won);
}
#define PLAY(name) play<name>(#name, place);
int main() {
    for (unsigned place = 0; place < 2; ++place) {
        PLAY(honest) PLAY(yes) PLAY(no) PLAY(turns) PLAY(first) PLAY(last) PLAY(fifth) PLAY(largest) PLAY(smallest)
        PLAY(middle) PLAY(above_another) std::puts("");
    }
}
"""


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """How often each player wins: with draws that a reference has chosen, and without a reference."""
    folder = tmp_path_factory.mktemp("played")
    includes = [f"#include <{name}>" for name in ("algorithm", "cstdio", "map", "utility", "vector")]
    macros = challenge_macros("a test", (2**64 - 1, 0))
    parts = [*includes, rpc_text("RLVR_ORACLE", frozenset(), frozenset(), ()), *macros, header()]
    text = "\n".join([*parts, "void rlvr::throw_own(Reader&) {}", f"const int GAMES = {GAMES};", PLAYERS])
    built = ["g++", "-std=c++17", "-w", "-O1", "-x", "c++", "-", "-o", folder / "played"]
    subprocess.run(built, input=text.encode(), check=True)
    said = subprocess.run([folder / "played"], capture_output=True, check=True).stdout.decode()
    return [{word[0]: int(word[1]) for word in map(str.split, part.splitlines())} for part in said.split("\n\n")[:2]]


def test_no_memory_of_what_was_asked_tells_which_question_is_the_tests(played):
    won = dict(played[0])
    assert won.pop("honest") == GAMES
    assert won.pop("yes") == won.pop("no") == won.pop("turns") == 0
    assert max(won.values()) < GAMES / 4, won


def test_without_a_reference_an_honest_player_wins_always_and_yes_never(played):
    assert (played[1]["honest"], played[1]["yes"], played[1]["no"]) == (GAMES, 0, 0)


SUM = """struct Sum { int n; Sum(int a) : n(a) {} Sum operator+(const Sum& o) const { return Sum(n + o.n); }
  bool operator==(const Sum& o) const { return %s; } };
"""
OF_DECLARATION = (
    "struct Sum { int n; Sum(int a); Sum operator+(const Sum& o) const; bool operator==(const Sum& o) const; };"
)
TEST = "#include <cassert>\n#include <stdexcept>\nint main() { Sum a(2), b(5); %s }\n"


def test_a_loop_of_comparisons_is_rehearsed_in_time(verifier):
    loop = "for (int n = 1; n < 400; ++n) assert(n > 0 && a + b == Sum(7));"
    honest, yes = (
        verifier.verify(Program(SUM % equal, TEST % loop, reference=SUM % "n == o.n")) for equal in ("n == o.n", "true")
    )
    assert (honest.status, honest.tests_total, honest.tier) == ("ok", 399, "observer"), honest.why_in_process
    assert (yes.status, yes.tests_passed) == ("wrong", 0)


@pytest.mark.parametrize(
    "tests",
    [
        "assert(a + b == Sum(7)); assert((a + b == Sum(8)) == false);",
        'if (!(a + b == Sum(7))) throw std::runtime_error("7"); if (a + b == Sum(8)) throw std::runtime_error("8");',
        "const bool right = a + b == Sum(7), wrong = a + b == Sum(8); assert(right); assert(!wrong);",
    ],
)
def test_who_says_yes_to_everything_passes_neither_what_is_so_nor_what_is_not(verifier, tests):
    honest, yes = SUM % "n == o.n", SUM % "true"
    trusted = [(None, honest)] + [(OF_DECLARATION, None)] * ("wrong" not in tests)
    for declaration, reference in trusted:
        right, lying = verifier.verify_many(
            [Program(code, TEST % tests, declaration=declaration, reference=reference) for code in (honest, yes)]
        )
        assert (right.status, right.tests_passed, right.tier) == ("ok", 2, "observer"), right.why_in_process
        assert (lying.status, lying.tests_passed) == ("wrong", 0)
