"""How programs are judged, as a config says it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(kw_only=True)
class VerifierSettings:
    """How programs are judged."""

    compiler: str
    extra_flags: list[str]
    timeout: float
    """CPU seconds of a run; it may take twice as long and a second on the clock."""
    compile_timeout: float
    """CPU seconds of a build; the same for the clock."""
    workers: int | None = field(metadata={"least": 1})
    """Programs at a time; None is one more than there are cores."""
    cache: str | None
    """A file of results that runs share; None keeps them in memory."""
    testlib: str | None = None
    """The folder in which testlib.h lies, for tasks whose checker programs include it; None where none does."""


@dataclass
class SandboxSettings:
    """How untrusted programs are kept apart."""

    require: str
    """What the host must give: `any`, `contained` (namespaces keep a program from all that is not its own) or `full`
    (cgroups, too); see `python -m rlvr_sandbox doctor`."""
