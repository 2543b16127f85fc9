"""What a test starts decides when it is run: one table, from folders and files to a mark.

`make quick` runs what has no mark. The longest path that a test lies below names its mark. A test that needs a package
of an extra lies below a path that names the package, and is left out where that is not installed.
"""

from importlib.util import find_spec
from pathlib import Path

TESTS = Path(__file__).parent
MARKS = {
    "compiler": "starts a C++ compiler",
    "torch": "imports torch",
    "wheel": "builds the wheel or imports in fresh processes",
}
TIERS = {
    "": None,
    "test_house.py": "wheel",
    "test_rooms.py": "wheel",
    "jobs": "torch",
    "kernels": "torch",
    "model": "torch",
    "pretrain": "torch",
    "sandbox": "compiler",
    "rlvr_cpp/verifier": "compiler",
    "rlvr_cpp/verifier/test_cases.py": None,
    "rlvr_cpp/verifier/test_checkers.py": None,
    "rlvr_cpp/verifier/test_limits.py": None,
    "rlvr_cpp/verifier/test_think.py": None,
    "rlvr_cpp/verifier/test_verdict.py": None,
    "rlvr_cpp/verifier/cpp/test_signature.py": None,
    "rlvr_cpp/verifier/cpp/test_includes.py": None,
    "rlvr_cpp/verifier/cpp/test_loops.py": None,
    "rlvr_cpp/verifier/tiers/test_travel.py": None,
    "rlvr_cpp/verifier/toolchain/test_store.py": None,
    "rlvr_cpp/reward": "compiler",
    "rlvr_cpp/reward/test_former_addresses.py": None,
    "rlvr_cpp/reward/test_own.py": None,
    "rlvr_cpp/reward/test_tiers.py": None,
    "rlvr_cpp/reward/test_trl.py": "torch",
    "rlvr_cpp/tasks": "compiler",
    "rlvr_cpp/tasks/test_answers.py": None,
    "rlvr_cpp/tasks/test_choice.py": None,
    "rlvr_cpp/tasks/test_completion.py": None,
    "rlvr_cpp/tasks/test_contamination.py": None,
    "rlvr_cpp/tasks/test_conversion.py": None,
    "rlvr_cpp/tasks/test_mixture.py": None,
    "rlvr_cpp/tasks/test_shapes.py": None,
    "rlvr_cpp/tasks/test_sources.py": None,
    "rlvr_cpp/tasks/test_tiers.py": None,
    "rlvr_cpp/policy": "torch",
    "rlvr_cpp/adapters/test_artifact.py": "torch",
    "rlvr_cpp/adapters/test_merge.py": "torch",
    "rlvr_cpp/evaluation/test_attempts.py": "compiler",
    "rlvr_cpp/search": "torch",
    "rlvr_cpp/runs/test_trackers.py": "torch",
    "rlvr_cpp/training": "torch",
}
PACKAGES = {
    "jobs": "trl",
    "kernels": "torch",
    "model": "torch",
    "pretrain": "torch",
    "rlvr_cpp/policy": "torch",
    "rlvr_cpp/adapters/test_artifact.py": "peft",
    "rlvr_cpp/adapters/test_merge.py": "peft",
    "rlvr_cpp/evaluation": "hydra",
    "rlvr_cpp/runs": "hydra",
    "rlvr_cpp/search": "trl",
    "rlvr_cpp/runs/test_trackers.py": "transformers",
    "rlvr_cpp/training": "trl",
}


def tier_of(path: Path) -> str | None:
    """The mark of the tests in a file; None is quick."""
    place = path.relative_to(TESTS)
    nearest = next(above for above in (place, *place.parents) if _name(above) in TIERS)
    return TIERS[_name(nearest)]


def can_be_imported(path: Path) -> bool:
    """Whether the packages that a file of tests or a folder needs are installed."""
    place = path.relative_to(TESTS)
    needed = {PACKAGES[_name(above)] for above in (place, *place.parents) if _name(above) in PACKAGES}
    return all(find_spec(package) for package in needed)


def _name(place: Path) -> str:
    return "" if place == Path() else place.as_posix()
