"""What a completion is worth, as a config says it."""

from __future__ import annotations

from dataclasses import dataclass, field

KINDS = ("tiers", "binary", "shaped")
"""The rewards that come with the library."""


@dataclass
class RewardSettings:
    """What a completion is worth."""

    kind: str
    """`tiers` (compiles, runs, share of tests), `binary` (passes or not), `shaped` (speed, sanitizers, style too), or
    `module:function`, a Python function of one's own (docs/training.md)."""
    sanitizer_fraction: float = field(metadata={"least": 0, "most": 1})
    """Share of groups whose passing completions are also built with ASan and UBSan; for `shaped`."""
    tidy_fraction: float = field(metadata={"least": 0, "most": 1})
    """Share of groups whose passing completions are read by clang-tidy; for `shaped`."""
