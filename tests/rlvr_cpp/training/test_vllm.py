"""What trl and this library ask of vLLM is there, in the first and the last version that trl supports.

vLLM needs a GPU and half a gigabyte, so its API is known from `tests/data/vllm_api.json`, which `tests/vllm_facts.py`
reads from its wheels; from the package itself where it is installed. What is asked is read from trl's own source.
"""

import ast
import dataclasses
import inspect
import json
import re
import tomllib
from importlib.metadata import requires
from importlib.util import find_spec
from pathlib import Path

import pytest
import trl
from packaging.requirements import Requirement
from packaging.version import Version

from rlvr_cpp.training.checks import ALLOWED, vllm_problems
from rlvr_cpp.training.config import GenerationSettings
from rlvr_cpp.training.trl_arguments import _engine
from tests.vllm_facts import DATA, facts_of, sources

GENERATION = Path(trl.__file__).parent / "generation"
KNOWN = json.loads(DATA.read_text())
SUPPORTED = next(r for r in map(Requirement, requires("trl")) if r.name == "vllm").specifier


def api():
    spec = find_spec("vllm")
    if spec is not None and spec.submodule_search_locations:
        return {"installed": facts_of(sources(Path(spec.submodule_search_locations[0])))}
    return KNOWN


@pytest.fixture(params=api().values(), ids=list(api()))
def vllm(request):
    return request.param


def tree(file):
    return ast.parse((GENERATION / file).read_text())


def calls(file, name):
    """The calls of a function or a method by the end of its name."""
    found = [n for n in ast.walk(tree(file)) if isinstance(n, ast.Call) and ast.unparse(n.func).endswith(name)]
    assert found, name
    return found


def keywords(call):
    return {word.arg for word in call.keywords if word.arg}


def keys_of(file, function, variable):
    """The keys of the dict that a function of trl's puts in a variable."""
    body = next(n for n in ast.walk(tree(file)) if isinstance(n, ast.FunctionDef) and n.name == function)
    found = {
        key.value
        for node in ast.walk(body)
        if isinstance(node, ast.Assign)
        and ast.unparse(node.targets[0]) == variable
        and isinstance(node.value, ast.Dict)
        for key in node.value.keys
        if isinstance(key, ast.Constant)
    }
    assert found, variable
    return found


def test_the_versions_that_are_known_are_the_first_and_the_last_that_trl_supports():
    bounds = {part.operator: part.version for part in SUPPORTED}
    assert set(map(Version, KNOWN)) == {Version(bounds[">="]), Version(bounds["<="])}


def test_the_extra_asks_for_the_versions_that_trl_supports():
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    (own,) = map(Requirement, project["optional-dependencies"]["vllm"])
    assert (own.name, own.specifier) == ("vllm", SUPPORTED)


def test_the_engine_in_this_process_takes_what_trl_gives_it(vllm):
    (call,) = calls("vllm_generation.py", "LLM")
    asked = keywords(call)
    assert asked <= {*vllm["LLM"]["__init__"], *vllm["EngineArgs"]}
    assert {"distributed_executor_backend", "logprobs_mode", "max_num_seqs", "enable_sleep_mode"} <= asked
    (mode,) = (word.value.value for word in call.keywords if word.arg == "logprobs_mode")
    assert mode in vllm["LogprobsMode"]


def test_sampling_takes_what_trl_gives_it(vllm):
    here = keys_of("vllm_generation.py", "generate", "generation_kwargs")
    assert {"temperature", "top_p", "top_k", "max_tokens", "logprobs", "n"} <= here <= {*vllm["SamplingParams"]}
    server = keys_of("vllm_client.py", "generate", "sampling_params") | keys_of("vllm_client.py", "generate", "payload")
    assert here | {"model", "prompt", "return_token_ids"} <= server <= {*vllm["CompletionRequest"]}
    assert {"regex"} <= {*vllm["StructuredOutputsParams"]}


@pytest.mark.parametrize("method", ["generate", "sleep", "wake_up", "reset_prefix_cache"])
def test_the_engine_has_the_methods_that_trl_calls(vllm, method):
    for call in calls("vllm_generation.py", f"self.llm.{method}"):
        assert keywords(call) <= {*vllm["LLM"][method]}


def test_weights_go_into_the_engine_by_the_way_that_trl_takes(vllm):
    text = (GENERATION / "vllm_generation.py").read_text()
    assert "self.llm.llm_engine.model_executor." in text
    assert "model_executor" in vllm["LLMEngine"]


def test_completions_have_the_tokens_and_the_log_probabilities_that_are_read(vllm):
    assert {"prompt_token_ids", "outputs"} <= {*vllm["RequestOutput"]["__init__"]}
    assert {"token_ids", "logprobs"} <= {*vllm["CompletionOutput"]}
    assert {"rank", "logprob"} <= {*vllm["Logprob"]}
    assert {"prompt_token_ids", "token_ids", "logprobs"} <= {*vllm["CompletionResponseChoice"]}


def test_the_server_has_every_route_that_is_asked_for_tokens_and_given_weights(vllm):
    asked = set(re.findall(r"\{self\.base_url\}(/[\w/]+)", (GENERATION / "vllm_client.py").read_text()))
    weights = {"/init_weight_transfer_engine", "/start_weight_update", "/update_weights", "/finish_weight_update"}
    assert weights | {"/health", "/server_info", "/get_world_size", "/v1/completions", "/v1/models"} <= asked
    assert asked - {"/inference/v1/generate"} <= {*vllm["routes"]}  # of images alone, and from a plugin


def test_the_helpers_that_trl_imports_are_there(vllm):
    assert {"get_ip", "NCCLWeightTransferEngine", "packed_nccl_broadcast_producer"} <= {*vllm["helpers"]}
    if "0.31.0" in KNOWN and vllm == KNOWN["0.31.0"]:
        assert "trainer_init" in vllm["helpers"]  # from 0.28 on


def test_what_we_tell_trl_of_vllm_is_what_trl_knows():
    known = {field.name for field in dataclasses.fields(trl.GRPOConfig)}
    engines = (
        _engine(GenerationSettings(name, None, 0.3, "http://localhost:8000"), [7]) for name in ("vllm", "vllm_server")
    )
    asked = {key for engine in engines for key in engine} | {name for name in ALLOWED if name.startswith("vllm_")}
    assert {"use_vllm", "vllm_mode", "vllm_server_base_url", "vllm_gpu_memory_utilization"} <= asked <= known
    from trl.generation.vllm_generation import VLLMGeneration

    passed = {*inspect.signature(VLLMGeneration.__init__).parameters}
    of_the_engine = {name.removeprefix("vllm_") for name in asked if "importance" not in name} - {"use_vllm"}
    assert of_the_engine <= passed


@pytest.mark.parametrize("name", ["vllm", "vllm_server"])
def test_what_we_tell_sampling_beside_is_what_it_takes(vllm, name):
    told = _engine(GenerationSettings(name, None, 0.3, "http://localhost:8000"), [7]).get("generation_kwargs", {})
    assert {*told} <= {*vllm["SamplingParams"]} & {*vllm["CompletionRequest"]}


@pytest.mark.parametrize(("installed", "refused"), [("0.33.0", True), ("0.31.0", False), ("0.31.0+cu130", False)])
def test_a_version_that_trl_does_not_support_is_one_sentence(monkeypatch, installed, refused):
    monkeypatch.setattr("rlvr_cpp.training.checks.find_spec", lambda name: object())
    monkeypatch.setattr("rlvr_cpp.training.checks.version", lambda name: installed)
    problems = list(vllm_problems(GenerationSettings("vllm", None, 0.3, None)))
    assert bool(problems) == refused
    if refused:
        assert "vllm 0.33.0 is installed and trl supports" in problems[0]
        assert "pip install 'rlvr-cpp[vllm]'" in problems[0]
