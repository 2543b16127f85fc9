"""What a run would do, before it does anything: prompts, completions, updates, the memory of each process."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.table import Table

from rlvr_cpp.policy.memory import Load, Memory, Shards, estimate_memory
from rlvr_cpp.policy.sharding import zero_stage
from rlvr_cpp.runs import processes
from rlvr_cpp.runs.console import console
from rlvr_cpp.tasks.choice import split_sources
from rlvr_cpp.tasks.mixture import describe_sources, mixture_of
from rlvr_cpp.tasks.sources import load_sources
from rlvr_cpp.training.config import TrainingJob
from rlvr_cpp.training.trl_arguments import pass_sizes

GIB = 1 << 30
PROMPT_TOKENS = 256
"""Assumed for the estimate; prompts are not tokenized for it."""


def print_plan(job: TrainingJob) -> None:
    """Print the plan. Raises UserError where tasks or the model's config cannot be read."""
    sources = load_sources(job.tasks)
    training, held_out = split_sources(sources, job.tasks.held_out_fraction, job.evaluation.limit, job.seed)
    trainer, algorithm = job.trainer, job.algorithm
    groups, count = trainer.batch_size // algorithm.group_size, processes.count()
    if (mixture := mixture_of(sources, training, job.seed)) is not None:
        mixture.check(groups)
    micro, passes = pass_sizes(algorithm, trainer, count)
    evaluations = 2 + (0 if job.evaluation.every is None else (trainer.steps - 1) // job.evaluation.every)
    completions = trainer.steps * trainer.batch_size
    rows = [
        ("model", job.model),
        ("tasks", f"{len(training)} for training, {len(held_out)} held out"),
        *(("of", words) for words in (describe_sources(sources, training) if len(sources) > 1 else ())),
        ("a rollout step", f"{groups} prompts x {algorithm.group_size} = {trainer.batch_size} completions"),
        ("with refill", f"up to {(1 + algorithm.refill_rounds) * trainer.batch_size} completions"),
        ("its updates", f"{algorithm.num_minibatches} of {passes} passes of {micro} completions, {count} process(es)"),
        ("rollout steps", f"{trainer.steps}, {trainer.steps * groups / len(training):.2f} prompts a task"),
        ("in all", f"{completions:,} completions of at most {algorithm.max_gen_len} tokens"),
        ("optimizer steps", f"at most {trainer.steps * algorithm.num_minibatches}"),
        ("evaluations", f"{evaluations}, {len(held_out)} tasks each"),
        ("checkpoints", "none" if trainer.save_every is None else f"every {trainer.save_every} steps"),
    ]
    table = Table(title="Plan", title_justify="left", box=SIMPLE_HEAD, show_header=False)
    for name, value in rows:
        if name != "with refill" or algorithm.refill_rounds:
            table.add_row(name, value)
    for name, value in _memory_rows(job, micro):
        table.add_row(name, value)
    console.print(table)


def _memory_rows(job: TrainingJob, micro: int) -> list[tuple[str, str]]:
    memory = memory_of(job, micro)
    kind, zero = processes.sharding(), zero_stage()
    shared = {None: "nothing", "FSDP": "all that is kept"}.get(kind, f"what ZeRO-{zero} does")
    return [
        *((f"memory: {name}", _size(value)) for name, value in memory.rows()),
        ("memory: shared out", f"{shared}, by {processes.count()} process(es)"),
        *(("memory: vLLM", f"{job.generation.vllm_gpu_memory:.0%} of the GPU beside") for _ in _colocated(job)),
        ("memory: at least", f"{_size(memory.peak)} a process"),
        ("of that", f"{_size(memory.sampling)} to sample, {_size(memory.update)} to update"),
    ]


def _colocated(job: TrainingJob) -> list[str]:
    return [job.generation.engine] if job.generation.engine == "vllm" else []


def _size(value: float) -> str:
    return f"{value / GIB:.2f} GiB" if value >= GIB / 10 else f"{value / (1 << 20):.1f} MiB"


def memory_of(job: TrainingJob, micro: int) -> Memory:
    """What one process of a job needs; prompts are taken to have 256 tokens."""
    count, zero = processes.count(), zero_stage()
    fsdp = processes.sharding() == "FSDP"
    shards = Shards(
        weights=count if fsdp or zero == 3 else 1,
        gradients=count if fsdp or zero >= 2 else 1,
        optimizer=count if fsdp or zero >= 1 else 1,
        gathered=zero == 3,
    )
    asked = job.generation.batch_size or job.trainer.batch_size // count
    load = Load(
        tokens=PROMPT_TOKENS + job.algorithm.max_gen_len,
        sampled=0 if job.generation.engine.startswith("vllm") else asked,
        trained=micro,
        checkpointing=job.trainer.gradient_checkpointing,
        reference=job.algorithm.kl_coeff > 0,
        ahead=job.generation.ahead > 0,
    )
    return estimate_memory(job.model, job.policy, job.adapter, load, shards)
