"""What vLLM's Python API and server take and give, read from its source, with nothing of it imported.

    python -m tests.vllm_facts WHEEL_OR_FOLDER...

writes `tests/data/vllm_api.json`: by version the names of fields, arguments, methods, routes and functions, and no text
of vLLM's own. The tests use the installed package instead where there is one.
"""

import ast
import json
import re
import sys
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

DATA = Path(__file__).parent / "data" / "vllm_api.json"
FIELDS = {
    "EngineArgs": "engine/arg_utils.py", "SamplingParams": "sampling_params.py", "Logprob": "logprobs.py",
    "StructuredOutputsParams": "sampling_params.py", "CompletionOutput": "outputs.py",
    "CompletionRequest": "entrypoints/openai/completion/protocol.py",
    "CompletionResponseChoice": "entrypoints/openai/completion/protocol.py",
}  # fmt: skip
"""Data by the names of its fields."""
METHODS = {"LLM": "entrypoints/llm.py", "RequestOutput": "outputs.py"}
"""Classes by the arguments of their methods."""
LISTS = {"LogprobsMode": "config/model.py"}
"""Types that are a list of words."""
HELPERS = {
    "utils/network_utils.py": "get_ip", "distributed/weight_transfer/nccl_common.py": "trainer_init",
    "distributed/weight_transfer/packed_tensor.py": "packed_nccl_broadcast_producer",
    "distributed/weight_transfer/nccl_engine.py": "NCCLWeightTransferEngine",
}  # fmt: skip
"""What trl imports beside."""
ROUTE = re.compile(r"\.(?:get|post)\(\s*\"(/[^\"]*)\"")


def sources(place: Path) -> dict[str, str]:
    """The package's Python files by their paths in it."""
    if place.is_dir():
        return {str(path.relative_to(place)): path.read_text() for path in place.rglob("*.py")}
    with zipfile.ZipFile(place) as wheel:
        names = [name for name in wheel.namelist() if name.startswith("vllm/") and name.endswith(".py")]
        return {name.removeprefix("vllm/"): wheel.read(name).decode() for name in names}


def facts_of(files: Mapping[str, str]) -> dict[str, object]:
    """What a version has, by names alone."""
    facts: dict[str, object] = {name: fields_of(class_in(files[path], name)) for name, path in FIELDS.items()}
    facts |= {name: methods_of(class_in(files[path], name)) for name, path in METHODS.items()}
    facts |= {name: words_of(files[path], name) for name, path in LISTS.items()}
    served = [text for path, text in files.items() if path.startswith("entrypoints/")]
    facts["routes"] = sorted({route for text in served for route in ROUTE.findall(text)})
    facts["helpers"] = sorted(name for path, name in HELPERS.items() if name in defined_in(files.get(path, "")))
    engine = files["v1/engine/llm_engine.py"]
    facts["LLMEngine"] = sorted(set(re.findall(r"self\.(\w+)(?::[^=\n]+)? = ", engine)))
    return facts


def class_in(text: str, name: str) -> ast.ClassDef:
    found = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ClassDef) and node.name == name)
    return next(found)


def defined_in(text: str) -> set[str]:
    return {node.name for node in ast.parse(text).body if isinstance(node, (ast.ClassDef, ast.FunctionDef))}


def fields_of(kind: ast.ClassDef) -> list[str]:
    return sorted(n.target.id for n in kind.body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name))


def methods_of(kind: ast.ClassDef) -> dict[str, list[str]]:
    return {
        node.name: [a.arg for a in (*node.args.args, *node.args.kwonlyargs) if a.arg != "self"]
        for node in kind.body
        if isinstance(node, ast.FunctionDef) and (node.name == "__init__" or node.name[0] != "_")
    }


def words_of(text: str, name: str) -> list[str]:
    return sorted(set(_words(ast.parse(text), name)))


def _words(tree: ast.Module, name: str) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and name in ast.unparse(node).split("=")[0]:
            yield from (n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str))


def main(places: list[str]) -> None:
    known = {}
    for place in map(Path, places):
        version = re.search(r"vllm-([\d.]+)", place.name)
        assert version, place
        known[version[1]] = facts_of(sources(place))
    DATA.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
