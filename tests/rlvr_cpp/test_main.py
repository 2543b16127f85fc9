"""`rlvr` is every command by one name: what it lists works, what it does not know it says."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import rlvr_cpp
from rlvr_cpp.__main__ import COMMANDS, main

ROOT = Path(__file__).parents[2]


def run(*words):
    return subprocess.run([sys.executable, "-m", "rlvr_cpp", *words], capture_output=True, text=True, cwd=ROOT)


def test_every_script_and_every_door_is_a_command():
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    named = {target.removesuffix(":main") for name, target in scripts.items() if name != "rlvr"}
    doors = {
        f"rlvr_cpp.{path.stem}"
        for path in Path(rlvr_cpp.__file__).parent.glob("*.py")
        if "\ndef main(" in path.read_text()
    }
    assert named | doors - {"rlvr_cpp.__main__"} <= {module for module, _ in COMMANDS.values()}
    assert scripts["rlvr"] == "rlvr_cpp.__main__:main"


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_it_lists_them_within_80_columns(words, capsys):
    assert main(words) == 0
    page = capsys.readouterr().out
    for name, (_, about) in COMMANDS.items():
        assert f"{name:<12}{about}" in page
        assert len(f"    {name:<12}{about}") <= 80


def test_the_rest_of_the_line_is_the_commands_own(capsys):
    with pytest.raises(SystemExit) as end:
        main(["compare", "--help"])
    assert end.value.code == 0
    assert "evaluat" in capsys.readouterr().out
    assert sys.argv[0] != "rlvr compare"


def test_the_doctor_is_told_words_too(capsys):
    assert main(["doctor", "--help"]) == 0
    assert "what this host can isolate" in capsys.readouterr().out
    assert main(["doctor", "quickly"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: it takes no other words than doctor")
    assert error.count("\n") == 1


def test_an_exit_status_is_the_commands_own(tmp_path):
    missing = run("verify", str(tmp_path / "none.cpp"))
    assert missing.returncode == 2
    assert missing.stderr.startswith("error: ")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["gpso"], "did you mean gspo?"),
        (["zzzz"], "it is one of verify, doctor, gspo"),
        (["completion"], "bash, zsh or fish"),
        (["completion", "csh"], "bash, zsh or fish"),
        (["--versoin"], "it is one of"),
    ],
)
def test_what_it_does_not_know_is_one_sentence(words, says, capsys):
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert says in error


def test_a_missing_extra_is_named(monkeypatch, capsys):
    monkeypatch.setitem(COMMANDS, "gspo", ("no_such_module_at_all", ""))
    assert main(["gspo"]) == 2
    assert capsys.readouterr().err.startswith("error: no_such_module_at_all is missing: pip install")


def test_the_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"rlvr-cpp {rlvr_cpp.__version__}\n"


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["g"], {"gspo", "grpo"}),
        (["gspo", "algorithm.clip_"], {"algorithm.clip_eps="}),
        (["compare", "seed"], set()),
    ],
)
def test_bash_completes_names_and_keys(words, offered, capsys):
    main(["completion", "bash"])
    script = f"compopt() {{ :; }}\n{capsys.readouterr().out}\nCOMP_WORDS=(rlvr {' '.join(words)}) COMP_CWORD={len(words)}\n_rlvr\n"
    done = subprocess.run(["bash", "-c", script + 'printf "%s\\n" "${COMPREPLY[@]}"'], capture_output=True, text=True)
    found = set(done.stdout.split())
    assert offered <= found
    assert bool(offered) == bool(found)
    assert not done.stderr


@pytest.mark.parametrize(("shell", "begins"), [("zsh", "autoload"), ("fish", "complete -c rlvr")])
def test_other_shells_have_their_form(shell, begins, capsys):
    assert main(["completion", shell]) == 0
    assert capsys.readouterr().out.startswith(begins)


def test_a_reader_that_has_seen_enough_is_no_trouble():
    done = subprocess.run(
        f"{sys.executable} -m rlvr_cpp gspo --help | head -1", shell=True, capture_output=True, text=True, cwd=ROOT
    )
    assert done.stderr == ""
