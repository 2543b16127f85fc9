"""Supervised fine-tuning of a small causal LM from scratch on `{prompt, completion}` rows: `rlvr-sft`.

    rlvr-sft --data corpus.jsonl --out rlvr_cpp/models/tiny-cpp

Trains a byte-level BPE tokenizer and a model on the rows, prompt tokens included, and writes a normal Hugging Face
folder: a Llama-shaped model, or with `--architecture NAME` a hybrid one of a preset, whose routers, indexers and
drafting heads learn along. AdamW with a linear warm-up and a cosine decay to zero.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from rlvr_pretrain.recipe import LLAMA, Recipe


def main() -> None:
    """Train and write a model; see the module's docstring."""
    parser = argparse.ArgumentParser(
        prog="rlvr-sft", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="JSONL with 'prompt' and 'completion'")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    for name, default in vars(Recipe()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    arguments = vars(parser.parse_args())
    from rlvr_model.presets import preset_names  # seconds that --help need not wait
    from rlvr_pretrain.fine_tuning import save_model, train_model

    data, out = arguments.pop("data"), arguments.pop("out")
    if arguments["architecture"] not in (LLAMA, *preset_names()):
        known = ", ".join((LLAMA, *preset_names()))
        parser.error(f"--architecture is {arguments['architecture']!r}: it must be one of {known}")
    rows = [json.loads(line) for line in data.read_text().splitlines()]
    model, tokenizer, loss = train_model(rows, Recipe(**arguments))
    save_model(model, tokenizer, out)
    count = sum(p.numel() for p in model.parameters())
    print(f"{count:,} parameters, final loss {loss:.4f}, written to {out}")


if __name__ == "__main__":
    main()
