"""The reward functions for verifiers, and the calls that verifiers makes of them."""

import asyncio
import math
from pathlib import Path
from types import SimpleNamespace

import pytest

from rlvr_cpp import UserError, VerifyResult
from rlvr_cpp.reward.rows import shared_verifier
from rlvr_cpp.reward.verifiers import compiler_reward, rubric_reward
from rlvr_cpp.tasks.task import BUILTIN, load_tasks
from rlvr_sandbox import SandboxError

TEST = """
#include <cassert>
int main() { assert(twice(1) == 2); assert(twice(3) == 6); }
"""
RIGHT = "```cpp\nint twice(int x) { return 2 * x; }\n```"
HALF = "```cpp\nint twice(int x) { return x < 3 ? 2 * x : 0; }\n```"
ADDS = "```cpp\n#include <iostream>\nint main() { int a, b; std::cin >> a >> b; std::cout << a + b; }\n```"
CASES = {"inputs": ["1 2", "2 2"], "outputs": ["3", "4"]}


def score(reply: str, **task) -> float:
    return asyncio.run(compiler_reward(SimpleNamespace(**task), SimpleNamespace(last_reply=reply)))


@pytest.fixture
def broken(monkeypatch):
    async def fail(programs):
        return [VerifyResult("sandbox_error", False, False, stderr="no process left") for _ in programs]

    monkeypatch.setattr(shared_verifier(), "verify_many_async", fail)


def test_the_last_reply_is_put_to_the_tests_of_its_task():
    assert score(RIGHT, prompt="Double it.", test=TEST) == 1.0
    assert score(HALF, answer=TEST, test=None) == pytest.approx(0.65)
    assert score(ADDS, cases=CASES) == 1.0
    assert (
        score("```cpp\n return 2 * x; }\n```", test=TEST, declaration="int twice(int x) {", entry_point="twice") == 1.0
    )
    assert score("I do not know.", test=TEST) == 0.0


def test_replies_are_judged_at_the_same_time():
    async def all_of_them():
        return await asyncio.gather(*(
            compiler_reward(SimpleNamespace(test=TEST), SimpleNamespace(last_reply=reply)) for reply in (RIGHT, HALF)
        ))  # fmt: skip

    assert asyncio.run(all_of_them()) == pytest.approx([1.0, 0.65])


def test_what_could_not_be_judged_raises_instead_of_scoring(broken):
    with pytest.raises(SandboxError, match="could not be judged and must not be scored: no process left"):
        score(RIGHT, test=TEST)


def test_a_task_without_tests_is_named():
    with pytest.raises(UserError, match="the row has neither test nor cases"):
        score(RIGHT, tests=TEST)


def test_a_rubric_gives_the_completion_and_the_answer():
    conversation = [{"role": "assistant", "content": RIGHT}]
    assert asyncio.run(rubric_reward(completion=conversation, answer=TEST, info={})) == 1.0
    assert asyncio.run(rubric_reward(completion=RIGHT, answer="", info={"test": TEST})) == 1.0
    message = SimpleNamespace(role="assistant", content=ADDS)
    assert asyncio.run(rubric_reward(completion=[message], info={"cases": CASES})) == 1.0


def test_what_could_not_be_judged_is_no_number_in_a_rubric(broken):
    assert math.isnan(asyncio.run(rubric_reward(completion=RIGHT, answer=TEST)))


def verifiers_v1():
    return pytest.importorskip("verifiers.v1", reason="verifiers 0.4 is not installed: pip install verifiers")


def finished_trace(vf, task, reply: str):
    graph = pytest.importorskip("verifiers.v1.graph")
    task_data = vf.WireTaskData(**task.data.model_dump())
    return vf.WireTrace(
        task=vf.TraceTask[vf.WireTaskData](type="Task", data=task_data),
        agent={"config": {}},
        nodes=[graph.MessageNode(message=vf.AssistantMessage(content=reply), sampled=True)],
    )


def plugged_task(vf, **data):
    class CppData(vf.TaskData):  # type: ignore[name-defined]  # an optional package, handed in
        test: str | None = None
        cases: dict | None = None

    function = {"fn": "rlvr_cpp.reward.verifiers:compiler_reward", "weight": 2.0}
    return vf.Task[CppData, vf.State](CppData(prompt="?", **data), vf.TaskConfig(rewards={"compiler": function}))


@pytest.mark.parametrize(
    ("reply", "data", "expected"),
    [(RIGHT, {"test": TEST}, 1.0), (HALF, {"test": TEST}, 0.65), (ADDS, {"cases": CASES}, 1)],
)
def test_verifiers_records_the_reward_on_the_trace(reply, data, expected):
    vf = verifiers_v1()
    task = plugged_task(vf, **data)
    trace = finished_trace(vf, task, reply)
    asyncio.run(task.score(trace))
    assert trace.rewards["compiler"].score == pytest.approx(expected)
    assert trace.reward == pytest.approx(2 * expected)


def test_verifiers_takes_a_failure_for_an_error_and_not_for_a_score(broken):
    vf = verifiers_v1()
    task = plugged_task(vf, test=TEST)
    trace = finished_trace(vf, task, RIGHT)
    with pytest.raises(vf.TaskError, match="could not be judged"):
        asyncio.run(task.score(trace))
    assert trace.rewards["compiler"] is None


def test_the_example_is_loaded_by_its_id_and_scores_a_task(monkeypatch):
    verifiers_v1()
    loaders = pytest.importorskip("verifiers.v1.utils.loaders")
    vf = pytest.importorskip("verifiers.v1")
    monkeypatch.syspath_prepend(Path(__file__).parents[3] / "docs" / "verifiers")
    config = loaders.taskset_config_type("rlvr-cpp-tasks")(id="rlvr-cpp-tasks", split="held_out")
    tasks = list(loaders.load_taskset(config))
    known = {task.task_id: task for task in load_tasks(BUILTIN) if task.split == "held_out"}
    assert {task.data.name for task in tasks} == known.keys()
    reference = known[tasks[0].data.name]
    assert reference.reference not in tasks[0].data.model_dump_json()
    trace = finished_trace(vf, tasks[0], f"```cpp\n{reference.prompt}{reference.reference}\n```")
    asyncio.run(tasks[0].score(trace))
    assert trace.rewards["compiler"].score == 1.0


def test_a_rubric_of_verifiers_scores_with_it():
    verifiers = pytest.importorskip("verifiers", reason="verifiers is not installed: pip install verifiers")
    try:
        rubric = verifiers.Rubric(funcs=[rubric_reward])
    except AttributeError:
        pytest.skip("this version of verifiers has no rubrics: they ended with 0.3")
    completion = [{"role": "assistant", "content": HALF}]
    state = verifiers.State(prompt="?", completion=completion, answer=TEST, info={}, task="", trajectory=[])
    asyncio.run(rubric.score_rollout(state))
    assert state["reward"] == pytest.approx(0.65)
    assert state["metrics"] == {"rubric_reward": pytest.approx(0.65)}
