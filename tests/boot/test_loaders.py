"""Kernels as loaders other than QEMU's take them.

A flat binary; GRUB, which reads the ELF file by multiboot2; and loaders that map segments where they are linked: one of
our own (kernel/x86_64/loader.cpp), and Limine itself where --limine names a folder with a release of it.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from shutil import copy

import pytest
from boot.boards import BOARDS
from boot.qemu import Boot, boot
from boot.test_boot import rows

LAYOUTS = pytest.mark.parametrize("features", [(), ("non-zero-vma",)], ids=["zero-vma", "in-image"])

# A header of multiboot2 with the address of the entry, where the loader has turned paging off (Multiboot2
# Specification 2.0, 3.1.2 and 3.1.6). It has to stand in the first 32 KiB of the file.
MULTIBOOT2 = """\
        .section .boot.text, "ax", @progbits
        .balign 8
multiboot2:
        .long 0xe85250d6, 0, multiboot2_end - multiboot2
        .long -(0xe85250d6 + (multiboot2_end - multiboot2))
        .short 3, 0
        .long 12, pvh_entry
        .balign 8
        .short 0, 0
        .long 8
multiboot2_end:
"""
GRUB_CFG = """\
terminal_output serial
set timeout=0
menuentry kernel { multiboot2 /boot/kernel.elf }
"""


@LAYOUTS
@pytest.mark.parametrize("arch", ["riscv64", "riscv32"])
def test_a_flat_binary(arch: str, features: tuple[str, ...], build_by_hand: Callable[..., Path]) -> None:
    """Without program headers, each byte lies where its load address says: at the template's, not at 0."""
    elf = build_by_hand(board_name=arch, features=features)
    binary = elf.with_suffix(".bin")
    subprocess.run([f"{BOARDS[arch].triplet}-objcopy", "-O", "binary", elf, binary], check=True, timeout=60)
    assert binary.stat().st_size < 1 << 20
    result = boot(BOARDS[arch], binary, 4)
    assert result.ok, f"{result.problem}\n{result.output}"
    assert len(rows(result.output)) == 4


# GRUB reads each segment into the next free memory and moves it from there to its load address. Where that memory is the
# template's place, a copy stays behind, and the kernel finds its initial values wherever it is loaded: so leave a gap.
TABLE = "  .percpu_table"
GAP = f"  . += 0x20000;\n{TABLE}"
LOADED_AT = ": AT(LOADADDR(.percpu_table) + SIZEOF(.percpu_table))\n"


@LAYOUTS
def test_grub_loads_by_multiboot2(features: tuple[str, ...], build_by_hand: Callable[..., Path], tmp_path: Path) -> None:
    result = boot_by_grub(build_by_hand, tmp_path, features, lambda fragment: changed(fragment, TABLE, GAP))
    assert result.ok, f"{result.problem}\n{result.output}"
    assert len(rows(result.output)) == 4


def test_grub_goes_by_the_load_address(build_by_hand: Callable[..., Path], tmp_path: Path) -> None:
    def elsewhere(fragment: str) -> str:
        return changed(changed(fragment, TABLE, GAP), LOADED_AT, ": AT(0x700000)\n")

    result = boot_by_grub(build_by_hand, tmp_path, (), elsewhere)
    assert "FAILED: " in result.output


def changed(text: str, old: str, new: str) -> str:
    assert text.count(old) == 1
    return text.replace(old, new)


def boot_by_grub(
    build_by_hand: Callable[..., Path], folder: Path, features: tuple[str, ...], change_fragment: Callable[[str], str]
) -> Boot:
    entry = '        .section .boot.text, "ax", @progbits\n        .code32\n        .global pvh_entry\n'
    changes = [("x86_64/entry.S", entry, MULTIBOOT2 + entry)]
    elf = build_by_hand(features=features, changes=changes, change_fragment=change_fragment)
    disc = folder / "disc" / "boot"
    (disc / "grub").mkdir(parents=True)
    copy(elf, disc)
    (disc / "grub" / "grub.cfg").write_text(GRUB_CFG)
    image = folder / "disc.iso"
    command = ["grub-mkrescue", "-o", str(image), str(disc.parent), "--", "-volid", "PERCPU"]
    made = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert made.returncode == 0, made.stderr
    return boot(replace(BOARDS["x86_64"], boots_from=("-cdrom", "{}")), image, 4, timeout=120)


# Where the loader finds the kernel's file, as in loader.cpp.
FILE_ADDRESS = 0x4000000
WITHOUT_LOAD_ADDRESSES = re.compile(r"AT\(ADDR\([.a-z]+\) - KERNEL_BASE\) *")
LIMINE_CONF = """\
timeout: 0
serial: yes
/kernel
    protocol: limine
    kernel_path: boot():/boot/kernel.elf
"""


def without_load_addresses(script: str) -> str:
    assert WITHOUT_LOAD_ADDRESSES.search(script)
    return WITHOUT_LOAD_ADDRESSES.sub("", script)


@pytest.mark.parametrize("change_script", [str, without_load_addresses], ids=["load addresses", "none"])
def test_a_loader_that_maps_segments_where_they_are_linked(
    change_script: Callable[[str], str], build_by_hand: Callable[..., Path], tmp_path: Path
) -> None:
    result = boot_where_linked(build_by_hand, tmp_path, ("non-zero-vma",), change_script)
    assert result.ok, f"{result.problem}\n{result.output}"
    assert "loaded\n" in result.output
    assert len(rows(result.output)) == 4


def test_such_a_loader_refuses_the_zero_vma_layout(build_by_hand: Callable[..., Path], tmp_path: Path) -> None:
    result = boot_where_linked(build_by_hand, tmp_path, ())
    assert "FAILED: segments are linked at 0xffffffff80000000 or above\n" in result.output


def test_limine(build_by_hand: Callable[..., Path], tmp_path: Path, limine: Path) -> None:
    result = boot_by_limine(build_by_hand, tmp_path, ("non-zero-vma",), limine)
    assert result.ok, f"{result.problem}\n{result.output}"
    assert len(rows(result.output)) == 4


def test_limine_refuses_the_zero_vma_layout(build_by_hand: Callable[..., Path], tmp_path: Path, limine: Path) -> None:
    result = boot_by_limine(build_by_hand, tmp_path, (), limine)
    assert "Lower half PHDRs are not allowed" in result.output


@pytest.fixture
def limine(pytestconfig: pytest.Config) -> Path:
    folder = pytestconfig.getoption("--limine")
    if not folder:
        pytest.skip("no --limine FOLDER: Debian has no package of Limine")
    return Path(folder)


def boot_where_linked(
    build_by_hand: Callable[..., Path],
    folder: Path,
    features: tuple[str, ...],
    change_script: Callable[[str], str] = str,
) -> Boot:
    loader = build_by_hand("x86_64/loader.cpp").rename(folder / "loader.elf")
    elf = build_by_hand(board_name="x86_64-limine", features=features, change_script=change_script)
    file = f"loader,file={{}},addr={FILE_ADDRESS:#x},force-raw=on"
    return boot(replace(BOARDS["x86_64-limine"], boots_from=("-kernel", str(loader), "-device", file)), elf, 4)


def boot_by_limine(build_by_hand: Callable[..., Path], folder: Path, features: tuple[str, ...], limine: Path) -> Boot:
    elf = build_by_hand(board_name="x86_64-limine", features=features)
    disc = folder / "disc" / "boot"
    disc.mkdir(parents=True)
    for file in (elf, limine / "limine-bios.sys", limine / "limine-bios-cd.bin"):
        copy(file, disc)
    (disc / "limine.conf").write_text(LIMINE_CONF)
    image = folder / "disc.iso"
    # USAGE.md of Limine 8, "Creating a hybrid ISO with xorriso", for the BIOS alone.
    loader = ("-b", "boot/limine-bios-cd.bin", "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table")
    command = ["xorriso", "-as", "mkisofs", "-R", "-J", *loader, str(disc.parent), "-o", str(image)]
    made = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert made.returncode == 0, made.stderr
    return boot(replace(BOARDS["x86_64-limine"], boots_from=("-cdrom", "{}")), image, 4, timeout=30)
