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
    """What stands in for exceptions of the candidate's own types."""
    declared = [
        f"struct rlvr_Thrown{n} : std::exception {{ const rlvr::Handle& object; explicit rlvr_Thrown{n}(unsigned id) : "
        "object(*new rlvr::Handle(id, false)) {} };"
        for n in range(count)
    ]
    thrown = "".join(f" if (which == {n}) throw rlvr_Thrown{n}(handle);" for n in range(count))
    return [
        *declared,
        f"void rlvr::throw_own(unsigned which, unsigned handle) {{ (void)which, (void)handle;{thrown} lost(); }}",
    ]


def thrown_in_observer(caught: list[str], travels: bool) -> list[str]:
    """What sends an exception of one of the types that the test catches."""
    caught_here = "".join(
        f" catch (const {kind}& error) {{ out.put(THREW_OWN); out.put(number); out.put<unsigned>({n}); "
        f"put_slot(out, hold(new {kind}(error))); }}"
        for n, kind in enumerate(caught)
    )
    whole = f"try {{ throw; }}{caught_here} catch (...) {{ put_thrown_by_library(out, number); }}"
    body = whole if caught and travels else "put_thrown_by_library(out, number);"
    return [f"void rlvr::put_own_exception(Writer& out, unsigned number) {{ {body} }}"]


@cache
def header() -> str:
    """The library of both sides, behind `rpc.h`."""
    return (Path(__file__).parent / "observer.h").read_text(encoding="utf-8")
