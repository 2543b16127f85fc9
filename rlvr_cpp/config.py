"""The typed door: what a job may be told, and the one place that reads Hydra's answer.

Values live in `conf/`; here are their types, units and meaning. Below `load` nobody sees an OmegaConf object. What
depends on several keys at once is checked in `config_checks.py`, before anything heavy is loaded, and all problems
are told together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from rlvr_cpp.config_checks import check
from rlvr_cpp.errors import UserError

_PACKAGED = Path(__file__).parent / "conf"
CONF = str(_PACKAGED if _PACKAGED.is_dir() else Path(__file__).parents[1] / "conf")
"""The folder of the YAML files: inside the package once installed, beside it in a checkout."""
Job = TypeVar("Job")


@dataclass
class PolicySettings:
    """How the model is loaded and asked."""

    dtype: str
    """Weights and compute: `float32` or `bfloat16`."""
    quantization: str | None
    """None, or `nf4`: the base in 4 bits through bitsandbytes, its adapter's weights in float32."""
    device: str
    """`auto` is a GPU where there is one; else `cpu`, `cuda`, `cuda:1`, ..."""
    attn_implementation: str | None
    """Passed to transformers: `sdpa`, `eager`, `flash_attention_2`; None lets it choose."""
    prompt_format: str
    """`completion` continues the prompt, `chat` asks through the chat template, `auto` looks whether there is one."""
    threads: int | None
    """CPU threads of torch; None leaves the verifier a core where the model runs on the CPU."""


@dataclass
class GenerationSettings:
    """How training completions are sampled. Evaluation samples through transformers."""

    engine: str
    """`transformers`, `continuous_batching` (transformers' own), `vllm` (in this process) or `vllm_server`."""
    batch_size: int | None
    """Completions that are sampled together, of prompts of like length; None is the whole batch."""
    vllm_gpu_memory: float
    """Share of the GPU's memory that vLLM may take in this process."""
    vllm_server_url: str | None
    """Base URL of a server started with `trl vllm-serve`."""


@dataclass
class AdapterSettings:
    """A LoRA adapter through peft; `enabled: false` trains every weight."""

    enabled: bool
    rank: int
    alpha: int
    targets: list[str]
    """Names of linear layers or of target sets (`mlp`, `attention`, `mamba`), or the one word `all-linear`."""
    start: str | None
    """Folder of an adapter to go on training; a frozen copy of it is then the reference. None starts a fresh one."""


@dataclass
class TaskSettings:
    """Where tasks come from."""

    source: str | None
    """None is the shipped set; else a `.jsonl` path or the name of a data set."""
    config: str | None
    """The data set's configuration."""
    split: str | None
    """The data set's split."""
    held_out_fraction: float
    """Set aside for evaluation where the source marks no task `held_out`."""


@dataclass
class VerifierSettings:
    """How programs are judged."""

    compiler: str
    extra_flags: list[str]
    timeout: float
    """CPU seconds of a run; it may take twice as long and a second on the clock."""
    compile_timeout: float
    """CPU seconds of a build; the same for the clock."""
    workers: int | None
    """Programs at a time; None is one more than there are cores."""
    cache: str | None
    """A file of results that runs share; None keeps them in memory."""


@dataclass
class SandboxSettings:
    """How untrusted programs are kept apart."""

    require: str
    """What the host must give: `any`, `contained` or `full`; see `python -m rlvr_sandbox doctor`."""


@dataclass
class RewardSettings:
    """What a completion is worth."""

    kind: str
    """`tiers` (compiles, runs, share of tests), `binary` (passes or not) or `shaped` (speed, sanitizers, style too)."""
    sanitizer_fraction: float
    """Share of groups whose passing completions are also built with ASan and UBSan; for `shaped`."""
    tidy_fraction: float
    """Share of groups whose passing completions are read by clang-tidy; for `shaped`."""


@dataclass
class GRPOConfig:
    """The algorithm: what a group says and how far the policy may move on it (GRPO, arXiv 2402.03300, and its kin)."""

    ratio: str = "token"
    """Importance ratio: `token`, or `sequence` for the geometric mean over a completion (GSPO, arXiv 2507.18071)."""
    loss_type: str = "grpo"
    """How token terms add up, by trl's names: `grpo` (mean of each sequence's mean), `dapo` (mean over tokens), `luspo`
    (mean of each sequence's sum, arXiv 2602.05261), `dr_grpo` (the same over `max_gen_len`), `bnpo`, `cispo`, ..."""
    luspo_norm: str = "none"
    """`max_len` divides LUSPO's loss by `max_gen_len`, so that gradient clipping does not fire at every step."""
    group_size: int = 8
    """Completions of each prompt; their mean reward is the baseline."""
    scale_advantages: bool = True
    """Divide by the group's standard deviation; false is Dr.GRPO's (arXiv 2503.20783)."""
    kl_coeff: float = 0.1
    """Weight of the estimate of KL to the reference, a token."""
    kl_estimator: str = "k3"
    """`k3`; `k2` or `k3_is` for the gradient of the reverse KL (arXiv 2506.09477)."""
    clip_eps: float = 0.2
    """The ratio is clipped to 1 - clip_eps ..."""
    clip_eps_high: float | None = None
    """... 1 + clip_eps_high; None is clip_eps. GSPO's own band is 3e-4 / 4e-4, LUSPO's 2e-3 / 2.5e-3."""
    max_gen_len: int = 512
    """Tokens of a completion."""
    temperature: float = 1.0
    num_minibatches: int = 2
    """Optimizer steps on each batch of completions. With one there is nothing to clip: GSPO equals GRPO."""
    zero_variance: str = "discard"
    """Groups whose rewards are all equal: `discard` (DAPO, arXiv 2503.14476), or `keep` for their KL term."""
    refill_rounds: int = 0
    """How often a step may sample further prompts in the place of discarded groups. What is missing then is missing."""
    truncated: str = "keep"
    """Completions without an end: `keep` their reward, or `mask` them out of loss and baseline."""
    overlong_buffer: int | None = None
    """DAPO's soft punishment begins so many tokens before `max_gen_len`; None is off."""
    overlong_penalty: float = 0.3
    """Its size at `max_gen_len`; 0.3 is the reward of code that compiles."""


@dataclass
class GSPOConfig(GRPOConfig):
    """Group sequence policy optimisation (arXiv 2507.18071) with a KL term and group discard."""

    ratio: str = "sequence"


@dataclass
class StepCoderConfig:
    """StepCoder (arXiv 2402.01391): a curriculum of prefixes (CCCS) and a loss that looks where it matters (FGO)."""

    cccs: bool = False
    """Put the beginning of the known solution behind the prompt; it shrinks as the policy learns."""
    cccs_init_frac: float = 0.7
    """Share of the solution that is given at first, cut at a line."""
    cccs_decay_threshold: float = 0.6
    """The prefix shrinks where the metric is above this."""
    cccs_decay_step: float = 0.1
    cccs_min_prefix_frac: float = 0.0
    """Above 0 the policy never learns to begin, which evaluation asks of it."""
    cccs_metric: str = "compile_rate"
    """`compile_rate` or `pass_rate` of a task's group."""
    cccs_boundary: str = "line"
    """`line`, or `conditional`: begin at the solution's conditional statements, the last one first, as in the paper."""
    fgo: str = "off"
    """`compile_error` leaves out what stands after the first error, `coverage` what was not executed, `both`, `off`."""


@dataclass
class GuardSettings:
    """When a run speaks up."""

    action: str = "stop"
    """`stop` or `warn`: what a finding does that leaves nothing to learn from."""
    patience: int = 5
    """Steps in a row, and the length of the start that a collapse is measured against."""
    max_infra_rate: float = 0.25
    """Share of completions that the infrastructure may fail to judge, over `patience` steps."""
    canary_every: int | None = 20
    """Rollout steps between the programs that must pass and must fail; None has them at the start only."""


@dataclass
class TrainerSettings:
    """How long, how fast, how often."""

    steps: int
    """Rollout steps: one batch of completions each."""
    batch_size: int
    """Completions a step, over all processes: prompts times group_size."""
    micro_batch_size: int | None
    """At most so many completions in one forward pass of one process, the most that divide its mini-batch evenly; None
    is all of it."""
    learning_rate: float
    lr_schedule: str
    """A transformers schedule: `constant`, `linear`, `cosine`, ..."""
    warmup_steps: int
    """Optimizer steps."""
    max_grad_norm: float
    gradient_checkpointing: bool
    save_every: int | None
    """Rollout steps between checkpoints, from which `resume` goes on; None has none."""
    trl: dict[str, Any] = field(default_factory=dict)
    """Other arguments of trl.GRPOConfig by their names, but for those that the job decides itself."""


@dataclass
class EvaluationSettings:
    """How the policy is measured on held-out tasks."""

    samples: int
    """Sampled completions of each task, at the training temperature, beside the greedy one."""
    every: int | None
    """Rollout steps between greedy evaluations during training; None only measures before and after."""
    limit: int | None
    """At most so many held-out tasks."""
    batch_size: int
    """Prompts in one generation batch."""


@dataclass
class TrainingJob:
    """Everything that `python -m rlvr_cpp.gspo` and `.grpo` may be told."""

    seed: int
    model: str
    """The name of a shipped model, `demo` for the embedded one, a Hugging Face id, or a local folder."""
    resume: str | None
    """The folder of a run to go on with, with the config it has; nothing else can be set then."""
    dry_run: bool
    """Print what would be done and stop."""
    policy: PolicySettings
    generation: GenerationSettings
    adapter: AdapterSettings
    tasks: TaskSettings
    verifier: VerifierSettings
    sandbox: SandboxSettings
    reward: RewardSettings
    algorithm: GRPOConfig
    stepcoder: StepCoderConfig
    guards: GuardSettings
    trainer: TrainerSettings
    evaluation: EvaluationSettings


def load(raw: Any) -> TrainingJob:
    """What Hydra composed, checked. Raises UserError naming every key that is wrong."""
    return read_job(raw, TrainingJob, check)


def read_job(raw: Any, kind: type[Job], problems: Callable[[Job], Iterable[str]]) -> Job:
    """What Hydra composed as the dataclass of a command. Raises UserError naming every key that is wrong."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        job = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(kind), raw))
    except OmegaConfBaseException as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"config key {error.full_key!r}: {reason}") from error
    assert isinstance(job, kind)
    if found := list(problems(job)):
        raise UserError("; ".join(found))
    return job
