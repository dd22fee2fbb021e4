"""Compiling against the runtime: objects, and programs for Linux user space."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import percpu_tools

HERE = Path(__file__).parent
COMPILERS = {"gcc": "g++", "clang": "clang++-19"}
# Linux gives a program of ARM or AArch64 no register of its own that the C library leaves alone.
_USER_BASE = ("-DPERCPU_BASE_REGISTER=user", f'-DPERCPU_BASE_REGISTER_HEADER="{HERE / "user_base.hpp"}"')
# Other architectures' compilers for Linux programs, which are linked statically, for user-mode emulation. RISC-V
# keeps the base in gp, so neither the program nor the C library in it may be relaxed to use gp otherwise (T02).
CROSS = {
    ("aarch64", "gcc"): ("aarch64-linux-gnu-g++", "-static", *_USER_BASE),
    ("aarch64", "clang"): ("clang++-19", "--target=aarch64-linux-gnu", "-static", *_USER_BASE),
    ("arm", "gcc"): ("arm-linux-gnueabihf-g++", "-march=armv7-a+fp", "-static", *_USER_BASE),
    ("arm", "clang"): ("clang++-19", "--target=armv7a-linux-gnueabihf", "-static", *_USER_BASE),
    ("riscv64", "gcc"): ("riscv64-linux-gnu-g++", "-static", "-mno-relax", "-Wl,--no-relax"),
    ("riscv64", "clang"): ("clang++-19", "--target=riscv64-linux-gnu", "-static", "-mno-relax", "-Wl,--no-relax"),
    ("loongarch64", "gcc"): ("loongarch64-linux-gnu-g++", "-static"),
}
WARNINGS = ("-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror")
FREESTANDING = ("-ffreestanding", "-fno-exceptions", "-fno-rtti", "-nostdinc++")


def _defines(features: tuple[str, ...]) -> list[str]:
    return [f"-DPERCPU_{feature.upper().replace('-', '_')}" for feature in features]


def compile_object(
    compiler: Sequence[str], source: Path, target: Path, *flags: str
) -> subprocess.CompletedProcess[str]:
    """Compiles one source to an object; the caller judges the exit status and the messages."""
    command = [*compiler, "-std=c++20", *flags, f"-I{percpu_tools.includes()}", "-c", str(source), "-o", str(target)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def link_program(
    folder: Path,
    source: Path,
    *flags: str,
    compiler: str = "gcc",
    linker: str = "ld",
    features: tuple[str, ...] = ("non-zero-vma",),
    cpu_num: int = 4,
    arch: str = "x86_64",
) -> Path:
    """A Linux program of one source and the runtime, linked with the fragment over the linker's own script."""
    fragment = folder / "percpu.ld"
    fragment.write_text(percpu_tools.render_fragment(cpu_num, arch, features=list(features), linker=linker))
    program = folder / source.stem
    tools = (COMPILERS[compiler],) if arch == "x86_64" else CROSS[arch, compiler]
    command = [*tools, "-std=c++20", *WARNINGS, *flags, *_defines(features)]
    command.append(f"-I{percpu_tools.includes()}")
    command += [str(source), *map(str, percpu_tools.sources())]
    command += [f"-fuse-ld={'bfd' if linker == 'ld' else 'lld'}", f"-Wl,-T,{fragment}", "-pthread", "-o", str(program)]
    if linker == "lld":
        command.append("-B/usr/lib/llvm-19/bin")
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return program
