"""The Mamba-3 mixer (arXiv 2603.15569): a linear recurrence with complex-valued state and trapezoidal steps, no conv.

The layer has the parameters and names of the authors' own, so that a SISO checkpoint of theirs fits; the recurrence
itself is `rlvr_kernels.mamba3`, in chunks for whole rows and token by token for decoding. Padding takes a step of no
length with no input, which leaves every state as it was, and a document of a packed row begins with an empty one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import initialization

from rlvr_kernels.backend import widened
from rlvr_kernels.mamba3 import Mamba3State, Mamba3Weights, mamba3, mamba3_step
from rlvr_kernels.mamba3.reference import gate
from rlvr_kernels.rms_norm import rms_norm
from rlvr_model.configuration import HybridConfig
from rlvr_model.context import LayerContext
from rlvr_model.layers import RMSNorm

NORM_EPS = 1e-5


@dataclass(frozen=True)
class AuthorMamba3Config:
    """What the authors' Mamba-3 layer is built from, by their names.

    Raises ValueError where these numbers make no layer.
    """

    d_model: int
    d_state: int
    """Columns of the state (N)."""
    expand: int
    headdim: int
    """Channels of a head (P)."""
    ngroups: int
    """Groups of heads that share B and C."""
    rope_fraction: float = 0.5
    """Share of the state's columns that rotate; 0: a real-valued state."""
    dt_min: float = 1e-3
    dt_max: float = 0.1
    dt_init_floor: float = 1e-4
    A_floor: float = 1e-4
    """The slowest decay rate."""
    is_outproj_norm: bool = False
    """Normalise each head before the gate."""
    is_mimo: bool = False
    mimo_rank: int = 4
    chunk_size: int = 64
    """Tokens that are computed at once; changes no result."""
    A_act: str = "softplus"
    """What makes a decay rate positive: `softplus`, or `heavy_tail`: 1 + x above 0 and 1 / (1 - x) below."""

    def __post_init__(self) -> None:
        if self.d_inner % self.headdim:
            raise ValueError(
                f"expand * d_model is {self.d_inner} and headdim {self.headdim}: heads are to be whole; take a divisor"
            )
        if self.num_heads % self.ngroups:
            raise ValueError(
                f"ngroups is {self.ngroups} for {self.num_heads} heads: groups are to be of equal size; take a divisor"
            )
        if self.rope_fraction > 0 and not 2 <= self.d_state * self.rope_fraction <= self.d_state:
            raise ValueError(
                f"rope_fraction is {self.rope_fraction} of d_state {self.d_state}: columns turn in pairs, so take a "
                "share that holds at least one pair, at most 1, or 0 for none"
            )

    @property
    def d_inner(self) -> int:
        """Channels of all heads."""
        return self.expand * self.d_model

    @property
    def num_heads(self) -> int:
        """How many heads there are (H)."""
        return self.d_inner // self.headdim

    @property
    def rank(self) -> int:
        """How many inputs a head takes at once (R); 1 without MIMO."""
        return self.mimo_rank if self.is_mimo else 1

    @property
    def rotation_pairs(self) -> int:
        """How many pairs of the state's columns rotate (S)."""
        return int(self.d_state * self.rope_fraction) // 2

    @property
    def projection(self) -> list[int]:
        """Widths of what `in_proj` makes: z, x, B, C, dt, A, trapezoid and angle."""
        columns = self.d_state * self.ngroups * self.rank
        return [self.d_inner, self.d_inner, columns, columns, *[self.num_heads] * 3, self.rotation_pairs]


def build_author_mamba3_config(config: HybridConfig) -> AuthorMamba3Config:
    """The layer that a model's config asks for.

    `mamba_chunk_size` counts rows of a chunk, of which a token has one per rank.
    """
    return AuthorMamba3Config(
        d_model=config.hidden_size,
        d_state=config.mamba_d_state,
        expand=config.mamba_expand,
        headdim=config.mamba_headdim,
        ngroups=config.mamba_ngroups,
        rope_fraction=config.mamba_rope_fraction if config.mamba_complex_rope else 0.0,
        dt_min=config.mamba_dt_min,
        dt_max=config.mamba_dt_max,
        dt_init_floor=config.mamba_dt_init_floor,
        A_floor=config.mamba_A_floor,
        is_outproj_norm=config.mamba_is_outproj_norm,
        is_mimo=config.mamba_is_mimo,
        mimo_rank=config.mamba_mimo_rank,
        chunk_size=max(config.mamba_chunk_size // (config.mamba_mimo_rank if config.mamba_is_mimo else 1), 1),
        A_act=config.mamba_A_act,
    )


class Mamba3(nn.Module):
    """Mamba-3, SISO or MIMO, as layer `layer_idx` of a hybrid model."""

    no_weight_decay: ClassVar[tuple[str, ...]] = (
        *("dt_bias", "B_bias", "C_bias", "D", "mimo_x", "mimo_z", "mimo_o"),
        *("B_norm.weight", "C_norm.weight", "norm.weight"),
    )
    """Parameters that are rates, biases and gains, whose natural value is not 0."""

    def __init__(self, config: HybridConfig, layer_idx: int) -> None:
        super().__init__()
        self.layer_idx = layer_idx
        self.shape = shape = build_author_mamba3_config(config)
        self.backend = _installed_backend(config.mamba_backend)
        heads, rank = shape.num_heads, shape.rank
        self.in_proj = nn.Linear(shape.d_model, sum(shape.projection), bias=False)
        self.out_proj = nn.Linear(shape.d_inner, shape.d_model, bias=False)
        self.B_norm = RMSNorm(shape.d_state, NORM_EPS)
        self.C_norm = RMSNorm(shape.d_state, NORM_EPS)
        self.B_bias = nn.Parameter(torch.empty(heads, rank, shape.d_state))
        self.C_bias = nn.Parameter(torch.empty(heads, rank, shape.d_state))
        self.dt_bias = nn.Parameter(torch.empty(heads))
        self.D = nn.Parameter(torch.empty(heads))
        if shape.is_mimo:
            self.mimo_x = nn.Parameter(torch.empty(heads, rank, shape.headdim))
            self.mimo_z = nn.Parameter(torch.empty(heads, rank, shape.headdim))
            self.mimo_o = nn.Parameter(torch.empty(heads, rank, shape.headdim))
        if shape.is_outproj_norm:
            self.norm = RMSNorm(shape.d_inner, NORM_EPS)
        self.reset()

    def reset(self) -> None:
        """Steps from dt_min to dt_max, evenly on a logarithmic scale; MIMO begins as its ranks' mean."""
        shape = self.shape
        for parameter in (self.B_bias, self.C_bias, self.D):
            initialization.ones_(parameter)
        low, high = math.log(shape.dt_min), math.log(shape.dt_max)
        steps = torch.empty_like(self.dt_bias).uniform_(low, high).exp().clamp(min=shape.dt_init_floor)
        initialization.copy_(self.dt_bias, steps + torch.log(-torch.expm1(-steps)))  # the inverse of softplus
        if shape.is_mimo:
            initialization.constant_(self.mimo_x, 1 / shape.rank)
            initialization.ones_(self.mimo_z)
            initialization.constant_(self.mimo_o, 1 / shape.rank)

    def forward(self, hidden_states: Tensor, context: LayerContext) -> Tensor:
        """(B, T, d) for hidden states (B, T, d)."""
        tokens, gates = self._tokens(hidden_states, context.attention_mask)
        scanned, state = self._scan(tokens, context)
        if self.shape.is_outproj_norm:
            gain = self.norm.weight.view(-1, self.shape.headdim)
            scanned = gate(widened(rms_norm(scanned, eps=NORM_EPS)) * gain, gates, self._weights())
        self._remember(state, context)
        output: Tensor = self.out_proj(scanned.flatten(-2).to(hidden_states.dtype))
        return output

    def _tokens(self, hidden_states: Tensor, mask: Tensor | None) -> tuple[_Tokens, Tensor]:
        """What each token brings to the scan, and its gates (B, T, H, P), which are left out there if a norm is due.

        Padding brings a step of no length and no input.
        """
        shape = self.shape
        z, x, b, c, dt, a, trapezoid, angle = torch.split(self.in_proj(hidden_states), shape.projection, dim=-1)
        z, x = (torch.unflatten(channels, -1, (shape.num_heads, shape.headdim)) for channels in (z, x))
        b, c = (torch.unflatten(columns, -1, (shape.rank, shape.ngroups, shape.d_state)) for columns in (b, c))
        dt = functional.softplus(widened(dt) + self.dt_bias)
        if mask is not None:
            x, dt = x * mask[..., None, None], dt * mask[..., None]
        inside = None if shape.is_outproj_norm else z
        return _Tokens(x, inside, self.B_norm(b), self.C_norm(c), dt, self._decay(widened(a)), trapezoid, angle), z

    def _decay(self, raw: Tensor) -> Tensor:
        """(B, T, H), at most -A_floor."""
        if self.shape.A_act == "softplus":
            rate = functional.softplus(raw)
        else:
            rate = torch.where(raw >= 0, 1 + raw, 1 / (1 - raw.clamp(max=0)))
        return -rate.clamp(min=self.shape.A_floor)

    def _scan(self, tokens: _Tokens, context: LayerContext) -> tuple[Tensor, Mamba3State]:
        """(B, T, H, P) gated, or (B, T, R, H, P) where a norm comes before the gate, and the state at the end."""
        weights, state = self._weights(), self._remembered(context)
        one_step = state is not None and tokens.x.shape[1] == 1
        if self.backend == "mamba_ssm" and not one_step:
            return _mamba_ssm_scan(tokens, weights, state, context.document_ids, self.shape.chunk_size)
        tokens = tokens._replace(trapezoid=widened(tokens.trapezoid).sigmoid())
        backend = None if self.backend in ("auto", "mamba_ssm") else self.backend
        if state is None or not one_step:
            documents, chunk = context.document_ids, self.shape.chunk_size
            return mamba3(*tokens, weights, document_ids=documents, state=state, chunk_size=chunk, backend=backend)
        y, left = mamba3_step(*tokens.each(lambda value: value[:, 0]), weights, state, backend=backend)
        return y[:, None], left

    def _weights(self) -> Mamba3Weights:
        mixes = (self.mimo_x, self.mimo_z, self.mimo_o) if self.shape.is_mimo else (None, None, None)
        return Mamba3Weights(self.B_bias, self.C_bias, self.D, *mixes)

    def _remembered(self, context: LayerContext) -> Mamba3State | None:
        cache = context.past_key_values
        if cache is None or cache.get_recurrent_state(self.layer_idx, 0) is None:
            return None
        return Mamba3State(*(cache.get_recurrent_state(self.layer_idx, part) for part in range(4)))

    def _remember(self, state: Mamba3State, context: LayerContext) -> None:
        cache = context.past_key_values
        if cache is None:
            return
        for part, value in enumerate(state):
            cache.update_recurrent_state(value, self.layer_idx, state_idx=part)
            cache.layers[self.layer_idx].has_previous_state[part] = True  # only convolutions set it by themselves


class _Tokens(NamedTuple):
    """The arguments of the scan, in their order."""

    x: Tensor
    """(B, T, H, P)."""
    z: Tensor | None
    """(B, T, H, P), gates before their SiLU."""
    b: Tensor
    """(B, T, R, G, N), normalised."""
    c: Tensor
    """(B, T, R, G, N), normalised."""
    dt: Tensor
    """(B, T, H), length of the step, 0 at padding."""
    a: Tensor
    """(B, T, H), decay rates, negative."""
    trapezoid: Tensor
    """(B, T, H), share of the step at its end; a logit until the scan wants it in (0, 1)."""
    angle: Tensor
    """(B, T, S), turning rates before their tanh."""

    def each(self, change: Callable[[Tensor], Tensor]) -> _Tokens:
        """The same with `change` applied to every tensor that is given."""
        z = None if self.z is None else change(self.z)
        return _Tokens(change(self.x), z, *map(change, self[2:]))


def _installed_backend(name: str) -> str:
    if name == "mamba_ssm" and find_spec("mamba_ssm") is None:
        raise ValueError(
            "mamba_backend is 'mamba_ssm', which is not installed: install rlvr-cpp[mamba], or take 'auto'"
        )
    return name


def _mamba_ssm_scan(
    tokens: _Tokens, weights: Mamba3Weights, state: Mamba3State | None, document_ids: Tensor | None, chunk_size: int
) -> tuple[Tensor, Mamba3State]:
    """The scan by the authors' SISO kernels (package mamba_ssm), which compute in bfloat16 on a GPU.

    Packed rows become one row with a list of where documents begin; the state is then not told, being of no use.
    """
    from mamba_ssm.ops.triton.mamba3.mamba3_siso_combined import mamba3_siso_combined

    rows, length, heads, _ = tokens.x.shape
    begins = None
    if document_ids is not None:
        begins = _document_bounds(document_ids)
        tokens = tokens.each(lambda value: value.flatten(0, 1)[None])
    angle = tokens.angle if tokens.angle.shape[-1] else tokens.dt.new_zeros(*tokens.dt.shape[:2], 1)
    y, *final = mamba3_siso_combined(
        Q=tokens.c.squeeze(2),
        K=tokens.b.squeeze(2),
        V=tokens.x,
        ADT=(tokens.a * tokens.dt).transpose(1, 2),
        DT=tokens.dt.transpose(1, 2),
        Trap=tokens.trapezoid.transpose(1, 2),
        Q_bias=weights.c_bias.squeeze(1).float(),
        K_bias=weights.b_bias.squeeze(1).float(),
        Angles=angle[:, :, None].expand(-1, -1, heads, -1).float(),
        D=weights.skip.float(),
        Z=tokens.z,
        Input_States=None if state is None else (state.theta, state.hidden, state.last_b.squeeze(1), state.last_x),
        chunk_size=chunk_size,
        return_final_states=True,
        cu_seqlens=begins,
    )
    theta, hidden, last_b, last_x = map(widened, final)
    y = y.view(rows, length, *y.shape[2:])
    left = Mamba3State(hidden, theta[..., : tokens.angle.shape[-1]], last_b[:, None], last_x)
    return (y[:, :, None] if tokens.z is None else y), left


def _document_bounds(document_ids: Tensor) -> Tensor:
    """(documents + 1) int32: where the documents of rows (B, T), laid end to end, begin, and the end of the last."""
    begins = torch.ones_like(document_ids, dtype=torch.bool)
    begins[:, 1:] = document_ids[:, 1:] != document_ids[:, :-1]
    return functional.pad(begins.flatten().nonzero().flatten(), (0, 1), value=begins.numel()).int()
