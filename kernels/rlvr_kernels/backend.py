"""Which implementation of an operation runs: the plain PyTorch reference or the Triton kernel.

Both have one signature, so the choice is a word. Left open, it is made by where the tensors live: Triton wants a GPU,
and float64, which exists to check the others, is only in the references. Nothing falls back in silence: who asks for
`triton` and cannot have it is told why.
"""

from __future__ import annotations

import os

import torch
from torch import Tensor

BACKENDS = ("reference", "triton")


def choose(backend: str | None, *tensors: Tensor | None) -> str:
    """`reference` or `triton` for an operation on these tensors; None for `backend` leaves the choice to them.

    Raises ValueError for an unknown name, and for `triton` on tensors that Triton cannot take.
    """
    given = [tensor for tensor in tensors if tensor is not None]
    obstacle = _obstacle(given)
    if backend is None:
        return "reference" if obstacle else "triton"
    if backend not in BACKENDS:
        raise ValueError(
            f"backend={backend!r} is unknown: use one of {', '.join(BACKENDS)}, or None to choose by device."
        )
    if backend == "triton" and obstacle and not (interpreting() and obstacle == _ON_CPU):
        raise ValueError(f"backend='triton' cannot run here: {obstacle}. Leave backend=None or use 'reference'.")
    return backend


def interpreting() -> bool:
    """Whether Triton interprets its kernels on the CPU, which is how they are tested without a GPU."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def widened(x: Tensor) -> Tensor:
    """`x` in float32, or in float64 if it was: the precision in which statistics, softmax and states are kept."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def resident_programs(x: Tensor) -> int:
    """How many programs a kernel that loops over its rows should start: a few for each multiprocessor."""
    return 4 * torch.cuda.get_device_properties(x.device).multi_processor_count if x.is_cuda else 2


_ON_CPU = "a tensor is on the CPU"


def _obstacle(tensors: list[Tensor]) -> str | None:
    if any(tensor.dtype == torch.float64 for tensor in tensors):
        return "a tensor is float64, which only the reference computes"
    if not all(tensor.is_cuda for tensor in tensors):
        return _ON_CPU
    return None
