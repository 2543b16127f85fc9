"""Manifold-constrained hyper-connections (mHC, arXiv 2512.24880): n residual streams in the place of one.

A branch, which is a mixer or a feed-forward, reads a weighted sum of a token's streams and writes back to all of them,
while a nearly doubly stochastic matrix mixes them; all weights are functions of the token's streams. Nothing here looks
at another token: pooled over time, a stream would show a token its future.

At the start the model is the plain residual network: what a branch reads sums to one stream, what it writes enters each
of the equal streams once, and mixing equal streams changes nothing. Were the reading weights equal, too, the streams
would have equal gradients and stay equal for ever; so branch i reads stream i mod n the most.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from transformers import initialization

from rlvr_kernels.autocast import in_given_precision
from rlvr_kernels.backend import widened
from rlvr_kernels.rms_norm import rms_norm
from rlvr_kernels.sinkhorn import read_streams, sinkhorn, write_streams
from rlvr_model.configuration import HybridConfig

DYNAMIC_SCALE = 0.01
"""Initial factor on what a token adds to the static weights."""
RETAINED = 0.9
"""Initial share of a stream that mixing leaves where it is."""


def open_streams(hidden_states: Tensor, branches: int) -> Tensor:
    """(B, T, n, d): `branches` equal streams of hidden states (B, T, d)."""
    return hidden_states[..., None, :].expand(*hidden_states.shape[:-1], branches, -1)


class HyperConnection(nn.Module):
    """The residual connection around the branch of number `index`, which counts mixers and feed-forwards alike."""

    def __init__(self, config: HybridConfig, index: int) -> None:
        super().__init__()
        streams = config.mhc_num_branches
        self.config = config
        self.most_read = index % streams
        weights = (2 + streams) * streams
        # Parameters, not a linear layer, so that neither quantization nor an adapter takes them for one.
        self.phi = nn.Parameter(torch.empty(weights, streams * config.hidden_size))
        self.scales = nn.Parameter(torch.empty(3))
        self.bias = nn.Parameter(torch.empty(weights))
        self.reset()

    def reset(self) -> None:
        """Start as a plain residual connection."""
        initialization.zeros_(self.phi)
        initialization.constant_(self.scales, DYNAMIC_SCALE)
        initialization.copy_(self.bias, self._plain_residual())

    def forward(self, streams: Tensor, branch: Callable[[Tensor], Tensor]) -> Tensor:
        """The streams (B, T, n, d) after `branch`, which maps (B, T, d) to (B, T, d)."""
        pre, post, mixing = self.weights(streams)
        return write_streams(streams, branch(read_streams(streams, pre)), post, mixing)

    def weights(self, streams: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What each token of streams (B, T, n, d) reads (B, T, n), writes (B, T, n) and mixes (B, T, n, n).

        At least float32. Streams i become streams j by sum_i mixing_ij streams_i, and sum_i mixing_ij is 1.
        """
        config, count = self.config, self.config.mhc_num_branches
        sizes = [count, count, count**2]
        dynamic = torch.split(_projected(streams, self.phi, config.rms_norm_eps), sizes, dim=-1)
        static = torch.split(self.bias, sizes)
        pre, post, mixing = (x * scale + bias for x, scale, bias in zip(dynamic, self.scales, static, strict=True))
        matrix = sinkhorn(
            mixing.unflatten(-1, (count, count)),
            iterations=config.mhc_sinkhorn_iters,
            temperature=config.mhc_temperature,
            epsilon=config.mhc_epsilon,
            blend=config.mhc_blend_alpha,
        )
        return pre.sigmoid(), 2 * post.sigmoid(), matrix

    def _plain_residual(self) -> Tensor:
        """((2 + n) n) biases: reading weights that sum to 1, writing weights of 1, mixing near the identity."""
        count = self.config.mhc_num_branches
        most = (count + 1) / (2 * count)
        read = torch.full((count,), (1 - most) / (count - 1))
        read[self.most_read] = most
        kept = math.log(RETAINED * (count - 1) / (1 - RETAINED)) * self.config.mhc_temperature
        return torch.cat([read.logit(), torch.zeros(count), kept * torch.eye(count).flatten()])


class StreamCollapse(nn.Module):
    """One hidden state of n streams, weighted by the token; at the start their mean."""

    def __init__(self, config: HybridConfig) -> None:
        super().__init__()
        streams = config.mhc_num_branches
        self.eps = config.rms_norm_eps
        self.phi = nn.Parameter(torch.empty(streams, streams * config.hidden_size))
        self.scale = nn.Parameter(torch.empty(1))
        self.bias = nn.Parameter(torch.empty(streams))
        self.reset()

    def reset(self) -> None:
        """Start as the mean of the streams."""
        initialization.zeros_(self.phi)
        initialization.constant_(self.scale, DYNAMIC_SCALE)
        initialization.constant_(self.bias, -math.log(len(self.bias) - 1))

    def forward(self, streams: Tensor) -> Tensor:
        """(B, T, d) of streams (B, T, n, d)."""
        weights = _projected(streams, self.phi, self.eps) * self.scale + self.bias
        return read_streams(streams, weights.sigmoid())


@in_given_precision
def _projected(streams: Tensor, phi: Tensor, eps: float) -> Tensor:
    """(B, T, k) in at least float32: a token's streams (B, T, n, d), normalised as one vector, by `phi` (k, n d)."""
    token = rms_norm(widened(streams.flatten(-2)), eps=eps)
    return token @ phi.to(token.dtype).T
