"""`python -m rlvr_sandbox doctor`: what this host can isolate, shown and tried, and what to do about the rest."""

from __future__ import annotations

import sys

from rlvr_sandbox.doctor import doctor


def main() -> int:
    """Exit 0 where every control works, 1 where some are missing, 2 where programs cannot be run or judged safely."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(__doc__)
        return 0
    if sys.argv[1:] != ["doctor"]:
        print(f"error: it takes no other words than doctor, and was given {sys.argv[1:]}", file=sys.stderr)
        return 2
    return doctor()


if __name__ == "__main__":
    sys.exit(main())
