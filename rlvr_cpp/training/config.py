"""What a training job may be told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rlvr_cpp.policy.settings import AdapterSettings, PolicySettings
from rlvr_cpp.reward.settings import RewardSettings
from rlvr_cpp.tasks.settings import TaskSettings
from rlvr_cpp.verifier.settings import SandboxSettings, VerifierSettings

FACTS = {
    "tasks": "of each source the training and held-out tasks: texts, tests, solutions, order",
    "contract": "the compiler's version and flags, limits, the rules of verdicts and of reading answers",
    "compiler": "the compiler's path",
    "controls": "what keeps programs apart",
    "tools": "what reads programs beside the compiler: clang-tidy, gcov",
    "reward": "the source file of a reward of your own",
    "prompt": "the tokenizer, the chat template and its settings, the words of the request",
    "base_sha256": "the weights of the base",
    "base_dtype": "the base's dtype",
    "quantization": "how the base is quantised",
    "parents": "the adapter that training started from",
    "reference_sha256": "the weights that KL is measured against",
}
"""What a run notes when it begins and compares when it goes on, by the names that `accept_changes` takes."""
CHANGEABLE = ("accept_changes", "trainer.steps", "trainer.learning_rate", "tracker")
"""What may be told to a run that goes on."""
RATIOS = {"choices": ("token", "sequence")}


@dataclass
class GenerationSettings:
    """How training completions are sampled. Evaluation samples through transformers."""

    engine: str = field(metadata={"choices": ("transformers", "continuous_batching", "vllm", "vllm_server")})
    """`transformers`, `continuous_batching` (transformers' own), `vllm` (in this process) or `vllm_server`."""
    batch_size: int | None = field(metadata={"least": 1})
    """Completions that are sampled together, of prompts of like length; None is the whole batch."""
    vllm_gpu_memory: float = field(metadata={"least": 0, "most": 1})
    """Share of the GPU's memory that vLLM may take in this process."""
    vllm_server_url: str | None
    """Base URL of a server started with `trl vllm-serve`."""
    ahead: int = field(default=0, metadata={"least": 0, "most": 1})
    """Steps by which sampling is ahead of the update: 1 samples and judges the next step's completions beside it."""


@dataclass
class GRPOConfig:
    """The algorithm: what a group says and how far the policy may move on it (GRPO, arXiv 2402.03300, and its kin)."""

    ratio: str = field(default="token", metadata=RATIOS)
    """Importance ratio: `token`, or `sequence` for the geometric mean over a completion (GSPO, arXiv 2507.18071)."""
    loss_type: str = field(
        default="grpo", metadata={"choices": ("grpo", "dapo", "luspo", "dr_grpo", "bnpo", "cispo", "sapo", "vespo")}
    )
    """How token terms add up, by trl's names: `grpo` (mean of each sequence's mean), `dapo` (mean over tokens), `luspo`
    (mean of each sequence's sum, arXiv 2602.05261), `dr_grpo` (the same over `max_gen_len`), `bnpo`, `cispo`, ..."""
    luspo_norm: str = field(default="none", metadata={"choices": ("none", "max_len")})
    """`max_len` divides LUSPO's loss by `max_gen_len`, so that gradient clipping does not fire at every step."""
    group_size: int = field(default=8, metadata={"least": 2})
    """Completions of each prompt; their mean reward is the baseline."""
    scale_advantages: bool = True
    """Divide by the group's standard deviation; false is Dr.GRPO's (arXiv 2503.20783)."""
    kl_coeff: float = field(default=0.1, metadata={"least": 0})
    """Weight of the estimate of KL to the reference, a token."""
    kl_estimator: str = field(default="k3", metadata={"choices": ("k3", "k2", "k3_is")})
    """`k3`; `k2` or `k3_is` for the gradient of the reverse KL (arXiv 2506.09477)."""
    clip_eps: float = field(default=0.2, metadata={"least": 0})
    """The ratio is clipped to 1 - clip_eps ..."""
    clip_eps_high: float | None = field(default=None, metadata={"least": 0})
    """... 1 + clip_eps_high; None is clip_eps. GSPO's own band is 3e-4 / 4e-4, LUSPO's 2e-3 / 2.5e-3."""
    max_gen_len: int = field(default=512, metadata={"least": 1})
    """Tokens of a completion."""
    temperature: float = field(default=1.0, metadata={"above": 0})
    num_minibatches: int = field(default=2, metadata={"least": 1})
    """Optimizer steps on each batch of completions. With one there is nothing to clip: GSPO equals GRPO."""
    zero_variance: str = field(default="discard", metadata={"choices": ("discard", "keep")})
    """Groups whose rewards are all equal: `discard` (DAPO, arXiv 2503.14476), or `keep` for their KL term."""
    prompt_sampling: str = field(default="uniform", metadata={"choices": ("uniform", "learnability")})
    """Which tasks are asked: each as often as any other, or in proportion to the p (1 - p) that is expected of its pass
    rate p, in refills as well (arXiv 2502.12272)."""
    refill_rounds: int = field(default=0, metadata={"least": 0})
    """How often a step may sample further prompts in the place of discarded groups. What is missing then is missing."""
    truncated: str = field(default="keep", metadata={"choices": ("keep", "mask")})
    """Completions without an end: `keep` their reward, or `mask` them out of loss and baseline."""
    overlong_buffer: int | None = field(default=None, metadata={"least": 1})
    """DAPO's soft punishment begins so many tokens before `max_gen_len`; None is off."""
    overlong_penalty: float = field(default=0.3, metadata={"least": 0})
    """Its size at `max_gen_len`; 0.3 is the reward of code that compiles."""


@dataclass
class GSPOConfig(GRPOConfig):
    """Group sequence policy optimisation (arXiv 2507.18071) with a KL term and group discard."""

    ratio: str = field(default="sequence", metadata=RATIOS)


@dataclass
class StepCoderConfig:
    """StepCoder (arXiv 2402.01391): a curriculum of prefixes (CCCS) and a loss that looks where it matters (FGO)."""

    cccs: bool = False
    """Put the beginning of the known solution behind the prompt; it shrinks as the policy learns."""
    cccs_init_frac: float = field(default=0.7, metadata={"least": 0, "most": 1})
    """Share of the solution that is given at first, cut at a line."""
    cccs_decay_threshold: float = field(default=0.6, metadata={"least": 0, "most": 1})
    """The prefix shrinks where the metric is above this."""
    cccs_decay_step: float = field(default=0.1, metadata={"least": 0, "most": 1})
    cccs_min_prefix_frac: float = field(default=0.0, metadata={"least": 0, "most": 1})
    """Above 0 the policy never learns to begin, which evaluation asks of it."""
    cccs_metric: str = field(default="compile_rate", metadata={"choices": ("compile_rate", "pass_rate")})
    """`compile_rate` or `pass_rate` of a task's group."""
    cccs_boundary: str = field(default="line", metadata={"choices": ("line", "conditional")})
    """`line`, or `conditional`: begin at the solution's conditional statements, the last one first, as in the paper."""
    fgo: str = field(default="off", metadata={"choices": ("off", "compile_error", "coverage", "both")})
    """`compile_error` leaves out what stands after the first error, `coverage` what was not executed, `both`, `off`."""


@dataclass
class GuardSettings:
    """When a run speaks up."""

    action: str = field(default="stop", metadata={"choices": ("stop", "warn")})
    """`stop` or `warn`: what a finding does that leaves nothing to learn from."""
    patience: int = field(default=5, metadata={"least": 1})
    """Steps in a row, and the length of the start that a collapse is measured against."""
    max_infra_rate: float = field(default=0.25, metadata={"least": 0, "most": 1})
    """Share of completions that the infrastructure may fail to judge, over `patience` steps."""
    canary_every: int | None = field(default=20, metadata={"least": 1})
    """Rollout steps between the programs that must pass and must fail; None has them at the start only."""


@dataclass
class TrainerSettings:
    """How long, how fast, how often."""

    steps: int = field(metadata={"least": 1})
    """Rollout steps: one batch of completions each."""
    batch_size: int = field(metadata={"least": 1})
    """Completions a step, over all processes: prompts times group_size."""
    micro_batch_size: int | None = field(metadata={"least": 1})
    """At most so many completions in one forward pass of one process, the most that divide its mini-batch evenly; None
    is all of it."""
    learning_rate: float = field(metadata={"least": 0})
    lr_schedule: str
    """A transformers schedule: `constant`, `linear`, `cosine`, ..."""
    warmup_steps: int = field(metadata={"least": 0})
    """Optimizer steps."""
    max_grad_norm: float = field(metadata={"least": 0})
    gradient_checkpointing: bool
    save_every: int | None = field(metadata={"least": 1})
    """Rollout steps between checkpoints, from which `resume` goes on; None has none."""
    trl: dict[str, Any] = field(default_factory=dict)
    """Other arguments of trl.GRPOConfig by their names, of those that leave sampling and scoring as they are."""


@dataclass
class EvaluationSettings:
    """How the policy is measured on held-out tasks."""

    samples: int = field(metadata={"least": 0})
    """Sampled completions of each task, at the training temperature, beside the greedy one."""
    every: int | None = field(metadata={"least": 1})
    """Rollout steps between greedy evaluations during training; None only measures before and after."""
    limit: int | None = field(metadata={"least": 1})
    """At most so many held-out tasks."""
    batch_size: int = field(metadata={"least": 1})
    """Prompts in one generation batch."""
    keep_best: bool = True
    """Keep the weights with which greedy pass@1 was best, in `checkpoints/best`."""
    patience: int | None = field(default=None, metadata={"least": 1})
    """Evaluations in a row without a better one, after which training ends; None never ends it early."""


@dataclass
class TrainingJob:
    """Everything that `python -m rlvr_cpp.gspo` and `.grpo` may be told."""

    seed: int = field(metadata={"least": 0, "most": 2**32 - 1})
    model: str
    """The name of a shipped model, `demo` for the embedded one, a Hugging Face id, or a local folder."""
    resume: str | None
    """The folder of a run to go on with, with the config it has; with `trainer.steps`, `trainer.learning_rate` or
    `tracker` beside it, the run goes on so."""
    accept_changes: list[str]
    """Facts that may be others than those of the run that goes on, by the names that its refusal tells; noted."""
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
    tracker: Any = "tensorboard"
    """Who is told of each step: `tensorboard`, `wandb`, `trackio` or `mlflow`, a list of them, or None. The run
    folder has every number in any case."""
