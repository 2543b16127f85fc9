"""Commands without the seconds that their imports take: forked from a process that has done them."""

import json
import os
import signal as signals
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

ENVIRONMENT = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
ZYGOTE = '''
import atexit, functools, gc, itertools, json, os, runpy, signal, sys, traceback
import bitsandbytes, hydra, matplotlib.backends.backend_agg, matplotlib.figure, peft, rlvr_model, scipy.stats
import torch.utils.tensorboard
import rlvr_cpp.adapters.artifact, rlvr_cpp.evaluation.run, rlvr_cpp.search.run, rlvr_cpp.training.run

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

def run(module, arguments):
    """As `python -m module arguments` runs and ends; gives the exit status."""
    sys.argv = [module, *arguments]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0 if end.code is None else print(end.code, file=sys.stderr) or 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0

gc.collect()
gc.freeze()  # a collection in a fork would copy every page of torch
for line in sys.stdin:
    order = json.loads(line)
    child = os.fork()
    if child == 0:
        output = os.open(order["output"], os.O_WRONLY)
        os.dup2(output, 1), os.dup2(output, 2)
        os.chdir(order["folder"])
        os.environ.update(order["environment"])
        exec(order["fault"])
        status = run(order["module"], order["arguments"])
        atexit._run_exitfuncs()
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(status)  # taking torch apart at the end takes two seconds
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
        self,
        *arguments: object,
        module: str = "rlvr_cpp.gspo",
        folder: Path | None = None,
        environment: Mapping[str, str] = {},
        fault: str = "",
        kill_at: str | None = None,
        at_line: Callable[[int, str], None] = lambda pid, line: None,
    ) -> tuple[int, str]:
        """Run `python -m module` in a folder; gives its exit status and what it wrote.

        `fault` is code that the process runs first. `at_line` is told the process and each line that it writes;
        `kill_at` is the beginning of the line at which the process gets SIGKILL.
        """
        order = {
            "output": str(self.output), "module": module, "arguments": [str(word) for word in arguments],
            "folder": str(folder or self.output.parent), "environment": dict(environment), "fault": fault,
        }  # fmt: skip
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        child = int(self.process.stdout.readline())
        text = ""
        with self.output.open() as lines:
            for line in lines:
                text += line
                at_line(child, line)
                if kill_at is not None and line.lstrip().startswith(kill_at):
                    os.kill(child, signals.SIGKILL)
                    kill_at = None
        return int(self.process.stdout.readline()), text

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
