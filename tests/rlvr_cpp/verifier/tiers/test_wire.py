"""A worker that breaks the protocol ends the oracle, and one that keeps to it is believed.

The workers here are no candidates but a few lines of Python that say whatever they like.
"""

import os
import socket
import subprocess
import sys

import pytest

from rlvr_cpp.verifier.tiers.oracle import ORACLE_CHANNEL, WORKER_CHANNEL, split
from rlvr_cpp.verifier.verdict import WORKER_GONE, WORKER_LIED


def start(command: list[str], end: socket.socket, channel: int) -> subprocess.Popen:
    def take_channel() -> None:
        os.dup2(end.fileno(), channel)
        os.closerange(max(channel, 2) + 1, 120)

    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        close_fds=False,
        preexec_fn=take_channel,
    )


def start_both(oracle: str, worker: list[str]) -> tuple[subprocess.Popen, subprocess.Popen]:
    ask, answer = socket.socketpair()
    with ask, answer:
        return start([oracle], ask, ORACLE_CHANNEL), start(worker, answer, WORKER_CHANNEL)


def run_both(oracle: str, worker: list[str]) -> tuple[int, bytes, int]:
    """The oracle's exit status and output, and the worker's exit status."""
    processes = start_both(oracle, worker)
    try:
        stdout, _ = processes[0].communicate(timeout=60)
        processes[1].communicate(timeout=60)
    finally:
        for process in processes:
            process.kill()
    return processes[0].returncode, stdout, processes[1].returncode


NUMBERS_TEST = """#include <cstdio>
int main() {
    int v[3] = {1, 2, 3};
    bool good = solve(v, 3);
    std::printf("PASSED %d/1 %d %d\\n", good + 0, v[0], good == true);
    return 0;
}
"""
CONTAINERS_TEST = """#include <cstdio>
int main() {
    std::printf("PASSED %d/1\\n", int(solve(std::string(1 << 20, 'q')).first.size()));
    return 0;
}
"""
HOSTILE = """
import os, struct, sys
def request():
    size = struct.unpack("<I", os.read(0, 4))[0]
    data = b""
    while len(data) < size:
        data += os.read(0, size - len(data))
    return data
def write(data):
    while data:
        data = data[os.write(0, data):]
def reply(payload, number=1, outcome=0):
    body = struct.pack("<IB", number, outcome) + payload
    write(struct.pack("<I", len(body)) + body)
"""
ARRAY = r"b'\x01\x03\0\0\0' + bytes(12)"


@pytest.fixture(scope="module")
def oracles(tmp_path_factory, compilers):
    folder = tmp_path_factory.mktemp("oracles")
    opened = "#include <list>\n#include <set>\n#include <string>\n#include <utility>\n"
    opened += "std::pair<std::set<int>, std::list<char>> solve(std::string question) {"
    texts = {
        "numbers": split(NUMBERS_TEST, "bool solve(int* v, int n) {", "").oracle,
        "containers": split(CONTAINERS_TEST, opened, "").oracle,
    }
    for name, text in texts.items():
        compiled, done = compilers.compile("g++", text, "-std=c++17", "-O0")
        assert done.returncode == 0, done.stderr.decode()
        subprocess.run(["g++", compiled, "-o", folder / name], check=True)
    return {name: str(folder / name) for name in texts}


@pytest.mark.parametrize(
    ("oracle", "worker"),
    [
        ("numbers", "sys.exit(0)"),
        ("numbers", "os.close(3); os.close(4)"),
        ("numbers", "request()"),
        ("numbers", "request(); os.kill(os.getpid(), 9)"),
        ("numbers", "request(); write(b'\\1\\0')"),
        ("numbers", "request(); write(struct.pack('<I', 64 << 20) + b'few')"),
        ("numbers", "request(); write(struct.pack('<I', 24)[:3])"),
        ("numbers", "request(); write(struct.pack('<IIB', 23, 1, 0) + b'\\1')"),
        ("containers", "sys.exit(0)"),
        ("containers", "request(); write(struct.pack('<IIB', 13, 1, 0))"),
        ("numbers", "request(); write(bytes(range(256)) * 20)"),
    ],
)
def test_a_worker_that_ends_early_ends_the_oracle(oracles, oracle, worker):
    status, stdout, _ = run_both(oracles[oracle], [sys.executable, "-S", "-c", HOSTILE + worker])
    assert status == WORKER_GONE
    assert stdout == b""


@pytest.mark.parametrize(
    ("oracle", "worker"),
    [
        ("numbers", "request(); write(b'\\0' * 4)"),
        ("numbers", "request(); write(b'\\xff' * 4)"),
        ("numbers", "request(); write(b'\\xff' * 400)"),
        ("numbers", "request(); write(struct.pack('<I', (64 << 20) + 1))"),
        ("numbers", "request(); reply(b'')"),
        ("numbers", f"request(); reply(b'\\1' + {ARRAY} + b'\\0')"),
        ("numbers", f"request(); reply(b'\\1' + {ARRAY}, number=2)"),
        ("numbers", f"request(); reply(b'\\1' + {ARRAY}, outcome=1)"),
        ("numbers", f"request(); reply(b'\\1' + {ARRAY}, outcome=255)"),
        ("numbers", "request(); reply(b'\\1\\0')"),
        ("numbers", "request(); reply(b'\\1\\1\\2\\0\\0\\0' + bytes(8))"),
        ("numbers", "request(); reply(b'\\1\\1\\4\\0\\0\\0' + bytes(16))"),
        ("numbers", "request(); reply(b'\\1\\1\\xff\\xff\\xff\\xff' + bytes(12))"),
        ("numbers", "request(); write(b'\\nPASSED 1/1\\n' * 9)"),
        ("containers", "request(); reply(b'')"),
        ("containers", "request(); reply(struct.pack('<IiiI', 2, 5, 5, 0))"),
        ("containers", "request(); reply(struct.pack('<Ii', 2, 5))"),
        ("containers", "request(); reply(struct.pack('<I', 1 << 24) + bytes(1000))"),
        ("containers", "request(); reply(struct.pack('<II', 0, 1 << 31) + bytes(1000))"),
        ("containers", "request(); reply(struct.pack('<II', 0, 30 << 20) + bytes(30 << 20))"),
    ],
)
def test_a_worker_that_breaks_the_protocol_ends_the_oracle(oracles, oracle, worker):
    status, stdout, _ = run_both(oracles[oracle], [sys.executable, "-S", "-c", HOSTILE + worker])
    assert status == WORKER_LIED
    assert stdout == b""


def test_a_worker_that_follows_the_protocol_is_believed(oracles):
    """The control of the tests above: without it, every refusal there could be for another reason."""
    worker = [sys.executable, "-S", "-c", HOSTILE + f"request(); reply(b'\\1' + {ARRAY})"]
    assert run_both(oracles["numbers"], worker)[:2] == (0, b"PASSED 1/1 0 1\n")
    pair = "request(); reply(struct.pack('<IiiI', 2, 5, 6, 3) + b'abc')"
    assert run_both(oracles["containers"], [sys.executable, "-S", "-c", HOSTILE + pair])[:2] == (0, b"PASSED 2/1\n")


def test_a_bool_is_one_or_zero_whatever_the_byte(oracles):
    worker = [sys.executable, "-S", "-c", HOSTILE + f"request(); reply(b'\\x7e' + {ARRAY})"]
    assert run_both(oracles["numbers"], worker)[:2] == (0, b"PASSED 1/1 0 1\n")


def test_the_request_holds_the_arguments_and_nothing_else(oracles):
    worker = [sys.executable, "-S", "-c", HOSTILE + "print(request().hex(), file=sys.stderr)"]
    oracle, asked = start_both(oracles["numbers"], worker)
    seen = bytes.fromhex(asked.communicate(timeout=60)[1].decode())
    oracle.communicate(timeout=60)
    array = b"\1" + (3).to_bytes(4, "little") + b"".join(n.to_bytes(4, "little") for n in (1, 2, 3))
    assert seen == bytes([1, 0, 0, 0, 0, 0, 0, 0]) + array + (3).to_bytes(4, "little")
