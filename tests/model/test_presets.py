"""The shipped shapes: parameter counts on the meta device, and a tiny twin for each with the same mechanisms."""

import pytest

from rlvr_model.describe import parameter_count
from rlvr_model.presets import load_preset, preset_names

BILLION = 1e9
SIZES = {
    "nam56r": (4.73, 3.03),
    "specialist_cpp": (8.0, 1.6),
    "specialist_cmake": (6.0, 1.2),
    "specialist_debug": (7.0, 1.4),
    "specialist_shell": (5.0, 1.0),
    "specialist_orchestration": (8.0, 1.6),
    "specialist_design": (7.0, 1.4),
    "specialist_review": (6.0, 1.2),
    "specialist_algorithm": (4.0, 0.8),
}
"""Billions of parameters, total and active."""
SWITCHES = ("dsa_enabled", "engram_enabled", "mhc_enabled", "mtp_enabled", "mamba_is_mimo", "residual_scalars")


@pytest.mark.parametrize("name", SIZES)
def test_a_preset_has_the_size_it_is_meant_to_have(name):
    count = parameter_count(load_preset(name))
    total, active = SIZES[name]
    assert count.total / BILLION == pytest.approx(total, rel=0.05)
    assert count.active / BILLION == pytest.approx(active, rel=0.05)


def test_the_substrate_is_a_quarter_of_a_billion():
    config = load_preset("dense_d16")
    assert (config.num_hidden_layers, config.hidden_size, config.num_attention_heads) == (16, 1024, 16)
    layer = 1024 * (1024 + 2 * 256 + 1024) + 3 * 1024 * 2816 + 2 * 1024
    assert parameter_count(config).total == 16 * (layer + 2) + 65536 * 1024 + 1024


def full_presets():
    return [name for name in preset_names() if not name.endswith("_tiny") and name != "demo_hybrid"]


@pytest.mark.parametrize("name", full_presets())
def test_a_preset_has_a_tiny_twin_with_the_same_mechanisms(name):
    config = load_preset(name)
    twin = load_preset("specialist_tiny" if name.startswith("specialist_") else f"{name}_tiny")
    assert {switch: getattr(twin, switch) for switch in SWITCHES} == {
        switch: getattr(config, switch) for switch in SWITCHES
    }
    assert set(twin.letters) == set(config.letters)
    assert bool(twin.short_layers) == bool(config.short_layers)
    assert bool(twin.intermediate_size) == bool(config.intermediate_size)
    assert bool(twin.moe_layer_frequency) == bool(config.moe_layer_frequency)
    assert parameter_count(twin).total < 2e6


def test_an_unknown_preset_or_setting_is_refused():
    with pytest.raises(ValueError, match="preset 'nam99' does not exist: use one of "):
        load_preset("nam99")
    with pytest.raises(ValueError, match="preset dense_d16 sets colour, which the hybrid model does not have"):
        load_preset("dense_d16", colour="red")
