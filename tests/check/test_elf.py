"""The headers, and the symbols that are read in bulk, are those that ELFFile of pyelftools reads, one at a time."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import toolchain
from elftools.elf.elffile import ELFFile
from percpu_tools.image import Image

# Both classes and both byte orders; the last two are nobody's target here.
TARGETS = (
    "x86_64-none-elf",
    "aarch64-none-elf",
    "armv7a-none-eabi",
    "riscv64-unknown-elf",
    "riscv32-unknown-elf",
    "loongarch64-unknown-elf",
    "powerpc64-none-elf",
    "powerpc-none-elf",
)
# A letter that every name here has.
PATTERNS = tuple(letter.encode() for letter in "aeiouy_$.0123456789")
SPECIAL = {"SHN_UNDEF": 0, "SHN_ABS": 0xFFF1, "SHN_COMMON": 0xFFF2}
KNOWN_TYPES = {"SHT_PROGBITS", "SHT_NOBITS", "SHT_SYMTAB", "SHT_STRTAB", "SHT_RELA", "SHT_REL", "SHT_NOTE", "SHT_INIT_ARRAY", "SHT_NULL"}
SOURCE = """
int zeros[100], numbers[] = {1, 2, 3}, *pointer = numbers;
__attribute__((section(".percpu.counter"), aligned(64))) long counter = 7;
extern int elsewhere __attribute__((weak));
static int hidden(void) { return counter + *pointer + zeros[3]; }
int text(void) { return hidden(); }
_Thread_local int of_a_thread = 1;
const char *words(void) { return "a string"; }
int weak(void) __attribute__((weak));
int weak(void) { return &elsewhere ? elsewhere : of_a_thread; }
"""


def compile_for(folder: Path, target: str, *flags: str) -> Path:
    (folder / "some.c").write_text(SOURCE)
    path = folder / f"{target}.o"
    command = ["clang-19", f"--target={target}", "-ffreestanding", "-fno-pic", "-g", *flags, "-c", str(folder / "some.c"), "-o", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return path


def compare(path: Path) -> None:
    with path.open("rb") as file, Image(path) as image:
        theirs = ELFFile(file)
        assert (image.elf_class, image.little_endian, image.machine, image.type, image.entry) == (
            *(theirs.elfclass, theirs.little_endian),
            *(theirs["e_machine"], theirs["e_type"], theirs["e_entry"]),
        )
        names = "sh_flags sh_addr sh_offset sh_size sh_addralign sh_link sh_entsize sh_info".split()
        ours = [
            (section.name, section.flags, section.address, section.offset)
            + (section.size, section.alignment, section.link, section.entry_size, section.info)
            for section in image.sections
        ]
        # No alignment is one of 0 or 1 (gABI, "Section Header").
        one = {"sh_addralign": 1}
        assert ours == [(section.name, *(max(section[it], one.get(it, 0)) for it in names)) for section in theirs.iter_sections()]
        for section, other in zip(image.sections, theirs.iter_sections()):
            # The others are told by their number.
            assert section.type == other["sh_type"] or section.type not in KNOWN_TYPES

        load = [it for it in theirs.iter_segments() if it["p_type"] == "PT_LOAD"]
        assert [(it.offset, it.address, it.load_address, it.file_size, it.memory_size) for it in image.segments] == [
            (it["p_offset"], it["p_vaddr"], it["p_paddr"], it["p_filesz"], it["p_memsz"]) for it in load
        ]

        # Those of sections have the section's name in pyelftools, and none in the file.
        symbols = [it for it in theirs.get_section_by_name(".symtab").iter_symbols() if it["st_info"]["type"] != "STT_SECTION" and it.name]
        expected = {
            (it.name, it["st_value"], it["st_size"], it["st_info"]["type"][4:], it["st_info"]["bind"][4:])
            + (SPECIAL.get(it["st_shndx"], it["st_shndx"]),)
            for it in symbols
        }
        found = [it for it in image.symbols(PATTERNS) if it.name]
        assert {(it.name, it.value, it.size, it.type, it.binding, it.section) for it in found} == expected
        assert len(expected) > 5
        # By their section, too.
        for section in image.sections[1:]:
            of_it = {it.name for it in image.symbols((), [section.number]) if it.type != "SECTION" and it.name}
            assert of_it == {it.name for it in symbols if it["st_shndx"] == section.number}


@pytest.mark.parametrize("target", TARGETS)
def test_an_object(tmp_path, target):
    compare(compile_for(tmp_path, target))


@pytest.mark.parametrize("linker", toolchain.LINKERS)
def test_a_program(tmp_path, linker):
    path = compile_for(tmp_path, "x86_64-none-elf")
    done = toolchain.try_link(tmp_path, [path], ["SECTIONS { .text 0x100000 : { *(.text*) } }"], linker=linker)
    assert done.returncode == 0, done.stderr
    compare(tmp_path / "kernel.elf")


def test_an_object_of_more_sections_than_the_header_can_count(tmp_path):
    (tmp_path / "many.s").write_text("".join(f".section .data.{n}\nvariable_{n}: .byte {n % 251}\n" for n in range(0xFF10)))
    toolchain.run(["as", str(tmp_path / "many.s"), "-o", str(tmp_path / "many.o")])
    with Image(tmp_path / "many.o") as image, (tmp_path / "many.o").open("rb") as file:
        assert len(image.sections) == ELFFile(file).num_sections() > 0xFF00
        assert image.sections[-1].name == ".shstrtab"
