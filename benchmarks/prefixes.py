"""What a given beginning is worth: `python -m benchmarks.prefixes --tasks 96 --seed 0`.

Training tasks that something can be given of, one completion each at temperature 1 from the same seeds: without a
prefix, with one that is cut at a line and tokenized by itself, and with the whole answer's tokens, cut at or before
that line. First by model and fraction, both ways and without; then by family, at the fraction that a curriculum
begins with. `--models` takes folders and hub ids as well.

The last table needs no model. It says of how many prefixes the last token is another than in the whole answer, where
the text is cut first, by the way in which families of tokenizers cut text.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable, Sequence

from rlvr_cpp.policy.openings import Opening, answer_ids
from rlvr_cpp.policy.policy import Policy, load_policy
from rlvr_cpp.policy.sampling import completion_seed, for_inference, sample
from rlvr_cpp.policy.settings import PolicySettings
from rlvr_cpp.runs.console import console
from rlvr_cpp.runs.pages import print_table
from rlvr_cpp.runs.statistics import pass_rate
from rlvr_cpp.tasks.choice import evenly_spaced
from rlvr_cpp.tasks.completion import read_completion
from rlvr_cpp.tasks.task import BUILTIN, Task, load_tasks
from rlvr_cpp.training.stepcoder.curriculum import cut_at_fraction
from rlvr_cpp.verifier.result import VerifyResult
from rlvr_cpp.verifier.verifier import Verifier
from tests.tokenizers import FAMILIES, tokenizer_of

FRACTIONS = (0.3, 0.5, 0.7, 0.9)
FIRST = 0.7
Way = Callable[[Policy, Task, int], Opening]
"""What is given of a task's answer, by the character at which a line begins."""


def cut_first(policy: Policy, task: Task, cut: int) -> Opening:
    """The text, cut and then tokenized."""
    text = (task.reference or "")[:cut]
    return Opening(text, tuple(policy.tokenizer(text, add_special_tokens=False)["input_ids"]))


WAYS: dict[str, Way] = {"cut first": cut_first, "whole tokens": lambda policy, task, cut: policy.opening(task, cut)}


def answered(
    policy: Policy, openings: dict[Task, Opening], verifier: Verifier, seed: int, length: int
) -> dict[Task, VerifyResult]:
    """One completion of each task, judged."""
    with for_inference(policy.model):
        answers = sample(
            policy.model,
            [[*policy.prompt_ids(task), *opening.ids] for task, opening in openings.items()],
            max_new_tokens=length,
            eos_ids=policy.eos_ids,
            pad_id=policy.tokenizer.pad_token_id,
            temperature=1.0,
            seeds=[completion_seed("prefixes", seed, task.task_id) for task in openings],
            batch_size=96,
        )
    programs = [
        task.program(read_completion(task, opening.text + policy.decode(ids), policy.chat, policy.thoughts).code)
        for (task, opening), ids in zip(openings.items(), answers, strict=True)
    ]
    return dict(zip(openings, verifier.verify_many(programs), strict=True))


def rates(results: Sequence[VerifyResult]) -> tuple[str, str]:
    """Compile and pass rate, with 95 % intervals."""
    compiled, passed = ([bool(getattr(r, name)) for r in results] for name in ("compile_ok", "passed"))
    return str(pass_rate(compiled)), str(pass_rate(passed))


def compare_model(name: str, tasks: list[Task], verifier: Verifier, options: argparse.Namespace) -> None:
    """The tables of one model."""
    policy = load_policy(name, PolicySettings("float32", None, "auto", None, "auto", options.threads))
    bare = answered(policy, dict.fromkeys(tasks, Opening()), verifier, options.seed, options.length)
    rows, by_family = [("none", "", *rates(list(bare.values())))], {"none": bare}
    for fraction in FRACTIONS:
        cuts = {task: cut_at_fraction(task.reference or "", fraction) for task in tasks}
        for way, opening in WAYS.items():
            openings = {task: opening(policy, task, cut) for task, cut in cuts.items()}
            found = answered(policy, openings, verifier, options.seed, options.length)
            rows.append((f"{fraction}", way, *rates(list(found.values()))))
            if fraction == FIRST:
                by_family[way] = found
    print_table(console, f"{name}: {len(tasks)} tasks", ("prefix", "tokens", "compile", "pass"), rows)
    families = defaultdict(list)
    for task in tasks:
        families[task.tags[0] if task.tags else "tasks"].append(task)
    print_table(
        console,
        f"{name}: compile / pass by family, prefix {FIRST}",
        ("family", "tasks", *by_family),
        [
            (family, str(len(own)), *(_short(found, own) for found in by_family.values()))
            for family, own in families.items()
        ],
    )


def _short(found: dict[Task, VerifyResult], tasks: list[Task]) -> str:
    results = [found[task] for task in tasks]
    return " / ".join(
        f"{sum(bool(getattr(r, name)) for r in results) / len(results):.2f}" for name in ("compile_ok", "passed")
    )


def compare_tokenizers(tasks: list[Task]) -> None:
    """How often a prefix that is cut first ends in a token that the whole answer does not have there."""
    rows = []
    for family in FAMILIES:
        policy = Policy(None, tokenizer_of(family), chat=False)
        strange = dict.fromkeys(WAYS, 0)
        for task in tasks:
            whole = answer_ids(policy.tokenizer, task.prompt, policy.prompt_ids(task), task.reference or "")
            cut = cut_at_fraction(task.reference or "", FIRST)
            for way, opening in WAYS.items():
                ids = list(opening(policy, task, cut).ids)
                strange[way] += ids != list(whole[: len(ids)])
        rows.append((family, *(f"{count / len(tasks):.2f}" for count in strange.values())))
    print_table(console, f"Prefixes of {len(tasks)} tasks that end in another token", ("tokenizer", *WAYS), rows)


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", default=["tiny-hybrid", "tiny-cpp"])
    parser.add_argument("--tasks", type=int, default=96)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--length", type=int, default=128, help="tokens of a completion at most")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    training = [task for task in load_tasks(BUILTIN) if task.split == "train"]
    tasks = evenly_spaced([t for t in training if cut_at_fraction(t.reference or "", FIRST)], options.tasks)
    compare_tokenizers(tasks)
    with Verifier(timeout=2.0) as verifier:
        for name in options.models:
            compare_model(name, tasks, verifier, options)


if __name__ == "__main__":
    main()
