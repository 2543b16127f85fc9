"""Things built once: whole or not at all, shared, and the least recently used gone first."""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from rlvr_cpp.verifier.toolchain.store import Store, content_key


def put(size: int):
    def build(folder) -> bool:
        (folder / "thing").write_bytes(b"x" * size)
        return True

    return build


def test_what_was_built_is_found(tmp_path):
    store = Store(tmp_path, 1000)
    assert store.find("a") is None
    made = store.make("a", put(10))
    assert made == store.find("a")
    assert (made / "thing").read_bytes() == b"x" * 10
    assert Store(tmp_path, 1000).find("a") == made


def test_what_failed_leaves_nothing(tmp_path):
    store = Store(tmp_path, 1000)
    assert store.make("a", lambda folder: False) is None
    assert list(tmp_path.iterdir()) == []


def test_builders_at_the_same_time_agree(tmp_path):
    store = Store(tmp_path, 1000)
    meeting = threading.Barrier(4)

    def build(folder) -> bool:
        meeting.wait()
        return put(10)(folder)

    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: store.make("a", build), range(4)))
    assert len(set(made)) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_the_least_recently_used_goes_first_and_what_is_in_use_stays(tmp_path):
    store = Store(tmp_path, 100)
    for age, key in ((3, "oldest"), (2, "old"), (0, "young")):
        entry = store.make(key, put(40 if key != "young" else 10))
        used = time.time() - 10_000 * age
        os.utime(entry, (used, used))
    store.make("new", put(40))
    assert store.find("oldest") is None
    assert store.find("old") is not None
    store.make("big", put(500))
    assert store.find("young") is not None


def test_keys_tell_parts_apart():
    assert content_key("ab", "c") != content_key("a", "bc")
    assert content_key("\udcff") == content_key("\udcff")


def test_a_secret_is_one_for_all_who_share_the_folder_and_no_others(tmp_path):
    first, second, other = (Store(tmp_path / name, 1000) for name in ("shared", "shared", "other"))
    assert first.secret() == second.secret() != other.secret()
    assert all((path.stat().st_mode & 0o077) == 0 for path in (tmp_path / "shared").glob("*/*"))
