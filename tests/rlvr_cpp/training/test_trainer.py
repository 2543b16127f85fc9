"""A real trainer on the shipped model: what moves its weights, what does not, and what it tells."""

import contextlib
import dataclasses
import json

import pytest
import torch
import trl

from rlvr_cpp import UserError
from rlvr_cpp.errors import RunStopped
from rlvr_cpp.policy.policy import attach_adapter, load_policy
from rlvr_cpp.policy.settings import AdapterSettings, PolicySettings
from rlvr_cpp.training.config import GSPOConfig, GuardSettings
from rlvr_cpp.verifier.status import Status
from tests.rlvr_cpp.training.decided import (
    CPU,
    MIXED,
    NF4,
    DecidedStream,
    DecidedVerifier,
    build,
    result_with,
    train,
    trained_weights,
)


def test_a_mixed_batch_moves_the_adapter(mixed):
    steps = mixed.steps
    assert mixed.moved > 0
    assert [row["step"] for row in steps] == [1, 2]
    assert steps[0]["kept_groups"] == 2
    assert steps[0]["kl"] >= 0 < steps[1]["kl"]
    assert steps[0]["compile_rate"] == 0.75
    assert steps[0]["pass_rate"] == 0.25
    assert {"reward", "grad_norm", "clip_fraction", "verify"} <= steps[0].keys()


def test_a_steps_tasks_are_prepared_while_the_one_before_updates(mixed):
    verifier = mixed.verifier
    second = verifier.programs[len(verifier.programs) // 2 :]
    assert {program.test for program in verifier.prepared[0]} == {program.test for program in second}


def test_the_times_of_a_step_add_up(mixed):
    for row in mixed.steps:
        assert row["generate"] + row["wait"] + row["update"] == pytest.approx(row["seconds"])
        assert min(row["generate"], row["wait"], row["update"]) >= 0


def test_before_the_first_update_ratio_and_kl_are_exact(mixed):
    first, second = mixed.steps
    assert first["start_ratio_error"] < 1e-5
    assert abs(first["start_kl"]) < 1e-9
    assert "start_kl" not in second


def test_old_log_probabilities_are_those_by_which_the_tokens_were_drawn(mixed):
    assert all(0 < row["sampler_error"] < 1e-5 for row in mixed.steps)
    assert all(0 < row["entropy"] < 6.3 for row in mixed.steps)  # of 512 tokens at most log 512


def test_a_sampler_at_another_temperature_stops_the_run(tasks, tmp_path):
    trainer = build(tasks, DecidedVerifier(*MIXED), tmp_path, guards=GuardSettings())
    trainer.rollout_phase.algorithm = dataclasses.replace(trainer.algorithm, temperature=1.5)
    with pytest.raises(RunStopped, match="sampler_differs"):
        trainer.train()


@pytest.mark.parametrize("status", ["wrong", "ok", "sandbox_error"])
def test_a_batch_without_a_signal_moves_nothing(tasks, tmp_path, status):
    run = train(tasks, DecidedVerifier(status), tmp_path)
    assert run.moved == 0.0
    assert [row["skipped_updates"] for row in run.steps] == [2, 2]
    assert run.steps[0]["infra_groups" if status == "sandbox_error" else "tied_groups"] == 2


class SignalThenNone(DecidedVerifier):
    """After its first batch every verdict is the same."""

    @contextlib.contextmanager
    def stream(self):
        if self.programs:
            self.statuses = ("wrong",)
        yield DecidedStream(self)


def test_momentum_and_schedule_stand_still_on_a_batch_without_a_signal(tasks, tmp_path):
    shape = {"lr_schedule": "linear", "steps": 3}
    whole = train(tasks, SignalThenNone("ok", "wrong"), tmp_path / "b", **shape)
    first = build(tasks, DecidedVerifier("ok", "wrong"), tmp_path / "a", **shape)
    before = trained_weights(first.model)
    first.on_step = lambda step, metrics: setattr(first.control, "should_training_stop", True)
    first.train()
    assert whole.moved == (trained_weights(first.model) - before).abs().max().item()
    assert whole.steps[1]["learning_rate"] == whole.steps[2]["learning_rate"]


def test_completions_are_logged_with_their_fate(tasks, tmp_path):
    train(tasks, DecidedVerifier("ok", "wrong", "sandbox_error", "wrong"), tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "completions.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1] * 8 + [2] * 8
    assert lines[0]["status"] == "ok"
    assert lines[2]["reward"] is None
    assert all(line["task_id"] and "completion" in line for line in lines)


def test_the_same_seed_trains_the_same_and_another_does_not(tasks, tmp_path, mixed):
    again, other = (
        train(tasks, DecidedVerifier(*MIXED), tmp_path / name, seed=seed) for name, seed in (("a", 0), ("b", 1))
    )
    assert mixed.moved == again.moved != other.moved
    assert [row["kl"] for row in mixed.steps] == [row["kl"] for row in again.steps]


def test_micro_batches_change_only_the_arithmetic(tasks, tmp_path):
    hot = GSPOConfig(group_size=4, max_gen_len=32, temperature=1.5, num_minibatches=1)  # so that completions differ
    # one of two groups is tied
    verdicts: tuple[Status, ...] = ("ok", "wrong", "wrong", "ok", "wrong", "wrong", "wrong", "wrong")
    whole = train(tasks, DecidedVerifier(*verdicts), tmp_path / "a", hot, steps=1).steps[0]
    parts = train(tasks, DecidedVerifier(*verdicts), tmp_path / "b", hot, steps=1, micro_batch_size=1).steps[0]
    assert whole["grad_norm"] > 1e-3
    assert whole["grad_norm"] == pytest.approx(parts["grad_norm"], rel=1e-4)


@pytest.mark.parametrize(
    "changes",
    [
        {"ratio": "token"},
        {"loss_type": "luspo"},
        {"ratio": "token", "loss_type": "dapo", "clip_eps_high": 0.28},
        {"ratio": "token", "loss_type": "dr_grpo", "scale_advantages": False},
        {"kl_coeff": 0.0},
        {"num_minibatches": 1},
        {"zero_variance": "keep"},
        {"truncated": "mask", "max_gen_len": 64},
        {"overlong_buffer": 4},
        {"kl_estimator": "k3_is"},
    ],
    ids=str,
)
def test_every_algorithm_trains(tasks, tmp_path, changes):
    algorithm = GSPOConfig(**{"group_size": 4, "max_gen_len": 8, **changes})
    run = train(tasks, DecidedVerifier(*MIXED), tmp_path, algorithm, steps=1)
    assert run.moved > 0
    assert run.steps[0]["grad_norm"] > 0


def test_discarded_groups_are_refilled_with_further_prompts(tasks, tmp_path):
    class FirstTied(DecidedVerifier):
        """Its first batch ties, the next ones do not."""

        rounds = 0

        @contextlib.contextmanager
        def stream(self):
            self.statuses = ("wrong",) if self.rounds == 0 else ("ok", "wrong")
            self.rounds += 1
            yield DecidedStream(self)

    algorithm = GSPOConfig(group_size=4, max_gen_len=8, refill_rounds=3)
    run = train(tasks, FirstTied(), tmp_path, algorithm, steps=1)
    assert run.moved > 0
    assert (run.steps[0]["kept_groups"], run.steps[0]["tied_groups"]) == (2, 2)


FIRST_TIED: tuple[Status, ...] = ("wrong", "wrong", "wrong", "wrong", *MIXED)
"""Of a step's two groups the first says nothing."""
LONGER = GSPOConfig(group_size=4, max_gen_len=32)
"""Long enough for the completions of a group to differ."""


def scored_without_gradient(monkeypatch) -> list[int]:
    """The rows of each pass that is made to score completions and not to learn from them."""
    rows: list[int] = []
    forward = trl.GRPOTrainer._get_per_token_logps_and_entropies

    def counted(self, model, input_ids, *args, **kwargs):
        if not torch.is_grad_enabled():
            rows.append(len(input_ids))
        return forward(self, model, input_ids, *args, **kwargs)

    monkeypatch.setattr(trl.GRPOTrainer, "_get_per_token_logps_and_entropies", counted)
    return rows


def test_dead_rows_are_scored_neither_under_the_policy_nor_under_the_reference(tasks, tmp_path, monkeypatch):
    rows = scored_without_gradient(monkeypatch)
    run = train(tasks, DecidedVerifier(*FIRST_TIED), tmp_path / "half", LONGER, steps=1)
    assert (run.steps[0]["kept_groups"], rows) == (1, [4, 4])
    rows.clear()
    train(tasks, DecidedVerifier("wrong"), tmp_path / "none", LONGER, steps=1)
    assert rows == []


def test_leaving_dead_rows_out_changes_no_update(tasks, tmp_path, monkeypatch):
    spared = train(tasks, DecidedVerifier(*FIRST_TIED), tmp_path / "spared", LONGER, steps=2)
    monkeypatch.setattr("rlvr_cpp.training.rollout.RolloutScorer.is_dead", lambda *_: False)
    scored = train(tasks, DecidedVerifier(*FIRST_TIED), tmp_path / "scored", LONGER, steps=2)
    assert spared.moved > 0
    assert torch.equal(trained_weights(spared.trainer.model), trained_weights(scored.trainer.model))


def test_a_refill_that_finds_nothing_degrades(tasks, tmp_path):
    algorithm = GSPOConfig(group_size=4, max_gen_len=8, refill_rounds=2)
    run = train(tasks, DecidedVerifier("wrong"), tmp_path, algorithm, steps=1)
    assert (run.steps[0]["kept_groups"], run.steps[0]["tied_groups"], run.moved) == (0, 6, 0.0)


def test_an_adapter_that_goes_on_is_held_to_a_frozen_copy_of_itself(tasks, tmp_path, mixed):
    mixed.trainer.save_model(str(tmp_path / "start"))
    policy = load_policy("tiny-cpp", CPU)
    on = AdapterSettings(True, 4, 8, ["all-linear"], str(tmp_path / "start"))
    attach_adapter(policy, on)
    seen = []
    second = build(tasks, DecidedVerifier(*MIXED), tmp_path / "b", policy=policy, adapter=on)
    second.on_step = lambda step, metrics: seen.append(metrics)
    hashed = second.reference_hash()
    copies = {name: p.detach().clone() for name, p in second.model.named_parameters() if ".ref." in name}
    assert copies
    second.train()
    assert abs(seen[0]["start_kl"]) < 1e-12 < seen[1]["kl"]
    assert all(torch.equal(p, copies[name]) for name, p in second.model.named_parameters() if ".ref." in name)
    assert second.reference_hash() == hashed != mixed.trainer.reference_hash()


def test_training_leaves_the_reference_alone(mixed):
    before, after = mixed.references
    assert before == after is not None


def test_every_weight_can_be_trained_against_a_model_of_its_own(tasks, tmp_path):
    run = train(tasks, DecidedVerifier(*MIXED), tmp_path, adapter=None, learning_rate=1e-3)
    assert run.moved > 0
    assert abs(run.steps[0]["start_kl"]) < 1e-12 < run.steps[1]["kl"]


def test_an_optimizer_without_parameters_is_refused(tasks, tmp_path):
    trainer = build(tasks, DecidedVerifier(*MIXED), tmp_path)
    for parameter in trainer.model.parameters():
        parameter.requires_grad_(False)
    with pytest.raises(RunStopped, match="empty_optimizer"):
        trainer.train()


def test_on_a_quantized_base_every_adapter_tensor_moves_at_a_rate_of_a_millionth(tasks, tmp_path):
    pytest.importorskip("bitsandbytes")
    trainer = build(
        tasks, DecidedVerifier(*MIXED), tmp_path, policy=load_policy("tiny-cpp", NF4), learning_rate=1e-6, steps=6
    )
    start = {name: p.detach().clone() for name, p in trainer.model.named_parameters() if "lora_A" in name}
    assert {p.dtype for p in start.values()} == {torch.float32}
    assert sum(type(module).__name__ == "Linear4bit" for module in trainer.model.modules()) > 0
    trainer.train()
    moved = {n: (p != start[n]).float().mean().item() for n, p in trainer.model.named_parameters() if n in start}
    assert len(moved) == len(start) > 0
    assert min(moved.values()) > 0.9


def repacks() -> bool:
    """Whether bitsandbytes would lay out four-bit weights anew on this processor."""
    functional = pytest.importorskip("bitsandbytes").functional
    return bool(functional.has_avx512bf16())


@pytest.mark.filterwarnings("ignore:bitsandbytes..gemv_4bit")  # torch warns of the same
@pytest.mark.parametrize("put_back", [False, True])
def test_a_four_bit_layout_that_an_evaluation_changes_is_found_at_the_price_of_a_batch(tasks, tmp_path, put_back):
    if put_back and not repacks():
        pytest.skip("this processor has no AVX512-BF16")
    policy = load_policy("tiny-cpp", PolicySettings("bfloat16", "nf4", "cpu", None, "auto", 1))
    trainer = build(tasks, DecidedVerifier(*MIXED), tmp_path, policy=policy, guards=GuardSettings())
    for module in trainer.model.modules():
        if put_back and hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = True
    with pytest.raises(RunStopped, match="gradients_differ") if put_back else contextlib.nullcontext():
        trainer.check_gradients()
    assert all(p.grad is None for p in trainer.model.parameters())


def test_scores_of_a_bf16_model_are_normalised_in_float32(tasks, tmp_path):
    policy = load_policy("tiny-cpp", PolicySettings("bfloat16", None, "cpu", None, "auto", 1))
    trainer = build(tasks, DecidedVerifier(*MIXED), tmp_path, policy=policy)
    ids = torch.tensor([policy.prompt_ids(tasks[0])])
    scored, _, _ = trainer._get_per_token_logps_and_entropies(trainer.model, ids, torch.ones_like(ids), 8)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        hidden = trainer.model.get_base_model().model(input_ids=ids).last_hidden_state[0, -9:-1].float()
    logits = hidden @ trainer.model.get_output_embeddings().weight.float().T
    expected = logits.log_softmax(-1).gather(1, ids[0, -8:, None])[:, 0]
    assert scored.dtype == torch.float32
    assert torch.allclose(scored[0], expected, atol=1e-5)


def test_a_run_that_is_made_longer_ends_as_one_that_was_that_long_from_the_start(tasks, tmp_path):
    whole = train(tasks, DecidedVerifier(*MIXED), tmp_path / "a", steps=3)
    train(tasks, DecidedVerifier(*MIXED), tmp_path / "b", steps=2, save_every=2)
    longer, slower = (
        build(tasks, DecidedVerifier(*MIXED), tmp_path / "b", steps=3, learning_rate=rate) for rate in (1e-2, 1e-4)
    )
    rates = []
    slower.on_step = lambda step, metrics: rates.append((step, metrics["learning_rate"]))
    for trainer in (longer, slower):
        trainer.train(resume_from_checkpoint=str(tmp_path / "b" / "checkpoints" / "checkpoint-4"))
    assert torch.equal(trained_weights(longer.model), trained_weights(whole.trainer.model))
    assert rates == [(3, pytest.approx(1e-4))]
    assert not torch.equal(trained_weights(slower.model), trained_weights(longer.model))


def test_a_run_that_learns_nothing_stops_with_a_reason(tasks, tmp_path):
    strict, longer = GuardSettings("stop", 2, 1.0, None), GSPOConfig(group_size=4, max_gen_len=96)
    with pytest.raises(RunStopped, match="all_tied"):
        train(tasks, DecidedVerifier("wrong"), tmp_path, longer, guards=strict, steps=4)


def test_a_judge_that_lies_stops_the_run_before_it_begins(tasks, tmp_path):
    class Liar(DecidedVerifier):
        def verify_many(self, programs):
            return [result_with("ok")] * len(programs)

    with pytest.raises(RunStopped, match="canary"):
        train(tasks, Liar(*MIXED), tmp_path, guards=GuardSettings())
    assert not (tmp_path / "completions.jsonl").exists()


def test_too_few_tasks_for_a_step_are_refused(tasks, tmp_path):
    with pytest.raises(UserError, match="1 training tasks and a step takes 2"):
        train(tasks[:1], DecidedVerifier("ok"), tmp_path)
