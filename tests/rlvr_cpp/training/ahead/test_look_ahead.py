"""Rollouts one step ahead: what is sampled with which weights, what it is weighed by, and that a run goes on exactly."""

import contextlib
import dataclasses
import json
import threading

import pytest
import torch

from rlvr_cpp.errors import RunStopped, UserError
from rlvr_cpp.policy.sampling import sample
from rlvr_cpp.training.ahead.look_ahead import LookAhead
from rlvr_cpp.training.checkpoints import find_checkpoints, read_state
from rlvr_cpp.training.config import GSPOConfig, GuardSettings, StepCoderConfig
from rlvr_cpp.training.objective import stale_weights
from tests.rlvr_cpp.training.decided import MIXED, DecidedStream, DecidedVerifier, build, train, trained_weights

OF_THE_CLOCK = {"generate", "wait", "update", "verify", "seconds", "step_time"}
LONGER = GSPOConfig(group_size=4, max_gen_len=32)


@pytest.fixture(scope="module")
def ahead(tasks, tmp_path_factory):
    """Three steps, the second and third sampled ahead."""
    hot = {"steps": 3, "ahead": 1, "learning_rate": 0.1}
    return train(tasks, DecidedVerifier(*MIXED), tmp_path_factory.mktemp("ahead"), LONGER, **hot)


def completions(folder):
    lines = [json.loads(line) for line in (folder / "completions.jsonl").read_text().splitlines()]
    return {step: [line["completion"] for line in lines if line["step"] == step] for step in (1, 2, 3)}


def test_a_step_is_sampled_with_the_weights_before_the_update_that_precedes_it(tasks, ahead, tmp_path):
    train(tasks, DecidedVerifier(*MIXED), tmp_path, LONGER, steps=3, learning_rate=0.0)  # the weights stay the start's
    mine, never_updated = completions(ahead.trainer.out), completions(tmp_path)
    assert mine[1] == never_updated[1]
    assert mine[2] == never_updated[2]
    assert mine[3] != never_updated[3]


def test_only_the_first_step_is_sampled_by_the_policy_that_it_updates(ahead):
    first, *others = ahead.steps
    assert first["staleness"] == 0
    assert "drift" not in first
    assert [row["staleness"] for row in others] == [1, 1]
    assert all(row["drift"] > 1e-3 for row in others)
    assert ahead.moved > 0


def test_what_the_policy_moved_is_not_taken_for_another_sampler(ahead):
    assert all(0 < row["sampler_error"] < 1e-5 for row in ahead.steps)


def test_a_sampler_at_another_temperature_is_found_in_a_step_that_is_ahead(tasks, tmp_path, monkeypatch):
    trainer = build(tasks, DecidedVerifier(*MIXED), tmp_path, LONGER, guards=GuardSettings(), steps=3, ahead=1)
    phase = trainer.rollout_phase
    begin = phase._ahead.begin

    def hotter(*args):
        phase.algorithm = dataclasses.replace(trainer.algorithm, temperature=1.5)
        begin(*args)

    monkeypatch.setattr(phase._ahead, "begin", hotter)
    with pytest.raises(RunStopped, match="sampler_differs"):
        trainer.train()
    assert trainer.rollout_step - 1 == 2


def test_the_next_step_is_under_way_while_one_is_updated(tasks, tmp_path, monkeypatch):
    updating = threading.Event()
    threads = []

    def watched(*args, **kwargs):
        threads.append(threading.current_thread())
        if len(threads) == 2:  # the second step's: it ends only when the first one's update has begun
            assert updating.wait(60)
        return sample(*args, **kwargs)

    monkeypatch.setattr("rlvr_cpp.training.rollout_phase.sample", watched)
    trainer = build(tasks, DecidedVerifier(*MIXED), tmp_path, ahead=1)
    trainer.on_phase = lambda phase: updating.set() if phase == "update" else None
    trainer.train()
    assert [thread is threading.main_thread() for thread in threads] == [True, False]


def test_weights_are_the_ratio_since_the_sampling_and_truncated():
    old = torch.tensor([[-1.0, -1.0, -2.0], [-1.0, -1.0, -2.0]])
    drawn = torch.tensor([[-1.0, -3.0, -1.0], [-1.0, -3.0, -1.0]])
    weights = stale_weights(old, drawn, torch.tensor([1.0, 0.0]))
    assert weights[0].tolist() == pytest.approx([1.0, 2.0, 0.36788], abs=1e-5)
    assert weights[1].tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    "changes",
    [
        {"ratio": "token"},
        {"loss_type": "luspo"},
        {"num_minibatches": 1},
        {"ratio": "token", "loss_type": "vespo"},
        {"kl_coeff": 0.0},
    ],
    ids=str,
)
def test_every_kind_of_loss_is_weighed(tasks, tmp_path, changes, monkeypatch):
    algorithm = GSPOConfig(**{"group_size": 4, "max_gen_len": 8, **changes})
    weighed = train(tasks, DecidedVerifier(*MIXED), tmp_path / "a", algorithm, ahead=1)
    monkeypatch.setattr(
        "rlvr_cpp.training.update_phase.stale_weights",
        lambda old, drawn, staleness: torch.ones_like(old),
    )
    unweighed = train(tasks, DecidedVerifier(*MIXED), tmp_path / "b", algorithm, ahead=1)
    assert weighed.steps[0]["grad_norm"] == unweighed.steps[0]["grad_norm"]
    assert weighed.steps[1]["grad_norm"] != unweighed.steps[1]["grad_norm"]


STATEFUL = [
    {"algorithm": dataclasses.replace(LONGER, prompt_sampling="learnability")},
    {
        "algorithm": dataclasses.replace(LONGER, refill_rounds=1),
        "stepcoder": StepCoderConfig(cccs=True, cccs_decay_step=0.4, cccs_decay_threshold=0.1),
    },
]


@pytest.mark.parametrize("stateful", STATEFUL, ids=["learnability", "curriculum and refills"])
def test_a_run_that_goes_on_is_the_one_that_was_not_interrupted(tasks, tmp_path, stateful):
    few = tasks[:4]  # two steps make an epoch
    shape = {"steps": 5, "save_every": 1, "ahead": 1, **stateful}
    algorithm = shape.pop("algorithm")
    verdicts = ("wrong", "wrong", "wrong", "wrong", *MIXED)
    whole = train(few, DecidedVerifier(*verdicts), tmp_path / "whole", algorithm, **shape)

    for stop in (3, 5):  # each of them is begun and lost, from the second checkpoint on and from the fourth
        going = build(few, DecidedVerifier(*verdicts), tmp_path / "killed", algorithm, **shape)

        def die(step, metrics, stop=stop):
            if step == stop:
                raise KeyboardInterrupt

        going.on_step = die
        last = find_checkpoints(tmp_path / "killed")
        with pytest.raises(KeyboardInterrupt):
            going.train(resume_from_checkpoint=str(last[-1]) if last else None)
    rest = build(few, DecidedVerifier(*verdicts), tmp_path / "killed", algorithm, **shape)
    steps = []
    rest.on_step = lambda step, metrics: steps.append({"step": step, **metrics})
    rest.train(resume_from_checkpoint=str(find_checkpoints(tmp_path / "killed")[-1]))
    assert [row["step"] for row in steps] == [5]
    assert steps[0]["staleness"] > 0
    assert torch.equal(trained_weights(rest.model), trained_weights(whole.trainer.model))
    for name in whole.steps[-1].keys() - OF_THE_CLOCK - {"total_flos", "train_runtime"}:
        assert steps[0][name] == whole.steps[-1][name], name


class TiedAtFirst(DecidedVerifier):
    """In the first rounds of two steps one of two groups is tied; those that are asked in its place are not."""

    opened = 0

    @contextlib.contextmanager
    def stream(self):
        self.opened += 1
        tied = ("wrong",) * 4 if self.opened <= 2 else ()
        yield DecidedStream(DecidedVerifier(*tied, *MIXED))


def test_what_is_refilled_is_sampled_by_the_policy_of_now_and_not_weighed(tasks, tmp_path, monkeypatch):
    told = []

    def noted(old, drawn, staleness):
        told.append(staleness.tolist())
        return stale_weights(old, drawn, staleness)

    monkeypatch.setattr("rlvr_cpp.training.update_phase.stale_weights", noted)
    algorithm = dataclasses.replace(LONGER, refill_rounds=1, num_minibatches=1)
    run = train(tasks, TiedAtFirst(), tmp_path, algorithm, ahead=1, micro_batch_size=8)
    assert [row["staleness"] for row in run.steps] == [0, pytest.approx(2 / 3)]
    assert [sorted(pass_) for pass_ in told] == [[0.0] * 8, [0.0] * 4 + [1.0] * 4]


def test_a_checkpoint_behind_the_last_step_holds_no_further_completions(tasks, tmp_path):
    train(tasks, DecidedVerifier(*MIXED), tmp_path, save_every=1, ahead=1)
    first, last = (read_state(place)["ahead"] for place in find_checkpoints(tmp_path))
    assert first[0]["step"] == 2
    assert last == [None]


@pytest.mark.parametrize(("comment", "staleness"), [("", 1), ("// Asked otherwise.\n", 0)])
def test_completions_of_another_prompt_are_not_learned_from(tasks, tmp_path, comment, staleness):
    train(tasks, DecidedVerifier(*MIXED), tmp_path, save_every=1, ahead=1)
    others = [dataclasses.replace(task, prompt=comment + task.prompt) for task in tasks]
    going = build(others, DecidedVerifier(*MIXED), tmp_path, save_every=1, ahead=1)
    steps = []
    going.on_step = lambda step, metrics: steps.append(metrics)
    going.train(resume_from_checkpoint=str(find_checkpoints(tmp_path)[0]))
    assert [step["staleness"] for step in steps] == [staleness]


def test_a_run_that_is_stopped_leaves_no_thread(tasks, tmp_path):
    trainer = build(tasks, DecidedVerifier(*MIXED), tmp_path, LONGER, ahead=1)

    def stop(step, metrics):
        raise KeyboardInterrupt

    trainer.on_step = stop
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("rlvr-ahead")]


def test_a_failure_of_the_thread_is_the_runs(tasks, tmp_path, monkeypatch):
    trainer = build(tasks, DecidedVerifier(*MIXED), tmp_path, ahead=1)

    def broken(*_):
        raise ArithmeticError("no such token")

    monkeypatch.setattr(LookAhead, "_work", broken)
    with pytest.raises(ArithmeticError, match="no such token"):
        trainer.train()


def test_processes_that_share_out_the_weights_are_refused(tasks, tmp_path):
    trainer = build(tasks, DecidedVerifier(*MIXED), tmp_path)
    trainer.is_fsdp_enabled = True
    with pytest.raises(UserError, match=r"generation\.ahead is 1 and the processes share out the weights"):
        trainer._look_ahead()


def test_threads_of_torch_are_shared_out(tasks, tmp_path):
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        trainer = build(tasks, DecidedVerifier(*MIXED), tmp_path, ahead=1)
        sampling = trainer.rollout_phase._ahead._thread.submit(torch.get_num_threads).result()
        assert (torch.get_num_threads(), sampling) == (2, 1)
    finally:
        torch.set_num_threads(before)
