"""Best of N for one prompt of any Hugging Face model."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING

from rlvr_cpp.errors import UserError
from rlvr_cpp.policy.settings import Sampling
from rlvr_cpp.search.config import Length, search_problems
from rlvr_cpp.tasks.task import Task
from rlvr_cpp.verifier.verifier import Verifier

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from rlvr_cpp.search.search import BestOfN, TaskScore


def best_of_n_generate(
    model: PreTrainedModel,
    prompt_ids: Sequence[int] | torch.Tensor,
    tokenizer: PreTrainedTokenizerBase,
    n: int,
    task: Task | str,
    verifier: Verifier | None = None,
    *,
    seed: int = 0,
    temperature: float = 1.0,
    max_new_tokens: int = 512,
    batch_size: int | None = None,
    chat: bool = False,
    score: TaskScore | None = None,
    length: Length = "code",
    stop_at_full_pass: bool = False,
    budget_s: float | None = None,
) -> tuple[str | None, BestOfN]:
    """Sample `n` completions of the prompt's tokens (T,), judge them with the public tests, return the best program.

    `task` is a `Task`, or the text of tests for a program that begins with the prompt. With `chat` the prompt is a
    conversation and the program is the answer's code block. `score` turns programs and results into rewards (`None`:
    the tiers of `compute_reward`). Candidates rank by reward, then length, both descending, then index; `length` is
    `code` (without comments and white space) or `raw`. Candidate i depends on `seed` and i alone, so that the best of 4
    chooses among the first 4 of 8. `batch_size` candidates are sampled together, `None` is all.

    `stop_at_full_pass` ends the search as soon as one passes all its tests. `budget_s` ends it after so many seconds,
    at the next token, with the best so far: the program is None where no candidate was finished. Nothing is left
    running. Without a `verifier` one is opened for this call; one that is kept remembers headers and tests.

    Raises UserError for an argument that makes no sense.
    """
    import torch

    from rlvr_cpp.policy.policy import Policy
    from rlvr_cpp.search.search import Search, rewards_by_tests

    if problems := list(search_problems(n, temperature, max_new_tokens, batch_size, length, budget_s)):
        raise UserError("; ".join(problems))
    policy = Policy(model, tokenizer, chat)
    ids = [int(i) for i in torch.as_tensor(prompt_ids).flatten()]
    if not ids:
        raise UserError("prompt_ids is empty: give the tokens of a prompt")
    if isinstance(task, str):
        task = Task("prompt", "" if chat else policy.decode(ids), task, "")
    search = Search(
        n=n,
        sampling=Sampling(seed, temperature, max_new_tokens),
        batch_size=batch_size,
        length=length,
        stop_at_full_pass=stop_at_full_pass,
        budget_s=budget_s,
    )
    with Verifier() if verifier is None else nullcontext(verifier) as judge:
        found = search.run(policy, ids, task, judge, score or rewards_by_tests)
    return found.best_code, found
