"""What only the linker can refuse: declarations that do not go with the definition. And what it must not refuse."""

from __future__ import annotations

import subprocess

import pytest
from cxx.build import COMPILERS, FREESTANDING, compile_object, link_program

DEFINITIONS = {"far": "PERCPU_DEFINE(int, word, 1);", "near": "PERCPU_DEFINE_NEAR(int, word, 1);"}
USES = {"far": "PERCPU_DECLARE(int, word);", "near": "PERCPU_DECLARE_NEAR(int, word);"}
SYMBOLS = {"far": "percpu_storage_word", "near": "percpu_near_word"}


@pytest.mark.parametrize("compiler", COMPILERS.values(), ids=COMPILERS)
@pytest.mark.parametrize("declared", USES)
@pytest.mark.parametrize("defined", DEFINITIONS)
def test_near_and_far_declarations_are_kept_apart(tmp_path, compiler, declared, defined):
    objects = []
    for name, text in (("defined", DEFINITIONS[defined]), ("used", USES[declared] + "\nint read() { return word.read_current(); }")):
        source = tmp_path / f"{name}.cpp"
        source.write_text(f"#include <percpu/percpu.hpp>\n{text}\n")
        objects.append(str(source.with_suffix(".o")))
        done = compile_object([compiler], source, source.with_suffix(".o"), "-O2", "-fno-pic", *FREESTANDING)
        assert done.returncode == 0, done.stderr
    header = ("--defsym", "_ZN6percpu4arch21percpu_storage_headerE=0")
    done = subprocess.run(
        ["ld", "-e", "_Z4readv", *header, "-o", str(tmp_path / "linked"), *objects], capture_output=True, text=True, timeout=60
    )
    if declared == defined:
        assert done.returncode == 0, done.stderr
    else:
        assert done.returncode != 0
        assert f"undefined reference to `{SYMBOLS[declared]}'" in done.stderr


PROGRAM = """\
#include <percpu/percpu.hpp>
PERCPU_DEFINE(int, word, 1);
extern "C" {
void* memcpy(void* to, const void*, size_t) { return to; }
void _start() {
    (void)percpu::init_in_place();
    percpu::init_percpu_reg(0);
    word.write_current(2);
}
}
"""


@pytest.mark.parametrize("linker", ["ld", "lld"])
@pytest.mark.parametrize("flags", [(), ("-flto",)], ids=["", "lto"])
def test_a_program_without_data_of_its_own_links(tmp_path, linker, flags):
    """The fragment goes behind .data; without a script of the user's, lld refuses where there is none."""
    source = tmp_path / "program.cpp"
    source.write_text(PROGRAM)
    bare = ("-DPERCPU_LINUX_USER=1", "-nostdlib", "-static", "-fno-pic", "-fno-stack-protector", "-Wl,--gc-sections")
    link_program(tmp_path, source, "-O2", *flags, *bare, *FREESTANDING, compiler="clang", linker=linker)
