"""The curriculum of code completion."""

import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlvr_cpp.tasks.completion import read_completion
from rlvr_cpp.tasks.task import BUILTIN, Task, load_tasks
from rlvr_cpp.training.config import StepCoderConfig
from rlvr_cpp.training.stepcoder.curriculum import (
    GroupOutcome,
    PrefixCurriculum,
    conditional_stages,
    conditional_starts,
    cut_at_fraction,
    cut_points,
    kept_units,
    next_fraction,
)

VECTORS = json.loads((Path(__file__).parents[3] / "data" / "curriculum_reward.json").read_text())
FOLLOWING = list(
    zip(
        *(VECTORS["cccs_article"][name] for name in ("frac_used", "rates")),
        VECTORS["cccs_article"]["frac_used"][1:],
        strict=False,
    )
)
"""By the article's vector: the fraction, a rate, the next fraction."""
BOUNDARIES = ("line", "conditional")
REFERENCE = """\
    int r = 0;
    for (int i = 0; i < n; ++i) {
        if (v[i] > 0)
            r += v[i];
        else if (v[i] < -9)
            r -= 1;
    }
    while (r > 99) r /= 2;
    return r;
}
"""
TASK = Task("sum", "int f(const int* v, int n) {\n", "", "f", reference=REFERENCE)
OTHER = dataclasses.replace(TASK, task_id="other")
BARE = dataclasses.replace(TASK, task_id="bare", reference=None)
STRAIGHT = dataclasses.replace(TASK, task_id="straight", reference="    int r = n;\n    return r;\n}\n")


def curriculum(**settings) -> PrefixCurriculum:
    return PrefixCurriculum(StepCoderConfig(**settings))


def outcome(task: Task, rate: float, judged: bool = True) -> GroupOutcome:
    """A group that compiled and passed alike."""
    return GroupOutcome(task.task_id, rate, rate, judged, has_reference=task.reference is not None)


def lines_given(prefixes: PrefixCurriculum, task: Task = TASK) -> int:
    return prefixes.prefix(task).count("\n")


# --- the rules as functions


def test_vector_of_the_articles_schedule():
    vector = VECTORS["cccs_article"]
    rule = {"threshold": vector["threshold"], "step": vector["step"], "minimum": vector["min"]}
    fraction, used = vector["init"], []
    for rate in vector["rates"]:
        used.append(fraction)
        fraction = next_fraction(fraction, rate, **rule)
    assert used == vector["frac_used"]


@pytest.mark.parametrize(("used", "rate", "following"), FOLLOWING)
def test_vector_of_the_articles_schedule_by_the_class(used, rate, following):
    prefixes = curriculum(cccs_init_frac=used)
    assert prefixes.prefix(TASK) == REFERENCE[: cut_at_fraction(REFERENCE, used)]
    for _ in range(3):
        assert prefixes.fraction == used
        prefixes.observe([outcome(TASK, rate)])
    assert prefixes.fraction == prefixes.state()["tasks"]["sum"]["fraction"] == following


@pytest.mark.parametrize("row", VECTORS["cccs_paper"], ids=lambda row: str(row["E"]))
def test_vector_of_the_papers_start_points(row):
    assert conditional_stages(row["E"]) == row["start_conditionals"]


@pytest.mark.parametrize("row", VECTORS["prefix_cut"], ids=lambda row: f"{row['frac']} of {row['n_tokens']}")
def test_vector_of_kept_units(row):
    assert kept_units(row["n_tokens"], row["frac"]) == row["keep"]


def test_the_fraction_stops_at_the_floor():
    assert next_fraction(0.25, 1.0, threshold=0.6, step=0.1, minimum=0.2) == 0.2


def test_a_mean_that_only_rounding_lifts_over_the_threshold_does_not_count():
    assert next_fraction(0.7, 0.6 + 2**-53, threshold=0.6, step=0.1, minimum=0.0) == 0.7


# --- where a prefix may end


def test_a_cut_goes_down_to_the_beginning_of_a_line():
    assert cut_at_fraction("ab;\ncd;\nef;\n", 0.99) == 8
    assert cut_at_fraction("ab;\ncd;\nef;\n", 0.66) == 4
    assert cut_at_fraction("ab;\ncd;\nef;\n", 0.3) == 0


@pytest.mark.parametrize("ending", ["", "\n", "\n\n  \n", "\n// done\n", "\n/* well\ndone */"])
def test_the_last_line_of_code_is_left_to_the_policy(ending):
    assert cut_at_fraction("a;\nb;" + ending, 1.0) == len("a;\n")


@pytest.mark.parametrize(
    "text",
    ["/* a\nb */ x;\ny;", 'auto s = R"(a\nb)";\ny;', "#define A \\\n  b\ny;", "// a \\\nb\ny;", '"a\\\nb";\ny;'],
)
def test_no_prefix_ends_inside_of_what_spans_lines(text):
    assert cut_points(text) == [0, text.index("y;")]


def test_start_points_are_the_lines_on_which_conditionals_begin():
    lines = [REFERENCE[start:].partition("\n")[0].strip() for start in conditional_starts(TASK.prompt, REFERENCE)]
    assert lines == [
        "for (int i = 0; i < n; ++i) {",
        "if (v[i] > 0)",
        "else if (v[i] < -9)",
        "while (r > 99) r /= 2;",
    ]


@pytest.mark.parametrize(
    "statement",
    ["if (x) y();", "for (;;) y();", "for (int a : b) y();", "while (x) y();", "do y(); while (x);", "switch (x) {}"],
)
def test_every_kind_of_conditional_is_a_start_point(statement):
    assert conditional_starts("void f() {\n", f"    y();\n    {statement}\n    y();\n}}\n") == (len("    y();\n"),)


def test_conditionals_of_the_prompt_in_comments_and_on_a_line_together_are_no_further_start_points():
    reference = "    int é = 1; // if (x)\n    if (x) if (y) é = 2;\n    return é;\n}\n"
    assert conditional_starts("int f(int x, int y) {\n    if (x) return 1;\n", reference) == (
        reference.index("    if (x) if"),
    )


def test_a_conditional_on_the_first_line_leaves_no_prefix_and_is_no_start_point():
    assert conditional_starts("int f(int x) {", " if (x) return 1;\n  return 0;\n}\n") == ()


# --- levels


def observed(prefixes: PrefixCurriculum, times: int, *outcomes: GroupOutcome) -> None:
    for _ in range(times):
        prefixes.observe(outcomes)


def test_less_is_given_as_the_group_does_better():
    prefixes = curriculum()
    given = []
    for _ in range(22):
        given.append(lines_given(prefixes))
        prefixes.observe([outcome(TASK, 1.0)])
    assert given == sorted(given, reverse=True)
    assert given[0] > 0
    assert given[-1] == 0


def test_the_metric_decides_which_rate_counts():
    for metric, moves in (("compile_rate", True), ("pass_rate", False)):
        prefixes = curriculum(cccs_metric=metric)
        observed(prefixes, 3, GroupOutcome("sum", compile_rate=1.0, pass_rate=0.0))
        assert (prefixes.fraction < 0.7) == moves


def test_fewer_than_three_observations_move_nothing_and_one_lucky_group_does_not():
    prefixes = curriculum()
    observed(prefixes, 2, outcome(TASK, 1.0))
    assert prefixes.fraction == 0.7
    unlucky = curriculum()
    observed(unlucky, 4, outcome(TASK, 0.3))
    observed(unlucky, 1, outcome(TASK, 1.0))
    assert unlucky.fraction == 0.7


def test_late_observations_weigh_more_than_early_ones():
    rates, moved = (0.8, 0.6, 0.4), []
    for order in (rates, rates[::-1]):  # a mean of 0.6, which is not above the threshold
        prefixes = curriculum()
        for rate in order:
            prefixes.observe([outcome(TASK, rate)])
        moved.append(prefixes.fraction < 0.7)
    assert moved == [False, True]


def test_what_was_observed_at_a_longer_prefix_says_nothing_about_a_shorter_one():
    prefixes = curriculum()
    observed(prefixes, 3, outcome(TASK, 1.0))
    observed(prefixes, 2, outcome(TASK, 0.0))
    assert prefixes.fraction == 0.6
    observed(prefixes, 9, outcome(TASK, 0.5))
    assert prefixes.fraction == 0.6


def test_a_task_moves_by_its_own_rate_and_the_common_level_by_the_mean():
    prefixes = curriculum()
    observed(prefixes, 3, outcome(TASK, 1.0), outcome(OTHER, 0.1))
    levels = prefixes.state()
    assert levels["tasks"]["sum"]["fraction"] == 0.6
    assert levels["tasks"]["other"]["fraction"] == 0.7
    assert levels["common"]["fraction"] == 0.7  # the mean is 0.55


def test_a_batch_moves_everything_by_one_step_at_most():
    prefixes = curriculum()
    observed(prefixes, 3, *[outcome(TASK, 1.0)] * 3)
    assert prefixes.fraction == prefixes.state()["tasks"]["sum"]["fraction"] == 0.6


def test_a_task_goes_with_all_others_until_it_was_observed_three_times_and_keeps_its_own_level_from_then_on():
    prefixes = curriculum()
    observed(prefixes, 1, outcome(TASK, 1.0), outcome(OTHER, 0.0))
    observed(prefixes, 11, outcome(TASK, 1.0))
    assert prefixes.fraction == 0.3
    assert prefixes.prefix(OTHER) == REFERENCE[: cut_at_fraction(REFERENCE, 0.3)]
    observed(prefixes, 2, outcome(TASK, 1.0), outcome(OTHER, 0.4))
    observed(prefixes, 4, outcome(TASK, 1.0))
    assert prefixes.fraction == 0.1
    assert prefixes.state()["tasks"]["other"]["fraction"] == 0.3
    assert prefixes.prefix(OTHER) == REFERENCE[: cut_at_fraction(REFERENCE, 0.3)]


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_trouble_with_the_infrastructure_moves_neither_the_task_nor_the_global_level(boundary):
    prefixes = curriculum(cccs_boundary=boundary)
    prefixes.observe([outcome(TASK, 0.1)])
    before = prefixes.state()
    prefixes.observe([outcome(TASK, 1.0, judged=False), outcome(TASK, 1.0), outcome(OTHER, 1.0, judged=False)])
    assert prefixes.state() == before


def test_a_judged_task_beside_one_in_trouble_moves_alone():
    prefixes = curriculum()
    observed(prefixes, 3, outcome(TASK, 1.0), outcome(OTHER, 1.0, judged=False))
    assert prefixes.state()["tasks"]["sum"]["fraction"] == 0.6
    assert lines_given(prefixes, TASK) < lines_given(prefixes, OTHER)
    assert prefixes.fraction == 0.7


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_who_was_asked_for_makes_no_difference(boundary):
    """Each process of a run asks for its own rows and observes everyone's."""
    asks, silent = curriculum(cccs_boundary=boundary), curriculum(cccs_boundary=boundary)
    for rate in (0.5, 0.8, 1.0):
        asks.prefix(TASK)
        asks.mean_fraction([OTHER])
        for prefixes in (asks, silent):
            prefixes.observe([outcome(TASK, rate), outcome(OTHER, 1.0)])
    assert asks.state() == silent.state()


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_a_task_without_reference_has_no_prefix_and_no_say(boundary):
    prefixes = curriculum(cccs_boundary=boundary)
    assert prefixes.prefix(BARE) == ""
    prefixes.observe([outcome(BARE, 1.0)])
    assert prefixes.state() == curriculum(cccs_boundary=boundary).state()
    assert prefixes.mean_fraction([BARE]) == 0.0


def test_an_empty_batch_moves_nothing():
    prefixes = curriculum()
    prefixes.observe([])
    assert prefixes.state() == curriculum().state()


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_level_zero_gives_nothing_to_anyone(boundary):
    prefixes = curriculum(cccs_init_frac=0.0, cccs_boundary=boundary)
    assert {prefixes.prefix(task) for task in (TASK, STRAIGHT, BARE)} == {""}


def test_the_mean_fraction_is_what_is_really_given():
    prefixes = curriculum(cccs_boundary="conditional")
    shares = [len(prefixes.prefix(task)) / len(task.reference) for task in (TASK, STRAIGHT)]
    assert prefixes.mean_fraction([TASK, STRAIGHT, BARE]) == pytest.approx(sum(shares) / 2)


# --- start points at conditionals


def test_the_start_moves_along_the_papers_start_points_until_nothing_is_given():
    prefixes = curriculum(cccs_boundary="conditional", cccs_init_frac=1.0)
    next_lines = []
    for _ in range(4):
        next_lines.append(REFERENCE[len(prefixes.prefix(TASK)) :].partition("\n")[0].strip())
        prefixes.observe([outcome(TASK, 1.0)])
    # four conditionals, every second one: 4, 2, 0; and it stays there
    assert next_lines == ["while (r > 99) r /= 2;", "if (v[i] > 0)", "int r = 0;", "int r = 0;"]


def test_the_start_moves_by_the_pass_rate_since_it_was_reached():
    prefixes = curriculum(cccs_boundary="conditional", cccs_init_frac=1.0)
    stays = []
    for rate in (0.0, 1.0, 1.0, 0.5, 0.7, 0.7):  # means 0, 0.5, 0.67 -> moved; 0.5, 0.6, 0.63 -> moved
        before = prefixes.prefix(TASK)
        prefixes.observe([GroupOutcome("sum", compile_rate=1.0, pass_rate=rate)])
        stays.append(prefixes.prefix(TASK) == before)
    assert stays == [True, True, False, True, True, False]


def test_the_first_start_point_is_no_longer_than_the_fraction():
    prefixes = curriculum(cccs_boundary="conditional", cccs_init_frac=0.5)
    assert REFERENCE[len(prefixes.prefix(TASK)) :].lstrip().startswith("if (v[i] > 0)")


def test_a_solution_without_conditionals_is_asked_for_as_a_whole():
    assert curriculum(cccs_boundary="conditional", cccs_init_frac=1.0).prefix(STRAIGHT) == ""


# --- whatever the text and the rates

fractions = st.floats(0, 1)
pieces = st.sampled_from(
    [
        "    int r = 0;\n",
        "if (r) {\n",
        "}\n",
        "// é\n",
        "/*",
        "*/",
        '"',
        'R"(',
        ')"',
        "\\\n",
        "\n",
        "#if 0\n",
        "x",
        ";\r\n",
    ]
)
texts = st.lists(pieces, max_size=12).map("".join)
batches = st.lists(
    st.lists(st.builds(outcome, st.sampled_from([TASK, OTHER, BARE]), fractions, st.booleans()), max_size=3), max_size=8
)


@given(texts, fractions, st.sampled_from(BOUNDARIES))
def test_a_prefix_is_whole_lines_of_the_reference_and_no_more_than_allowed(text, fraction, boundary):
    task = dataclasses.replace(TASK, reference=text)
    prefix = curriculum(cccs_init_frac=fraction, cccs_boundary=boundary).prefix(task)
    assert text.startswith(prefix)
    assert prefix == "" or prefix.endswith("\n")
    assert len(prefix) <= fraction * len(text) + 1e-9
    assert not text.strip() or text[len(prefix) :].strip()


@given(batches, batches, st.sampled_from(BOUNDARIES))
def test_a_curriculum_that_was_saved_goes_on_as_if_nothing_had_happened(before, after, boundary):
    first = curriculum(cccs_boundary=boundary)
    for batch in before:
        first.observe(batch)
    second = curriculum(cccs_boundary=boundary)
    second.load_state(json.loads(json.dumps(first.state())))
    assert second.state() == first.state()
    for batch in after:
        assert [first.prefix(task) for task in (TASK, OTHER)] == [second.prefix(task) for task in (TASK, OTHER)]
        first.observe(batch)
        second.observe(batch)
    assert second.state() == first.state()


@given(batches, st.sampled_from(BOUNDARIES))
def test_nothing_but_a_shorter_prefix_ever_follows(observed, boundary):
    prefixes = curriculum(cccs_boundary=boundary)
    for batch in observed:
        before = [len(prefixes.prefix(task)) for task in (TASK, OTHER)]
        prefixes.observe(batch)
        after = [len(prefixes.prefix(task)) for task in (TASK, OTHER)]
        assert all(now <= then for now, then in zip(after, before, strict=True))


def test_a_saved_state_does_not_change_under_ones_hands():
    prefixes = curriculum(cccs_boundary="conditional", cccs_init_frac=1.0)
    prefixes.observe([outcome(TASK, 0.5)])
    state = prefixes.state()
    copy = json.loads(json.dumps(state))
    other = curriculum(cccs_boundary="conditional", cccs_init_frac=1.0)
    other.load_state(state)
    other.observe([outcome(TASK, 1.0)])
    assert state == copy


# --- the shipped tasks


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_a_shipped_solution_is_given_back_line_by_line(boundary):
    tasks = [task for task in load_tasks(BUILTIN) if task.reference][::5]
    prefixes = curriculum(cccs_boundary=boundary, cccs_init_frac=1.0)
    for _ in range(12):
        for task in tasks:
            prefix = prefixes.prefix(task)
            rest = task.reference[len(prefix) :]
            assert task.reference.startswith(prefix)
            assert rest.strip()
            assert read_completion(task, prefix + rest).code == task.prompt + task.reference.rstrip("\n") + "\n"
        observed(prefixes, 3, *(outcome(task, 1.0) for task in tasks))
    assert prefixes.mean_fraction(tasks) == 0.0
