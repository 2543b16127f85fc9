"""What `torch.autocast` does to the operands of a product: for operators it does not know, and where it must not."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")


def autocast(x: Tensor) -> Tensor:
    """`x` in the dtype in which a product would take it: float64 stays, and so does all where autocast is off."""
    device = x.device.type
    if x.dtype == torch.float64 or not torch.is_autocast_enabled(device):
        return x
    return x.to(torch.get_autocast_dtype(device))


def in_given_precision(function: Callable[Concatenate[Tensor, P], R]) -> Callable[Concatenate[Tensor, P], R]:
    """Keep autocast from narrowing products inside of `function`: states and scores are float32 for a reason."""

    @wraps(function)
    def exact(first: Tensor, /, *others: P.args, **named: P.kwargs) -> R:
        device = first.device.type
        if not torch.amp.is_autocast_available(device) or not torch.is_autocast_enabled(device):
            return function(first, *others, **named)
        with torch.autocast(device, enabled=False):
            return function(first, *others, **named)

    return exact
