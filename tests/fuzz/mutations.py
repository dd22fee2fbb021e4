"""Damage to an ELF file that keeps it one: fields of its structures get other values, the rest stays as it was.

Bytes at random are refused by the first check of a header. So the structures are found in the file first, and
each change is to one field of one of them, mostly to a value that is nearly right: that of another entry, an end of
the file, a bound of the type.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from random import Random


def _fields(text: str) -> tuple[tuple[str, int, int], ...]:
    """`name:place:size` of each field, in bytes."""
    return tuple((name, int(at), int(size)) for name, at, size in (word.split(":") for word in text.split()))


_EHDR = {
    32: _fields("e_type:16:2 e_machine:18:2 e_entry:24:4 e_phoff:28:4 e_shoff:32:4 e_phentsize:42:2")
    + _fields("e_phnum:44:2 e_shentsize:46:2 e_shnum:48:2 e_shstrndx:50:2"),
    64: _fields("e_type:16:2 e_machine:18:2 e_entry:24:8 e_phoff:32:8 e_shoff:40:8 e_phentsize:54:2")
    + _fields("e_phnum:56:2 e_shentsize:58:2 e_shnum:60:2 e_shstrndx:62:2"),
}
_SHDR = {
    32: _fields(
        "name:0:4 type:4:4 flags:8:4 addr:12:4 offset:16:4 size:20:4 link:24:4 info:28:4 align:32:4 entsize:36:4"
    ),
    64: _fields(
        "name:0:4 type:4:4 flags:8:8 addr:16:8 offset:24:8 size:32:8 link:40:4 info:44:4 align:48:8 entsize:56:8"
    ),
}
_PHDR = {
    32: _fields("type:0:4 offset:4:4 vaddr:8:4 paddr:12:4 filesz:16:4 memsz:20:4 flags:24:4 align:28:4"),
    64: _fields("type:0:4 flags:4:4 offset:8:8 vaddr:16:8 paddr:24:8 filesz:32:8 memsz:40:8 align:48:8"),
}
_SYM = {
    32: _fields("name:0:4 value:4:4 size:8:4 info:12:1 shndx:14:2"),
    64: _fields("name:0:4 info:4:1 shndx:6:2 value:8:8 size:16:8"),
}
_REL = {(32, 9): (4, 4), (32, 4): (4, 4, 4), (64, 9): (8, 8), (64, 4): (8, 8, 8)}
_SIZES = {"shdr": {32: 40, 64: 64}, "phdr": {32: 32, 64: 56}, "sym": {32: 16, 64: 24}}

# Names that mean something to the rules, put where others were.
_NAMES = (
    b"_percpu_load_start _percpu_load_end _percpu_start _percpu_end _percpu_stride _percpu_cpu_num _percpu_near_end"
    b" _percpu_template _percpu_workers_start __bss_start __bss_end __per_cpu_start __per_cpu_end __per_cpu_load"
    b" percpu_storage_a percpu_near_b _ZN1a16percpu_storage_xE _ZTV1x __PERCPU_X per_cpu__y __stack_chk_fail"
    b" __global_pointer$ .percpu .data..percpu .note.percpu .init_array .percpu_areas _RNvNtC1a1b1c _ZN99999a"
    b" \xff\xfe\x80 \x1b[31m <script> .... a.b.c {0}[x](y)"
).split(b" ")

# Types, special indexes and a page: numbers that fields have.
_NUMBERS = (*range(5), 8, 9, 11, 14, 18, 19, 0xFFF1, 0xFFFF, 0x1000)


@dataclass
class Table:
    """Entries of one size, each with the same fields (place, size)."""

    name: str
    offset: int
    count: int
    entry_size: int
    fields: tuple[tuple[str, int, int], ...]


@dataclass
class Shape:
    """Where the structures of a file lie."""

    elf_class: int
    order: str
    tables: list[Table] = field(default_factory=list)
    # Sections with other bytes: (name of the kind, offset, size).
    contents: list[tuple[str, int, int]] = field(default_factory=list)


def shape(data: bytes) -> Shape:
    """The structures of an undamaged file."""
    elf_class, order = 32 * data[4], "<" if data[5] == 1 else ">"
    result = Shape(elf_class, order)
    fields = _EHDR[elf_class]
    header = {
        name: int.from_bytes(data[at : at + size], "little" if order == "<" else "big") for name, at, size in fields
    }
    result.tables.append(Table("ehdr", 0, 1, 64, (*fields, ("class", 4, 1), ("data", 5, 1), ("osabi", 7, 1))))
    result.tables.append(
        Table("shdr", header["e_shoff"], header["e_shnum"], _SIZES["shdr"][elf_class], _SHDR[elf_class])
    )
    result.tables.append(
        Table("phdr", header["e_phoff"], header["e_phnum"], _SIZES["phdr"][elf_class], _PHDR[elf_class])
    )
    layout = struct.Struct(order + {32: "10I", 64: "IIQQQQIIQQ"}[elf_class])
    for number in range(header["e_shnum"]):
        _, kind, flags, _, offset, size, _, _, _, _ = layout.unpack_from(data, header["e_shoff"] + number * layout.size)
        if size == 0:
            continue
        if kind == 2:
            entry = _SIZES["sym"][elf_class]
            result.tables.append(Table("sym", offset, size // entry, entry, _SYM[elf_class]))
        elif kind in (4, 9):
            words = _REL[elf_class, kind]
            at = tuple((f"word{n}", sum(words[:n]), width) for n, width in enumerate(words))
            result.tables.append(Table("rel", offset, size // sum(words), sum(words), at))
        elif kind != 8:
            what = {3: "strings", 7: "note", 14: "pointers"}.get(
                kind, "code" if flags & 4 else "data" if flags & 2 else "other"
            )
            result.contents.append((what, offset, size))
    return result


def damage(data: bytes, known: Shape, chance: Random) -> bytes:
    """The file with a few changes."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 2, 3, 5, 8, 20))):
        chance.choice(_CHANGES)(changed, known, chance)
    if chance.random() < 0.03:
        del changed[chance.randrange(len(changed)) :]
    elif chance.random() < 0.02:
        changed += bytes(chance.choice((1, 7, 4096)))
    return bytes(changed)


def _order(known: Shape) -> str:
    return "little" if known.order == "<" else "big"


def _put(changed: bytearray, at: int, size: int, value: int, known: Shape) -> None:
    changed[at : at + size] = (value & ((1 << (8 * size)) - 1)).to_bytes(size, _order(known))


def _field(changed: bytearray, known: Shape, chance: Random) -> None:
    """One field of one entry."""
    table = chance.choice(known.tables)
    if not table.count:
        return
    entry = table.offset + chance.randrange(table.count) * table.entry_size
    _, at, size = chance.choice(table.fields)
    bits = 8 * size
    old = int.from_bytes(changed[entry + at : entry + at + size], _order(known))
    other = table.offset + chance.randrange(table.count) * table.entry_size + at
    _put(
        changed,
        entry + at,
        size,
        chance.choice(
            (
                *_NUMBERS,
                (1 << bits) - 1,
                1 << (bits - 1),
                (1 << (bits - 1)) - 1,
                *(old + 1, old - 1, old * 2, old // 2, old ^ (1 << chance.randrange(bits)), -old, old + len(changed)),
                *(
                    len(changed),
                    len(changed) - 1,
                    len(changed) + 1,
                    chance.getrandbits(bits),
                    chance.randrange(len(changed)),
                ),
                *[int.from_bytes(changed[other : other + size], _order(known))] * 4,
            )
        ),
        known,
    )


def _entry(changed: bytearray, known: Shape, chance: Random) -> None:
    """One entry in another's place."""
    table = chance.choice(known.tables)
    if table.count < 2:
        return
    source, target = (table.offset + chance.randrange(table.count) * table.entry_size for _ in range(2))
    changed[target : target + table.entry_size] = changed[source : source + table.entry_size]


def _name(changed: bytearray, known: Shape, chance: Random) -> None:
    """A name in a string table, over others, with or without its end."""
    places = [(offset, size) for what, offset, size in known.contents if what == "strings"]
    offset, size = chance.choice(places)
    name = chance.choice(_NAMES) + chance.choice((b"\0", b"\0", b"", b".x\0"))
    at = chance.randrange(size)
    if chance.random() < 0.7:
        # Where a string begins, so that a symbol or a section has it.
        at = max(changed.rfind(b"\0", offset, offset + at) + 1 - offset, 0)
    end = min(offset + at + len(name), offset + size)
    changed[offset + at : end] = name[: end - offset - at]


def _no_ends(changed: bytearray, known: Shape, chance: Random) -> None:
    """A string table, or a piece of it, without NULs."""
    offset, size = chance.choice([(offset, size) for what, offset, size in known.contents if what == "strings"])
    start = offset + chance.randrange(size)
    end = offset + size if chance.random() < 0.5 else min(start + 64, offset + size)
    changed[start:end] = changed[start:end].replace(b"\0", chance.choice((b".", b"_", b"\xff")))


def _bytes(changed: bytearray, known: Shape, chance: Random) -> None:
    """Bytes of a section: of notes and pointers, of code, of the template."""
    _, offset, size = chance.choice(known.contents)
    at = offset + chance.randrange(size)
    piece = min(chance.choice((1, 1, 2, 4, 8, 16)), offset + size - at)
    value = chance.choice((chance.randbytes(piece), b"\xff" * piece, bytes(piece), b"\x7f" * piece))
    changed[at : at + piece] = value[:piece]


def _note(changed: bytearray, known: Shape, chance: Random) -> None:
    """The sizes that a note gives for itself, or its text."""
    notes = [(offset, size) for what, offset, size in known.contents if what == "note" and size > 12]
    if not notes:
        return
    offset, size = chance.choice(notes)
    if chance.random() < 0.5:
        _put(
            changed,
            offset + chance.choice((0, 4, 8)),
            4,
            chance.choice((0, 1, 7, size, 0xFFFFFFFF, 0x7FFFFFFF, chance.getrandbits(32))),
            known,
        )
        return
    text = chance.choice(
        (
            b"cache-line=9",
            b"layout=none\n",
            b"near-reach=999999999",
            b"arch=riscv32\n",
            b"base-register=tp\n",
            b"stack-guard=1\n",
            b"=\n=\n",
        )
    )
    at = offset + chance.randrange(size)
    end = min(at + len(text), offset + size)
    changed[at:end] = text[: end - at]


_CHANGES = (_field, _field, _field, _field, _field, _entry, _name, _name, _no_ends, _bytes, _bytes, _note)
