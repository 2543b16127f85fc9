"""Without peft artifacts and merges are left out, the registry is not."""

from importlib.util import find_spec

collect_ignore = [] if find_spec("peft") else ["test_artifact.py", "test_merge.py"]
