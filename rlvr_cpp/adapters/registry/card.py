"""A model card for an adapter, written from its metadata and the evaluation record that it became active on.

Every number in it is computed from the record; without one there is none. The YAML head is what the Hugging Face hub
reads, and is written by its own library.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rlvr_cpp.adapters.metadata import AdapterMetadata
from rlvr_cpp.runs.evidence import PASS, EvaluationRecord, task_scores
from rlvr_cpp.runs.statistics import Estimate, bootstrap_mean, pass_rate

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

BODY = """
# {name}

A LoRA adapter for `{metadata.base_model}` that writes C++, trained with rlvr-cpp by {metadata.training_method}.

| | |
|---|---|
| base weights | `{metadata.base_hash}` ({metadata.base_dtype}) |
| quantization of the base | {quantization} |
| target modules | {targets} |
| rank, alpha | {metadata.rank}, {metadata.alpha} |
| adapter weights | `{metadata.adapter_hash}` |
| went on from | {parents} |
| judge in training | {judge} |

## Evaluation

{evaluation}

## Use

```python
{loading}
```

`load_adapter_artifact` refuses a base with other weights, another dtype or another quantization. peft's own
`PeftModel.from_pretrained` reads this folder as well and checks none of that.
"""
LOADING = """\
from transformers import AutoModelForCausalLM{classes}
from rlvr_cpp import load_adapter_artifact
{imports}
base = AutoModelForCausalLM.from_pretrained({arguments})
model = load_adapter_artifact(base, "path/to/this/folder")"""


def model_card(name: str, metadata: AdapterMetadata, record: EvaluationRecord | None) -> str:
    """The text of a `README.md`: head, facts, evaluation, use. Without a valid record the card says so."""
    from huggingface_hub import ModelCardData

    measured = {} if record is None or record.status != PASS else measures(record)
    is_path = metadata.base_model.startswith(("/", ".", "~"))  # the hub takes no card that names a path
    head = ModelCardData(
        model_name=name,
        base_model=None if is_path else metadata.base_model,
        base_model_relation=None if is_path else "adapter",
        library_name="peft",
        pipeline_tag="text-generation",
        tags=["lora", "c++", "code", "rlvr-cpp", metadata.training_method],
        eval_results=None if record is None else list(_results(record, measured)) or None,
    )
    body = BODY.format(
        name=name,
        metadata=metadata,
        quantization=", ".join(f"{key} {value}" for key, value in (metadata.quantization or {}).items()) or "none",
        targets=", ".join(f"`{target}`" for target in metadata.targets),
        parents=", ".join(f"`{parent}`" for parent in metadata.parents) or "the base",
        judge="none" if metadata.contract is None else metadata.contract["compiler_version"],
        evaluation=_evaluation(record, measured),
        loading=_loading(metadata),
    )
    return f"---\n{head.to_yaml()}\n---\n{body}"


def measures(record: EvaluationRecord) -> dict[str, Estimate]:
    """By measure, over the tasks that could be judged: greedy with Wilson's interval, sampled with a bootstrap's."""
    greedy, sampled = task_scores(record.greedy), task_scores(record.samples)
    found = {}
    if greedy:
        found["greedy pass@1"] = pass_rate([value == 1 for value in greedy.values()])
    if sampled:
        found[f"pass@1 of {record.decoding.samples} samples"] = bootstrap_mean(list(sampled.values()))
    return found


def _results(record: EvaluationRecord, measured: dict[str, Estimate]) -> Iterator[EvalResult]:
    from huggingface_hub import EvalResult

    for measure, estimate in measured.items():
        greedy = measure.startswith("greedy")
        yield EvalResult(
            task_type="text-generation",
            dataset_type=record.benchmark,
            dataset_name=record.benchmark,
            dataset_split=record.split,
            dataset_revision=record.benchmark_hash,
            metric_type="pass@1",
            metric_name=measure,
            metric_value=round(estimate.mean, 4),
            metric_args={
                "temperature": 0.0 if greedy else record.decoding.temperature,
                "samples": 1 if greedy else record.decoding.samples,
                "max_new_tokens": record.decoding.max_new_tokens,
                "verifier_contract": record.contract_hash,
                "evaluation_record": record.record_id,
            },
        )


def _evaluation(record: EvaluationRecord | None, measured: dict[str, Estimate]) -> str:
    if record is None:
        return "None: this adapter became active without an evaluation, or not at all."
    if not measured:
        return f"{record.status}: {record.reason or 'no task was judged'}."
    tasks = len({*record.greedy, *record.samples})
    rows = "\n".join(f"| {measure} | {e.mean:.3f} | [{e.low:.3f}, {e.high:.3f}] |" for measure, e in measured.items())
    return (
        f"`{record.benchmark}`, {tasks} tasks, {record.split} tests, judged by {record.contract['compiler_version']} "
        f"under the verifier contract `{record.contract_hash[:16]}`. Evaluation record `{record.record_id[:16]}` of "
        f"{record.created[:10]}.\n\n| | | 95 % interval |\n|---|---|---|\n{rows}"
    )


def _loading(metadata: AdapterMetadata) -> str:
    """Code that loads the base as it was; one without a `/` in its name is shipped with the library."""
    shipped = "/" not in metadata.base_model
    place = f"find_model({metadata.base_model!r})" if shipped else repr(metadata.base_model)
    arguments = [place, f"dtype={metadata.base_dtype!r}"]
    settings = metadata.quantization
    if settings is not None:
        arguments.append(
            f"\n    quantization_config=BitsAndBytesConfig(load_in_4bit=True, "
            f"bnb_4bit_quant_type={settings['kind']!r}, bnb_4bit_use_double_quant={settings['double_quant']}, "
            f"bnb_4bit_compute_dtype={settings['compute_dtype']!r}),\n"
        )
    return LOADING.format(
        classes="" if settings is None else ", BitsAndBytesConfig",
        imports="from rlvr_cpp.policy.policy import find_model\n" if shipped else "",
        arguments=", ".join(arguments),
    )
