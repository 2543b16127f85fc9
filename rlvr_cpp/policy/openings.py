"""The beginning of an answer that is given to the policy, in the very tokens in which the whole answer is written.

A text that is cut first and tokenized then ends in a token that the policy has hardly ever seen there: where newline
and indentation are one token, a line that ends in a newline alone. So the whole answer is tokenized and its tokens are
cut. What a token writes is read off the decoded text: offsets that tokenizers report leave out spaces in some families.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Opening:
    """How an answer begins that the policy goes on with."""

    text: str = ""
    ids: tuple[int, ...] = ()
    """The tokens that write `text` behind the prompt's."""


def opening_of(
    tokenizer: PreTrainedTokenizerBase,
    decode: Callable[[Sequence[int]], str],
    prompt: str,
    prompt_ids: Sequence[int],
    answer: str,
    limit: int,
) -> Opening:
    """The longest beginning of `answer`, behind the prompt and its tokens, that ends with a token at or before `limit`.

    Texts are those that `decode` makes of tokens. A tokenizer that does not give back the answer's text ends it where
    the text begins to differ.
    """
    ids = answer_ids(tokenizer, prompt, prompt_ids, answer)
    behind = len(decode(prompt_ids))

    def written(count: int) -> str:
        return decode([*prompt_ids, *ids[:count]])[behind:]

    count = bisect_right(range(1, len(ids) + 1), limit, key=lambda n: len(written(n)))
    while count and not (len(text := written(count)) <= limit and answer.startswith(text)):
        count -= 1
    return Opening(written(count), tuple(ids[:count])) if count else Opening()


def answer_ids(
    tokenizer: PreTrainedTokenizerBase, prompt: str, prompt_ids: Sequence[int], answer: str
) -> Sequence[int]:
    """The tokens of an answer behind a prompt that is asked with `prompt_ids`, with or without special ones around it.

    Those of both texts together, unless one reaches across the prompt's end: then the answer's alone, for so it is
    written by a policy that is asked with the prompt alone.
    """
    for special in (False, True):
        whole = list(tokenizer(prompt + answer, add_special_tokens=special)["input_ids"])
        if whole[: len(prompt_ids)] == list(prompt_ids):
            return whole[len(prompt_ids) :]
    return list(tokenizer(answer, add_special_tokens=False)["input_ids"])
