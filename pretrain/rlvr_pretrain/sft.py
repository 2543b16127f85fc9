"""Supervised fine-tuning of a small causal LM from scratch on `{prompt, completion}` rows: `rlvr-sft`.

    rlvr-sft --data corpus.jsonl --out rlvr_cpp/models/tiny-cpp

Trains a byte-level BPE tokenizer and a model on the rows, prompt tokens included, and writes a normal Hugging Face
folder: a Llama-shaped model, or with `--architecture NAME` a hybrid one of a preset, whose routers, indexers and
drafting heads learn along. AdamW with a linear warm-up and a cosine decay to zero.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from rlvr_cpp.errors import Parser, UserError
from rlvr_cpp.runs.config import out_of_bounds
from rlvr_cpp.runs.options import plain_main
from rlvr_pretrain.recipe import LLAMA, Recipe

FIELDS = ("prompt", "completion")


def main(argv: Sequence[str] | None = None) -> int:
    """Train and write a model; exit status 2 tells of a mistake in the input."""
    return plain_main(_parser, argv)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="rlvr-sft", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="JSONL with 'prompt' and 'completion'")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    for name, default in vars(Recipe()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    parser.set_defaults(run=_train)
    return parser


def _train(call: argparse.Namespace) -> None:
    recipe = Recipe(**{name: getattr(call, name) for name in vars(Recipe())})
    if problems := [*out_of_bounds(recipe), *_shape_problems(recipe)]:
        raise UserError("; ".join(problems))
    rows = list(_rows(call.data))
    call.out.mkdir(parents=True, exist_ok=True)  # before the hours, not behind them
    from rlvr_pretrain.fine_tuning import save_model, train_model

    model, tokenizer, loss = train_model(rows, recipe)
    save_model(model, tokenizer, call.out)
    count = sum(p.numel() for p in model.parameters())
    print(f"{count:,} parameters, final loss {loss:.4f}, written to {call.out}")


def _shape_problems(recipe: Recipe) -> Iterator[str]:
    from rlvr_model.presets import preset_names  # seconds that --help need not wait

    known = (LLAMA, *preset_names())
    if recipe.architecture not in known:
        yield f"architecture is {recipe.architecture!r}: it must be one of {', '.join(known)}"
    if recipe.heads > 0 and recipe.hidden_size % (2 * recipe.heads):
        yield f"hidden_size is {recipe.hidden_size} with heads {recipe.heads}: use a multiple of twice the heads"


def _rows(path: Path) -> Iterator[dict[str, str]]:
    """The rows of a file. Raises UserError with the line and the field that is wrong, and where there are none."""
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--data {path} cannot be read ({error}): give a file with one JSON object a line") from error
    if not lines:
        raise UserError(f"--data {path} is empty: give a file with one JSON object a line")
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path} line {number}: not JSON ({error}): give one object a line") from error
        for name in FIELDS:
            if not isinstance(row, dict) or not isinstance(row.get(name), str):
                raise UserError(f"{path} line {number}: field {name!r} must be a string")
        yield row


if __name__ == "__main__":
    sys.exit(main())
