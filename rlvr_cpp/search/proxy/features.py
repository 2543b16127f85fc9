"""What a program looks like to a classifier that never compiles it: its characters, its tokens, its syntax tree.

Three bags of words. What a compiler minds first stands in the tree: errors, tokens that the parser had to invent, and
names that are used but nowhere declared, which no n-gram can see. Names stand in the bags as they are written, so what
was learned on one kind of code holds for that kind of code.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tree_sitter import Node

from rlvr_cpp.verifier.cpp.lexemes import parse

TOKEN = re.compile(
    r'"(?:\\.|[^"\\\n])*"?|\'(?:\\.|[^\'\\\n])*\'?|[A-Za-z_]\w*|\d[\w.]*|'
    r"::|->|[<>=!+\-*/%&|^]=|&&|\|\||<<|>>|\+\+|--|\S"
)
"""Words of a bag, not C++: those of comments count, too. What is code is read in `verifier/cpp/lexemes.py`."""
LONGEST = 4
"""Tokens, and generations or siblings of the tree, in one feature."""
BUCKETS = 1 << 16
"""Of each bag: features are hashed into so many columns."""
FLAWS = ("errors", "missing", "undeclared")
MOST = 5
"""Flaws beyond so many of a kind say nothing new."""
SETTINGS = {
    "version": 1,
    "longest": LONGEST,
    "buckets": BUCKETS,
    "characters": [3, 5],
    "flaws": list(FLAWS),
    "most": MOST,
}
"""What a trained proxy's weights belong to."""
NAMES = ("identifier", "type_identifier", "field_identifier")
DECLARATIONS = (
    "declaration",
    "definition",
    "specifier",
    "init_declarator",
    "for_range_loop",
    "enumerator",
    "preproc_def",
)
"""How the types of nodes end that give a name."""


def vectorize(codes: Sequence[str]) -> Any:
    """Sparse (N, features) rows of programs: three bags, each of length 1, and the counts of flaws."""
    from scipy.sparse import csr_array, hstack
    from sklearn.feature_extraction.text import HashingVectorizer

    bag = {"n_features": BUCKETS, "alternate_sign": False, "binary": True}
    trees = [read_tree(code) for code in codes]
    return hstack(
        [
            HashingVectorizer(analyzer="char", ngram_range=(3, 5), lowercase=False, **bag).transform(codes),
            HashingVectorizer(analyzer=token_features, **bag).transform(codes),
            HashingVectorizer(analyzer=lambda tree: tree.features, **bag).transform(trees),
            csr_array(np.array([[min(count, MOST) / MOST for count in tree.flaws] for tree in trees])),
        ],
        format="csr",
    )


def token_features(code: str) -> Iterator[str]:
    """Runs of one to four tokens."""
    return _runs([match.group() for match in TOKEN.finditer(code)])


@dataclass(frozen=True)
class Tree:
    """What a program's syntax tree says."""

    features: list[str]
    """Paths down the tree and runs of siblings, by types of nodes, and tokens that are missing."""
    flaws: tuple[int, int, int]
    """Nodes that are errors, tokens that had to be invented, names that are used and nowhere declared."""


def read_tree(code: str) -> Tree:
    """Parse a program, however broken."""
    features: list[str] = []
    names: list[Node] = []
    errors = missing = 0
    stack: list[tuple[Node, tuple[str, ...]]] = [(parse(code.encode(errors="replace")), ())]
    while stack:
        node, above = stack.pop()
        path = (*above, node.type)[-LONGEST:]
        features += (">".join(path[start:]) for start in range(len(path)))
        features += _runs([child.type for child in node.children])
        if node.is_missing:
            features.append(f"missing {node.type}")
        if node.type in NAMES:
            names.append(node)
        errors += node.is_error
        missing += node.is_missing
        stack += [(child, path) for child in node.children]
    return Tree(features, (errors, missing, len(_undeclared(names))))


def _runs(words: Sequence[str]) -> Iterator[str]:
    for length in range(1, LONGEST + 1):
        for start in range(len(words) - length + 1):
            yield " ".join(words[start : start + length])


def _undeclared(names: Sequence[Node]) -> set[bytes]:
    """Names that no place declares; members and what stands behind `::` may be declared where nobody looks."""
    declared: set[bytes] = set()
    used: set[bytes] = set()
    for node in names:
        if _declares(node):
            declared.add(node.text or b"")
        elif node.type != "field_identifier" and not _is_qualified(node):
            used.add(node.text or b"")
    return used - declared


def _declares(node: Node) -> bool:
    """It stands where a declaration puts its name."""
    below, above = node, node.parent
    while above is not None and above.type.endswith("declarator") and above.type != "init_declarator":
        below, above = above, above.parent
    if above is None or not above.type.endswith(DECLARATIONS):
        return False
    return above.type == "type_parameter_declaration" or any(
        below in above.children_by_field_name(field) for field in ("declarator", "name")
    )


def _is_qualified(node: Node) -> bool:
    return node.parent is not None and node.parent.type in ("qualified_identifier", "template_type")
