"""The structures of an ELF file: header, section headers, program headers, notes.

Every number in them is the file's own claim: what is read here is within the file's bytes, and nothing is
allocated by a size that a header gives. A check takes less time than
importing a library for all of ELF would. The names are those of the gABI.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from typing import NamedTuple, Union

from percpu_tools.names import printable

Bytes = Union[bytes, memoryview, mmap.mmap]

SHF_WRITE = 0x1
SHF_ALLOC = 0x2
SHF_EXECINSTR = 0x4
SHF_TLS = 0x400

# e_shnum, e_shstrndx and e_phnum that do not fit their field are in the section header 0 (gABI, "ELF Header").
_IN_SECTION_0 = 0xFFFF
_LORESERVE = 0xFF00

# Linkers make hundreds of sections at most; objects may have more, and are not for us.
MOST_SECTIONS = 1 << 16
# The longest name of a section that is kept whole: a damaged table of names has no end.
_LONGEST_NAME = 1024

_FILE_TYPES = {0: "ET_NONE", 1: "ET_REL", 2: "ET_EXEC", 3: "ET_DYN", 4: "ET_CORE"}
# Those of the targets, and of other kernels that people may ask about.
_MACHINES = {
    3: "EM_386",
    8: "EM_MIPS",
    20: "EM_PPC",
    21: "EM_PPC64",
    22: "EM_S390",
    40: "EM_ARM",
    43: "EM_SPARCV9",
    62: "EM_X86_64",
    183: "EM_AARCH64",
    243: "EM_RISCV",
    258: "EM_LOONGARCH",
}
_SECTION_TYPES = {
    0: "SHT_NULL",
    1: "SHT_PROGBITS",
    2: "SHT_SYMTAB",
    3: "SHT_STRTAB",
    4: "SHT_RELA",
    5: "SHT_HASH",
    6: "SHT_DYNAMIC",
    7: "SHT_NOTE",
    8: "SHT_NOBITS",
    9: "SHT_REL",
    11: "SHT_DYNSYM",
    14: "SHT_INIT_ARRAY",
    15: "SHT_FINI_ARRAY",
    16: "SHT_PREINIT_ARRAY",
    17: "SHT_GROUP",
    18: "SHT_SYMTAB_SHNDX",
    19: "SHT_RELR",
}
_PT_LOAD = 1

# Behind e_ident: Elf32_Ehdr, Elf64_Ehdr.
_HEADER = {32: "HHIIIIIHHHHHH", 64: "HHIQQQIHHHHHH"}
# Elf32_Shdr, Elf64_Shdr: the same order in both.
_SECTION = {32: "IIIIIIIIII", 64: "IIQQQQIIQQ"}
# Elf32_Phdr, Elf64_Phdr.
_PROGRAM = {32: "IIIIIIII", 64: "IIQQQQQQ"}


class ElfError(Exception):
    """What is wrong with the file, in words that follow its name."""


class Truncated(ElfError):
    """A structure ends behind the end of the file."""


class Section(NamedTuple):
    number: int
    name: str
    type: str
    flags: int
    address: int
    offset: int
    size: int
    alignment: int
    link: int
    entry_size: int
    info: int = 0

    @property
    def shown(self) -> str:
        """The name as a message may have it: it may hold anything, also a line's end."""
        return printable(self.name)

    @property
    def end(self) -> int:
        return self.address + self.size

    @property
    def is_allocated(self) -> bool:
        return bool(self.flags & SHF_ALLOC)

    @property
    def is_executable(self) -> bool:
        return self.is_allocated and bool(self.flags & SHF_EXECINSTR)

    @property
    def has_bytes(self) -> bool:
        """Whether the file holds its contents."""
        return self.type != "SHT_NOBITS"


class Segment(NamedTuple):
    """A PT_LOAD program header."""

    offset: int
    address: int
    load_address: int
    file_size: int
    memory_size: int


class Header(NamedTuple):
    """The ELF header, with the counts that do not fit it taken from where they are."""

    elf_class: int
    little_endian: bool
    type: str
    machine: str
    entry: int
    program_offset: int
    program_count: int
    program_entry_size: int
    section_offset: int
    section_count: int
    section_entry_size: int
    names_section: int

    @property
    def order(self) -> str:
        """The byte order as `struct` writes it."""
        return "<" if self.little_endian else ">"


def read_header(data: Bytes) -> Header:
    """The header of the file with those bytes."""
    if len(data) < 6:
        raise Truncated("the ELF header cannot be read: the file is truncated or damaged")
    if data[4] not in (1, 2) or data[5] not in (1, 2):
        raise ElfError(f"the ELF header has class {data[4]} and byte order {data[5]}: expected 1 or 2 for each")
    elf_class, little_endian = 32 * data[4], data[5] == 1
    layout = struct.Struct(("<" if little_endian else ">") + _HEADER[elf_class])
    if len(data) < 16 + layout.size:
        raise Truncated("the ELF header cannot be read: the file is truncated or damaged")
    (
        kind,
        machine,
        _,
        entry,
        programs,
        sections,
        _,
        _,
        program_size,
        program_count,
        section_size,
        section_count,
        names,
    ) = layout.unpack_from(data, 16)
    header = Header(
        elf_class=elf_class,
        little_endian=little_endian,
        type=_FILE_TYPES.get(kind, str(kind)),
        machine=_MACHINES.get(machine, str(machine)),
        entry=entry,
        program_offset=programs,
        program_count=program_count,
        program_entry_size=program_size,
        section_offset=sections,
        section_count=section_count,
        section_entry_size=section_size,
        names_section=names,
    )
    return _with_large_counts(header, data)


def _with_large_counts(header: Header, data: Bytes) -> Header:
    no_count = header.section_count == 0 and header.section_offset != 0
    if not (no_count or header.names_section == _IN_SECTION_0 or header.program_count == _IN_SECTION_0):
        return header
    layout = struct.Struct(header.order + _SECTION[header.elf_class])
    if header.section_offset + layout.size > len(data):
        raise Truncated(_ends_behind(1, "e_shoff", header.section_offset + layout.size, data))
    first = layout.unpack_from(data, header.section_offset)
    return header._replace(
        section_count=first[5] if no_count else header.section_count,
        names_section=first[6] if header.names_section == _IN_SECTION_0 else header.names_section,
        program_count=first[7] if header.program_count == _IN_SECTION_0 else header.program_count,
    )


def read_sections(header: Header, data: Bytes) -> tuple[Section, ...]:
    """The section headers, with their names."""
    if header.section_count > MOST_SECTIONS:
        raise ElfError(f"{header.section_count} section headers: expected at most {MOST_SECTIONS}")
    entries = list(
        _entries(
            data,
            header.order + _SECTION[header.elf_class],
            "e_shoff",
            header.section_offset,
            header.section_count,
            header.section_entry_size,
        )
    )
    names_begin = names_end = 0
    if 0 < header.names_section < len(entries):
        _, _, _, _, offset, size, *_ = entries[header.names_section]
        names_begin, names_end = min(offset, len(data)), min(offset + size, len(data))
    return tuple(
        Section(
            number=number,
            name=_text(data, names_begin + name, names_end),
            type=_SECTION_TYPES.get(kind, str(kind)),
            flags=flags,
            address=address,
            offset=offset,
            size=size,
            alignment=max(alignment, 1),
            link=link,
            entry_size=entry_size,
            info=info,
        )
        for number, (name, kind, flags, address, offset, size, link, info, alignment, entry_size) in enumerate(entries)
    )


def _text(data: Bytes, begin: int, end: int) -> str:
    """The text there up to its NUL; what no table of names holds is nothing."""
    if begin >= end:
        return ""
    text = bytes(data[begin : min(end, begin + _LONGEST_NAME)])
    return text.split(b"\0", 1)[0].decode("utf-8", errors="backslashreplace")


def read_segments(header: Header, data: Bytes, most: int) -> tuple[Segment, ...]:
    """The load segments, of which there may be `most`."""
    found: list[Segment] = []
    layout = header.order + _PROGRAM[header.elf_class]
    for entry in _entries(
        data, layout, "e_phoff", header.program_offset, header.program_count, header.program_entry_size
    ):
        if entry[0] != _PT_LOAD:
            continue
        if len(found) == most:
            raise ElfError(f"more than {most} load segments: expected at most {most}")
        if header.elf_class == 64:
            _, _, offset, address, load_address, file_size, memory_size, _ = entry
        else:
            _, offset, address, load_address, file_size, memory_size, _, _ = entry
        found.append(Segment(offset, address, load_address, file_size, memory_size))
    return tuple(found)


def _entries(
    data: Bytes, layout: str, field: str, offset: int, count: int, entry_size: int
) -> Iterator[tuple[int, ...]]:
    """The entries of a table of headers."""
    if count == 0:
        return
    entry = struct.Struct(layout)
    if entry_size != entry.size:
        raise ElfError(f"entries of {entry_size} bytes at {field}: expected {entry.size}")
    end = offset + count * entry_size
    if end > len(data):
        raise Truncated(_ends_behind(count, field, end, data))
    yield from entry.iter_unpack(data[offset:end])


def _ends_behind(count: int, field: str, end: int, data: Bytes) -> str:
    return f"{count} headers at {field} end at byte {end}, but the file has {len(data)}: it is truncated"


def notes(contents: Bytes, order: str) -> Iterator[tuple[bytes, int, bytes]]:
    """Name, type and description of a section's notes (gABI, "Note Section"), up to the first that is not whole."""
    at = 0
    while at + 12 <= len(contents):
        name_size, description_size, kind = struct.unpack_from(order + "III", contents, at)
        begin = at + 12
        description = begin + -(-name_size // 4) * 4
        at = description + -(-description_size // 4) * 4
        if description + description_size > len(contents):
            return
        yield bytes(contents[begin : begin + name_size]).rstrip(b"\0"), kind, bytes(
            contents[description : description + description_size]
        )
