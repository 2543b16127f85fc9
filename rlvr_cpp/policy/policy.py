"""The policy: a causal LM and its tokenizer, from the shelf, the hub or a folder; its adapter; and text out of it."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.pytorch_utils import Conv1D

from rlvr_cpp.errors import UserError, first_line
from rlvr_cpp.policy.chat import chat_messages, check_template, rendered, turn_end
from rlvr_cpp.policy.openings import Opening, opening_of
from rlvr_cpp.policy.settings import AdapterSettings, ChatSettings, PolicySettings
from rlvr_cpp.policy.thinking import CANARY, Thinking, decode, find_thinking, markers_of, prove_thinking
from rlvr_cpp.runs import processes
from rlvr_cpp.runs.console import console
from rlvr_cpp.tasks.task import Task
from rlvr_cpp.verifier.cpp.outline import open_items
from rlvr_cpp.verifier.think import Thoughts

SHELF = Path(__file__).parents[1] / "models"
DEMO = "tiny-hybrid"
MLP_TARGETS = ("gate_proj", "up_proj", "down_proj")
ATTENTION_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj")
MAMBA_TARGETS = ("in_proj", "out_proj")
OUTSIDE_THE_POLICY = r"(?:.*\.)?(?:indexer|mtp)\..*"
"""Layers of a hybrid that the policy's loss does not reach: what selects keys, and what drafts tokens ahead."""
FUSED = r"(?:.*\.)?(?:out_proj|conv1d)"
"""Layers whose weights transformers' Mamba models hand to fused kernels, past an adapter on them; peft refuses one."""
FUSING = ("falcon_h1", "falcon_mamba", "mamba", "mamba2", "nemotron_h")
"""Types of models that do so."""
TARGET_SETS = {"mlp": MLP_TARGETS, "attention": ATTENTION_TARGETS, "mamba": MAMBA_TARGETS}
"""Linear layers by their names in Llama- and Qwen-style models and in hybrids with Mamba layers."""


@dataclass
class Policy:
    """A model, its tokenizer and how it is asked."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    chat: bool
    """Prompts go through the chat template and answers carry their code in a fence."""
    thinking: Thinking = field(default_factory=Thinking)
    """How its thoughts are told from its answers."""
    asked: ChatSettings = field(default_factory=ChatSettings)
    """What the chat template is given besides the task."""

    @property
    def thoughts(self) -> Thoughts:
        """What is taken off its completions before they are judged."""
        return self.thinking.thoughts

    def prompt(self, task: Task) -> str | list[dict[str, str]]:
        """What the model is asked: the task's own text, or one user message."""
        return chat_messages(task, self.asked.system) if self.chat else task.prompt

    def prompt_ids(self, task: Task) -> list[int]:
        """The tokens of what the model is asked."""
        prompt = self.prompt(task)
        if isinstance(prompt, str):
            ids = list(self.tokenizer(prompt)["input_ids"])
            return ids[:-1] if ids[-1:] == [self.tokenizer.eos_token_id] else ids  # some tokenizers end every text
        return list(self.tokenizer(self.rendered(prompt), add_special_tokens=False)["input_ids"])

    def opening(self, task: Task, given: int) -> Opening:
        """How an answer begins that holds the first `given` characters of the task's reference, or a few less.

        In a chat the declaration that the answer defines stands before them, and nothing else that the prompt has.
        """
        if not given or task.reference is None:
            return Opening()
        before, behind = self._around(task)
        prompt = self.prompt(task)
        text = prompt if isinstance(prompt, str) else self.rendered(prompt)
        answer = before + task.reference + behind
        found = opening_of(self.tokenizer, self.decode, text, self.prompt_ids(task), answer, len(before) + given)
        return found if len(found.text) > len(before) else Opening()

    def _around(self, task: Task) -> tuple[str, str]:
        """What stands in an answer before and behind the text that continues the task's prompt."""
        if not self.chat:
            return "", ""
        thought = f"\n{self.thoughts.markers[0][1]}\n\n" if self.thoughts.are_open else ""
        opened = open_items(task.prompt)
        declaration = task.prompt[opened[0][0].head + opened[0][1] :] if opened else ""
        return f"{thought}```cpp\n{declaration}", "\n```"

    def rendered(self, messages: list[dict[str, str]]) -> str:
        """A conversation as the template writes it, up to where the answer begins. Raises UserError where it fails."""
        return rendered(self.tokenizer, messages, self.asked)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of tokens, without special ones but for those that mark thoughts."""
        return decode(self.tokenizer, self.thinking, ids)

    @property
    def eos_ids(self) -> list[int]:
        """Every token that ends a completion."""
        declared = self.model.generation_config.eos_token_id
        ids = {self.tokenizer.eos_token_id, *([declared] if isinstance(declared, int) else declared or [])}
        return sorted(ids - {None})


def load_policy(model: str, settings: PolicySettings) -> Policy:
    """Load a shipped model by name, a Hugging Face id, or a local folder.

    Raises UserError where there is no such model or a chat is asked of a tokenizer without a template.
    """
    know_hybrids()
    _quiet()
    source = find_model(model)
    device = pick_device(settings.device)
    torch.set_num_threads(settings.threads or _threads(device))
    if not Path(source).exists():
        console.print(f"{model} is no local folder; asking the Hugging Face hub for it ...")
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, padding_side="left")
        loaded = AutoModelForCausalLM.from_pretrained(source, **_load_arguments(settings, device))
        if settings.quantization is None and processes.sharding() != "FSDP":  # which moves it part by part
            loaded = loaded.to(device)
        _never_repack(loaded)
    except Exception as error:  # a damaged folder makes transformers raise whatever its readers trip over
        shelf = ", ".join(sorted(path.name for path in SHELF.iterdir() if path.is_dir()))
        reason = first_line(error)
        raise UserError(
            f"model {model!r} cannot be loaded ({reason}): set model= to a shipped model ({shelf}), a local folder, or "
            "a Hugging Face id that this machine can reach"
        ) from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    chat = _asks_in_a_chat(tokenizer, model, settings)
    thinking = find_thoughts(tokenizer, chat, settings)
    policy = Policy(loaded, tokenizer, chat, thinking, settings.chat)
    ends = [*policy.eos_ids, *_end_of_turn(policy)]
    if not ends or tokenizer.pad_token is None:
        raise UserError(f"the tokenizer of model {model!r} has no end token: name its eos_token in its config")
    # a model's own penalties and cut-offs would make what is sampled another distribution than what is trained
    loaded.generation_config = GenerationConfig(eos_token_id=ends, pad_token_id=tokenizer.pad_token_id)
    return policy


def _asks_in_a_chat(tokenizer: PreTrainedTokenizerBase, model: str, settings: PolicySettings) -> bool:
    """Raises UserError where a chat is asked for without a template, or what belongs to one without a chat."""
    has_template = tokenizer.chat_template is not None
    if settings.prompt_format == "chat" and not has_template:
        raise UserError(f"policy.prompt_format is chat but model {model!r} has no chat template: use completion")
    chat = has_template if settings.prompt_format == "auto" else settings.prompt_format == "chat"
    given = [key for key, value in vars(settings.chat).items() if value]
    if given and not chat:
        why = "policy.prompt_format is completion" if has_template else f"model {model!r} has no chat template"
        raise UserError(f"policy.chat.{given[0]} is {getattr(settings.chat, given[0])!r} but {why}: leave it out")
    return chat


def _end_of_turn(policy: Policy) -> list[int]:
    """The token that ends an answer in a chat, where it is another than what the tokenizer calls the end.

    It is made a special one where it is none, so that it is left out of what is judged.
    """
    if not policy.chat or policy.thinking.has_channels:
        return []
    end = turn_end(policy.tokenizer, CANARY, policy.asked)
    if end is None or end in policy.eos_ids:
        return []
    token = policy.tokenizer.convert_ids_to_tokens(end)
    if end not in policy.tokenizer.all_special_ids:
        policy.tokenizer.add_special_tokens({"additional_special_tokens": [token]}, False)
    return [end]


def find_thoughts(tokenizer: PreTrainedTokenizerBase, chat: bool, settings: PolicySettings) -> Thinking:
    """How a model marks its thoughts, told and proved. Raises UserError where its template or its markers fail."""
    markers = markers_of(settings)
    asked = check_template(tokenizer, CANARY, settings.chat) if chat else ""
    thinking = find_thinking(tokenizer, asked, markers)
    prove_thinking(tokenizer, thinking)
    if chat:
        console.print(f"thinking: {thinking.describe()}", soft_wrap=True, markup=False)
    return thinking


def know_hybrids() -> None:
    """Let transformers' Auto classes load the hybrid."""
    import rlvr_model  # noqa: F401


def _quiet() -> None:
    """A job has lines and bars of its own, which transformers' would tear."""
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")  # of its own arguments, by trl


def find_model(model: str) -> str:
    """Where a model is: the folder of a shipped one, else `model` itself."""
    shipped = SHELF / (DEMO if model == "demo" else model)
    return str(shipped) if (shipped / "config.json").is_file() else model


def _load_arguments(settings: PolicySettings, device: torch.device) -> dict[str, Any]:
    dtype = getattr(torch, settings.dtype)
    arguments: dict[str, Any] = {
        "dtype": dtype,
        "attn_implementation": settings.attn_implementation,
    }
    if settings.quantization == "nf4":
        from transformers import BitsAndBytesConfig

        arguments["device_map"] = {"": device}
        arguments["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
    return arguments


def _never_repack(model: PreTrainedModel) -> None:
    """Leave 4-bit weights in the one layout that gradients are right for.

    On a CPU with AVX512-BF16 bitsandbytes 0.50 repacks a layer at its first forward pass in eval mode. It crashes for
    input widths that are no multiple of 64, and a layer that was repacked gives wrong gradients from then on.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def _threads(device: torch.device) -> int:
    """On the CPU one core is the verifier's: two that fight for it cost more than one gives. Processes share them."""
    cores = len(os.sched_getaffinity(0)) // processes.on_this_machine()
    return max(1, cores if device.type != "cpu" else cores - 1)


def pick_device(name: str) -> torch.device:
    """`auto` is a GPU where torch sees one, else the CPU. Raises UserError where there is no such device."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # which the device `meta` cannot
    except (RuntimeError, AssertionError) as error:
        reason = first_line(error)
        raise UserError(f"policy.device is {name!r}, which is not here ({reason}): use auto or cpu") from error
    return device


def expand_targets(targets: Sequence[str]) -> str | list[str]:
    """Layer names with target sets spelled out; the word `all-linear` as it is, which peft knows."""
    if list(targets) == ["all-linear"]:
        return "all-linear"
    return [layer for name in targets for layer in TARGET_SETS.get(name, (name,))]


def lora_config(settings: AdapterSettings, model: PreTrainedModel) -> Any | None:
    """The peft configuration of a fresh adapter; None where every weight or an existing adapter is trained.

    There is no dropout: with it the ratio of an unchanged policy is not 1. Raises UserError where the model has none of
    the layers, naming those that it has.
    """
    if not settings.enabled or settings.start is not None:
        return None
    from peft import LoraConfig

    config = getattr(model, "config", None)
    without = "|".join((OUTSIDE_THE_POLICY, *([FUSED] if getattr(config, "model_type", None) in FUSING else ())))
    _require_a_target(settings.targets, model, without)
    return LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=0.0,
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),  # as GPT-2 keeps its weights
        target_modules=expand_targets(settings.targets),
        exclude_modules=without if any(re.fullmatch(without, name) for name, _ in model.named_modules()) else None,
        task_type="CAUSAL_LM",
    )


def _require_a_target(targets: Sequence[str], model: torch.nn.Module, without: str) -> None:
    wanted = expand_targets(targets)
    linear = [
        name
        for name, module in model.named_modules()
        if name and isinstance(module, (torch.nn.Linear, Conv1D)) and not re.fullmatch(without, name)
    ]
    if wanted == "all-linear" or not linear or any(f".{name}".endswith(f".{w}") for name in linear for w in wanted):
        return
    offered = sorted({name.rpartition(".")[2] for name in linear})
    raise UserError(
        f"adapter.targets is [{','.join(targets)}], and the model has no such linear layer: its own are "
        f"{', '.join(offered)}; name some of them, or use [all-linear]"
    )


def attach_adapter(policy: Policy, settings: AdapterSettings) -> None:
    """Put the adapter that training starts from on the policy, trainable. Raises UserError where it does not fit."""
    if not settings.enabled or settings.start is None:
        return
    from peft import PeftModel

    try:
        policy.model = PeftModel.from_pretrained(policy.model, settings.start, is_trainable=True)
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        reason = first_line(error)
        raise UserError(
            f"adapter.start is {settings.start!r}, which cannot be put on the model ({reason}): give the folder of a "
            "LoRA adapter that was trained on this model, or null for a fresh one"
        ) from error
