"""The structures of an ELF file: header, section headers, program headers, notes.

Every number in them is the file's own claim: what is read here is within the file's bytes, and nothing is
allocated by a size that a header gives. pyelftools says how each structure is laid out; its `ELFFile`, which
believes the numbers, is not used. The names are those of the gABI.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple, Union

from elftools.elf.structs import ELFStructs

from percpu_tools.names import printable

if TYPE_CHECKING:
    from elftools.construct import Container, Struct

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

    structs: ELFStructs
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
    structs = ELFStructs(little_endian=data[5] == 1, elfclass=32 * data[4])
    structs.create_basic_structs()
    size = structs.Elf_Ehdr.sizeof()
    if len(data) < size:
        raise Truncated("the ELF header cannot be read: the file is truncated or damaged")
    found = structs.Elf_Ehdr.parse(bytes(data[:size]))
    structs.create_advanced_structs(found.e_type, found.e_machine, found.e_ident.EI_OSABI)
    header = Header(
        structs=structs,
        elf_class=structs.elfclass,
        little_endian=structs.little_endian,
        type=str(found.e_type),
        machine=str(found.e_machine),
        entry=found.e_entry,
        program_offset=found.e_phoff,
        program_count=found.e_phnum,
        program_entry_size=found.e_phentsize,
        section_offset=found.e_shoff,
        section_count=found.e_shnum,
        section_entry_size=found.e_shentsize,
        names_section=found.e_shstrndx,
    )
    return _with_large_counts(header, data)


def _with_large_counts(header: Header, data: Bytes) -> Header:
    no_count = header.section_count == 0 and header.section_offset != 0
    if not (no_count or header.names_section == _IN_SECTION_0 or header.program_count == _IN_SECTION_0):
        return header
    layout = header.structs.Elf_Shdr
    first = next(_entries(data, layout, "e_shoff", header.section_offset, 1, layout.sizeof()))
    return header._replace(
        section_count=first.sh_size if no_count else header.section_count,
        names_section=first.sh_link if header.names_section == _IN_SECTION_0 else header.names_section,
        program_count=first.sh_info if header.program_count == _IN_SECTION_0 else header.program_count,
    )


def read_sections(header: Header, data: Bytes) -> tuple[Section, ...]:
    """The section headers, with their names."""
    if header.section_count > MOST_SECTIONS:
        raise ElfError(f"{header.section_count} section headers: expected at most {MOST_SECTIONS}")
    entries = list(
        _entries(
            data,
            header.structs.Elf_Shdr,
            "e_shoff",
            header.section_offset,
            header.section_count,
            header.section_entry_size,
        )
    )
    names_begin = names_end = 0
    if 0 < header.names_section < len(entries):
        names = entries[header.names_section]
        names_begin, names_end = min(names.sh_offset, len(data)), min(names.sh_offset + names.sh_size, len(data))
    return tuple(
        Section(
            number=number,
            name=_text(data, names_begin + entry.sh_name, names_end),
            type=str(entry.sh_type),
            flags=entry.sh_flags,
            address=entry.sh_addr,
            offset=entry.sh_offset,
            size=entry.sh_size,
            alignment=max(entry.sh_addralign, 1),
            link=entry.sh_link,
            entry_size=entry.sh_entsize,
            info=entry.sh_info,
        )
        for number, entry in enumerate(entries)
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
    layout = header.structs.Elf_Phdr
    for entry in _entries(
        data, layout, "e_phoff", header.program_offset, header.program_count, header.program_entry_size
    ):
        if entry.p_type != "PT_LOAD":
            continue
        if len(found) == most:
            raise ElfError(f"more than {most} load segments: expected at most {most}")
        found.append(Segment(entry.p_offset, entry.p_vaddr, entry.p_paddr, entry.p_filesz, entry.p_memsz))
    return tuple(found)


def _entries(
    data: Bytes, layout: Struct, field: str, offset: int, count: int, entry_size: int
) -> Iterator[Container]:
    """The entries of a table of headers."""
    if count == 0:
        return
    size = layout.sizeof()
    if entry_size != size:
        raise ElfError(f"entries of {entry_size} bytes at {field}: expected {size}")
    end = offset + count * size
    if end > len(data):
        headers = "header" if count == 1 else "headers"
        raise Truncated(
            f"{count} {headers} at {field} end at byte {end}, but the file has {len(data)}: it is truncated"
        )
    for begin in range(offset, end, size):
        yield layout.parse(bytes(data[begin : begin + size]))


def notes(header: Header, contents: Bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and description of a section's notes (gABI, "Note Section"), up to the first that is not whole."""
    layout = header.structs.Elf_Nhdr
    at = 0
    while at + layout.sizeof() <= len(contents):
        begin = at + layout.sizeof()
        note = layout.parse(bytes(contents[at:begin]))
        description = begin + -(-note.n_namesz // 4) * 4
        end = description + note.n_descsz
        if end > len(contents):
            return
        yield bytes(contents[begin : begin + note.n_namesz]).rstrip(b"\0"), bytes(contents[description:end])
        at = description + -(-note.n_descsz // 4) * 4
