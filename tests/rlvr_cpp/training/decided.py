"""A real trainer on the shipped model, judged by a verifier whose verdicts the test decides."""

import contextlib
import copy
import functools
from dataclasses import dataclass
from typing import Any

import torch

from rlvr_cpp import Program
from rlvr_cpp.policy.policy import load_policy
from rlvr_cpp.policy.settings import AdapterSettings, PolicySettings
from rlvr_cpp.training.config import GenerationSettings, GSPOConfig, GuardSettings, TrainerSettings
from rlvr_cpp.training.rollout import RolloutScorer
from rlvr_cpp.training.trainer import GRPOTrainer, GSPOTrainer
from rlvr_cpp.verifier.cpp.diagnostics import Diagnostic
from rlvr_cpp.verifier.result import VerifyResult
from rlvr_cpp.verifier.status import Status

CPU = PolicySettings("float32", None, "cpu", None, "auto", 1)
NF4 = PolicySettings("float32", "nf4", "cpu", None, "auto", 1)
SMALL = GSPOConfig(group_size=4, max_gen_len=8)
LORA = AdapterSettings(True, 4, 8, ["all-linear"], None)
QUIET = GuardSettings("warn", 5, 1.0, None)
MIXED: tuple[Status, ...] = ("ok", "wrong", "compile_error", "wrong")


def settings(**changes) -> TrainerSettings:
    values = {
        "steps": 2, "batch_size": 8, "micro_batch_size": None, "learning_rate": 1e-2, "lr_schedule": "constant",
        "warmup_steps": 0, "max_grad_norm": 1.0, "gradient_checkpointing": False, "save_every": None,
    }  # fmt: skip
    return TrainerSettings(**{**values, **changes})


class DecidedVerifier:
    """Gives the n-th program of each batch the n-th of the given statuses, round and round."""

    def __init__(self, *statuses: Status):
        self.statuses = statuses
        self.programs: list[Program] = []
        self.prepared: list[list[Program]] = []
        self.workers = 1

    def prepare(self, programs):
        self.prepared.append(list(programs))

    def verify_many(self, programs):
        """The answers that guards expect: canaries, and tasks with their prefix and without."""
        return [result_with("wrong" if n % 2 else "ok") for n, _ in enumerate(programs)]

    @contextlib.contextmanager
    def stream(self):
        yield DecidedStream(self)


class DecidedStream:
    """One batch; judged in the order in which it is submitted."""

    seconds = 0.0

    def __init__(self, verifier):
        self.verifier = verifier
        self.count = 0

    def submit(self, program):
        self.verifier.programs.append(program)
        self.count += 1

    def known(self):
        return self.results()

    def results(self):
        return [result_with(self.verifier.statuses[n % len(self.verifier.statuses)]) for n in range(self.count)]


def result_with(status: Status) -> VerifyResult:
    compiled = status in ("ok", "wrong")
    error = () if compiled else (Diagnostic("candidate.cpp", 3, 1, "error", "no", None),)
    return VerifyResult(
        status, compiled, status == "ok", 0, tests_passed=8 * (status == "ok"), tests_total=8, diagnostics=error
    )


class InOrder(RolloutScorer):
    """Submits in the order of rows, whatever order they end in, so that a test can say which gets which verdict."""

    def begin(self, requests):
        super().begin(requests)
        self.ended = [None] * len(requests)

    def submit(self, index, ids):
        self.ended[index] = ids
        if None not in self.ended:
            for row, its in enumerate(self.ended):
                super().submit(row, its)


@functools.cache
def _shipped_policy():
    return load_policy("tiny-cpp", CPU)


def build(
    tasks, verifier, out, algorithm=SMALL, *, policy=None, kind=GSPOTrainer, adapter=LORA, guards=QUIET,
    stepcoder=None, seed=0, ahead=0, **changes,
) -> GRPOTrainer:  # fmt: skip
    """A trainer of an adapter on the shipped model; `changes` are those of `settings`."""
    out.mkdir(exist_ok=True)
    policy = policy or copy.deepcopy(_shipped_policy())
    trainer = kind(
        policy, tasks, verifier, algorithm, settings(**changes),
        out=out, guards=guards, adapter=adapter, stepcoder=stepcoder, seed=seed,
        generation=GenerationSettings("transformers", None, 0.3, None, ahead),
    )  # fmt: skip
    if isinstance(verifier, DecidedVerifier):
        phase = trainer.rollout_phase
        judge: Any = verifier  # it has what a scorer asks of a verifier, and no compiler
        phase.scorer = InOrder(judge, policy.decode, policy.eos_ids, policy.chat)
    return trainer


@dataclass
class Trained:
    """A run that went to its end."""

    trainer: GRPOTrainer
    verifier: DecidedVerifier
    steps: list[dict]
    moved: float
    """How far the weight that moved most did."""
    references: tuple[str, str]
    """The hash of the reference before and after."""


def train(tasks, verifier, out, algorithm=SMALL, **changes) -> Trained:
    trainer = build(tasks, verifier, out, algorithm, **changes)
    steps = []
    trainer.on_step = lambda step, metrics: steps.append({"step": step, **metrics})
    before, reference = trained_weights(trainer.model), trainer.reference_hash()
    trainer.train()
    moved = (trained_weights(trainer.model) - before).abs().max().item()
    return Trained(trainer, verifier, steps, moved, (reference, trainer.reference_hash()))


def trained_weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters() if p.requires_grad])
