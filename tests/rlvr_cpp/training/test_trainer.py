"""A real trainer on the shipped model: what moves its weights, what does not, and what it tells."""

import contextlib
import inspect
import json
from typing import Any

import pytest
import torch
import trl

from rlvr_cpp import Program, UserError, Verifier
from rlvr_cpp.errors import RunStopped
from rlvr_cpp.policy.policy import attach_adapter, load_policy
from rlvr_cpp.policy.settings import AdapterSettings, PolicySettings
from rlvr_cpp.tasks.task import BUILTIN, load_tasks
from rlvr_cpp.training.config import (
    GenerationSettings,
    GRPOConfig,
    GSPOConfig,
    GuardSettings,
    StepCoderConfig,
    TrainerSettings,
)
from rlvr_cpp.training.trainer import OVERRIDDEN, GRPOTrainer, GSPOTrainer
from rlvr_cpp.training.trl_arguments import pass_sizes, to_trl
from rlvr_cpp.verifier.cpp.diagnostics import Diagnostic
from rlvr_cpp.verifier.result import VerifyResult

CPU = PolicySettings("float32", None, "cpu", None, "auto", 1)
NF4 = PolicySettings("float32", "nf4", "cpu", None, "auto", 1)
SMALL = GSPOConfig(group_size=4, max_gen_len=8)
LORA = AdapterSettings(True, 4, 8, ["all-linear"], None)
QUIET = GuardSettings("warn", 5, 1.0, None)
TRANSFORMERS = GenerationSettings("transformers", None, 0.3, None)


def settings(**changes) -> TrainerSettings:
    values = {
        "steps": 2, "batch_size": 8, "micro_batch_size": None, "learning_rate": 1e-2, "lr_schedule": "constant",
        "warmup_steps": 0, "max_grad_norm": 1.0, "gradient_checkpointing": False, "save_every": None,
    }  # fmt: skip
    return TrainerSettings(**{**values, **changes})


def test_the_private_methods_of_trl_are_as_we_know_them():
    parameters = {name: list(inspect.signature(getattr(trl.GRPOTrainer, name)).parameters)[1:] for name in OVERRIDDEN}
    assert parameters == {
        "_tokenize_prompts": ["prompts"],
        "_generate_single_turn": ["prompt_ids", "images", "multimodal_fields", "num_generations", "has_tool_images"],
        "_generate_and_score_completions": ["inputs"],
        "_get_train_sampler": ["dataset"],
        "_prepare_inputs": ["generation_batch"],
        "_get_per_token_logps_and_entropies": [
            "model", "input_ids", "attention_mask", "logits_to_keep", "batch_size", "compute_entropy",
            "compute_aux_loss", "pixel_values", "image_grid_thw", "num_images", "pixel_attention_mask",
            "spatial_shapes", "num_tiles", "image_sizes", "token_type_ids", "mm_token_type_ids", "image_position_ids",
        ],
        "_compute_loss": ["model", "inputs"],
        "training_step": ["model", "inputs", "num_items_in_batch"],
        "log": ["logs", "start_time"],
        "_save_checkpoint": ["model", "trial"],
        "_get_output_dir": ["trial"],
        "_load_from_checkpoint": ["resume_from_checkpoint", "model"],
        "create_optimizer": ["model"],
    }  # fmt: skip


# A verifier whose verdicts the test decides.


class DecidedVerifier:
    """Gives the n-th program of each batch the n-th of the given statuses, round and round."""

    def __init__(self, *statuses: str):
        self.statuses = statuses
        self.programs: list[Program] = []
        self.prepared: list[list[Program]] = []
        self.workers = 1

    def prepare(self, programs):
        self.prepared.append(list(programs))

    def verify_many(self, programs):
        return [result_with("ok"), result_with("wrong")][: len(programs)]  # canaries

    @contextlib.contextmanager
    def stream(self):
        yield DecidedStream(self)


class DecidedStream:
    """One batch; judged in the order of rows, whatever order they end in."""

    seconds = 0.0

    def __init__(self, verifier):
        self.verifier = verifier
        self.count = 0

    def submit(self, program):
        self.verifier.programs.append(program)
        self.count += 1

    def results(self):
        return [result_with(self.verifier.statuses[n % len(self.verifier.statuses)]) for n in range(self.count)]


def result_with(status: str) -> VerifyResult:
    compiled = status in ("ok", "wrong")
    error = () if compiled else (Diagnostic("candidate.cpp", 3, 1, "error", "no", None),)
    return VerifyResult(
        status, compiled, status == "ok", 0, tests_passed=8 * (status == "ok"), tests_total=8, diagnostics=error
    )


@pytest.fixture(scope="module")
def tasks():
    return [task for task in load_tasks(BUILTIN) if task.split == "train"][:16]


class InOrder(GSPOTrainer):
    """Hands the completions to the judge in the order of rows, so that a test can say which gets which verdict."""

    def _sample(self, prompt_ids):
        judge: Any = self.judge
        ended: dict[int, Any] = {}
        submit, judge.submit = judge.submit, ended.__setitem__
        try:
            completions = super()._sample(prompt_ids)
        finally:
            judge.submit = submit
        for index in range(len(prompt_ids)):
            submit(index, ended[index])
        return completions


def build(tasks, verifier, out, algorithm=SMALL, policy=None, trainer=InOrder, seen=None, **changes):
    out.mkdir(exist_ok=True)
    policy = policy or load_policy("tiny-cpp", CPU)
    options: dict[str, Any] = {
        name: changes.pop(name) for name in ("stepcoder", "guards", "adapter", "reward", "seed") if name in changes
    }
    on_step = (lambda step, metrics: seen.append({"step": step, **metrics})) if seen is not None else lambda *_: None
    return trainer(
        policy, tasks, verifier, algorithm, settings(**changes), out=out,
        **{"adapter": LORA, "guards": QUIET, "on_step": on_step, **options},
    )  # fmt: skip


def train(tasks, verifier, out, algorithm=SMALL, **changes):
    """Train and return the step metrics and how far the adapter moved."""
    seen: list[Any] = []
    trainer = build(tasks, verifier, out, algorithm, seen=seen, **changes)
    before = adapter_weights(trainer.model)
    trainer.train()
    return seen, (adapter_weights(trainer.model) - before).abs().max().item()


def adapter_weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters() if p.requires_grad])


MIXED = ("ok", "wrong", "compile_error", "wrong")


def test_a_mixed_batch_moves_the_adapter(tasks, tmp_path):
    steps, moved = train(tasks, DecidedVerifier(*MIXED), tmp_path)
    assert moved > 0
    assert [row["step"] for row in steps] == [1, 2]
    assert steps[0]["kept_groups"] == 2
    assert steps[0]["kl"] >= 0 < steps[1]["kl"]
    assert steps[0]["compile_rate"] == 0.75
    assert steps[0]["pass_rate"] == 0.25
    assert {"reward", "grad_norm", "clip_fraction", "verify"} <= steps[0].keys()


def test_a_steps_tasks_are_prepared_while_the_one_before_updates(tasks, tmp_path):
    verifier = DecidedVerifier(*MIXED)
    train(tasks, verifier, tmp_path)
    second = verifier.programs[len(verifier.programs) // 2 :]
    assert {program.test for program in verifier.prepared[0]} == {program.test for program in second}


def test_the_times_of_a_step_add_up(tasks, tmp_path):
    for row in train(tasks, DecidedVerifier(*MIXED), tmp_path)[0]:
        assert row["generate"] + row["wait"] + row["update"] == pytest.approx(row["seconds"])
        assert min(row["generate"], row["wait"], row["update"]) >= 0


def test_before_the_first_update_ratio_and_kl_are_exact(tasks, tmp_path):
    steps, _ = train(tasks, DecidedVerifier(*MIXED), tmp_path)
    assert steps[0]["start_ratio_error"] < 1e-5
    assert abs(steps[0]["start_kl"]) < 1e-9
    assert "start_kl" not in steps[1]


@pytest.mark.parametrize("status", ["wrong", "ok", "sandbox_error"])
def test_a_batch_without_a_signal_moves_nothing(tasks, tmp_path, status):
    steps, moved = train(tasks, DecidedVerifier(status), tmp_path)
    assert moved == 0.0
    assert [row["skipped_updates"] for row in steps] == [2, 2]
    assert steps[0]["infra_groups" if status == "sandbox_error" else "tied_groups"] == 2


class SignalThenNone(DecidedVerifier):
    """After its first batch every verdict is the same."""

    @contextlib.contextmanager
    def stream(self):
        if self.programs:
            self.statuses = ("wrong",)
        yield DecidedStream(self)


def test_momentum_and_schedule_stand_still_on_a_batch_without_a_signal(tasks, tmp_path):
    shape = {"lr_schedule": "linear", "steps": 3}
    seen, twice = train(tasks, SignalThenNone("ok", "wrong"), tmp_path / "b", **shape)
    first = build(tasks, DecidedVerifier("ok", "wrong"), tmp_path / "a", **shape)
    before = adapter_weights(first.model)
    first.on_step = lambda step, metrics: setattr(first.control, "should_training_stop", True)
    first.train()
    assert twice == (adapter_weights(first.model) - before).abs().max().item()
    assert seen[1]["learning_rate"] == seen[2]["learning_rate"]


def test_completions_are_logged_with_their_fate(tasks, tmp_path):
    train(tasks, DecidedVerifier("ok", "wrong", "sandbox_error", "wrong"), tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "completions.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1] * 8 + [2] * 8
    assert lines[0]["status"] == "ok"
    assert lines[2]["reward"] is None
    assert all(line["task_id"] and "completion" in line for line in lines)


def test_the_same_seed_trains_the_same_and_another_does_not(tasks, tmp_path):
    first, second, other = (
        train(tasks, DecidedVerifier("ok", "wrong"), tmp_path / name, seed=seed)
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert first[1] == second[1] != other[1]
    assert [row["kl"] for row in first[0]] == [row["kl"] for row in second[0]]


def test_micro_batches_change_only_the_arithmetic(tasks, tmp_path):
    hot = GSPOConfig(group_size=4, max_gen_len=32, temperature=1.5, num_minibatches=1)  # so that completions differ
    verdicts = ("ok", "wrong", "wrong", "ok", "wrong", "wrong", "wrong", "wrong")  # and one of two groups is tied
    whole, _ = train(tasks, DecidedVerifier(*verdicts), tmp_path / "a", hot, steps=1)
    parts, _ = train(tasks, DecidedVerifier(*verdicts), tmp_path / "b", hot, steps=1, micro_batch_size=1)
    assert whole[0]["grad_norm"] > 1e-3
    assert whole[0]["grad_norm"] == pytest.approx(parts[0]["grad_norm"], rel=1e-4)


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
    steps, moved = train(tasks, DecidedVerifier(*MIXED), tmp_path, algorithm, steps=1)
    assert moved > 0
    assert steps[0]["grad_norm"] > 0


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
    steps, moved = train(tasks, FirstTied(), tmp_path, algorithm, steps=1)
    assert moved > 0
    assert (steps[0]["kept_groups"], steps[0]["tied_groups"]) == (2, 2)


def test_a_refill_that_finds_nothing_degrades(tasks, tmp_path):
    algorithm = GSPOConfig(group_size=4, max_gen_len=8, refill_rounds=2)
    verifier = DecidedVerifier("wrong")
    steps, moved = train(tasks, verifier, tmp_path, algorithm, steps=1)
    assert (steps[0]["kept_groups"], steps[0]["tied_groups"], moved) == (0, 6, 0.0)


# StepCoder


def test_a_curriculum_without_a_prefix_is_plain_training_to_the_bit(tasks, tmp_path):
    plain = train(tasks, DecidedVerifier(*MIXED), tmp_path / "a")
    level_0 = StepCoderConfig(cccs=True, cccs_init_frac=0.0)
    assert train(tasks, DecidedVerifier(*MIXED), tmp_path / "b", stepcoder=level_0)[1] == plain[1]


def test_a_group_shares_its_prefix_and_the_judge_gets_it_in_front(tasks, tmp_path):
    verifier = DecidedVerifier(*MIXED)
    steps, _ = train(tasks, verifier, tmp_path, stepcoder=StepCoderConfig(cccs=True), steps=1)
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
    assert 0 < steps[0]["prefix_frac"] < 0.7


def test_prefix_tokens_are_prompt_and_no_loss_reaches_them(tasks, tmp_path):
    trainer = build(tasks, DecidedVerifier(*MIXED), tmp_path, stepcoder=StepCoderConfig(cccs=True), steps=1)
    batches = []
    dealt = trainer._deal
    trainer._deal = lambda batch: batches.append({k: v.clone() for k, v in batch.items()}) or dealt(batch)
    trainer.train()
    policy, batch = trainer.policy, batches[0]
    for row, rollout in enumerate(trainer.rollouts):
        completion = batch["completion_ids"][row][batch["completion_mask"][row].bool()].tolist()
        prompt = batch["prompt_ids"][row][batch["prompt_mask"][row].bool()].tolist()
        assert completion == list(rollout.ids)
        assert prompt == policy.prompt_ids(trainer.tasks[rollout.task_id], rollout.prefix)


@pytest.mark.parametrize("mode", ["compile_error", "coverage", "both"])
def test_fgo_masks_and_still_trains(tasks, tmp_path, mode):
    algorithm = GSPOConfig(group_size=4, max_gen_len=48)
    with Verifier(workers=2, timeout=2.0) as verifier:
        chosen = [task for task in tasks if task.tags[0] in ("reductions", "windows")][:4]
        shape = {"stepcoder": StepCoderConfig(fgo=mode), "trainer": GSPOTrainer, "batch_size": 16, "steps": 1}
        steps, moved = train(chosen, verifier, tmp_path, algorithm, **shape)
    assert moved > 0
    assert {"focused_rows", "masked_tokens"} <= steps[0].keys()


def test_fgo_drops_what_stands_behind_the_first_error(tasks, tmp_path):
    algorithm = GSPOConfig(group_size=4, max_gen_len=48)
    steps, _ = train(
        tasks, DecidedVerifier(*MIXED), tmp_path, algorithm, stepcoder=StepCoderConfig(fgo="compile_error")
    )
    assert steps[0]["focused_rows"] > 0
    assert steps[0]["masked_tokens"] > 0


# Adapters, references, quantization


def test_an_adapter_that_goes_on_is_held_to_a_frozen_copy_of_itself(tasks, tmp_path):
    first = build(tasks, DecidedVerifier(*MIXED), tmp_path / "a")
    first.train()
    first.save_model(str(tmp_path / "start"))
    policy = load_policy("tiny-cpp", CPU)
    on = AdapterSettings(True, 4, 8, ["all-linear"], str(tmp_path / "start"))
    attach_adapter(policy, on)
    seen: list[Any] = []
    second = build(tasks, DecidedVerifier(*MIXED), tmp_path / "b", policy=policy, adapter=on, seen=seen)
    hashed = second.reference_hash()
    copies = {name: p.detach().clone() for name, p in second.model.named_parameters() if ".ref." in name}
    assert copies
    second.train()
    assert abs(seen[0]["start_kl"]) < 1e-12 < seen[1]["kl"]
    assert all(torch.equal(p, copies[name]) for name, p in second.model.named_parameters() if ".ref." in name)
    assert second.reference_hash() == hashed != first.reference_hash()


def test_training_leaves_the_reference_alone(tasks, tmp_path):
    trainer = build(tasks, DecidedVerifier(*MIXED), tmp_path)
    before = trainer.reference_hash()
    trainer.train()
    assert trainer.reference_hash() == before


def test_every_weight_can_be_trained_against_a_model_of_its_own(tasks, tmp_path):
    steps, moved = train(tasks, DecidedVerifier(*MIXED), tmp_path, adapter=None, learning_rate=1e-3)
    assert moved > 0
    assert abs(steps[0]["start_kl"]) < 1e-12 < steps[1]["kl"]


def test_an_optimizer_without_parameters_is_refused(tasks, tmp_path):
    trainer = build(tasks, DecidedVerifier(*MIXED), tmp_path)
    for parameter in trainer.model.parameters():
        parameter.requires_grad_(False)
    with pytest.raises(RunStopped, match="empty_optimizer"):
        trainer.train()


def test_on_a_quantized_base_every_adapter_tensor_moves_at_a_rate_of_a_millionth(tasks, tmp_path):
    pytest.importorskip("bitsandbytes")
    trainer = build(
        tasks, DecidedVerifier(*MIXED), tmp_path, policy=load_policy("tiny-cpp", NF4), learning_rate=1e-6, steps=20
    )
    start = {name: p.detach().clone() for name, p in trainer.model.named_parameters() if "lora_A" in name}
    assert {p.dtype for p in start.values()} == {torch.float32}
    assert sum(type(module).__name__ == "Linear4bit" for module in trainer.model.modules()) > 0
    trainer.train()
    moved = {n: (p != start[n]).float().mean().item() for n, p in trainer.model.named_parameters() if n in start}
    assert len(moved) == len(start) > 0
    assert min(moved.values()) > 0.9


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


# Guards


def test_a_run_that_learns_nothing_stops_with_a_reason(tasks, tmp_path):
    strict = GuardSettings("stop", 2, 1.0, None)
    with pytest.raises(RunStopped, match="all_tied"):
        train(
            tasks, DecidedVerifier("wrong"), tmp_path, GSPOConfig(group_size=4, max_gen_len=96), guards=strict, steps=4
        )


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


# Names


@pytest.mark.parametrize(("most", "sizes"), [(None, (24, 1)), (24, (24, 1)), (16, (12, 2)), (5, (4, 6)), (1, (1, 24))])
def test_a_mini_batch_is_cut_into_even_passes_of_at_most_so_many(most, sizes):
    algorithm = GSPOConfig(group_size=4, num_minibatches=2)
    assert pass_sizes(algorithm, settings(batch_size=48, micro_batch_size=most), 1) == sizes


def test_our_words_reach_trl(tmp_path):
    algorithm = GSPOConfig(
        group_size=4, kl_coeff=0.05, clip_eps=0.1, clip_eps_high=0.3, num_minibatches=4, temperature=0.7
    )
    shape = settings(batch_size=64, micro_batch_size=8, trl={"adam_beta2": 0.95})
    args = to_trl(
        algorithm, shape, TRANSFORMERS, dtype=torch.float32, device=torch.device("cpu"), seed=5, out=tmp_path
    )  # fmt: skip
    assert (args.beta, args.epsilon, args.epsilon_high, args.num_generations) == (0.05, 0.1, 0.3, 4)
    assert (
        args.per_device_train_batch_size,
        args.gradient_accumulation_steps,
        args.steps_per_generation,
    ) == (8, 2, 8)
    assert args.generation_batch_size == 64
    assert (args.importance_sampling_level, args.loss_type) == ("sequence", "grpo")
    assert (args.temperature, args.adam_beta2, args.seed) == (0.7, 0.95, 5)


def test_processes_share_a_batch_or_are_told_that_they_cannot(tmp_path):
    def shared(processes, batch):
        return to_trl(
            SMALL, settings(batch_size=batch), TRANSFORMERS,
            dtype=torch.float32, device=torch.device("cpu"), seed=0, out=tmp_path, processes=processes,
        )  # fmt: skip

    assert shared(2, 16).per_device_train_batch_size == 4
    with pytest.raises(UserError, match="16, which 3 processes cannot share"):
        shared(3, 16)


@pytest.mark.parametrize(
    ("engine", "expected"),
    [
        ("continuous_batching", {"use_transformers_continuous_batching": True}),
        ("vllm", {"use_vllm": True, "vllm_mode": "colocate"}),
        ("vllm_server", {"use_vllm": True, "vllm_mode": "server", "vllm_server_base_url": "http://x"}),
    ],
)
def test_engines_reach_trl(tmp_path, engine, expected):
    args = to_trl(
        SMALL, settings(), GenerationSettings(engine, None, 0.3, "http://x"),
        dtype=torch.float32, device=torch.device("cpu"), seed=0, out=tmp_path,
    )  # fmt: skip
    assert {name: getattr(args, name) for name in expected} == expected


def test_the_trainers_differ_in_their_ratio():
    assert (GRPOTrainer.default_algorithm().ratio, GSPOTrainer.default_algorithm().ratio) == ("token", "sequence")
    assert GRPOConfig().ratio == "token"
