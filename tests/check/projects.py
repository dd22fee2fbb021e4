"""Small kernels linked as other projects link theirs: the sections, symbols and addresses of each."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import toolchain

_HEAD = """\
ENTRY(_start)
OFFSET = 0xffffffff80000000;
SECTIONS
{
  . = OFFSET + 0x1000000;
  .text : AT(ADDR(.text) - OFFSET) { *(.text .text.*) }
  .rodata : AT(ADDR(.rodata) - OFFSET) { *(.rodata .rodata.*) *(.eh_frame) }
  . = ALIGN(4096);
  .data : AT(ADDR(.data) - OFFSET) { *(.data .data.rel .data.stray) }
  . = ALIGN(4096);
"""

_TAIL = """\
  . = ALIGN(4096);
  .bss : AT(ADDR(.bss) - OFFSET) { __bss_start = .; *(.bss) *(COMMON) __bss_stop = .; }
  /DISCARD/ : { *(.comment) *(.note.*) }
}
"""

_LINUX_INPUT = """\
    __per_cpu_start = .;
    *(.data..percpu..first)
    . = ALIGN(4096);
    *(.data..percpu..page_aligned)
    . = ALIGN(64);
    *(.data..percpu..read_mostly)
    . = ALIGN(64);
    *(.data..percpu)
    *(.data..percpu..shared_aligned)
    __per_cpu_end = .;
"""


def variable(symbol: str, section: str, size: int = 8, value: int = 1, alignment: int = 8) -> str:
    """The C source of an array of that size, under any symbol that an assembler takes."""
    attributes = f'section("{section}"), used, aligned({alignment})'
    name = "".join(c if c.isalnum() else "_" for c in symbol)
    initial = f" = {{{value}}}" if value else ""
    return f'__attribute__(({attributes})) char c_{name}[{size}] __asm__("{symbol}"){initial};\n'


@dataclass(frozen=True)
class Project:
    """One project's way, and what is found in its kernel: variables as (name, offset, size)."""

    profile: str
    script: str
    source: str
    layout: str
    template: int
    variables: list[tuple[str, int, int]]
    not_judged: set[str] = field(default_factory=set)


_LINUX_SOURCE = (
    variable("fixed_percpu_data", ".data..percpu..first", 48, 0, 64)
    + variable("gdt_page", ".data..percpu..page_aligned", 4096, 5, 4096)
    + variable("cpu_number", ".data..percpu..read_mostly", 4, 7, 4)
    + variable("runqueues", ".data..percpu..shared_aligned", 128, 0, 64)
    + variable("softirqs", ".data..percpu", 8, 3)
)
_LINUX_VARIABLES = [
    ("fixed_percpu_data", 0, 48),
    ("gdt_page", 0x1000, 4096),
    ("cpu_number", 0x2000, 4),
    ("softirqs", 0x2040, 8),
    ("runqueues", 0x2080, 128),
]

LINUX_AT_ZERO = Project(
    "linux",
    _HEAD
    + "  __per_cpu_load = .;\n  .data..percpu 0 : AT(__per_cpu_load - OFFSET)\n  {\n"
    + _LINUX_INPUT
    + "  }\n  . = __per_cpu_load + SIZEOF(.data..percpu);\n"
    + _TAIL.replace("AT(ADDR(.bss) - OFFSET)", "AT(__per_cpu_load + ALIGN(SIZEOF(.data..percpu), 4096) - OFFSET)"),
    _LINUX_SOURCE,
    "zero-vma",
    0x2100,
    _LINUX_VARIABLES,
    {"T08", "T10", "T11", "T14", "T23", "T25", "T27"},
)

LINUX_IN_IMAGE = Project(
    "linux",
    _HEAD
    + "  .data..percpu : AT(ADDR(.data..percpu) - OFFSET)\n  {\n    __per_cpu_load = .;\n"
    + _LINUX_INPUT
    + "  }\n"
    + _TAIL,
    _LINUX_SOURCE,
    "in-image",
    0x2100,
    _LINUX_VARIABLES,
    {"T08", "T10", "T11", "T14", "T23", "T25", "T27"},
)

# As the crate's documentation has it, without its NOLOAD, and 4 CPUs' areas behind the template instead of in it.
_RUST_SECTION = """\
  _percpu_start = .;
  .percpu {address} : AT(_percpu_start - OFFSET)
  {{
    _percpu_load_start = .;
    *(.percpu .percpu.*)
    _percpu_load_end = .;
  }}
  . = _percpu_start + SIZEOF(.percpu);
  .percpu_areas (NOLOAD) : AT(ADDR(.percpu_areas) - OFFSET) 
  {{
    . += ALIGN(SIZEOF(.percpu), 64) * 4 - SIZEOF(.percpu);
    _percpu_end = .;
  }}
"""

# Names as rustc 1.95 (v0) and older compilers mangle them.
_RUST_SOURCE = (
    variable("_RNvNtCs2OpA4fNwd7R_5axhal6percpu15___PERCPU_CPU_ID", ".percpu", 8, 0)
    + variable("_ZN6axtask9run_queue18__PERCPU_RUN_QUEUE17h0123456789abcdefE", ".percpu", 56, 1)
    + variable("__PERCPU_IDLE", ".percpu", 8, 2)
)

RUST = Project(
    "rust",
    _HEAD + _RUST_SECTION.format(address="0x0") + _TAIL,
    _RUST_SOURCE,
    "zero-vma",
    72,
    [("axhal::percpu::CPU_ID", 0, 8), ("axtask::run_queue::RUN_QUEUE", 8, 56), ("IDLE", 64, 8)],
)

RUST_IN_IMAGE = Project(
    "rust",
    _HEAD + _RUST_SECTION.format(address="") + _TAIL,
    _RUST_SOURCE,
    "in-image",
    72,
    RUST.variables,
)

XEN = Project(
    "xen",
    _HEAD
    + _TAIL.replace(
        "__bss_start = .;",
        "__bss_start = .; *(.bss.page_aligned) . = ALIGN(4096);"
        " __per_cpu_start = .; *(.bss.percpu.page_aligned) *(.bss.percpu)"
        " . = ALIGN(64); *(.bss.percpu.read_mostly) . = ALIGN(64); __per_cpu_data_end = .;",
    ),
    'char page[4096] __attribute__((section(".bss.page_aligned"), used));\n'
    + variable("per_cpu__curr_vcpu", ".bss.percpu", 8, 0)
    + variable("per_cpu__tss_page", ".bss.percpu.page_aligned", 4096, 0, 4096)
    + variable("per_cpu__cpu_sibling_mask", ".bss.percpu.read_mostly", 8, 0),
    "in-image",
    0x1080,
    [("tss_page", 0, 4096), ("curr_vcpu", 0x1000, 8), ("cpu_sibling_mask", 0x1040, 8)],
    {"T05", "T08", "T10", "T11", "T23", "T27"},
)

OSV = Project(
    "osv",
    _HEAD
    + "  .percpu : AT(ADDR(.percpu) - OFFSET) { _percpu_start = .; *(.percpu) . = ALIGN(4096); _percpu_end = .; }\n"
    + "  .percpu_workers : AT(ADDR(.percpu_workers) - OFFSET)"
    + " { _percpu_workers_start = .; *(.percpu_workers) _percpu_workers_end = .; }\n"
    + _TAIL,
    variable("_ZN7workman5_dutyE", ".percpu", 1, 0, 1)
    + variable("_ZL6buffer", ".percpu", 4096, 1)
    + variable("free_page_worker", ".percpu_workers", 64, 1),
    "in-image",
    0x2000,
    [("workman::_duty", 0, 1), ("buffer", 8, 4096)],
    {"T08", "T10", "T11", "T14", "T23", "T25", "T27"},
)

PROJECTS = {
    "linux at 0": LINUX_AT_ZERO,
    "linux in the image": LINUX_IN_IMAGE,
    "rust at 0": RUST,
    "rust in the image": RUST_IN_IMAGE,
    "xen": XEN,
    "osv": OSV,
}


def build(folder: Path, project: Project, *flags: str, script: str = "", source: str = "", linker: str = "ld") -> Path:
    """The project's kernel, linked; with another script, or with more source."""
    # In the order in which they are written.
    kernel = toolchain.compile_c(folder, toolchain.KERNEL + project.source + source, "-fno-toplevel-reorder")
    done = toolchain.try_link(folder, [kernel], [script or project.script], *flags, linker=linker)
    assert done.returncode == 0, done.stderr
    return folder / "kernel.elf"
