"""Supervised fine-tuning of a small causal LM from scratch: tokenizer, model, batches, loss.

A Llama-shaped model, or a hybrid one of a preset, whose routers, indexers and drafting heads learn along. AdamW with a
linear warm-up and a cosine decay to zero.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from rlvr_model import HybridForCausalLM, update_router_biases
from rlvr_model.presets import load_preset
from rlvr_pretrain.recipe import LLAMA, Recipe
from rlvr_pretrain.tokenizer import train_tokenizer

IGNORED = -100


def train_model(rows: list[dict[str, str]], recipe: Recipe) -> tuple[PreTrainedModel, PreTrainedTokenizerFast, float]:
    """Train on the rows; returns the model, its tokenizer and the mean loss of the last 50 steps (`training_loss`)."""
    torch.manual_seed(recipe.seed)
    tokenizer = train_tokenizer((row["prompt"] + row["completion"] for row in rows), recipe.vocab_size)
    model = build_model(recipe, tokenizer)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.95), weight_decay=recipe.weight_decay
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate_factor(step, recipe))
    losses = []
    started = time.monotonic()
    for step, batch in enumerate(_batches(rows, tokenizer, recipe), start=1):
        loss = training_loss(model, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.max_grad_norm)
        optimizer.step()
        update_router_biases(model)
        schedule.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        if step % 100 == 0 or step == recipe.steps:
            seconds = time.monotonic() - started
            print(f"step {step:>5}/{recipe.steps}  loss {_mean(losses[-50:]):.4f}  {seconds:6.1f} s", flush=True)
    return model.eval(), tokenizer, _mean(losses[-50:])


def build_model(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """A freshly initialised model of the recipe's size."""
    if recipe.architecture != LLAMA:
        special = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id, "bos_token_id": None}
        sizes = {"vocab_size": recipe.vocab_size, "max_position_embeddings": recipe.context}
        return HybridForCausalLM(load_preset(recipe.architecture, **sizes, **special))
    config = LlamaConfig(
        vocab_size=recipe.vocab_size,
        hidden_size=recipe.hidden_size,
        intermediate_size=recipe.intermediate_size,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads,
        max_position_embeddings=recipe.context,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    return LlamaForCausalLM(config)


def learning_rate_factor(step: int, recipe: Recipe) -> float:
    """Linear from 0 to 1 over the warm-up, then half a cosine down to 0."""
    if step < recipe.warmup_steps:
        return (step + 1) / recipe.warmup_steps
    progress = (step - recipe.warmup_steps) / max(1, recipe.steps - recipe.warmup_steps)
    return 0.5 + 0.5 * math.cos(math.pi * min(1.0, progress))


def training_loss(model: PreTrainedModel, ids: torch.Tensor) -> torch.Tensor:
    """Of a hybrid its own loss, what layers and further heads add included; else `language_model_loss`."""
    if not isinstance(model, HybridForCausalLM):
        return language_model_loss(model, ids)
    assert model.config.pad_token_id is not None
    padding = torch.eq(ids, model.config.pad_token_id)
    loss: torch.Tensor = model(ids, attention_mask=~padding, labels=ids.masked_fill(padding, IGNORED)).loss
    return loss


def language_model_loss(model: PreTrainedModel, ids: torch.Tensor) -> torch.Tensor:
    """Mean next-token cross-entropy in nats over the tokens of `ids` (B, T) that are not padding."""
    mask = ids != model.config.pad_token_id
    logits = model(input_ids=ids, attention_mask=mask).logits
    targets = ids.masked_fill(~mask, IGNORED)
    return cross_entropy(logits[:, :-1].flatten(0, 1).float(), targets[:, 1:].flatten(), ignore_index=IGNORED)


def encode_row(row: dict[str, str], tokenizer: PreTrainedTokenizerFast, context: int) -> list[int]:
    """Prompt, completion and end of sequence, cut to the context.

    The two are tokenized apart, as they are when the model is asked: no token reaches over the border.
    """
    prompt, completion = tokenizer([row["prompt"], row["completion"]])["input_ids"]
    return [*prompt, *completion, tokenizer.eos_token_id][:context]


def _batches(rows: list[dict[str, str]], tokenizer: PreTrainedTokenizerFast, recipe: Recipe) -> Iterator[torch.Tensor]:
    """`steps` batches (B, T), right-padded, of rows as `encode_row` makes them."""
    encoded = [encode_row(row, tokenizer, recipe.context) for row in rows]
    rng = random.Random(recipe.seed)
    waiting: list[list[list[int]]] = []
    for _ in range(recipe.steps):
        if not waiting:
            waiting = _similar_lengths(encoded, recipe.batch_rows, rng)
        batch = waiting.pop()
        width = max(map(len, batch))
        yield torch.tensor([ids + [tokenizer.pad_token_id] * (width - len(ids)) for ids in batch])


def _similar_lengths(rows: list[list[int]], batch_rows: int, rng: random.Random) -> list[list[list[int]]]:
    """Eight batches drawn at random and cut by length, so that little of them is padding; in random order."""
    drawn = sorted(rng.sample(rows, min(8 * batch_rows, len(rows))), key=len)
    batches = [drawn[i : i + batch_rows] for i in range(0, len(drawn), batch_rows)]
    rng.shuffle(batches)
    return batches


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def save_model(model: Any, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Write the folder that `from_pretrained` reads."""
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
