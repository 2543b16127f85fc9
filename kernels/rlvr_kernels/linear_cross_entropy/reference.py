"""The loss of a language-model head in plain PyTorch: a chunk of rows at a time, its logits made again in backward."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from rlvr_kernels.backend import widened


def token_losses(
    hidden: Tensor, weight: Tensor, targets: Tensor, softcap: float | None, z_loss: float, ignore_index: int, rows: int
) -> Tensor:
    """(N,) losses in at least float32 of hidden (N, d), holding the logits of `rows` rows at a time."""
    settings = (softcap, z_loss, ignore_index)
    losses = []
    for begin in range(0, max(len(hidden), 1), rows):
        chunk = slice(begin, begin + rows)
        losses.append(checkpoint(_chunk, hidden[chunk], weight, targets[chunk], *settings, use_reentrant=False))
    return torch.cat(losses)


def _chunk(
    hidden: Tensor, weight: Tensor, targets: Tensor, softcap: float | None, z_loss: float, ignore_index: int
) -> Tensor:
    logits = widened(hidden @ weight.to(hidden.dtype).T)
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    log_normalizer = logits.logsumexp(dim=-1)
    counted = targets != ignore_index
    wanted = logits.gather(-1, targets.where(counted, 0)[:, None])[:, 0]
    return torch.where(counted, log_normalizer - wanted + z_loss * log_normalizer.square(), 0.0)
