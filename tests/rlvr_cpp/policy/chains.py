"""Models that answer by construction: folders of a Llama whose next token follows from the last one alone.

The embedding is the identity and the head a table of what follows what, so nothing has to be trained; a little noise lies
between and over them, for an adapter to grow on. Long texts are single tokens. Half of the answers are wrong, and
behind the token that ends a turn stands a wrong one: whoever reads on there judges that.
"""

import json
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from rlvr_cpp.policy.chat import chat_messages, rendered
from rlvr_cpp.policy.settings import ChatSettings
from rlvr_cpp.policy.thinking import CANARY, DRAFT
from tests.rlvr_cpp.policy.families import tokenizer_of

HEAD, RIGHT, WRONG = "\n\n```cpp\nint twice(int x) { return ", "2 * x; }\n```", "3 * x; }\n```"
MORE = "\n\n```cpp\nint twice(int x) { return 4 * x; }\n```"
BREAK = "\n\n"
CERTAIN = 30.0
"""The logit of what follows; all others are near 0."""
RATHER = 0.4
"""How much more the logit of the right answer is than that of the wrong one."""
CHANNELS = (
    "<|channel|>",
    "analysis",
    "<|message|>",
    DRAFT,
    "<|end|>",
    "<|start|>",
    "assistant<|channel|>final<|message|>",
)
THINKING = {
    "ChatML": ("<think>", DRAFT, "</think>"),
    "Llama 3": ("<thinking>", DRAFT, "</thinking>"),
    "DeepSeek": (DRAFT, "</think>"),
    "Qwen3": ("<think>", DRAFT, "</think>"),
    "Mistral": ("[THINK]", DRAFT, "[/THINK]"),
    "gpt-oss": CHANNELS,
}
"""What each family writes before its answer."""
TURN_END = {"ChatML": "<|im_end|>", "Llama 3": "<|eot_id|>", "Qwen3": "<|im_end|>", "gpt-oss": "<|return|>"}


TWICE = {"prompt": "/// Twice x.\nint twice(int x) {\n", "entry_point": "twice"}
ROWS = [
    {**TWICE, "task_id": f"{split}-{number}", "split": split, "reference": f"    return {factor} * x;\n}}\n",
     "test": f"#include <cassert>\nint main() {{ assert(twice({number}) == {factor * number}); assert(twice(7) == {7 * factor}); }}"}
    for split in ("train", "held_out") for number, factor in ((5, 2), (6, 3))
]  # fmt: skip
"""Of each split one task that the likelier answer solves, and one that the other does."""
FEW = ("trainer.steps=1", "trainer.batch_size=16", "algorithm.group_size=8", "trainer.micro_batch_size=16",
       "algorithm.temperature=1", "algorithm.max_gen_len=24", "evaluation.samples=0", "tasks.check_references=none",
       "tracker=null", "reward=binary", "evaluation.every=null", "guards.canary_every=99")  # fmt: skip
"""Settings of a training run that takes a second."""


def write_family(family: str, folder: Path) -> None:
    """A model of one of the families, asked as its template has it."""
    tokenizer = tokenizer_of(family)
    text = rendered(tokenizer, chat_messages(CANARY), ChatSettings())
    write_chain(folder, tokenizer, THINKING[family], TURN_END.get(family, "</s>"), text)


def write_tasks(path: Path) -> Path:
    """The tasks of `ROWS`."""
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def write_chain(
    folder: Path, tokenizer: PreTrainedTokenizerFast, thoughts: tuple[str, ...], end: str, begin: str
) -> None:
    """A model that begins behind `begin` with its thoughts and ends with `end`; behind an empty line it thinks nothing."""
    known = tokenizer.get_vocab()
    tokenizer.add_tokens([piece for piece in (*thoughts, BREAK, HEAD, RIGHT, WRONG, MORE) if piece not in known])
    line = tokenizer.convert_tokens_to_ids([*thoughts, HEAD])
    right, wrong, closed, more, empty = tokenizer.convert_tokens_to_ids([RIGHT, WRONG, end, MORE, BREAK])
    first = tokenizer(begin, add_special_tokens=False)["input_ids"][-1]
    size = len(tokenizer)
    table = torch.zeros(size, size)
    for before, after in zip([first, *line[:-1]], line, strict=True):
        table[after, before] = CERTAIN
    table[line[-1], empty] = CERTAIN if first != empty else table[line[-1], empty]
    table[right, line[-1]], table[wrong, line[-1]] = CERTAIN + RATHER, CERTAIN
    table[closed, [right, wrong]] = CERTAIN
    table[more, closed] = CERTAIN
    table[closed, more] = CERTAIN
    _save(folder, table, tokenizer)


def _save(folder: Path, table: torch.Tensor, tokenizer: PreTrainedTokenizerFast) -> None:
    size, width = len(table), -(-len(table) // 8) * 8
    config = LlamaConfig(
        vocab_size=size, hidden_size=width, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, head_dim=8, max_position_embeddings=1024, initializer_range=0.01,
        eos_token_id=tokenizer.eos_token_id, bos_token_id=tokenizer.bos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    torch.manual_seed(0)
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        model.model.embed_tokens.weight.copy_(torch.eye(size, width))
        model.lm_head.weight.mul_(0.5)
        model.lm_head.weight[:, :size] += table / width**0.5  # a row of the identity is that much after its norm
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
