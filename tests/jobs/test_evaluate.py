"""Measuring as a person does it: whole files, real compilers, kills, servers, adapters, and input that is wrong."""

import json
import shutil
import signal
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from benchmarks.evaluation import KINDS, humaneval_x_rows
from rlvr_cpp import UserError, evaluate
from rlvr_cpp.evaluation.config import load
from rlvr_cpp.runs.config import CONF
from rlvr_cpp.runs.console import console
from rlvr_cpp.runs.evidence import EvaluationRecord, task_scores
from rlvr_cpp.tasks.task import BUILTIN, load_tasks
from rlvr_cpp.verifier import stream
from rlvr_cpp.verifier.judge import judge as honest_judge
from rlvr_cpp.verifier.judge import sandbox_failure
from tests.rlvr_cpp.policy.test_completers import Server

FEW = ("benchmark.limit=3", "max_new_tokens=24", "batch_size=4")
REFERENCES = {task.prompt: task.reference for task in load_tasks(BUILTIN)}


def measure(folder, *overrides):
    """The command's job in this process; returns the record."""
    with initialize_config_dir(CONF, version_base=None):
        job = load(compose("evaluate", overrides=list(overrides)))
    folder.mkdir(exist_ok=True)
    evaluate.run(job, folder)
    return EvaluationRecord.load(folder / "evaluation.json")


def lines_of(folder):
    return (folder / "samples.jsonl").read_text().splitlines()


@pytest.fixture(scope="module")
def humaneval_x(tmp_path_factory):
    """One row of every kind in the shape of HumanEval-X C++."""
    path = tmp_path_factory.mktemp("problems") / "humaneval_cpp.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in humaneval_x_rows(len(KINDS))))
    return path


def test_right_solutions_all_pass_and_wrong_ones_all_fail(humaneval_x, tmp_path):
    source = ("benchmark=humaneval_cpp", f"benchmark.source={humaneval_x}")
    right = measure(tmp_path / "right", "model=canonical", *source)
    wrong = measure(tmp_path / "wrong", "model=negated", *source)
    assert (len(right.greedy), set(right.greedy.values())) == (len(KINDS), {(True,)})
    assert (len(wrong.greedy), set(wrong.greedy.values())) == (len(KINDS), {(False,)})
    assert {json.loads(line)["result"]["tests_total"] for line in lines_of(tmp_path / "right")} == {7}
    statuses = [json.loads(line)["result"]["status"] for line in lines_of(tmp_path / "wrong")]
    assert set(statuses) <= {"wrong", "run_error"}
    assert statuses.count("wrong") > len(KINDS) / 2
    assert right.benchmark_hash == wrong.benchmark_hash
    assert (right.split, right.status, right.samples) == ("hidden", "PASS", {})


def test_answers_that_were_written_elsewhere_are_judged_in_the_place_of_a_models(humaneval_x, tmp_path):
    source = ("benchmark=humaneval_cpp", f"benchmark.source={humaneval_x}", "benchmark.limit=4")
    problems = [json.loads(line) for line in humaneval_x.read_text().splitlines()][:: len(KINDS) // 4]
    path = tmp_path / "answers.jsonl"

    def answer(*endings):
        rows = [
            {"task_id": row["task_id"], "solution": row["prompt"] + end(row)} for end in endings for row in problems
        ]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    right, wrong = (lambda row: row["canonical_solution"]), (lambda row: "throw 1; }")
    answer(right)
    one = measure(tmp_path / "one", f"completions={path}", *source)
    assert (set(one.greedy.values()), one.samples, one.status, one.model) == ({(True,)}, {}, "PASS", str(path))
    assert (one.decoding.temperature, one.prompt_format) == (None, "chat")
    answer(right, wrong)
    two = measure(tmp_path / "two", f"completions={path}", *source)
    assert (two.greedy, set(two.samples.values()), two.decoding.samples) == ({}, {(True, False)}, 2)
    with pytest.raises(UserError, match="completions_hash of the run"):
        measure(tmp_path / "one", f"completions={path}", *source)
    problems.pop()
    answer(right)
    with console.capture() as shown:
        some = measure(tmp_path / "some", f"completions={path}", *source)
    assert (len(some.greedy), some.status) == (3, "INVALID")
    assert "1 of 4 tasks have too few answers in" in some.reason
    assert "has tasks without an answer: 1" in shown.get()


def test_a_folder_of_multipl_e_is_judged_by_its_own_tests(tmp_path):
    """Its completions leave out the brace at which they were stopped, with which its tests begin."""
    place = tmp_path / "humaneval-cpp-model-0.2-reworded"
    place.mkdir()
    for factor in (2, 3):
        row = {"name": f"HumanEval_{factor}_times", "language": "cpp", "prompt": "#include<assert.h>\nlong times(long x) {\n",
               "tests": f"}}\nint main() {{\n    auto candidate = times;\n    assert(candidate((3)) == ({3 * factor}));\n}}\n",
               "completions": ["    return 2 * x;", "    return 3 * x;"], "stop_tokens": ["\n}"]}  # fmt: skip
        (place / f"{row['name']}.json").write_text(json.dumps(row))
    record = measure(tmp_path / "run", f"completions={place}", "benchmark=humaneval_cpp", f"benchmark.source={place}")
    assert record.samples == {"HumanEval_2_times": (True, False), "HumanEval_3_times": (False, True)}
    assert record.prompt_format == "completion"


def test_everything_is_in_the_run_folder(tmp_path):
    record = measure(tmp_path / "run", "samples=2", "k=[1,2]", *FEW)
    held = {path.name for path in (tmp_path / "run").iterdir()}
    assert held == {"run.json", "samples.jsonl", "samples.html", "evaluation.json", "report.md", "report.html"}
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert run["status"] == "finished"
    assert run["results"]["record_id"] == record.record_id
    assert [row["name"] for row in run["results"]["measures"]] == ["greedy pass@1", "pass@1", "pass@2"]
    assert len(lines_of(tmp_path / "run")) == 3 * (1 + 2)
    assert (record.decoding.samples, record.prompt_format, record.adapter_hash) == (2, "completion", None)
    assert len(record.model_hash) == 64


HALF_A_BATCH = """
import os, signal
from rlvr_cpp.runs.files import JsonLines

write = JsonLines.write

def write_half(log, lines):
    first, *others = lines
    if len(log.known) == 0 and os.path.getsize("run/samples.jsonl") > 0:
        log._file.write(first[:100])
        log._file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    write(log, [first, *others])

JsonLines.write = write_half
"""
"""Dies while it writes the second batch."""


def test_a_killed_evaluation_goes_on_with_what_is_missing(zygote, tmp_path):
    settings = ("samples=1", "k=[1]", "temperature=1.5", *FEW)
    command = {"module": "rlvr_cpp.evaluate", "folder": tmp_path}
    status, said = zygote.run("hydra.run.dir=run", *settings, **command, fault=HALF_A_BATCH)
    assert status == -signal.SIGKILL, said
    written = (tmp_path / "run" / "samples.jsonl").read_text().splitlines(keepends=True)
    assert (len(written), written[-1].endswith("\n")) == (5, False)
    status, said = zygote.run("resume=run", **command)
    assert status == 0, said
    assert "4 completions are judged already" in said
    assert "2/2" in said
    now = (tmp_path / "run" / "samples.jsonl").read_text().splitlines(keepends=True)
    assert now[:4] == written[:4]
    assert len(now) == 6
    whole = measure(tmp_path / "whole", *settings)
    record = EvaluationRecord.load(tmp_path / "run" / "evaluation.json")
    assert (record.greedy, record.samples) == (whole.greedy, whole.samples)
    completions = [sorted((row["kind"], row["task_id"], row["completion"]) for row in map(json.loads, lines_of(folder)))
                   for folder in (tmp_path / "run", tmp_path / "whole")]  # fmt: skip
    assert completions[0] == completions[1]


def test_what_the_machine_failed_to_judge_makes_no_number_and_is_judged_again(tmp_path, monkeypatch):
    few = ("model=canonical", "benchmark.limit=3")
    honest, failing = honest_judge, [True]

    def judge(program, workshop):
        lost = failing[0] and program.test is not None and "solve(const int*" in program.code
        return sandbox_failure("no processes left") if lost else honest(program, workshop)

    monkeypatch.setattr(stream, "judge", judge)
    record = measure(tmp_path / "run", *few)
    lost = [task_id for task_id, outcomes in record.greedy.items() if outcomes == (None,)]
    assert lost
    assert record.status == "INVALID"
    assert f"{len(lost)} of 3 tasks could not be judged often enough" in record.reason
    assert set(task_scores(record.greedy)) == set(record.greedy) - set(lost)
    assert "INVALID" in (tmp_path / "run" / "report.md").read_text()
    failing[0] = False
    again = measure(tmp_path / "run", *few)
    assert (again.status, set(again.greedy.values())) == ("PASS", {(True,)})


def test_problems_that_changed_are_not_gone_on_with(humaneval_x, tmp_path):
    problems = tmp_path / "problems.jsonl"
    rows = humaneval_x.read_text().splitlines(keepends=True)
    problems.write_text("".join(rows[7:9]))
    settings = ("model=canonical", "benchmark=humaneval_cpp", f"benchmark.source={problems}")
    measure(tmp_path / "run", *settings)
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    problems.write_text(rows[7])
    with pytest.raises(UserError, match=r"benchmark_hash of the run in .* is not what it was"):
        measure(tmp_path / "run", *settings)
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before


def test_a_server_is_measured_like_a_model(tmp_path):
    def reply(path, body):
        return 200, {"choices": [{"text": REFERENCES[body["prompt"]] + "\nint more() {"}]}

    with Server(reply) as server:
        record = measure(
            tmp_path / "run",
            f"endpoint={server.url}",
            "model=far",
            "policy.prompt_format=completion",
            "samples=0",
            *FEW,
        )
    assert set(record.greedy.values()) == {(True,)}
    assert (record.model, record.model_hash) == ("far", None)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    """A peft folder whose adapter makes the demo's model babble."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    from rlvr_cpp.policy.policy import find_model

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(find_model("demo"))
    model = get_peft_model(model, LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False))
    folder = tmp_path_factory.mktemp("adapter")
    model.save_pretrained(folder)
    return folder


def completions(folder):
    return [json.loads(line)["completion"] for line in lines_of(folder)]


def test_an_adapter_answers_however_it_is_named(adapter, tmp_path):
    run = tmp_path / "trained"
    shutil.copytree(adapter, run / "adapter")
    (run / "run.json").write_text(json.dumps({"config": {"model": "demo"}, "results": {}}))
    plain = measure(tmp_path / "plain", "samples=0", *FEW)
    records = [
        measure(tmp_path / f"{number}", "samples=0", *FEW, *named)
        for number, named in enumerate(
            ((f"adapter_from={adapter}",), (f"model={adapter}",), (f"model={run}",), ("model=demo", f"adapter_from={adapter}"))
        )
    ]  # fmt: skip
    assert len({record.adapter_hash for record in records}) == 1
    assert {record.model_hash for record in records} == {plain.model_hash}
    assert plain.adapter_hash is None
    said = [completions(tmp_path / f"{number}") for number in range(4)]
    assert said[0] == said[1] == said[2] == said[3] != completions(tmp_path / "plain")


ADAPTERS = {
    "two adapters": (lambda a: (f"model={a}", f"adapter_from={a}"), "has an adapter of its own"),
    "no folder": (lambda a: ("adapter_from=nowhere",), "adapter_from is 'nowhere', which is no folder"),
    "another base": (lambda a: (f"adapter_from={a}", "model={other}"), "cannot be put on the model"),
}


@pytest.mark.parametrize("case", ADAPTERS)
def test_an_adapter_that_does_not_fit_is_one_sentence(adapter, tmp_path, case):
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    from rlvr_cpp.policy.policy import find_model

    other = tmp_path / "other"
    config = AutoConfig.from_pretrained(find_model("demo"))
    config.hidden_size, config.head_dim = config.hidden_size * 2, config.hidden_size * 2 // config.num_attention_heads
    AutoModelForCausalLM.from_config(config).save_pretrained(other)
    AutoTokenizer.from_pretrained(find_model("demo")).save_pretrained(other)
    overrides, words = ADAPTERS[case]
    with pytest.raises(UserError, match=words):
        measure(tmp_path / "run", *(text.format(other=other) for text in overrides(adapter)))
    assert list((tmp_path / "run").iterdir()) == []


def test_bad_input_is_one_sentence_and_leaves_nothing(zygote, humaneval_x, tmp_path):
    rows = [json.loads(line) for line in humaneval_x.read_text().splitlines()]
    del rows[2]["test"]
    (tmp_path / "bad.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = ("benchmark=humaneval_cpp", "benchmark.source=bad.jsonl")
    status, said = zygote.run(*source, module="rlvr_cpp.evaluate", folder=tmp_path)
    assert status == 2
    assert said.startswith("error: bad.jsonl line 3: field 'test' is missing")
    assert "Traceback" not in said
    assert sorted(path.name for path in Path(tmp_path).iterdir()) == ["bad.jsonl"]
