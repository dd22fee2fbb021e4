"""A symbol table, read in bulk: a kernel has a few hundred thousand symbols, of which a few dozen matter.

One symbol at a time takes Python a second for so many. So names are looked for in the string table, which is
one search through a few megabytes; the offsets found, and the section asked for, are then looked for in a
column of the table, without a step of Python for each row; and only the rows that match are taken apart.
"""

from __future__ import annotations

import re
import struct
import sys
from array import array
from collections.abc import Iterable, Iterator
from itertools import compress
from typing import NamedTuple

from percpu_tools.elf import Bytes, ElfError

# Special section indices (gABI, "Special Section Indexes").
SHN_UNDEF = 0
SHN_LORESERVE = 0xFF00
SHN_ABS = 0xFFF1
SHN_COMMON = 0xFFF2
SHN_XINDEX = 0xFFFF

# st_name, then the rest in the order that each class has it.
_FORMAT = {32: "IIIBBH", 64: "IBBHQQ"}
# Where st_shndx is.
_SECTION_AT = {32: 14, 64: 6}

_TYPES = {0: "NOTYPE", 1: "OBJECT", 2: "FUNC", 3: "SECTION", 4: "FILE", 5: "COMMON", 6: "TLS"}
_BINDINGS = {0: "LOCAL", 1: "GLOBAL", 2: "WEAK", 10: "UNIQUE"}

# So many rows are looked at in one piece, which bounds the memory that a large table takes.
_CHUNK = 1 << 18

# Names of C++ templates reach thousands of characters. A damaged string table has one name without an end.
_LONGEST_NAME = 1 << 14
# Together, the names of a program's per-CPU symbols are far below this.
_MOST_NAMES = 1 << 26
_MOST_OFFSETS = 1 << 21
# The local symbols of one source file.
_MOST_OF_A_FILE = 1 << 17


class Symbol(NamedTuple):
    name: str
    value: int
    size: int
    type: str
    section: int
    binding: str = "GLOBAL"


class SymbolTable:
    """The entries of a symbol table, and its strings. ElfError says what is wrong with them."""

    def __init__(self, entries: Bytes, strings: Bytes, elf_class: int, little_endian: bool) -> None:
        self._entries = memoryview(entries)
        self._strings = strings
        self._class = elf_class
        self._little_endian = little_endian
        self._layout = struct.Struct(("<" if little_endian else ">") + _FORMAT[elf_class])
        self._by_pattern: dict[bytes, list[int]] = {}
        self._by_section: dict[int, list[int]] = {}

    def __len__(self) -> int:
        return len(self._entries) // self._layout.size

    def rows(self, patterns: Iterable[bytes], sections: Iterable[int]) -> list[int]:
        """The indexes of the symbols in whose names one of the patterns is found, and of all of those sections."""
        found: set[int] = set()
        missing = []
        for pattern in patterns:
            if pattern in self._by_pattern:
                found.update(self._by_pattern[pattern])
            else:
                missing.append(pattern)
        if missing:
            found.update(self._rows_named(missing))
        for section in sections:
            if section not in self._by_section:
                self._by_section[section] = list(self._rows_in(section))
            found.update(self._by_section[section])
        return sorted(found)

    def symbol(self, row: int) -> Symbol:
        """The symbol of that index, without its name, which takes longer to find than all the rest."""
        return self._symbol(row)[1]

    def named(self, rows: Iterable[int]) -> Iterator[Symbol]:
        """The symbols of those indexes."""
        total = 0
        for row in rows:
            offset, symbol = self._symbol(row)
            name = self._name(offset)
            total += len(name)
            if total > _MOST_NAMES:
                raise ElfError(
                    f"the names of its symbols are longer than {_MOST_NAMES} bytes together: the file is damaged"
                )
            yield symbol._replace(name=name)

    def source(self, row: int) -> str:
        """The source file of a local symbol: the name that stands in front of it (gABI, STT_FILE); empty if there is none."""
        for before in range(row - 1, max(row - _MOST_OF_A_FILE, 0), -1):
            if self.symbol(before).type == "FILE":
                return next(self.named([before])).name
        return ""

    def _symbol(self, row: int) -> tuple[int, Symbol]:
        fields = self._layout.unpack_from(self._entries, row * self._layout.size)
        if self._class == 64:
            name, info, _, section, value, size = fields
        else:
            name, value, size, info, _, section = fields
        return name, Symbol(
            "", value, size, _TYPES.get(info & 0xF, "OTHER"), section, _BINDINGS.get(info >> 4, "OTHER")
        )

    def _name(self, offset: int) -> str:
        text = bytes(self._strings[offset : offset + _LONGEST_NAME])
        if not text or (b"\0" not in text and offset + len(text) == len(self._strings)):
            raise ElfError(f"a symbol's name is at byte {offset} of a string table of {len(self._strings)}")
        return text.split(b"\0", 1)[0].decode("utf-8", errors="backslashreplace")

    def _rows_named(self, patterns: list[bytes]) -> list[int]:
        """The rows of all the patterns; each one's own are kept for the next who asks."""
        offsets = {pattern: self._offsets(pattern) for pattern in patterns}
        wanted = set().union(*offsets.values())
        names = dict(self._rows_with_name_at(wanted)) if wanted else {}
        for pattern, own in offsets.items():
            self._by_pattern[pattern] = [row for row, offset in names.items() if offset in own]
        return list(names)

    def _rows_with_name_at(self, offsets: set[int]) -> Iterator[tuple[int, int]]:
        size = self._layout.size
        for first in range(0, len(self), _CHUNK):
            words = array("I")
            assert words.itemsize == 4
            words.frombytes(self._entries[first * size : min(first + _CHUNK, len(self)) * size])
            # st_name is the first word of the row in both classes.
            column = words[:: size // 4]
            if self._little_endian != (sys.byteorder == "little"):
                column.byteswap()
            for row in compress(range(len(column)), map(offsets.__contains__, column)):
                yield first + row, column[row]

    def _rows_in(self, section: int) -> Iterator[int]:
        size, at = self._layout.size, _SECTION_AT[self._class]
        low, high = (at, at + 1) if self._little_endian else (at + 1, at)
        for first in range(0, len(self), _CHUNK):
            rows = bytes(self._entries[first * size : min(first + _CHUNK, len(self)) * size])
            above = rows[high::size]
            for match in re.finditer(re.escape(bytes([section & 0xFF])), rows[low::size]):
                if above[match.start()] == section >> 8:
                    yield first + match.start()

    def _offsets(self, pattern: bytes) -> set[int]:
        """The offsets in the string table at which a name begins that has the pattern in it.

        A name that is the end of another one may share its bytes, so every offset from the beginning of
        the string up to the match counts.
        """
        offsets: set[int] = set()
        for match in re.finditer(pattern, self._strings):
            start = match.start()
            before = bytes(self._strings[max(start - _LONGEST_NAME, 0) : start])
            offsets.update(range(start - len(before) + before.rfind(b"\0") + 1, start + 1))
            if len(offsets) > _MOST_OFFSETS:
                raise ElfError(f"more than {_MOST_OFFSETS} names of per-CPU symbols: the file is damaged")
        return offsets
