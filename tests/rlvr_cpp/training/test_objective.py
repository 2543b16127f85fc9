"""The loss around trl's: KL terms, denominators, and the ratio that FGO's coverage needs."""

import json
from pathlib import Path

import pytest
import torch

from rlvr_cpp.training.objective import (
    Window,
    items_in_batch,
    kl_term,
    kl_weights,
    old_for_sequence_ratio,
    policy_scale,
)

VECTORS = json.loads((Path(__file__).parents[2] / "data" / "policy_losses.json").read_text())
INPUTS = {name: torch.tensor(INPUT, dtype=torch.float64) for name, INPUT in VECTORS["inputs"].items() if "logp" in name}
MASK = torch.tensor(VECTORS["inputs"]["mask"], dtype=torch.float64)


@pytest.mark.parametrize("estimator", ["k2", "k3"])
def test_vectors_of_the_kl_estimators(estimator):
    new = INPUTS["logp_new"].clone().requires_grad_()
    kl = kl_term(new, INPUTS["logp_ref"], estimator) * MASK
    kl.sum().backward()
    assert torch.allclose(kl, torch.tensor(VECTORS["kl"][estimator]["value"], dtype=torch.float64), atol=1e-12)
    assert torch.allclose(new.grad, torch.tensor(VECTORS["kl"][estimator]["grad"], dtype=torch.float64), atol=1e-12)


def test_the_kl_of_far_apart_policies_is_finite():
    kl = kl_term(torch.tensor([-900.0, 0.0]), torch.tensor([0.0, -900.0]))
    assert kl.isfinite().all()


def test_a_small_kl_is_not_lost_to_rounding():
    d = torch.tensor([1e-4, -1e-4, 1e-5])
    assert torch.allclose(kl_term(torch.zeros(3), d), d.square() / 2, rtol=1e-2)


def test_the_kl_to_itself_is_nothing_and_so_is_its_gradient():
    new = INPUTS["logp_new"].clone().requires_grad_()
    kl = kl_term(new, INPUTS["logp_new"])
    kl.sum().backward()
    assert not kl.any()
    assert not new.grad.any()


@pytest.mark.parametrize(
    ("loss_type", "total"), [("grpo", 1.0), ("dapo", 1.0), ("luspo", 35 / 8), ("dr_grpo", 35 / 56)]
)
def test_kl_weights_are_those_of_the_policy_term(loss_type, total):
    weights = kl_weights(MASK, loss_type, Window(8, 20, 35), 7, 1.0)
    assert weights.sum().item() == pytest.approx(total)
    assert not weights[MASK == 0].any()


def test_token_ratios_over_moved_old_probabilities_are_the_sequence_ratio():
    new, old = INPUTS["logp_new"], INPUTS["logp_old"]
    ratios = (new - old_for_sequence_ratio(new, old, MASK)).exp()
    expected = torch.tensor(VECTORS["gspo"]["ratio"], dtype=torch.float64)
    assert torch.allclose(ratios, expected[:, None].expand_as(ratios), atol=1e-12)


def test_a_window_without_a_row_divides_by_nothing():
    assert policy_scale("grpo", 4, 2, 1, Window(0, 0, 0), 1.0) == 8.0
    assert items_in_batch(Window(0, 0, 0), 2) == 0.0
    assert kl_weights(torch.zeros(2, 3), "dapo", Window(0, 0, 0), 7, 1.0).isfinite().all()
