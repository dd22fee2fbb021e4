"""A32 and T32 in one kernel: GCC inlines the one into the other, and a near access is right in A32 only."""

from __future__ import annotations

import subprocess

import pytest
from cxx.build import FREESTANDING, compile_object
from cxx.compilers import ALL

ARM = {compiler.name: compiler.command for compiler in ALL if compiler.arch == "arm" and "thumb" not in compiler.label}
NAMES = pytest.mark.parametrize("name", ARM)
FLAGS = ("-O2", "-fno-pic", *FREESTANDING)
REFUSAL = "percpu: a near access of A32 was inlined into Thumb code"

VARIABLES = """\
#include <percpu/percpu.hpp>
PERCPU_DECLARE_NEAR(uint32_t, first);
PERCPU_DECLARE_NEAR(uint32_t, second);
"""
DEFINITIONS = "PERCPU_DEFINE_NEAR(uint32_t, first, 5);\nPERCPU_DEFINE_NEAR(uint32_t, second, 7);\n"
SUM = 'extern "C" ATTRIBUTE uint32_t sum_NAME() { return first.read_current() + second.read_current(); }\n'


def compiled(folder, command, name, source, *flags):
    path = folder / f"{name}.cpp"
    path.write_text(VARIABLES + source)
    target = folder / f"{name}.o"
    return target, compile_object(command, path, target, *FLAGS, *flags)


@NAMES
def test_a_thumb_function_in_a_file_of_a32(tmp_path, name):
    """Clang inlines no function of the other mode; what GCC makes of it the assembler refuses."""
    thumb = SUM.replace("ATTRIBUTE", '__attribute__((target("thumb")))').replace("NAME", "thumb")
    a32 = SUM.replace("ATTRIBUTE", "").replace("NAME", "a32")
    _, done = compiled(tmp_path, ARM[name], "mixed", DEFINITIONS + thumb + a32, "-marm")
    if name == "gcc":
        assert done.returncode != 0 and REFUSAL in done.stderr, done.stderr
    else:
        assert done.returncode == 0, done.stderr
    _, done = compiled(tmp_path, ARM[name], "mixed", DEFINITIONS + a32, "-marm")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "modes, refused",
    [
        (("-marm", "-mthumb"), True),
        (("-mthumb", "-marm"), False),
        (("-marm", "-marm"), False),
        (("-mthumb", "-mthumb"), False),
    ],
    ids=["a32-thumb", "thumb-a32", "a32", "thumb"],
)
def test_files_of_both_modes_with_lto(tmp_path, modes, refused):
    """The far form, which Thumb code has of near variables, is right in A32 too."""
    objects = []
    sources = {
        "one": DEFINITIONS + SUM.replace("ATTRIBUTE", "").replace("NAME", "one"),
        "other": 'extern "C" uint32_t sum_one();\nextern "C" uint32_t twice() { return 2 * sum_one(); }\n',
    }
    for (name, source), mode in zip(sources.items(), modes):
        target, done = compiled(tmp_path, ARM["gcc"], name, source, mode, "-flto")
        assert done.returncode == 0, done.stderr
        objects.append(str(target))
    link = ("-flto", "-nostdlib", "-r", "-flinker-output=nolto-rel", "-o", str(tmp_path / "both.o"))
    done = subprocess.run([*ARM["gcc"], *FLAGS, *link, *objects], capture_output=True, text=True, timeout=60)
    assert (REFUSAL in done.stderr) == refused, done.stderr
    assert (done.returncode != 0) == refused, done.stderr
