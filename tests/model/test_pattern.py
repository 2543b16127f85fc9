"""Block patterns: what they expand to, what they refuse, and the table that a config prints."""

import pytest

from rlvr_model.describe import layer_table, parameter_count, sizes
from rlvr_model.pattern import expand_pattern
from rlvr_model.presets import load_preset


def places(pattern, depth, letter):
    return [index for index, found in enumerate(expand_pattern(pattern, depth)) if found == letter]


def test_aam_on_sixteen_layers_has_mamba_at_every_third():
    assert places("AAM", 16, "M") == [2, 5, 8, 11, 14]


def test_the_long_pattern_on_52_layers_has_the_published_counts():
    counts = {letter: len(places("AEMEAEMEAEMR", 52, letter)) for letter in "AMER"}
    assert counts == {"A": 13, "M": 13, "E": 22, "R": 4}
    assert places("AEMEAEMEAEMR", 52, "R") == [11, 23, 35, 47]


@pytest.mark.parametrize(
    ("pattern", "depth", "told"),
    [
        ("AXM", 6, r"block_pattern is 'AXM', with \['X'\]: use A \(attention\)"),
        ("", 6, "no letter"),
        ("aam", 6, "with"),
        ("AEMEAEMEAEMR", 6, "has 12 letters but num_hidden_layers is 6"),
        ("ME", 6, "without attention: put in at least one A"),
    ],
)
def test_a_pattern_that_makes_no_model_is_refused_with_the_way_out(pattern, depth, told):
    with pytest.raises(ValueError, match=told):
        expand_pattern(pattern, depth)


def test_the_table_has_a_line_for_each_layer_and_sums_that_agree():
    config = load_preset("nam56r_tiny")
    table = layer_table(config)
    lines = table.splitlines()
    assert [line.split()[1] for line in lines[2:14]] == list("AEMEAEMEAEMR")
    whole = parameter_count(config)
    assert sum(part.total for part in sizes(config)) == whole.total
    assert lines[-1].split()[-2:] == [f"{whole.total:,}", f"{whole.active:,}"]


def test_the_table_says_what_a_layer_is():
    table = layer_table(load_preset("scorecard_tiny"))
    assert "A  sparse attention by token, Engram, experts" in table
    assert "A  attention to 64 tokens, Engram, experts" in table


def test_a_token_uses_the_experts_it_is_sent_to_and_the_shared_ones():
    config = load_preset("specialist_tiny")
    layer = next(part for part in sizes(config) if part.name.startswith("E"))
    expert = 3 * config.hidden_size * config.moe_intermediate_size
    assert layer.total - layer.active == (config.num_experts - config.num_experts_per_tok) * expert
