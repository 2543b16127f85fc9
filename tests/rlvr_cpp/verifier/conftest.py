"""What the tests of the verifier share, so that each proves one thing and builds nothing that another one has built."""

import subprocess
from pathlib import Path

import pytest

from rlvr_cpp import Verifier
from rlvr_cpp.verifier.toolchain.precompiled import BuildHeader, PrecompiledHeaders
from rlvr_cpp.verifier.toolchain.store import Store
from rlvr_cpp.verifier.toolchain.toolchain import make_toolchain


@pytest.fixture(scope="session")
def verifier():
    """For tests that any verifier serves."""
    with Verifier(workers=2, timeout=2.0) as verifier:
        yield verifier


class Compilers:
    """Compilers outside of the jail, for texts of our own. Equal texts are compiled once, and the headers that several
    begin with are precompiled, as the verifier does it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._store = Store(folder / "headers", 1 << 30)
        self._headers: dict[str, PrecompiledHeaders] = {}
        self._done: dict[tuple[object, ...], tuple[Path, subprocess.CompletedProcess[bytes]]] = {}

    def compile(
        self, compiler: str, text: str, *flags: str, beside: dict[str, str] | None = None
    ) -> tuple[Path, subprocess.CompletedProcess[bytes]]:
        """The object that one text makes, with the texts that it includes beside it, and what the compiler said."""
        key = (compiler, text, flags, tuple(sorted((beside or {}).items())))
        if key not in self._done:
            folder = self.folder / str(len(self._done))
            folder.mkdir()
            for name, content in {**(beside or {}), "text.cpp": text}.items():
                (folder / name).write_text(content)
            begin = next(
                (other for name, other in (beside or {}).items() if text.startswith(f'#include "{name}"')), text
            )
            before = self._headers_of(compiler).flags(begin, flags, self._build_header(compiler))
            command = [compiler, *before, *flags, "-c", "text.cpp", "-o", "text.o"]
            self._done[key] = folder / "text.o", subprocess.run(command, cwd=folder, capture_output=True, timeout=120)
        return self._done[key]

    def object(self, compiler: str, text: str, *flags: str) -> bytes:
        """The object's bytes, of a text that compiles."""
        path, done = self.compile(compiler, text, *flags)
        assert done.returncode == 0, done.stderr.decode()
        return path.read_bytes()

    def _headers_of(self, compiler: str) -> PrecompiledHeaders:
        if compiler not in self._headers:
            toolchain = make_toolchain(compiler, (), 10.0, 30.0)
            self._headers[compiler] = PrecompiledHeaders(self._store, toolchain, pays_after=3)
        return self._headers[compiler]

    def _build_header(self, compiler: str) -> BuildHeader:
        def build(draft: Path, text: str, recipe: tuple[str, ...]) -> bool:
            (draft / "prefix.h").write_text(text)
            done = subprocess.run([compiler, *recipe], cwd=draft, input=text.encode(), capture_output=True)
            return done.returncode == 0

        return build


@pytest.fixture(scope="session")
def compilers(tmp_path_factory):
    """One for all tests."""
    return Compilers(tmp_path_factory.mktemp("compilers"))
