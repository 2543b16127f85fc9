"""A hundred processes at once, and a kill at every step: what is left is always a whole old or a whole new state."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from rlvr_cpp.adapters.registry import changes
from rlvr_cpp.adapters.registry.index import opened, rebuild
from tests.rlvr_cpp.adapters.registry.shelves import record, registered

COUNT = 100
MEMORY = Path("/dev/shm")


@pytest.fixture
def root():
    """In memory where that is possible: a kill is no power cut, and flushing to a disk takes its time."""
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        yield Path(folder) / "registry"


def script(command: str, root: Path, argument: str):
    helper = Path(__file__).with_name("shelves.py")
    done = subprocess.run([sys.executable, helper, command, root, argument], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_hundred_processes_that_register_and_promote_at_once(root):
    told = script("crowd", root, str(COUNT))
    with opened(root) as index:
        versions = index.versions("demo")
    assert [version.number for version in versions] == list(range(1, COUNT + 1))
    assert len({version.adapter_hash for version in versions}) == COUNT

    won = {words.split()[0] for words in told if words.endswith(" active")}
    assert won == {version.name for version in versions if version.activation}
    assert [version.status for version in versions].count("active") == 1
    assert {version.status for version in versions if version.name in won} <= {"active", "archived"}

    lost = [words for words in told if not words.endswith(" active")]
    assert len(won) + len(lost) == COUNT
    reasons = ("meanwhile demo@v", "no evaluation record of the base model", "is not that of demo@v")
    assert all(any(reason in words for reason in reasons) for words in lost), lost

    sequences = sorted(step.sequence for version in versions for step in version.history)
    assert sequences == list(range(1, COUNT + 2 * len(won)))  # each winner but the last was archived
    assert rebuild(root) == versions
    assert [path for path in root.rglob("*") if path.name.endswith(".partial") or ".draft" in path.name] == []


ONE, TWO = ["draft", "active"], ["draft"]
OUTCOMES = {
    "register": ({"1": ONE, "2": TWO}, {"1": ONE, "2": TWO, "3": ["draft"]}),
    "promote": ({"1": ONE, "2": TWO}, {"1": [*ONE, "archived"], "2": [*TWO, "active"]}),
    "archive": ({"1": ONE, "2": TWO}, {"1": [*ONE, "archived"], "2": TWO}),
    "rebuild": ({"1": ONE, "2": TWO}, {"1": ONE, "2": TWO}),
}


@pytest.mark.parametrize(
    "action", [action if action == "promote" else pytest.param(action, marks=pytest.mark.slow) for action in OUTCOMES]
)
def test_a_kill_at_any_step_leaves_the_old_or_the_new_state(root, action):
    registered(root, "one", "two")
    changes.promote(root, "demo", "v1", record("one", 40), record(None, 20))
    old, new = OUTCOMES[action]
    left = script("kill", root, action)
    assert len(left) > 20  # steps at which it was killed
    assert (left[0], left[-1]) == (old, new)
    turn = left.index(new)
    assert left == [old] * turn + [new] * (len(left) - turn)
