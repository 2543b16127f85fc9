"""Registries to test with, and what many processes and killed ones do to them.

    python shelves.py crowd ROOT COUNT      COUNT processes register and promote at once
    python shelves.py kill ROOT ACTION      ACTION in a fresh copy, killed at its first step, second step, ...

Run as a script because only a process without threads can fork safely, and a test's is not one.
"""

import hashlib
import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import scipy.stats  # noqa: F401 - once here, where each fork would import it

from rlvr_cpp.adapters.metadata import CONFIG_FILE, HASHED, METADATA_FILE, WEIGHTS_FILE, AdapterMetadata
from rlvr_cpp.adapters.registry import changes
from rlvr_cpp.adapters.registry import index as registry_index
from rlvr_cpp.adapters.registry.index import opened, rebuild
from rlvr_cpp.adapters.registry.versions import checked_adapter
from rlvr_cpp.errors import UserError
from rlvr_cpp.runs.evidence import Decoding, EvaluationRecord
from rlvr_cpp.runs.files import contract_hash

BASE_HASH = "ba5e" * 16
CONTRACT = {"compiler": "g++", "compiler_version": "g++ 12.2.0", "flags": ["-O1"], "timeout": 2.0}
TASKS = 60


def adapter_hash(word: str) -> str:
    return hashlib.sha256(word.encode()).hexdigest()


def write_artifact(folder: Path, word: str, **fields) -> Path:
    """An artifact whose weights are one word: the registry looks at no tensor."""
    folder.mkdir(parents=True)
    (folder / CONFIG_FILE).write_text('{"peft_type": "LORA"}\n')
    (folder / WEIGHTS_FILE).write_text(word)
    known = {
        "base_model": "tiny-cpp", "base_hash": BASE_HASH, "base_dtype": "float32", "targets": ("gate_proj", "up_proj"),
        "rank": 8, "alpha": 16, "use_qlora": False, "quantization": None, "training_method": "gspo",
        "config": {"seed": 0, "trainer": {"steps": 25}}, "contract": CONTRACT, "parents": (), "created": "2026-11-27T08:00:00+00:00",
        "files": {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in HASHED},
    }  # fmt: skip
    (folder / METADATA_FILE).write_text(AdapterMetadata(**{**known, **fields}).to_json())
    return folder


def record(word: str | None, passed: int, **fields) -> EvaluationRecord:
    """One in which the first `passed` of 60 tasks pass greedily; of the adapter with these weights, or of the base."""
    known = {
        "benchmark": "tasks", "benchmark_hash": "b" * 64, "split": "hidden", "contract": CONTRACT,
        "contract_hash": contract_hash(fields.get("contract", CONTRACT)), "model": "tiny-cpp", "model_hash": BASE_HASH,
        "adapter": None if word is None else f"adapters/{word}", "adapter_hash": None if word is None else adapter_hash(word),
        "decoding": Decoding(temperature=1.0, max_new_tokens=128, samples=0, greedy=True, seed=0), "prompt_format": "completion", "packages": {"torch": "2.13.0"},
        "git_commit": None, "created": "2026-11-27T09:00:00+00:00", "status": "PASS", "reason": None,
        "greedy": {f"t{i:02d}": (i < passed,) for i in range(TASKS)}, "samples": {},
    }  # fmt: skip
    return EvaluationRecord(**{**known, **fields})


def registered(root: Path, *words: str, project: str = "demo", **fields) -> Path:
    """A registry with a version for each word."""
    for word in words:
        artifact = write_artifact(root.parent / f"artifact-{word}", word, **fields)
        changes.register(root, artifact, project)
    return root


def statuses(root: Path, project: str = "demo") -> dict[int, str]:
    with opened(root) as index:
        return {version.number: version.status for version in index.versions(project)}


def crowd(root: Path, count: int) -> list[str]:
    """What each of `count` processes was told, all of them held back until the last one is there."""
    registry_index.PATIENCE = 900.0  # on a crowded machine a holder may be stopped for long
    words = [f"adapter {i}" for i in range(count)]
    artifacts = [write_artifact(root.parent / f"artifact-{i}", word) for i, word in enumerate(words)]
    read_end, write_end = os.pipe()
    children = []
    for i, word in enumerate(words):
        child = os.fork()
        if child == 0:
            os.close(write_end)
            os.read(read_end, 1)  # ends when the parent closes its end
            (root.parent / f"told-{i}").write_text(_register_and_promote(root, artifacts[i], word))
            os._exit(0)
        children.append(child)
    os.close(write_end)
    for child in children:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    return [(root.parent / f"told-{i}").read_text() for i in range(count)]


def _register_and_promote(root: Path, artifact: Path, word: str) -> str:
    version = changes.register(root, artifact, "demo")
    with opened(root) as index:
        first = all(other.activation is None for other in index.versions("demo"))
    try:
        changes.promote(root, "demo", f"v{version.number}", record(word, 40), record(None, 20) if first else None)
    except UserError as error:
        return f"{version.name} {error}"
    return f"{version.name} active"


ACTIONS = {
    "register": lambda root: changes.register(root, root.parent / "artifact-new", "demo"),
    "promote": lambda root: changes.promote(root, "demo", "v2", record("two", 40)),
    "archive": lambda root: changes.archive(root, "demo", "v1"),
    "rebuild": rebuild,
}
CALLS = {
    "open", "write", "close", "__exit__", "fsync", "flock", "chmod", "mkdir", "rename", "replace", "unlink", "rmdir",
    "execute", "executemany", "executescript",
}  # fmt: skip
"""The names, in C, of all that changes a file, a folder, a lock or a data base."""


def kill(root: Path, action: str) -> list[dict]:
    """The statuses that each kill left: at the first call that may change something, at the second, ..."""
    write_artifact(root.parent / "artifact-new", "new")
    found: list[Any] = []
    while True:
        copy = root.parent / f"copy-{len(found)}"
        shutil.copytree(root, copy)
        child = os.fork()
        if child == 0:
            sys.setprofile(_Killer(len(found)))
            ACTIONS[action](copy)
            sys.setprofile(None)
            os._exit(0)
        ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert ended in (0, -signal.SIGKILL), ended
        found.append(examined(copy))
        shutil.rmtree(copy)
        if ended == 0:
            return found


class _Killer:
    """Ends the process at the n-th of the calls, before it is made."""

    def __init__(self, after: int) -> None:
        self.left = after

    def __call__(self, frame, event, argument) -> None:
        if event == "c_call" and argument.__name__ in CALLS:
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            self.left -= 1


def examined(root: Path) -> dict:
    """What somebody finds who opens the registry: statuses and log; its index must be what a new one would be."""
    with opened(root) as index:
        versions = index.versions()
    assert rebuild(root) == versions
    for version in versions:
        checked_adapter(root, version)
        assert changes.stored_record(root, version) is not None or version.activation is None
    sequences = [step.sequence for version in versions for step in version.history]
    assert sorted(sequences) == list(range(1, len(sequences) + 1))
    return {version.number: [step.after for step in version.history] for version in versions}


if __name__ == "__main__":
    command, folder, argument = sys.argv[1:]
    result = crowd(Path(folder), int(argument)) if command == "crowd" else kill(Path(folder), argument)
    print(json.dumps(result))
