"""Mistakes over all commands: each is one sentence with its fix and exit status 2, and leaves nothing behind."""

import gzip
import json
from pathlib import Path

import pytest

from rlvr_cpp.__main__ import COMMANDS

TASK = {"task_id": "a", "prompt": "int f() {", "test": "int main() {}", "entry_point": "f"}
FILES: dict[str, str | bytes] = {
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
    "empty.jsonl": "",
    "cut.jsonl": json.dumps(TASK) + "\n" + json.dumps(TASK)[:30],
    "binary.jsonl": b"\x7fELF\xff\xfe\x00",
    "cut.jsonl.gz": gzip.compress(json.dumps(TASK).encode() * 9)[:30],
    "twice.jsonl": (json.dumps(TASK) + "\n") * 2,
    "answers.jsonl": json.dumps({"task_id": "nobody", "completion": "x"}),
    "foreign/run.json": json.dumps({"config": {"model": "demo"}, "results": {}}),
    "broken/run.json": "{",
    "listed/run.json": "[]",
    "words/config.json": "{}",
    "listing/config.json": "[]",
    "deep.jsonl": "[" * 100_000,
    "deep/run.json": "[" * 100_000,
}
GSPO = {
    "unknown task file": (["tasks.source=nowhere.jsonl"], "task file 'nowhere.jsonl' does not exist"),
    "malformed row": (["tasks.source=bad.jsonl"], "bad.jsonl line 2: field 'prompt' is missing"),
    "no tests": (["tasks.source=none.jsonl"], "none.jsonl line 1: field 'tests_declared' is 0"),
    "missing compiler": (["verifier.compiler=g++-99"], "compiler 'g++-99' was not found"),
    "bad flag": (["verifier.extra_flags=[--nonsense]"], "extra_flags has '--nonsense': only flags that choose"),
    "unknown model": (["model=./no/such/model"], "model './no/such/model' cannot be loaded"),
    "group size": (["algorithm.group_size=5"], "algorithm.group_size is 5, which does not divide it"),
    "unknown key": (["trainer.stepz=3"], "there is no setting 'trainer.stepz': do you mean 'trainer.steps'?"),
    "unknown key that is added": (["+trainer.stepz=3"], "config key 'trainer.stepz': Key 'stepz' not in"),
    "unknown group": (["trainr=gpu"], "there is no setting 'trainr': do you mean 'trainer'?"),
    "unknown recipe": (["+recipe=nope"], "recipe/nope'"),
    "recipe without a plus": (["recipe=prod"], "Could not override 'recipe'. No match in the defaults list: use +recipe=prod"),
    "unknown option of a group": (["algorithm=nope"], "it must be one of dapo, dapo_paper, dr_grpo"),
    "key that is there already": (["+seed=1"], "Could not append to config. An item is already at 'seed'"),
    "key that cannot be taken away": (["~nope"], "Could not delete from config"),
    "no key": (["demo"], "settings are given as key=value"),
    "brackets that do not close": (["tracker=[wandb"], "settings are given as key=value"),
    "dash": (["--steps=3"], "unrecognized arguments: --steps=3"),
    "reference to nothing": (["seed=${nope}"], "nope"),
    "config folder": (["--config-dir=nowhere"], "nowhere' not found"),
    "word for a number": (["trainer.steps=many"], "config key 'trainer.steps': Value 'many'"),
    "number for a list": (["adapter.targets=3"], "config key 'adapter.targets'"),
    "null for a number": (["trainer.steps=null"], "config key 'trainer.steps'"),
    "not a number": (["algorithm.temperature=nan"], "algorithm.temperature is nan"),
    "infinite time": (["verifier.timeout=inf"], "verifier.timeout is inf"),
    "no time": (["verifier.timeout=0"], "timeout"),
    "negative share": (["tasks.held_out_fraction=-1"], "tasks.held_out_fraction is -1"),
    "negative seed": (["seed=-1"], "seed is -1"),
    "empty task file": (["tasks.source=empty.jsonl"], "empty.jsonl holds no tasks"),
    "cut task file": (["tasks.source=cut.jsonl"], "cut.jsonl line 2: not JSON"),
    "cut archive": (["tasks.source=cut.jsonl.gz"], "'cut.jsonl.gz' cannot be read"),
    "binary task file": (["tasks.source=binary.jsonl"], "binary.jsonl"),
    "id that occurs twice": (["tasks.source=twice.jsonl"], "'a'"),
    "folder for tasks": (["tasks.source=foreign"], "foreign row 0: field 'task_id' is missing"),
    "weights": (["tasks.source={two.jsonl: -1}"], "the weight -1"),
    "no such difficulty": (["tasks.difficulty=[absurd]"], "has one of tasks.difficulty ['absurd']"),
    "folder without a model": (["model=words"], "model 'words' cannot be loaded"),
    "file for a model": (["model=two.jsonl"], "model 'two.jsonl' cannot be loaded"),
    "file for a run folder": (["hydra.run.dir=two.jsonl"], "the run folder cannot be made ("),
    "place that takes nothing": (["hydra.run.dir=/proc/run"], "the run folder cannot be made ("),
    "run folder that has a run": (["hydra.run.dir=foreign"], "already holds a run: choose another hydra.run.dir"),
    "resume of another command's run": (["resume=foreign"], "the run in foreign is another command's"),
    "resume of a broken run": (["resume=broken"], "broken holds no run that can be read"),
    "resume of a list": (["resume=listed"], "listed holds no run that can be read"),
    "resume with a seed": (["resume=foreign", "seed=1"], "goes on with the config that the run has, but seed=1 was given"),
    "patience without measuring": (["evaluation.patience=2", "evaluation.every=null"], "evaluation.patience is 2 without"),
    "LUSPO by tokens": (["algorithm=luspo", "algorithm.ratio=token"], "algorithm.loss_type is 'luspo' with"),
    "quantised without an adapter": (["policy.quantization=nf4", "adapter=none"], "policy.quantization is 'nf4' with"),
    "server without a URL": (["generation=vllm_server"], "vllm"),
    "marker that is no pair": (["policy.think_markers=[[a]]"], "policy.think_markers has"),
    "cache that is a folder": (["verifier.cache=foreign"], "cache 'foreign' cannot be used"),
    "several wrong": (["trainer.steps=0", "algorithm.group_size=0"], "algorithm.group_size is 0: it must be at least 2; trainer.steps is 0"),
    "no template": (["policy.prompt_format=chat"], "has no chat template"),
    "schedule": (["trainer.lr_schedule=nope"], "the trainer cannot be built"),
    "adapter target": (["adapter.targets=[nope]"], "adapter.targets is [nope], and the model has no such linear layer"),
    "device": (["policy.device=nowhere"], "policy.device is 'nowhere'"),
    "too few tasks": (["tasks.source=two.jsonl", "tasks.held_out_fraction=0.5"], "a step takes 8"),
    "trl's temperature": (["+trainer.trl.temperature=1"], "trainer.trl.temperature cannot be set: use algorithm.temp"),
    "trl's reference": (["+trainer.trl.sync_ref_model=true"], "trainer.trl.sync_ref_model cannot be set"),
    "unknown to trl": (["+trainer.trl.nonsense=1"], "trainer.trl.nonsense cannot be set"),
    "optimizer's constant": (["+trainer.trl.adam_beta2=2"], "Invalid beta parameter at index 1: 2"),
    "optimizer's arguments": (["+trainer.trl.optim_args=nope"], "the trainer cannot be built"),
    "schedule's arguments": (["+trainer.trl.lr_scheduler_kwargs={nope: 1}"], "the trainer cannot be built"),
    "tracker in trl's words": (["+trainer.trl.report_to=wandb"], "trainer.trl.report_to cannot be set: use tracker"),
    "tracker that is unknown": (["tracker=[nowhere]"], "tracker has 'nowhere': it must be some of tensorboard, wandb"),
    "prompts that do not fit": (["tasks.source=long.jsonl"], "the prompts of 16 of 16 tasks fill the model's context of 512"),
    "limit below all prompts": (["tasks.max_prompt_tokens=1"], "tasks.max_prompt_tokens is 1 and the shortest"),
    "no steps": (["trainer.steps=0"], "trainer.steps is 0: it must be at least 1"),
    "fact that is none": (["accept_changes=[weather]"], "accept_changes has weather: it must be some of tasks, contract"),
    "resume of a list of folders": (["resume=[a]"], "['a'] holds no run that can be read"),
    "model whose config is a list": (["model=listing"], "model 'listing' cannot be loaded"),
    "device without memory": (["policy.device=meta"], "policy.device is 'meta', which is not here"),
    "number of a layer": (["adapter.targets=[1]"], "adapter.targets is [1], and the model has no such linear layer"),
    "chat without a template": (["policy.chat.system=hello"], "policy.chat.system is 'hello' but model 'tiny-hybrid' has no"),
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
    "evaluate unknown key": ("evaluate", ["sample=3"], "there is no setting 'sample': do you mean 'samples'?"),
    "evaluate infinite temperature": ("evaluate", ["temperature=inf"], "temperature is inf"),
    "evaluate k": ("evaluate", ["k=[1,50]"], "k is 50 and samples is 10"),
    "evaluate answers that are not there": ("evaluate", ["completions=nowhere.jsonl"], "nowhere.jsonl"),
    "evaluate answers of others": ("evaluate", ["completions=answers.jsonl"], "answers.jsonl answers none of the"),
    "evaluate answers without ids": ("evaluate", ["completions=no.json"], "no.json"),
    "evaluate empty problems": ("evaluate", ["benchmark.source=empty.jsonl"], "empty.jsonl holds no problems"),
    "evaluate no such benchmark": ("evaluate", ["benchmark=nope"], "it must be one of humaneval_cpp, mbpp_cpp, tasks"),
    "evaluate benchmark without a file": ("evaluate", ["benchmark=mbpp_cpp", "benchmark.source=null"], "benchmark.source is null"),
    "evaluate adapter and answers": ("evaluate", ["completions=answers.jsonl", "endpoint=http://x"], "leave one out"),
    "evaluate endpoint": ("evaluate", ["endpoint=localhost", "policy.prompt_format=chat"], "endpoint is 'localhost'"),
    "evaluate adapter": ("evaluate", ["adapter_from=nowhere"], "adapter_from is 'nowhere', which is no folder"),
    "evaluate project": ("evaluate", ["adapter_from=registry:nope"], "nope"),
    "evaluate resume": ("evaluate", ["resume=nowhere"], "nowhere holds no run that can be read"),
    "evaluate resume of another run": ("evaluate", ["resume=foreign"], "the run in foreign is another command's"),
    "evaluate a file for a folder": ("evaluate", ["hydra.run.dir=no.json"], "the run folder cannot be made ("),
    "best of none": ("best_of_n", ["n=0"], "n is 0: it must be at least 1"),
    "best of unknown split": ("best_of_n", ["split=nowhere"], "split is 'nowhere'"),
    "best of a temperature": ("best_of_n", ["temperature=nan"], "temperature is nan"),
    "best of a budget": ("best_of_n", ["budget_s=inf"], "budget_s is inf"),
    "best of held-out data": ("best_of_n", ["dataset=true"], "dataset is true with split 'held_out'"),
    "best of weights": ("best_of_n", ["model=empty.jsonl"], "model 'empty.jsonl' cannot be loaded"),
    "best of a foreign run": ("best_of_n", ["resume=foreign"], "foreign"),
    "grpo sweep": ("grpo", ["--multirun", "trainer.stepz=1,2"], "there is no setting 'trainer.stepz'"),
    "grpo ratio": ("grpo", ["algorithm.ratio=word"], "algorithm.ratio is 'word'"),
    "grpo unknown loss": ("grpo", ["algorithm.loss_type=nope"], "algorithm.loss_type is 'nope'"),
    "compare no evaluation": ("compare", ["nowhere", "nowhere"], "nowhere"),
    "compare damaged": ("compare", ["no.json", "no.json"], "no.json cannot be read as an evaluation record"),
    "compare one": ("compare", ["no.json"], "the following arguments are required: others"),
    "compare a folder without": ("compare", ["foreign", "foreign"], "foreign"),
    "compare binary": ("compare", ["binary.jsonl", "binary.jsonl"], "binary.jsonl"),
    "sweep of nothing": ("runs.sweep", ["nowhere"], "nowhere"),
    "sweep of a file": ("runs.sweep", ["two.jsonl"], "two.jsonl"),
    "artifact without a place": ("artifact", ["foreign"], "neither a folder for the artifact nor --push is given"),
    "artifact of a foreign run": ("artifact", ["foreign", "here"], "the run in foreign is None, not finished"),
    "artifact of no run": ("artifact", ["nowhere", "here"], "holds no run that can be read"),
    "registry unknown version": ("registry", ["show", "demo@v9", "--registry", "shelf"], "there is no registry in shelf"),
    "registry no artifact": ("registry", ["register", "nowhere", "--project", "demo"], "nowhere"),
    "registry without a command": ("registry", [], "the following arguments are required: command"),
    "registry unknown command": ("registry", ["forget"], "invalid choice: 'forget'"),
    "registry bad name": ("registry", ["promote", "demo"], "name the version as well, such as demo@v1"),
    "registry word for a number": ("registry", ["promote", "demo@v1", "--delta", "small"], "invalid float value: 'small'"),
    "registry export to nothing": ("registry", ["export", "demo@v1"], "nothing to export to"),
    "registry in a file": ("registry", ["list", "--registry", "no.json"], "no.json"),
    "proxy without a command": ("proxy", [], "the following arguments are required"),
    "proxy of nothing": ("proxy", ["train", "nowhere", "--out", "p"], "nowhere"),
    "proxy of an empty file": ("proxy", ["train", "empty.jsonl", "--out", "p"], "empty.jsonl"),
    "proxy that is not there": ("proxy", ["score", "nowhere", "two.jsonl"], "nowhere"),
    "proxy that is none": ("proxy", ["score", "no.json", "two.jsonl"], "no.json"),
    "proxy target": ("proxy", ["train", "two.jsonl", "--out", "p", "--target", "luck"], "invalid choice: 'luck'"),
    "proxy share": ("proxy", ["train", "two.jsonl", "--out", "p", "--held-out", "2"], "--held-out is 2.0"),
    "tasks without a command": ("check_tasks", [], "the following arguments are required: command"),
    "tasks convert nothing": ("check_tasks", ["convert", "nowhere.jsonl", "--out", "t.jsonl"], "nowhere.jsonl"),
    "tasks convert without a place": ("check_tasks", ["convert", "two.jsonl"], "the following arguments are required: --out"),
    "tasks convert into a folder": ("check_tasks", ["convert", "two.jsonl", "--out", "foreign"], "'foreign' cannot be used (Is a directory)"),
    "tasks convert no row": ("check_tasks", ["convert", "answers.jsonl", "--out", "t.jsonl"], "no row can be used"),
    "tasks show unknown": ("check_tasks", ["show", "two.jsonl", "z"], "two.jsonl has no task 'z': its first is 'a'"),
    "tasks check cut": ("check_tasks", ["check", "cut.jsonl"], "cut.jsonl line 2: not JSON"),
    "tasks benchmark": ("check_tasks", ["check", "two.jsonl", "--benchmark", "nowhere.jsonl"], "nowhere.jsonl"),
    "families what": ("tasks.families.build", ["novels", "--out", "f.jsonl"], "invalid choice: 'novels'"),
    "families unknown": ("tasks.families.build", ["tasks", "--family", "odes", "--out", "f.jsonl"], "invalid choice: 'odes'"),
    "families number": ("tasks.families.build", ["corpus", "--rows", "-1", "--out", "f.jsonl"], "--rows is -1"),
    "families place": ("tasks.families.build", ["corpus", "--rows", "1", "--out", "no.json/f.jsonl"], "no.json"),
    "families a folder": ("tasks.families.build", ["tasks", "--out", "foreign"], "--out is 'foreign', where no file can be"),
    "families below a file": ("tasks.families.build", ["tasks", "--out", "no.json/f/f.jsonl"], "where no file can be"),
    "sft architecture": ("rlvr_pretrain.sft", ["--data", "two.jsonl", "--out", "m", "--architecture", "x"], "architecture is 'x'"),
    "sft data": ("rlvr_pretrain.sft", ["--data", "two.jsonl", "--out", "m"], "two.jsonl line 1: field 'completion'"),
    "sft nested": ("rlvr_pretrain.sft", ["--data", "deep.jsonl", "--out", "m"], "deep.jsonl line 1: not JSON (maximum recur"),
    "view nested": ("view", ["deep"], "deep holds no run that can be read (maximum recursion"),
    "sft place": ("rlvr_pretrain.sft", ["--data", "two.jsonl", "--out", "no.json", "--steps", "0"], "steps is 0"),
    "describe": ("rlvr_pretrain.describe", ["nope"], "nope"),
    "describe nothing": ("rlvr_pretrain.describe", [], "the following arguments are required: preset"),
    "rlvr unknown command": ("rlvr_cpp", ["gpso"], "there is no command 'gpso': did you mean gspo?"),
    "rlvr hands on": ("rlvr_cpp", ["gspo", "trainer.stepz=3"], "do you mean 'trainer.steps'?"),
    "view nothing": ("view", ["nowhere"], "nowhere holds no run that can be read"),
    "view a list": ("view", ["listed"], "listed holds no run that can be read"),
    "view without a folder": ("view", [], "the following arguments are required: RUN"),
    "verify option": ("verify", ["--nope"], "unrecognized arguments: --nope"),
    "verify cases and tests": ("verify", ["--cases", "no.json", "--tests", "no.json", "two.jsonl"], "both --tests and --cases"),
    "verify cases": ("verify", ["--cases", "no.json", "two.jsonl"], "no.json"),
    "verify folder": ("verify", ["foreign"], "'foreign' is a directory"),
    "verify standard": ("verify", ["--std", "c++99", "two.jsonl"], "c++99"),
    "verify time": ("verify", ["--timeout", "nan", "two.jsonl"], "nan"),
    "verify lines": ("verify", ["--jsonl", "nowhere.jsonl"], "nowhere.jsonl"),
    "verify lines and files": ("verify", ["--jsonl", "two.jsonl", "no.json"], "--jsonl takes no files"),
    "verify unknown file": ("verifier.command", ["nowhere.cpp"], "nowhere.cpp"),
    "verify unknown compiler": ("verifier.command", ["--compiler", "g++-99", "two.jsonl"], "g++-99"),
}  # fmt: skip
CALLS = {name: ("gspo", *rest) for name, rest in GSPO.items()} | OTHERS


@pytest.fixture(scope="module")
def ended(zygote, tmp_path_factory):
    """The folder in which each call has a folder, what it wrote and how it ended; all in one process."""
    place = tmp_path_factory.mktemp("calls")
    for name in CALLS:
        for file, content in FILES.items():
            path = place / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
    calls = {name: (module_of(module), arguments) for name, (module, arguments, _) in CALLS.items()}
    (place / "calls.json").write_text(json.dumps(calls))
    status, text = zygote.run(place / "calls.json", module="tests.jobs.several")
    assert status == 0, text
    return place


@pytest.mark.parametrize("name", CALLS)
def test_bad_input_is_one_sentence_and_leaves_nothing(ended, name):
    said = (ended / f"{name}.err").read_text()
    assert (ended / f"{name}.status").read_text() == "2", said
    (sentence,) = said.splitlines()
    assert sentence.startswith("error: ")
    assert CALLS[name][2] in sentence
    assert "Traceback" not in (ended / f"{name}.out").read_text()
    left = {str(path.relative_to(ended / name)) for path in (ended / name).rglob("*")}
    assert left == FILES.keys() | {str(Path(file).parent) for file in FILES if "/" in file}


def module_of(name):
    return name if name.startswith("rlvr_") else f"rlvr_cpp.{name}"


def test_every_command_is_among_them():
    commands = {module for name, (module, _) in COMMANDS.items() if name != "doctor"}  # which is told nothing
    assert commands <= {module_of(module) for module, *_ in CALLS.values()}
    assert len(CALLS) >= 40
