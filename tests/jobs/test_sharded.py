"""Two processes that share out the weights train what one process does, through FSDP2 and DeepSpeed's ZeRO.

accelerate shares out weights on GPUs alone, so that the processes here are told that theirs are some: from there on all
is as it is on GPUs, over gloo. As in `test_processes.py` this file is also what the launcher starts. Each job is forked
off, so that one of them can be killed and none finds what another left in accelerate and DeepSpeed.
"""

import json
import os
import signal
import subprocess
import sys
import traceback
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from rlvr_cpp.runs.config import CONF
from tests.jobs.zygote import ENVIRONMENT

COMMON = (
    "model=tiny-cpp", "trainer.batch_size=16", "trainer.micro_batch_size=2", "algorithm.group_size=4",
    "algorithm.max_gen_len=48", "algorithm.kl_coeff=0.1", "trainer.save_every=1", "evaluation.limit=3",
)  # fmt: skip
JOBS = {
    "lora": ("trainer.steps=2", "trainer.learning_rate=1e-3", "evaluation.samples=1", "evaluation.every=1"),
    "full": (
        "trainer.steps=1",
        "trainer.learning_rate=1e-4",
        "evaluation.samples=0",
        "adapter=none",
        "algorithm=dapo",
        "stepcoder=cccs",
    ),
}
"""The first with three tasks to evaluate, which two processes cannot share evenly."""
SAME = (
    "loss", "reward", "pass_rate", "compile_rate", "kept_groups", "tied_groups", "kl", "skipped_updates", "entropy",
    "tokens", "num_tokens",
)  # fmt: skip
needs_deepspeed = pytest.mark.skipif(find_spec("deepspeed") is None, reason="needs deepspeed")


def job(*arguments):
    """What the command ends with: None, or its exit status."""
    from rlvr_cpp.gspo import main
    from rlvr_cpp.training import run

    replaced: Any = run
    replaced.best_point = lambda points: points[-1]  # so that every evaluation has the weights kept
    sys.argv = ["gspo", *arguments]
    try:
        main()
    except SystemExit as end:
        return end.code


def train(name, here, folder=None):
    return job(f"hydra.run.dir={here / (folder or name)}", *COMMON, *JOBS[name])


def killed(here):
    """A run whose first process dies while it writes its second checkpoint."""
    from rlvr_cpp.training import trainer

    replaced = vars(trainer)
    real = replaced["write_state"]

    def write_state(draft, state):
        if draft.name == "checkpoint-4":
            os.kill(os.getpid(), signal.SIGKILL)
        real(draft, state)

    replaced["write_state"] = write_state
    train("lora", here, "killed")


def resumed(here):
    return job(f"resume={here / 'killed'}", f"hydra.run.dir={here / 'nothing'}")


def on_gpus_of_gloo():
    """Let accelerate take the processes for such that it shares out weights among."""
    from accelerate import PartialState
    from accelerate.utils import DistributedType

    os.environ["ACCELERATE_TORCH_DEVICE"] = "cpu"
    state: Any = PartialState
    real = state.__init__
    state.__init__ = lambda self, cpu=False, **named: real(self, cpu=False, **named)
    assert state._prepare_backend
    state._prepare_backend = lambda *_: ("gloo", DistributedType.MULTI_GPU)


def forked(name, work, here):
    """Do one job in a process of its own, which meets those of the others in a file."""
    child = os.fork()
    if child == 0:
        import torch

        distributed: Any = torch.distributed
        rank, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        store = distributed.FileStore(str(here.parent / f"{here.name}-{name}"), count)
        distributed.init_process_group("gloo", store=store, rank=rank, world_size=count)
        try:
            ended = work(here)
        except BaseException:
            traceback.print_exc()
            ended = 1
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(ended or 0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(here, name):
    """One of the jobs, and for LoRA the same killed and gone on with; how each ended is left in a file."""
    import torch  # noqa: F401, once for all

    import rlvr_cpp.training.run  # noqa: F401

    rank = os.environ.get("RANK")
    if rank is None:
        ended = {name: train(name, here)}
    else:
        on_gpus_of_gloo()
        works = {name: partial(train, name), **({"killed": killed, "resumed": resumed} if name == "lora" else {})}
        ended = {name: forked(name, work, here) for name, work in works.items()}
    (here / f"ended-{rank}.json").write_text(json.dumps(ended))


@dataclass(frozen=True)
class Pair:
    """The folders of a job in one process and in two that share out the weights."""

    alone: Path
    together: Path
    name: str

    def runs(self):
        return self.alone / self.name, self.together / self.name


def launch(here, sharding, name):
    """Two processes by the launch file that is shipped."""
    launcher = [
        "-m", "accelerate.commands.launch", "--config_file", f"{CONF}/accelerate/{sharding}.yaml",
        "--num_processes", "2", "--main_process_port", "0",
    ]  # fmt: skip
    return subprocess.Popen(
        [sys.executable, *launcher, __file__, str(here), name],
        cwd=here, env={**ENVIRONMENT, "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"},
        text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


CASES = [
    pytest.param(("fsdp2", "lora"), id="fsdp2-lora"),
    pytest.param(("fsdp2", "full"), id="fsdp2-full", marks=pytest.mark.slow),
    *(
        pytest.param((zero, name), id=f"{zero}-{name}", marks=needs_deepspeed)
        for zero in ("zero2", "zero3")
        for name in JOBS
    ),
]


@pytest.fixture(scope="module", params=CASES)
def pair(request, zygote, tmp_path_factory):
    sharding, name = request.param
    alone, together = tmp_path_factory.mktemp("alone"), tmp_path_factory.mktemp(f"{sharding}-{name}")
    both = launch(together, sharding, name)
    status, text = zygote.run(alone, name, module="tests.jobs.test_sharded", folder=alone)
    said = both.communicate()[0]
    assert status == 0, text
    first, second = (json.loads((together / f"ended-{rank}.json").read_text()) for rank in (0, 1))
    assert first.pop("killed", -signal.SIGKILL) == -signal.SIGKILL, said
    second.pop("killed", None)
    assert {*first.values(), *second.values()} == {0}, said
    return Pair(alone, together, name)


def of_lora(pair):
    if pair.name != "lora":
        pytest.skip("of the job with an adapter")
    return pair.together


def weights(run):
    from safetensors.torch import load_file

    return load_file(next(path for path in run.glob("*/*.safetensors") if path.parent.name in ("adapter", "model")))


def norm(tensors):
    return sum(float(tensor.double().square().sum()) for tensor in tensors) ** 0.5


def json_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def results(run):
    return json.loads((run / "run.json").read_text())["results"]


def start_of(name):
    from safetensors.torch import load_file

    from rlvr_cpp.policy.policy import find_model

    return load_file(Path(find_model("tiny-cpp")) / "model.safetensors") if name == "full" else {}


def test_processes_that_share_the_weights_train_what_one_trains(pair):
    one, two = map(weights, pair.runs())
    start = start_of(pair.name)
    trained = [key for key in one if key in start or "lora_B" in key]  # from zero
    moved = norm(one[key] - start.get(key, 0) for key in trained)
    assert moved > 1e-3
    assert norm(one[key] - two[key] for key in one) < 1e-4 * moved


def test_their_steps_tell_what_those_of_one_process_do(pair):
    for first, second in zip(*(json_lines(run / "metrics.jsonl") for run in pair.runs()), strict=True):
        told = {key: first[key] for key in SAME if key in first}
        assert {key: second[key] for key in told} == pytest.approx(told, rel=1e-3, abs=1e-6)


def test_their_completions_and_evaluations_are_those_of_one_process(pair):
    for file in ("completions.jsonl", "evaluation_before.jsonl", "evaluation_after.jsonl"):
        one, two = ([(row["task_id"], row["completion"]) for row in json_lines(run / file)] for run in pair.runs())
        assert one == two
    one, two = (results(run)["greedy_by_step"] for run in pair.runs())
    assert one == two


def test_the_reference_has_the_hash_that_it_has_in_one_process(pair):
    one, two = (results(run)["reference_sha256"] for run in pair.runs())
    assert one == two


def test_the_best_weights_that_are_kept_are_whole(pair):
    from safetensors.torch import load_file

    run = of_lora(pair) / "lora"
    best, last = load_file(run / "checkpoints" / "best" / "adapter_model.safetensors"), weights(run)
    assert all(best[key].equal(last[key]) for key in last)


def test_a_killed_run_goes_on_and_ends_as_if_it_had_not_been(pair):
    whole, killed = of_lora(pair) / "lora", pair.together / "killed"
    assert results(killed)["reference_sha256"] == results(whole)["reference_sha256"]
    assert json.loads((killed / "run.json").read_text())["resumed"]
    before, after = weights(whole), weights(killed)
    assert all(before[key].equal(after[key]) for key in before)


def test_what_accelerate_would_leave_whole_without_a_word_is_refused(zygote, tmp_path):
    told = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT"}
    status, text = zygote.run(f"hydra.run.dir={tmp_path / 'run'}", *COMMON, folder=tmp_path, environment=told)
    assert status == 2, text
    assert "the launcher asks for FSDP, which accelerate has for GPUs alone, and for several processes" in text
    assert not (tmp_path / "run" / "run.json").exists()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
