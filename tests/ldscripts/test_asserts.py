"""Links that must not succeed: each ASSERT of the fragment fires on the mistake it is there for, and says what to do."""

from __future__ import annotations

import pytest
import toolchain
from percpu_tools import PercpuError, check, find_anchor, render_fragment

# Architecture -> compiler, GNU ld, emulation of lld.
CROSS = {
    "riscv64": ("riscv64-unknown-elf-gcc", "riscv64-unknown-elf-ld", "elf64lriscv"),
    "aarch64": ("aarch64-linux-gnu-gcc", "aarch64-linux-gnu-ld", "aarch64elf"),
    "arm": ("arm-none-eabi-gcc", "arm-none-eabi-ld", "armelf"),
}
LOW = """\
ENTRY(_start)
SECTIONS
{
  . = 0x80200000;
  .text : { *(.text .text.*) }
  .data : { *(.data .data.*) *(.sdata .sdata.*) }
  .bss : { *(.bss .bss.*) *(.sbss .sbss.*) *(COMMON) }
  /DISCARD/ : { *(.comment) *(.riscv.attributes) *(.ARM.attributes) *(.eh_frame) *(.ARM.exidx*) }
}
"""


def near(size: int, section: str = ".percpu..near.n") -> str:
    return f'__attribute__((section("{section}"), used)) char percpu_near_n[{size}] = {{1}};\n'


def link_for(folder, arch, linker, source, cpu_num=2, features=()):
    compiler, ld, emulation = CROSS[arch]
    path = folder / "kernel.c"
    path.write_text("void _start(void) { for (;;) {} }\n" + source)
    target = folder / "kernel.o"
    toolchain.run([compiler, "-c", "-O1", "-ffreestanding", "-fno-pic", str(path), "-o", str(target)])
    fragment = render_fragment(cpu_num, arch, features, linker)
    if linker == "ld":
        return toolchain.try_link(folder, [target], [fragment, LOW], linker=ld)
    return toolchain.try_link(folder, [target], [fragment, LOW], "-m", emulation, linker="lld")


@pytest.mark.parametrize("features", [(), ("all-near",)])
@pytest.mark.parametrize(("arch", "reach"), [("riscv64", 2048), ("aarch64", 4096), ("arm", 4096)])
@pytest.mark.parametrize("linker", toolchain.LINKERS)
def test_near_variables_end_within_reach(tmp_path, linker, arch, reach, features):
    done = link_for(tmp_path, arch, linker, near(reach), features=features)
    assert done.returncode == 0, done.stderr
    done = link_for(tmp_path, arch, linker, near(reach + 1), features=features)
    assert done.returncode != 0
    assert f"ERROR(percpu): the near variables end beyond {reach} bytes" in done.stderr
    assert ("Leave the feature all-near out" if features else "PERCPU_DEFINE in place of PERCPU_DEFINE_NEAR") in done.stderr


@pytest.mark.parametrize("section", [".percpu.n", ".percpu..aligned.n", ".percpu..page_aligned.n", ".percpu..read_mostly.n"])
@pytest.mark.parametrize("linker", toolchain.LINKERS)
def test_with_all_near_every_variable_ends_within_reach(tmp_path, linker, section):
    assert link_for(tmp_path, "riscv64", linker, near(2049, section)).returncode == 0
    done = link_for(tmp_path, "riscv64", linker, near(2049, section), features=["all-near"])
    assert done.returncode != 0
    assert "ERROR(percpu): the near variables end beyond 2048 bytes" in done.stderr


@pytest.mark.parametrize("feature", ["non-zero-vma", "base-register=user"])
@pytest.mark.parametrize("linker", toolchain.LINKERS)
def test_near_variables_have_no_limit_in_image_or_behind_a_base_of_the_users_own(tmp_path, linker, feature):
    assert link_for(tmp_path, "riscv64", linker, near(9000), features=[feature]).returncode == 0


@pytest.mark.parametrize("linker", toolchain.LINKERS)
def test_areas_fit_below_four_gigabytes_on_32_bits(tmp_path, linker):
    done = link_for(tmp_path, "arm", linker, toolchain.variable("x", 1) + "char pad[1];", cpu_num=65536)
    assert done.returncode == 0, done.stderr
    big = '__attribute__((section(".percpu.big"), used)) char percpu_storage_big[65536] = {1};\n'
    done = link_for(tmp_path, "arm", linker, big, cpu_num=65536)
    assert done.returncode != 0
    assert "ERROR(percpu): the areas of 65536 CPUs do not fit below 4 GiB" in done.stderr


@pytest.mark.parametrize("names", [("__bss_start", "__bss_end"), ("_sbss", "_ebss"), ("_bss_start", "_bss_end")])
@pytest.mark.parametrize("layout", ["", "non-zero-vma"])
def test_the_template_is_not_cleared_with_bss(tmp_path, layout, names):
    """GNU ld inserts behind a symbol that follows .data with no assignment to `.` between."""
    start, end = names
    kernel = toolchain.compile_c(tmp_path, toolchain.KERNEL + toolchain.variable("x", 1))
    script = toolchain.HIGHER_HALF.replace("__bss_start", start).replace("__bss_end", end)
    assert toolchain.try_link(tmp_path, [kernel], [render_fragment(2, "x86_64", layout), script]).returncode == 0
    overtaken = script.replace("  . = ALIGN(16);\n", "")
    done = toolchain.try_link(tmp_path, [kernel], [render_fragment(2, "x86_64", layout), overtaken])
    assert done.returncode != 0
    assert f"ERROR(percpu): the template lies between {start} and {end}" in done.stderr
    assert f"Write `. = .;` before `{start} = .;`" in done.stderr
    # lld does not insert there.
    assert toolchain.try_link(tmp_path, [kernel], [render_fragment(2, "x86_64", layout, "lld"), overtaken], linker="lld").returncode == 0


@pytest.mark.parametrize("layout", ["", "non-zero-vma"])
@pytest.mark.parametrize("linker", toolchain.LINKERS)
def test_percpu_in_the_users_script_as_well(tmp_path, linker, layout):
    kernel = toolchain.compile_c(tmp_path, toolchain.KERNEL + toolchain.variable("x", 1))
    script = toolchain.HIGHER_HALF.replace("  . = ALIGN(16);", toolchain.SEED_SECTION)
    with pytest.raises(PercpuError, match="has an output section .percpu already"):
        find_anchor(script, linker)
    done = toolchain.try_link(tmp_path, [kernel], [render_fragment(2, "x86_64", layout, linker), script], linker=linker)
    if linker == "lld":
        assert done.returncode != 0
        assert "ERROR(percpu): .percpu holds more than this script has put there" in done.stderr
    else:
        # GNU ld evaluates the ASSERT before the second definition of _percpu_load_end, which is the script's.
        assert not check(tmp_path / "kernel.elf").ok


@pytest.mark.parametrize("layout", ["", "non-zero-vma", "pristine", "non-zero-vma pristine"])
@pytest.mark.parametrize("linker", toolchain.LINKERS)
def test_an_orphan_does_not_land_in_the_areas_unseen(tmp_path, linker, layout):
    orphan = '__attribute__((section(".orphan"), used)) int orphan = 1;\n'
    # A name that GNU ld does not take for the usual home of data.
    script = toolchain.HIGHER_HALF.replace(".data :", ".kdata :").replace("ADDR(.data)", "ADDR(.kdata)")
    fragment = render_fragment(2, "x86_64", layout, linker, insert_after=".kdata")
    kernel = toolchain.compile_c(tmp_path, toolchain.KERNEL + toolchain.variable("x", 1))
    done = toolchain.try_link(tmp_path, [kernel], [fragment, script], linker=linker)
    assert done.returncode == 0, done.stderr
    kernel = toolchain.compile_c(tmp_path, toolchain.KERNEL + toolchain.variable("x", 1) + orphan)
    done = toolchain.try_link(tmp_path, [kernel], [fragment, script], linker=linker)
    assert done.returncode != 0
    # lld sees the overlap by itself in the zero-VMA layout, and names the section.
    ours = "ERROR(percpu): the linker has put a section that your script does not place right behind .percpu"
    assert ours in done.stderr or (linker == "lld" and "section .orphan load address range overlaps" in done.stderr)
    assert "BUG(percpu)" not in done.stderr
