"""GRPO (arXiv 2402.03300) against a real compiler: `python -m rlvr_cpp.grpo`.

The job of `rlvr_cpp.gspo` with a ratio for each token; every key is the same.
"""

from __future__ import annotations

from rlvr_cpp import gspo


def main() -> None:
    """The command."""
    gspo.main("grpo")


if __name__ == "__main__":
    main()
