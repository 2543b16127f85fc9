"""How a model is loaded and adapted, as a config says it, and how completions are drawn from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Sampling:
    """How completions are drawn. Each has a random stream of its own, made of the seed and of what names it."""

    seed: int
    temperature: float
    max_new_tokens: int


@dataclass
class ChatSettings:
    """What the chat template is given besides the task."""

    system: str | None = None
    """A system prompt; None sends none."""
    template_kwargs: dict[str, Any] = field(default_factory=dict)
    """Arguments of the template, such as `enable_thinking: false`."""


@dataclass
class PolicySettings:
    """How the model is loaded and asked."""

    dtype: str = field(metadata={"choices": ("float32", "bfloat16", "float16")})
    """Weights and compute: `float32`, `bfloat16`, or `float16` for cards that compute bfloat16 slowly or not at all."""
    quantization: str | None = field(metadata={"choices": (None, "nf4")})
    """None, or `nf4`: the base in 4 bits through bitsandbytes, its adapter's weights in float32."""
    device: str
    """`auto` is a GPU where there is one; else `cpu`, `cuda`, `cuda:1`, ..."""
    attn_implementation: str | None
    """Passed to transformers: `sdpa`, `eager`, `flash_attention_2`; None lets it choose."""
    prompt_format: str = field(metadata={"choices": ("auto", "completion", "chat")})
    """`completion` continues the prompt, `chat` asks through the chat template, `auto` looks whether there is one."""
    threads: int | None = field(metadata={"least": 1})
    """CPU threads of torch; None leaves the verifier a core where the model runs on the CPU."""
    think_markers: list[list[str]] | None = None
    """Pairs of texts around the model's thoughts, which are never judged; None is the field's known ones."""
    chat: ChatSettings = field(default_factory=ChatSettings)
    """Of `prompt_format: chat`."""


@dataclass
class AdapterSettings:
    """A LoRA adapter through peft; `enabled: false` trains every weight."""

    enabled: bool
    rank: int = field(metadata={"least": 1})
    alpha: int = field(metadata={"least": 1})
    targets: list[str]
    """Names of linear layers or of target sets (`mlp`, `attention`, `mamba`), or the one word `all-linear`."""
    start: str | None
    """Folder of an adapter to go on training; a frozen copy of it is then the reference. None starts a fresh one."""
