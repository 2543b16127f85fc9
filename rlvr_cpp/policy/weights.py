"""Weights as one process sees them: whole where processes share them out, and the hash that tells two sets apart."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

import torch
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor


def is_shared_out(model: torch.nn.Module) -> bool:
    """Whether a forward pass asks the other processes for their parts of the weights, so that all must make it."""
    return isinstance(model, FSDPModule)


def whole(named: Iterable[tuple[str, torch.Tensor]]) -> Iterator[tuple[str, torch.Tensor]]:
    """The same tensors, each whole until the next is asked for; every process must ask for all, in one order."""
    for name, tensor in named:
        if isinstance(tensor, DTensor):
            yield name, tensor.full_tensor().detach()
        elif hasattr(tensor, "ds_id"):
            from deepspeed import zero

            with zero.GatheredParameters([tensor]):
                yield name, tensor.detach()
        else:
            yield name, tensor.detach()


def weights_hash(named: Iterable[tuple[str, torch.Tensor]]) -> str:
    """SHA-256 over names, shapes and bytes, in the order of names."""
    digest = hashlib.sha256()
    for name, tensor in whole(sorted(named, key=lambda item: item[0])):
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
        digest.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
