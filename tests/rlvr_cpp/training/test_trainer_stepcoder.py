"""A real trainer with StepCoder: prefixes are prompt, and what no verdict speaks of is no loss."""

import copy
import json

import pytest

from rlvr_cpp import Verifier
from rlvr_cpp.training.config import GSPOConfig, StepCoderConfig
from tests.rlvr_cpp.training.decided import MIXED, DecidedVerifier, build, train


def test_a_curriculum_without_a_prefix_is_plain_training_to_the_bit(tasks, tmp_path, mixed):
    level_0 = StepCoderConfig(cccs=True, cccs_init_frac=0.0)
    assert train(tasks, DecidedVerifier(*MIXED), tmp_path, stepcoder=level_0).moved == mixed.moved


def test_a_group_shares_its_prefix_and_the_judge_gets_it_in_front(tasks, tmp_path):
    verifier = DecidedVerifier(*MIXED)
    run = train(tasks, verifier, tmp_path, stepcoder=StepCoderConfig(cccs=True), steps=1)
    lines = [json.loads(line) for line in (tmp_path / "completions.jsonl").read_text().splitlines()]
    by_id = {task.task_id: task for task in tasks}
    assert any(line["prefix"] for line in lines)
    for line, program in zip(lines, verifier.programs, strict=True):
        task = by_id[line["task_id"]]
        assert task.reference.startswith(line["prefix"])
        assert isinstance(program.code, str)
        assert program.code.startswith(task.prompt + line["prefix"])
    for start in (0, 4):
        assert len({line["prefix"] for line in lines[start : start + 4]}) == 1
    assert 0 < run.steps[0]["prefix_frac"] < 0.7


def test_prefix_tokens_are_prompt_and_no_loss_reaches_them(tasks, tmp_path, monkeypatch):
    trainer = build(tasks, DecidedVerifier(*MIXED), tmp_path, stepcoder=StepCoderConfig(cccs=True), steps=1)
    phase, passes = trainer.rollout_phase, []
    curriculum = copy.deepcopy(phase.curriculum)
    next_pass = phase.next_pass
    monkeypatch.setattr(phase, "next_pass", lambda *asked: passes.append(next_pass(*asked)) or passes[-1])
    trainer.train()
    policy = trainer.policy
    rows = [row for one in passes for row in rows_of(one)]
    prompts = {id: policy.prompt_ids(task) for id, task in phase.tasks.items()}
    given = {id: policy.opening(task, len(curriculum.prefix(task))) for id, task in phase.tasks.items()}
    rollouts = [([*prompts[r.task_id], *given[r.task_id].ids], list(r.ids)) for r in phase.rollouts]
    assert {r.prefix for r in phase.rollouts} == {given[r.task_id].text for r in phase.rollouts}
    assert any(rollout.prefix for rollout in phase.rollouts)
    assert len(rows) == len(rollouts) == 8
    assert sorted(rows) == sorted(rollouts)


def test_nothing_is_given_where_that_fills_the_context(tasks, tmp_path):
    phase = build(tasks, DecidedVerifier(*MIXED), tmp_path, stepcoder=StepCoderConfig(cccs=True)).rollout_phase
    given = phase.openings(8)
    assert all(opening.ids for opening in given.values())
    task, opening = next(iter(given.items()))
    asked = len(phase.policy.prompt_ids(task)) + len(opening.ids)
    phase.policy.model.config.max_position_embeddings = asked + 1
    assert phase.openings(8)[task] == opening
    phase.policy.model.config.max_position_embeddings = asked
    assert phase.openings(8)[task].ids == ()


def rows_of(one):
    """Prompt and completion of a pass's rows, without padding."""
    for row in range(len(one["prompt_ids"])):
        yield tuple(
            one[f"{part}_ids"][row][one[f"{part}_mask"][row].bool()].tolist() for part in ("prompt", "completion")
        )


@pytest.fixture(scope="module")
def verifier():
    with Verifier(workers=2, timeout=2.0) as verifier:
        yield verifier


@pytest.mark.parametrize("mode", ["compile_error", "coverage", "both"])
def test_fgo_masks_and_still_trains(tasks, verifier, tmp_path, mode):
    algorithm = GSPOConfig(group_size=4, max_gen_len=48)
    chosen = [task for task in tasks if task.tags[0] in ("reductions", "windows")][:4]
    run = train(chosen, verifier, tmp_path, algorithm, stepcoder=StepCoderConfig(fgo=mode), batch_size=16, steps=1)
    assert run.moved > 0
    assert {"focused_rows", "masked_tokens"} <= run.steps[0].keys()


def test_fgo_drops_what_stands_behind_the_first_error(tasks, tmp_path):
    algorithm = GSPOConfig(group_size=4, max_gen_len=48)
    fgo = StepCoderConfig(fgo="compile_error")
    run = train(tasks, DecidedVerifier(*MIXED), tmp_path, algorithm, stepcoder=fgo)
    assert run.steps[0]["focused_rows"] > 0
    assert run.steps[0]["masked_tokens"] > 0
