"""The comparison of a sweep: who is grouped with whom, the numbers, and that no run is hidden or breaks the others."""

import io
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from matplotlib.image import imread
from omegaconf import OmegaConf
from rich.console import Console

from rlvr_cpp.errors import UserError
from rlvr_cpp.runs.pages import SERIES
from rlvr_cpp.runs.sweep import CompareRuns
from rlvr_cpp.runs.sweep_report import best_settings, compare_runs, markdown, plot, print_sweep
from rlvr_cpp.runs.sweep_runs import GREEDY, SAMPLED, mean_curve, read_sweep, to_json


def row(measure: str, before: float, after: float) -> dict:
    ends = {name: {"mean": mean, "low": 0.0, "high": 1.0} for name, mean in (("before", before), ("after", after))}
    return {"measure": measure, **ends, "rise": after - before, "p": 0.01}


def write_run(place: Path, *overrides: str, after: float | None = 0.5, status="finished", error=None, steps=4) -> None:
    """A run folder as the commands leave it; without results where `after` is None."""
    (place / ".hydra").mkdir(parents=True)
    (place / ".hydra" / "overrides.yaml").write_text("".join(f"- {text}\n" for text in overrides) or "[]\n")
    seed = next((int(text.partition("=")[2]) for text in overrides if text.startswith("seed=")), 0)
    results = {}
    if after is not None:
        results = {
            "comparison": [row(GREEDY, 0.25, after), row(SAMPLED, 0.2, after - 0.1)],
            "greedy_by_step": [[0, 0.25], [2, 0.3], [steps, after]],
        }
    record = {"status": status, "error": error, "seed": seed, "config": {}, "results": results}
    (place / "run.json").write_text(json.dumps(record))
    with (place / "metrics.jsonl").open("w") as file:
        for step in range(1, steps + 1):
            metrics = {"step": step, "reward": 0.1 * step, "kept_groups": float(step), "seconds": 2.0 * step}
            file.write(json.dumps(metrics) + "\n")


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two settings with two seeds each, of which one was stopped by a guard."""
    write_run(tmp_path / "0", "seed=0", "algorithm.kl_coeff=0.05", "trainer.steps=4", after=0.5)
    write_run(tmp_path / "1", "seed=0", "algorithm.kl_coeff=0.1", "trainer.steps=4", after=0.4)
    write_run(tmp_path / "2", "seed=1", "algorithm.kl_coeff=0.05", "trainer.steps=4", after=0.7)
    write_run(
        tmp_path / "3", "seed=1", "algorithm.kl_coeff=0.1", "trainer.steps=4", after=None, status="stopped",
        error="collapse: the reward\nfell", steps=2,
    )  # fmt: skip
    return tmp_path


def printed(sweep, width=80) -> str:
    console = Console(width=width, highlight=False)
    with console.capture() as capture:
        print_sweep(sweep, console)
    return capture.get()


def test_seeds_of_one_setting_are_together_and_what_all_share_is_said_once(folder):
    sweep = read_sweep(folder)
    assert sweep.shared == ("trainer.steps=4",)
    assert [(s.label, [run.name for run in s.runs], [run.seed for run in s.runs]) for s in sweep.settings] == [
        ("algorithm.kl_coeff=0.05", ["0", "2"], [0, 1]),
        ("algorithm.kl_coeff=0.1", ["1", "3"], [0, 1]),
    ]


def test_the_order_of_overrides_makes_no_other_setting(tmp_path):
    write_run(tmp_path / "0", "a=1", "+b=2")
    write_run(tmp_path / "1", "+b=2", "seed=3", "a=1")
    (setting,) = read_sweep(tmp_path).settings
    assert len(setting.runs) == 2


def test_runs_keep_the_order_of_their_numbers(tmp_path):
    for number in (10, 2, 0):
        write_run(tmp_path / str(number), f"seed={number}")
    assert [run.name for run in read_sweep(tmp_path).runs] == ["0", "2", "10"]


def test_numbers_are_means_over_seeds_with_their_range(folder):
    first, second = read_sweep(folder).settings
    before, after = first.before(GREEDY), first.after(GREEDY)
    assert before is not None
    assert after is not None
    assert (before.mean, after.mean, after.low, after.high) == (0.25, pytest.approx(0.6), 0.5, 0.7)
    assert first.kept_groups().mean == 2.5
    assert first.seconds().mean == 5.0
    assert second.after(SAMPLED).runs == 1
    assert second.after(SAMPLED).mean == pytest.approx(0.3)
    assert second.kept_groups().mean == (2.5 + 1.5) / 2  # the stopped run took steps as well


def test_the_table_says_the_numbers_and_names_the_run_without_results(folder):
    text = printed(read_sweep(folder))
    assert "0.25 → 0.60" in text
    assert "(0.50–0.70)" in text
    assert "1 of 2" in text
    assert "all runs: trainer.steps=4" in text
    missing = (
        "without results: 3 (algorithm.kl_coeff=0.1 seed=1) stopped by a guard after 2 steps: collapse: the reward"
    )
    assert missing in " ".join(text.split())


def test_the_table_fits_80_columns_and_long_overrides_are_broken_not_cut(tmp_path):
    for number, size in enumerate(("5e-324", "0.30000000000000004")):
        write_run(tmp_path / str(number), f"stepcoder.cccs_min_prefix_frac={size}", "algorithm.kl_coeff=0.1")
    text = printed(read_sweep(tmp_path))
    assert max(map(len, text.splitlines())) <= 80
    assert "0.30000000000000004" in text


def test_markdown_is_one_row_a_setting(folder):
    page = markdown(read_sweep(folder))
    assert "| `algorithm.kl_coeff=0.05` | 2 | 0, 1 | 0.250 → 0.600 (0.500–0.700) | 0.200 → 0.500 (" in page
    assert "| `algorithm.kl_coeff=0.1` | 1 of 2 | 0, 1 | 0.250 → 0.400 | 0.200 → 0.300 | 2.0 | 4.00 |" in page
    assert "- 3 (algorithm.kl_coeff=0.1 seed=1) stopped by a guard after 2 steps: collapse: the reward fell" in page


def test_one_run_alone_is_a_comparison_too(tmp_path):
    write_run(tmp_path / "0")
    sweep = compare_runs(tmp_path, Console(quiet=True))
    assert (sweep.shared, sweep.settings[0].label) == ((), "as configured")
    assert "0.25 → 0.50" in printed(sweep)


def test_what_a_killed_run_left_breaks_nothing(tmp_path):
    write_run(tmp_path / "0", "seed=0")
    for name in ("1", "2", "3"):
        write_run(tmp_path / name, f"seed={name}", after=None, status="running")
    (tmp_path / "1" / "run.json").unlink()
    (tmp_path / "1" / "metrics.jsonl").unlink()
    (tmp_path / "2" / "run.json").write_text('{"status": "run')
    with (tmp_path / "3" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "rew')
    sweep = compare_runs(tmp_path, Console(quiet=True))
    assert [(run.status, run.seed, run.steps) for run in sweep.runs] == [
        ("finished", 0, 4),
        ("not begun", 1, 0),
        ("unreadable", 2, 4),
        ("running", 3, 4),
    ]
    assert markdown(sweep).count("\n- ") == 3


def test_a_run_with_a_broken_line_is_named_and_counts_in_nothing(tmp_path):
    write_run(tmp_path / "0", "seed=0")
    write_run(tmp_path / "1", "seed=1")
    (tmp_path / "1" / "metrics.jsonl").write_text('{"step": 1}\n{"step": \n{"step": 3}\n')
    sweep = compare_runs(tmp_path, Console(quiet=True))
    assert [(run.status, run.has_results) for run in sweep.runs] == [("finished", True), ("unreadable", False)]
    assert "metrics.jsonl line 2: cannot be read" in markdown(sweep)


def test_a_sweep_without_any_result_is_told_and_drawn(tmp_path):
    write_run(tmp_path / "0", after=None, status="failed", error="boom", steps=0)
    compare_runs(tmp_path, Console(quiet=True))
    assert "0 of 1" in (tmp_path / "comparison.md").read_text()
    assert imread(tmp_path / "comparison.png").size


def test_an_evaluation_that_could_not_be_judged_is_no_result(tmp_path):
    write_run(tmp_path / "0", after=math.nan)
    (run,) = read_sweep(tmp_path).runs
    assert not run.has_results
    assert sorted(run.greedy) == [0, 2]


def test_a_resumed_run_counts_each_step_once(tmp_path):
    write_run(tmp_path / "0")
    with (tmp_path / "0" / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 4, "reward": None, "kept_groups": 8.0, "seconds": 1.0}) + "\n")
    (run,) = read_sweep(tmp_path).runs
    assert (run.steps, run.kept_groups, sorted(run.reward)) == (4, (1 + 2 + 3 + 8) / 4, [1, 2, 3])


def test_all_three_files_are_written(folder):
    compare_runs(folder, Console(quiet=True))
    held = json.loads((folder / "comparison.json").read_text())
    assert held["settings"][0]["pass_at_1"][GREEDY]["after"]["mean"] == pytest.approx(0.6)
    assert held["settings"][1]["measured_runs"] == ["1"]
    assert [run["status"] for run in held["runs"]] == ["finished", "finished", "finished", "stopped"]
    height, width, _ = imread(folder / "comparison.png").shape
    assert (width, height) > (1000, 500)
    assert "NaN" not in (folder / "comparison.json").read_text()


def test_making_it_again_changes_nothing(folder):
    compare_runs(folder, Console(quiet=True))
    first = to_json(read_sweep(folder))
    compare_runs(folder, Console(quiet=True))
    assert to_json(read_sweep(folder)) == first


def test_more_settings_than_colors_are_drawn_by_rank(tmp_path):
    for number in range(10):
        write_run(tmp_path / str(number), f"x={number}", after=number / 10)
    sweep = read_sweep(tmp_path)
    assert [setting.label for setting in best_settings(sweep, len(SERIES))] == [f"x={n}" for n in range(2, 10)]
    plot(sweep, tmp_path / "plot.png")


def test_a_mean_curve_ends_with_the_first_of_its_curves():
    assert mean_curve([{0: 0.0, 1: 1.0, 2: 9.0}, {0: 1.0, 1: 0.0}]) == {0: 0.5, 1: 0.5}
    assert mean_curve([]) == {}


def test_the_callback_compares_at_the_end_of_a_multirun(folder, monkeypatch):
    monkeypatch.setattr("rlvr_cpp.runs.console.console", Console(quiet=True))
    config = OmegaConf.create({"hydra": {"sweep": {"dir": str(folder)}}})
    callback = CompareRuns()
    callback.on_multirun_start(config)
    callback.on_multirun_end(config)
    assert (folder / "comparison.md").exists()
    (folder / "comparison.md").unlink()
    callback._compare()  # what the exit of the process calls
    assert not (folder / "comparison.md").exists()


def test_the_callback_says_that_a_sweep_is_empty(tmp_path, monkeypatch):
    terminal = Console(record=True, file=io.StringIO())
    monkeypatch.setattr("rlvr_cpp.runs.console.console", terminal)
    CompareRuns().on_multirun_end(OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path)}}}))
    assert "holds no runs" in terminal.export_text()


def test_a_folder_without_runs_is_one_sentence_and_status_2(tmp_path):
    with pytest.raises(UserError, match="holds no runs"):
        read_sweep(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "rlvr_cpp.runs.sweep", str(tmp_path / "none")], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("error: ")


JOB = """
import json, sys
from pathlib import Path
import hydra
from hydra.core.hydra_config import HydraConfig

@hydra.main(version_base=None, config_path=".", config_name="job")
def job(config):
    if config.lr == config.bad:
        sys.exit(3)
    place = Path(HydraConfig.get().runtime.output_dir)
    ends = {"before": {"mean": 0.1}, "after": {"mean": 0.2 + config.seed / 10}}
    results = {"comparison": [{"measure": "greedy pass@1", "p": 0.5, **ends}], "greedy_by_step": [[0, 0.1], [1, 0.2]]}
    (place / "run.json").write_text(json.dumps({"status": "finished", "seed": config.seed, "results": results}))

job()
"""
CONFIG = """
seed: 0
lr: 0.1
bad: 9.0
hydra:
  callbacks:
    comparison:
      _target_: rlvr_cpp.runs.sweep.CompareRuns
  sweep: {dir: swept, subdir: "${hydra.job.num}"}
"""


@pytest.mark.parametrize(
    ("launcher", "bad"), [("basic", "9.0"), ("basic", "0.2"), ("joblib", "9.0"), ("submitit_local", "9.0")]
)
def test_every_launcher_ends_in_a_comparison(tmp_path, launcher, bad):
    if launcher != "basic":
        pytest.importorskip(f"hydra_plugins.hydra_{launcher.removesuffix('_local')}_launcher")
    (tmp_path / "job.py").write_text(JOB)
    (tmp_path / "job.yaml").write_text(CONFIG)
    command = [sys.executable, "job.py", "--multirun", f"hydra/launcher={launcher}", "seed=0,1", "lr=0.1,0.2"]
    done = subprocess.run([*command, f"bad={bad}"], cwd=tmp_path, capture_output=True, text=True)
    assert "0.10 → 0." in done.stderr, done.stderr
    assert ("the sweep ended early" in done.stderr) == (bad != "9.0")
    sweep = read_sweep(tmp_path / "swept")
    held = json.loads((tmp_path / "swept" / "comparison.json").read_text())
    assert len(held["runs"]) == len(sweep.runs) == (4 if bad == "9.0" else 2)
