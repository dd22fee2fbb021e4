"""An ELF file, read as far as the rules need it.

The file is mapped, not read: of a kernel's hundreds of megabytes a check looks at a few. `elf` takes the headers
apart, and `symbols` the symbol table in bulk; debug information is read only when it is asked for. Whatever is wrong
with the file, the one exception that leaves this module is PercpuError.
"""

from __future__ import annotations

import mmap
import os
import re
import stat
import struct
import sys
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from operator import le
from typing import IO, TYPE_CHECKING, NamedTuple, cast

from percpu_tools import elf, targets
from percpu_tools.elf import SHF_ALLOC, SHF_EXECINSTR, SHF_TLS, SHF_WRITE, Section, Segment
from percpu_tools.errors import PercpuError
from percpu_tools.note import UNIT_SYMBOL, Note, parse_note
from percpu_tools.symbols import SHN_ABS, SHN_COMMON, SHN_LORESERVE, SHN_UNDEF, SHN_XINDEX, Symbol, SymbolTable

if TYPE_CHECKING:
    from elftools.dwarf.dwarfinfo import DWARFInfo

# What rules take from here, wherever it is defined.
__all__ = [
    "SHF_ALLOC",
    "SHF_EXECINSTR",
    "SHF_TLS",
    "SHF_WRITE",
    "SHN_ABS",
    "SHN_COMMON",
    "SHN_LORESERVE",
    "SHN_UNDEF",
    "Image",
    "Relocation",
    "Section",
    "Segment",
    "Symbol",
]

NOTE_SECTION = ".note.percpu"

_LOCALS_LOOKED_AT = 1000

# A kernel has a dozen. Every section is looked for in each of them, which a hostile file would make last for ever.
_MOST_SEGMENTS = 256

# A file of zeros may be sparse, and claim more than any memory holds. No kernel's tables are as large as this.
_LARGEST_NOTES = 1 << 20
_NOTES_LOOKED_AT = 1000
_LARGEST_RELOCATIONS = 1 << 28
_LARGEST_SYMBOLS = 1 << 30

# The sections of a file lie beside each other. Where many claim the same bytes, reading each takes for ever.
_MOST_OVERLAP = 4

_AGAIN = "build or copy the file again"

# Elf32_Rel(a), Elf64_Rel(a): r_offset, r_info and, in Rela, r_addend.
_RELOCATION_FORMAT = {(32, "SHT_REL"): "II", (32, "SHT_RELA"): "IIi", (64, "SHT_REL"): "QQ", (64, "SHT_RELA"): "QQq"}


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
            self._header = header = elf.read_header(self._bytes)
            self._order = header.order
            self.elf_class = header.elf_class
            self.little_endian = header.little_endian
            self.machine = header.machine
            self.type = header.type
            self.entry = header.entry
        with self._reading("the section headers"):
            self.sections = elf.read_sections(header, self._bytes)
            self._check_overlap()
        with self._reading("the program headers"):
            self.segments = elf.read_segments(header, self._bytes, _MOST_SEGMENTS)
        self.target = targets.target_of_elf(self.machine, self.elf_class)
        self._symbol_section = next((section for section in self.sections if section.type == "SHT_SYMTAB"), None)
        # By the number of their section: relocations name tables too.
        self._tables: dict[int, SymbolTable] = {}
        # Looking for the note in other sections takes as long as a rule.
        self._found_note: tuple[Note | None] | None = None

    def __enter__(self) -> Image:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._tables.clear()
        try:
            self._bytes.close()
        except BufferError:
            # Somebody still looks at a piece of it, most likely the traceback of an error: it is closed with that.
            return

    @property
    def has_symbols(self) -> bool:
        return self._symbol_section is not None and self._symbol_section.size > 0

    @property
    def has_local_symbols(self) -> bool:
        """Whether the symbol table has local symbols beside those of the sections; `ld -x` drops them."""
        # Linkers leave some that are no sign of others (`$d`), and make hidden ones local after that. Where the runtime
        # is, which says its version, each file that uses it has one.
        note = self.note()
        if note is not None and note.version is not None:
            return bool(self.symbols(UNIT_SYMBOL.encode()))
        section = self._symbol_section
        if section is None:
            return False
        # sh_info is the index of the first symbol that is not local (gABI, "sh_link and sh_info Interpretation").
        # Compilers name the source first, so one of the first few answers.
        with self._reading("the symbol table"):
            table = self._table(section)
            locals_ = range(1, min(section.info, len(table), _LOCALS_LOOKED_AT))
            return any(table.symbol(row).type != "SECTION" for row in locals_)

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

    def symbols(self, pattern: bytes | Iterable[bytes], sections: Iterable[int] = ()) -> list[Symbol]:
        """The symbols in whose name a pattern (a regular expression) is found, and all of the given sections.

        Several patterns that each begin with a letter are found much faster than one with an alternative.
        """
        section = self._symbol_section
        if section is None or not self.has_symbols:
            return []
        with self._reading("the symbol table"):
            table = self._table(section)
            rows = table.rows([pattern] if isinstance(pattern, bytes) else pattern, sections)
            return [
                symbol if symbol.section != SHN_XINDEX else symbol._replace(section=self._extended_index(section, row))
                for row, symbol in zip(rows, table.named(rows))
            ]

    def sources(self, name: str, most: int) -> list[str]:
        """The source files of the first `most` local symbols of that name, where compiler and linker have named them."""
        section = self._symbol_section
        if section is None or not self.has_symbols:
            return []
        with self._reading("the symbol table"):
            table = self._table(section)
            rows = table.rows([re.escape(name.encode())], ())[:most]
            found = (table.source(row) for row, symbol in zip(rows, table.named(rows)) if symbol.name == name)
            return [source for source in found if source]

    def note(self) -> Note | None:
        """What the runtime says it was built for, if the file has its note."""
        if self._found_note is None:
            self._found_note = (self._find_note(),)
        return self._found_note[0]

    def _find_note(self) -> Note | None:
        section = self.section(NOTE_SECTION)
        if section is not None and section.type == "SHT_NOTE":
            with self._reading(f"section {NOTE_SECTION}"):
                for name, description in elf.notes(self._header, self._contents(section, _LARGEST_NOTES)):
                    if name == b"percpu":
                        return parse_note(description)
        # A script may have taken it into a section of its own, with what else there is of notes or of constants.
        for section in self.sections:
            takes_notes = section.type == "SHT_NOTE" or (section.type == "SHT_PROGBITS" and re.search("note|rodata", section.name))
            if takes_notes and (found := self._note_among_others(section)) is not None:
                return parse_note(found)
        return None

    def _note_among_others(self, section: Section) -> bytes | None:
        """The description of the runtime's note in a section that holds other things, too."""
        # What follows the size of the description: the type, and the name of seven bytes with its padding.
        looked_for = struct.pack(self._order + "I", 1) + b"percpu\0\0"
        end = min(section.offset + section.size, len(self._bytes))
        at = section.offset
        if at >= end:
            # Behind the end of the file: its header is wrong, or there is nothing in it.
            return None
        for _ in range(_NOTES_LOOKED_AT):
            at = self._bytes.find(looked_for, at + 8, end) - 8
            if at < section.offset:
                return None
            name_size, size = struct.unpack_from(self._order + "II", self._bytes, at)
            first = at + 8 + len(looked_for)
            if name_size == 7 and size <= min(end - first, _LARGEST_NOTES):
                return self._bytes[first : first + size]
            at += 1
        return None

    def data(self, section: Section, address: int, size: int) -> bytes:
        """The bytes that the file holds for those addresses of a section."""
        into = address - section.address
        return bytes(self._contents(section)[max(into, 0) : max(into + size, 0)])

    def words(self, section: Section, start: int = 0, end: int | None = None) -> tuple[int, Sequence[int]]:
        """The aligned pointer-sized words of a section's contents, and the address of the first.

        With `start` and `end`, those at addresses from the one to the other.
        """
        size = self.elf_class // 8
        first = -(-max(start, section.address) // size) * size
        into = first - section.address
        contents = self._contents(section)[into : None if end is None else max(end - section.address, into)]
        return first, self._array(contents)

    def relocations(self, section: Section, ranges: Iterable[tuple[int, int]] | None = None) -> Iterator[Relocation]:
        """The entries of a section of type SHT_REL or SHT_RELA; with `ranges`, those for places in one of them."""
        with self._reading(f"section {section.shown}"):
            layout = struct.Struct(self._order + _RELOCATION_FORMAT[self.elf_class, section.type])
            if section.entry_size != layout.size or section.size % layout.size:
                raise PercpuError(
                    f"{self.path}: entries of {section.entry_size} bytes in {section.shown}: expected {layout.size}"
                )
            link = self.section_at(section.link)
            table = self._table(link) if link is not None and link.type in ("SHT_SYMTAB", "SHT_DYNSYM") else None
            shift = 32 if self.elf_class == 64 else 8
            contents = self._contents(section, _LARGEST_RELOCATIONS)
            rows: Iterable[int] = (
                range(section.size // layout.size) if ranges is None else self._rows_for(contents, layout.size, ranges)
            )
            for row in rows:
                offset, info, *addend = layout.unpack_from(contents, row * layout.size)
                index = info >> shift
                yield Relocation(
                    offset=offset,
                    type=info & ((1 << shift) - 1),
                    symbol=table.symbol(index) if table is not None and index else None,
                    addend=addend[0] if addend else None,
                )

    def _rows_for(self, entries: memoryview, entry_size: int, ranges: Iterable[tuple[int, int]]) -> Iterator[int]:
        """The entries whose first word, r_offset, is in one of the ranges: of a PIE's hundreds of thousands, a few."""
        column = self._array(entries)[:: entry_size // (self.elf_class // 8)]
        # Linkers sort them, or nearly: then sorting is not more than a look at each.
        order: Sequence[int] = range(len(column))
        if not all(map(le, column, islice(column, 1, None))):
            order = sorted(order, key=column.__getitem__)
            column = array(column.typecode, map(column.__getitem__, order))
        last = 0
        for first, end in sorted((bisect_left(column, start), bisect_left(column, end)) for start, end in ranges):
            for place in range(max(first, last), end):
                yield order[place]
            last = max(last, end)

    def _array(self, contents: memoryview) -> array[int]:
        """The bytes as pointer-sized words; what is left at the end is left out."""
        size = self.elf_class // 8
        words = array("I" if size == 4 else "Q")
        words.frombytes(contents[: len(contents) // size * size])
        if self.little_endian != (sys.byteorder == "little"):
            words.byteswap()
        return words

    def debug_information(self) -> DWARFInfo | None:
        """The DWARF sections, read whole; `None` if there are none. Raises whatever pyelftools raises."""
        from elftools.elf.elffile import ELFFile

        # It reads from the mapped bytes, not from the file: a size that the file claims for a
        # structure is then cut at its end, and not allocated first.
        file = ELFFile(cast("IO[bytes]", self._bytes))
        if not file.has_dwarf_info(strict=True):
            return None
        # A linked file is relocated already, also where --emit-relocs has left the relocations in it.
        return file.get_dwarf_info(relocate_dwarf_sections=False, follow_links=False)

    @contextmanager
    def _reading(self, what: str) -> Iterator[None]:
        try:
            yield
        except elf.Truncated as error:
            raise PercpuError(f"{self.path}: {error}", fix=_AGAIN) from error
        except elf.ElfError as error:
            raise PercpuError(f"{self.path}: {error}") from error
        except (struct.error, OverflowError) as error:
            raise PercpuError(
                f"{self.path}: {what} cannot be read: the file is truncated or damaged", fix=_AGAIN
            ) from error

    def _check_overlap(self) -> None:
        size = len(self._bytes)
        claimed = sum(
            min(section.size, max(size - section.offset, 0)) for section in self.sections if section.has_bytes
        )
        if claimed > _MOST_OVERLAP * size:
            raise PercpuError(
                f"{self.path}: its sections claim {claimed} bytes of a file of {size}: they overlap, it is damaged",
                fix=_AGAIN,
            )

    def _contents(self, section: Section, largest: int | None = None) -> memoryview:
        if not section.has_bytes or section.offset + section.size > len(self._bytes):
            raise PercpuError(
                f"{self.path}: section {section.shown} ends at byte {section.offset + section.size}, "
                f"but the file has {len(self._bytes)}: it is truncated",
                fix=_AGAIN,
            )
        if largest is not None and section.size > largest:
            raise PercpuError(
                f"{self.path}: section {section.shown} has {section.size} bytes: expected at most {largest}"
            )
        return memoryview(self._bytes)[section.offset : section.offset + section.size]

    def _table(self, section: Section) -> SymbolTable:
        """The symbol table in that section."""
        if section.number not in self._tables:
            entry_size = 24 if self.elf_class == 64 else 16
            if section.entry_size != entry_size or section.size % entry_size:
                raise PercpuError(
                    f"{self.path}: symbols of {section.entry_size} bytes in {section.shown}: expected {entry_size}"
                )
            strings = self.section_at(section.link)
            if strings is None:
                raise PercpuError(
                    f"{self.path}: {section.shown} names section {section.link} for its strings: there is none"
                )
            self._tables[section.number] = SymbolTable(
                self._contents(section, _LARGEST_SYMBOLS),
                self._contents(strings, _LARGEST_SYMBOLS),
                self.elf_class,
                self.little_endian,
            )
        return self._tables[section.number]

    def _extended_index(self, table: Section, row: int) -> int:
        """The section of a symbol in a file with more than 65,000 sections."""
        for section in self.sections:
            if section.type == "SHT_SYMTAB_SHNDX" and section.link == table.number:
                (extended,) = struct.unpack_from(self._order + "I", self._contents(section), 4 * row)
                return int(extended)
        raise PercpuError(f"{self.path}: symbol {row} needs a section of type SHT_SYMTAB_SHNDX: there is none")


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
