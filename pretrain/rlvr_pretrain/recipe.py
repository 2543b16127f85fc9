"""How long and how fast a fine-tuning trains what: read before torch is."""

from __future__ import annotations

from dataclasses import dataclass, field

LLAMA = "llama"


@dataclass(frozen=True)
class Recipe:
    """How long and how fast to train what."""

    steps: int = field(default=1300, metadata={"least": 1})
    batch_rows: int = field(default=32, metadata={"least": 1})
    learning_rate: float = field(default=3e-3, metadata={"above": 0})
    warmup_steps: int = field(default=60, metadata={"least": 0})
    weight_decay: float = field(default=0.01, metadata={"least": 0})
    max_grad_norm: float = field(default=1.0, metadata={"above": 0})
    vocab_size: int = field(default=512, metadata={"least": 258})
    """The bytes, and the tokens that pad and end texts, are in every vocabulary."""
    architecture: str = LLAMA
    """`llama`, whose shape is what follows, or a preset of the hybrid model, which has its own."""
    hidden_size: int = field(default=128, metadata={"least": 1})
    intermediate_size: int = field(default=320, metadata={"least": 1})
    layers: int = field(default=2, metadata={"least": 1})
    heads: int = field(default=4, metadata={"least": 1})
    context: int = field(default=512, metadata={"least": 1})
    seed: int = field(default=0, metadata={"least": 0})
