"""The rules of the house that can be checked: names, layers, what an import brings, what the wheel holds."""

import importlib.util
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import rlvr_cpp

ROOT = Path(__file__).parents[1]
SOURCE_ROOTS = ("sandbox", "model", "kernels", "pretrain")


@pytest.mark.parametrize("root", SOURCE_ROOTS)
def test_a_source_root_is_not_a_package(root):
    # a regular package called `kernels` on the path breaks transformers where Hugging Face's `kernels` is installed
    assert not (ROOT / root / "__init__.py").exists()


def python(*arguments: str, cwd: Path, path: Path) -> str:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(path), "HOME": str(cwd)}
    done = subprocess.run([sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The wheel, built and unpacked outside of the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "site")
    return folder / "site"


def test_the_wheel_adds_only_our_names(installed):
    names = {path.name for path in installed.iterdir() if not path.name.endswith(".dist-info")}
    assert names == {"rlvr_cpp", "rlvr_kernels", "rlvr_model", "rlvr_pretrain", "rlvr_sandbox"}


def test_the_wheel_and_the_checkout_have_one_version(installed):
    assert [path.name for path in installed.glob("*.dist-info")] == [f"rlvr_cpp-{rlvr_cpp.__version__}.dist-info"]


def test_the_wheel_runs_from_another_folder(installed, tmp_path):
    assert python("-c", "import rlvr_cpp; print(rlvr_cpp.__file__)", cwd=tmp_path, path=installed).startswith(
        str(installed)
    )
    verdict = python(
        "-c",
        "import rlvr_cpp; print(rlvr_cpp.verify_cpp('int main(){}').run_ok)",
        cwd=tmp_path,
        path=installed,
    )
    assert verdict == "True\n"


def test_the_wheel_finds_its_configs(installed, tmp_path):
    printed = python("-m", "rlvr_cpp.gspo", "--cfg", "job", cwd=tmp_path, path=installed)
    assert "model: tiny-hybrid" in printed
    assert (installed / "rlvr_cpp" / "conf" / "gspo.yaml").is_file()


def test_the_wheel_carries_the_demo(installed):
    held = {path.relative_to(installed / "rlvr_cpp").as_posix() for path in (installed / "rlvr_cpp").rglob("*.*")}
    assert {
        "data/families.jsonl",
        "models/tiny-hybrid/model.safetensors",
        "training/report.html.j2",
        "py.typed",
    } <= held


def test_a_users_own_folders_do_not_get_in_the_way(installed, tmp_path):
    for name in ("sandbox", "model", "conf"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
    code = "import rlvr_cpp; print(rlvr_cpp.verify_cpp('int main(){}').run_ok)"
    assert python("-c", code, cwd=tmp_path, path=installed) == "True\n"


def with_parser(installed: Path) -> Path:
    """The installed wheel beside the one dependency that it has."""
    for name in ("tree_sitter", "tree_sitter_cpp"):
        found = importlib.util.find_spec(name)
        assert found is not None
        assert found.origin is not None
        target = installed / name
        if not target.exists():
            target.symlink_to(Path(found.origin).parent)
    return installed


def test_without_the_extra_training_says_what_is_missing(installed, tmp_path):
    code = (
        "import rlvr_cpp.gspo\n"
        "try: rlvr_cpp.GSPOTrainer\n"
        "except ImportError as error: print(error)\n"
        "try: rlvr_cpp.gspo.main()\n"
        "except SystemExit as end: print(end.code)\n"
    )
    printed = python("-S", "-c", code, cwd=tmp_path, path=with_parser(installed)).splitlines()
    assert "GSPOTrainer needs the extra 'train'" in printed[0]
    assert printed[1] == "2"


def test_the_verifier_needs_a_parser_and_the_standard_library_only(installed, tmp_path):
    code = (
        "import sys, rlvr_cpp; rlvr_cpp.Verifier(workers=1).close();"
        "print(sorted({m.partition('.')[0] for m in sys.modules} - set(sys.stdlib_module_names)))"
    )
    printed = python("-S", "-c", code, cwd=tmp_path, path=with_parser(installed))  # -S: no site-packages at all
    assert printed == "['__main__', 'rlvr_cpp', 'rlvr_sandbox', 'tree_sitter', 'tree_sitter_cpp']\n"


def test_what_the_readme_shows_is_there():
    text = (ROOT / "README.md").read_text()
    assert "](docs/" in text
    assert not re.search(r"\b[A-Z]+_[A-Z]+\b", re.sub(r"`[^`]*`", "", text))


@pytest.mark.parametrize("document", sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]), ids=lambda path: path.name)
def test_every_file_that_a_document_names_is_there(document):
    folders = "rlvr_cpp|sandbox|model|kernels|pretrain|conf|tests|docs|benchmarks"
    text = document.read_text()
    named = re.findall(rf"`((?:{folders})/[\w./-]*)`", text)
    linked = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)  # with a colon it is an address on the web
    assert [name for name in named if not (ROOT / name).exists()] == []
    assert [link for link in linked if not (document.parent / link).exists()] == []


def requirements() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    return [
        Requirement(line) for line in [*project["dependencies"], *extras["train"], *extras["sweep"], *extras["dev"]]
    ]


def test_the_constraints_name_one_version_of_everything_that_setup_installs():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {name: version for line in lines for name, version in re.findall(r"^([\w.-]+)==([\w.]+)$", line)}
    assert len(pinned) == len(lines)
    assert lines == sorted(lines, key=str.lower)
    versions = {canonicalize_name(name): version for name, version in pinned.items()}
    named = {canonicalize_name(requirement.name): requirement.specifier for requirement in requirements()}
    free = {"triton"}  # torch's build decides which one it needs
    assert {name for name, allowed in named.items() if versions.get(name, "") not in allowed} == free
