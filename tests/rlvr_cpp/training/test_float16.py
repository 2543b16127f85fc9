"""Training in float16: scaled losses, gradients of their true size, updates that overflow left out and told."""

import json

import pytest
import torch

from rlvr_cpp.errors import RunStopped
from rlvr_cpp.policy.policy import load_policy
from rlvr_cpp.policy.settings import PolicySettings
from rlvr_cpp.training.config import GSPOConfig, GuardSettings
from rlvr_cpp.training.objective import GROWTH_INTERVAL, LossScale
from tests.rlvr_cpp.training.decided import MIXED, DecidedVerifier, build, trained_weights

LONGER = GSPOConfig(group_size=4, max_gen_len=32)
"""Long enough for the completions of a group to differ."""
HALF = PolicySettings("float16", None, "cpu", None, "auto", 1)


def weight(gradient: list[float]) -> torch.nn.Parameter:
    made = torch.nn.Parameter(torch.zeros(len(gradient)))
    made.grad = torch.tensor(gradient)
    return made


def test_gradients_come_back_to_their_size_and_what_overflowed_is_told():
    scale = LossScale(value=4.0)
    fine, lost = weight([4.0, -2.0]), weight([1.0, torch.inf])
    assert scale.unscale([fine, weight([])])
    assert fine.grad.tolist() == [1.0, -0.5]
    assert not scale.unscale([fine, lost])
    assert not scale.unscale([weight([torch.nan])])


def test_an_overflow_halves_the_scale_and_a_long_time_without_doubles_it():
    scale = LossScale(value=8.0)
    scale.update(overflowed=True)
    assert scale == LossScale(4.0, 0)
    for _ in range(GROWTH_INTERVAL - 1):
        scale.update(overflowed=False)
    assert scale == LossScale(4.0, GROWTH_INTERVAL - 1)
    scale.update(overflowed=False)
    assert scale == LossScale(8.0, 0)


def half(tasks, out, scale: float, **changes):
    """A trainer of two steps whose losses are scaled by `scale` at the start."""
    policy = load_policy("tiny-cpp", HALF)
    made = build(tasks, DecidedVerifier(*MIXED), out, LONGER, policy=policy, micro_batch_size=4, **changes)
    made.update_phase.scale.value = scale
    return made


def steps_of(trainer) -> list[dict]:
    steps: list[dict] = []
    trainer.on_step = lambda step, metrics: steps.append(metrics)
    trainer.train()
    return steps


def test_the_scale_changes_neither_the_loss_that_is_told_nor_the_gradient_that_is_clipped(tasks, tmp_path):
    with_it, without = (half(tasks, tmp_path / str(scale), scale) for scale in (2.0**16, 1.0))
    trained = [p for p in with_it.model.parameters() if p.requires_grad]
    assert {p.dtype for p in trained} == {torch.float32}
    assert {p.dtype for p in with_it.model.parameters()} == {torch.float16, torch.float32}
    exact = build(tasks, DecidedVerifier(*MIXED), tmp_path / "float32", LONGER, micro_batch_size=4)
    ours, plain, wanted = steps_of(with_it), steps_of(without), steps_of(exact)
    assert ours[0]["grad_norm"] == pytest.approx(wanted[0]["grad_norm"], rel=0.05)
    assert ours[0]["grad_norm"] == pytest.approx(plain[0]["grad_norm"], rel=0.05)
    assert ours[0]["loss"] == pytest.approx(plain[0]["loss"], abs=0.01)
    assert [step["overflows"] for step in ours] == [0, 0]
    assert all(step["skipped_updates"] == 0 and step["loss_scale"] == 2.0**16 for step in ours)


def test_an_update_that_overflows_is_not_taken_and_the_next_one_is_scaled_by_less(tasks, tmp_path):
    trainer = half(tasks, tmp_path, 2.0**60, steps=1)
    before = trained_weights(trainer.model)
    (step,) = steps_of(trainer)
    assert step["skipped_updates"] == step["overflows"] == trainer.algorithm.num_minibatches
    assert step["loss_scale"] == 2.0 ** (60 - step["overflows"])
    assert torch.equal(trained_weights(trainer.model), before)


def test_a_model_that_overflows_without_a_scale_ends_the_run(tasks, tmp_path):
    trainer = half(tasks, tmp_path, 1.0, guards=GuardSettings(canary_every=None))
    trainer.update_phase.scale.unscale = lambda parameters: False
    with pytest.raises(RunStopped, match="scale_exhausted: gradients in float16 overflow although"):
        trainer.train()


def test_the_scale_belongs_to_the_state_of_a_run(tasks, tmp_path):
    trainer = half(tasks, tmp_path, 2.0**9)
    trainer.update_phase.scale.update(overflowed=True)
    state = json.loads(json.dumps(trainer.update_phase.state()))
    trainer.update_phase.scale = LossScale()
    trainer.update_phase.load_state(state)
    assert trainer.update_phase.scale == LossScale(2.0**8, 0)
