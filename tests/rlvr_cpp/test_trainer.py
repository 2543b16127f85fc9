"""Where our parts meet trl: its private methods as we know them, its loss to the digit, and discarded groups."""

import inspect
import json
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")

import trl  # noqa: E402

from rlvr_cpp import Program, UserError  # noqa: E402
from rlvr_cpp.config import AdapterSettings, GSPOConfig, PolicySettings, TrainerSettings  # noqa: E402
from rlvr_cpp.policy import load_policy  # noqa: E402
from rlvr_cpp.result import VerifyResult  # noqa: E402
from rlvr_cpp.tasks import BUILTIN, load_tasks  # noqa: E402
from rlvr_cpp.trainer import OVERRIDDEN, GSPOTrainer, to_trl  # noqa: E402

VECTORS = json.loads((Path(__file__).parents[1] / "data" / "policy_losses.json").read_text())
CPU = PolicySettings("float32", "cpu", None, "auto", 1)
SMALL = GSPOConfig(group_size=4, max_gen_len=8)
LORA = AdapterSettings(True, 4, 8, 0.0, ["all-linear"])


def settings(**changes) -> TrainerSettings:
    values = {
        "steps": 2, "batch_size": 8, "micro_batch_size": None, "learning_rate": 1e-2, "lr_schedule": "constant",
        "warmup_steps": 0, "max_grad_norm": 1.0, "gradient_checkpointing": False, "save_every": None,
    }  # fmt: skip
    return TrainerSettings(**{**values, **changes})


def test_the_private_methods_of_trl_are_as_we_know_them():
    parameters = {name: list(inspect.signature(getattr(trl.GRPOTrainer, name)).parameters)[1:] for name in OVERRIDDEN}
    assert parameters == {
        "_generate": ["prompts"],
        "_calculate_rewards": ["inputs", "prompts", "completions", "completion_ids_list"],
        "_generate_and_score_completions": ["inputs"],
        "_compute_loss": ["model", "inputs"],
        "training_step": ["model", "inputs", "num_items_in_batch"],
        "log": ["logs", "start_time"],
    }


# The loss on given log-probabilities: a trainer whose model is a table.


def bare_trainer(logps, algorithm: GSPOConfig) -> GSPOTrainer:
    """A trainer that has only what trl's loss reads, and `logps` for a model."""
    trainer = object.__new__(GSPOTrainer)
    same = SimpleNamespace(num_processes=1, sync_gradients=True, gather=lambda x: x, reduce=lambda x, reduction=None: x)
    trainer.__dict__.update(
        accelerator=same, top_entropy_quantile=1.0, importance_sampling_level="sequence", loss_type="grpo",
        beta=algorithm.kl_coeff, epsilon_low=algorithm.clip_eps,
        epsilon_high=algorithm.clip_eps if algorithm.clip_eps_high is None else algorithm.clip_eps_high,
        off_policy_mask_threshold=None, use_vllm=False, aux_loss_enabled=False, _entropy_bonus_enabled=False,
        current_gradient_accumulation_steps=1, model=SimpleNamespace(training=True),
        _metrics={"train": defaultdict(list)},
        args=SimpleNamespace(delta=None, steps_per_generation=1, use_bias_correction_kl=False),
    )  # fmt: skip
    trainer._get_per_token_logps_and_entropies = lambda *args, **_: (logps(args[1]), None, None)
    return trainer


def loss_and_gradient(algorithm: GSPOConfig, live: list[bool], advantages: list[float] | None = None):
    """Our loss on the vectors' batch, and its gradient in the new log-probabilities."""
    inputs = VECTORS["inputs"]
    new = torch.tensor(inputs["logp_new"], dtype=torch.float64, requires_grad=True)
    rows = len(new)

    def of_the_rows_asked_for(ids):
        # each row's first prompt token is its number, so that dropped rows are seen to be gone
        return new[ids[:, 0]]

    trainer = bare_trainer(lambda ids: of_the_rows_asked_for(ids), algorithm)
    trainer._get_per_token_logps_and_entropies = lambda model, ids, *a, **k: (
        of_the_rows_asked_for(ids), torch.zeros(len(ids), new.shape[1], dtype=torch.float64), None
    )  # fmt: skip
    mask = torch.tensor(inputs["mask"], dtype=torch.float64)
    loss = trainer._compute_loss(
        None,
        {
            "prompt_ids": torch.arange(rows)[:, None],
            "prompt_mask": torch.ones(rows, 1),
            "completion_ids": torch.zeros(rows, new.shape[1], dtype=torch.long),
            "completion_mask": mask,
            "advantages": torch.tensor(advantages or VECTORS["gspo"]["adv"], dtype=torch.float64),
            "old_per_token_logps": torch.tensor(inputs["logp_old"], dtype=torch.float64),
            "ref_per_token_logps": torch.tensor(inputs["logp_ref"], dtype=torch.float64),
            "num_items_in_batch": mask.sum(),
            "live": torch.tensor(live),
            "live_count": torch.tensor(sum(live)),
        },
    )
    loss.backward()
    return loss.item(), new.grad


@pytest.mark.parametrize(
    ("vector", "algorithm"),
    [
        ("gspo", GSPOConfig(clip_eps=0.2, kl_coeff=0.1)),
        ("gspo_paper_clip", GSPOConfig(clip_eps=3e-4, clip_eps_high=4e-4, kl_coeff=0.0)),
    ],
)
def test_the_loss_and_its_gradient_are_the_papers(vector, algorithm):
    loss, gradient = loss_and_gradient(algorithm, [True] * 8)
    assert loss == pytest.approx(VECTORS[vector]["loss"], abs=1e-12)
    assert torch.allclose(gradient, torch.tensor(VECTORS[vector]["grad"], dtype=torch.float64), atol=1e-12)


def test_discarding_a_group_is_training_on_the_others_alone():
    algorithm = GSPOConfig(clip_eps=0.2, kl_coeff=0.1)
    _, gradient = loss_and_gradient(algorithm, [True] * 4 + [False] * 4)
    _, whole = loss_and_gradient(algorithm, [True] * 8)
    assert torch.allclose(gradient[:4], 2 * whole[:4], atol=1e-12)  # half the rows, so twice the weight
    assert not gradient[4:].any()


def test_every_live_row_weighs_the_same_however_they_fall_into_passes():
    """Two passes with three and one live rows: each row's gradient is that of one pass over all four."""
    algorithm = GSPOConfig(clip_eps=0.2, kl_coeff=0.1)
    live = [True, True, True, False, True, False, False, False]
    _, whole = loss_and_gradient(algorithm, live)
    inputs = VECTORS["inputs"]
    parts = []
    for rows in (slice(0, 4), slice(4, 8)):
        new = torch.tensor(inputs["logp_new"], dtype=torch.float64)[rows].requires_grad_()
        trainer = bare_trainer(None, algorithm)
        trainer.args.steps_per_generation = 2
        trainer.current_gradient_accumulation_steps = 2
        trainer._get_per_token_logps_and_entropies = lambda model, ids, *a, new=new, **k: (
            new[ids[:, 0]], torch.zeros(len(ids), new.shape[1], dtype=torch.float64), None
        )  # fmt: skip
        batch = {
            "prompt_ids": torch.arange(4)[:, None], "prompt_mask": torch.ones(4, 1),
            "completion_ids": torch.zeros(4, new.shape[1], dtype=torch.long),
            "completion_mask": torch.tensor(inputs["mask"], dtype=torch.float64)[rows],
            "advantages": torch.tensor(VECTORS["gspo"]["adv"], dtype=torch.float64)[rows],
            "old_per_token_logps": torch.tensor(inputs["logp_old"], dtype=torch.float64)[rows],
            "ref_per_token_logps": torch.tensor(inputs["logp_ref"], dtype=torch.float64)[rows],
            "live": torch.tensor(live)[rows], "live_count": torch.tensor(sum(live)),
        }  # fmt: skip
        trainer._compute_loss(None, batch).backward()
        parts.append(new.grad)
    assert torch.allclose(torch.cat(parts), whole, atol=1e-12)


# A real trainer on the shipped model, with a verifier whose verdicts the test decides.


class DecidedVerifier:
    """Gives the n-th program of each batch the n-th of the given statuses, round and round."""

    def __init__(self, *statuses: str):
        self.statuses = statuses
        self.programs: list[Program] = []

    def verify_many(self, programs, on_result=lambda: None):
        self.programs += programs
        return [result_with(self.statuses[n % len(self.statuses)]) for n in range(len(programs))]


def result_with(status: str) -> VerifyResult:
    compiled = status in ("ok", "wrong")
    return VerifyResult(status, compiled, status == "ok", 0, tests_passed=8 * (status == "ok"), tests_total=8)


@pytest.fixture(scope="module")
def tasks():
    return [task for task in load_tasks(BUILTIN) if task.split == "train"][:16]


def train(tasks, verifier, out, algorithm=SMALL, **changes):
    """Train two steps and return the step metrics and how far the adapter moved."""
    out.mkdir(exist_ok=True)
    seen = []
    policy = load_policy("tiny-cpp", CPU)
    trainer = GSPOTrainer(
        policy, tasks, verifier, algorithm, settings(**changes),
        adapter=LORA, out=out, on_step=lambda step, metrics: seen.append({"step": step, **metrics}),
    )  # fmt: skip
    before = adapter_weights(policy.model)
    trainer.train()
    moved = (adapter_weights(policy.model) - before).abs().max().item()
    return seen, moved


def adapter_weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters() if p.requires_grad])


def test_a_mixed_batch_moves_the_adapter(tasks, tmp_path):
    steps, moved = train(tasks, DecidedVerifier("ok", "wrong", "compile_error", "wrong"), tmp_path)
    assert moved > 0
    assert [row["step"] for row in steps] == [1, 2]
    assert steps[0]["kept_groups"] == 2
    assert steps[0]["kl"] >= 0 < steps[1]["kl"]
    assert steps[0]["compile_rate"] == 0.75
    assert steps[0]["pass_rate"] == 0.25
    assert {"reward", "grad_norm", "clip_fraction", "generate", "verify", "update"} <= steps[0].keys()


@pytest.mark.parametrize("status", ["wrong", "ok", "sandbox_error"])
def test_a_batch_without_a_signal_moves_nothing(tasks, tmp_path, status):
    steps, moved = train(tasks, DecidedVerifier(status), tmp_path)
    assert moved == 0.0
    assert [row["skipped_updates"] for row in steps] == [2, 2]
    assert steps[0]["infra_groups" if status == "sandbox_error" else "tied_groups"] == 2


def test_momentum_moves_nothing_on_a_batch_without_a_signal(tasks, tmp_path):
    class SignalThenNone(DecidedVerifier):
        def verify_many(self, programs, on_result=lambda: None):
            if self.programs:
                self.statuses = ("wrong",)
            return super().verify_many(programs, on_result)

    _, once = train(tasks, DecidedVerifier("ok", "wrong"), tmp_path / "a", steps=1)
    _, twice = train(tasks, SignalThenNone("ok", "wrong"), tmp_path / "b", steps=3)
    assert twice == pytest.approx(once, abs=0)


def test_completions_are_logged_with_their_fate(tasks, tmp_path):
    train(tasks, DecidedVerifier("ok", "wrong", "sandbox_error", "wrong"), tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "completions.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1] * 8 + [2] * 8
    assert lines[0]["status"] == "ok"
    assert lines[2]["reward"] is None
    assert all(line["task_id"] and "completion" in line for line in lines)


def test_the_same_seed_trains_the_same(tasks, tmp_path):
    first = train(tasks, DecidedVerifier("ok", "wrong"), tmp_path / "a")
    second = train(tasks, DecidedVerifier("ok", "wrong"), tmp_path / "b")
    assert first[1] == second[1]
    assert [row["kl"] for row in first[0]] == [row["kl"] for row in second[0]]


def test_micro_batches_change_only_the_arithmetic(tasks, tmp_path):
    hot = GSPOConfig(group_size=4, max_gen_len=32, temperature=1.5, num_minibatches=1)  # so that completions differ
    verdicts = ("ok", "wrong", "wrong", "ok", "wrong", "wrong", "wrong", "wrong")  # and one of two groups is tied
    whole, _ = train(tasks, DecidedVerifier(*verdicts), tmp_path / "a", hot, steps=1)
    parts, _ = train(tasks, DecidedVerifier(*verdicts), tmp_path / "b", hot, steps=1, micro_batch_size=1)
    assert whole[0]["grad_norm"] > 1e-3
    assert whole[0]["grad_norm"] == pytest.approx(parts[0]["grad_norm"], rel=1e-4)


def test_too_few_tasks_for_a_step_are_refused(tasks, tmp_path):
    with pytest.raises(UserError, match="1 training tasks and a step takes 2"):
        train(tasks[:1], DecidedVerifier("ok"), tmp_path)


def test_our_words_reach_trl(tmp_path):
    algorithm = GSPOConfig(
        group_size=4, kl_coeff=0.05, clip_eps=0.1, clip_eps_high=0.3, num_minibatches=4, temperature=0.7
    )
    args = to_trl(
        algorithm, settings(batch_size=64, micro_batch_size=8, trl={"adam_beta2": 0.95}),
        dtype=torch.float32, device=torch.device("cpu"), seed=5, out=tmp_path,
    )  # fmt: skip
    assert (args.beta, args.epsilon, args.epsilon_high, args.num_generations) == (0.05, 0.1, 0.3, 4)
    assert (
        args.per_device_train_batch_size,
        args.gradient_accumulation_steps,
        args.steps_per_generation,
    ) == (8, 2, 8)
    assert args.generation_batch_size == 64
    assert (args.importance_sampling_level, args.loss_type, args.use_bias_correction_kl) == (
        "sequence",
        "grpo",
        False,
    )
    assert (args.temperature, args.adam_beta2, args.seed) == (0.7, 0.95, 5)
