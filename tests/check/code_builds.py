"""Kernels whose code is judged, by every compiler and linker for every architecture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import percpu_tools
import toolchain
from cxx.build import FREESTANDING, compile_object
from cxx.compilers import ALL, Compiler
from percpu_tools import targets
from percpu_tools.checker import Report, check

KEPT = ("--emit-relocs",)

GNU_LD = {
    "x86_64": ("ld",),
    "aarch64": ("aarch64-linux-gnu-ld",),
    "arm": ("arm-linux-gnueabihf-ld",),
    "riscv64": ("riscv64-linux-gnu-ld",),
    "riscv32": ("riscv64-unknown-elf-ld", "-m", "elf32lriscv"),
}

# What compilers call on machines without the instructions: GCC's outline atomics, ARM's division and memory.
_LIBRARY = (
    *("__aarch64_swp4_acq", "__aeabi_uidiv", "__aeabi_uidivmod", "__aeabi_memclr", "__aeabi_memcpy", "__aeabi_memset"),
    *("__aeabi_memclr4", "__aeabi_memcpy4", "__aeabi_memset4", "__aeabi_memclr8", "__aeabi_memcpy8", "memmove"),
)

# A kernel that knows nothing of per-CPU data, for the runtime's fragment.
OWN = """\
ENTRY(_start)
SECTIONS
{
  . = 0x40200000;
  .text : { *(.text .text.*) }
  .rodata : { *(.rodata .rodata.* .srodata .srodata.*) }
  .tdata : { *(.tdata .tdata.*) }
  . = ALIGN(4096);
  .data : { *(.data .data.* .got .got.*) *(.sdata .sdata.*) }
  .bss : { *(.bss .bss.* .sbss .sbss.*) *(COMMON) }
  /DISCARD/ : { *(.comment .eh_frame .ARM.* .note.gnu.*) }
}
"""

# The same with per-CPU data by hand, at 0 or where `place` says. With --emit-relocs, GNU ld would take a .data without a byte
# as far as _percpu_end, over the template (T06).
BY_HAND = OWN.replace(
    "  .bss :",
    """\
  .filler : { BYTE(0) }
  . = ALIGN(4096);
  _percpu_start = .;
  .percpu %s { _percpu_load_start = .; *(.percpu.front) *(.percpu.ballast) *(.percpu .percpu.*) _percpu_load_end = .; }
  . = _percpu_start + ALIGN(SIZEOF(.percpu), 64) * 2;
  _percpu_end = .;
  .bss : AT(ADDR(.bss))""",
)
ZERO_VMA = BY_HAND % "0x0 : AT(_percpu_start)"
IN_IMAGE = (
    BY_HAND.replace("  . = _percpu_start + ALIGN", "  . += ALIGN").replace(
        "* 2;", "- SIZEOF(.percpu) + ALIGN(SIZEOF(.percpu), 64);"
    )
    % ":"
)

# The beginning of a program with the runtime, all of which is linked.
BEGIN = """\
#include <percpu/percpu.hpp>
extern "C" {
void* memset(void* to, int, size_t) { return to; }
void* memcpy(void* to, const void*, size_t) { return to; }
void _start() { (void)percpu::init_in_place(); percpu::init_percpu_reg(0); }
}
"""


@dataclass(frozen=True)
class Build:
    """A compiler, and a linker that takes what it makes."""

    compiler: Compiler
    linker: str

    @property
    def arch(self) -> str:
        return self.compiler.arch

    @property
    def label(self) -> str:
        return f"{self.compiler.label}-{self.linker}"


BUILDS = [
    Build(compiler, linker)
    for compiler in ALL
    for linker in ("ld", "lld")
    if linker == "lld" or compiler.arch in GNU_LD
]


def compile_with_runtime(
    folder: Path, compiler: Compiler, source: str, features: str, *flags: str, more: str = ""
) -> list[Path]:
    """The objects of a kernel of the runtime and `source`, and of another file if there is `more`."""
    (folder / "kernel.cpp").write_text(BEGIN + source)
    (folder / "more.cpp").write_text(more)
    defines = [
        f"-D{name}" if value is None else f"-D{name}={value}"
        for name, value in targets.parse_features(features, compiler.arch).defines.items()
    ]
    usual = ["-fno-pic", "-fno-asynchronous-unwind-tables", "-fno-stack-protector", *FREESTANDING, *flags, *defines]
    usual += ["-mno-red-zone"] if compiler.arch == "x86_64" else []
    objects = []
    for path in (folder / "kernel.cpp", *([folder / "more.cpp"] if more else []), *percpu_tools.sources()):
        objects.append(folder / f"{path.stem}.o")
        done = compile_object(compiler.command, path, objects[-1], *usual)
        assert done.returncode == 0, done.stderr
    return objects


def link_with_runtime(
    folder: Path, build: Build, objects: list[Path], features: str, *flags: str, mode: str = "insert"
) -> Report:
    """The report on that kernel, linked with a fragment for these features; `mode` may be `macro`, too."""
    words = targets.parse_features(features, build.arch).words
    library = [f"--defsym={name}=_start" for name in _LIBRARY]
    if mode == "insert":
        scripts = [percpu_tools.render_fragment(4, build.arch, words, build.linker), OWN]
    elif mode == "include":
        (folder / "percpu.ld").write_text(percpu_tools.render_fragment(4, build.arch, words, build.linker, mode))
        scripts = [OWN.replace("  .bss :", "  INCLUDE percpu.ld\n  .bss :")]
    else:
        template = folder / "kernel.ld.j2"
        importing = '{% from "percpu/macro.ld.j2" import percpu with context %}\n'
        template.write_text(importing + OWN.replace("  .bss :", "{{ percpu() }}\n  .bss :"))
        scripts = [percpu_tools.render_template(template, 4, build.arch, words, build.linker)]
    return _link(folder, build, objects, scripts, "-L", str(folder), *library, *flags)


def judge(folder: Path, build: Build, source: str, script: str, *flags: str, compile: tuple[str, ...] = ()) -> Report:
    """The report on one C source, with a script by hand; `flags` are the linker's."""
    (folder / "kernel.c").write_text("void _start(void);\nvoid _start(void) {}\n" + source)
    usual = ["-x", "c", "-O2", "-ffreestanding", "-fno-pic", "-fno-asynchronous-unwind-tables", *compile]
    toolchain.run([*build.compiler.command, *usual, "-c", str(folder / "kernel.c"), "-o", str(folder / "kernel.o")])
    return _link(folder, build, [folder / "kernel.o"], [script], *flags)


def _link(folder: Path, build: Build, objects: list[Path], scripts: list[str], *flags: str) -> Report:
    command = [*(GNU_LD[build.arch] if build.linker == "ld" else ("ld.lld-19",)), *flags]
    for number, text in enumerate(scripts):
        (folder / f"{number}.ld").write_text(text)
        command += ["-T", str(folder / f"{number}.ld")]
    toolchain.run([*command, *map(str, objects), "-o", str(folder / "kernel.elf")])
    return check(folder / "kernel.elf")
