"""The training command without the seconds that its imports take: forked from a process that has done them."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

ENVIRONMENT = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
ZYGOTE = '''
import functools, itertools, json, os, runpy, signal, sys
import rlvr_cpp.training.run

def die_at(module, name, call):
    """Let the process die at the n-th call of a function, from 0, before it does anything."""
    *owners, name = name.split(".")
    owner = functools.reduce(getattr, owners, sys.modules[f"rlvr_cpp.{module}"])
    real, calls = getattr(owner, name), itertools.count()

    def maybe(*arguments, **named):
        if next(calls) == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **named)

    setattr(owner, name, maybe)

for line in sys.stdin:
    order = json.loads(line)
    child = os.fork()
    if child == 0:
        output = os.open(order["output"], os.O_WRONLY)
        os.dup2(output, 1), os.dup2(output, 2)
        os.chdir(order["folder"])
        exec(order["fault"])
        sys.argv = ["gspo", *order["arguments"]]
        runpy.run_module("rlvr_cpp.gspo", run_name="__main__", alter_sys=True)
        sys.exit(0)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
'''


class Zygote:
    """Runs one job after the other, each in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.output = folder / "output"
        os.mkfifo(self.output)
        self.process = subprocess.Popen(
            [sys.executable, "-c", ZYGOTE],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=folder, env=ENVIRONMENT,
        )  # fmt: skip

    def run(
        self, *arguments: str, folder: Path | None = None, fault: str = "", kill_at: str | None = None
    ) -> tuple[int, str]:
        """The job's exit status and what it wrote; `kill_at` is the beginning of the line at which it gets SIGKILL."""
        place = str(folder or self.output.parent)
        order = {"output": str(self.output), "arguments": arguments, "folder": place, "fault": fault}
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        child = int(self.process.stdout.readline())
        text = ""
        with self.output.open() as lines:
            for line in lines:
                text += line
                if kill_at is not None and line.lstrip().startswith(kill_at):
                    os.kill(child, signal.SIGKILL)
                    kill_at = None
        return int(self.process.stdout.readline()), text

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
