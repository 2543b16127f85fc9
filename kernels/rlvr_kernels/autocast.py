"""What `torch.autocast` does to the operands of a product, for operators that it does not know."""

from __future__ import annotations

import torch
from torch import Tensor


def autocast(x: Tensor) -> Tensor:
    """`x` in the dtype in which a product would take it: float64 stays, and so does all where autocast is off."""
    device = x.device.type
    if x.dtype == torch.float64 or not torch.is_autocast_enabled(device):
        return x
    return x.to(torch.get_autocast_dtype(device))
