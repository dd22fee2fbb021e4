"""A position-independent kernel: the in-image layout leaves nothing to relocate in its code (T09)."""

from __future__ import annotations

import subprocess

import pytest
from cxx.build import FREESTANDING, HERE, compile_object
from cxx.compilers import ALL, Compiler
from cxx.test_counts import ACCESSES, IN_IMAGE, disassemble, key

SOURCE = """
#include <percpu/percpu.hpp>
PERCPU_DEFINE(int, far_number, 1);
PERCPU_DEFINE_STATIC_NEAR(int, near_number, 2);
extern "C" int _start() {
    far_number.add_current(1);
    return far_number.read_current() + near_number.fetch_add_current(3) + *far_number.current_ptr();
}
"""
EMULATIONS = {
    "aarch64": "aarch64linux",
    "arm": "armelf_linux_eabi",
    "riscv64": "elf64lriscv",
    "riscv32": "elf32lriscv",
    "loongarch64": "elf64loongarch",
}
# Programs of the host's architecture are linked, and run, in test_host.py.
RISC = [compiler for compiler in ALL if compiler.arch in EMULATIONS]
IN_IMAGE_PIE = ("-fpie", "-DPERCPU_NON_ZERO_VMA")


@pytest.mark.parametrize("optimization", ["-O0", "-O2"])
@pytest.mark.parametrize("compiler", RISC, ids=lambda compiler: compiler.label)
def test_its_code_is_not_relocated(tmp_path, compiler: Compiler, optimization):
    source, target = tmp_path / "kernel.cpp", tmp_path / "kernel.o"
    source.write_text(SOURCE)
    done = compile_object(compiler.command, source, target, optimization, *FREESTANDING, *IN_IMAGE_PIE)
    assert done.returncode == 0, done.stderr
    command = ["ld.lld-19", "-m", EMULATIONS[compiler.arch], "-pie", "-z", "text", "--unresolved-symbols=ignore-all"]
    done = subprocess.run([*command, target, "-o", tmp_path / "kernel.elf"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("compiler", [it for it in RISC if it.arch in ("aarch64", "arm")], ids=lambda compiler: compiler.label)
def test_it_costs_no_more(tmp_path, compiler):
    target = tmp_path / "counts.o"
    done = compile_object(compiler.command, HERE / "counts.cpp", target, "-O2", *FREESTANDING, *IN_IMAGE_PIE)
    assert done.returncode == 0, done.stderr
    functions = disassemble(compiler.objdump, target)
    expected = dict(zip(ACCESSES, IN_IMAGE[key(compiler)], strict=True))
    for access in ("read_far", "write_far", "pointer_far", "add_far"):
        # ARM keeps the distance to the variable behind the function.
        code = [line for line in functions[access] if ".word" not in line]
        assert len(code) == expected[access], code
