"""Every compiler for every architecture that the runtime is compiled with, and how to disassemble."""

from __future__ import annotations

import shutil
from dataclasses import dataclass


@dataclass(frozen=True)
class Compiler:
    """A C++ compiler that makes kernels for one architecture."""

    arch: str
    name: str
    command: tuple[str, ...]
    objdump: str

    @property
    def label(self) -> str:
        return f"{self.arch}-{self.name}"


def _clang(arch: str, triplet: str, *flags: str, name: str = "clang") -> Compiler:
    return Compiler(arch, name, ("clang++-19", f"--target={triplet}", *flags), "llvm-objdump-19")


def _gcc(arch: str, triplet: str, *flags: str, name: str = "gcc") -> Compiler:
    return Compiler(arch, name, (f"{triplet}-g++", *flags), f"{triplet}-objdump")


ARMV7 = "-march=armv7-a+fp"
RV32 = ("-march=rv32imac_zicsr", "-mabi=ilp32")

ALL = (
    _gcc("x86_64", "x86_64-linux-gnu"),
    _clang("x86_64", "x86_64-linux-gnu"),
    _gcc("aarch64", "aarch64-linux-gnu"),
    _clang("aarch64", "aarch64-none-elf"),
    _gcc("arm", "arm-linux-gnueabihf", ARMV7, "-marm"),
    _gcc("arm", "arm-linux-gnueabihf", ARMV7, "-mthumb", name="gcc-thumb"),
    _clang("arm", "armv7a-none-eabi", "-marm"),
    _clang("arm", "armv7a-none-eabi", "-mthumb", name="clang-thumb"),
    _gcc("riscv64", "riscv64-linux-gnu", "-mcmodel=medany"),
    _clang("riscv64", "riscv64-none-elf", "-march=rv64gc", "-mcmodel=medany"),
    _gcc("riscv32", "riscv64-unknown-elf", *RV32),
    _clang("riscv32", "riscv32-none-elf", *RV32),
    _clang("loongarch64", "loongarch64-none-elf"),
    # Debian 12 has no GCC for LoongArch64.
    *([_gcc("loongarch64", "loongarch64-linux-gnu")] if shutil.which("loongarch64-linux-gnu-g++") else []),
)
