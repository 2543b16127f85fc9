"""One text out of what a prompt gives, what an answer brings, and what it needs of other blocks.

Nothing is defined twice: what both bring is taken once, from the answer where it is whole and says something else. What
stands in other blocks is taken by the piece, where a name is used that nobody else defines, and put before its use.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from rlvr_cpp.verifier.cpp.heads import DEFINITIONS
from rlvr_cpp.verifier.cpp.outline import Item, outline


@dataclass(frozen=True)
class Part:
    """A stretch of text on its way into a candidate."""

    text: str
    origin: int | None = None
    """Where it begins in the completion; None where it was given."""
    item: Item | None = None
    """What it is; None for what only stands behind a text's last item."""
    block: int = -1
    """The number of the block that it comes from."""

    @property
    def names(self) -> frozenset[str]:
        """What it defines, macros too."""
        if self.item is None:
            return frozenset()
        return frozenset({self.item.name} - {""}) if self.item.kind == "directive" else self.item.names

    @property
    def words(self) -> frozenset[str]:
        """What it uses."""
        return self.item.words if self.item is not None else frozenset()


def parts_of(text: str, origin: int | None = None, block: int = -1) -> list[Part]:
    """A part for each item of a text and one for what stands behind the last."""
    parts = [
        Part(text[item.start : item.end], None if origin is None else origin + item.start, item, block)
        for item in outline(text)
    ]
    end = parts[-1].item.end if parts and parts[-1].item else 0
    return [*parts, Part(text[end:], None if origin is None else origin + end, None, block)]


def without_main(parts: Iterable[Part]) -> list[Part]:
    """Without a `main`: the tests bring one, and whoever shows how a function is used does not cheat."""
    return [part for part in parts if not (part.item and part.item.kind == "function" and part.item.name == "main")]


def without_operators(parts: Iterable[Part]) -> list[Part]:
    """Without functions that are used by no name."""
    return [part for part in parts if not any(name.startswith("operator") for name in part.names)]


def overloads(answer: Item, blocks: Iterable[Iterable[Part]]) -> list[Part]:
    """Functions of the answer's name in other blocks that it calls: it has other parameters itself."""
    called = set(answer.calls_of_itself()) - {len(answer.read.parameters or ())}
    found = (part for block in blocks for part in block if part.item and part.item.kind == "function")
    same = (part for part in found if part.item and part.item.name == answer.name)
    return [part for part in same if part.item and len(part.item.read.parameters or ()) in called]


def without_linkage(part: Part, entry: str) -> list[Part]:
    """A function of this name without `static` and `inline`, by which no test in another text would find it."""
    item = part.item
    if item is None or item.kind != "function" or item.name != entry or item.body is None:
        return [part]
    parts, place = [], 0
    for token in item.tokens[: item.body]:
        if token.text == "(":
            break
        if token.text in ("static", "inline") and token.kind == "word":
            parts.append(_slice(part, place, token.start - item.start))
            place = token.end - item.start
    return [*parts, _slice(part, place, len(part.text))]


def _slice(part: Part, start: int, end: int) -> Part:
    return replace(part, text=part.text[start:end], origin=None if part.origin is None else part.origin + start)


def join(
    given: Sequence[Part], own: Sequence[Part], prefaces: Sequence[Part], others: Sequence[Sequence[Part]], entry: str
) -> list[Part]:
    """The given parts, then the answer's own, each behind what it needs.

    `prefaces` are parts of earlier blocks whose includes hold; `others` are blocks by rising precedence.
    """
    kept, own, replaced = _without_repetitions(given, own, entry)
    spare = _Spare(others, _known(kept, own, entry))
    joined: list[Part] = []
    rest = list(own)
    for part in kept:
        while part.words & replaced and any(one.names & replaced & part.words for one in rest):
            joined.extend(spare.with_needs(rest.pop(0)))
        joined.append(part)
    joined.extend(part for part in prefaces if part.item is not None and part.item.includes)
    for part in rest:
        joined.extend(spare.with_needs(part))
    types = {name for part in joined if part.item and part.item.kind == "type" for name in part.names}
    joined.extend(spare.members_of(types))
    return _on_lines_of_their_own(joined)


def _known(given: Sequence[Part], own: Sequence[Part], entry: str) -> frozenset[str]:
    """What needs no other block: defined here, or promised to be defined by the tests."""
    promised = {part.item.name for part in given if part.item and part.item.kind == "prototype"}
    return frozenset({entry, "main"} | promised).union(*(part.names for part in (*given, *own)))


def _without_repetitions(
    given: Sequence[Part], own: Sequence[Part], entry: str
) -> tuple[list[Part], list[Part], frozenset[str]]:
    """What is given and what the answer brings, each thing once, and the names of what the answer has replaced."""
    kept, brought = list(given), []
    replaced: set[str] = set()
    for part in own:
        twin = _twin(part, kept, entry)
        if twin is None or part.item is None or twin.item is None:
            brought.append(part)
        elif part.item.is_whole and part.item.spelling != twin.item.spelling:
            kept = [one for one in kept if one is not twin]
            replaced |= twin.names
            brought.append(part)
    return kept, brought, frozenset(replaced)


def _twin(part: Part, given: Sequence[Part], entry: str) -> Part | None:
    """What is given under the same name, with parameters of the same types, or as many where none has the same."""
    item = part.item
    if item is None or item.kind not in (*DEFINITIONS, "scope") or not item.name:
        return None
    same = [one for one in given if one.item and (one.item.kind, one.item.name) == (item.kind, item.name)]
    if item.kind == "scope":
        return next((one for one in same if one.item and _holds(item, one.item)), None)
    if item.kind != "function" or item.name == entry:
        return same[0] if same else None
    exact = [one for one in same if one.item and one.item.read.parameters == item.read.parameters]
    alike = [one for one in same if one.item and len(one.item.read.parameters or ()) == len(item.read.parameters or ())]
    if exact:
        return exact[0]
    return alike[0] if len(alike) == 1 else None


def _holds(scope: Item, other: Item) -> bool:
    """A namespace brings all that another of its name has: it is no further part of it."""
    return {item.name for item in other.inner} <= {item.name for item in scope.inner}


class _Spare:
    """The parts of other blocks, each taken at most once."""

    def __init__(self, blocks: Sequence[Sequence[Part]], known: frozenset[str]) -> None:
        self._includes: dict[int, list[Part]] = {part.block: [] for block in blocks for part in block}
        self._by_name: dict[str, Part] = {}
        self._members: list[Part] = []
        for block in blocks:
            for part in block:
                if part.item is not None and part.item.includes:
                    self._includes[part.block].append(part)
                for name in part.names - known:
                    self._by_name[name] = part
                    self._members += [part] if "::" in name else []
        self._taken: set[int] = set()

    def with_needs(self, part: Part) -> Iterator[Part]:
        """The part behind the spare ones that it needs and that nobody has taken."""
        waiting = [(part, False)]
        while waiting:
            one, has_needs = waiting.pop()
            if has_needs:
                yield one
            elif id(one) not in self._taken:
                self._taken.add(id(one))
                waiting.append((one, True))
                needed = (self._by_name[name] for name in sorted(one.words & self._by_name.keys(), reverse=True))
                waiting.extend((other, False) for other in needed)
                waiting.extend((include, True) for include in self._includes.pop(one.block, ()) if one is not part)

    def members_of(self, types: set[str]) -> Iterator[Part]:
        """Members of these types that are defined outside of them."""
        for part in self._members:
            if any(name.split("::")[0] in types for name in part.names):
                yield from self.with_needs(part)


def _on_lines_of_their_own(parts: Iterable[Part]) -> list[Part]:
    """The parts, with a line break between two that were not neighbours."""
    joined: list[Part] = []
    for part in parts:
        last = joined[-1] if joined else None
        is_neighbour = last is None or (
            last.block == part.block
            and (part.origin is None or last.origin is None or last.origin + len(last.text) == part.origin)
        )
        if last is not None and not is_neighbour and not last.text.endswith("\n") and not part.text.startswith("\n"):
            joined.append(Part("\n"))
        if part.text:
            joined.append(part)
    return joined
