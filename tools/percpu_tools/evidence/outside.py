"""Code that names per-CPU storage as if it were an ordinary variable, by its kept relocations."""

from __future__ import annotations

from typing import NamedTuple

from percpu_tools import code, relocations
from percpu_tools.image import Image
from percpu_tools.instructions import aarch64, arm, loongarch64, riscv, x86_64
from percpu_tools.layout import Layout
from percpu_tools.relocations import Kept

WHAT = "T08 outside-accessors"

RELATIVE, DIRECT = "relative to the program counter", "at its link-time address"

# Relocations of addresses relative to the program counter, or of the global offset table.
_RELATIVE = {
    "aarch64": {
        *(aarch64.LD_PREL_LO19, aarch64.ADR_PREL_LO21, aarch64.ADR_PREL_PG_HI21, aarch64.ADR_PREL_PG_HI21_NC),
        *(aarch64.GOT_LD_PREL19, aarch64.ADR_GOT_PAGE, aarch64.LD64_GOTPAGE_LO15),
    },
    "arm": {
        *(arm.REL32, arm.GOTOFF32, arm.BASE_PREL, arm.GOT_BREL, arm.GOT_PREL, arm.MOVW_PREL_NC, arm.MOVT_PREL),
        *(arm.THM_MOVW_PREL_NC, arm.THM_MOVT_PREL),
    },
    "riscv64": {riscv.PCREL_HI20, riscv.GOT_HI20},
    "riscv32": {riscv.PCREL_HI20, riscv.GOT_HI20},
    "loongarch64": {loongarch64.PCALA_HI20, loongarch64.GOT_PC_HI20, loongarch64.PCREL20_S2},
}

# Relocations of the instruction that makes the first or only part of an address.
_MAKES = {
    "aarch64": {
        *(aarch64.ADR_PREL_PG_HI21, aarch64.ADR_PREL_PG_HI21_NC, aarch64.MOVW_UABS_G0, aarch64.MOVW_UABS_G0_NC),
        *(aarch64.LD_PREL_LO19, aarch64.ADR_PREL_LO21),
        *(aarch64.GOT_LD_PREL19, aarch64.ADR_GOT_PAGE, aarch64.LD64_GOTPAGE_LO15),
    },
    "arm": {arm.MOVW_ABS_NC, arm.THM_MOVW_ABS_NC},
    "riscv64": {riscv.HI20, riscv.PCREL_HI20, riscv.GOT_HI20},
    "riscv32": {riscv.HI20, riscv.PCREL_HI20, riscv.GOT_HI20},
    "loongarch64": {loongarch64.ABS_HI20, loongarch64.PCALA_HI20, loongarch64.PCREL20_S2, loongarch64.GOT_PC_HI20},
}

# x86_64: relative to the program counter is what is named itself, or a word of the global offset table.
_DISPLACED = (x86_64.PC32, x86_64.PLT32)

# Those of an entry of the global offset table.
_OF_TABLE = {
    "aarch64": {aarch64.GOT_LD_PREL19, aarch64.ADR_GOT_PAGE, aarch64.LD64_GOTPAGE_LO15},
    "riscv64": {riscv.GOT_HI20},
    "riscv32": {riscv.GOT_HI20},
    "loongarch64": {loongarch64.GOT_PC_HI20},
}


class Outside(NamedTuple):
    """A place in code, how the storage is addressed there, RELATIVE or DIRECT, and by which instruction."""

    kept: Kept
    how: str
    address: int


class Found(NamedTuple):
    """The places at which code outside accessors addresses storage, and what is not known to be one of them."""

    places: list[Outside]
    # Words beside code that name storage, and what they are for is not seen: nothing loads them, or they are for the
    # global offset table (ARM).
    unread: list[Kept]


def accesses(layout: Layout, image: Image) -> Found:
    """What the kept relocations tell.

    An accessor in the zero-VMA layout never computes an address from the program counter; in either layout it does
    not load from or store to the address without adding the base.
    """
    bytes_ = code.Bytes(image)
    found = Found([], [])
    storage = relocations.to_storage(layout, image, WHAT)
    low = _low_parts(storage) if layout.arch == "aarch64" else {}
    literals: dict[int, arm.Literals] = {}
    for kept in storage:
        target = _target(layout, bytes_, kept)
        if not layout.is_alone and not (layout.load_start or 0) <= target < (layout.load_end or 0):
            continue
        address = kept.place
        if layout.arch == "x86_64":
            how = _on_x86(layout, bytes_, kept)
        elif layout.arch == "arm" and kept.type in (arm.GOT_BREL, arm.GOT_PREL) and layout.layout != "zero-vma":
            how = None
            found.unread.append(kept)
        elif layout.arch == "arm" and kept.type in _literals(layout):
            home = kept.home
            if home.number not in literals:
                literals[home.number] = arm.Literals(image, home, bytes_)
            loads = list(literals[home.number].loads(kept.place))
            if not loads:
                found.unread.append(kept)
            is_relative = kept.type == arm.REL32
            direct = [load.address for load in loads if load.is_used_directly(bytes_, home, is_relative)]
            how, address = (DIRECT, direct[0]) if direct else (None, address)
        else:
            how = _on_risc(layout, bytes_, kept, low.get((kept.home.number, kept.target), frozenset()))
        if how is not None:
            found.places.append(Outside(kept._replace(target=target), how, address))
    return found


def _literals(layout: Layout) -> tuple[int, ...]:
    """ARM: the relocations of words beside code whose use tells; in the zero-VMA layout relative ones do themselves."""
    return (arm.ABS32,) if layout.layout == "zero-vma" else (arm.ABS32, arm.REL32)


def _low_parts(storage: list[Kept]) -> dict[tuple[int, int], frozenset[int]]:
    """AArch64: the loads and stores that have the lower part of an address in them, by section and address."""
    found: dict[tuple[int, int], set[int]] = {}
    for kept in storage:
        if kept.type in aarch64.LDST_ABS_LO12_NC:
            found.setdefault((kept.home.number, kept.target), set()).add(kept.place)
    return {key: frozenset(places) for key, places in found.items()}


def _target(layout: Layout, bytes_: code.Bytes, kept: Kept) -> int:
    """The address that is named."""
    if layout.arch == "x86_64" and kept.type in (*x86_64.OF_TABLE, *_DISPLACED):
        return kept.target + x86_64.bytes_behind(bytes_, kept.home, kept.place)
    return kept.target


def _on_x86(layout: Layout, bytes_: code.Bytes, kept: Kept) -> str | None:
    if kept.type == x86_64.R_64:
        return DIRECT if x86_64.is_wide_access(bytes_, kept.home, kept.place) else None
    of_table = kept.type in x86_64.OF_TABLE
    is_relative = of_table or kept.type in _DISPLACED
    if not is_relative and kept.type not in (x86_64.R_32, x86_64.R_32S):
        return None
    how = x86_64.addressing(bytes_, kept.home, kept.place, is_relative)
    if is_relative and layout.layout == "zero-vma" and how in ("memory", "lea"):
        return RELATIVE
    is_direct = how == "memory" and not of_table
    if not is_direct and how != "segment":
        is_direct = x86_64.is_used_by_register(bytes_, kept.home, kept.place, kept.type)
    return DIRECT if is_direct else None


def _on_risc(layout: Layout, bytes_: code.Bytes, kept: Kept, low: frozenset[int]) -> str | None:
    assert layout.arch is not None
    if layout.layout == "zero-vma" and kept.type in _RELATIVE[layout.arch]:
        return RELATIVE
    if kept.type in _MAKES[layout.arch] and _is_used(layout.arch, bytes_, kept, low):
        return DIRECT
    return None


def _is_used(arch: str, bytes_: code.Bytes, kept: Kept, low: frozenset[int]) -> bool:
    home, place, kind, _ = kept
    if arch == "arm":
        return _used_on_arm(bytes_, kept)
    of_table = kind in _OF_TABLE[arch]
    if arch == "aarch64":
        return aarch64.used_directly(bytes_, home, place, of_table, low)
    if arch == "loongarch64":
        return loongarch64.used_directly(bytes_, home, place, of_table)
    return riscv.used_directly(bytes_, home, place, 32 if arch == "riscv32" else 64, of_table)


def _used_on_arm(bytes_: code.Bytes, kept: Kept) -> bool:
    is_thumb = kept.type == arm.THM_MOVW_ABS_NC
    # The runtime's near loads have the relocation of a movw.
    if not is_thumb and arm.is_memory_access(bytes_.number(kept.home, kept.place, 4)):
        return False
    return arm.used_directly(bytes_, kept.home, kept.place, is_thumb)
