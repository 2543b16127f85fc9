"""Forty mistakes over all commands: each is one sentence with its fix and exit status 2, and leaves nothing behind."""

import json

import pytest

TASK = {"task_id": "a", "prompt": "int f() {", "test": "int main() {}", "entry_point": "f"}
FILES = {
    "bad.jsonl": json.dumps(TASK) + "\n" + json.dumps({"task_id": "b", "entry_point": "f"}),
    "none.jsonl": json.dumps({**TASK, "tests_declared": 0}),
    "two.jsonl": json.dumps(TASK) + "\n" + json.dumps({**TASK, "task_id": "b"}),
    "long.jsonl": "".join(
        json.dumps({**TASK, "task_id": f"t{n}", "prompt": "// x\n" * 600 + "int f() {\n"}) + "\n" for n in range(20)
    ),
    "checked.jsonl": "".join(
        json.dumps(
            {"task_id": f"t{n}", "prompt": "// x", "cases": [["1", ""]], "checker_program": '#include "testlib.h"'}
        )
        + "\n"
        for n in range(20)
    ),
    "no.json": "{",
}
GSPO = {
    "unknown task file": (["tasks.source=nowhere.jsonl"], "task file 'nowhere.jsonl' does not exist"),
    "malformed row": (["tasks.source=bad.jsonl"], "bad.jsonl line 2: field 'prompt' is missing"),
    "no tests": (["tasks.source=none.jsonl"], "none.jsonl line 1: field 'tests_declared' is 0"),
    "missing compiler": (["verifier.compiler=g++-99"], "compiler 'g++-99' was not found"),
    "bad flag": (["verifier.extra_flags=[--nonsense]"], "extra_flags has '--nonsense': only flags that choose"),
    "unknown model": (["model=./no/such/model"], "model './no/such/model' cannot be loaded"),
    "group size": (["algorithm.group_size=5"], "algorithm.group_size is 5, which does not divide it"),
    "unknown key": (["trainer.stepz=3"], "stepz"),
    "unknown recipe": (["+recipe=nope"], "nope"),
    "no template": (["policy.prompt_format=chat"], "has no chat template"),
    "schedule": (["trainer.lr_schedule=nope"], "the trainer cannot be built"),
    "adapter target": (["adapter.targets=[nope]"], "adapter.targets is [nope], and the model has no such linear layer"),
    "device": (["policy.device=nowhere"], "policy.device is 'nowhere'"),
    "too few tasks": (["tasks.source=two.jsonl", "tasks.held_out_fraction=0.5"], "a step takes 8"),
    "trl's temperature": (["+trainer.trl.temperature=1"], "trainer.trl.temperature cannot be set: use algorithm.temp"),
    "trl's reference": (["+trainer.trl.sync_ref_model=true"], "trainer.trl.sync_ref_model cannot be set"),
    "unknown to trl": (["+trainer.trl.nonsense=1"], "trainer.trl.nonsense cannot be set"),
    "tracker in trl's words": (["+trainer.trl.report_to=wandb"], "trainer.trl.report_to cannot be set: use tracker"),
    "tracker that is unknown": (["tracker=[nowhere]"], "tracker has 'nowhere': it must be some of tensorboard, wandb"),
    "prompts that do not fit": (["tasks.source=long.jsonl"], "the prompts of 16 of 16 tasks fill the model's context of 512"),
    "limit below all prompts": (["tasks.max_prompt_tokens=1"], "tasks.max_prompt_tokens is 1 and the shortest"),
    "no steps": (["trainer.steps=0"], "trainer.steps is 0: it must be at least 1"),
    "fact that is none": (["accept_changes=[weather]"], "accept_changes has weather: it must be some of tasks, contract"),
    "resume without a run": (["resume=nowhere"], "holds no run that can be read"),
    "adapter that is not there": (["adapter.start=nowhere"], "adapter.start is 'nowhere', which cannot be put on"),
    "quantiser": (["policy.quantization=int3"], "policy.quantization is 'int3'"),
    "reward that is not there": (["reward.kind=nowhere:reward"], "reward.kind is 'nowhere:reward', which cannot be imported"),
    "infinite rate": (["trainer.learning_rate=inf"], "trainer.learning_rate is inf"),
    "isolation": (["sandbox.require=everything"], "everything"),
    "checkers without testlib": (["tasks.source=checked.jsonl"], "set verifier.testlib to the folder it is in"),
    "testlib that is not there": (["verifier.testlib=nowhere"], "name the folder that holds testlib.h"),
}  # fmt: skip
OTHERS = {
    "evaluate unknown model": ("evaluate", ["model=./nowhere"], "./nowhere"),
    "evaluate unknown tasks": ("evaluate", ["benchmark.source=nowhere.jsonl"], "nowhere.jsonl"),
    "evaluate without testlib": ("evaluate", ["benchmark.source=checked.jsonl", "benchmark.part=all"], "verifier.testlib"),
    "best without testlib": ("best_of_n", ["tasks.source=checked.jsonl"], "set verifier.testlib"),
    "evaluate temperature": ("evaluate", ["temperature=-1"], "temperature is -1"),
    "evaluate unknown key": ("evaluate", ["sample=3"], "sample"),
    "best of none": ("best_of_n", ["n=0"], "n is 0: it must be at least 1"),
    "best of unknown split": ("best_of_n", ["split=nowhere"], "split is 'nowhere'"),
    "grpo unknown loss": ("grpo", ["algorithm.loss_type=nope"], "algorithm.loss_type is 'nope'"),
    "compare no evaluation": ("compare", ["nowhere", "nowhere"], "nowhere"),
    "compare damaged": ("compare", ["no.json", "no.json"], "no.json cannot be read as an evaluation record"),
    "artifact of no run": ("artifact", ["nowhere", "here"], "holds no run that can be read"),
    "registry unknown version": ("registry", ["show", "demo@v9", "--registry", "shelf"], "there is no registry in shelf"),
    "registry no artifact": ("registry", ["register", "nowhere", "--project", "demo"], "nowhere"),
    "verify unknown file": ("verifier.command", ["nowhere.cpp"], "nowhere.cpp"),
    "verify unknown compiler": ("verifier.command", ["--compiler", "g++-99", "two.jsonl"], "g++-99"),
}  # fmt: skip
CALLS = {name: ("gspo", *rest) for name, rest in GSPO.items()} | OTHERS


@pytest.fixture(scope="module")
def ended(zygote, tmp_path_factory):
    """The folder in which each call has a folder, what it wrote and how it ended; all in one process."""
    place = tmp_path_factory.mktemp("calls")
    for name in CALLS:
        (place / name).mkdir()
        for file, text in FILES.items():
            (place / name / file).write_text(text)
    calls = {name: (f"rlvr_cpp.{module}", arguments) for name, (module, arguments, _) in CALLS.items()}
    (place / "calls.json").write_text(json.dumps(calls))
    status, text = zygote.run(place / "calls.json", module="tests.jobs.several")
    assert status == 0, text
    return place


@pytest.mark.parametrize("name", CALLS)
def test_bad_input_is_one_sentence_and_leaves_nothing(ended, name):
    said = (ended / f"{name}.txt").read_text()
    assert (ended / f"{name}.status").read_text() == "2", said
    assert CALLS[name][2] in said
    assert "Traceback" not in said
    sentences = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(sentences) <= 1
    left = {path.name for path in (ended / name).rglob("*") if path.is_file()} - FILES.keys()
    assert left <= {"stdout.log"}
    assert not any((ended / name).glob("runs/*/*"))


def test_there_are_forty_of_them():
    assert len(CALLS) >= 40
