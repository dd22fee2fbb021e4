"""RISC-V: the linker's relaxations neither take the base register out of an access nor put it into another.

GNU ld makes an access to an address near 0 relative to `zero`, and one to data near __global_pointer$
relative to gp (RISC-V psABI, "Linker Relaxation").
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import percpu_tools
import pytest
from cxx.build import FREESTANDING, HERE
from cxx.compilers import ALL, Compiler
from cxx.test_counts import disassemble

RISCV = [compiler for compiler in ALL if compiler.arch.startswith("riscv")]
# Either objdump names the register that holds 0.
BASED_ON_ZERO = re.compile(r"\((?:zero|x0)\)|^(?:c\.)?li\b|^(?:c\.)?addi\s+\w+,\s*zero\b")
VARIABLES = ("near_word", "far_word", "farther_word")
ACCESSES = ("read", "write", "pointer", "add", "fetch_add", "exchange")

SCRIPT = """
SECTIONS
{
    . = 0x80000000;
    .text : { *(.text .text.*) }
    .data : { *(.data .data.* .sdata .sdata.*) }
    .bss : { *(.bss .bss.* .sbss .sbss.*) }
}
"""


def linked(folder: Path, compiler: Compiler, *flags: str, headers: Path | None = None, script: str = SCRIPT) -> Path:
    """The accesses, linked by GNU ld with relaxation on; its own functions are all that is in it."""
    kernel, script_file, fragment = folder / "kernel.elf", folder / "kernel.ld", folder / "percpu.ld"
    script_file.write_text(script)
    fragment.write_text(percpu_tools.render_fragment(4, compiler.arch))
    command = [*compiler.command, "-std=c++20", "-O2", "-fno-pic", *FREESTANDING, *flags]
    source, object_file = HERE / "riscv_relaxation.cpp", folder / "accesses.o"
    command += [f"-I{headers or percpu_tools.includes()}", "-c", str(source), "-o", str(object_file)]
    bits = compiler.arch.removeprefix("riscv")
    link = [f"riscv64-{'linux-gnu' if bits == '64' else 'unknown-elf'}-ld", "-m", f"elf{bits}lriscv", "--relax"]
    link += ["-static", "-e", "read_ordinary", "--defsym=memset=0x80000000"]
    link += ["-T", str(fragment), "-T", str(script_file), "-o", str(kernel), str(object_file)]
    for step in (command, link):
        done = subprocess.run(step, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
    return kernel


def based_on_zero(compiler: Compiler, kernel: Path) -> set[str]:
    """The accesses of which an instruction is based on `zero`."""
    functions = disassemble(compiler.objdump, kernel)
    names = [f"{access}_{variable}" for variable in VARIABLES for access in ACCESSES]
    return {name for name in names if any(map(BASED_ON_ZERO.search, functions[name]))}


@pytest.fixture
def headers_without_norelax(tmp_path: Path) -> Path:
    folder = tmp_path / "include"
    shutil.copytree(percpu_tools.includes(), folder)
    header = folder / "percpu" / "arch" / "riscv.hpp"
    text = header.read_text()
    assert text.count(".option norelax\\n") == 1
    header.write_text(text.replace(".option norelax\\n", "\\n"))
    return folder


@pytest.mark.parametrize("register", ["gp", "tp"])
@pytest.mark.parametrize("compiler", RISCV, ids=lambda compiler: compiler.label)
def test_no_linked_access_is_based_on_zero(tmp_path: Path, compiler: Compiler, register: str) -> None:
    kernel = linked(tmp_path, compiler, f"-DPERCPU_BASE_REGISTER={register}")
    functions = disassemble(compiler.objdump, kernel)
    for variable in VARIABLES:
        for access in ACCESSES:
            text = "\n".join(functions[f"{access}_{variable}"])
            assert re.search(rf"\b{register}\b", text), text
    assert based_on_zero(compiler, kernel) == set()
    # The link keeps every instruction of the accesses.
    counts = {name: len(functions[f"read_{name}"]) for name in VARIABLES}
    assert counts == {"near_word": 1, "far_word": 3, "farther_word": 3}


@pytest.mark.parametrize("compiler", RISCV, ids=lambda compiler: compiler.label)
def test_without_norelax_near_addresses_lose_the_base(
    tmp_path: Path, compiler: Compiler, headers_without_norelax: Path
) -> None:
    kernel = linked(tmp_path, compiler, headers=headers_without_norelax)
    lost = based_on_zero(compiler, kernel)
    reach = {"near_word", "far_word"}
    assert {f"{access}_{variable}" for variable in reach for access in ("read", "write", "add")} <= lost
    assert not any(name.endswith("farther_word") for name in lost)


@pytest.mark.parametrize("defined", [False, True])
@pytest.mark.parametrize("compiler", RISCV, ids=lambda compiler: compiler.label)
def test_a_global_pointer_makes_ordinary_globals_relative_to_the_base_register(
    tmp_path: Path, compiler: Compiler, defined: bool
) -> None:
    script = SCRIPT.replace(".data : {", ".data : { __global_pointer$ = . + 0x400;") if defined else SCRIPT
    kernel = linked(tmp_path, compiler, script=script)
    text = "\n".join(disassemble(compiler.objdump, kernel)["read_ordinary"])
    assert bool(re.search(r"\bgp\b", text)) == defined, text
