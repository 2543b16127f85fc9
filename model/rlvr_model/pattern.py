"""Block patterns: one letter per layer, tiled over the depth, and the table that shows what a pattern became.

`AAM` on 16 layers puts Mamba at 2, 5, 8, 11 and 14; `AEMEAEMEAEMR` on 52 gives 13 A, 13 M, 22 E and 4 R. A letter says
what a layer mixes with. Where no letter is E, every layer also carries a feed-forward of its own, as in a transformer;
with E, feed-forwards are layers and the other letters mix only, unless the config says otherwise.
"""

from __future__ import annotations

LETTERS = {"A": "attention", "M": "mamba3", "E": "experts", "R": "recurrent tail"}


def expand_pattern(pattern: str, depth: int) -> str:
    """`pattern` tiled and cut to `depth` letters.

    Raises ValueError for an unknown letter, no layer at all, a pattern longer than the depth or one without attention,
    which knows how many tokens a cache holds.
    """
    unknown = sorted(set(pattern) - set(LETTERS))
    known = ", ".join(f"{letter} ({name})" for letter, name in LETTERS.items())
    if unknown or not pattern:
        raise ValueError(f"block_pattern is {pattern!r}, with {unknown or 'no letter'}: use {known}")
    if depth < len(pattern):
        raise ValueError(
            f"block_pattern {pattern!r} has {len(pattern)} letters but num_hidden_layers is {depth}: "
            f"shorten the pattern, or take at least {len(pattern)} layers"
        )
    expanded = (pattern * -(-depth // len(pattern)))[:depth]
    if "A" not in expanded:
        raise ValueError(f"block_pattern is {pattern!r}, without attention: put in at least one A")
    return expanded
