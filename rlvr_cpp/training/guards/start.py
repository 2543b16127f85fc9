"""The guards of a run's start: what is known before the first step and around the first update.

By then a run that will learn nothing can be told by its optimizer, by the bits of its weights, or by a policy that is
not the one that sampled. Each function gives a finding with cause and fix, or None.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch

from rlvr_cpp.policy.weights import whole
from rlvr_cpp.training.guards.guards import Finding

GRADIENT_TOLERANCE = 0.05
"""Share of a tensor's gradient that another kernel's rounding in 16 bits may change."""


def empty_optimizer(parameters: Iterable[torch.Tensor], param_groups: Iterable[Mapping[str, Any]]) -> Finding | None:
    """Always fatal: none of the model's trainable `parameters` is in the optimizer's `param_groups`."""
    held = {id(parameter) for group in param_groups for parameter in group["params"]}
    if any(p.requires_grad and p.numel() > 0 and id(p) in held for p in parameters):
        return None
    return Finding(
        "empty_optimizer",
        "the optimizer holds no trainable parameter of the model, so nothing would be trained: load the adapter with "
        "is_trainable=True, or enable one with adapter.enabled=true",
        fatal=True,
    )


def fingerprint(parameters: Iterable[tuple[str, torch.Tensor]]) -> dict[str, int]:
    """A checksum of the bits of each trainable parameter by name: what `nothing_moved` compares, without a copy."""
    trained = ((name, parameter) for name, parameter in parameters if parameter.requires_grad)
    return {name: _checksum(tensor) for name, tensor in whole(trained)}


def _checksum(tensor: torch.Tensor, chunk: int = 1 << 20) -> int:
    integers = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    bits = tensor.contiguous().flatten().view(integers[tensor.element_size()])
    total = 0
    for first in range(0, len(bits), chunk):
        part = bits[first : first + chunk].long()
        places = torch.arange(first + 1, first + 1 + len(part), device=part.device)
        total += int((part * places).sum())
    return total


def nothing_moved(
    before: Mapping[str, int], after: Mapping[str, int], learning_rate: float, *, action: str = "stop"
) -> Finding | None:
    """Whether the first update changed no bit of any parameter, by the `fingerprint` before and after it.

    `learning_rate` is the one of that update: at 0, as a warm-up begins, nothing has to move, so ask after the next.
    """
    if learning_rate == 0 or before != after:
        return None
    return Finding(
        "nothing_moved",
        f"the first update at a learning rate of {learning_rate:g} changed none of {len(before)} trainable tensors: "
        "keep them in float32, raise trainer.learning_rate, or look whether the optimizer holds this model's tensors",
        action == "stop",
    )


def coarse_dtype(
    parameters: Iterable[tuple[str, torch.Tensor]], learning_rate: float, *, sample: int = 1 << 16
) -> Finding | None:
    """A warning for the start: a step of `learning_rate`, which is about Adam's, rounds to nothing in typical entries.

    In bfloat16 that is so from |w| > 256 to 512 learning rates on. A tensor counts where more than half of its entries
    (of `sample`, evenly spaced) would not change.
    """
    if learning_rate == 0:
        return None
    trainable = [(name, p) for name, p in parameters if p.requires_grad and p.numel() > 0]
    coarse = [
        (name, str(p.dtype).removeprefix("torch."))
        for name, p in whole(trainable)
        if _unchanged_share(p, learning_rate, sample) > 0.5
    ]
    if not coarse:
        return None
    name, dtype = coarse[0]
    return Finding(
        "coarse_dtype",
        f"trainer.learning_rate {learning_rate:g} is too small to change a typical entry of {len(coarse)} of "
        f"{len(trainable)} trainable tensors in {dtype}, such as {name}: keep the trained weights in float32, or raise "
        "the rate",
        fatal=False,
    )


def _unchanged_share(tensor: torch.Tensor, step: float, sample: int) -> float:
    entries = tensor.flatten()[:: max(1, tensor.numel() // sample)]
    stepped = (entries.double() + step).to(entries.dtype)
    return float((stepped == entries).double().mean())


def gradients_differ(
    before: Mapping[str, torch.Tensor], after: Mapping[str, torch.Tensor], *, action: str = "stop"
) -> Finding | None:
    """Whether the gradients of one loss, by the name of what is trained, are others behind an evaluation than before.

    A quantiser may lay out its weights anew for inference, in a way that its backward pass does not know.
    """
    errors = {name: _relative_error(before[name], after[name]) for name in before}
    off = {name: error for name, error in errors.items() if not error <= GRADIENT_TOLERANCE}
    if not off:
        return None
    worst = max(off, key=lambda name: off[name])
    return Finding(
        "gradients_differ",
        f"after an evaluation the gradients of {len(off)} of {len(before)} trained tensors are others than before it, "
        f"by up to {off[worst]:.2g} of their size in {worst}, so that training would follow wrong ones: take another "
        "version of the quantiser's package, or policy.quantization=null",
        action == "stop",
    )


def _relative_error(wanted: torch.Tensor, found: torch.Tensor) -> float:
    difference, size = float((found.double() - wanted.double()).norm()), float(wanted.double().norm())
    if size == 0:
        return 0.0 if difference == 0 else math.inf
    return difference / size


def scale_exhausted(scale: float, *, action: str = "stop") -> Finding | None:
    """Whether float16 overflows with a loss that is not scaled at all: then it is the model that does not fit it."""
    if scale >= 1:
        return None
    return Finding(
        "scale_exhausted",
        "gradients in float16 overflow although the loss is no longer scaled, so that no update is taken: this model's "
        "values do not fit float16; use policy.dtype=bfloat16 or float32",
        action == "stop",
    )


def start_differs(
    max_ratio_error: float, mean_kl: float | None, dtype: torch.dtype, *, action: str = "stop"
) -> Finding | None:
    """Whether the policy that sampled, the one in training and the reference differ before any update.

    `max_ratio_error` is max |ratio - 1| of a fresh run's first batch. `mean_kl` is its KL to the reference; None where
    there is no reference or it is not meant to equal the start. `dtype` is the one of the computation.
    """
    tolerance = 5e-2 if dtype in (torch.bfloat16, torch.float16) else 1e-4
    numbers = {"max |ratio - 1|": max_ratio_error, "the mean KL to the reference": mean_kl}
    off = [f"{what} is {x:.3g}" for what, x in numbers.items() if x is not None and not abs(x) <= tolerance]
    if not off:
        return None
    return Finding(
        "start_differs",
        f"before any update {' and '.join(off)}, above {tolerance:g}, so the policy that sampled, the one in training "
        "and the reference are not the same: look for dropout, another dtype or temperature, or an adapter that one "
        "of them lacks",
        action == "stop",
    )
