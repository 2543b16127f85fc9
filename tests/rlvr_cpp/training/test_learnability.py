"""Tasks of middling pass rate are asked more often, none is forgotten, and a run that goes on draws as it would have."""

import json
from collections import Counter
from random import Random

import pytest
import torch

from rlvr_cpp.tasks.learnability import LearnableTasks
from rlvr_cpp.training.config import GSPOConfig
from rlvr_cpp.verifier.status import Status
from tests.rlvr_cpp.training.decided import DecidedVerifier, build, trained_weights

NAMES = ["always", "half", "never", "unknown"]


def answers(task: str, passed: int, failed: int) -> list:
    return [(task, True)] * passed + [(task, False)] * failed


@pytest.fixture
def known():
    """Eight answers to three of four tasks."""
    tasks = LearnableTasks({"": NAMES}, {"": 1.0}, seed=0)
    tasks.observe([*answers("always", 8, 0), *answers("half", 4, 4), *answers("never", 0, 8)])
    return tasks


def share(tasks: LearnableTasks, steps: int = 2000) -> dict[str, float]:
    """How often each is the first of a step's."""
    counts = Counter(tasks.take(1, step)[0] for step in range(steps))
    return {name: counts[name] / steps for name in tasks.tasks[""]}


def test_tasks_come_in_proportion_to_their_learnability(known):
    values = {name: known.learnability(name) for name in NAMES}
    assert values["unknown"] == pytest.approx(1 / 6)
    assert values["always"] == pytest.approx(values["never"])
    assert 0.25 > values["half"] > values["unknown"] > values["never"] > 0.05
    assert share(known) == pytest.approx({n: v / sum(values.values()) for n, v in values.items()}, abs=0.03)
    assert known.gain(["half"]) > 1 > known.gain(["never"])


def test_what_was_never_solved_is_asked_again(known):
    before = known.learnability("never")
    for _ in range(200):
        known.observe([])
    assert known.learnability("never") == pytest.approx(1 / 6, rel=0.1)
    assert known.learnability("never") > 2 * before


def test_the_tasks_of_a_draw_are_different_and_a_refill_takes_others_first(known):
    assert sorted(known.take(4, step=1)) == NAMES
    for step in range(50):
        assert set(known.take(2, step, 1, without={"half", "unknown"})) == {"always", "never"}
    assert len(known.take(3, 1, 1, without={"half", "unknown"})) == 3


def test_a_source_keeps_its_share_whatever_is_known_of_its_tasks():
    tasks = LearnableTasks({"a": ["a1", "a2"], "b": ["b1"]}, {"a": 0.25, "b": 0.75}, seed=1)
    tasks.observe(answers("b1", 100, 0))
    firsts = [tasks.take(1, step)[0] for step in range(2000)]
    assert firsts.count("b1") / 2000 == pytest.approx(0.75, abs=0.03)


def test_a_state_that_went_through_json_draws_on_and_not_the_same_each_step(known):
    other = LearnableTasks({"": NAMES}, {"": 1.0}, seed=0)
    other.load_state(json.loads(json.dumps(known.state())))
    draws = [known.take(2, step, number) for step in range(9) for number in range(3)]
    assert [other.take(2, step, number) for step in range(9) for number in range(3)] == draws
    assert len({tuple(draw) for draw in draws}) > 3


def test_of_tasks_that_mostly_tie_more_than_twice_as_many_groups_say_something():
    """Seventy tasks never pass, twenty every other time, ten always; a uniform draw has 0.2 groups that are no tie."""
    rates = {f"{rate}/{n}": rate for rate, count in ((0.0, 70), (0.5, 20), (1.0, 10)) for n in range(count)}
    for seed in range(3):
        tasks, random, kept = LearnableTasks({"": [*rates]}, {"": 1.0}, seed), Random(seed), []
        for step in range(100):
            passes = {task: sum(random.random() < rates[task] for _ in range(8)) for task in tasks.take(8, step)}
            kept.append(sum(0 < passed < 8 for passed in passes.values()) / 8)
            tasks.observe([one for task, passed in passes.items() for one in answers(task, passed, 8 - passed)])
        assert sum(kept[50:]) / 50 > 0.45


LEARNABLE = GSPOConfig(group_size=4, max_gen_len=8, refill_rounds=1, prompt_sampling="learnability")


def test_what_the_infrastructure_failed_to_judge_says_nothing(tasks, tmp_path):
    trainer = build(tasks, DecidedVerifier("sandbox_error"), tmp_path, LEARNABLE, steps=1)
    trainer.train()
    known = trainer.rollout_phase.state()["learnable"]
    assert known == {}


def test_a_run_that_goes_on_asks_the_same_tasks_and_ends_with_the_same_bits(tasks, tmp_path):
    statuses: tuple[Status, ...] = ("ok", "wrong", "compile_error", "wrong", "wrong", "wrong", "wrong", "wrong")
    asked: dict[str, list] = {}

    def trained(name: str, steps: int, checkpoint=None):
        trainer = build(tasks, DecidedVerifier(*statuses), tmp_path / name, LEARNABLE, steps=steps, save_every=2)
        rows = asked.setdefault(name, [])
        trainer.on_step = lambda step, told: rows.append(
            (step, told["learnability"], [r.task_id for r in trainer.rollout_phase.rollouts])
        )
        trainer.train(resume_from_checkpoint=checkpoint)
        return trained_weights(trainer.model)

    whole = trained("whole", 4)
    trained("cut", 2)
    again = trained("cut", 4, str(tmp_path / "cut" / "checkpoints" / "checkpoint-4"))
    assert asked["cut"] == asked["whole"]
    assert torch.equal(again, whole)
    assert [len(set(names)) > 2 for *_, names in asked["whole"]] == [True] * 4  # refilled with others
    assert asked["whole"][0][1] == 1.0 != asked["whole"][3][1]
