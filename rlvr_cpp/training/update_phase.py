"""The second half of a rollout step: from passes to optimizer steps.

trl's loss is called over the rows and masks of a pass. Around it stand the KL term, the scale that makes the mean one
of the step's own counts, and the rule that a step without a live row is not taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate.utils import gather_object
from peft import PeftModel
from trl.trainer.utils import add_fused_lm_head

from rlvr_cpp.runs.console import console
from rlvr_cpp.training.batches import Batch
from rlvr_cpp.training.config import GuardSettings
from rlvr_cpp.training.guards import Finding, heed, start_differs
from rlvr_cpp.training.objective import (
    Window,
    clipped,
    importance_ratio,
    items_in_batch,
    kl_term,
    kl_weights,
    old_for_sequence_ratio,
    policy_scale,
)
from rlvr_cpp.training.rollout_phase import RolloutPhase
from rlvr_cpp.training.steps import StepMetrics


class UpdatePhase(RolloutPhase):
    """trl's loss with our KL term, denominators and skipped steps; `trainer.GRPOTrainer` sets the attributes."""

    guard_settings: GuardSettings
    _scored: tuple[Any, Any, Any] | None
    """The pass's log-probabilities while trl's loss asks for them."""
    _window: Window

    def _score_in_float32(self) -> None:
        """Project and normalise in float32, tile by tile: bf16 logits move a sequence's ratio by more than GSPO's band.

        trl's own switch for it also casts the head's weights, which fails for an adapter on tied embeddings.
        """
        for model in (self.accelerator.unwrap_model(self.model), self.ref_model):
            if model is not None and model.dtype != torch.float32:
                base = model.get_base_model() if isinstance(model, PeftModel) else model
                add_fused_lm_head(base, self.temperature, cast_lm_head_to_fp32=True, outputs=("log_probs", "entropy"))

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        **options: Any,
    ) -> tuple[Any, Any, Any]:
        """trl's forward pass, or what `_compute_loss` already has of it.

        Of many batches rows of like length share one, without the padding that none of them needs.
        """
        if self._scored:
            return self._scored
        size = batch_size or len(input_ids)
        if size >= len(input_ids):
            whole: tuple[Any, Any, Any] = super()._get_per_token_logps_and_entropies(
                model, input_ids, attention_mask, logits_to_keep, size, **options
            )
            return whole
        found: torch.Tensor | None = None
        for rows in torch.split(attention_mask.sum(dim=1).argsort(stable=True), size):
            used = attention_mask[rows].any(dim=0).nonzero().flatten()
            first, last = int(used[0]), int(used[-1])
            keep = logits_to_keep - (input_ids.shape[1] - 1 - last)
            chosen = input_ids[rows, first : last + 1], attention_mask[rows, first : last + 1]
            logps = super()._get_per_token_logps_and_entropies(model, *chosen, keep, **options)[0]
            found = logps.new_zeros(len(input_ids), logits_to_keep) if found is None else found
            found[rows, :keep] = logps
        return found, None, None

    def _compute_loss(self, model: Any, inputs: Batch) -> torch.Tensor:
        """trl's policy loss over the rows and masks of this pass, our KL term, both over the update's own counts."""
        algorithm, window = self.algorithm, inputs["window"]
        self._window = window
        scored = self._score(model, inputs)
        new, aux_loss = scored[0], scored[2]
        old = inputs.get("old_per_token_logps", new.detach())
        level, ratio_mask = algorithm.ratio, inputs.get("ratio_mask")
        data = {**inputs, "tool_mask": inputs["loss_mask"], "old_per_token_logps": old}
        if level == "sequence" and ratio_mask is not None:
            data["old_per_token_logps"] = old_for_sequence_ratio(new, old, inputs["completion_mask"] * ratio_mask)
            level = "token"
        items = items_in_batch(window, algorithm.num_minibatches)
        exact = torch.promote_types(new.dtype, torch.float32)
        data["num_items_in_batch"] = torch.tensor(items, dtype=exact, device=new.device)
        with attributes(self, _scored=scored, beta=0.0, importance_sampling_level=level, aux_loss_enabled=False):
            loss: torch.Tensor = super()._compute_loss(model, data)
        passes, processes = self.current_gradient_accumulation_steps, self.accelerator.num_processes
        loss = loss * policy_scale(algorithm.loss_type, len(new), passes, processes, window, self._constant)
        self._check_start(new, old, inputs)
        self._count_clipped(new.detach(), old, inputs)
        if algorithm.kl_coeff:
            loss = loss + algorithm.kl_coeff * processes * self._kl(new, old, inputs)
        if aux_loss is not None:
            loss = loss + self.router_aux_loss_coef * aux_loss / passes
        return loss

    def _score(self, model: Any, inputs: Batch) -> tuple[Any, Any, Any]:
        return self._get_per_token_logps_and_entropies(
            model,
            torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1),
            torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1),
            inputs["completion_ids"].size(1),
            compute_entropy=True,
            compute_aux_loss=self.aux_loss_enabled,
        )

    @property
    def _constant(self) -> float:
        return float(self.algorithm.max_gen_len) if self.algorithm.luspo_norm == "max_len" else 1.0

    def _kl(self, new: torch.Tensor, old: torch.Tensor, inputs: Batch) -> torch.Tensor:
        """This pass's share of the update's KL term, over whole responses of live rows."""
        algorithm, mask = self.algorithm, live_response(inputs)
        ratio = importance_ratio(new, old, mask, algorithm.ratio) if algorithm.kl_estimator == "k3_is" else 1.0
        kl = kl_term(new, inputs["ref_per_token_logps"], algorithm.kl_estimator, ratio)
        self._totals["kl"] += (kl.detach() * mask).sum().item()
        self._totals["kl_tokens"] += mask.sum().item()
        window, mask = inputs["window"], mask.to(kl.dtype)
        weights = kl_weights(mask, algorithm.loss_type, window, algorithm.max_gen_len, self._constant)
        return (weights * kl).sum()

    def _count_clipped(self, new: torch.Tensor, old: torch.Tensor, inputs: Batch) -> None:
        """Of the ratios that enter the loss, by sequence or by token; trl's mean over passes counts filled-up rows."""
        tokens = inputs["completion_mask"] * inputs["loss_mask"]
        ratio_tokens = inputs["completion_mask"] * inputs.get("ratio_mask", inputs["loss_mask"])
        ratio = importance_ratio(new, old, ratio_tokens, self.algorithm.ratio)
        counted = inputs["live"][:, None] if self.algorithm.ratio == "sequence" else tokens
        gone = clipped(ratio, inputs["advantages"], self.epsilon_low, self.epsilon_high)
        self._totals["clipped"] += (gone * counted).sum().item()
        self._totals["clippable"] += counted.sum().item()

    def _check_start(self, new: torch.Tensor, old: torch.Tensor, inputs: Batch) -> None:
        """Before the first update sampler, policy and reference are one: ratio 1 and KL 0."""
        if self._step > 0 or self.state.global_step > 0:
            return
        mask = live_response(inputs)
        error = (importance_ratio(new, old, mask, self.algorithm.ratio).detach() - 1).abs() * mask
        kl = kl_term(new, inputs.get("ref_per_token_logps", new)).detach() * mask
        count = mask.sum().clamp(min=1)
        # in 16 bits a single token may be off by a tenth for the rounding of another padding alone
        error = error.max() if self.model.dtype == torch.float32 else error.sum() / count
        numbers = torch.stack([error, kl.sum() / count])
        ratio, mean = self.accelerator.gather(numbers[None]).amax(dim=0).tolist()
        self._totals["start_ratio_error"], self._totals["start_kl"] = ratio, mean
        self._heed(start_differs(ratio, mean, self.model.dtype, action=self.guard_settings.action))

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        """One forward and backward pass; an update without a live row is not taken, nor the schedule's step."""
        loss: torch.Tensor = super().training_step(model, inputs, num_items_in_batch)
        if self.accelerator.sync_gradients:
            skipped = self._window.sequences == 0
            self.optimizer._is_overflow = skipped  # what accelerate asks before the schedule steps
            self._totals["skipped_updates"] += skipped
            if skipped:
                for parameter in self.model.parameters():
                    parameter.grad = None  # the optimizer then leaves weights and momentum alone
        return loss

    def _step_totals(self) -> StepMetrics:
        """What the passes of a step added up, over all processes."""
        names = ("kl", "kl_tokens", "clipped", "clippable", "focused_rows", "masked_tokens")
        sums = torch.tensor([self._totals[name] for name in names], dtype=torch.float64, device=self.accelerator.device)
        total = dict(zip(names, self.accelerator.reduce(sums, reduction="sum").tolist(), strict=True))
        found = {name: total[name] for name in names[-2:]} if self.stepcoder.fgo != "off" else {}
        found |= {name: self._totals[name] for name in ("skipped_updates", "verify")}
        found["clip_fraction"] = total["clipped"] / max(1, total["clippable"])
        if total["kl_tokens"]:
            found["kl"] = total["kl"] / total["kl_tokens"]
        found |= {name: self._totals[name] for name in ("start_ratio_error", "start_kl") if name in self._totals}
        self._totals.clear()
        return found

    def _heed(self, *findings: Finding | None) -> None:
        """What any process found, all of them heed, so that none goes on alone."""
        heed([found for mine in gather_object([findings]) for found in mine if found], self._warn)

    def _warn(self, message: str) -> None:
        if self.accelerator.is_main_process:
            console.print(f"warning: {message}", style="yellow", soft_wrap=True)


def live_response(inputs: Batch) -> torch.Tensor:
    """(B, T) every token of the completions that count, masked by FGO or not."""
    mask: torch.Tensor = inputs["completion_mask"] * inputs["live"][:, None]
    return mask


@contextmanager
def attributes(thing: Any, **values: Any) -> Iterator[None]:
    """Set attributes for the length of a block."""
    before = {name: getattr(thing, name) for name in values}
    try:
        for name, value in values.items():
            setattr(thing, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(thing, name, value)
