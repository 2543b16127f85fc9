"""The walls between the rooms of `rlvr_cpp`: what lies where, who may enter whom, what a room brings with it."""

import ast
import subprocess
import sys
from collections.abc import Mapping
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "rlvr_cpp"
DOORS = {
    "artifact",
    "best_of_n",
    "check_tasks",
    "compare",
    "evaluate",
    "grpo",
    "gspo",
    "proxy",
    "registry",
    "verify",
    "view",
}
ROOMS = sorted(path.parent.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*/__init__.py"))
WITHOUT_TORCH = ("verifier", "reward", "tasks", "search.proxy", "adapters.registry", "runs")


def test_only_doors_lie_outside_of_the_rooms():
    assert {path.stem for path in PACKAGE.glob("*.py")} == DOORS | {"__init__", "__main__", "errors"}
    assert all(len(path.read_text().splitlines()) <= 70 for path in PACKAGE.glob("*.py"))


def test_no_folder_holds_more_than_twenty_modules():
    crowded = {room: len(list((PACKAGE / room).glob("*.py"))) for room in [".", *ROOMS]}
    assert {room: count for room, count in crowded.items() if count > 20} == {}


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_begins_with_its_sentence_and_imports_nothing(room):
    if room == "tasks/families":  # which lists its families
        return
    (sentence,) = ast.parse((PACKAGE / room / "__init__.py").read_text()).body
    assert isinstance(sentence, ast.Expr)
    assert isinstance(sentence.value, ast.Constant)


def imports_of(path: Path, modules: Mapping[str, Path]) -> set[str]:
    """The modules of ours that a file imports, lazily and for types alone as well."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            for name in node.names:
                whole = f"{node.module}.{name.name}"
                found.add(whole if whole in modules else node.module)
        elif isinstance(node, ast.Import):
            found.update(name.name for name in node.names)
    return found & modules.keys()


def test_no_circle_of_imports():
    roots = [PACKAGE, *(ROOT / name / f"rlvr_{name}" for name in ("sandbox", "model", "kernels", "pretrain"))]
    modules = {
        ".".join(path.relative_to(root.parent).with_suffix("").parts).removesuffix(".__init__"): path
        for root in roots
        for path in root.rglob("*.py")
    }
    graph = {name: imports_of(path, modules) - {name} for name, path in modules.items()}
    assert len(graph) > 200
    list(TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle


@pytest.mark.parametrize("room", WITHOUT_TORCH)
def test_a_room_without_torch_brings_none(room):
    folder = PACKAGE / room.replace(".", "/")
    modules = [path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".") for path in folder.rglob("*.py")]
    heavy = {"torch", "transformers", "trl"} | ({"hydra"} if room != "runs" else set())  # a sweep's callback is Hydra's
    code = (
        "import importlib, sys\n"
        f"for name in {sorted(modules)!r}: importlib.import_module(name.removesuffix('.__init__'))\n"
        f"print(sorted({heavy!r} & set(sys.modules)))"
    )
    paths = [str(ROOT / name) for name in (".", "sandbox", "model", "kernels", "pretrain")]
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": ":".join(paths)}
    )
    assert done.stdout == "[]\n", done.stderr


def contracts_broken_by(tmp_path, module: str, line: str) -> str:
    """What import-linter says of a copy of the tree in which one module imports one thing more."""
    for name in ("rlvr_cpp", "sandbox", "model", "kernels", "pretrain", "pyproject.toml"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "rlvr_cpp").unlink()
    for path in PACKAGE.rglob("*.py"):
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    place = tmp_path / module
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.open("a") as file:
        file.write(f"\n{line}\n")
    linter = Path(sys.executable).with_name("lint-imports")
    paths = [str(tmp_path / name) for name in (".", "sandbox", "model", "kernels", "pretrain")]
    environment = {"PYTHONPATH": ":".join(paths), "PATH": "/usr/bin"}
    done = subprocess.run([linter, "--no-cache"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    return done.stdout if done.returncode else ""


INTRUSIONS = {
    "a room that looks up": ("rlvr_cpp/tasks/task.py", "import rlvr_cpp.training.groups", "Rooms of the library"),
    "two rooms on one floor": ("rlvr_cpp/policy/policy.py", "import rlvr_cpp.reward.tiers", "Rooms of the library"),
    "a room nobody gave a floor": ("rlvr_cpp/utils.py", "", "Rooms of the library"),
    "a tier that enters the judge": ("rlvr_cpp/verifier/tiers/oracle.py", "import rlvr_cpp.verifier.judge", "Inside"),
    "torch in the judge's room": ("rlvr_cpp/verifier/cases.py", "import torch", "imports no torch"),
    "trl in the policy's room": ("rlvr_cpp/policy/policy.py", "import trl", "Only the training room touches trl"),
    "the pretraining job in the library": ("rlvr_cpp/runs/files.py", "import rlvr_pretrain.sft", "Packages"),
}


@pytest.mark.parametrize("case", INTRUSIONS)
def test_the_contracts_notice(tmp_path, case):
    module, line, contract = INTRUSIONS[case]
    told = contracts_broken_by(tmp_path, module, line)
    assert any(contract in row and "BROKEN" in row for row in told.splitlines()), told
