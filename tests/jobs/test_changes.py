"""Changes between a kill and a resume, as the command meets them: refused, taken by name, noted, or of no consequence.

The table is the one of `docs/resume.md`. What each fact is made of has its own table in `training/test_facts.py`.
"""

import json
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.rlvr_cpp.policy.chains import FEW, write_family, write_tasks

DOCS = Path(__file__).parents[2] / "docs" / "resume.md"
STEPS = 3
SETTINGS = ("model=model", "tasks.source=tasks.jsonl", "reward.kind=pay:pay", "policy.chat.system=Be brief.", *FEW,
            f"trainer.steps={STEPS}", "trainer.save_every=1", "hydra.run.dir=run")  # fmt: skip
DIES_IN_THE_LAST_STEP = f"die_at('training.rollout', 'RolloutScorer.finish', {STEPS - 1})"
PAY = "def pay(*, result, **_):\n    return float(result.passed)\n"
GIVEN = "goes on with the config that the run has"


@dataclass(frozen=True)
class Change:
    """Something that is another when a run goes on, and what becomes of it."""

    make: Callable[[Path], object] = lambda place: None
    """Makes it in the folder that has the run, its model, its tasks and its reward."""
    accepted: tuple[str, ...] = ()
    """The names by which it is taken."""
    refused: str = ""
    """Words of the refusal, where there is no name to take it by."""
    noted: str = ""
    """What is noted without being accepted."""
    given: tuple[str, ...] = ()
    """What stands beside `resume=`."""
    fault: str = ""
    """Code that the process runs first."""
    environment: tuple[tuple[str, str], ...] = ()

    @property
    def outcome(self) -> str:
        """What the documentation says."""
        if self.accepted:
            return f"refused; `accept_changes=[{','.join(self.accepted)}]` takes it"
        return "refused" if self.refused else "taken and noted" if self.noted else "of no consequence"


def edited(name: str, old: str, new: str) -> Callable[[Path], object]:
    """A file in which a text is another."""
    return lambda place: (place / name).write_text((place / name).read_text().replace(old, new))


def without_lines(name: str, *numbers: int) -> Callable[[Path], object]:
    def make(place: Path) -> None:
        lines = (place / name).read_text().splitlines(keepends=True)
        (place / name).write_text("".join(line for number, line in enumerate(lines) if number not in numbers))

    return make


def reordered(place: Path) -> None:
    lines = (place / "tasks.jsonl").read_text().splitlines(keepends=True)
    (place / "tasks.jsonl").write_text("".join(reversed(lines)))


def with_a_column(place: Path) -> None:
    rows = map(json.loads, (place / "tasks.jsonl").read_text().splitlines())
    (place / "tasks.jsonl").write_text("".join(json.dumps({**row, "url": "x"}) + "\n" for row in rows))


def another_weight(place: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = place / "model" / "model.safetensors"
    weights = load_file(path)
    weights["model.norm.weight"] *= 1.001
    save_file(weights, path, {"format": "pt"})


def began_with_another_compiler(place: Path) -> None:
    """A jail reads no compiler that lies in a temporary folder, so it is the run that had another."""
    record = json.loads((place / "run" / "run.json").read_text())
    record["results"]["compiler"] = "/opt/gcc/bin/g++"
    (place / "run" / "run.json").write_text(json.dumps(record))


def damaged(*steps: int) -> Callable[[Path], object]:
    def make(place: Path) -> None:
        for step in steps:
            path = place / "run" / "checkpoints" / f"checkpoint-{step * UPDATES}" / "adapter_model.safetensors"
            path.write_bytes(path.read_bytes()[:-8])

    return make


def moved(place: Path) -> None:
    (place / "elsewhere").mkdir()
    (place / "run").rename(place / "elsewhere" / "run")
    (place / "run").symlink_to(place / "elsewhere" / "run")


def torn(place: Path) -> None:
    for name in ("metrics.jsonl", "completions.jsonl"):
        with (place / "run" / name).open("a") as file:
            file.write('{"step": 3, "rew')


UPDATES = 2
TEMPLATE = "model/chat_template.jinja"
OTHER_RULES = "import rlvr_cpp.verifier.contract as contract; contract.POLICY_VERSION += 1"
FEWER = """
import rlvr_cpp.verifier.verifier as verifier
real = verifier.require_controls
verifier.require_controls = lambda require: real(require).without("landlock")
"""
CHANGES = {
    "a test of a task": Change(edited("tasks.jsonl", "twice(7)", "twice(8 - 1)"), ("tasks",)),
    "a reference solution": Change(edited("tasks.jsonl", "return 2 * x", "return x + x"), ("tasks",)),
    "the order of the tasks": Change(reordered, ("tasks",)),
    "a held-out task less": Change(without_lines("tasks.jsonl", 2), ("tasks",)),
    "the file of tasks is gone": Change(lambda place: (place / "tasks.jsonl").unlink(), refused="'tasks.jsonl' does not exist"),
    "the same compiler at another path": Change(began_with_another_compiler, ("compiler",)),
    "another version of the rules of judging": Change(accepted=("contract",), fault=OTHER_RULES),
    "a control of the sandbox less": Change(accepted=("contract", "controls"), fault=FEWER),
    "the file of a reward of one's own": Change(edited("pay.py", "float(", "0.5 * float("), ("reward",)),
    "the chat template": Change(edited(TEMPLATE, "assistant", "model"), ("prompt",)),
    "a weight of the base": Change(another_weight, ("base_sha256", "reference_sha256")),
    "`seed=1`": Change(refused=GIVEN, given=("seed=1",)),
    "`trainer.batch_size=8`": Change(refused=GIVEN, given=("trainer.batch_size=8",)),
    "`policy.chat.system=null`": Change(refused=GIVEN, given=("policy.chat.system=null",)),
    "`tasks.source=shipped`": Change(refused=GIVEN, given=("tasks.source=shipped",)),
    "`trainer.steps` below the steps made": Change(refused="has made 2: give 2 or more", given=("trainer.steps=1",)),
    "`trainer.steps` above": Change(noted="trainer.steps", given=(f"trainer.steps={STEPS + 1}",)),
    "`trainer.learning_rate=1e-4`": Change(noted="trainer.learning_rate", given=("trainer.learning_rate=1e-4",)),
    "`tracker=tensorboard`": Change(noted="tracker", given=("tracker=tensorboard",)),
    "`run.json` is gone": Change(lambda place: (place / "run" / "run.json").unlink(), refused="holds no run that can be read"),
    "every checkpoint is damaged": Change(damaged(1, 2), refused="no checkpoint of the run in run is whole"),
    "the last checkpoint is damaged": Change(damaged(2)),
    "lines of metrics and completions that were cut off": Change(torn),
    "the run folder is at another place": Change(moved),
    "a column of the tasks that means nothing": Change(with_a_column),
    "environment variables": Change(environment=(("OMP_NUM_THREADS", "2"), ("PYTHONHASHSEED", "7"))),
}  # fmt: skip
QUICK = ("a test of a task", "`seed=1`", "`trainer.steps` above", "a column of the tasks that means nothing")
"""Of each outcome one; the others are slow together."""


@pytest.fixture(scope="module")
def killed(zygote, tmp_path_factory):
    """A folder with a run that was killed in its last step, behind two checkpoints, and all that it needs."""
    place = tmp_path_factory.mktemp("killed")
    write_family("ChatML", place / "model")
    write_tasks(place / "tasks.jsonl")
    (place / "pay.py").write_text(PAY)
    status, text = zygote.run(*SETTINGS, folder=place, fault=DIES_IN_THE_LAST_STEP)
    assert status == -signal.SIGKILL, text
    return place


def files_of(folder: Path) -> dict[str, bytes | None]:
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in CHANGES]
)
def test_a_change_between_kill_and_resume_ends_as_it_is_documented(zygote, killed, tmp_path, name):
    change = CHANGES[name]
    place = shutil.copytree(killed, tmp_path / "place", symlinks=True)
    change.make(place)
    how = {"folder": place, "fault": change.fault, "environment": dict(change.environment)}
    accept = f"accept_changes=[{','.join(change.accepted)}]"
    if change.refused or change.accepted:
        before = files_of(place / "run")
        status, text = zygote.run("resume=run", *change.given, **how)
        (sentence,) = [line for line in text.splitlines() if line.startswith("error: ")]
        assert status == 2, text
        assert (change.refused or accept) in sentence
        assert files_of(place / "run") == before
    if change.refused:
        return
    status, text = zygote.run("resume=run", *change.given, *([accept] if change.accepted else []), **how)
    assert status == 0, text
    record = json.loads((place / "run" / "run.json").read_text())
    assert {row["name"] for row in record.get("changes", [])} == {*change.accepted, change.noted} - {""}
    made = [json.loads(line)["step"] for line in (place / "run" / "metrics.jsonl").read_text().splitlines()]
    assert made == list(range(1, record["config"]["trainer"]["steps"] + 1))


def test_the_table_is_the_documented_one():
    rows = [f"| {name} | {change.outcome} |" for name, change in CHANGES.items()]
    assert "\n".join(rows) in DOCS.read_text()
    assert len(rows) >= 20
