"""Adapters folded into the base and out again to the bit, and several adapters made one.

W + s B A rounds, so subtracting s B A does not give W back: in bfloat16 most weights come back changed. `Merge` keeps
the original tensors instead, which costs their memory, and puts them back. Adapters are combined as the weight
differences that they are: A and B alone have no meaning (A and B times any invertible matrix and its inverse are the
same adapter), so the mean of several A and of several B is not the mean of the adapters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Literal

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer

from rlvr_cpp.adapters.fit import base_of, quantization_of
from rlvr_cpp.errors import UserError
from rlvr_cpp.policy.merged import layers_merged

Method = Literal["average", "ties", "dare"]
METHODS: Mapping[Method, str] = {"average": "cat", "ties": "ties_svd", "dare": "dare_linear_svd"}
"""Ours to peft's names: the exact sum of ranks; TIES (arXiv 2306.01708) and DARE (arXiv 2311.03099) on B A."""


class Merge:
    """The active adapters of a model in its base weights, until `undo` gives every weight its own bits back.

    Also a context manager. While merged the model answers without the cost of adapters; none can be switched. Raises
    UserError for a quantized base, whose merged weights would be rounded to 4 bits, and for one that is merged already.
    """

    def __init__(self, model: PeftModel) -> None:
        if quantization_of(model) is not None:
            raise UserError("the base is quantized, and merged weights would be rounded to 4 bits: load it unquantized")
        layers = [module for module in base_of(model).modules() if isinstance(module, LoraLayer)]
        if any(layer.merged for layer in layers):
            raise UserError("an adapter is merged into the model's weights already: undo that first")
        self._merged = ExitStack()
        self._merged.enter_context(layers_merged(layers))

    def undo(self) -> None:
        """Put the original weights back; a second time it does nothing."""
        self._merged.close()

    def __enter__(self) -> Merge:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.undo()


def combine_adapters(
    model: PeftModel,
    adapters: Sequence[str],
    *,
    into: str,
    method: Method = "average",
    density: float = 0.5,
    rank: int | None = None,
    seed: int = 0,
) -> None:
    """Make the loaded `adapters` one new adapter `into` beside them; `model.set_adapter(into)` then switches to it.

    `average` is the exact mean of their weight differences and has the sum of their ranks. `ties` keeps the largest
    `density` of each difference, takes the sign with more weight for each entry and the mean of those that have it;
    `dare` drops each entry with probability 1 - `density`, by `seed`, divides the others by `density` and takes the
    mean. What `ties` and `dare` give is brought to `rank` (the sum of ranks by default) by singular values.

    Raises UserError for a name that is not loaded or is taken, an unknown method, or a density outside (0, 1].
    """
    _check(model, adapters, into, method, density)
    equal = 1.0 if method == "ties" else 1.0 / len(adapters)  # TIES divides by the number that agree
    ranks = sum(model.peft_config[name].r for name in adapters)
    arguments = {} if method == "average" else {"density": density, "svd_rank": rank or ranks}
    with torch.random.fork_rng([model.device] if model.device.type == "cuda" else []):
        torch.manual_seed(seed)
        model.base_model.add_weighted_adapter(
            list(adapters), [equal] * len(adapters), into, METHODS[method], svd_full_matrices=False, **arguments
        )


def _check(model: PeftModel, adapters: Sequence[str], into: str, method: Method, density: float) -> None:
    unknown = [name for name in adapters if name not in model.peft_config]
    if unknown or len(adapters) < 2:
        raise UserError(f"adapters are {list(adapters)}: give two or more of {', '.join(model.peft_config)}")
    if into in model.peft_config:
        raise UserError(f"into is {into!r}, which the model has already: give another name")
    if method not in METHODS:
        raise UserError(f"method is {method!r}: use one of {', '.join(METHODS)}")
    if not 0 < density <= 1:
        raise UserError(f"density is {density}: it is the share of entries that stay, above 0 and at most 1")
