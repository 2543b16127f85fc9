"""Models that answer by construction: folders of a Llama whose next token follows from the last one alone.

The embedding is the identity and the head a table of what follows what, so nothing has to be trained; layers of almost
nothing lie between them, for an adapter to grow on. Long texts are single tokens. Half of the answers are wrong, and
behind the token that ends a turn stands a wrong one: whoever reads on there judges that.
"""

from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from rlvr_cpp.policy.thinking import DRAFT

HEAD, RIGHT, WRONG = "\n\n```cpp\nint twice(int x) { return ", "2 * x; }\n```", "3 * x; }\n```"
MORE = "\n\n```cpp\nint twice(int x) { return 4 * x; }\n```"
BREAK = "\n\n"
CERTAIN = 30.0
"""The logit of what follows; all others are near 0."""
RATHER = 0.3
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
        num_key_value_heads=2, head_dim=8, max_position_embeddings=1024, initializer_range=1e-3,
        eos_token_id=tokenizer.eos_token_id, bos_token_id=tokenizer.bos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    torch.manual_seed(0)
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        model.model.embed_tokens.weight.copy_(torch.eye(size, width))
        model.lm_head.weight.zero_()
        model.lm_head.weight[:, :size] = table / width**0.5  # a row of the identity is that much after its norm
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
