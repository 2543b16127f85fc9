"""What a completion is worth, as a config says it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class RewardSettings:
    """What a completion is worth."""

    kind: str = field(metadata={"choices": ("tiers", "binary", "shaped")})
    """`tiers` (compiles, runs, share of tests), `binary` (passes or not) or `shaped` (speed, sanitizers, style too)."""
    sanitizer_fraction: float = field(metadata={"least": 0, "most": 1})
    """Share of groups whose passing completions are also built with ASan and UBSan; for `shaped`."""
    tidy_fraction: float = field(metadata={"least": 0, "most": 1})
    """Share of groups whose passing completions are read by clang-tidy; for `shaped`."""
