"""The Mamba-3 mixer against a loop over tokens, and its state through caches, packed rows and padding."""

import dataclasses
import itertools
import math
import sys
import types
from typing import Any

import pytest
import torch
from torch.nn import functional
from transformers import DynamicCache

from rlvr_model.configuration import HybridConfig
from rlvr_model.context import LayerContext
from rlvr_model.mamba import AuthorMamba3Config, Mamba3, build_author_mamba3_config

WIDTH, BATCH, LENGTH = 16, 2, 11
VARIANTS: dict[str, Any] = {
    "siso": {},
    "groups": {"mamba_ngroups": 2},
    "all columns turn": {"mamba_rope_fraction": 1.0},
    "real": {"mamba_complex_rope": False},
    "mimo": {"mamba_is_mimo": True, "mamba_mimo_rank": 3},
    "norm": {"mamba_is_outproj_norm": True},
    "mimo, norm, heavy tail": {
        "mamba_is_mimo": True,
        "mamba_mimo_rank": 2,
        "mamba_is_outproj_norm": True,
        "mamba_A_act": "heavy_tail",
    },
}


@pytest.fixture(autouse=True)
def _float64():
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)
    torch.set_default_device(None)


def config(**settings):
    sizes = {"mamba_d_state": 8, "mamba_headdim": 8, "mamba_chunk_size": 4}
    return HybridConfig(
        hidden_size=WIDTH, num_hidden_layers=2, block_pattern="MA", num_attention_heads=2, num_key_value_heads=1,
        head_dim=8, vocab_size=8, **(sizes | settings),
    )  # fmt: skip


def mixer(**settings):
    """A layer whose parameters are all off their start."""
    module = Mamba3(config(**settings), 0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return module


def context(batch=BATCH, length=LENGTH, **fields):
    return LayerContext(
        position_ids=torch.arange(length).expand(batch, -1), cos=torch.empty(0), sin=torch.empty(0), **fields
    )


def naive(module, hidden_states):
    """The recurrence of one row (T, d) written out, token by token and head by head."""
    shape, outputs = module.shape, []
    group = shape.num_heads // shape.ngroups
    ones = torch.ones(shape.num_heads, 1, shape.headdim)
    mix_x, mix_z, mix_o = (module.mimo_x, module.mimo_z, module.mimo_o) if shape.is_mimo else (ones, ones, ones)
    state = [torch.zeros(shape.headdim, shape.d_state) for _ in range(shape.num_heads)]
    theta = [torch.zeros(shape.rotation_pairs) for _ in range(shape.num_heads)]
    previous = [torch.zeros(shape.headdim, shape.d_state) for _ in range(shape.num_heads)]
    for token in hidden_states:
        z, x, b, c, dt, a, trapezoid, angle = torch.split(module.in_proj.weight @ token, shape.projection)
        b, c = (v.view(shape.rank, shape.ngroups, shape.d_state) for v in (b, c))
        b = functional.rms_norm(b, (shape.d_state,), module.B_norm.weight, 1e-5)
        c = functional.rms_norm(c, (shape.d_state,), module.C_norm.weight, 1e-5)
        merged = []
        for h in range(shape.num_heads):
            step = functional.softplus(dt[h] + module.dt_bias[h])
            rate = functional.softplus(a[h])
            if shape.A_act == "heavy_tail":
                rate = 1 + a[h] if a[h] >= 0 else 1 / (1 - a[h])
            decay, share = torch.exp(-rate.clamp(min=1e-4) * step), torch.sigmoid(trapezoid[h])
            theta[h] = theta[h] + math.pi * torch.tanh(angle) * step
            channels = slice(h * shape.headdim, (h + 1) * shape.headdim)
            now: Any = 0
            out: Any = 0
            for r in range(shape.rank):
                key = turned(b[r, h // group] + module.B_bias[h, r], theta[h])
                now = now + torch.outer(x[channels] * mix_x[h, r], key)
            state[h] = decay * state[h] + (1 - share) * step * decay * previous[h] + share * step * now
            previous[h] = now
            for r in range(shape.rank):
                query = turned(c[r, h // group] + module.C_bias[h, r], theta[h])
                y = state[h] @ query + module.D[h] * x[channels] * mix_x[h, r]
                if shape.is_outproj_norm:
                    y = functional.rms_norm(y, (shape.headdim,), module.norm.weight[channels], 1e-5)
                out = out + y * functional.silu(z[channels] * mix_z[h, r]) * mix_o[h, r]
            merged.append(out)
        outputs.append(module.out_proj.weight @ torch.cat(merged))
    return torch.stack(outputs)


def turned(v, theta):
    pairs = torch.view_as_complex(v[: 2 * len(theta)].reshape(-1, 2).contiguous()) * torch.polar(
        torch.ones_like(theta), theta
    )
    return torch.cat([torch.view_as_real(pairs).flatten(), v[2 * len(theta) :]])


def close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", VARIANTS)
def test_chunks_and_steps_are_the_recurrence_with_its_gradients(name):
    module = mixer(**VARIANTS[name])
    x = torch.randn(BATCH, LENGTH, WIDTH)
    expected = torch.stack([naive(module, row) for row in x])
    grads = torch.autograd.grad(expected.square().sum(), list(module.parameters()))
    y = module(x, context())
    close(y, expected)
    assert all(grad.abs().max() > 0 for grad in grads)
    for got, want in zip(torch.autograd.grad(y.square().sum(), list(module.parameters())), grads, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)
    for cuts in (list(range(LENGTH + 1)), [0, 1, LENGTH], [0, 5, 6, LENGTH]):
        close(cached(module, x, cuts), expected)


@torch.no_grad()
def cached(module, x, cuts, mask=None):
    """Output (B, T, d) of calls on x[:, cuts[i]:cuts[i + 1]] that share a cache."""
    cache, parts = DynamicCache(config=config()), []
    for start, end in itertools.pairwise(cuts):
        keys = None if mask is None else mask[:, :end]
        fields = {"past_key_values": cache, "past_length": start, "key_mask": keys}
        parts.append(module(x[:, start:end], context(length=end - start, **fields)))
    return torch.cat(parts, dim=1)


@pytest.mark.parametrize("name", ["siso", "mimo, norm, heavy tail"])
def test_a_document_of_a_packed_row_is_what_it_is_alone(name):
    module = mixer(**VARIANTS[name])
    x, cuts = torch.randn(1, LENGTH, WIDTH), [0, 1, 4, LENGTH]
    lengths = torch.tensor(cuts).diff()
    ids = torch.arange(3).repeat_interleave(lengths)[None]
    alone = [module(x[:, a:b], context(1, b - a)) for a, b in itertools.pairwise(cuts)]
    close(module(x, context(1, document_ids=ids)), torch.cat(alone, dim=1))


@pytest.mark.parametrize("name", ["siso", "mimo, norm, heavy tail"])
def test_padding_on_the_left_changes_nothing(name):
    module = mixer(**VARIANTS[name])
    x, pads = torch.randn(BATCH, LENGTH, WIDTH), [3, 0]
    mask = torch.arange(LENGTH) >= torch.tensor(pads)[:, None]
    steps = list(range(LENGTH + 1))
    for y in (
        module(x, context(key_mask=mask)),
        cached(module, x, [0, 2, 7, LENGTH], mask),
        cached(module, x, steps, mask),
    ):
        for row, pad in enumerate(pads):
            close(y[row, pad:], naive(module, x[row, pad:]))


def test_padding_on_the_right_changes_nothing_before_it():
    module, x = mixer(), torch.randn(1, LENGTH, WIDTH)
    y = module(x, context(1, key_mask=torch.arange(LENGTH)[None] < 7))
    close(y[0, :7], naive(module, x[0, :7]))


@pytest.mark.parametrize("training", [True, False])
def test_the_future_is_not_seen(training):
    module, x = mixer(mamba_is_mimo=True).train(training), torch.randn(1, LENGTH, WIDTH)
    other = torch.cat([x[:, :6], torch.randn(1, LENGTH - 6, WIDTH)], dim=1)
    assert torch.equal(module(x, context(1))[:, :6], module(other, context(1))[:, :6])


@torch.no_grad()
def test_the_cache_follows_beams():
    module, x = mixer(), torch.randn(2, LENGTH, WIDTH)
    cache = DynamicCache(config=config())
    module(x[:, :5], context(length=5, past_key_values=cache))
    cache.layers[0].reorder_cache(torch.tensor([1, 1]))
    rest = module(x[[1, 1], 5:], context(length=LENGTH - 5, past_key_values=cache, past_length=5))
    close(rest, module(x, context())[[1, 1], 5:])


def test_steps_start_between_their_bounds_and_decay_never_stops():
    module = Mamba3(config(mamba_expand=32), 0)
    steps = functional.softplus(module.dt_bias)
    assert steps.min() > 1e-3 * 0.99
    assert steps.max() < 0.1 * 1.01
    assert steps.log().std() > 1  # a logarithmic scale, of about log(100) / sqrt(12)
    assert module._decay(torch.tensor([-100.0])) == -1e-4


def test_named_parameters_that_must_not_decay_exist():
    parameters = dict(mixer(mamba_is_mimo=True, mamba_is_outproj_norm=True).named_parameters())
    assert set(parameters) - {"in_proj.weight", "out_proj.weight"} == set(Mamba3.no_weight_decay)


def test_the_builder_passes_on_what_the_authors_layer_takes():
    built = build_author_mamba3_config(
        config(mamba_is_mimo=True, mamba_chunk_size=64, mamba_dt_max=0.2, mamba_A_floor=1e-3, mamba_ngroups=2)
    )
    assert built == AuthorMamba3Config(
        WIDTH, 8, 2, 8, 2, dt_max=0.2, A_floor=1e-3, is_mimo=True, mimo_rank=4, chunk_size=16
    )  # fmt: skip
    assert (built.num_heads, built.rank, built.rotation_pairs) == (4, 4, 2)
    assert not build_author_mamba3_config(config(mamba_complex_rope=False)).rotation_pairs


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"headdim": 5}, "expand \\* d_model is 32 and headdim 5"),
        ({"ngroups": 3}, "ngroups is 3 for 4 heads"),
        ({"rope_fraction": 0.1}, "rope_fraction is 0.1 of d_state 8"),
        ({"rope_fraction": 1.5}, "rope_fraction is 1.5"),
    ],
)
def test_numbers_that_make_no_layer_are_refused(change, words):
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(build_author_mamba3_config(config()), **change)


def test_a_backend_that_is_not_installed_is_refused():
    with pytest.raises(ValueError, match="not installed"):
        Mamba3(config(mamba_backend="mamba_ssm"), 0)


@pytest.fixture
def authors_kernels(monkeypatch):
    """A stand-in for the package mamba_ssm that keeps its kernels' interface, one sequence after the other."""
    name = "mamba_ssm.ops.triton.mamba3.mamba3_siso_combined"
    stand_in: Any = types.ModuleType(name)
    stand_in.mamba3_siso_combined = siso_combined
    monkeypatch.setitem(sys.modules, name, stand_in)
    monkeypatch.setattr("rlvr_model.mamba.find_spec", lambda name: True)


def siso_combined(
    Q, K, V, ADT, DT, Trap, Q_bias, K_bias, Angles, D, Z, Input_States, chunk_size, return_final_states, cu_seqlens
):
    rows = [(row, slice(None)) for row in range(len(V))]
    if cu_seqlens is not None:
        assert len(V) == 1
        assert cu_seqlens.dtype == torch.int32
        rows = [(0, slice(a, b)) for a, b in itertools.pairwise(cu_seqlens)]
    assert Angles.dtype == torch.float32
    states = [(0.0, 0.0, K_bias[:, :] * 0, V[0, 0] * 0)] * len(rows)
    if Input_States is not None:
        states = list(zip(*Input_States, strict=True))
    outputs, finals = [], []
    for (row, places), (theta, hidden, last_k, last_v) in zip(rows, states, strict=True):
        outs = []
        for q, k, v, adt, dt, trap, angle, z in zip(
            Q[row, places], K[row, places], V[row, places], ADT[row, :, places].T, DT[row, :, places].T,
            Trap[row, :, places].T, Angles[row, places], V[row, places] if Z is None else Z[row, places], strict=True,
        ):  # fmt: skip
            theta = theta + math.pi * torch.tanh(angle.double()) * dt[:, None]
            group = len(v) // len(k)
            q = torch.stack([turned(q[h // group] + Q_bias[h], theta[h]) for h in range(len(v))])
            k = torch.stack([turned(k[h // group] + K_bias[h], theta[h]) for h in range(len(v))])
            alpha, share = adt.exp()[:, None, None], (trap.sigmoid() * dt)[:, None, None]
            before = (dt - trap.sigmoid() * dt)[:, None, None] * last_v[..., None] * last_k[:, None]
            hidden = alpha * (hidden + before) + share * v[..., None] * k[:, None]
            y = (hidden @ q[..., None])[..., 0] + D[:, None] * v
            outs.append(y if Z is None else y * functional.silu(z))
            last_k, last_v = k, v
        outputs.append(torch.stack(outs))
        finals.append((theta, hidden, last_k, last_v))
    y = torch.stack(outputs) if cu_seqlens is None else torch.cat(outputs)[None]
    return y, *(torch.stack(parts) for parts in zip(*finals, strict=True))


@pytest.mark.usefixtures("authors_kernels")
@pytest.mark.parametrize("name", ["siso", "groups", "norm", "real"])
def test_the_authors_kernels_are_called_for_the_same_function(name):
    ours = mixer(**VARIANTS[name])
    theirs = Mamba3(config(**VARIANTS[name], mamba_backend="mamba_ssm"), 0)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(BATCH, LENGTH, WIDTH)
    ids = (torch.arange(LENGTH) >= torch.tensor([[4], [7]])).long()
    mask = torch.arange(LENGTH) >= torch.tensor([[2], [0]])
    for fields in ({}, {"document_ids": ids}, {"key_mask": mask}):
        torch.testing.assert_close(theirs(x, context(**fields)), ours(x, context(**fields)), rtol=0, atol=1e-6)
    torch.testing.assert_close(cached(theirs, x, [0, 4, 5, LENGTH]), ours(x, context()), rtol=0, atol=1e-6)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@torch.no_grad()
def test_the_authors_kernels_agree_on_a_gpu():
    pytest.importorskip("mamba_ssm")
    sizes = {"mamba_d_state": 128, "mamba_headdim": 64, "mamba_expand": 128 // WIDTH, "mamba_chunk_size": 64}
    torch.set_default_device("cuda")
    ours = mixer(**sizes).float().cuda()
    theirs = Mamba3(config(**sizes, mamba_backend="mamba_ssm"), 0).float().cuda()
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 200, WIDTH, device="cuda", dtype=torch.float32)
    ids = (torch.arange(200, device="cuda") >= 90).long().expand(2, -1)
    for documents in (None, ids):
        got, want = (module(x, context(2, 200, document_ids=documents)) for module in (theirs, ours))
        torch.testing.assert_close(got, want, rtol=0, atol=0.03 * want.abs().max().item())
    torch.testing.assert_close(
        cached(theirs, x, [0, 130, 131, 200]), ours(x, context(2, 200)), rtol=0, atol=0.03 * want.abs().max().item()
    )
