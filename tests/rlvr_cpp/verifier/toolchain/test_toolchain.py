"""The compiler's view and the flags that may reach it."""

import os

import pytest

from rlvr_cpp.errors import UserError
from rlvr_cpp.verifier.toolchain.toolchain import check_flags, compiler_view, is_allowed, make_toolchain, program_view


@pytest.mark.parametrize(
    "flag",
    [
        *("-O2", "-O0", "-Og", "-Ofast", "-g", "-w", "-Wall", "-Wextra", "-Werror", "-Wno-unused", "-Wshadow=local"),
        *("-DX", "-DX=1", "-DNAME=value", "-UX", "-lcrypto", "-lstdc++fs", "-pthread", "-fopenmp", "-march=native"),
        *(
            "-msse4.2",
            "-fno-exceptions",
            "-fsanitize=address,undefined",
            "-ftemplate-depth=100",
            "-fPIC",
            "-static-libgcc",
        ),
        *("-pedantic-errors", "-stdlib=libc++", "-fconstexpr-ops-limit=1000", "-fno-sanitize-recover=all"),
    ],
)
def test_flags_that_choose_the_language_are_let_in(flag):
    assert is_allowed(flag)
    check_flags([flag])


@pytest.mark.parametrize(
    "flag",
    [
        *("-o", "-ofile", "@file", "-I/etc", "-isystem/x", "-include", "-include/etc/passwd", "-specs=x", "-wrapper"),
        *("-fplugin=x.so", "-fplugin-arg-x", "-fdump-tree-all", "-save-temps", "-fsave-optimization-record", "-B/x"),
        *(
            "-Wl,-T,x",
            "-Wa,-a",
            "-Wp,-MD,x",
            "-Xlinker",
            "-Xclang",
            "--sysroot=/x",
            "-x",
            "-E",
            "-S",
            "-c",
            "-MD",
            "-pipe",
        ),
        *(
            "a.cpp",
            "",
            "-",
            "--",
            "-fprofile-generate",
            "-fprofile-use=/x",
            "-fuse-ld=/x",
            "-ftime-trace=/x",
            "-D",
            "-L/x",
        ),
        *(
            "-DX=`id`",
            "-DX=$(id)",
            "-lfoo/../../x",
            "-fmodules-cache-path=/x",
            "-fcoverage-mapping",
            "-std=c++17",
            "-flto",
        ),
        *("-O2 -o x", "-Wall\n-o", 7, None),
    ],
)
def test_whatever_names_a_file_or_a_program_is_refused(flag):
    with pytest.raises(UserError, match="extra_flags has"):
        check_flags([flag])


def test_a_compilers_view_holds_the_system_and_nothing_of_the_user():
    view = compiler_view(make_toolchain("g++", (), 1.0, 1.0).compiler)
    assert any(path.startswith("/usr/include") for path in view)
    for secret in ("/", "/usr", "/etc", "/home", "/root", "/tmp", os.path.expanduser("~")):
        assert secret not in view
    assert not [path for path in view if any(path.startswith(other + "/") for other in view)]


def test_a_program_sees_the_files_that_its_loader_named(tmp_path):
    real = tmp_path / "libx.so.1.2"
    real.touch()
    (tmp_path / "libx.so.1").symlink_to("libx.so.1.2")
    listing = f"\tlinux-vdso.so.1 (0x00007ff)\n\tlibx.so.1 => {tmp_path}/libx.so.1 (0x00007f)\n"
    assert program_view(listing)[1:] == (f"{tmp_path}/libx.so.1", str(real))
