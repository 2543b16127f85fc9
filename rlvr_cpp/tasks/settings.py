"""Where tasks come from, as a config says it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class TaskSettings:
    """Where tasks come from."""

    source: Any
    """None is the shipped set; else a `.jsonl` path or the name of a data set, a list of them, or weights such as
    `{a.jsonl: 3, shipped: 1}`, by which training draws its prompts."""
    config: str | None
    """The data set's configuration."""
    split: str | None
    """The data set's split; None is `train`, or the only one there is."""
    held_out_fraction: float = field(metadata={"above": 0, "below": 1})
    """Set aside for evaluation where the source marks no task `held_out`."""
    max_prompt_tokens: int | None = field(default=None, metadata={"least": 1})
    """Tasks with longer prompts are left out; None refuses a prompt that fills the model's context."""
    check_references: str = field(default="sample", metadata={"choices": ("sample", "all", "none")})
    """Of a `source` of one's own: reference solutions have to pass, answers without work should not (`weak`)."""
    tags: list[str] | None = None
    """Only tasks with one of these tags; None takes all."""
    difficulty: list[str] | None = None
    """Only tasks whose rows call their difficulty so, such as `easy`; None takes all."""
    min_tier: str = field(default="marker", metadata={"choices": ("marker", "observer", "oracle")})
    """Leave out tasks whose tests are judged in a weaker way; `marker`, inside the answer's process, keeps all."""


@dataclass
class BenchmarkSettings:
    """Which problems, and which of their tests."""

    name: str = field(metadata={"choices": ("humaneval_cpp", "mbpp_cpp", "tasks")})
    """`humaneval_cpp`, `mbpp_cpp` or `tasks`: which shapes of rows are taken."""
    source: str | None
    """A `.jsonl`, `.json` or `.parquet` file, or a data set on the hub; None is the shipped set of `tasks`."""
    config: str | None
    """The data set's configuration."""
    split: str | None
    """The data set's split; None is `test`."""
    part: str = field(metadata={"choices": ("held_out", "train", "all")})
    """Of `tasks`: those marked `held_out`, those marked `train`, or `all`."""
    tests: str = field(metadata={"choices": ("hidden", "public")})
    """`hidden` judges by hidden tests where a problem has any, `public` by those that a reward may have seen."""
    limit: int | None = field(metadata={"least": 1})
    """At most so many problems, evenly spaced."""
