"""An ELF file, read as far as the rules need it.

pyelftools reads the structures of the format: header, sections, segments, notes. Symbol tables are
read in bulk with `struct`, because a kernel has a few hundred thousand symbols of which a few dozen
matter. Whatever is wrong with the file, the one exception that leaves this module is PercpuError.
"""

from __future__ import annotations

import mmap
import os
import re
import stat
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, NamedTuple, cast

from elftools.elf.elffile import ELFFile
from elftools.elf.notes import iter_notes

from percpu_tools import targets
from percpu_tools.errors import PercpuError
from percpu_tools.note import Note, parse_note

if TYPE_CHECKING:
    from elftools.dwarf.dwarfinfo import DWARFInfo

SHF_WRITE = 0x1
SHF_ALLOC = 0x2
SHF_EXECINSTR = 0x4
SHF_TLS = 0x400

# Special section indices (gABI, "Special Section Indexes").
SHN_UNDEF = 0
SHN_LORESERVE = 0xFF00
SHN_ABS = 0xFFF1
SHN_COMMON = 0xFFF2
SHN_XINDEX = 0xFFFF

NOTE_SECTION = ".note.percpu"

# Sizes of the structures (gABI): file offsets that the header gives are checked against the file with these.
_SECTION_HEADER_SIZE = {32: 40, 64: 64}
_PROGRAM_HEADER_SIZE = {32: 32, 64: 56}
# st_name, then the rest in the order that each class has it.
_SYMBOL_FORMAT = {32: "IIIBBH", 64: "IBBHQQ"}

_SYMBOL_TYPES = {0: "NOTYPE", 1: "OBJECT", 2: "FUNC", 3: "SECTION", 4: "FILE", 5: "COMMON", 6: "TLS"}
_SYMBOL_BINDINGS = {0: "LOCAL", 1: "GLOBAL", 2: "WEAK", 10: "UNIQUE"}

_LOCALS_LOOKED_AT = 1000

# A kernel has a dozen. Every section is looked for in each of them, which a hostile file would make last for ever.
_MOST_SEGMENTS = 256

# Elf32_Rel(a), Elf64_Rel(a): r_offset, r_info and, in Rela, r_addend.
_RELOCATION_FORMAT = {(32, "SHT_REL"): "II", (32, "SHT_RELA"): "IIi", (64, "SHT_REL"): "QQ", (64, "SHT_RELA"): "QQq"}


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


class Symbol(NamedTuple):
    name: str
    value: int
    size: int
    type: str
    section: int
    binding: str = "GLOBAL"


class Relocation(NamedTuple):
    """An entry of a relocation table, with the value of its symbol looked up.

    `addend` is `None` where the place itself holds it (SHT_REL), and `symbol` where the entry names none.
    """

    offset: int
    type: int
    symbol: Symbol | None
    addend: int | None


class Image:
    """One ELF file, open until `close`; use it in a `with` statement."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self._bytes = _map(self.path)
        with self._reading("the ELF header"):
            # It reads from the mapped bytes, not from the file: a size that the file claims for a
            # structure is then cut at its end, and not allocated first.
            self._elf = ELFFile(cast("IO[bytes]", self._bytes))
            header = self._elf.header
            self.elf_class: int = self._elf.elfclass
            self.little_endian: bool = self._elf.little_endian
            self.machine = str(header["e_machine"])
            self.type = str(header["e_type"])
            self.entry = int(header["e_entry"])
            self._check_table("e_shoff", header["e_shoff"], self._elf.num_sections(), header["e_shentsize"], _SECTION_HEADER_SIZE)
            self._check_table("e_phoff", header["e_phoff"], self._elf.num_segments(), header["e_phentsize"], _PROGRAM_HEADER_SIZE)
        with self._reading("the section headers"):
            self.sections: tuple[Section, ...] = tuple(self._sections())
        with self._reading("the program headers"):
            self.segments: tuple[Segment, ...] = tuple(self._segments())
            if len(self.segments) > _MOST_SEGMENTS:
                raise PercpuError(f"{self.path}: {len(self.segments)} load segments: expected at most {_MOST_SEGMENTS}")
        self.target = targets.target_of_elf(self.machine, self.elf_class)
        self._symbol_table = next((section for section in self.sections if section.type == "SHT_SYMTAB"), None)

    def __enter__(self) -> Image:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._bytes.close()

    @property
    def has_symbols(self) -> bool:
        return self._symbol_table is not None and self._symbol_table.size > 0

    @property
    def has_local_symbols(self) -> bool:
        """Whether the symbol table has local symbols beside those of the sections; `ld -x` drops them."""
        table = self._symbol_table
        if table is None:
            return False
        # sh_info is the index of the first symbol that is not local (gABI, "sh_link and sh_info Interpretation").
        # Compilers name the source first, so one of the first few answers.
        with self._reading("the symbol table"):
            count = table.size // struct.calcsize(self._order + _SYMBOL_FORMAT[self.elf_class])
            locals_ = range(1, min(table.info, count, _LOCALS_LOOKED_AT))
            return any(self._symbol_at(table, index).type != "SECTION" for index in locals_)

    def section(self, name: str) -> Section | None:
        """The first section of that name."""
        return next((section for section in self.sections if section.name == name), None)

    def section_at(self, index: int) -> Section | None:
        """The section of that index; `None` for the special ones (undefined, absolute, common)."""
        return self.sections[index] if 0 < index < len(self.sections) else None

    def load_address(self, section: Section) -> int | None:
        """Where a loader that goes by physical addresses puts the section; `None` if no segment has it."""
        for segment in self.segments:
            into = section.address - segment.address
            in_file = not section.has_bytes or section.offset - segment.offset == into
            if into >= 0 and section.end <= segment.address + segment.memory_size and in_file:
                return segment.load_address + into
        return None

    def symbols(self, pattern: bytes, sections: Iterable[int] = ()) -> list[Symbol]:
        """The symbols in whose name `pattern` (a regular expression) is found, and all of the given sections."""
        if not self.has_symbols:
            return []
        with self._reading("the symbol table"):
            return list(self._select_symbols(re.compile(pattern), frozenset(sections)))

    def note(self) -> Note | None:
        """What the runtime says it was built for, if the file has its note."""
        section = self.section(NOTE_SECTION)
        if section is None or section.type != "SHT_NOTE":
            return None
        with self._reading(f"section {NOTE_SECTION}"):
            for note in iter_notes(self._elf, section.offset, section.size):
                if note["n_name"] == "percpu" and len(note["n_descdata"]) == note["n_descsz"]:
                    return parse_note(note["n_descdata"])
        return None

    def data(self, section: Section, address: int, size: int) -> bytes:
        """The bytes that the file holds for those addresses of a section."""
        into = address - section.address
        return bytes(self._contents(section)[max(into, 0) : max(into + size, 0)])

    def words(self, section: Section) -> list[tuple[int, int]]:
        """Every aligned pointer-sized word of a section's contents, with its address."""
        size = self.elf_class // 8
        contents = self._contents(section)
        first = -section.address % size
        last = first + (max(len(contents) - first, 0) // size) * size
        unpacked = struct.iter_unpack(self._order + ("I" if size == 4 else "Q"), contents[first:last])
        return [(section.address + first + number * size, word) for number, (word,) in enumerate(unpacked)]

    def relocations(self, section: Section) -> Iterator[Relocation]:
        """The entries of a section of type SHT_REL or SHT_RELA."""
        with self._reading(f"section {section.name}"):
            layout = struct.Struct(self._order + _RELOCATION_FORMAT[self.elf_class, section.type])
            if section.entry_size != layout.size or section.size % layout.size:
                raise PercpuError(f"{self.path}: entries of {section.entry_size} bytes in {section.name}: expected {layout.size}")
            table = self.section_at(section.link)
            shift = 32 if self.elf_class == 64 else 8
            for offset, info, *addend in layout.iter_unpack(self._contents(section)):
                index = info >> shift
                yield Relocation(
                    offset=offset,
                    type=info & ((1 << shift) - 1),
                    symbol=self._symbol_at(table, index) if table is not None and index else None,
                    addend=addend[0] if addend else None,
                )

    def debug_information(self) -> DWARFInfo | None:
        """The DWARF sections, read whole; `None` if there are none."""
        if not self._elf.has_dwarf_info(strict=True):
            return None
        # A linked file is relocated already, also where --emit-relocs has left the relocations in it.
        return self._elf.get_dwarf_info(relocate_dwarf_sections=False, follow_links=False)

    @contextmanager
    def _reading(self, what: str) -> Iterator[None]:
        try:
            yield
        except PercpuError:
            raise
        except Exception as error:
            # A damaged file surfaces in pyelftools as almost any exception (ELFError, construct's, struct's,
            # AttributeError, KeyError, UnicodeDecodeError, ...), and all of them say the same thing.
            raise PercpuError(
                f"{self.path}: {what} cannot be read: the file is truncated or damaged",
                fix="build or copy the file again",
            ) from error

    def _check_table(self, field: str, offset: int, count: int, entry_size: int, sizes: dict[int, int]) -> None:
        if count == 0:
            return
        if entry_size != sizes[self.elf_class]:
            raise PercpuError(f"{self.path}: entries of {entry_size} bytes at {field}: expected {sizes[self.elf_class]}")
        end = offset + count * entry_size
        if end > len(self._bytes):
            raise PercpuError(
                f"{self.path}: {count} headers at {field} end at byte {end}, but the file has {len(self._bytes)}: it is truncated",
                fix="build or copy the file again",
            )

    def _sections(self) -> Iterator[Section]:
        for number, section in enumerate(self._elf.iter_sections()):
            header = section.header
            yield Section(
                number=number,
                name=section.name,
                type=str(header["sh_type"]),
                flags=header["sh_flags"],
                address=header["sh_addr"],
                offset=header["sh_offset"],
                size=header["sh_size"],
                alignment=max(header["sh_addralign"], 1),
                link=header["sh_link"],
                entry_size=header["sh_entsize"],
                info=header["sh_info"],
            )

    def _segments(self) -> Iterator[Segment]:
        for segment in self._elf.iter_segments():
            header = segment.header
            if header["p_type"] == "PT_LOAD":
                yield Segment(
                    offset=header["p_offset"],
                    address=header["p_vaddr"],
                    load_address=header["p_paddr"],
                    file_size=header["p_filesz"],
                    memory_size=header["p_memsz"],
                )

    @property
    def _order(self) -> str:
        return "<" if self.little_endian else ">"

    def _contents(self, section: Section) -> memoryview:
        if not section.has_bytes or section.offset + section.size > len(self._bytes):
            raise PercpuError(
                f"{self.path}: section {section.name} ends at byte {section.offset + section.size}, "
                f"but the file has {len(self._bytes)}: it is truncated",
                fix="build or copy the file again",
            )
        return memoryview(self._bytes)[section.offset : section.offset + section.size]

    def _select_symbols(self, pattern: re.Pattern[bytes], sections: frozenset[int]) -> Iterator[Symbol]:
        table = self._symbol_table
        assert table is not None
        layout = struct.Struct(("<" if self.little_endian else ">") + _SYMBOL_FORMAT[self.elf_class])
        if table.entry_size != layout.size or table.size % layout.size:
            raise PercpuError(f"{self.path}: symbols of {table.entry_size} bytes in {table.name}: expected {layout.size}")
        string_table = self.section_at(table.link)
        if string_table is None:
            raise PercpuError(f"{self.path}: {table.name} names section {table.link} for its strings: there is none")
        strings = bytes(self._contents(string_table))
        names = _offsets_of_names(strings, pattern)
        for index, entry in enumerate(layout.iter_unpack(self._contents(table))):
            if self.elf_class == 64:
                name, info, _, section, value, size = entry
            else:
                name, value, size, info, _, section = entry
            if name not in names and section not in sections:
                continue
            if section == SHN_XINDEX:
                section = self._extended_index(table, index)
            yield Symbol(
                name=self._text(strings, name),
                value=value,
                size=size,
                type=_SYMBOL_TYPES.get(info & 0xF, "OTHER"),
                section=section,
                binding=_SYMBOL_BINDINGS.get(info >> 4, "OTHER"),
            )

    def _symbol_at(self, table: Section, index: int) -> Symbol:
        """The symbol of that index, without its name, which takes longer to find than all the rest."""
        layout = struct.Struct(self._order + _SYMBOL_FORMAT[self.elf_class])
        fields = layout.unpack_from(self._contents(table), index * layout.size)
        if self.elf_class == 64:
            _, info, _, section, value, size = fields
        else:
            _, value, size, info, _, section = fields
        return Symbol("", value, size, _SYMBOL_TYPES.get(info & 0xF, "OTHER"), section, _SYMBOL_BINDINGS.get(info >> 4, "OTHER"))

    def _text(self, strings: bytes, offset: int) -> str:
        end = strings.find(b"\0", offset)
        if offset >= len(strings) or end < 0:
            raise PercpuError(f"{self.path}: a symbol's name is at byte {offset} of a string table of {len(strings)}")
        return strings[offset:end].decode("utf-8", errors="backslashreplace")

    def _extended_index(self, table: Section, index: int) -> int:
        """The section of a symbol in a file with more than 65,000 sections."""
        for section in self.sections:
            if section.type == "SHT_SYMTAB_SHNDX" and section.link == table.number:
                (extended,) = struct.unpack_from(("<" if self.little_endian else ">") + "I", self._contents(section), 4 * index)
                return int(extended)
        raise PercpuError(f"{self.path}: symbol {index} needs a section of type SHT_SYMTAB_SHNDX: there is none")


def _offsets_of_names(strings: bytes, pattern: re.Pattern[bytes]) -> set[int]:
    """The offsets in a string table at which a name begins that has `pattern` in it.

    A name that is the end of another one may share its bytes, so every offset from the beginning of
    the string up to the match counts.
    """
    offsets: set[int] = set()
    for match in pattern.finditer(strings):
        begin = strings.rfind(b"\0", 0, match.start()) + 1
        offsets.update(range(begin, match.start() + 1))
    return offsets


def _map(path: str) -> mmap.mmap:
    """The bytes of the file."""
    try:
        # Without O_NONBLOCK, a named pipe would make open() wait for a writer.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                raise PercpuError(f"{path}: not a regular file: expected an ELF file")
            # An empty file cannot be mapped.
            start = os.pread(handle, 4, 0) if status.st_size >= 4 else b""
            if start != b"\x7fELF":
                raise PercpuError(f"{path}: not an ELF file: it begins with {start!r}, expected b'\\x7fELF'")
            return mmap.mmap(handle, 0, prot=mmap.PROT_READ)
        finally:
            os.close(handle)
    except OSError as error:
        raise PercpuError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        # A NUL in the path.
        raise PercpuError(f"{path!r}: {error}") from error
