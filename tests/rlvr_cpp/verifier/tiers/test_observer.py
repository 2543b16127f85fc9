"""A test that needs the candidate's objects is taken apart, judges as it did in one process, and cannot be written to.

`tests/data/observer` holds tests of many kinds, each with a reference and an answer that is wrong somewhere.
"""

import copy
import dataclasses
import json
import re
import shutil
import socket
import struct
import subprocess
from itertools import compress
from pathlib import Path
from random import Random

import pytest

from benchmarks.hacks import earned, hacks, honest_share
from rlvr_cpp import Program, VerifyResult, compute_reward
from rlvr_cpp.tasks.task import BUILTIN, load_tasks
from rlvr_cpp.tasks.tiers import tier_of, tier_remarks
from rlvr_cpp.verifier.tiers.observer import planner
from rlvr_cpp.verifier.tiers.observer.cut import Owing, cut_test
from rlvr_cpp.verifier.tiers.observer.plan import Plan
from rlvr_cpp.verifier.tiers.observer.planner import closed, owing_by, plan_for, why_in_process
from rlvr_cpp.verifier.tiers.observer.scope import CannotSplit
from rlvr_cpp.verifier.tiers.observer.thunks import Learned
from rlvr_cpp.verifier.tiers.oracle import ORACLE_CHANNEL
from rlvr_cpp.verifier.tiers.two_processes import link_oracle
from rlvr_cpp.verifier.toolchain.store import Store
from rlvr_cpp.verifier.verdict import WORKER_GONE, WORKER_LIED

KINDS = Path(__file__).parents[3] / "data" / "observer"
QUICK = ("own_exception", "exceptions", "list_range", "fraction", "move_only", "table")
SWITCHES = ("enums",)
"""Not taken apart: a switch over the candidate's enumerators."""
NAMES = [
    path.name if path.name in QUICK else pytest.param(path.name, marks=pytest.mark.slow)
    for path in sorted(KINDS.iterdir())
]
TASKS = [task for task in load_tasks(BUILTIN) if task.tags[0] in ("classes", "callgraphs")]


def text(name, part):
    return (KINDS / name / f"{part}.cpp").read_text()


def answer(name, part):
    return Program(text(name, part), text(name, "test"), reference=text(name, "reference"))


@pytest.fixture(scope="module")
def judged(verifier):
    """The reference and the wrong answer of a kind; the quick ones are judged together."""
    known: dict[str, tuple[VerifyResult, VerifyResult]] = {}

    def find(name):
        if name not in known:
            together = QUICK if name in QUICK else (name,)
            results = verifier.verify_many([answer(one, part) for one in together for part in ("reference", "wrong")])
            known.update(zip(together, zip(results[::2], results[1::2], strict=True), strict=True))
        return known[name]

    return find


@pytest.mark.parametrize("name", NAMES)
def test_a_reference_passes_and_a_wrong_answer_does_not(judged, name):
    reference, wrong = judged(name)
    assert reference.status == "ok", reference.stderr
    assert wrong.status in ("wrong", "run_error")
    assert (reference.tier == "observer") == (name not in SWITCHES), reference.why_in_process


def test_an_equality_that_says_yes_to_everything_is_challenged(judged):
    reference, lying = judged("fraction")
    assert reference.self_judged == lying.self_judged == 3
    assert lying.tests_passed < lying.tests_total - 1


DECLARED = """#include <initializer_list>
#include <set>
#include <stdexcept>
#include <vector>
struct Mod { int value, base; Mod(int value, int base)%s bool operator==(const Mod& o) const%s };
struct Bag { std::set<int> held; Bag(std::initializer_list<int> held)%s bool operator==(const Bag& o) const%s };
struct Day { int day, month; Day(int day, int month)%s bool operator==(const Day& o) const%s };
struct Big { long digits; Big(long digits)%s bool operator==(const Big& o) const%s };
struct Pile { std::vector<Day> days; void put(Day d)%s Day take()%s };
"""
COMPARING = (
    *(" : value(value % base), base(base) {}", "{ return value == o.value; }"),
    *(" : held(held) {}", "{ return held == o.held; }"),
    *(
        ' : day(day), month(month) { if (day > 30 + (month != 2 && month != 4)) throw std::out_of_range("day"); }',
        "{ return day == o.day && month == o.month; }",
    ),
    *(" : digits(digits) {}", "{ return digits == o.digits; }"),
    *("{ days.push_back(d); }", "{ Day last = days.back(); days.pop_back(); return last; }"),
)
COMPARED = """#include <cassert>
int main() {
    Mod m(7, 5); assert(m == Mod(2, 5));
    Bag b{1, 2, 3}; assert(b == (Bag{1, 2, 2, 3}));
    Day d(31, 5); assert(d == Day(31, 5)); assert(!(d == Day(30, 5)));
    Big six(6); assert(six == 6L);
    Pile p; p.put(d); p.put(Day(1, 1)); assert(p.take() == Day(1, 1)); assert(p.take() == Day(31, 5));
}
"""


def test_without_a_reference_an_equality_may_fold_and_ignore_but_not_say_yes_to_everything(verifier):
    declaration, honest = DECLARED % ((";",) * 10), DECLARED % COMPARING
    answers = {
        "honest": honest,
        "yes": re.sub(r"{ return (\w+) == .*?; }", "{ return true; }", honest),
        "no": re.sub(r"{ return (\w+) == .*?; }", "{ return false; }", honest),
        "in turns": re.sub(r"{ return (\w+) == .*?; }", "{ static int n; return n++ % 2; }", honest),
    }
    results = verifier.verify_many([Program(code, COMPARED, declaration=declaration) for code in answers.values()])
    passed = dict(zip(answers, results, strict=True))
    assert {one.tier for one in results} == {"observer"}
    assert (passed["honest"].status, passed["honest"].self_judged) == ("ok", 7)
    assert passed["yes"].tests_passed == 2  # what changes an object is asked once, and tells nothing
    assert passed["no"].tests_passed == 1
    assert passed["in turns"].tests_passed <= 3


# ------------------------------------------------------------------------------------------- where what is said lies


def cut_of(task):
    trusted = task.prompt + task.reference
    return cut_test(task.test, owing_by(task.test, trusted), Learned())


@pytest.mark.parametrize("family", ["classes", "callgraphs"])
def test_nothing_that_a_shipped_test_expects_or_feeds_lies_beside_the_candidate(family):
    task = next(task for task in TASKS if task.tags[0] == family)
    cut = cut_of(task)
    own = cut.observer.split("}  // namespace rlvr\n")[-1]
    said = set(re.findall(r"-?\b\d\d+\b", task.test))
    assert said
    assert not said & set(re.findall(r"-?\b\d\d+\b", own))
    assert "==" not in own
    assert all(number in cut.oracle for number in said)


def test_no_shipped_test_shares_the_answers_process():
    tiers = {tier_of(task, hidden) for task in TASKS[::6] for hidden in (False, True)}
    assert tiers == {("observer", "")}
    assert tier_remarks(TASKS[::12]) == []


def test_equal_shapes_share_a_thunk_and_an_observer():
    observers = {cut_of(task).observer for task in TASKS if task.tags[0] == "classes"}
    assert len(observers) == 2  # of the struct and of the template


@pytest.mark.parametrize(
    ("declaration", "whole"),
    [
        ("int f(int);", "int f(int);"),
        ("int f(int x) {", "int f(int x) {\n__builtin_trap(); }\n"),
        ("struct S { void f() { if (x) {", "struct S { void f() { if (x) {\n__builtin_trap(); } }; };\n"),
        (None, None),
    ],
)
def test_a_declaration_is_closed_where_it_is_open(declaration, whole):
    assert closed(declaration) == whole


# ------------------------------------------------------------------------------------------- what is not taken apart

HARNESS = (
    '#include <cstdio>\n%s\nint main() { int p = 0; %s std::printf("PASSED %%d/2\\n", p); return p == 2 ? 0 : 1; }\n'
)
BOX = "struct Box { int v = 3; int get() const { return v; } };\n"


@pytest.mark.parametrize(
    ("top", "body", "reason"),
    [
        ("template <class T> bool is(T x) { return x.get() == 3 && Box().v == 3; }", "p += 2 * is(Box());", "compares"),
        ("", "struct Mine { Box b; }; Mine m; p += 2 * (m.b.v == 3);", "class inside of a function"),
        ("#define MADE Box()", "p += 2 * (MADE.v == 3);", "macro"),
        ("#include <thread>", "std::thread t([&] { p += 2 * (Box().v == 3); }); t.join();", "process"),
        ("", "Box b; p += 2 * (b.v == 3); std::signal(2, 0);", "signal"),
    ],
)
def test_what_cannot_be_taken_apart_has_a_reason(top, body, reason):
    program = Program(BOX, HARNESS % (top, body), 2, reference=BOX)
    assert reason in why_in_process(program)


def test_tests_inside_of_the_answers_process_pay_all_or_nothing(verifier):
    test = HARNESS % ("", "struct Mine { Box b; }; Mine m; p += m.b.v == 3; p += m.b.get() == 3;")
    right, half, wrong = verifier.verify_many(
        [
            Program(code, test, 2, reference=BOX)
            for code in (BOX, BOX.replace("return v", "return 4"), BOX.replace("3", "5"))
        ]
    )
    assert (right.status, right.tests_passed, right.tier) == ("ok", 2, "marker")
    assert "class inside of a function" in right.why_in_process
    assert (half.status, half.tests_passed, half.tests_total) == ("wrong", 0, 2)
    assert compute_reward(half) == compute_reward(wrong) == pytest.approx(0.3)
    assert VerifyResult.from_json(half.to_json()) == half
    old = json.loads(half.to_json())
    del old["why_in_process"], old["self_judged"]
    assert VerifyResult.from_json(json.dumps(old)).why_in_process == ""


def test_a_value_of_another_type_is_no_answer_and_is_counted(verifier):
    yes = "struct Yes { template <class T> bool operator==(const T&) const { return true; } };\n"
    test = HARNESS % ("", "Box b; p += b.get() == 3; p += b.get() == 3;")
    lying, longer, fraction = verifier.verify_many(
        [
            Program(code, test, 2, reference=BOX)
            for code in (
                yes + "struct Box { Yes get() const { return {}; } };\n",
                "struct Box { long long get() const { return 3; } };\n",
                "struct Box { double get() const { return 3.25; } };\n",
            )
        ]
    )
    assert (lying.status, lying.error_class, lying.is_cheat) == ("compile_error", "value_type", True)
    assert (longer.status, longer.is_cheat) == ("ok", False)
    assert fraction.status == "compile_error"


def test_the_plan_is_the_tasks_and_never_the_answers(verifier):
    test = HARNESS % ("", "Box b; p += b.get() == 3; p += b.v == 3;")
    plans = {
        plan_for(Program(code, test, 2, reference=BOX), verifier.workshop)
        for code in (BOX, "", "struct Box { struct Y {} v; Y get() { return v; } };")
    }
    assert len(plans) == 1


@pytest.mark.parametrize("file", ["tiers/observer/observer.h", "tiers/rpc.h", "cpp/lexemes.py"])
def test_a_plan_that_an_earlier_text_made_is_not_found(tmp_path, file):
    mended = tmp_path / "verifier"
    shutil.copytree(planner.VERIFIER, mended)
    assert planner._text_of(mended) == planner.OWN_TEXT
    (mended / file).write_text((mended / file).read_text() + "\n")
    assert planner._text_of(mended) != planner.OWN_TEXT


@pytest.mark.parametrize("damage", ['{"reason": "", "no_such_field": 1, "quoted": []}', '{"rea', "[]", "{}"])
def test_a_plan_that_makes_no_sense_is_made_anew(verifier, tmp_path, damage):
    workshop = copy.copy(verifier.workshop)
    workshop.store = Store(tmp_path, 1 << 30)
    program = Program(BOX, HARNESS % ("", "Box b; p += b.get() == 3; p += b.v == 3;"), 2, reference=BOX)
    plan = plan_for(program, workshop)
    (place,) = tmp_path.glob(f"*/{planner.PLAN}")
    place.write_text(damage)
    planner._read.cache_clear()
    assert plan_for(program, workshop) == plan
    assert place.read_text() == plan.to_json()


def test_a_plan_that_lacks_a_header_is_made_anew_by_the_next_process(verifier, monkeypatch):
    test = HARNESS % ("#include <nobody/has_that.h>", "Box b; p += b.get() == 3; p += b.get() == 3;")
    program = Program("", test, 2, declaration="#include <nobody/has_that.h>\nstruct Box { int get();\n")
    reason = plan_for(program, verifier.workshop).reason
    assert "nobody/has_that.h" in reason
    assert plan_for(program, verifier.workshop).reason == reason
    monkeypatch.setattr(planner, "_PASSING", {})
    again = Plan(reason="fatal error: another: No such file or directory")
    monkeypatch.setattr(planner, "_made", lambda program, workshop: again)
    assert plan_for(program, verifier.workshop) == again


def test_a_test_without_a_main_is_not_taken_apart():
    with pytest.raises(CannotSplit, match="no main"):
        cut_test("int x;", Owing(frozenset({"Box"})), Learned())


LIST = """#include <optional>
#include <string>
#include <string_view>
struct List { std::string word = "%s"; std::optional<int> kept; void keep(int n) { kept = n; }
  std::optional<int> last() const { return kept; } std::string_view view() const { return word; }
  std::optional<std::string_view> name() const { return kept ? std::optional<std::string_view>(word) : std::nullopt; } };
"""
LISTED = """#include <cassert>
int main() {
    List a; assert(a.last() != 3); assert(!(a.last() == 0)); assert(a.name() != "x"); assert(!(a.name() == ""));
    a.keep(3); assert(a.last() == 3); assert(a.view() == "x"); assert(a.name() == "x");
}
"""


def test_without_a_declaration_what_holds_a_value_is_compared_as_that_value(verifier):
    right, wrong = verifier.verify_many([Program(LIST % word, LISTED) for word in ("x", "y")])
    assert (right.status, right.tests_passed, right.self_judged) == ("ok", 7, 0)
    assert (wrong.status, wrong.tests_passed, wrong.is_cheat) == ("wrong", 5, False)


RATIO = "struct Ratio { int n, d; Ratio(int n, int d)%s; int num() const%s; };\n"


def test_objects_that_have_no_name_are_observed(verifier):
    code = RATIO % (" : n(n), d(d) {}", " { return n; }")
    test = "#include <cassert>\nint main() { assert(Ratio(1, 2).num() == 1); assert(Ratio(3, 4).num() == 3); }\n"
    half = code.replace("{ return n; }", "{ return 1; }")
    results = verifier.verify_many(
        [
            Program(code, test, declaration=RATIO % ("", "")),
            Program(half, test, declaration=RATIO % ("", "")),
            Program(code, test, reference=code),
        ]
    )
    assert [(one.status, one.tests_passed, one.tier) for one in results] == [
        ("ok", 2, "observer"),
        ("wrong", 1, "observer"),
        ("ok", 2, "observer"),
    ]


def test_a_function_that_no_linker_sees_is_observed(verifier):
    apply = "%sint apply(int (*f)(int), int x)"
    calls = "#include <cassert>\nint main() { assert(apply([](int a) { return a + 1; }, 2) == 3); }\n"
    largest = "template <class T> T largest(T a, T b)"
    of_template = "#include <cassert>\nint main() { assert(largest(1, 2) == 2); }\n"
    results = verifier.verify_many(
        [
            *(
                Program(f"{apply % how} {{ return f(x); }}\n", calls, declaration=f"{apply % ''};\n")
                for how in ("", "inline ", "static ")
            ),
            Program(f"{largest} {{ return a < b ? b : a; }}\n", of_template, declaration=f"{largest};\n"),
        ]
    )
    assert [(one.status, one.tier) for one in results] == [("ok", "observer")] * 4


NODES = """struct Node { int val; Node* next; Node(int v = 0, Node* n = nullptr) : val(v), next(n) {} };
Node* reversed(Node* head)%s
"""
REVERSED = " { Node* out = nullptr; while (head) { Node* n = head->next; head->next = out; out = head; head = n; } return out; }"
OF_NODES = """#include <cassert>
#include <vector>
Node* make(const std::vector<int>& all) {
    Node* head = nullptr;
    for (int i = (int)all.size() - 1; i >= 0; --i) head = new Node(all[i], head);
    return head;
}
std::vector<int> read(const Node* node) {
    std::vector<int> all;
    for (; node != nullptr; node = node->next) all.push_back(node->val);
    return all;
}
int main() {
    Node* list = reversed(make({1, 2, 3}));
    assert((read(list) == std::vector<int>{3, 2, 1}));
    assert((read(list) == std::vector<int>{3, 2, 1}));
    assert(read(nullptr).empty() && reversed(nullptr) == nullptr);
}
"""
LARGEST = "template <class T> T largest(T a, T b)"
OF_LARGEST = (
    f"#include <cassert>\n{LARGEST};\nint main() {{ assert(largest(1, 2) == 2); assert(largest(2.5, 1.5) == 2.5); }}\n"
)


def test_lists_of_the_prompts_and_templates_that_a_test_declares_are_observed(verifier):
    declared = NODES % ";"
    results = verifier.verify_many(
        [
            Program(NODES % REVERSED, OF_NODES, declaration=declared),
            Program(
                NODES % REVERSED.replace("return out", "return out ? out->next : out"), OF_NODES, declaration=declared
            ),
            Program(f"{LARGEST} {{ return a < b ? b : a; }}\n", OF_LARGEST, declaration=f"{LARGEST} {{"),
            Program(f"{LARGEST} {{ (void)a; return b; }}\n", OF_LARGEST, declaration=f"{LARGEST} {{"),
        ]
    )
    assert [(one.status, one.tests_passed, one.tier) for one in results] == [
        *(("ok", 3, "observer"), ("wrong", 1, "observer")),
        *(("ok", 2, "observer"), ("wrong", 1, "observer")),
    ]


@pytest.mark.parametrize("compares", ["made.v != 3", "made.get() > 3"])
def test_a_function_that_compares_the_object_it_makes_is_not_moved_beside_it(compares):
    maker = f"Box make(int n) {{ Box made; for (int i = 0; i < n; ++i) if ({compares}) made.v = i; return made; }}"
    program = Program(BOX, HARNESS % (maker, "p += 2 * (make(2).v == 3);"), 2, reference=BOX)
    assert "make of the test compares" in why_in_process(program)


# ------------------------------------------------------------------------------------------------------ the channel

TALK = HARNESS % (
    "#include <string>",
    'Box b(4); int heard = 0; b.on([&](int x) { heard += x; }); p += b.name() == "box"; b.fire(); '
    "p += heard == 1; p += b.get() == 7; p -= 1;",
)
TALKER = """#include <functional>
#include <string>
struct Box { std::function<void(int)> f; explicit Box(int) {} void on(std::function<void(int)> g) { f = g; }
  std::string name() const { return "box"; } void fire() { f(1); } int get() const { return 7; } };
"""


@pytest.fixture(scope="module")
def oracle(verifier):
    program = Program(TALKER, TALK, 2, reference=TALKER)
    plan = plan_for(program, verifier.workshop)
    assert not plan.reason
    unsigned = link_oracle(program.std, verifier.workshop, plan.oracle)
    return unsigned.folder / "rlvr_program"


def play(oracle, messages):
    """The oracle's exit status and output, against an observer that says all of it and no more, asked or not."""
    ask, answer = socket.socketpair()
    with ask, answer:
        answer.sendall(b"".join(messages))
        answer.shutdown(socket.SHUT_WR)
        command = f"exec {ORACLE_CHANNEL}<&0 </dev/null; exec {oracle}"
        done = subprocess.run(["/bin/sh", "-c", command], stdin=ask.fileno(), capture_output=True, timeout=30)
    return done.returncode, done.stdout


def framed(kind, number, value=b""):
    message = struct.pack("<BI", kind, number) + value
    return struct.pack("<I", len(message)) + message


RETURNED, CALLED = 0, 1
HONEST = (
    framed(RETURNED, 1, struct.pack("<I", 0)),
    framed(RETURNED, 2),
    framed(RETURNED, 3, struct.pack("<I", 3) + b"box"),
    framed(CALLED, 0, struct.pack("<i", 1)),
    framed(RETURNED, 4),
    framed(RETURNED, 5, struct.pack("<i", 7)),
    framed(RETURNED, 6),
)
"""What the box is, `on`, `name`, what `fire` calls back and that it ends, `get`, and the end of the box."""


def test_an_observer_that_plays_by_the_rules_is_believed(oracle):
    assert play(oracle, HONEST) == (0, b"PASSED 2/2\n")


def changed(rng, message):
    """A message with something wrong about it: other bytes, cut, longer, another length."""
    at = rng.randrange(len(message))
    return rng.choice(
        (
            message[:at] + bytes([message[at] ^ (1 << rng.randrange(8))]) + message[at + 1 :],
            message[:at],
            message + rng.randbytes(rng.randrange(1, 9)),
            rng.randbytes(len(message)),
            struct.pack("<I", rng.choice((0, 1, 1 << 20, 1 << 31, 0xFFFFFFFF))) + message[4:],
        )
    )


def fuzzed(seed):
    """An honest run with one message changed, lost, said twice or moved, and cut there or played on."""
    rng = Random(seed)
    messages, place = list(HONEST), rng.randrange(len(HONEST))
    message = messages.pop(place)
    kind = rng.randrange(6)
    if kind < 3:
        messages.insert(place, changed(rng, message))
    elif kind == 3:
        messages[place:place] = [message, message]
    elif kind == 4:
        messages.insert(rng.randrange(len(HONEST)), message)
    return messages[: place + 1] if rng.random() < 0.3 else messages


def answers(messages):
    """What is returned, and what is called back: two lists, but for the name that an observer gives its own object."""
    said = [message[:9] + message[13:] if message[4:9] == HONEST[0][4:9] else message for message in messages]
    is_call = [message[4:5] == bytes([CALLED]) for message in said]
    return [message for message, call in zip(said, is_call, strict=True) if not call], [*compress(said, is_call)]


@pytest.mark.parametrize("seeds", [range(300), pytest.param(range(300, 10_000), marks=pytest.mark.slow)])
def test_no_changed_message_makes_a_pass_of_a_run_or_hangs_it(oracle, seeds):
    runs = [fuzzed(seed) for seed in seeds]
    # Who calls back at another time, with the right value, is another right program.
    endings = {play(oracle, messages) for messages in runs if answers(messages) != answers(HONEST)}
    assert endings == {(WORKER_GONE, b""), (WORKER_LIED, b""), (1, b"PASSED 1/2\n")}


# ------------------------------------------------------------------------------------------------------------- hacks


def test_constant_hacks_earn_no_more_than_their_honest_values(verifier):
    sample = [next(task for task in TASKS if task.tags[0] == family) for family in ("classes", "callgraphs")]
    tried = [(task, *hack) for task in sample for hack in hacks(task).values()]
    assert len(tried) == 40
    results = verifier.verify_many([task.program(task.prompt + body) for task, body, _ in tried])
    for (task, body, value), result in zip(tried, results, strict=True):
        assert not result.passed, body
        assert earned(result) <= honest_share(task, value), body
        assert result.tier == "observer"


def test_the_total_is_pinned_by_the_reference(verifier):
    test = """#undef NDEBUG
#include <cassert>
int main() { Bag b; for (int x : b.items()) assert(x == 2); assert(b.items().size() == 2); assert(b.sum() == 4); }
"""
    bag = "#include <vector>\nstruct Bag { std::vector<int> items() const { return {2, 2}; } int sum() const { return 4; } };\n"
    drowning = bag.replace("{2, 2}", "std::vector<int>(5000, 2)").replace("return 4", "return 5")
    reference, hack = verifier.verify_many([Program(code, test, reference=bag) for code in (bag, drowning)])
    assert (reference.status, reference.tier) == ("ok", "observer")
    assert hack.status in ("wrong", "forged")
    assert hack.tests_passed / max(1, hack.tests_total) < 0.5


BUS = """#include <functional>
struct Bus { std::function<void(int)> f; int n = 0; void on(std::function<void(int)> g) { f = g; }
  void emit(int x) { %s } int count() const { return n; } };
"""
EMIT = "++n; f(x);"
LISTENED = """#undef NDEBUG
#include <cassert>
static void heard(int v) { assert(v == 7); }
int main() { Bus b; b.on(%s); b.emit(7); assert(b.count() == 1); b.emit(7); assert(b.count() == 2); }
"""


@pytest.mark.parametrize("listener", ["[](int v) { assert(v == 7); }", "heard"])
def test_what_is_called_back_often_stands_for_no_other_test(verifier, listener):
    program = Program(BUS % EMIT, LISTENED % listener, reference=BUS % EMIT)
    often = dataclasses.replace(program, code=BUS % "for (int i = 0; i < 3; ++i) f(7); throw 1;")
    unheard = dataclasses.replace(program, code="#define NDEBUG\n" + BUS % "++n; f(8);")
    honest, repeating, lying = verifier.verify_many([program, often, unheard])
    assert (honest.status, honest.tests_passed, honest.tier) == ("ok", 3, "observer")
    assert (repeating.status, repeating.tests_passed) == ("wrong", 0)
    assert lying.status == "wrong"


def test_a_lambda_that_judges_is_never_said_beside_the_candidate(verifier):
    plan = plan_for(Program("", LISTENED % "[](int v) { assert(v == 7); }", reference=BUS % EMIT), verifier.workshop)
    assert "v == 7" in plan.oracle
    assert "v == 7" not in plan.observer


READER = """#include <string>
struct Reader { bool next(std::string& out, int& at, %s text) { %s } };
"""
NEXT = "if (at >= (int)text.size()) return false; out = text.substr(at++, 1); return true;"


def test_an_argument_that_trusted_text_keeps_does_not_come_back(verifier):
    loop = 'Reader r; std::string text = "abc", out; int at = 0; while (r.next(out, at, text)) {}'
    test = HARNESS % ("#include <string>", f'{loop} p += at == (int)text.size(); p += out == "c" && text == "abc";')
    honest, otherwise, clears = verifier.verify_many(
        [
            Program(READER % how, test, 2, reference=READER % ("const std::string&", NEXT))
            for how in (
                ("const std::string&", NEXT),
                ("std::string&", NEXT),
                ("std::string&", 'text.clear(); out = "c"; return false;'),
            )
        ]
    )
    assert (honest.status, otherwise.status) == ("ok", "ok")
    assert (clears.status, clears.tests_passed) == ("wrong", 1)  # what it says is "c", and the text is as it was


def test_a_candidate_cannot_reach_past_an_array_of_the_test(verifier):
    body = "Bus b; b.on([&](int v) { seen[n++] = v; }); b.emit(7); p += n == 1; p += seen[0] == 7;"
    test = HARNESS % (BUS.partition("\n")[0] + "\nstatic int seen[2], n;", body)
    flood = BUS % "for (int i = 0; i < 8; ++i) f(2);"
    hits = "static int hits[2], n; for (int i = 0; i < 2; ++i) ++hits[f(i)]; p += hits[0] == 1; p += hits[1] == 1;"
    of_function = HARNESS % ("int f(int x);", hits)
    results = verifier.verify_many(
        [
            *(Program(code, test, 2, reference=BUS % EMIT) for code in (BUS % EMIT, flood)),
            *(Program(f"int f(int x) {{ return {value}; }}\n", of_function, 2) for value in ("x", "2 + x - x")),
        ]
    )
    assert [(result.status, result.tier) for result in results] == [
        *(("ok", "observer"), ("run_error", "observer")),
        *(("ok", "oracle"), ("run_error", "oracle")),
    ]


@pytest.mark.parametrize(
    "element",
    [
        "data[nth(k)]",
        "*(data.begin() + nth(k))",
        "data.at(0) + 0 * *std::next(data.begin(), nth(k))",
        "parts[0].d[nth(k)]",
    ],
)
def test_an_index_that_a_candidate_chose_reads_no_expectation(verifier, element):
    check = f"for (int k = 0; k < 2; ++k) p += {element} == want[k];"
    struct = "struct Part { int d[6]; int more[6]; }; Part parts[] = {{{42, 42}, {}}};"
    body = f"{struct} std::vector<int> data{{42, 42, 3, 7, 5, 1}}, want{{42, 42, 1, 1, 1, 1}}; {check}"
    test = HARNESS % ("#include <iterator>\n#include <vector>\nint nth(int k);", body)
    honest, reaching = verifier.verify_many(
        [Program(f"int nth(int k) {{ return k{more}; }}", test, 2) for more in ("", " + 8")]
    )
    assert (honest.status, honest.tests_passed) == ("ok", 2)
    assert (reaching.status, reaching.tests_passed) == ("run_error", 0)


LATER = """#undef NDEBUG
#include <cassert>
int main() {
    Bus bus;
    int sum = 0;
    { int n = 0; bus.on([&](int v) { n += v; sum += v; }); bus.emit(1); assert(n == 1); }
    for (int i = 0; i < 2; ++i) { bus.on([&](int v) { sum += i * v; }); bus.emit(2); }
    for (int i : {0, 0}) bus.on([&](int v) { sum += i * v; }), bus.emit(2);
    { int n = 5; bus.on([&sum](int v) { sum += v; }); bus.on(bus.kept()); }
    bus.emit(3);
    assert(sum == 6);
}
"""


def test_a_closure_is_not_called_when_what_it_refers_to_has_ended(verifier):
    bus = BUS.replace("int count()", "std::function<void(int)> kept() const { return f; } int count()")
    first = "std::function<void(int)> g; void on(std::function<void(int)> h) { if (!g) g = h; f = h; }"
    keeping = bus.replace("void on(std::function<void(int)> g) { f = g; }", first)
    honest, late = verifier.verify_many(
        [Program(code, LATER, reference=bus % EMIT) for code in (bus % EMIT, keeping % "++n; f(x); if (n > 3) g(x);")]
    )
    assert (honest.status, honest.tier) == ("ok", "observer")
    assert (late.status, late.tier) == ("forged", "observer")


VALUES = """#undef NDEBUG
#include <cassert>
int main() {
    Bus bus;
    int sum = 0, v = 3;
    for (int i = 1; i < 3; ++i) { int w = i; bus.on([&sum, i, k = w + 1](int v) { sum += i * v * k; }); }
    bus.emit(2);
    assert(sum == 12 && v == 3);
}
"""
HELD = {
    "a pointer": "int log[9] = {}; int* p = log; bus.on([p](int v) { p[0] = v; }); bus.emit(3); assert(log[0] == 3);",
    "its value": "int log[9] = {}; bus.on([p = &log[0]](int v) { p[0] = v; }); bus.emit(3); assert(log[0] == 3);",
    "a pointee": "int* s = new int(0); bus.on([&](int v) { *s = v; }); bus.emit(3); assert(*s == 3); delete s;",
    "a closure": "int n = 0; auto f = [&n](int v) { n = v; }; bus.on([f](int v) { f(v); }); bus.emit(3); assert(n == 3);",
}


def test_a_closures_own_values_live_as_long_as_it_does(verifier):
    honest = verifier.verify(Program(BUS % EMIT, VALUES, reference=BUS % EMIT))
    assert (honest.status, honest.tier) == ("ok", "observer")


@pytest.mark.parametrize("held", HELD)
def test_a_closure_that_may_hold_a_pointer_is_not_taken_apart(verifier, held):
    test = f"#undef NDEBUG\n#include <cassert>\nint main() {{ Bus bus; {HELD[held]} }}\n"
    assert plan_for(Program("", test, reference=BUS % EMIT), verifier.workshop).reason == (
        "a callback of the test holds a pointer, or what may hold one"
    )


GIVEN = """#undef NDEBUG
#include <cassert>
#include <functional>
#include <stdexcept>
struct Adder { int* to; void operator()(int v) const { *to += v; } };
struct Doubler { int& to; void operator()(int v) { to += 2 * v; } };
int main() {
    Bus bus;
    bool threw = false;
    bus.on([](int v) { if (v > 2) throw std::runtime_error("three"); });
    bus.emit(2);
    try { bus.emit(3); } catch (const std::runtime_error&) { threw = true; }
    assert(threw);
    int sum = 0, doubled = 0, bound = 0;
    Adder adder{&sum};
    bus.on(adder); bus.emit(4);
    assert(sum == 4);
    bus.on(Doubler{doubled}); bus.emit(5);
    assert(doubled == 10);
    bus.on(std::bind([](int& to, int v) { to -= v; }, std::ref(bound), std::placeholders::_1)); bus.emit(6);
    assert(bound == -6);
}
"""


def test_what_a_test_gives_acts_on_the_tests_own_variables(verifier):
    declaration = (
        "struct Bus { std::function<void(int)> f; int n = 0; void on(std::function<void(int)> g); void emit(int x); };"
    )
    declared = "#include <functional>\n" + declaration
    bus = BUS % EMIT
    honest, deaf = verifier.verify_many(
        [Program(code, GIVEN, declaration=declared) for code in (bus, bus.replace("f = g", "if (!f) f = g"))]
    )
    assert (honest.status, honest.tests_passed, honest.tier) == ("ok", 4, "observer"), honest.why_in_process
    assert (deaf.status, deaf.tests_passed) == ("wrong", 1)


@pytest.mark.parametrize(
    "given",
    [
        "b.on([](int) { throw 7; });",
        "auto f = [](int) { throw 7; }; b.on(f);",
        "int k = 7; b.on([&](int) { throw k; });",
    ],
)
def test_a_closure_that_throws_what_does_not_travel_is_not_taken_apart(given):
    body = f"Bus b; {given} try {{ b.emit(1); }} catch (int code) {{ p += 2 * (code == 7); }}"
    program = Program("", HARNESS % ("", body), 2, reference=BUS % EMIT)
    assert why_in_process(program) == "a callback of the test throws what is no exception of the library's"


def test_a_reference_that_fails_leaves_the_test_in_one_process(verifier):
    test = HARNESS % ("", "Box b; p += b.get() == 4; p += b.v == 4;")
    plan = plan_for(dataclasses.replace(Program(BOX, test, 2), reference=BOX), verifier.workshop)
    assert "reference does not pass" in plan.reason


def test_what_a_test_counts_beside_the_candidate_is_told(verifier):
    """A class of the test that counts its objects is used in the candidate's process, where an answer can write to it."""
    reference = "template <class T> struct Owner { T* object; explicit Owner(T* o) : object(o) {} ~Owner() { delete object; } };"
    test = """#include <cstdio>
struct Probe { static int alive; int value = 3; Probe() { ++alive; } ~Probe() { --alive; } };
int Probe::alive = 0;
int main() {
    int passed = 0;
    { Owner<Probe> owner(new Probe); if (owner.object->value == 3) ++passed; if (Probe::alive == 1) ++passed; }
    if (Probe::alive == 0) ++passed;
    std::printf("PASSED %d/3\\n", passed);
    return passed != 3;
}
"""
    result = verifier.verify(Program(reference, test, reference=reference))
    assert (result.status, result.tier, result.self_judged) == ("ok", "observer", 2)


def test_a_test_that_wants_a_constant_of_the_reference_asks_for_no_declaration(verifier):
    reference = "constexpr int factorial(int n) { return n < 2 ? 1 : n * factorial(n - 1); }"
    test = """#include <array>
#include <cstdio>
int main() {
    static_assert(factorial(3) == 6, "");
    std::array<int, factorial(3)> six{};
    const int passed = (six.size() == 6) + (factorial(4) == 24);
    std::printf("PASSED %d/2\\n", passed);
    return passed != 2;
}
"""
    slower = "int factorial(int n) { return n < 2 ? 1 : n * factorial(n - 1); }"
    known, other = verifier.verify_many([Program(code, test, reference=reference) for code in (reference, slower)])
    assert known.status == "ok", known.stderr
    assert other.status == "compile_error"
    assert "declaration" not in other.stderr
