"""The two stages in which sparse attention is trained (DeepSeek-V3.2-Exp report, section 3.1).

First, with dense attention, the indexers alone learn to predict where it looks. Then everything learns, attention sees
what was selected, and the indexers go on learning from their own loss, which in turn reaches nothing but them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from torch import nn

from rlvr_model.sparse_attention import Indexer

WARMUP_LEARNING_RATE = 1e-3
"""Learning rate of the first stage, constant, as in the report."""


def apply_dsa_stage1_freeze(model: nn.Module) -> list[str]:
    """Leave only the indexers trainable, attend densely, and name the parameters that were trainable before.

    Raises ValueError where the model has no indexer.
    """
    kept = {id(parameter) for indexer in _indexers(model) for parameter in indexer.parameters()}
    if not kept:
        raise ValueError("the model has no indexer to warm up: set dsa_enabled, with dsa_variant 'token'")
    frozen = []
    for name, parameter in model.named_parameters():
        if id(parameter) not in kept and parameter.requires_grad:
            parameter.requires_grad_(False)
            frozen.append(name)
    _set_stage(model, "warmup")
    return frozen


def apply_dsa_stage2_unfreeze(model: nn.Module, frozen: Collection[str] | None = None) -> None:
    """Attend to what is selected and train the `frozen` parameters again; None: all that can be trained."""
    for name, parameter in model.named_parameters():
        if parameter.is_floating_point() and (frozen is None or name in frozen):
            parameter.requires_grad_(True)
    _set_stage(model, "sparse")


class DSATrainingStageManager:
    """Takes a model through both stages: `at_step` before each step is all that a training loop does.

    The optimizer holds all parameters from the start. It passes over those without a gradient, which the frozen are.
    """

    def __init__(self, model: nn.Module, warmup_steps: int, warmup_learning_rate: float = WARMUP_LEARNING_RATE) -> None:
        self.model = model
        self.warmup_steps = warmup_steps
        self.warmup_learning_rate = warmup_learning_rate
        self._frozen: list[str] | None = None

    def at_step(self, step: int) -> str:
        """Bring the model into the stage of this step, counted from 0, and name it: `warmup` or `sparse`."""
        if step < self.warmup_steps:
            if self._frozen is None:
                self._frozen = apply_dsa_stage1_freeze(self.model)
            return "warmup"
        apply_dsa_stage2_unfreeze(self.model, self._frozen or ())
        self._frozen = None
        return "sparse"

    def learning_rate(self, step: int, scheduled: float) -> float:
        """The rate of this step, where the second stage's schedule says `scheduled`."""
        return self.warmup_learning_rate if step < self.warmup_steps else scheduled


def _indexers(model: nn.Module) -> Iterator[Indexer]:
    return (module for module in model.modules() if isinstance(module, Indexer))


def _set_stage(model: nn.Module, stage: str) -> None:
    config = model.config
    config.dsa_stage = stage  # type: ignore[union-attr]
