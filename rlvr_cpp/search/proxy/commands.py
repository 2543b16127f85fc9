"""What `python -m rlvr_cpp.proxy` can be asked: train, measure, score."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rlvr_cpp.errors import Parser, UserError
from rlvr_cpp.search.proxy.data import TARGETS, Verified, read_verified, split_by_task
from rlvr_cpp.search.proxy.model import PROXY_FILE, Proxy, train
from rlvr_cpp.tasks.task import BUILTIN, load_tasks


def parser() -> argparse.ArgumentParser:
    """The command line; each of its commands brings its function along as `run`."""
    whole = Parser(prog="python -m rlvr_cpp.proxy", description="A verifier without a compiler.")
    commands = whole.add_subparsers(required=True)
    learn = commands.add_parser("train", help="learn from judged programs, and measure on held-out tasks")
    learn.add_argument("--out", type=Path, required=True, help="folder for the proxy, its numbers and a plot")
    learn.add_argument("--target", choices=TARGETS, default=TARGETS[0])
    learn.add_argument("--held-out", type=float, default=0.25, help="share of tasks to measure on")
    learn.set_defaults(run=_train_command)
    check = commands.add_parser("measure", help="compare a trained proxy with the verdicts of other runs")
    check.add_argument("proxy", type=Path, help="folder or file of a trained proxy")
    check.set_defaults(run=_measure_command)
    for command in (learn, check):
        command.add_argument("source", nargs="+", type=Path, help="run folder, or its candidates, completions, samples")
        command.add_argument("--seed", type=int, default=0)
        command.add_argument("--tasks", default=str(BUILTIN), help="of completions whose programs are not in the file")
        command.add_argument("--chat", action="store_true", help="these completions answered in a chat")
    guess = commands.add_parser("score", help="print the probability and the name of each file")
    guess.add_argument("proxy", type=Path, help="folder or file of a trained proxy")
    guess.add_argument("file", nargs="+", help="C++ files; - is standard input")
    guess.set_defaults(run=_score_command)
    return whole


def _train_command(options: argparse.Namespace) -> None:
    from rlvr_cpp.search.proxy import report as proxy_report

    if not 0 < options.held_out < 1:
        raise UserError(f"--held-out is {options.held_out}: it must be more than 0 and less than 1")
    training, held_out = split_by_task(_programs(options), options.held_out, options.seed)
    proxy = train(training, options.target, options.seed)
    report = proxy_report.measure(proxy, held_out, options.seed)
    options.out.mkdir(parents=True, exist_ok=True)
    proxy.save(options.out / PROXY_FILE)
    proxy_report.write(report, options.out)
    print(f"trained on {len(training)} programs of {len({program.task_id for program in training})} tasks")
    print("\n".join(proxy_report.lines(report)))
    print(f"proxy: {options.out / PROXY_FILE}")


def _measure_command(options: argparse.Namespace) -> None:
    from rlvr_cpp.search.proxy import report as proxy_report

    report = proxy_report.measure(_load(options.proxy), _programs(options), options.seed)
    print("\n".join(proxy_report.lines(report)))


def _programs(options: argparse.Namespace) -> list[Verified]:
    tasks = {task.task_id: task for task in load_tasks(options.tasks)}
    return read_verified(options.source, tasks, options.chat)


def _load(path: Path) -> Proxy:
    return Proxy.load(path / PROXY_FILE if path.is_dir() else path)


def _score_command(options: argparse.Namespace) -> None:
    proxy = _load(options.proxy)
    for name, probability in zip(options.file, proxy.score([_read(name) for name in options.file]), strict=True):
        print(f"{probability:.3f}  {name}")


def _read(name: str) -> str:
    try:
        return sys.stdin.read() if name == "-" else Path(name).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"file {name!r} cannot be read ({error}): give a C++ file in UTF-8") from error
