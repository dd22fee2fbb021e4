"""The relocations that a link kept for code (--emit-relocs), those of them that name per-CPU storage.

A kernel keeps a million of them, of which a few hundred matter. They are read in bulk, and picked by the number of
their symbol; Image.relocations reads tables of which every entry counts.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from percpu_tools import names, progress
from percpu_tools.image import SHF_ALLOC, Image, Section
from percpu_tools.layout import Layout

# Elf32_Rel(a) and Elf64_Rel(a): r_offset, r_info, r_addend. Elf32_Sym and Elf64_Sym, whole, and st_shndx alone.
_ENTRY = {(32, "SHT_REL"): "II", (32, "SHT_RELA"): "IIi", (64, "SHT_REL"): "QQ", (64, "SHT_RELA"): "QQq"}
_SYMBOL = {32: "IIIBBH", 64: "IBBHQQ"}
_SYMBOL_SECTION = {32: "14xH", 64: "6xH16x"}
_NOTYPE, _OBJECT, _SECTION, _COMMON = 0, 1, 3, 5

_PIECE = 1 << 16


class Kept(NamedTuple):
    """A relocation of code. `target` is the address named, with the addend where the table holds it (SHT_RELA)."""

    home: Section
    place: int
    type: int
    target: int


def tables(image: Image) -> list[tuple[Section, Section]]:
    """The kept tables, each with the code that it is for; none that lie over each other in the file."""
    found = []
    end = 0
    for table in sorted(image.sections, key=lambda section: section.offset):
        home = image.section_at(table.info)
        kept = table.type in ("SHT_REL", "SHT_RELA") and not table.flags & SHF_ALLOC
        if kept and home is not None and home.is_executable and home.has_bytes and table.offset >= end:
            found.append((table, home))
            end = table.offset + table.size
    return found


def to_storage(layout: Layout, image: Image, what: str) -> list[Kept]:
    """The relocations of code that name a variable in the template, by address."""
    found: list[Kept] = []
    known: dict[int, tuple[dict[int, int], set[int]]] = {}
    shift = 32 if image.elf_class == 64 else 8
    for table, home in tables(image):
        if table.link not in known:
            known[table.link] = _storage(layout, image, table.link)
        values, sections = known[table.link]
        for place, info, addend in _entries(image, table, what):
            index = info >> shift
            if index in values and (index not in sections or _may_be_inside(layout, table, values[index] + addend)):
                found.append(Kept(home, place, info & ((1 << shift) - 1), values[index] + addend))
    return sorted(found, key=lambda kept: (kept.home.number, kept.place))


def _may_be_inside(layout: Layout, table: Section, target: int) -> bool:
    """Whether what is named by the section's symbol may be in the template."""
    if layout.is_alone:
        return True
    if table.type == "SHT_REL":
        # ARM keeps the addend, which would tell, in the instruction.
        return layout.section is not None and layout.section.name in layout.profile.sections
    # x86_64 counts from the end of the instruction: 4 bytes of displacement and up to 4 of an immediate.
    behind = 8 if layout.arch == "x86_64" else 0
    return (layout.load_start or 0) - behind <= target < (layout.load_end or 0)


def of_types(image: Image, home: Section, types: frozenset[int], what: str) -> list[int]:
    """The places of all relocations of these types in one section, by address."""
    mask = 0xFFFFFFFF if image.elf_class == 64 else 0xFF
    return sorted(
        place
        for table, other in tables(image)
        if other.number == home.number
        for place, info, _ in _entries(image, table, what)
        if info & mask in types
    )


def _entries(image: Image, table: Section, what: str) -> Iterator[tuple[int, int, int]]:
    layout = struct.Struct(("<" if image.little_endian else ">") + _ENTRY[image.elf_class, table.type])
    if table.entry_size != layout.size:
        return
    for start in range(0, table.size - table.size % layout.size, _PIECE * layout.size):
        size = min(_PIECE * layout.size, table.size - table.size % layout.size - start)
        progress.report(what, start, table.size)
        for place, info, *addend in layout.iter_unpack(image.data(table, table.address + start, size)):
            yield place, info, addend[0] if addend else 0
    progress.report(what, table.size, table.size)


def _storage(layout: Layout, image: Image, number: int) -> tuple[dict[int, int], set[int]]:
    """The values of the template's variables and of its section symbol, by their numbers; and which is the latter.

    Bounds that a linker script defines are symbols of no type and size, and no variables.
    """
    table, section = image.section_at(number), layout.section
    order = "<" if image.little_endian else ">"
    entry = struct.Struct(order + _SYMBOL[image.elf_class])
    strings = image.section_at(table.link) if table is not None else None
    if (
        table is None
        or section is None
        or strings is None
        or table.type != "SHT_SYMTAB"
        or table.entry_size != entry.size
    ):
        return {}, set()
    data = image.data(table, table.address, table.size - table.size % entry.size)
    texts = image.data(strings, strings.address, strings.size)
    homes = struct.Struct(order + _SYMBOL_SECTION[image.elf_class])
    inside = [index for index, (home,) in enumerate(homes.iter_unpack(data)) if home == section.number]
    values: dict[int, int] = {}
    sections: set[int] = set()
    for index in inside:
        fields = entry.unpack_from(data, index * entry.size)
        name, value, size, info = (fields[0], fields[4], fields[5], fields[1]) if image.elf_class == 64 else fields[:4]
        text = texts[name : texts.find(b"\0", name)].decode("utf-8", errors="backslashreplace")
        kind = info & 15
        # `.L` is a compiler's own name for the beginning of a file's variables.
        named = kind == _NOTYPE and (size > 0 or text.startswith(".L") or names.is_storage(text))
        if kind == _SECTION:
            sections.add(index)
            values[index] = value
        elif (kind in (_OBJECT, _COMMON) or named) and (layout.load_start or 0) <= value < (layout.load_end or 0):
            values[index] = value
    return values, sections
