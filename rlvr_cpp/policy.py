"""The policy: a causal LM and its tokenizer, from the shelf, the hub or a folder; and text out of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from rlvr_cpp.config import AdapterSettings, PolicySettings
from rlvr_cpp.errors import UserError
from rlvr_cpp.progress import console
from rlvr_cpp.tasks import Task

SHELF = Path(__file__).parent / "models"
CHAT_REQUEST = (
    "Complete this C++ so that it does what its comment says. Answer with the complete definition of "
    "`{entry_point}` in one ```cpp code block and nothing else.\n\n```cpp\n{prompt}\n```"
)


@dataclass
class Policy:
    """A model, its tokenizer and how it is asked."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    chat: bool
    """Prompts go through the chat template and answers carry their code in a fence."""

    def prompt(self, task: Task) -> str | list[dict[str, str]]:
        """What the model is asked: the task's own text, or one user message."""
        if not self.chat:
            return task.prompt
        request = CHAT_REQUEST.format(entry_point=task.entry_point, prompt=task.prompt.rstrip())
        return [{"role": "user", "content": request}]


def load_policy(model: str, settings: PolicySettings) -> Policy:
    """Load a shipped model by name, a Hugging Face id, or a local folder.

    Raises UserError where there is no such model or a chat is asked of a tokenizer without a template.
    """
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    source = SHELF / model if (SHELF / model / "config.json").is_file() else model
    device = pick_device(settings.device)
    if not Path(source).exists():
        console.print(f"{model} is no local folder; asking the Hugging Face hub for it ...")
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, padding_side="left")
        loaded = AutoModelForCausalLM.from_pretrained(
            source, dtype=getattr(torch, settings.dtype), attn_implementation=settings.attn_implementation
        ).to(device)
    except (OSError, ValueError, ImportError, RuntimeError, SafetensorError) as error:
        shelf = ", ".join(sorted(path.name for path in SHELF.iterdir() if path.is_dir()))
        reason = str(error).strip().partition("\n")[0]
        raise UserError(
            f"model {model!r} cannot be loaded ({reason}): give a shipped model ({shelf}), a local folder, or a "
            "Hugging Face id that this machine can reach"
        ) from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    has_template = tokenizer.chat_template is not None
    if settings.prompt_format == "chat" and not has_template:
        raise UserError(f"policy.prompt_format is chat but model {model!r} has no chat template: use completion")
    chat = has_template if settings.prompt_format == "auto" else settings.prompt_format == "chat"
    # a model's own penalties and cut-offs would make what is sampled another distribution than what is trained
    loaded.generation_config = GenerationConfig(
        eos_token_id=loaded.generation_config.eos_token_id or tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return Policy(loaded, tokenizer, chat)


def pick_device(name: str) -> torch.device:
    """`auto` is a GPU where torch sees one, else the CPU. Raises UserError where there is no such device."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"policy.device is {name!r}, which is not here ({reason}): use auto or cpu") from error
    return device


def lora_config(settings: AdapterSettings) -> Any | None:
    """The peft configuration, or None where every weight is trained."""
    if not settings.enabled:
        return None
    from peft import LoraConfig

    targets: str | list[str] = settings.targets
    if settings.targets == ["all-linear"]:
        targets = "all-linear"
    return LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=targets,
        task_type="CAUSAL_LM",
    )


@torch.no_grad()
def generate(
    policy: Policy,
    tasks: Sequence[Task],
    *,
    max_new_tokens: int,
    batch_size: int,
    temperature: float = 0.0,
    seed: int = 0,
    on_batch: Callable[[int], None] = lambda _: None,
) -> list[str]:
    """One completion of each task, in order: greedy at temperature 0, else sampled from `seed`.

    Prompts of like length share a batch. The global random state is left as it was.
    """
    model, tokenizer = policy.model, policy.tokenizer
    was_training = model.training
    model.eval()
    order = sorted(range(len(tasks)), key=lambda i: len(tasks[i].prompt))
    completions = [""] * len(tasks)
    with torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []):
        torch.manual_seed(seed)
        for start in range(0, len(order), batch_size):
            indices = order[start : start + batch_size]
            inputs = _encode(policy, [tasks[i] for i in indices]).to(model.device)
            output = model.generate(**inputs, generation_config=_decoding(temperature, max_new_tokens))
            texts = tokenizer.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
            for i, text in zip(indices, texts, strict=True):
                completions[i] = text
            on_batch(len(indices))
    model.train(was_training)
    return completions


def _encode(policy: Policy, tasks: Sequence[Task]) -> Any:
    prompts = [policy.prompt(task) for task in tasks]
    if policy.chat:
        return policy.tokenizer.apply_chat_template(
            prompts, add_generation_prompt=True, padding=True, return_dict=True, return_tensors="pt"
        )
    return policy.tokenizer(prompts, padding=True, return_tensors="pt", return_token_type_ids=False)


def _decoding(temperature: float, max_new_tokens: int) -> GenerationConfig:
    sampling = {"do_sample": True, "temperature": temperature, "top_p": 1.0, "top_k": 0} if temperature > 0 else {}
    return GenerationConfig(max_new_tokens=max_new_tokens, **sampling)
