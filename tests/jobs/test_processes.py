"""Two processes train the very policy that one does, and keep one run folder.

This file is also what the launcher starts: `accelerate launch ... test_processes.py FOLDER` runs the jobs below one
after the other through the command's own `main`, so that torch is imported once a process and not once a job. The same
jobs in one process are what they are compared with.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

COMMON = (
    "trainer.steps=3", "trainer.batch_size=16", "trainer.micro_batch_size=2", "trainer.learning_rate=1e-3",
    "trainer.save_every=1", "algorithm.group_size=4", "algorithm.max_gen_len=64", "algorithm.kl_coeff=0.1",
    "algorithm.num_minibatches=2", "evaluation.limit=3", "evaluation.samples=0", "evaluation.every=null",
)  # fmt: skip
TRAINED = {
    "gspo": ("algorithm=gspo", "stepcoder=cccs_fgo", "algorithm.refill_rounds=1"),
    "luspo": ("algorithm=luspo",),
    "dapo": ("algorithm=dapo",),
}
OWN_FOLDERS = "dapo"
"""In this job each process has a Hydra folder of its own."""
UNEVEN = ("trainer.batch_size=20", "trainer.micro_batch_size=null", "algorithm.num_minibatches=4")
"""Mini-batches of 5 completions: one process can take them, two cannot share them."""
SAME = ("loss", "grad_norm", "reward", "kept_groups", "tied_groups", "kl", "clip_fraction", "pass_rate", "tokens")


def command_line(name: str, folder: Path) -> list[str]:
    own = "-${oc.env:RANK,0}" if name == OWN_FOLDERS else ""
    return [*COMMON, *TRAINED[name], f"hydra.run.dir={folder / name}{own}"]


def one_job(*arguments: str) -> object:
    """What the command ends with: None, or an exit status."""
    from rlvr_cpp.gspo import main

    sys.argv = ["gspo", *arguments]
    try:
        main()
    except SystemExit as end:
        return end.code
    return None


def in_each_process(folder: Path) -> None:
    """All jobs; how each of them ended is left in a file by process."""
    from rlvr_cpp import processes

    ended = {name: one_job(*command_line(name, folder)) for name in TRAINED}
    if processes.count() > 1:
        begun, resumed = folder / "luspo", folder / "resumed"
        if processes.rank() == 0:
            shutil.copytree(begun, resumed)
            shutil.rmtree(resumed / "checkpoints" / "checkpoint-6")
            (resumed / "evaluation_after.jsonl").unlink()
        processes.wait()
        ended["resumed"] = one_job(f"resume={resumed}", f"hydra.run.dir={folder / 'own'}")
        ended["uneven"] = one_job(*COMMON, *UNEVEN, f"hydra.run.dir={folder / 'uneven'}")
    (folder / f"ended-{processes.rank()}.json").write_text(json.dumps(ended))


if __name__ == "__main__":
    in_each_process(Path(sys.argv[1]))
