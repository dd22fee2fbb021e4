"""Kernels whose linker script was written by hand, rightly or with one mistake."""

from __future__ import annotations

from pathlib import Path

import toolchain
from percpu_tools.checker import Report, check

# A right script by hand, for 4 CPUs, into which the faults are put.
STRIDE = "ALIGN(SIZEOF(.percpu), MAX(64, ALIGNOF(.percpu)))"
BY_HAND = f"""\
  . = ALIGN(4096);
  _percpu_start = .;
  .percpu 0x0 : AT(_percpu_start - KERNEL_VMA)
  {{
    _percpu_load_start = .;
    *(.percpu .percpu.*)
    _percpu_load_end = .;
  }}
  . = _percpu_start + SIZEOF(.percpu);
  .percpu_areas (NOLOAD) : AT(ADDR(.percpu_areas) - KERNEL_VMA)
  {{
    . += {STRIDE} * 4 - SIZEOF(.percpu);
    _percpu_end = .;
  }}
  _percpu_stride = ABSOLUTE({STRIDE});
  _percpu_cpu_num = ABSOLUTE(4);
"""

VARIABLES = toolchain.variable("x", 0x11) + toolchain.variable("y", 0x22)


def script(per_cpu: str) -> str:
    """The higher-half script with these lines behind .data."""
    return toolchain.HIGHER_HALF.replace("  . = ALIGN(16);\n", per_cpu + "  . = ALIGN(16);\n")


def judge(
    folder: Path,
    per_cpu: str = BY_HAND,
    source: str = VARIABLES,
    *flags: str,
    linker: str = "ld",
    **given,
) -> Report:
    """The report on a kernel of that source, linked with those lines."""
    kernel = toolchain.compile_c(folder, toolchain.KERNEL + source)
    text = per_cpu if "SECTIONS" in per_cpu else script(per_cpu)
    done = toolchain.try_link(folder, [kernel], [text], *flags, linker=linker)
    assert done.returncode == 0, done.stderr
    return check(folder / "kernel.elf", **given)


def rules(report: Report) -> set[str]:
    return {finding.rule for finding in report.findings}
