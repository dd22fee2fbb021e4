"""Accesses whose offset does not fit: the linker put in what fits, and dropped the rest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from percpu_tools import code, names, relocations
from percpu_tools.image import Image, Section
from percpu_tools.instructions import aarch64, arm, loongarch64, riscv
from percpu_tools.layout import Layout, Variable

_WHAT = "T04 offset-out-of-reach"

# The largest offset that one instruction puts into a register is below this (AArch64 movz, ARM movw).
_HALF = 0x10000
# The other half of an offset is made this close.
_PAIR_BYTES = 32


class Wrapped(NamedTuple):
    """An access to `offset` that goes to the offset `becomes`; `variable` is what has the former, if a symbol tells."""

    home: Section
    place: int
    variable: Variable | None
    offset: int
    becomes: int


class Found(NamedTuple):
    wrapped: list[Wrapped]
    # Places where the offset may be meant or be what is left of a larger one.
    doubtful: list[int]
    # Whether every access was looked at: relocations tell them all, and instructions some.
    is_complete: bool
    # Whether nothing but the base register's name was wanting for that.
    lacks_base: bool = False


def all_near(layout: Layout) -> bool:
    """Whether the runtime says that it accesses every variable as a near one."""
    return layout.note is not None and "all-near" in layout.note.features


def near_beyond(layout: Layout, limit: int) -> list[Variable]:
    """The variables accessed as near that begin or end where no near access reaches."""
    is_near = names.is_storage if all_near(layout) else names.is_near
    near = (variable for variable in layout.variables if is_near(variable.symbol))
    return [variable for variable in near if variable.offset is not None and variable.offset + variable.size > limit]


def wrapped(layout: Layout, image: Image) -> Found:
    """The accesses to variables beyond the reach of one immediate that are seen to have lost the upper bits."""
    kept = relocations.to_storage(layout, image, _WHAT)
    by_relocation = list(_relocated(layout, image, kept))
    if relocations.tables(image):
        lacks_base = _lacks_base(layout, kept)
        return Found(by_relocation, [], not lacks_base, lacks_base)
    if layout.arch == "aarch64":
        return _moves(layout, image)
    if layout.arch in ("riscv64", "riscv32", "loongarch64"):
        return _immediates(layout, image)
    return Found([], [], False)


def _register(layout: Layout, numbers: dict[str, int]) -> int | None:
    """The number of the base register, where it is a general one that the note or the profile names."""
    name = (
        layout.note.base_register if layout.note is not None else layout.profile.base_registers.get(layout.arch or "")
    )
    return numbers.get(name or "")


def _lacks_base(layout: Layout, kept: list[relocations.Kept]) -> bool:
    """Whether there are accesses that are right or wrong by the register that they add to, and it has no name here."""
    numbers, types = _BASES.get(layout.arch or "", ({}, frozenset()))
    beyond = any(one.type in types and one.target - (layout.load_start or 0) >= 0x800 for one in kept)
    return beyond and _register(layout, numbers) is None


# The names of base registers, and the relocations of accesses with 12 bits of an offset.
_BASES = {
    "riscv64": (riscv.REGISTERS, frozenset({riscv.LO12_I, riscv.LO12_S})),
    "riscv32": (riscv.REGISTERS, frozenset({riscv.LO12_I, riscv.LO12_S})),
    "loongarch64": (loongarch64.REGISTERS, frozenset({loongarch64.PCALA_LO12, loongarch64.ABS_LO12})),
}


def _relocated(layout: Layout, image: Image, kept: list[relocations.Kept]) -> Iterator[Wrapped]:
    bytes_ = code.Bytes(image)
    for index, one in enumerate(kept):
        offset = one.target - (layout.load_start or 0)
        if not 0 <= offset < (layout.template_size or 0):
            continue
        becomes = _what_fits(layout, bytes_, one, kept[max(index - 4, 0) : index + 5])
        if becomes is not None:
            yield Wrapped(one.home, one.place, layout.variable_at(offset), offset, becomes)


def _what_fits(layout: Layout, bytes_: code.Bytes, one: relocations.Kept, around: list[relocations.Kept]) -> int | None:
    """The offset that the access has, if it is not the one that is meant."""
    home, place, kind, target = one
    near = [
        other
        for other in around
        if other.home is home and other.target == target and abs(other.place - place) <= _PAIR_BYTES
    ]
    types = {other.type for other in near}
    word = bytes_.number(home, place, 4)
    if layout.arch == "aarch64":
        if (
            kind == aarch64.MOVW_UABS_G0_NC
            and target >= _HALF
            and not types & {aarch64.MOVW_UABS_G1, aarch64.MOVW_UABS_G1_NC}
        ):
            return target % _HALF
        low = kind == aarch64.ADD_ABS_LO12_NC or kind in aarch64.LDST_ABS_LO12_NC
        reserved = _register(layout, aarch64.REGISTERS)
        registers = frozenset() if reserved is None else frozenset({reserved})
        if low and target >= 0x1000 and aarch64.base_is_register(bytes_, home, place, registers):
            return target % 0x1000
    elif layout.arch == "arm":
        upper = {arm.MOVT_ABS, arm.THM_MOVT_ABS}
        if kind == arm.THM_MOVW_ABS_NC or kind == arm.MOVW_ABS_NC and not arm.is_memory_access(word):
            return target % _HALF if target >= _HALF and not types & upper else None
        # A load's immediate of 12 bits; MOVW_ABS_NC stands in for it where a linker has no relocation for that.
        if kind in (arm.ABS12, arm.MOVW_ABS_NC) and arm.is_memory_access(word) and target >= 0x1000:
            return target % 0x1000
    else:
        numbers, low_types = _BASES[layout.arch or ""]
        if kind not in low_types:
            return None
        decoded = loongarch64.access(word) if layout.arch == "loongarch64" else riscv.access(word)
        if decoded is not None and decoded.base == _register(layout, numbers) and target >= 0x800:
            return riscv.signed(target)
    return None


def _moves(layout: Layout, image: Image) -> Found:
    """AArch64: offsets of one `movz`, that are added to a base."""
    low = {variable.offset for variable in layout.variables if variable.offset is not None and variable.offset < _HALF}
    high = {
        variable.offset % _HALF: variable
        for variable in layout.variables
        if variable.offset is not None and variable.offset >= _HALF
    }
    bytes_ = code.Bytes(image)
    reserved = _register(layout, aarch64.REGISTERS)
    registers = frozenset() if reserved is None else frozenset({reserved})
    found, doubtful = [], []
    for home, place in code.matches(image, _WHAT, aarch64.MOVZ, alignment=4, into=aarch64.MOVZ_INTO) if high else ():
        moved = aarch64.moved(bytes_.number(home, place, 4))
        if moved is None or moved[1] not in high or not aarch64.added_to_base(bytes_, home, place, registers):
            continue
        if moved[1] in low:
            doubtful.append(place)
        else:
            variable = high[moved[1]]
            found.append(Wrapped(home, place, variable, variable.offset or 0, moved[1]))
    return Found(found, doubtful, False)


def _immediates(layout: Layout, image: Image) -> Found:
    """RISC-V and LoongArch64: accesses with a negative offset from the base register, which no variable has."""
    is_riscv = layout.arch != "loongarch64"
    base = _register(layout, riscv.REGISTERS if is_riscv else loongarch64.REGISTERS)
    if base is None:
        return Found([], [], False)
    beyond = [
        variable
        for variable in layout.variables
        if variable.offset is not None and variable.offset + variable.size > 0x800
    ]
    at = {
        riscv.signed(offset): variable
        for variable in beyond
        if variable.offset is not None
        for offset in range(max(variable.offset, 0x800), variable.offset + min(variable.size, 0x1000))
    }
    bytes_ = code.Bytes(image)
    boundaries: riscv.Boundaries | None = None
    last: Section | None = None
    found = []
    pattern = riscv.pattern(base, additions=True) if is_riscv else loongarch64.pattern(base)
    for home, place in code.matches(image, _WHAT, pattern, alignment=2 if is_riscv else 4):
        word = bytes_.number(home, place, 4)
        decoded = riscv.access(word) if is_riscv else loongarch64.access(word)
        if decoded is None or decoded.base != base or decoded.register == base and decoded.kind == "add":
            continue
        if decoded.immediate >= 0 or decoded.immediate not in at:
            continue
        if is_riscv:
            if boundaries is None or home is not last:
                boundaries, last = riscv.Boundaries(image, home, bytes_), home
            if not boundaries.begins(place):
                continue
        variable = at[decoded.immediate]
        found.append(Wrapped(home, place, variable, variable.offset or 0, decoded.immediate))
    return Found(found, [], False)
