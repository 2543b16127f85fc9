"""N candidates of one prompt: which is chosen, when the search ends, and that nothing is left behind."""

import os
import subprocess
from math import nan
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from rlvr_cpp import UserError, Verifier
from rlvr_cpp.policy.policy import SHELF, Policy
from rlvr_cpp.search.dataset import dataset_row, write_dataset
from rlvr_cpp.search.generate import best_of_n_generate
from rlvr_cpp.search.report import markdown, summarize
from rlvr_cpp.search.search import BestOfN, Ending, Sample
from rlvr_cpp.search.searched import Searched
from rlvr_cpp.tasks.task import Task
from rlvr_cpp.verifier.cases import OpenCase
from rlvr_cpp.verifier.result import VerifyResult
from rlvr_cpp.verifier.status import Status

TESTS = "#include <cassert>\nint main() { assert(twice(2) == 4); assert(twice(0) == 0); }"
TASK = Task("twice", "int twice(int x) {\n", TESTS, "twice", hidden_test=TESTS)
RIGHT, LONGER, HALF, WRONG = "return 2 * x;\n}\n", "return x + x + 0;\n}\n", "return x;\n}\n", "return z;\n}\n"
ENDLESS = "for (;;) __builtin_ia32_pause();\n}\n"


class Letters:
    """A tokenizer whose tokens are characters."""

    pad_token_id = eos_token_id = 0

    def decode(self, ids, skip_special_tokens=True) -> str:
        return "".join(chr(i) for i in ids if i)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1}
    return LlamaForCausalLM(LlamaConfig(vocab_size=128, eos_token_id=0, bos_token_id=None, pad_token_id=0, **sizes))


@pytest.fixture(scope="module")
def verifier():
    with Verifier(workers=2) as verifier:
        verifier.check(["c++17"])
        yield verifier


@pytest.fixture
def written(monkeypatch):
    """Has the sampler write given texts, then go through forward passes as long as it is told to."""

    def write(*texts: str, then_passes: int = 0) -> None:
        def sample(model, prompts, *, on_finished, **options) -> None:
            for index, text in enumerate(texts):
                on_finished(index, [*map(ord, text), 0])
            while then_passes and not model.training:
                model.get_input_embeddings()(torch.tensor([1]))

        monkeypatch.setattr("rlvr_cpp.search.search.sample", sample)

    return write


def search(model, n, verifier, task=TASK, prompt=TASK.prompt, **options):
    return best_of_n_generate(model, [*map(ord, prompt)], Letters(), n, task, verifier, **options)


def launchers() -> list[str]:
    found = subprocess.run(["pgrep", "-P", str(os.getpid()), "-f", "rlvr-cpp/launcher"], capture_output=True, text=True)
    return found.stdout.split()


def test_the_candidate_with_the_highest_reward_is_returned(model, verifier, written):
    written(HALF, WRONG, RIGHT)
    code, found = search(model, 3, verifier)
    assert code == f"{TASK.prompt}{RIGHT.rstrip()}\n"
    assert found.rewards == pytest.approx([0.65, 0.0, 1.0])
    assert (found.best, found.order) == (2, [2, 0, 1])
    assert (found.compiled, found.ran, found.passed, found.unscorable, found.unjudged) == (2, 2, 1, 0, 0)
    assert (found.asked, found.ended) == (3, "all")
    assert len(set(found.seeds)) == 3
    assert found.length_by_rank == [found.lengths[i] for i in found.order]


def test_programs_of_input_and_output_are_chosen_by_their_cases(model, verifier, written):
    reads = 'int n = 1; std::fscanf(std::fopen(files[2], "r"), "%d", &n);'
    any_even = f"#include <cstdio>\nint main(int, char** files) {{ {reads} return n % 2; }}"
    prompt = "#include <cstdio>\nint main() {\n"
    task = Task("even", prompt, "", "main", cases=(OpenCase("", ""),), checker_program=any_even)
    written('std::puts("3");\n}\n', 'std::puts("8");\n}\n', "}\n")
    code, found = search(model, 3, verifier, task=task, prompt=prompt)
    assert 'puts("8")' in code
    assert found.rewards == pytest.approx([0.3, 1.0, 0.3])


def test_longer_code_wins_a_tie_and_comments_do_not(model, verifier, written):
    written(RIGHT, LONGER, f"/* a long comment that says nothing */ {RIGHT}")
    assert search(model, 3, verifier)[1].best == 1
    assert search(model, 3, verifier, length="raw")[1].best == 2


def test_equal_programs_are_judged_once_and_share_a_verdict(model, written):
    written(RIGHT, RIGHT, RIGHT)
    with Verifier(workers=1) as verifier:
        _, found = search(model, 3, verifier)
        assert verifier.endings.total() == 1
    assert found.passed == 3


def test_what_the_infrastructure_failed_to_judge_ranks_below_what_does_not_compile(model, written, monkeypatch):
    from rlvr_cpp.verifier.judge import judge, sandbox_failure

    written(RIGHT, WRONG)
    monkeypatch.setattr(
        "rlvr_cpp.verifier.stream.judge", lambda p, w: sandbox_failure("no disk") if "2 * x" in p.code else judge(p, w)
    )
    with Verifier(workers=1) as verifier:
        _, found = search(model, 2, verifier)
    assert found.rewards == [None, 0.0]
    assert (found.best, found.unscorable) == (1, 1)


def test_the_texts_of_tests_alone_will_do(model, verifier, written):
    written(RIGHT)
    assert search(model, 1, verifier, task=TESTS)[1].passed == 1


def test_in_a_chat_the_answers_code_block_is_the_program(model, verifier, written):
    written(f"Sure:\n```cpp\nint twice(int x) {{ {RIGHT}\n```\nDone.")
    code, found = search(model, 1, verifier, task=TESTS, prompt="Write it.", chat=True)
    assert found.passed == 1
    assert "Sure" not in code


def test_a_score_of_ones_own_decides(model, verifier, written):
    written(RIGHT, WRONG)
    _, found = search(model, 2, verifier, score=lambda programs, results: [float("z" in p.code) for p in programs])
    assert found.best == 1


def test_a_full_pass_ends_the_search_while_others_are_being_written(model, verifier, written):
    written(WRONG, RIGHT, then_passes=True)
    code, found = search(model, 8, verifier, stop_at_full_pass=True)
    assert found.ended == "full pass"
    assert "2 * x" in code
    assert (found.asked, len(found.samples)) == (8, 2)


def test_a_full_pass_ends_the_wait_for_other_verdicts(model, written):
    written(ENDLESS, RIGHT)
    with Verifier(workers=2, timeout=500.0) as verifier:
        code, found = search(model, 2, verifier, stop_at_full_pass=True)
        assert launchers() == []
    assert "2 * x" in code
    assert (found.rewards, found.unjudged) == ([None, 1.0], 1)


def test_a_budget_returns_the_best_so_far_and_leaves_nothing_running(model, written):
    written(HALF, ENDLESS)
    with Verifier(workers=2, timeout=500.0) as verifier:
        verifier.check(["c++17"])
        verifier.verify(TASK.program(f"{TASK.prompt}{HALF}"))
        code, found = search(model, 2, verifier, budget_s=3.0)
        assert launchers() == []
    assert found.ended == "budget"
    assert "return x;" in code
    assert found.rewards == [pytest.approx(0.65), None]
    assert (found.unjudged, found.unscorable) == (1, 0)
    assert 3.0 <= found.seconds < 30.0


def adapted(model):
    from peft import LoraConfig, get_peft_model

    return get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM"))


@pytest.mark.parametrize("wrap", [lambda model: model, adapted], ids=["plain", "peft"])
def test_a_budget_that_is_up_ends_the_sampling_at_the_next_token(model, verifier, wrap):
    wrapped = wrap(model)
    code, found = search(wrapped, 2, verifier, budget_s=1e-9, max_new_tokens=64)
    assert code is None
    assert (found.ended, found.samples, found.best) == ("budget", (), None)


def test_the_model_is_left_as_it_was(model, verifier, written):
    model.train()
    state = torch.random.get_rng_state()
    search(model, 2, verifier, max_new_tokens=4, task=TESTS)
    assert model.training
    assert torch.equal(torch.random.get_rng_state(), state)
    written(RIGHT)
    model.eval()
    search(model, 1, verifier)
    assert not model.training
    assert not model.get_input_embeddings()._forward_pre_hooks


def test_an_interruption_leaves_nothing_running(model, monkeypatch):
    def interrupted(model, prompts, *, on_finished, **options) -> None:
        on_finished(0, [*map(ord, ENDLESS)])
        raise KeyboardInterrupt

    monkeypatch.setattr("rlvr_cpp.search.search.sample", interrupted)
    with Verifier(workers=1, timeout=500.0) as verifier:
        with pytest.raises(KeyboardInterrupt):
            search(model, 1, verifier)
        assert launchers() == []


def test_the_best_of_four_chooses_among_the_first_four_of_eight(verifier):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from rlvr_cpp.tasks.task import BUILTIN, load_tasks

    tiny, tokenizer = (kind.from_pretrained(SHELF / "tiny-cpp") for kind in (AutoModelForCausalLM, AutoTokenizer))
    task = next(task for task in load_tasks(BUILTIN) if task.split == "held_out")
    ids = tokenizer(task.prompt, return_tensors="pt")["input_ids"]
    options: Any = {"temperature": 1.5, "max_new_tokens": 96}
    two, four = (best_of_n_generate(tiny, ids, tokenizer, n, task, verifier, **options)[1] for n in (2, 4))
    assert [sample.completion for sample in two.samples] == [sample.completion for sample in four.samples][:2]
    assert two.rewards == four.rewards[:2]
    assert len({sample.completion for sample in four.samples}) > 1
    other = best_of_n_generate(tiny, ids[0].tolist(), tokenizer, 4, task, verifier, seed=1, **options)[1]
    assert [sample.completion for sample in other.samples] != [sample.completion for sample in four.samples]


BAD: dict[str, Any] = {
    "n is 0": {"n": 0},
    "temperature is 0.0": {"temperature": 0.0},
    "max_new_tokens is 0": {"max_new_tokens": 0},
    "batch_size is 0": {"batch_size": 0},
    "length is 'tokens': it must be one of code, raw": {"length": "tokens"},
    "budget_s is -1": {"budget_s": -1},
}


@pytest.mark.parametrize("words", BAD)
def test_an_argument_that_makes_no_sense_is_named(model, verifier, words):
    options = {"n": 2, **BAD[words]}
    with pytest.raises(UserError, match=words):
        search(model, options.pop("n"), verifier, **options)


def test_an_empty_prompt_is_refused(model, verifier):
    with pytest.raises(UserError, match="prompt_ids is empty"):
        search(model, 2, verifier, prompt="")


def sample_of(body: str, reward: float | None, length: int = 10) -> Sample:
    statuses: dict[float | None, Status] = {None: "sandbox_error", 1.0: "ok", 0.0: "compile_error"}
    result = VerifyResult(
        statuses.get(reward, "wrong"), reward not in (None, 0.0), reward == 1.0, 0, tests_passed=2, tests_total=2
    )
    return Sample(seed=7, completion=body, code=f"{TASK.prompt}{body}\n", length=length, result=result, reward=reward)


def outcome(*samples: tuple[str, float | None, bool | None], task_id: str = "twice", ended: Ending = "all") -> Searched:
    found = BestOfN(
        asked=len(samples),
        samples=tuple(sample_of(body, reward) for body, reward, _ in samples),
        ended=ended,
        seconds=1.0,
    )
    return Searched(task_id=task_id, prompt=TASK.prompt, found=found, hidden=tuple(hidden for *_, hidden in samples))


def test_an_outcome_survives_its_file():
    there = outcome((RIGHT, 1.0, True), (HALF, None, None))
    assert Searched.from_json(there.to_json()) == there


def test_what_choosing_was_worth_is_told_by_the_hidden_tests():
    summary = summarize(
        [
            outcome(("a", 1.0, True), ("b", 0.3, False)),
            outcome(("a", 0.3, True), ("b", 1.0, False)),  # the public tests chose wrongly
            outcome(("a", 0.3, False), ("b", 1.0, True)),
            outcome(("a", 0.3, False), ("b", 0.3, False)),
        ]
    )
    assert summary.pass_at_1.mean == pytest.approx(3 / 8)
    assert summary.best_of_n.mean == pytest.approx(2 / 4)
    assert summary.pass_at_n.mean == pytest.approx(3 / 4)
    assert summary.rise.mean == pytest.approx(1 / 8)
    assert [k for k, *_ in summary.by_k] == [1, 2]
    assert summary.by_k[0] == pytest.approx((1, 3 / 8, 3 / 8))
    assert summary.by_k[1] == pytest.approx((2, 2 / 4, 3 / 4))


def test_a_choice_that_could_not_be_judged_counts_in_no_rate():
    counted = outcome(("a", 1.0, True), ("b", 0.3, False))
    failed = [
        outcome(("a", 1.0, None), ("b", 0.3, False)),  # by the hidden tests
        outcome(("a", None, True), ("b", None, True)),  # by the public ones
    ]
    summary = summarize([counted, *failed])
    assert (summary.tasks, summary.left_out, summary.unscorable) == (1, 2, 3)
    assert summary.best_of_n.mean == 1.0


def test_a_search_without_a_candidate_in_time_has_failed():
    summary = summarize([outcome(ended="budget"), outcome(("a", 1.0, True))])
    assert (summary.ended_early, summary.best_of_n.mean, summary.pass_at_1.mean) == (1, 0.5, 0.5)


def test_nothing_counted_is_no_number():
    summary = summarize([])
    assert summary.best_of_n.mean is not None
    assert summary.rise is None
    record = {"config": {"n": 2, "model": "m", "split": "train", "temperature": 1.0}}
    page = markdown(summary, {**record, "seed": 0, "command": ["x"], "started": "", "compiler": ""})
    assert str(nan) in page


def policy(chat: bool) -> Policy:
    return Policy(None, None, chat)


def test_a_row_of_the_training_set_holds_the_best_and_the_worst():
    row = dataset_row(outcome((HALF, 0.65, False), (RIGHT, 1.0, True), (WRONG, 0.0, False)), policy(False), TASK)
    assert (row["prompt"], row["chosen"], row["rejected"]) == (TASK.prompt, f"{RIGHT}\n", f"{WRONG}\n")
    assert (row["chosen_reward"], row["rejected_reward"], row["chosen_passes"]) == (1.0, 0.0, True)
    assert [candidate["reward"] for candidate in row["all"]] == [1.0, 0.65, 0.0]


def test_candidates_that_tie_reject_none_and_unscored_ones_are_in_no_row():
    row = dataset_row(outcome((RIGHT, 1.0, True), (LONGER, 1.0, True), (HALF, None, None)), policy(False), TASK)
    assert row["rejected"] is None
    assert row["rejected_reward"] is None
    assert len(row["all"]) == 2
    assert dataset_row(outcome((HALF, None, None)), policy(False), TASK) is None


def test_a_chats_training_set_holds_messages():
    row = dataset_row(outcome(("```cpp\nx\n```", 1.0, True)), policy(True), TASK)
    assert row["prompt"][0]["role"] == "user"
    assert row["chosen"] == [{"role": "assistant", "content": "```cpp\nx\n```"}]


def test_datasets_loads_the_training_set(tmp_path):
    from datasets import load_dataset

    outcomes = [
        outcome((RIGHT, 1.0, True), (WRONG, 0.0, False)),
        outcome((RIGHT, 1.0, True), task_id="again"),
    ]
    tasks = [TASK, Task("again", TASK.prompt, TESTS, "twice")]
    write_dataset(outcomes, policy(False), tasks, tmp_path / "dataset")
    rows = load_dataset(str(tmp_path / "dataset"), split="train", cache_dir=str(tmp_path / "cache"))
    assert rows["chosen"] == [f"{RIGHT}\n"] * 2
    assert rows["rejected"] == [f"{WRONG}\n", None]
    assert [len(candidates) for candidates in rows["all"]] == [2, 1]
