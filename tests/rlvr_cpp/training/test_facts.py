"""Twenty-odd changes between a kill and a resume: refused, accepted by their name, or of no consequence."""

import dataclasses
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from rlvr_cpp import UserError, Verifier
from rlvr_cpp.policy.policy import Policy, load_policy
from rlvr_cpp.policy.settings import ChatSettings
from rlvr_cpp.runs.config import CONF
from rlvr_cpp.runs.record import RunRecord, read_record
from rlvr_cpp.tasks.reading import contract as answer_contract
from rlvr_cpp.tasks.sources import SHIPPED, Source
from rlvr_cpp.tasks.task import Task
from rlvr_cpp.training.checks import load
from rlvr_cpp.training.config import FACTS, TrainingJob
from rlvr_cpp.training.guards.facts import reward_facts
from rlvr_cpp.training.run import facts_for_an_artifact
from rlvr_cpp.verifier import contract as verifier_contract
from rlvr_cpp.verifier.think import Thoughts
from tests.rlvr_cpp.training.decided import CPU
from tests.tokenizers import CHAT, tokenizer_of


@dataclass
class Run:
    """Everything that the facts of a run are taken from; a change gives another one."""

    job: TrainingJob
    policy: Policy
    verifier: Verifier
    training: list[Task]
    held_out: list[Task]

    def facts(self) -> dict:
        sources = [Source(SHIPPED, (*self.training, *self.held_out))]
        of_rewards = reward_facts(self.job, self.policy, self.verifier, sources, self.training, self.held_out)
        return of_rewards | facts_for_an_artifact(self.job, self.policy)


@pytest.fixture(scope="module")
def run(tasks, tmp_path_factory):
    with initialize_config_dir(CONF, version_base=None):
        job = load(compose("gspo", ["stepcoder=fgo", "stepcoder.fgo=both"]))
    with Verifier(workers=1, timeout=2.0) as verifier:
        yield Run(job, load_policy("tiny-cpp", CPU), verifier, tasks[:8], tasks[8:12])


@pytest.fixture(scope="module")
def folder(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    with RunRecord(folder, run.job, run.verifier.version, run.facts()):
        pass
    return folder


def edited(**fields) -> Callable[[Run, Path], Run]:
    """The first training task is another."""
    return lambda run, tmp: dataclasses.replace(
        run, training=[dataclasses.replace(run.training[0], **fields), *run.training[1:]]
    )


def judged_by(**settings) -> Callable[[Run, Path], Run]:
    return lambda run, tmp: dataclasses.replace(run, verifier=Verifier(**{"workers": 1, "timeout": 2.0, **settings}))


def asked_by(tokenizer, chat: bool = False) -> Callable[[Run, Path], Run]:
    return lambda run, tmp: dataclasses.replace(run, policy=Policy(run.policy.model, tokenizer(), chat))


def at_another_place(run: Run, tmp: Path) -> Run:
    (tmp / "g++").symlink_to(run.verifier.toolchain.compiler)
    return judged_by(compiler=str(tmp / "g++"))(run, tmp)


def another_version(run: Run, tmp: Path) -> Run:
    verifier = Verifier(workers=1, timeout=2.0)
    verifier.toolchain = dataclasses.replace(verifier.toolchain, version="g++ 1.0")
    return dataclasses.replace(run, verifier=verifier)


def fewer_controls(run: Run, tmp: Path) -> Run:
    verifier = Verifier(workers=1, timeout=2.0)
    verifier.workshop = type(verifier.workshop)(verifier.toolchain, verifier.workshop.controls.without("landlock"))
    return dataclasses.replace(run, verifier=verifier)


def another_base(run: Run, tmp: Path) -> Run:
    policy = load_policy("tiny-cpp", CPU)
    next(policy.model.parameters()).data[0, 0] += 1e-3
    return dataclasses.replace(run, policy=policy)


def an_adapter_to_go_on_from(run: Run, tmp: Path) -> Run:
    (tmp / "adapter_model.safetensors").write_text("weights")
    job = dataclasses.replace(run.job, adapter=dataclasses.replace(run.job.adapter, start=str(tmp)))
    return dataclasses.replace(run, job=job)


def another_template(run: Run, tmp: Path) -> Run:
    tokenizer = tokenizer_of("gpt2")
    return dataclasses.replace(run, policy=Policy(run.policy.model, tokenizer, chat=True))


REFUSED = {
    "a test": (edited(test="int main() {}"), {"tasks"}),
    "how many tests there are": (edited(tests_declared=3), {"tasks"}),
    "a prompt": (edited(prompt="int solve() {\n"), {"tasks"}),
    "a solution": (edited(reference="    return 1;\n}\n"), {"tasks"}),
    "a standard": (edited(std="c++20"), {"tasks"}),
    "a task less": (lambda run, tmp: dataclasses.replace(run, training=run.training[1:]), {"tasks"}),
    "a held-out task less": (lambda run, tmp: dataclasses.replace(run, held_out=run.held_out[1:]), {"tasks"}),
    "a task that is no longer held out": (
        lambda run, tmp: dataclasses.replace(run, training=run.training + run.held_out[:1], held_out=run.held_out[1:]),
        {"tasks"},
    ),
    "the order of tasks": (lambda run, tmp: dataclasses.replace(run, training=run.training[::-1]), {"tasks"}),
    "the compiler's version": (another_version, {"contract"}),
    "the compiler's place": (at_another_place, {"compiler"}),
    "a flag": (judged_by(extra_flags=("-O1",)), {"contract"}),
    "the time of a run": (judged_by(timeout=3.0), {"contract"}),
    "the time of a build": (judged_by(compile_timeout=3.0), {"contract"}),
    "the memory of a run": (judged_by(memory=64 << 20), {"contract"}),
    "a control less": (fewer_controls, {"contract", "controls"}),
    "the tokenizer": (asked_by(lambda: tokenizer_of("gpt2")), {"prompt"}),
    "the form of the question": (another_template, {"prompt"}),
    "a weight of the base": (another_base, {"base_sha256"}),
    "the adapter that training started from": (an_adapter_to_go_on_from, {"parents"}),
}  # fmt: skip


def workers(run: Run, tmp: Path) -> Run:
    return dataclasses.replace(run, verifier=Verifier(workers=3, timeout=2.0, cache=tmp / "cache"))


def used_tokenizer(run: Run, tmp: Path) -> Run:
    run.policy.tokenizer(["a", "b c d"], padding=True, truncation=True, max_length=2)
    return run


def elsewhere(run: Run, tmp: Path) -> Run:
    os.chdir(tmp)
    os.environ["SOMETHING"] = "else"
    return run


OF_NO_CONSEQUENCE = {
    "nothing": lambda run, tmp: run,
    "workers and cache": workers,
    "a tokenizer that was used": used_tokenizer,
    "folder and environment": elsewhere,
    "the same model from its folder": lambda run, tmp: dataclasses.replace(run, policy=load_policy("tiny-cpp", CPU)),
}


@pytest.fixture(autouse=True)
def as_it_was(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SOMETHING", "")


@pytest.mark.parametrize("change", REFUSED)
def test_a_change_is_refused_by_name_and_noted_where_it_is_accepted(run, folder, tmp_path, change):
    make, names = REFUSED[change]
    changed = make(run, tmp_path)
    copy = shutil.copytree(folder, tmp_path / "copy")
    before = (copy / "run.json").read_text()
    for accepted in ((), sorted(names)[1:]):
        with pytest.raises(UserError, match=r"run in .* not what (it|they) (was|were)") as refused:
            RunRecord(copy, run.job, "g++", changed.facts(), accepted=accepted)
        assert f"accept_changes=[{','.join(n for n in changed.facts() if n in names - set(accepted))}]" in str(
            refused.value
        )
        assert "\n" not in str(refused.value)
    assert (copy / "run.json").read_text() == before
    with RunRecord(copy, run.job, "g++", changed.facts(), accepted=sorted(names)):
        pass
    noted = read_record(copy)
    assert {(row["name"]) for row in noted["changes"]} == names
    assert all(row["was"] != row["is"] and row["at"] for row in noted["changes"])
    with RunRecord(copy, run.job, "g++", changed.facts()):  # it belongs to the run from now on
        pass
    assert len(read_record(copy)["changes"]) == len(names)


@pytest.mark.parametrize("change", OF_NO_CONSEQUENCE)
def test_what_decides_no_reward_is_no_reason_to_refuse(run, folder, tmp_path, change):
    copy = shutil.copytree(folder, tmp_path / "copy")
    with RunRecord(copy, run.job, "g++", OF_NO_CONSEQUENCE[change](run, tmp_path).facts(), accepted=["tasks"]):
        pass
    assert "changes" not in read_record(copy)


@pytest.mark.parametrize(("module", "version"), [(verifier_contract, "policy"), (answer_contract, "reading")])
def test_rules_of_verdicts_of_another_version_are_refused(run, folder, monkeypatch, module, version):
    monkeypatch.setattr(module, f"{version.upper()}_VERSION", 99)
    with pytest.raises(UserError, match=f"{version}_version: "):
        RunRecord(folder, run.job, "g++", run.facts(), write=False)


def test_a_reward_of_ones_own_that_was_edited_is_refused(run, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    source = tmp_path / "a_reward_that_is_edited.py"
    source.write_text("def paid(**_):\n    return 1.0\n")
    reward = dataclasses.replace(run.job.reward, kind="a_reward_that_is_edited:paid")
    own = dataclasses.replace(run, job=dataclasses.replace(run.job, reward=reward))
    with RunRecord(tmp_path, own.job, "g++", own.facts()):
        pass
    source.write_text("def paid(**_):\n    return 2.0\n")
    with pytest.raises(UserError, match=r"reward of the run in .* \(sha256: .*accept_changes=\[reward\]"):
        RunRecord(tmp_path, own.job, "g++", own.facts(), accepted=[])


@pytest.mark.parametrize("change", ["template", "asked", "thoughts"])
def test_a_chat_that_is_asked_otherwise_is_refused(run, tmp_path, monkeypatch, change):
    asked = ChatSettings("You write C++.", {"enable_thinking": False})
    policy = Policy(run.policy.model, tokenizer_of("gpt2"), True, asked=asked)
    chat = dataclasses.replace(run, policy=policy)
    with RunRecord(tmp_path, run.job, "g++", chat.facts()):
        pass
    if change == "template":
        monkeypatch.setattr(policy.tokenizer, "chat_template", CHAT.replace("assistant", "model"))
    elif change == "asked":
        policy.asked = ChatSettings(None, {"enable_thinking": False})
    else:
        policy.thinking = dataclasses.replace(policy.thinking, thoughts=Thoughts((("<a>", "</a>"),)))
    with pytest.raises(UserError, match=rf"prompt of the run in .* \({change}: "):
        RunRecord(tmp_path, run.job, "g++", chat.facts())


def test_every_fact_has_a_name_that_can_be_accepted(run):
    assert {*run.facts(), "reference_sha256"} == FACTS.keys()
    assert run.facts()["tools"].keys() == {"gcov"}


def test_settings_that_are_told_otherwise_are_noted(run, folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    longer = dataclasses.replace(run.job, trainer=dataclasses.replace(run.job.trainer, steps=99))
    with RunRecord(copy, longer, "g++", run.facts()):
        pass
    noted = read_record(copy)
    (row,) = noted["changes"]
    assert (row["name"], row["was"], row["is"]) == ("trainer.steps", run.job.trainer.steps, 99)
    assert noted["config"]["trainer"]["steps"] == 99
