"""The reward function for verl, and the calls that verl makes of it."""

import ast
import importlib.util
import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from rlvr_cpp import UserError, Verifier, VerifyResult
from rlvr_cpp.reward import verl
from rlvr_cpp.reward.verl import compute_score, verl_row
from rlvr_cpp.tasks.task import BUILTIN, Task, load_tasks
from rlvr_cpp.verifier.cases import Case
from rlvr_sandbox import SandboxError

TEST = """
#include <cassert>
int main() { assert(twice(1) == 2); assert(twice(3) == 6); }
"""
RIGHT = "```cpp\nint twice(int x) { return 2 * x; }\n```"
ADDS = "```cpp\n#include <iostream>\nint main() { int a, b; std::cin >> a >> b; std::cout << a + b; }\n```"
CASES = {"inputs": ["1 2", "2 2"], "outputs": ["3", "4"]}


def ask(solution: str, ground_truth, extra_info=None, **settings):
    # every argument by name, as verl's reward managers call it
    return compute_score(
        data_source="mine", solution_str=solution, ground_truth=ground_truth, extra_info=extra_info, **settings
    )


def test_a_score_comes_with_what_may_be_logged():
    assert ask(RIGHT, TEST) == {
        "score": 1.0,
        "acc": 1.0,
        "status": "ok",
        "compiled": 1.0,
        "tests_passed": 2.0,
        "tests_total": 2.0,
    }
    half = ask("```cpp\nint twice(int x) { return x < 3 ? 2 * x : 0; }\n```", TEST)
    assert (half["score"], half["acc"], half["status"]) == (pytest.approx(0.65), 0.0, "wrong")


def test_every_score_has_the_same_fields_of_the_same_types():
    # verl makes one array of each field of a batch
    scores = [ask(answer, TEST) for answer in (RIGHT, "", "no code", "<think>", "```cpp\nint main(){ for(;;); }\n```")]
    assert len({tuple((name, type(value)) for name, value in score.items()) for score in scores}) == 1


@pytest.mark.parametrize(
    "ground_truth",
    [CASES, json.dumps(CASES), json.dumps([["1 2", "3"]]), '  [{"input": "1 2", "output": "3"}]'],
)
def test_a_ground_truth_may_be_cases(ground_truth):
    assert ask(ADDS, ground_truth)["score"] == 1.0
    assert ask(RIGHT, ground_truth)["score"] < 1.0


def test_a_ground_truth_may_hold_arrays():
    numpy = pytest.importorskip("numpy", reason="numpy is not installed")
    assert ask(ADDS, {name: numpy.array(column) for name, column in CASES.items()})["acc"] == 1.0


def test_a_test_that_begins_with_an_attribute_is_no_json():
    assert ask(RIGHT, f"[[maybe_unused]] static int spare = 0;\n{TEST}")["acc"] == 1.0


def test_other_fields_stand_in_extra_info():
    extra = {"declaration": "int twice(int x) {\n", "entry_point": "twice", "std": "c++20", "num_turns": 1}
    assert ask("```cpp\n    return 2 * x;\n}\n```", TEST, extra)["acc"] == 1.0
    assert ask(ADDS, CASES, {"checker": "exact", "test": None})["acc"] == 1.0


def test_settings_reach_the_verifier():
    score = ask("```cpp\nint main() { for (volatile int i = 0;; ++i) {} }\n```", CASES, timeout=0.2, workers=1)
    assert score["status"] == "timeout"
    with pytest.raises(UserError, match="compiler 'no-such-compiler' was not found"):
        ask(RIGHT, TEST, compiler="no-such-compiler")


def test_what_could_not_be_judged_raises_instead_of_scoring(monkeypatch):
    failure = VerifyResult("sandbox_error", False, False, stderr="no process left")
    monkeypatch.setattr(Verifier, "verify", lambda self, program: failure)
    with pytest.raises(SandboxError, match="could not be judged and must not be scored: no process left") as raised:
        ask(RIGHT, TEST)
    assert not isinstance(raised.value, TimeoutError)  # which verl's naive manager turns into 0


@pytest.mark.parametrize(
    ("ground_truth", "said"),
    [
        ("", "ground_truth is empty"),
        (" \n", "ground_truth is empty"),
        ("{not json", "cases is no JSON"),
        ("[1]", r"cases\[0\] is '1'"),
        ({"inputs": ["1"], "outputs": []}, "1 inputs and 0 outputs"),
        (None, "the row has neither test nor cases"),
    ],
)
def test_a_ground_truth_that_holds_no_tests_is_named(ground_truth, said):
    with pytest.raises(UserError, match=said):
        ask(RIGHT, ground_truth)


@pytest.fixture(scope="module")
def own_tasks():
    """One whose tests are a harness, one with cases."""
    harness = next(task for task in load_tasks(BUILTIN) if task.reference)
    adds = Task("adds", "", "", "main", cases=(Case("1 2", "3"), Case("2 2", "4")), reference=ADDS)
    return harness, adds


def test_a_row_made_of_a_task_is_judged_as_the_task_is(own_tasks):
    for task, answer in zip(
        own_tasks, (f"```cpp\n{own_tasks[0].prompt}{own_tasks[0].reference}\n```", ADDS), strict=True
    ):
        row = json.loads(json.dumps(verl_row(task)))
        ground_truth = row["reward_model"]["ground_truth"]
        score = compute_score(row["data_source"], answer, ground_truth, row["extra_info"])
        assert (score["score"], score["acc"]) == (1.0, 1.0)
        assert compute_score(row["data_source"], "no code", ground_truth, row["extra_info"])["acc"] == 0.0


def test_rows_have_the_same_fields_and_no_solution(own_tasks):
    rows = [verl_row(task) for task in own_tasks]
    assert rows[0].keys() == rows[1].keys()
    assert rows[0]["extra_info"].keys() == rows[1]["extra_info"].keys()
    assert all(task.reference not in json.dumps(row) for task, row in zip(own_tasks, rows, strict=True))


def calls_of_compute_score(source: Path) -> list[ast.Call]:
    return [
        node
        for node in ast.walk(ast.parse(source.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "compute_score"
        if isinstance(node.func.value, ast.Name) and node.func.value.id == "self" and node.keywords
    ]


def verl_sources() -> list[Path]:
    """verl's reward managers. Read, not imported: that would take ray, vllm and a GPU's libraries."""
    found = importlib.util.find_spec("verl")
    if found is None or not found.submodule_search_locations:
        pytest.skip("verl is not installed: pip install --no-deps verl")
    folder = Path(next(iter(found.submodule_search_locations)))
    managers = [
        folder / "experimental/reward_loop/reward_manager" / f"{name}.py" for name in ("naive", "dapo", "limited")
    ]
    return [*managers, folder / "workers/reward_manager/naive.py"]


def test_verl_calls_it_by_names_that_it_has():
    for source in verl_sources():
        calls = calls_of_compute_score(source)
        assert calls, f"{source} scores in another way than it did"
        for call in calls:
            assert not call.args
            names = {keyword.arg: None for keyword in call.keywords if keyword.arg is not None}
            assert {"data_source", "solution_str", "ground_truth", "extra_info"} <= names.keys()
            inspect.signature(compute_score).bind(**names, reward_router_address=None, reward_model_tokenizer=None)


def test_verl_reads_the_score_of_a_mapping():
    for source in verl_sources():
        text = source.read_text()
        assert "isinstance(result, dict)" in text or "isinstance(score, dict)" in text
        assert '["score"]' in text


def test_verl_loads_it_by_the_name_of_its_module():
    managers = verl_sources()
    loader = managers[0].parents[3] / "utils/import_utils.py"
    assert 'PKG_PATH_PREFIX = "pkg://"' in loader.read_text()
    assert importlib.import_module("rlvr_cpp.reward.verl").compute_score is verl.compute_score


EXAMPLE = Path(__file__).parents[3] / "docs" / "verl"


def leaves(config: dict, prefix: str = "") -> list[str]:
    """The dotted names of a config's values."""
    return [
        name
        for key, value in config.items()
        for name in (leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else [f"{prefix}{key}"])
    ]


def test_the_example_sets_what_verl_has_and_is_found_by_its_command():
    folder = verl_sources()[0].parents[3] / "trainer/config"
    pytest.importorskip("hydra", reason="needs hydra")
    main = "import sys, hydra; hydra.main(config_path=sys.argv.pop(1), config_name='ppo_trainer', version_base=None)(lambda c: None)()"

    def composed(*arguments: str) -> dict:
        call = [sys.executable, "-c", main, str(folder), *arguments, "--cfg", "job"]
        done = subprocess.run(call, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return yaml.safe_load(done.stdout)

    theirs, ours = (
        composed(),
        composed("--config-dir", str(EXAMPLE), "--config-name", "gspo", "actor_rollout_ref.model.path=x"),
    )
    own = {name for name in leaves(ours) if "reward_kwargs" not in name}
    assert own == set(leaves(theirs))
    assert ours["actor_rollout_ref"]["actor"]["policy_loss"]["loss_mode"] == "gspo"
    reward = ours["reward"]["custom_reward_function"]
    inspect.signature(compute_score).bind("", "", "", **reward["reward_kwargs"])
    assert loaded_by_verl(reward["path"], reward["name"]) is compute_score


def loaded_by_verl(path: str, name: str):
    """By verl's own loader, a file that imports nothing of verl."""
    source = verl_sources()[0].parents[3] / "utils/import_utils.py"
    spec = importlib.util.spec_from_file_location("verl_import_utils", source)
    loader = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loader)
    return loader.load_extern_object(path, name)
