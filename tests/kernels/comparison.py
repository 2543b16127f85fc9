"""One way to hold a kernel against its float64 reference: outputs, and the gradient of every input."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Operation = Callable[..., Any]
CHECKS = ("test_schema", "test_autograd_registration", "test_faketensor")
"""What `torch.library.opcheck` is asked for: all that torch.compile needs, without compiling."""
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def outputs_and_gradients(operation: Operation, inputs: Sequence[Tensor | None]) -> tuple[list[Tensor], list[Tensor]]:
    """Of a fixed weighted sum of all outputs, with respect to the inputs that are floating."""
    leaves = [
        value.detach().clone().requires_grad_() if value is not None and value.is_floating_point() else value
        for value in inputs
    ]
    result = operation(*leaves)
    outputs = [result] if isinstance(result, Tensor) else list(torch.utils._pytree.tree_leaves(result))
    stream = torch.Generator().manual_seed(1)
    total = torch.zeros((), dtype=torch.float64)
    for output in outputs:
        weight = torch.randn(output.shape, generator=stream, dtype=torch.float64)
        total = total + (output.double().cpu() * weight).sum()
    wanted = [leaf for leaf in leaves if leaf is not None and leaf.is_floating_point()]
    return outputs, list(torch.autograd.grad(total, wanted))


def assert_kernel_matches(
    operation: Operation, inputs: Sequence[Tensor | None], tolerance: float = 1e-5, dtype: torch.dtype = torch.float32
) -> None:
    """`operation(*inputs, backend=...)`: Triton in `dtype` against the reference in float64, relative to the largest."""
    cast = [
        value.to(DEVICE, dtype) if value is not None and value.is_floating_point() else _moved(value)
        for value in inputs
    ]
    exact = [value.double() if value is not None and value.is_floating_point() else value for value in cast]
    expected = outputs_and_gradients(lambda *given: operation(*given, backend="reference"), exact)
    found = outputs_and_gradients(lambda *given: operation(*given, backend="triton"), cast)
    errors = {
        f"{kind} {place}": _relative_error(reference, value)
        for kind, wanted, got in zip(("output", "gradient"), expected, found, strict=True)
        for place, (reference, value) in enumerate(zip(wanted, got, strict=True))
    }
    assert max(errors.values()) <= tolerance, {name: f"{error:.1e}" for name, error in errors.items()}


def _relative_error(reference: Tensor, value: Tensor) -> float:
    assert value.shape == reference.shape
    return ((value.double() - reference).abs().max() / (reference.abs().max() + 1e-12)).nan_to_num(torch.inf).item()


def _moved(value: Tensor | None) -> Tensor | None:
    return None if value is None else value.to(DEVICE)
