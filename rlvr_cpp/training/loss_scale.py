"""Loss scaling for a policy that computes in float16 (arXiv 1710.03740, section 3.2).

float16 ends at 6e-8 below and at 65504 above. A loss that is multiplied by a large constant lifts the gradients inside
the model out of the zero below; those of the trained weights, which are float32, are divided by it again before they
are clipped. An update in which one overflowed is not taken and halves the constant, and a long time without doubles it.
It is torch.amp.GradScaler's rule with its constants, here because that one only works on GPUs, cannot leave out an
update without a live row, and is no part of a state that resumes exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

GROWTH_INTERVAL = 2000
"""Updates in a row without an overflow, after which the scale doubles."""


@dataclass
class LossScale:
    """The constant, and what is known of how well it fits."""

    value: float = 65536.0
    steady: int = 0
    """Updates since the last overflow or doubling."""

    def unscale(self, parameters: Sequence[torch.nn.Parameter]) -> bool:
        """Divide the gradients by the scale; tells whether all of them are finite."""
        gradients = [p.grad for p in parameters if p.grad is not None]
        for gradient in gradients:
            gradient.div_(self.value)
        return all(bool(gradient.isfinite().all()) for gradient in gradients)

    def update(self, overflowed: bool) -> None:
        """Adapt the scale to what the last update showed."""
        self.steady = 0 if overflowed else self.steady + 1
        if overflowed:
            self.value /= 2
        elif self.steady == GROWTH_INTERVAL:
            self.value, self.steady = self.value * 2, 0
