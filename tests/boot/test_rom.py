"""Firmware that runs from flash: the template stays there, and init copies it into the areas in RAM."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from boot.boards import BOARDS, Board
from boot.qemu import Boot, boot
from percpu_tools import check

# QEMU's riscv virt begins in the first flash, whose file has to have its whole size.
FLASH, FLASH_SIZE, RAM = 0x20000000, 32 << 20, 0x80000000

SCRIPT = f"""\
ENTRY(_start)
MEMORY
{{
    FLASH : ORIGIN = {FLASH:#x}, LENGTH = {FLASH_SIZE}
    RAM : ORIGIN = {RAM:#x}, LENGTH = 128M
}}
SECTIONS
{{
    .text : {{ *(.boot.text) *(.text .text.*) }} >FLASH
    .rodata : {{ *(.rodata .rodata.* .srodata .srodata.*) }} >FLASH
    .data : ALIGN(16) {{ _data_start = .; *(.data .data.* .sdata .sdata.*) . = ALIGN(16); _data_end = .; }} >RAM AT>FLASH
    _data_loaded = LOADADDR(.data);
    INCLUDE percpu.ld
    .bss (NOLOAD) : ALIGN(4K) {{ *(.sbss .sbss.* .bss .bss.* COMMON) . = ALIGN(4K); _image_end = .; }} >RAM
    _memory_end = ORIGIN(RAM) + LENGTH(RAM);
    /DISCARD/ : {{ *(.comment .eh_frame .eh_frame_hdr .note.gnu.* .note.GNU-stack) }}
}}
"""
# What such firmware does before anything else.
COPY_DATA = """\
        la t0, _data_start
        la t1, _data_loaded
        la t2, _data_end
1:      bgeu t0, t2, 2f
        lw t3, 0(t1)
        sw t3, 0(t0)
        addi t0, t0, 4
        addi t1, t1, 4
        j 1b
2:
"""
AT_RESET = "        csrw mie, zero\n        bnez a0, await_start\n"


def flash(board: Board, elf: Path) -> Path:
    """The contents of the flash, made as by the makers of firmware."""
    image = elf.with_suffix(".bin")
    subprocess.run([f"{board.triplet}-objcopy", "-O", "binary", elf, image], check=True, timeout=60)
    assert image.stat().st_size < 1 << 20
    with image.open("r+b") as file:
        file.truncate(FLASH_SIZE)
    return image


@pytest.mark.parametrize("layout", ["", "non-zero-vma"], ids=["zero-vma", "in-image"])
@pytest.mark.parametrize("arch", ["riscv64", "riscv32"])
def test_the_template_stays_in_flash(arch: str, layout: str, build_by_hand: Callable[..., Path]) -> None:
    features = tuple(filter(None, ("pristine", layout)))
    assert run(arch, features, build_by_hand, load_region="FLASH").ok


def test_without_a_copy_in_ram_initial_values_are_lost(build_by_hand: Callable[..., Path]) -> None:
    """The startup code copies .data alone; percpu-check sees that nothing copies the template."""
    result = run("riscv64", ("non-zero-vma",), build_by_hand)
    assert result.problem and "the kernel's check failed" in result.problem


def run(arch: str, features: tuple[str, ...], build_by_hand: Callable[..., Path], **regions: str) -> Boot:
    elf = build_by_hand(
        board_name=arch,
        features=features,
        changes=[("riscv/entry.S", AT_RESET, AT_RESET + COPY_DATA)],
        change_script=lambda _: SCRIPT,
        mode="include",
        region="RAM",
        **regions,
    )
    report = check(elf)
    assert [finding.rule for finding in report.findings] == ([] if regions else ["T06"])
    if regions:
        assert FLASH <= report.layout.loaded < FLASH + FLASH_SIZE
    assert RAM <= report.layout.start < report.layout.end
    board = replace(BOARDS[arch], boots_from=("-drive", "if=pflash,unit=0,format=raw,readonly=on,file={}"))
    return boot(board, flash(board, elf), 4)
