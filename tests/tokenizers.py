"""Small tokenizers that cut text as the large families do, trained on the shipped tasks."""

import json
from functools import cache

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from rlvr_cpp.policy.policy import SHELF
from rlvr_cpp.tasks.task import BUILTIN, load_tasks

QWEN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3 = QWEN.replace(r"\p{N}|", r"\p{N}{1,3}|", 1)
CHAT = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ["<s>", "</s>", "<|im_start|>", "<|im_end|>"]
FAMILIES = ("gpt2", "qwen", "llama3", "sentencepiece", "shipped")


@cache
def tokenizer_of(family: str) -> PreTrainedTokenizerFast:
    """One of `FAMILIES`, with a chat template."""
    tokenizer = AutoTokenizer.from_pretrained(SHELF / "tiny-cpp") if family == "shipped" else _trained(family)
    tokenizer.chat_template = CHAT
    return tokenizer


def _trained(family: str) -> PreTrainedTokenizerFast:
    bpe = _sentencepiece() if family == "sentencepiece" else _byte_level(family)
    alphabet = [] if family == "sentencepiece" else pre_tokenizers.ByteLevel.alphabet()
    texts = [task.prompt + (task.reference or "") for task in load_tasks(BUILTIN)[::4]]
    bytes_of_rest = [f"<0x{n:02X}>" for n in range(256)] if family == "sentencepiece" else []
    bpe.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=900, special_tokens=[*SPECIAL, *bytes_of_rest], initial_alphabet=alphabet, show_progress=False
        ),
    )
    state = json.loads(bpe.to_str())  # the bytes are no special tokens, though the trainer takes them for such
    state["added_tokens"] = [token for token in state["added_tokens"] if token["content"] in SPECIAL]
    bpe = Tokenizer.from_str(json.dumps(state))
    if family in ("llama3", "sentencepiece"):
        begin = processors.TemplateProcessing(single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 0)])
        offsets = [processors.ByteLevel(trim_offsets=True)] if family == "llama3" else []
        bpe.post_processor = processors.Sequence([*offsets, begin])
    return PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<s>", eos_token="</s>", pad_token="</s>")


def _byte_level(family: str) -> Tokenizer:
    bpe = Tokenizer(models.BPE())
    if family == "gpt2":
        bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    else:
        cuts = Regex(QWEN if family == "qwen" else LLAMA3)
        bpe.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(cuts, behavior="isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
    bpe.decoder = decoders.ByteLevel()
    return bpe


def _sentencepiece() -> Tokenizer:
    """As Llama-2's: a space before the text, spaces as letters, bytes for what is unknown."""
    bpe = Tokenizer(models.BPE(byte_fallback=True, unk_token="<s>", fuse_unk=True))
    bpe.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    bpe.pre_tokenizer = pre_tokenizers.Split(Regex(r"\n|▁*[^▁\n]*"), behavior="isolated")
    bpe.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return bpe
