"""Hyper-connections: identity at the start, what mixing preserves, and that no token sees another."""

import pytest
import torch

from rlvr_model.configuration import HybridConfig
from rlvr_model.hyper_connections import HyperConnection, StreamCollapse, open_streams

WIDTH, DEPTH = 12, 6


@pytest.fixture(autouse=True)
def _float64():
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


def config(**settings):
    settings = {"mhc_epsilon": 1e-15, "residual_scalars": False} | settings
    return HybridConfig(
        hidden_size=WIDTH, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, head_dim=8, vocab_size=8,
        mhc_enabled=True, **settings,
    )  # fmt: skip


def network(settings):
    """A connection per branch, the branches' weights, and the collapse at the end."""
    connections = torch.nn.ModuleList([HyperConnection(settings, index) for index in range(DEPTH)])
    branches = [torch.randn(WIDTH, WIDTH) / WIDTH**0.5 for _ in range(DEPTH)]
    return connections, branches, StreamCollapse(settings)


def run(connections, branches, collapse, x):
    streams = open_streams(x, connections[0].config.mhc_num_branches)
    for connection, weight in zip(connections, branches, strict=True):
        streams = connection(streams, lambda u, weight=weight: torch.tanh(u @ weight))
    return collapse(streams)


def disturb(module):
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter))


@pytest.mark.parametrize("streams", [2, 4])
@pytest.mark.parametrize("iterations", [1, 5])
@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_at_the_start_the_network_is_the_plain_residual_one(streams, iterations, temperature):
    settings = config(mhc_num_branches=streams, mhc_sinkhorn_iters=iterations, mhc_temperature=temperature)
    connections, branches, collapse = network(settings)
    x = torch.randn(2, 5, WIDTH)
    plain = x
    for weight in branches:
        plain = plain + torch.tanh(plain @ weight)
    torch.testing.assert_close(run(connections, branches, collapse, x), plain, rtol=0, atol=1e-12)


def test_the_streams_part_within_two_updates():
    connections, branches, collapse = network(config())
    optimizer = torch.optim.SGD([*connections.parameters(), *collapse.parameters()], lr=0.1)
    x = torch.randn(2, 5, WIDTH)
    for _ in range(2):
        optimizer.zero_grad()
        run(connections, branches, collapse, x).square().sum().backward()
        optimizer.step()
    streams = open_streams(x, 4)
    for connection, weight in zip(connections, branches, strict=True):
        streams = connection(streams, lambda u, weight=weight: torch.tanh(u @ weight))
    assert (streams - streams.mean(2, keepdim=True)).abs().max() > 1e-3
    optimizer.zero_grad()
    run(connections, branches, collapse, x).square().sum().backward()
    for parameter in [*connections.parameters(), *collapse.parameters()]:
        assert parameter.grad.abs().max() > 0


def test_weights_are_positive_and_what_streams_share_is_carried_on():
    connection = HyperConnection(config(), 0)
    disturb(connection)
    pre, post, mixing = connection.weights(torch.randn(2, 5, 4, WIDTH))
    assert ((pre > 0) & (pre < 1)).all()
    assert ((post > 0) & (post < 2)).all()
    assert (mixing > 0).all()
    torch.testing.assert_close(mixing.sum(-2), torch.ones(2, 5, 4), rtol=0, atol=1e-12)


def test_blend_zero_leaves_every_stream_where_it_is():
    connection = HyperConnection(config(mhc_blend_alpha=0.0), 0)
    disturb(connection)
    streams = torch.randn(1, 3, 4, WIDTH)
    torch.testing.assert_close(connection(streams, torch.zeros_like), streams, rtol=0, atol=1e-12)


def test_enough_iterations_make_the_product_of_mixings_no_longer_than_1():
    connections, _, _ = network(config(mhc_sinkhorn_iters=200))
    product = torch.eye(4)
    for connection in connections:
        disturb(connection)
        product = connection.weights(torch.randn(1, 1, 4, WIDTH))[2][0, 0] @ product
    assert torch.linalg.matrix_norm(product, ord=2) < 1 + 1e-6


def test_a_token_depends_on_itself_alone():
    connections, branches, collapse = network(config())
    for module in (*connections, collapse):
        disturb(module)
    x = torch.randn(2, 7, WIDTH)
    whole = run(connections, branches, collapse, x)
    alone = torch.cat([run(connections, branches, collapse, x[:, t : t + 1]) for t in range(7)], dim=1)
    torch.testing.assert_close(alone, whole, rtol=0, atol=1e-12)


def test_the_model_resets_a_loaded_module_to_the_same_start():
    connection = HyperConnection(config(), 3)
    start = {name: tensor.clone() for name, tensor in connection.state_dict().items()}
    disturb(connection)
    connection.reset()
    assert all(torch.equal(tensor, start[name]) for name, tensor in connection.state_dict().items())
    assert start["bias"][:4].argmax() == 3
