"""What the tiny presets of the hybrid model take on a CPU: `python -m benchmarks.presets`.

Seconds to build a model, for a training step (4 rows of 128 tokens: loss, gradients, AdamW) and to decode 16 tokens of
4 prompts greedily, each the first time in this process and with the threads that torch takes by itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import torch

from rlvr_model import HybridForCausalLM
from rlvr_model.presets import load_preset, preset_names

ROWS, LENGTH, NEW_TOKENS = 4, 128, 16
Result = TypeVar("Result")


def timed(run: Callable[[], Result]) -> tuple[float, Result]:
    """Seconds, and what came of it."""
    started = time.perf_counter()
    result = run()
    return time.perf_counter() - started, result


def train_step(model: HybridForCausalLM, ids: torch.Tensor) -> None:
    """One update of all weights."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model.train()(ids, labels=ids).loss.backward()
    optimizer.step()


def decode(model: HybridForCausalLM, ids: torch.Tensor) -> torch.Tensor:
    """`NEW_TOKENS` more tokens of each row."""
    tokens: torch.Tensor = model.eval().generate(
        ids, max_new_tokens=NEW_TOKENS, do_sample=False, eos_token_id=None, pad_token_id=2
    )
    return tokens


def main() -> None:
    """Measure and print one table."""
    torch.manual_seed(0)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads; seconds")
    print(f"{'':18}{'build':>8}{'step':>8}{'decode':>8}")
    for name in (name for name in preset_names() if name.endswith("_tiny") or name == "demo_hybrid"):
        config = load_preset(name)
        ids = torch.randint(3, config.vocab_size, (ROWS, LENGTH))
        build, model = timed(lambda config=config: HybridForCausalLM(config))
        step, _ = timed(lambda model=model, ids=ids: train_step(model, ids))
        decoding, _ = timed(lambda model=model, ids=ids: decode(model, ids))
        print(f"{name:18}{build:8.2f}{step:8.2f}{decoding:8.2f}", flush=True)


if __name__ == "__main__":
    main()
