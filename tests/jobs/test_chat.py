"""Six families of chat models through a training step and an evaluation, as the commands run them.

Each model answers by construction (`chains.py`): behind a wrong draft a right answer or a wrong one, and behind the end of
its turn another wrong one. So a right answer that scores 0 is a fault of ours.
"""

import json

import pytest
from hydra import compose, initialize_config_dir
from transformers import AutoTokenizer

from rlvr_cpp import evaluate
from rlvr_cpp.evaluation import config as evaluation
from rlvr_cpp.policy import sampling
from rlvr_cpp.policy.thinking import DRAFT
from rlvr_cpp.runs.config import CONF
from rlvr_cpp.runs.console import console
from rlvr_cpp.training import checks, command
from tests.rlvr_cpp.policy.chains import FEW, RIGHT, ROWS, WRONG, write_family, write_tasks
from tests.rlvr_cpp.policy.families import FAMILIES

ANSWERS = {row["task_id"]: RIGHT if "-5" in row["task_id"] else WRONG for row in ROWS}
"""What ends a right answer: the second task is another one, to which the model's likelier answer is wrong."""
PLAIN = "opened by <think>, closed by </think>"
TAGS = f"{PLAIN}, special tokens"
CASES = {
    "ChatML": ("ChatML", PLAIN, ()),
    "Llama 3": ("Llama 3", "opened by <thinking>, closed by </thinking>", ()),
    "DeepSeek": ("DeepSeek", "opened by the template, closed by </think>, special tokens", ()),
    "Qwen3": ("Qwen3", TAGS, ()),
    "Qwen3 without thinking": ("Qwen3", TAGS, ("+policy.chat.template_kwargs.enable_thinking=false",)),
    "Mistral": ("Mistral", "opened by [THINK], closed by [/THINK], special tokens", ()),
    "gpt-oss": ("gpt-oss", "opened by <|channel|>analysis, closed by <|channel|>final<|message|>, special tokens", ()),
    "ChatML with a system prompt": ("ChatML", PLAIN, ("policy.chat.system=Be brief.",)),
}


def run_job(name, load, job, folder, *overrides):
    """A command's job in this process; gives what it printed."""
    with initialize_config_dir(CONF, version_base=None):
        settings = load(compose(name, overrides=list(overrides)))
    folder.mkdir()
    with console.capture() as said:
        job(settings, folder)
    return said.get()


def rows_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    return write_tasks(tmp_path_factory.mktemp("tasks") / "tasks.jsonl")


@pytest.fixture
def prompts(monkeypatch):
    """The token ids of every batch of prompts that a model was asked."""
    asked, generate = [], sampling._generate

    def noting(model, ids, *rest):
        asked.append(ids)
        return generate(model, ids, *rest)

    monkeypatch.setattr(sampling, "_generate", noting)
    return asked


@pytest.mark.parametrize("case", CASES)
def test_right_answers_get_1_and_wrong_ones_0_in_training_and_evaluation(tmp_path, tasks, prompts, case):
    family, told, chat = CASES[case]
    write_family(family, tmp_path / "model")
    shared = (f"model={tmp_path}/model", *chat)
    trained = run_job("gspo", checks.load, command.run, tmp_path / "t", *shared, *FEW, f"tasks.source={tasks}")
    measured = run_job("evaluate", evaluation.load, evaluate.run, tmp_path / "e", *shared, f"benchmark.source={tasks}",
                       "samples=4", "k=[1]", "temperature=1", "max_new_tokens=24")  # fmt: skip
    assert f"thinking: {told}" in " ".join(trained.split())
    assert f"thinking: {told}" in " ".join(measured.split())
    completions, samples = rows_of(tmp_path / "t" / "completions.jsonl"), rows_of(tmp_path / "e" / "samples.jsonl")
    is_right = [row["completion"].endswith(ANSWERS[row["task_id"]]) for row in (*completions, *samples)]
    rewards = [row["reward"] for row in completions] + [float(row["result"]["status"] == "ok") for row in samples]
    assert rewards == [float(right) for right in is_right]
    assert {row["reward"] for row in completions} == {0.0, 1.0}
    assert {row["truncated"] for row in completions} == {False}
    assert all((DRAFT in row["completion"]) == ("without thinking" not in case) for row in (*completions, *samples))
    greedy = {row["task_id"]: row["result"]["status"] == "ok" for row in samples if row["kind"] == "greedy"}
    assert greedy == {"held_out-5": True, "held_out-6": False}
    (step,) = rows_of(tmp_path / "t" / "metrics.jsonl")
    assert step["reward"] == pytest.approx(sum(rewards[:16]) / 16)
    assert step["kept_groups"] == 2
    assert step["grad_norm"] > 0
    assert len(prompts) == 5  # before, in and after training, and two kinds of the evaluation's
    texts = {
        text for batch in prompts for text in AutoTokenizer.from_pretrained(tmp_path / "model").batch_decode(batch)
    }
    assert {text.count("<s>") for text in texts} == {int("{{ bos_token }}" in FAMILIES[family][0])}
    assert {"system\nBe brief.<|im_end|>" in text for text in texts} == {"system" in case}
    assert {text.endswith("<think>\n\n</think>\n\n") for text in texts} == {"without thinking" in case}
