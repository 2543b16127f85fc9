"""Proof that each part of a recipe was at work, from what the model holds and what the steps counted."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

import torch

from rlvr_cpp.training.config import GRPOConfig, TrainingJob
from rlvr_cpp.training.steps import StepMetrics

NAMES = {"dapo": "DAPO", "luspo": "LUSPO", "dr_grpo": "Dr.GRPO"}


def algorithm_name(algorithm: GRPOConfig) -> str:
    """What people call it."""
    plain = "GSPO" if algorithm.ratio == "sequence" else "GRPO"
    return NAMES.get(algorithm.loss_type, plain if algorithm.loss_type == "grpo" else algorithm.loss_type.upper())


def overlap(steps: Sequence[StepMetrics]) -> float:
    """How many times as long as the longer of computing and judging a step takes, in the median; 1 hides the other."""
    longer = [max(row["generate"] + row["update"], row["verify"]) for row in steps]
    return float(statistics.median(row["seconds"] / least for row, least in zip(steps, longer, strict=True)))


def active_parts(
    job: TrainingJob, model: torch.nn.Module, loss_type: str, steps: Sequence[StepMetrics]
) -> dict[str, Any]:
    """By part: quantization, adapter, loss, discard, curriculum, FGO, KL. For the run record.

    `loss_type` is the one that trl computes.
    """
    first, last = (steps[0], steps[-1]) if steps else ({}, {})
    return {
        "quantization": {"kind": job.policy.quantization, "linear_4bit_layers": sum(map(_is_4bit, model.modules()))},
        "adapter": {"rank": job.adapter.rank if job.adapter.enabled else None, **_trained(model)},
        "loss": {
            "algorithm": algorithm_name(job.algorithm),
            "ratio": job.algorithm.ratio,
            "loss_type": loss_type,
            "clip_fraction_mean": _total(steps, "clip_fraction") / max(1, len(steps)),
            "updates_taken": len(steps) * job.algorithm.num_minibatches - _total(steps, "skipped_updates"),
            "updates_skipped": _total(steps, "skipped_updates"),
        },
        "discard": {name: _total(steps, f"{name}_groups") for name in ("kept", "tied", "infra")},
        "cccs": {
            "completions_with_a_prefix": round(_total(steps, "prefixed") * job.trainer.batch_size),
            "prefix_frac_first": first.get("prefix_frac"),
            "prefix_frac_last": last.get("prefix_frac"),
        },
        "fgo": {name: _total(steps, name) for name in ("focused_rows", "masked_tokens")},
        "kl": {
            "coefficient": job.algorithm.kl_coeff,
            "at_the_start": first.get("start_kl"),
            "ratio_error_at_the_start": first.get("start_ratio_error"),
            "last": next((row["kl"] for row in reversed(steps) if row.get("kl") is not None), None),
        },
        "seconds_a_step": {name: _median(steps, name) for name in ("generate", "wait", "update", "seconds", "verify")},
    }


def _trained(model: torch.nn.Module) -> dict[str, Any]:
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    return {
        "layers": sorted({name.split(".lora_")[0].rpartition(".")[2] for name in trained if ".lora_" in name}),
        "trained_tensors": len(trained),
        "dtypes": sorted({str(p.dtype).removeprefix("torch.") for p in trained.values()}),
    }


def _total(steps: Sequence[StepMetrics], name: str) -> float:
    return sum(row.get(name) or 0.0 for row in steps)


def _median(steps: Sequence[StepMetrics], name: str) -> float | None:
    return statistics.median(row[name] for row in steps) if steps else None


def _is_4bit(module: torch.nn.Module) -> bool:
    """A layer of bitsandbytes; peft's wrapper around one has the same name."""
    kind = type(module)
    return kind.__name__ == "Linear4bit" and kind.__module__.startswith("bitsandbytes")
