"""What a run would do, before it does anything: prompts, completions, updates, an estimate of memory.

Nothing heavy is loaded: the model is built without weights from its config alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from rich.box import SIMPLE_HEAD
from rich.table import Table

from rlvr_cpp.errors import UserError, first_line
from rlvr_cpp.policy.policy import DEMO, expand_targets, find_model, know_hybrids
from rlvr_cpp.policy.settings import AdapterSettings, PolicySettings
from rlvr_cpp.runs import processes
from rlvr_cpp.runs.console import console
from rlvr_cpp.tasks.choice import split_sources
from rlvr_cpp.tasks.mixture import describe_sources, mixture_of
from rlvr_cpp.tasks.sources import load_sources
from rlvr_cpp.training.config import TrainingJob
from rlvr_cpp.training.trl_arguments import pass_sizes

GIB = 1 << 30
NF4_BYTES = 0.52
"""A weight in 4 bits with its doubly quantized scales."""
PROMPT_TOKENS = 256
"""Assumed for the estimate; prompts are not tokenized for it."""
WITHOUT_KEYS = frozenset(("linear_attention", "mamba", "conv", "moe", "mlp"))  # of a config's `layer_types`
TILE = 2048 * 16384 * 4
"""The largest block of logits that exists at a time, in float32."""


@dataclass(frozen=True)
class Memory:
    """Bytes that a process needs at the least, by what they are for."""

    base: float
    trained: float
    """Trained weights with gradients, Adam's two moments and, one step ahead, a copy to sample with; all in float32."""
    cache: float
    """Keys and values while all completions of a batch are written."""
    activations: float
    """Of one forward and backward pass; with gradient checkpointing one layer's and the layers' inputs."""

    @property
    def total(self) -> float:
        """The sum, with one tile of logits."""
        return self.base + self.trained + self.cache + self.activations + TILE


def print_plan(job: TrainingJob) -> None:
    """Print the plan. Raises UserError where tasks or the model's config cannot be read."""
    sources = load_sources(job.tasks)
    training, held_out = split_sources(sources, job.tasks.held_out_fraction, job.evaluation.limit, job.seed)
    trainer, algorithm = job.trainer, job.algorithm
    groups, count = trainer.batch_size // algorithm.group_size, processes.count()
    if (mixture := mixture_of(sources, training, job.seed)) is not None:
        mixture.check(groups)
    micro, passes = pass_sizes(algorithm, trainer, count)
    evaluations = 2 + (0 if job.evaluation.every is None else (trainer.steps - 1) // job.evaluation.every)
    completions = trainer.steps * trainer.batch_size
    rows = [
        ("model", job.model),
        ("tasks", f"{len(training)} for training, {len(held_out)} held out"),
        *(("of", words) for words in (describe_sources(sources, training) if len(sources) > 1 else ())),
        ("a rollout step", f"{groups} prompts x {algorithm.group_size} = {trainer.batch_size} completions"),
        ("with refill", f"up to {(1 + algorithm.refill_rounds) * trainer.batch_size} completions"),
        ("its updates", f"{algorithm.num_minibatches} of {passes} passes of {micro} completions, {count} process(es)"),
        ("rollout steps", f"{trainer.steps}, {trainer.steps * groups / len(training):.2f} prompts a task"),
        ("in all", f"{completions:,} completions of at most {algorithm.max_gen_len} tokens"),
        ("optimizer steps", f"at most {trainer.steps * algorithm.num_minibatches}"),
        ("evaluations", f"{evaluations}, {len(held_out)} tasks each"),
        ("checkpoints", "none" if trainer.save_every is None else f"every {trainer.save_every} steps"),
    ]
    table = Table(title="Plan", title_justify="left", box=SIMPLE_HEAD, show_header=False)
    for name, value in rows:
        if name != "with refill" or algorithm.refill_rounds:
            table.add_row(name, value)
    for name, value in _memory_rows(job, micro):
        table.add_row(name, value)
    console.print(table)


def _memory_rows(job: TrainingJob, micro: int) -> list[tuple[str, str]]:
    memory = estimate_memory(job, micro)
    parts = (("base weights", memory.base), ("what is trained", memory.trained), ("key-value cache", memory.cache))
    return [
        *((f"memory: {name}", _size(value)) for name, value in parts),
        ("memory: one pass", _size(memory.activations)),
        ("memory: at least", f"{_size(memory.total)} a process"),
    ]


def _size(value: float) -> str:
    return f"{value / GIB:.2f} GiB" if value >= GIB / 10 else f"{value / (1 << 20):.1f} MiB"


def estimate_memory(job: TrainingJob, micro: int) -> Memory:
    """From the model's config; prompts are taken to have 256 tokens. Raises UserError where there is no config."""
    config, model = _skeleton(job.model)
    text = config.get_text_config()
    width = {"float32": 4, "bfloat16": 2, "float16": 2}[job.policy.dtype]
    weights = sum(p.numel() for p in model.parameters())
    length = PROMPT_TOKENS + job.algorithm.max_gen_len
    layers, hidden = text.num_hidden_layers, text.hidden_size
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    head = getattr(text, "head_dim", None) or hidden // text.num_attention_heads
    asked = job.generation.batch_size or job.trainer.batch_size // processes.count()
    kept = layers + 8 if job.trainer.gradient_checkpointing else 16 * layers
    return Memory(
        base=_base_bytes(model, job.policy, width),
        trained=(20.0 if job.generation.ahead else 16.0)
        * (_adapter_weights(model, job.adapter) if job.adapter.enabled else weights),
        cache=2.0 * _layers_with_keys(text) * heads * head * length * width * asked,
        activations=float(kept * micro * length * hidden * width),
    )


def _layers_with_keys(config: Any) -> int:
    """Layers whose cache grows with every token."""
    kinds = getattr(config, "layer_types", None) or ["full_attention"] * config.num_hidden_layers
    return sum(kind not in WITHOUT_KEYS for kind in kinds)


def _skeleton(name: str) -> tuple[Any, torch.nn.Module]:
    from transformers import AutoConfig, AutoModelForCausalLM

    know_hybrids()
    try:
        config = AutoConfig.from_pretrained(find_model(name))
        with torch.device("meta"):
            return config, AutoModelForCausalLM.from_config(config)
    except (OSError, ValueError, ImportError) as error:
        reason = first_line(error)
        raise UserError(
            f"the config of model {name!r} cannot be read ({reason}): set model= to a shipped model ({DEMO}), a local "
            "folder, or a Hugging Face id that this machine can reach"
        ) from error


def _base_bytes(model: torch.nn.Module, policy: PolicySettings, width: int) -> float:
    """Quantized are the linear layers but for the head."""
    weights = sum(p.numel() for p in model.parameters())
    if policy.quantization is None:
        return float(weights * width)
    linear = sum(m.weight.numel() for name, m in _linear_layers(model) if not name.endswith("lm_head"))
    return linear * NF4_BYTES + (weights - linear) * width


def _adapter_weights(model: torch.nn.Module, adapter: AdapterSettings) -> int:
    """How many weights a LoRA adapter on the chosen layers has."""
    targets = expand_targets(adapter.targets)
    chosen = [
        layer
        for name, layer in _linear_layers(model)
        if (targets == "all-linear" and not name.endswith("lm_head")) or name.rpartition(".")[2] in targets
    ]
    return sum(adapter.rank * (layer.in_features + layer.out_features) for layer in chosen)


def _linear_layers(model: torch.nn.Module) -> list[tuple[str, torch.nn.Linear]]:
    return [(name, m) for name, m in model.named_modules() if isinstance(m, torch.nn.Linear)]
