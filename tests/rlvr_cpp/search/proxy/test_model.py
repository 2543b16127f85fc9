"""A classifier in the compiler's place: what it reads, what it learns, and that a file of it is the same classifier."""

import json
import subprocess
import sys
from random import Random

import numpy as np
import pytest

from rlvr_cpp import UserError
from rlvr_cpp.proxy import main
from rlvr_cpp.search.proxy.data import Verified, label, read_verified, split_by_task
from rlvr_cpp.search.proxy.features import FLAWS, read_tree, vectorize
from rlvr_cpp.search.proxy.model import PROXY_FILE, Proxy, train
from rlvr_cpp.search.proxy.report import agreement, auroc, brier, kappa, measure, reliability
from rlvr_cpp.tasks.families.mutation import breakages, mutants
from rlvr_cpp.tasks.task import BUILTIN, load_tasks

TASKS = {task.task_id: task for task in load_tasks(BUILTIN)}


def verified(task_id: str, code: str, compiles: bool, passes: bool) -> Verified:
    return Verified(task_id=task_id, code=code, compiles=compiles, passes=passes)


def flaws(code: str) -> dict[str, int]:
    return dict(zip(FLAWS, read_tree(code).flaws, strict=True))


def test_no_reference_solution_has_a_flaw():
    assert [t.task_id for t in TASKS.values() if any(flaws(t.prompt + (t.reference or "}")).values())] == []


UNDECLARED = {
    "int f(int n) { return n; }": 0,
    "int f(int n) { return m; }": 1,
    "int f(int n) { int a = 1, *b = &a, c[2]; return a + *b + c[n]; }": 0,
    "int f(int n) { for (auto [k, v] : table(n)) n += k; return g(n); }": 2,
    "struct A { int x; explicit A(int y) : x(y) {} int get() const { return x; } }; int f(A a) { return a.get(); }": 0,
    "template <typename T> T f(T a, T b = 1) { auto g = [&](T c) { return a + c; }; return g(b); }": 0,
    "#define LIMIT 3\nenum class E { one }; int f() { return LIMIT + int(E::one) + std::abs(-1); }": 0,
}  # fmt: skip


@pytest.mark.parametrize("code", UNDECLARED)
def test_a_name_that_nobody_declares_is_seen(code):
    assert flaws(code)["undeclared"] == UNDECLARED[code]


def test_what_the_parser_stumbles_over_is_seen():
    assert flaws("int f( { return 0; }")["errors"] > 0
    assert flaws("int f() { return 0 }")["missing"] == 1
    assert sum(flaws("\0\ud800 \x80").values()) > 0


def test_rows_of_features_are_bounded_whatever_the_text():
    rows = vectorize(["", "int f() { return 0; }", "}" * 500, "(" * 500])
    assert np.isfinite(rows.data).all()
    assert rows.max() <= 1.0


@pytest.fixture(scope="module")
def programs() -> list[Verified]:
    """Solutions and mutants, which compile, and breakages, which do not; a task each."""
    rng = Random(0)
    found = []
    for task in rng.sample([task for task in TASKS.values() if task.reference], 60):
        bodies = [task.reference, *rng.sample(mutants(task.reference), 2)]
        found += [verified(task.task_id, task.prompt + body, True, body == task.reference) for body in bodies]
        broken = rng.sample(breakages(task.reference), 2)
        found += [verified(task.task_id, task.prompt + body, False, False) for body in broken]
    return found


@pytest.fixture(scope="module")
def proxy(programs) -> Proxy:
    return train(programs[:225])


def test_it_tells_what_compiles_on_tasks_it_has_not_seen(proxy, programs):
    report = measure(proxy, programs[225:])
    assert report.auroc.low > 0.8
    assert report.auroc.low <= report.auroc.mean <= report.auroc.high
    assert report.brier.mean < report.brier_of_base_rate
    assert report.kappa.mean > 0.5
    assert (report.tasks, report.programs) == (15, 75)


def test_labels_without_a_meaning_cannot_be_learned(programs):
    rng = Random(2)
    noise = [verified(p.task_id, p.code, rng.random() < 0.5, False) for p in programs]
    report = measure(train(noise[:225]), noise[225:])
    assert report.auroc.low < 0.5 < report.auroc.high


def test_a_saved_proxy_scores_the_same_to_the_last_bit(proxy, programs, tmp_path):
    codes = [program.code for program in programs]
    proxy.save(tmp_path / PROXY_FILE)
    again = Proxy.load(tmp_path / PROXY_FILE)
    assert again.target == "compiles"
    assert np.array_equal(again.score(codes), proxy.score(codes))
    assert [path.name for path in tmp_path.iterdir()] == [PROXY_FILE]


def test_scores_are_scikit_learns_own(programs):
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold

    from rlvr_cpp.search.proxy.model import FOLDS, STRENGTH

    few = programs[:100]
    rows, labels = vectorize([p.code for p in few]), label(few, "compiles")
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=3).split(rows, labels, [p.task_id for p in few])
    regression = LogisticRegression(C=STRENGTH, solver="liblinear", random_state=3)
    theirs = CalibratedClassifierCV(regression, cv=list(folds), ensemble=False, method="sigmoid").fit(rows, labels)
    assert train(few, seed=3).score([p.code for p in few]) == pytest.approx(theirs.predict_proba(rows)[:, 1], abs=1e-12)


def test_scores_neither_need_torch_nor_start_a_process(proxy, tmp_path):
    proxy.save(tmp_path / PROXY_FILE)
    (tmp_path / "good.cpp").write_text("int twice(int x) { return 2 * x; }\n")
    code = (
        "import subprocess, sys; subprocess.Popen = None\n"
        "from rlvr_cpp.proxy import main\n"
        "print(main(['score', 'proxy.safetensors', 'good.cpp']), 'torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    probability, name, ended, torch = done.stdout.split()
    assert (name, ended, torch) == ("good.cpp", "0", "False")
    assert 0.0 <= float(probability) <= 1.0


def test_one_kind_of_program_has_no_auroc(programs, proxy):
    good = [program for program in programs if program.compiles]
    for act in (lambda: train(good), lambda: measure(proxy, good)):
        with pytest.raises(UserError, match="target 'compiles' is true of all 180 programs"):
            act()


@pytest.mark.filterwarnings("ignore:The least populated class:UserWarning")  # before scikit-learn gives up on them
def test_too_few_tasks_cannot_be_folded(programs):
    with pytest.raises(UserError, match="do not make 5 folds"):
        train(programs[:10])


def test_a_file_that_is_no_proxy_is_refused(tmp_path, proxy, monkeypatch):
    (tmp_path / "x").write_bytes(b"\x80\x04pickle")
    with pytest.raises(UserError, match="is no proxy verifier"):
        Proxy.load(tmp_path / "x")
    proxy.save(tmp_path / PROXY_FILE)
    monkeypatch.setattr("rlvr_cpp.search.proxy.model.SETTINGS", {"version": 2})
    with pytest.raises(UserError, match="was trained on features"):
        Proxy.load(tmp_path / PROXY_FILE)


def test_a_task_stands_on_one_side(programs):
    training, held_out = split_by_task(programs, 0.25, seed=0)
    assert len(training) + len(held_out) == len(programs)
    assert not {p.task_id for p in training} & {p.task_id for p in held_out}
    assert len({p.task_id for p in held_out}) == 15
    with pytest.raises(UserError, match=r"held_out is 0.001 of 60 tasks"):
        split_by_task(programs, 0.001, seed=0)


TASK = next(task for task in TASKS.values() if task.reference)
LINES = {
    "candidates.jsonl": {
        "task_id": TASK.task_id,
        "found": {
            "samples": [
                {"code": "int a;", "result": {"status": "ok", "tests_total": 2}},
                {"code": "int a", "result": {"status": "compile_error", "tests_total": 2}},
                {"code": "int b;", "result": {"status": "sandbox_error", "tests_total": 2}},
                {"code": "int c;", "result": None},
            ]
        },
    },
    "completions.jsonl": {"task_id": TASK.task_id, "prefix": "", "completion": "return 0;}", "status": "wrong", "tests_total": 2},
    "samples.jsonl": {"task_id": TASK.task_id, "completion": "return 1;}", "result": {"status": "timeout", "tests_total": 2}},
}  # fmt: skip


def test_the_files_of_every_kind_of_run_are_read(tmp_path):
    for name, line in LINES.items():
        (tmp_path / name).write_text(json.dumps(line) + "\n")
    assert read_verified([tmp_path, tmp_path / "samples.jsonl"], TASKS) == [
        verified(TASK.task_id, "int a;", True, True),
        verified(TASK.task_id, "int a", False, False),
        verified(TASK.task_id, f"{TASK.prompt}return 0;}}\n", True, False),
        verified(TASK.task_id, f"{TASK.prompt}return 1;}}\n", True, False),
    ]


BAD_FILES = {
    '{"task_id": "nobody", "completion": "", "status": "ok", "tests_total": 1}': "line 1: not a judged sample of a known task",
    '{"task_id": "x"}': "line 1: not a judged sample",
    '{"task_id": ': "line 1: not JSON",
    '{"task_id": "x", "code": "", "status": "sandbox_error"}': "holds no program that was judged",
}  # fmt: skip


@pytest.mark.parametrize("text", BAD_FILES)
def test_a_file_without_verdicts_is_refused(tmp_path, text):
    (tmp_path / "x.jsonl").write_text(text)
    with pytest.raises(UserError, match=BAD_FILES[text]):
        read_verified([tmp_path / "x.jsonl"], TASKS)
    with pytest.raises(UserError, match="has none of candidates"):
        read_verified([tmp_path], TASKS)


def test_the_command_trains_measures_and_scores(programs, tmp_path, capsys):
    rows = [
        {"task_id": p.task_id, "code": p.code, "status": "ok" if p.compiles else "compile_error", "tests_total": 1}
        for p in programs
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["train", str(tmp_path / "rows.jsonl"), "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    for word in ("trained on 225 programs of 45 tasks", "75 programs of 15 tasks", "AUROC", "Brier", "kappa"):
        assert word in printed
    assert {path.name for path in (tmp_path / "out").iterdir()} == {PROXY_FILE, "proxy.json", "reliability.png"}
    assert main(["measure", str(tmp_path / "out"), str(tmp_path / "rows.jsonl")]) == 0
    assert "300 programs of 60 tasks" in capsys.readouterr().out
    (tmp_path / "bad.cpp").write_text("int twice(int x) { return 2 * y }\n")
    assert main(["score", str(tmp_path / "out"), str(tmp_path / "bad.cpp")]) == 0
    assert float(capsys.readouterr().out.split()[0]) < 0.5
    assert main(["score", str(tmp_path / "out"), str(tmp_path / "nowhere.cpp")]) == 2
    assert "nowhere.cpp' cannot be read" in capsys.readouterr().err


def test_measures_are_scikit_learns():
    from sklearn.metrics import accuracy_score, brier_score_loss, cohen_kappa_score, roc_auc_score

    rng = np.random.default_rng(0)
    truth, scores = rng.random(200) < 0.3, rng.integers(0, 21, 200) / 20  # with ties
    guesses = scores >= 0.5
    assert auroc(truth, scores) == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)
    assert brier(truth, scores) == pytest.approx(brier_score_loss(truth, scores), abs=1e-12)
    assert agreement(truth, scores) == pytest.approx(accuracy_score(truth, guesses), abs=1e-12)
    assert kappa(truth, scores) == pytest.approx(cohen_kappa_score(truth, guesses), abs=1e-12)


def test_bins_hold_every_program_once():
    truth, scores = np.array([True, False, True, True]), np.array([0.0, 0.05, 1.0, 0.55])
    bins = reliability(truth, scores)
    assert [(b.programs, b.observed) for b in bins] == [(2, 0.5), (1, 1.0), (1, 1.0)]
    assert bins[0].predicted == pytest.approx(0.025)
