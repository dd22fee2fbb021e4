"""What compilers build for and which linker a command ends in, asked of the real tools."""

from __future__ import annotations

import os
import shutil

import pytest
from percpu_tools import linkcommand, toolchain
from percpu_tools.errors import PercpuError


@pytest.mark.parametrize(("command", "processor"), [
    ("g++", "x86_64"),
    ("g++ -m32", "i386"),
    ("ccache g++", "x86_64"),
    ("aarch64-linux-gnu-g++", "aarch64"),
    ("arm-none-eabi-g++ -mcpu=cortex-a15", "arm"),
    ("riscv64-unknown-elf-g++ -mcmodel=medany", "riscv64"),
    ("riscv64-unknown-elf-g++ -march=rv32imac -mabi=ilp32", "riscv32"),
    ("clang++-19", "x86_64"),
    ("clang++-19 -m32", "i386"),
    ("clang++-19 --target=riscv32-unknown-elf", "riscv32"),
    ("clang++-19 -target loongarch64-unknown-none", "loongarch64"),
    ("clang++-19 --target=sparc64-unknown-none", "sparc64"),
])
def test_processor(command, processor):
    words = command.split()
    split = next((i for i, word in enumerate(words) if word.startswith("-")), len(words))
    assert toolchain.machine(words[:split], words[split:], os.environ).processor == processor


def test_a_processor_that_percpu_does_not_have():
    machine = toolchain.machine(["g++"], ["-m32"], os.environ)
    with pytest.raises(PercpuError, match=r"the compiler g\+\+ builds for i386 \(x86_64-linux-gnu\): expected one of x86_64"):
        machine.arch.strip()


def test_two_compilers_for_one_machine():
    gcc = toolchain.machine(["g++"], [], os.environ)
    clang = toolchain.machine(["clang++-19"], [], os.environ)
    bare = toolchain.machine(["clang++-19"], ["--target=x86_64-unknown-elf"], os.environ)
    assert gcc.runs_what(clang) and not gcc.runs_what(bare)


@pytest.mark.parametrize(("command", "linker"), [
    ("g++ -nostdlib", "ld"),
    ("g++ -fuse-ld=bfd", "ld"),
    ("clang++-19 -fuse-ld=lld", "lld"),
    ("clang++-19 --target=riscv64-unknown-elf -fuse-ld=lld", "lld"),
    ("riscv64-unknown-elf-g++ -T missing.ld", "ld"),
    ("ld -T missing.ld", "ld"),
    ("aarch64-linux-gnu-ld.bfd", "ld"),
    ("ld.lld-19", "lld"),
])
def test_linker(command, linker):
    assert toolchain.linker(linkcommand.parse(command.split()), os.environ) == linker


@pytest.mark.parametrize(("command", "message"), [
    ("g++ -fuse-ld=gold", "g++ ends in gold: expected GNU ld or lld"),
    # It says that it is "compatible with GNU ld".
    ("g++ -fuse-ld=mold", "g++ ends in mold: expected"),
    ("no-such-linker", "no-such-linker is not on the PATH of the build"),
    ("false", "ended with status 1 and said: nothing"),
    ("echo ", "ends in '-nostdlib -Wl,--version'"),
])
def test_linkers_that_cannot_be_used(command, message):
    with pytest.raises(PercpuError) as refusal:
        toolchain.linker(linkcommand.parse(command.split()), os.environ)
    assert message in str(refusal.value)


def test_a_linker_that_the_compiler_does_not_find(tmp_path):
    """GCC also says who it is and what it calls; the error is what counts."""
    (tmp_path / "g++").symlink_to(shutil.which("g++"))
    with pytest.raises(PercpuError, match="error: cannot find"):
        toolchain.linker(linkcommand.parse(["g++", "-fuse-ld=mold"]), {"PATH": str(tmp_path)})


def test_the_tools_are_those_of_the_build_s_path(tmp_path):
    compiler = tmp_path / "g++"
    compiler.write_text("#!/bin/sh\necho riscv64-made-up\n")
    compiler.chmod(0o755)
    assert toolchain.machine(["g++"], [], {"PATH": f"{tmp_path}:/bin"}).arch == "riscv64"
    assert toolchain.machine(["g++"], [], os.environ).arch == "x86_64"


def test_a_tool_that_cannot_be_run(tmp_path):
    broken = tmp_path / "g++"
    broken.write_bytes(b"\x7fELF nonsense")
    broken.chmod(0o755)
    with pytest.raises(PercpuError, match="cannot be run"):
        toolchain.machine([str(broken)], [], os.environ)
