"""A run that will learn nothing is told by what it starts with."""

import math

import pytest
import torch

from rlvr_cpp.training.guards.start import (
    coarse_dtype,
    empty_optimizer,
    fingerprint,
    gradients_differ,
    nothing_moved,
    start_differs,
)


def test_an_adapter_that_is_not_trainable_leaves_the_optimizer_empty():
    layer = torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    assert empty_optimizer(layer.parameters(), optimizer.param_groups) is None
    assert empty_optimizer(torch.nn.Linear(2, 2).parameters(), optimizer.param_groups).fatal  # those of a copy
    layer.requires_grad_(False)
    assert empty_optimizer(layer.parameters(), optimizer.param_groups).name == "empty_optimizer"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_one_bit_of_one_parameter_is_a_move(dtype):
    layer = torch.nn.Linear(50, 50).to(dtype)
    layer.bias.requires_grad_(False)
    before = fingerprint(layer.named_parameters())
    assert set(before) == {"weight"}
    assert nothing_moved(before, fingerprint(layer.named_parameters()), 1e-6).fatal
    entry = layer.weight.data[31, 7]
    entry.copy_(torch.nextafter(entry, torch.full_like(entry, 9)) if dtype.itemsize > 2 else entry * 1.01)
    assert nothing_moved(before, fingerprint(layer.named_parameters()), 1e-6) is None


def test_entries_that_trade_places_are_a_move():
    weight = torch.arange(10.0, requires_grad=True)
    before = fingerprint([("w", weight)])
    weight.data.copy_(weight.data.flip(0))
    assert nothing_moved(before, fingerprint([("w", weight)]), 1e-6) is None


def test_an_update_at_a_rate_of_zero_need_not_move_anything():
    same = {"w": 1}
    assert nothing_moved(same, same, 0.0) is None
    assert not nothing_moved(same, same, 1e-3, action="warn").fatal


@pytest.mark.parametrize(
    ("dtype", "learning_rate", "fires"),
    [
        (torch.bfloat16, 1e-6, True),
        (torch.bfloat16, 1e-5, True),  # a fifth of the entries moves
        (torch.bfloat16, 2e-4, False),
        (torch.bfloat16, 0.0, False),
        (torch.float16, 1e-6, True),
        (torch.float16, 2e-4, False),
        (torch.float32, 1e-6, False),
        (torch.float32, 1e-8, False),
        (torch.float32, 2e-4, False),
    ],
)
def test_a_learning_rate_below_the_resolution_of_the_weights_is_a_warning(dtype, learning_rate, fires):
    torch.manual_seed(0)
    lora_a = (torch.rand(8, 500) * 0.04 - 0.02).to(dtype).requires_grad_()
    lora_b = torch.zeros(500, 8, dtype=dtype, requires_grad=True)
    finding = coarse_dtype([("lora_A", lora_a), ("lora_B", lora_b)], learning_rate)
    assert (finding is not None) is fires
    if finding:
        assert not finding.fatal
        assert all(word in finding.message for word in ("1 of 2", "lora_A", str(dtype)[6:], f"{learning_rate:g}"))


def test_the_resolution_found_is_the_one_that_adam_meets():
    torch.manual_seed(0)
    weight = (torch.rand(1000) * 0.04 - 0.02).bfloat16().requires_grad_()
    start = weight.detach().clone()
    optimizer = torch.optim.AdamW([weight], lr=1e-6, weight_decay=0.0)
    for _ in range(100):
        weight.grad = torch.full_like(weight, 1e-3)
        optimizer.step()
    assert (weight.detach() == start).float().mean() > 0.95
    assert coarse_dtype([("w", start.requires_grad_())], 1e-6) is not None


def test_frozen_weights_may_be_coarse():
    assert coarse_dtype([("base", torch.ones(10, dtype=torch.bfloat16))], 1e-6) is None


@pytest.mark.parametrize(
    ("ratio_error", "kl", "dtype", "fires"),
    [
        (0.0, 0.0, torch.float32, False),
        (9e-5, -9e-5, torch.float32, False),
        (2e-4, 0.0, torch.float32, True),
        (0.0, 2e-4, torch.float32, True),
        (0.0, None, torch.float32, False),
        (2e-2, 2e-2, torch.bfloat16, False),
        (0.06, None, torch.bfloat16, True),
        (math.nan, 0.0, torch.float32, True),
        (0.0, math.nan, torch.bfloat16, True),
    ],
)
def test_before_any_update_policy_and_reference_are_the_same(ratio_error, kl, dtype, fires):
    assert (start_differs(ratio_error, kl, dtype) is not None) is fires


def test_gradients_that_only_rounding_changed_are_the_same():
    before = {"a": torch.tensor([1.0, -2.0]), "b": torch.zeros(2)}
    assert gradients_differ(before, {"a": torch.tensor([1.001, -2.0]), "b": torch.zeros(2)}) is None


@pytest.mark.parametrize("found", [[2.0, 1.0], [0.0, 0.0], [1.2, -2.0], [math.nan, -2.0]])
def test_other_gradients_stop_the_run(found):
    before = {"a": torch.tensor([1.0, -2.0]), "b": torch.zeros(2)}
    finding = gradients_differ(before, {"a": torch.tensor(found), "b": torch.zeros(2)})
    assert finding is not None
    assert finding.fatal
    assert "1 of 2 trained tensors" in finding.message


def test_a_gradient_where_there_was_none_stops_the_run():
    assert gradients_differ({"a": torch.zeros(2)}, {"a": torch.ones(2)}) is not None
