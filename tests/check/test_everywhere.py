"""The rules about the layout, on every architecture: one bad build for each, and the good one beside it."""

from __future__ import annotations

import pytest
import toolchain
from check.builds import rules
from check.test_segments import TRIPLES
from percpu_tools import check

# A kernel that is linked where it is loaded, with areas for 4 CPUs.
GOOD = """\
ENTRY(_start)
SECTIONS
{
  . = 0x40000000;
  .text : { *(.text .text.*) *(.rodata .rodata.*) *(.eh_frame) }
  . = ALIGN(4096);
  .data : { *(.data .data.*) *(.sdata .sdata.*) *(.got*) *(.hidden) }
  . = ALIGN(4096);
  _percpu_start = .;
  .percpu 0x0 : AT(_percpu_start) { _percpu_load_start = .; *(.percpu .percpu.*) _percpu_load_end = .; }
  . = _percpu_start + 0x200 * 4;
  _percpu_end = .;
  _percpu_stride = 0x200;
  _percpu_cpu_num = 4;
  .bss : AT(ADDR(.bss)) { *(.bss .bss.*) *(.sbss .sbss.*) *(COMMON) }
  /DISCARD/ : { *(.comment) *(.ARM.exidx*) }
}
"""
WIDE = '__attribute__((section(".percpu.wide"), used, aligned(0x100))) char percpu_storage_wide[0x110] = {1};\n'
HIDDEN = toolchain.variable("hidden", 3, ".hidden")

# The fault in the script (what for what), in the source, in the command of the linker; the trap.
FAULTS = {
    "noload": (("0x0 :", "0x0 (NOLOAD) :"), "", (), "T05"),
    "stride of lines": (("0x200", "0x140"), "", (), "T10"),
    "room for three": (("0x200 * 4", "0x200 * 3"), "", (), "T11"),
    "areas over .bss": (("  .bss :", "  . = _percpu_start + 0x200;\n  .bss :"), "", (), "T23"),
    "build id": ((), "", ("--build-id=sha1",), "T24"),
    "another section": ((), HIDDEN, (), "T25"),
    "number of CPUs": (("_percpu_cpu_num = 4", "_percpu_cpu_num = 8"), "", (), "T28"),
    "lines shared by areas": (("0x200", "0x210"), "", (), "T27"),
}


def judge(folder, arch, script, source, *flags):
    kernel = toolchain.compile_c(folder, toolchain.KERNEL + source, f"--target={TRIPLES[arch]}", compiler="clang-19")
    done = toolchain.try_link(folder, [kernel], [script], "--no-check-sections", *flags, linker="lld")
    assert done.returncode == 0, done.stderr
    return check(folder / "kernel.elf", cpu_num=4)


@pytest.mark.parametrize("arch", TRIPLES)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_layout(tmp_path, fault, arch):
    change, source, flags, rule = FAULTS[fault]
    # Only where T10 is not the fault is there a variable without special alignment.
    variables = (toolchain.variable("x", 1) if rule == "T27" else WIDE) + source
    script = GOOD.replace(*change) if change else GOOD
    assert not change or script != GOOD
    report = judge(tmp_path, arch, script, variables, *flags)
    assert rule in rules(report), report.findings
    # The number of CPUs also says how much room there should be.
    assert rules(report) <= {rule} | ({"T11"} if rule == "T28" else set()), report.findings


@pytest.mark.parametrize("arch", TRIPLES)
def test_the_good_one(tmp_path, arch):
    report = judge(tmp_path, arch, GOOD, WIDE)
    assert (report.findings, report.layout.arch) == ((), arch)
