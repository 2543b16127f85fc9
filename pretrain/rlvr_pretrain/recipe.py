"""How long and how fast a fine-tuning trains what: read before torch is."""

from __future__ import annotations

from dataclasses import dataclass

LLAMA = "llama"


@dataclass(frozen=True)
class Recipe:
    """How long and how fast to train what."""

    steps: int = 1300
    batch_rows: int = 32
    learning_rate: float = 3e-3
    warmup_steps: int = 60
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    vocab_size: int = 512
    architecture: str = LLAMA
    """`llama`, whose shape is what follows, or a preset of the hybrid model, which has its own."""
    hidden_size: int = 128
    intermediate_size: int = 320
    layers: int = 2
    heads: int = 4
    context: int = 512
    seed: int = 0
