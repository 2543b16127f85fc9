"""What the two units of a test are made of beside the test: the library, and what exceptions need."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from rlvr_cpp.verifier.tiers.travel import TEMPLATES


def templates(lines: Iterable[str]) -> frozenset[str]:
    """The templates of `std` that values which are sent are made of, or more."""
    names = {name for line in lines for name in re.findall(r"\bstd::(\w+)", line)}
    return frozenset(names & {*TEMPLATES, "string"})


def thrown_in_oracle(count: int) -> list[str]:
    """What throws a stand-in for an exception of as many classes of the candidate's as the test catches."""
    thrown = f"throw_own_of<{count}>(in);" if count else "(void)in, lost();"
    return [f"void rlvr::throw_own(Reader& in) {{ {thrown} }}"]


def thrown_in_observer(caught: list[str], travels: bool) -> list[str]:
    """What sends an exception, also of one of the types that the test catches."""
    put = f"put_thrown_as<{', '.join(caught)}>" if caught and travels else "put_thrown_by_library"
    return [f"void rlvr::put_own_exception(Writer& out, unsigned number) {{ {put}(out, number); }}"]


@cache
def header() -> str:
    """The library of both sides, behind `rpc.h`."""
    return (Path(__file__).parent / "observer.h").read_text(encoding="utf-8")
