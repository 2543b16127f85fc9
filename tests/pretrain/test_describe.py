"""The command that prints an architecture: its table, and one sentence for a name that does not exist."""

from rlvr_model.describe import layer_table
from rlvr_model.presets import load_preset
from rlvr_pretrain.describe import main


def test_it_prints_the_table_of_the_architecture(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["describe", "scorecard_tiny"])
    main()
    assert capsys.readouterr().out == layer_table(load_preset("scorecard_tiny")) + "\n"


def test_an_unknown_one_is_told_with_those_there_are(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["describe", "scorecard_huge"])
    assert main() == 2
    assert capsys.readouterr().err.startswith("error: preset 'scorecard_huge' does not exist: use one of")
