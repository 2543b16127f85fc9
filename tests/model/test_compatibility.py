"""The compatibility matrix: every row has a config that it refuses, and says which settings clash."""

import warnings
from typing import Any

import pytest

from rlvr_model.compatibility import REFUSED, SUSPICIOUS, check_implementation
from rlvr_model.configuration import HybridConfig
from rlvr_model.presets import load_preset, preset_names

SPARSE = {"dsa_enabled": True, "window_pattern": "L"}
CLASHES: dict[tuple[str, str], Any] = {
    ("engram_layers", "block_pattern"): {"block_pattern": "AAM", "engram_enabled": True, "engram_layers": [1, 2]},
    ("engram_heads", "engram_width"): {"engram_enabled": True, "engram_heads": 3, "engram_width": 16},
    ("dsa_start_layer", "block_pattern"): {"dsa_enabled": True, "dsa_start_layer": 16},
    ("dsa_start_layer", "window_pattern"): {"dsa_enabled": True, "window_pattern": "SSSL"},
    ("nope_layers", "window_pattern"): {"nope_layers": [0], "window_pattern": "SL"},
    ("nope_layers", "block_pattern"): {"nope_layers": [2], "block_pattern": "AAM"},
    ("mhc_enabled", "residual_scalars"): {"mhc_enabled": True, "residual_scalars": True},
    ("mhc_enabled", "mhc_num_branches"): {"mhc_enabled": True, "residual_scalars": False, "mhc_num_branches": 1},
    ("num_key_value_heads", "num_attention_heads"): {"num_attention_heads": 16, "num_key_value_heads": 5},
    ("num_experts_per_tok", "num_experts"): {"moe_layer_frequency": 1, "num_experts": 4, "num_experts_per_tok": 5},
    ("moe_dispatch", "experts_layout"): {"experts_layout": "linear", "moe_dispatch": "grouped"},
    ("intermediate_size", "moe_layer_frequency"): {"intermediate_size": 0, "moe_layer_frequency": 2},
    ("mamba_headdim", "mamba_expand"): {"block_pattern": "AM", "mamba_headdim": 48},
    ("mamba_ngroups", "mamba_headdim"): {"block_pattern": "AM", "mamba_ngroups": 3},
    ("mamba_rope_fraction", "mamba_d_state"): {"block_pattern": "AM", "mamba_rope_fraction": 0.01},
    ("mamba_num_heads", "mamba_headdim"): {"block_pattern": "AM", "mamba_num_heads": 8},
    ("mamba_backend", "mamba_is_mimo"): {"block_pattern": "AM", "mamba_backend": "mamba_ssm", "mamba_is_mimo": True},
    ("dsa_indexer_rope_dim", "dsa_indexer_dim"): {**SPARSE, "dsa_indexer_rope_dim": 64},
    ("dsa_indexer_rope_dim", "head_dim"): {**SPARSE, "dsa_indexer_rope_dim": 24},
    ("pad_token_id", "vocab_size"): {"vocab_size": 64, "pad_token_id": 64},
    ("eos_token_id", "vocab_size"): {"vocab_size": 64, "eos_token_id": [1, 64]},
}
ODD: dict[Any, Any] = {
    ("quantization_config", "experts_layout='stacked'"): {
        "moe_layer_frequency": 1,
        "quantization_config": {"load_in_4bit": True},
    },
    ("num_experts_per_tok", "num_experts"): {"moe_layer_frequency": 1, "num_experts": 4, "num_experts_per_tok": 1},
    ("dsa_enabled", "block_pattern"): {"dsa_enabled": True, "block_pattern": "AAM", "window_pattern": "L"},
    ("attn_logit_softcapping", "qk_norm"): {"attn_logit_softcapping": 50.0},
}


@pytest.mark.parametrize("pair", CLASHES, ids="-".join)
def test_two_settings_that_clash_are_refused_by_name_with_a_reason(pair):
    with pytest.raises(ValueError, match=rf"^{pair[0]} and {pair[1]} clash: .{{20,}}; ") as refusal:
        HybridConfig(**CLASHES[pair])
    assert str(refusal.value).count("\n") == 0


def test_every_row_of_the_table_is_tried():
    assert {(clash.first, clash.second) for clash in REFUSED} <= set(CLASHES)
    assert {(clash.first, clash.second) for clash in SUSPICIOUS} == set(ODD)


@pytest.mark.parametrize("pair", ODD, ids="-".join)
def test_a_combination_that_is_only_odd_is_built_with_a_warning(pair):
    with pytest.warns(UserWarning, match=f"{pair[0]} and {pair[1]} clash"):
        HybridConfig(**ODD[pair])


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"moe_dispatch": "fast"}, "moe_dispatch is 'fast': use one of auto, padded, grouped, block_sparse"),
        ({"hidden_size": 0}, "hidden_size is 0: use a number above 0"),
        ({"mamba_d_state": -1}, "mamba_d_state is -1"),
        ({"window_pattern": "SX"}, "window_pattern is 'SX'"),
        ({"mamba_backend": "cuda"}, "mamba_backend is 'cuda': use one of auto, reference, triton, mamba_ssm"),
        ({"dsa_indexer_rope_dim": 3}, "dsa_indexer_rope_dim is 3: rotary pairs need an even number"),
        ({"head_dim": 15}, "head_dim is 15: rotary pairs need an even number"),
        ({"dsa_top_k_ratio": 1.5}, "dsa_top_k_ratio is 1.5"),
        ({"engram_ngram_orders": "two"}, "engram_ngram_orders is 'two'"),
        ({"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}}, "rope_type is 'linear'"),
    ],
)
def test_a_value_out_of_range_is_refused(settings, told):
    with pytest.raises(ValueError, match=told):
        HybridConfig(**settings)


def test_all_problems_are_told_at_once():
    with pytest.raises(ValueError, match="hidden_size") as refusal:
        HybridConfig(hidden_size=0, head_dim=15, moe_dispatch="fast")
    assert len(str(refusal.value).splitlines()) == 3


def test_no_preset_is_refused_or_odd():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in preset_names():
            load_preset(name)


def test_a_backend_that_would_leave_something_out_is_refused():
    capped = {"attn_logit_softcapping": 5.0}
    with pytest.raises(ValueError, match="attn_logit_softcapping and attn_implementation='sdpa' clash"):
        check_implementation(HybridConfig(**capped, attn_implementation="sdpa"))
    check_implementation(HybridConfig(**capped, attn_implementation="eager"))
    with pytest.raises(ValueError, match="dsa_enabled and attn_implementation='flash_attention_2' clash"):
        check_implementation(HybridConfig(**SPARSE, attn_implementation="flash_attention_2"))


def test_a_config_comes_back_from_its_file_and_keeps_its_window(tmp_path):
    config = HybridConfig(block_pattern="AAM", max_position_embeddings=4096)
    config.save_pretrained(tmp_path)
    again = HybridConfig.from_pretrained(tmp_path)
    assert again.to_dict() == config.to_dict()
    assert HybridConfig.from_pretrained(tmp_path, max_position_embeddings=131072).sliding_window == 2048
    assert HybridConfig.from_pretrained(tmp_path, block_pattern="A").layer_types.count("linear_attention") == 0
