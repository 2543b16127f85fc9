"""What an architecture builds: a table of its layers with their parameters and those that a token uses.

    python -m rlvr_pretrain.describe moe_e06

The table is `rlvr_model.describe`'s. The command stands outside that package, whose import registers the model with
transformers: seconds that --help need not wait.
"""

from __future__ import annotations

import argparse


def main() -> None:
    """Print the table of a preset."""
    parser = argparse.ArgumentParser(
        prog="python -m rlvr_pretrain.describe",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("preset", help="an architecture of conf/architecture, such as scorecard or nam56r")
    preset = parser.parse_args().preset
    from rlvr_model.describe import layer_table
    from rlvr_model.presets import load_preset

    try:
        print(layer_table(load_preset(preset)))
    except ValueError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
