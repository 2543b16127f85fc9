"""The second half of a rollout step: from passes to optimizer steps.

trl computes the policy term of a pass. Around it stand the KL term, the scale that makes the mean one of the update's
own counts, and the rule that an update without a live row is not taken. What the passes of a step add up to is told,
and the guards are asked about it.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from rlvr_cpp.runs.console import console
from rlvr_cpp.training.batches import Batch
from rlvr_cpp.training.config import GRPOConfig, GuardSettings
from rlvr_cpp.training.guards.guards import Finding, Guards, heed
from rlvr_cpp.training.guards.start import fingerprint, nothing_moved, scale_exhausted, start_differs
from rlvr_cpp.training.objective import (
    STALE_WEIGHT_LIMIT,
    LossScale,
    Window,
    clipped,
    importance_ratio,
    items_in_batch,
    kl_term,
    kl_weights,
    old_for_sequence_ratio,
    policy_scale,
    stale_weights,
)
from rlvr_cpp.training.steps import StepMetrics, summed

SUMS = (
    *("kl", "kl_tokens", "clipped", "clippable", "entropy", "tokens"),
    *("sampler_error", "sampler_tokens", "stale_error", "stale_tokens", "truncated"),
)
"""What passes add up and processes share."""
PolicyTerm = Callable[[Batch, str], torch.Tensor]
"""trl's policy loss of a pass; the text is the level of its importance ratio, `token` or `sequence`."""


class UpdatePhase:
    """The loss of each pass, what a step's passes add up to, and the guards that read it."""

    def __init__(
        self, algorithm: GRPOConfig, guards: GuardSettings, accelerator: Accelerator, dtype: torch.dtype
    ) -> None:
        """`dtype` is the one that the policy computes in."""
        self.algorithm, self.accelerator, self.dtype = algorithm, accelerator, dtype
        self.guards = Guards(
            guards,
            kl_coeff=algorithm.kl_coeff,
            num_minibatches=algorithm.num_minibatches,
            low_precision=dtype != torch.float32,
        )
        self.scale = LossScale() if dtype == torch.float16 else None
        """What the loss is multiplied by; None where nothing has to be lifted out of float16's zero."""
        self.start: dict[str, int] | None = None
        """Fingerprint of the trained weights, until the first update was seen to move them."""
        self._totals: dict[str, float] = defaultdict(float)
        self._window = Window(0, 0, 0)
        """What the update is divided by that the last pass belongs to."""

    def loss(
        self,
        inputs: Batch,
        new: torch.Tensor,
        policy_term: PolicyTerm,
        *,
        passes: int,
        entropies: torch.Tensor | None = None,
        router_term: torch.Tensor | None = None,
        is_first: bool = False,
    ) -> torch.Tensor:
        """The loss of one of an update's `passes`, by its rows' log-probabilities `new` (B, T).

        The policy term over the rows and masks of this pass and our KL term, both over the update's own counts.
        `entropies` (B, T) are those of the tokens' distributions. `is_first` says that nothing was updated yet and
        this is the run's first pass.
        """
        algorithm, window, processes = self.algorithm, inputs["window"], self.accelerator.num_processes
        self._window = window
        old = inputs.get("old_per_token_logps", new.detach())
        loss = policy_term(*self._policy_data(inputs, new, old))
        loss = loss * policy_scale(algorithm.loss_type, len(new), passes, processes, window, self._constant)
        if is_first:
            self._check_start(new, old, inputs)
        self._count_clipped(new.detach(), old, inputs)
        self._compare_with_sampler(old, inputs)
        if entropies is not None:
            mask = live_response(inputs)
            self._totals["entropy"] += (entropies.detach() * mask).sum().item()
            self._totals["tokens"] += mask.sum().item()
        if algorithm.kl_coeff:
            loss = loss + algorithm.kl_coeff * processes * self._kl(new, old, inputs)
        if router_term is not None:
            loss = loss + router_term / passes
        return loss * self.loss_scale

    @property
    def loss_scale(self) -> float:
        """What the loss of the pass under way is multiplied by."""
        return 1.0 if self.scale is None else self.scale.value

    def unless_empty(self, backward: Callable[..., None]) -> Callable[..., None]:
        """DeepSpeed's `backward` pass, which takes the update as well: not where that has no live row."""

        def guarded(loss: torch.Tensor, **options: Any) -> None:
            if self._window.sequences:
                backward(loss, **options)

        return guarded

    def leave_out_empty(self, optimizer: Any, parameters: Iterable[torch.nn.Parameter]) -> None:
        """At the end of an update: without a live row or after an overflow, neither it nor the schedule steps."""
        if not self.accelerator.sync_gradients:
            return
        parameters = list(parameters)
        skipped = self._window.sequences == 0 or self._overflows(parameters)
        optimizer._is_overflow = skipped  # what accelerate asks before the schedule steps
        self._totals["skipped_updates"] += skipped
        if skipped:
            optimizer.optimizer.overflow = True  # the same question, where DeepSpeed answers it
            for parameter in parameters:
                parameter.grad = None  # the optimizer then leaves weights and momentum alone

    def _overflows(self, parameters: Sequence[torch.nn.Parameter]) -> bool:
        """Bring the gradients to their true size; tells whether they are lost, in any process."""
        if self.scale is None:
            return False
        lost = {"lost": float(not self.scale.unscale(parameters))}
        overflowed = summed(lost, self.accelerator)["lost"] > 0
        self.scale.update(overflowed)
        self._totals["overflows"] += overflowed
        self.heed(scale_exhausted(self.scale.value, action=self.guards.settings.action))
        return overflowed

    def metrics(self) -> StepMetrics:
        """What the passes of a step added up, over all processes; the next step begins at 0."""
        totals = self._totals
        total = summed({name: totals[name] for name in SUMS}, self.accelerator)
        found = {
            "skipped_updates": totals["skipped_updates"],
            "clip_fraction": total["clipped"] / max(1, total["clippable"]),
        }
        if total["kl_tokens"]:
            found["kl"] = total["kl"] / total["kl_tokens"]
        if total["tokens"]:
            found["entropy"] = total["entropy"] / total["tokens"]  # trl's is a mean over passes
        if total["sampler_tokens"]:
            found["sampler_error"] = total["sampler_error"] / total["sampler_tokens"]
        if total["stale_tokens"]:
            found["drift"] = total["stale_error"] / total["stale_tokens"]
            found["truncated_weights"] = total["truncated"] / total["stale_tokens"]
        found |= {name: totals[name] for name in ("start_ratio_error", "start_kl") if name in totals}
        if self.scale is not None:
            found |= {"loss_scale": self.scale.value, "overflows": totals["overflows"]}
        totals.clear()
        return found

    def findings(self, told: StepMetrics, model: torch.nn.Module) -> list[Finding]:
        """What the guards find in the metrics of a step and, once, in the weights behind the first update."""
        taken = self.algorithm.num_minibatches - int(told["skipped_updates"])
        found: list[Finding | None] = [*self.guards.after_step(told, taken)]
        if taken and self.start is not None and self.guards.updates > 1:  # a warm-up's first update has rate 0
            moved = fingerprint(model.named_parameters())
            found.append(nothing_moved(self.start, moved, told["learning_rate"], action=self.guards.settings.action))
            self.start = None
        return [finding for finding in found if finding]

    def heed(self, *findings: Finding | None) -> None:
        """Warn of what was found or raise GuardStop: by any process, heeded by all, so that none goes on alone."""
        heed([found for mine in gather_object([findings]) for found in mine if found], self._warn)

    def state(self) -> dict[str, Any]:
        """What a run that goes on needs, as JSON has it."""
        scale = None if self.scale is None else asdict(self.scale)
        return {"guards": self.guards.state(), "start": self.start, "scale": scale}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken."""
        self.guards.load_state(state["guards"])
        self.start = state["start"]
        if self.scale is not None:
            self.scale = LossScale(**state["scale"])

    def _policy_data(self, inputs: Batch, new: torch.Tensor, old: torch.Tensor) -> tuple[Batch, str]:
        """The pass as trl's policy loss has to see it, and the level of its ratio."""
        level, ratio_mask = self.algorithm.ratio, inputs.get("ratio_mask")
        if "staleness" in inputs:
            weights = stale_weights(old, inputs["sampling_per_token_logps"], inputs["staleness"])
            inputs = {**inputs, "importance_sampling_ratio": weights}
        if level == "sequence" and ratio_mask is not None:
            old = old_for_sequence_ratio(new, old, inputs["completion_mask"] * ratio_mask)
            level = "token"
        items = items_in_batch(inputs["window"], self.algorithm.num_minibatches)
        exact = torch.promote_types(new.dtype, torch.float32)
        data = {
            **inputs,
            "tool_mask": inputs["loss_mask"],
            "old_per_token_logps": old,
            "num_items_in_batch": torch.tensor(items, dtype=exact, device=new.device),
        }
        return data, level

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
        """The ratios that enter the loss, by sequence or by token; trl's mean over passes counts filled-up rows."""
        algorithm, tokens = self.algorithm, inputs["completion_mask"] * inputs["loss_mask"]
        ratio_tokens = inputs["completion_mask"] * inputs.get("ratio_mask", inputs["loss_mask"])
        ratio = importance_ratio(new, old, ratio_tokens, algorithm.ratio)
        counted = inputs["live"][:, None] if algorithm.ratio == "sequence" else tokens
        low, high = algorithm.clip_eps, algorithm.clip_eps_high
        gone = clipped(ratio, inputs["advantages"], low, low if high is None else high)
        self._totals["clipped"] += (gone * counted).sum().item()
        self._totals["clippable"] += counted.sum().item()

    def _compare_with_sampler(self, old: torch.Tensor, inputs: Batch) -> None:
        """How far the old log-probabilities are from those by which the tokens were drawn, where the engine told.

        In rows that older weights wrote that is `drift`, what the policy has moved since; what has sampled such a step
        tells its error.
        """
        if (drawn := inputs.get("sampling_per_token_logps")) is None:
            return
        mask = live_response(inputs)
        stale = inputs.get("staleness", torch.zeros_like(inputs["advantages"]))[:, None].bool()
        moved = old - drawn
        for name, tokens in (("sampler", mask), ("stale", mask * stale)):
            self._totals[f"{name}_error"] += moved.abs().masked_fill(tokens == 0, 0.0).sum().item()
            self._totals[f"{name}_tokens"] += tokens.sum().item()
        self._totals["truncated"] += ((moved > math.log(STALE_WEIGHT_LIMIT)) * mask * stale).sum().item()

    def _check_start(self, new: torch.Tensor, old: torch.Tensor, inputs: Batch) -> None:
        """Before the first update sampler, policy and reference are one: ratio 1 and KL 0."""
        mask = live_response(inputs)
        error = (importance_ratio(new, old, mask, self.algorithm.ratio).detach() - 1).abs() * mask
        kl = kl_term(new, inputs.get("ref_per_token_logps", new)).detach() * mask
        count = mask.sum().clamp(min=1)
        # in 16 bits a single token may be off by a tenth for the rounding of another padding alone
        error = error.max() if self.dtype == torch.float32 else error.sum() / count
        numbers = torch.stack([error, kl.sum() / count])
        ratio, mean = self.accelerator.gather(numbers[None]).amax(dim=0).tolist()
        self._totals["start_ratio_error"], self._totals["start_kl"] = ratio, mean
        self.heed(start_differs(ratio, mean, self.dtype, action=self.guards.settings.action))

    def _warn(self, message: str) -> None:
        if self.accelerator.is_main_process:
            console.print(f"warning: {message}", style="yellow", soft_wrap=True)


def live_response(inputs: Batch) -> torch.Tensor:
    """(B, T) every token of the completions that count, masked by FGO or not."""
    mask: torch.Tensor = inputs["completion_mask"] * inputs["live"][:, None]
    return mask
