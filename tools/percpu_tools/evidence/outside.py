"""Code that names per-CPU storage as if it were an ordinary variable, by its kept relocations."""

from __future__ import annotations

from collections.abc import Callable
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
        *(aarch64.GOT_LD_PREL19, aarch64.ADR_GOT_PAGE),
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
    "aarch64": {aarch64.ADR_PREL_PG_HI21, aarch64.ADR_PREL_PG_HI21_NC, aarch64.MOVW_UABS_G0, aarch64.MOVW_UABS_G0_NC},
    "arm": {arm.MOVW_ABS_NC, arm.THM_MOVW_ABS_NC},
    "riscv64": {riscv.HI20, riscv.PCREL_HI20},
    "riscv32": {riscv.HI20, riscv.PCREL_HI20},
    "loongarch64": {loongarch64.ABS_HI20, loongarch64.PCALA_HI20, loongarch64.PCREL20_S2},
}

# x86_64 counts from the end of the instruction, most often that of its 4 bytes of displacement.
_DISPLACEMENT = {
    ("x86_64", kind): 4 for kind in (x86_64.PC32, x86_64.PLT32, x86_64.GOTPCREL, x86_64.GOTPCRELX, x86_64.REX_GOTPCRELX)
}

_Uses = Callable[[code.Bytes, Kept], bool]
_USES: dict[str, _Uses] = {
    "aarch64": lambda bytes_, kept: aarch64.used_directly(bytes_, kept.home, kept.place),
    "arm": lambda bytes_, kept: _used_on_arm(bytes_, kept),
    "riscv64": lambda bytes_, kept: riscv.used_directly(bytes_, kept.home, kept.place, 64),
    "riscv32": lambda bytes_, kept: riscv.used_directly(bytes_, kept.home, kept.place, 32),
    "loongarch64": lambda bytes_, kept: loongarch64.used_directly(bytes_, kept.home, kept.place),
}


class Outside(NamedTuple):
    """A place in code, and how the storage is addressed there: RELATIVE or DIRECT."""

    kept: Kept
    how: str


def accesses(layout: Layout, image: Image) -> list[Outside]:
    """The places at which code outside accessors addresses storage.

    An accessor in the zero-VMA layout never computes an address from the program counter; in either layout it does
    not load from or store to the address without adding the base.
    """
    bytes_ = code.Bytes(image)
    found = []
    for kept in relocations.to_storage(layout, image, WHAT):
        how = _on_x86(layout, bytes_, kept) if layout.arch == "x86_64" else _on_risc(layout, bytes_, kept)
        if how is not None:
            found.append(
                Outside(kept._replace(target=kept.target + _DISPLACEMENT.get((layout.arch or "", kept.type), 0)), how)
            )
    return found


def _on_x86(layout: Layout, bytes_: code.Bytes, kept: Kept) -> str | None:
    if kept.type == x86_64.R_64:
        return DIRECT if x86_64.is_wide_access(bytes_, kept.home, kept.place) else None
    of_table = kept.type in (x86_64.GOTPCREL, x86_64.GOTPCRELX, x86_64.REX_GOTPCRELX)
    is_relative = of_table or kept.type in (x86_64.PC32, x86_64.PLT32)
    if not is_relative and kept.type not in (x86_64.R_32, x86_64.R_32S):
        return None
    how = x86_64.addressing(bytes_, kept.home, kept.place, is_relative)
    if is_relative and layout.layout == "zero-vma" and how in ("memory", "lea"):
        return RELATIVE
    return DIRECT if how == "memory" and not of_table else None


def _on_risc(layout: Layout, bytes_: code.Bytes, kept: Kept) -> str | None:
    assert layout.arch is not None
    if layout.layout == "zero-vma" and kept.type in _RELATIVE[layout.arch]:
        return RELATIVE
    if kept.type in _MAKES[layout.arch] and _USES[layout.arch](bytes_, kept):
        return DIRECT
    return None


def _used_on_arm(bytes_: code.Bytes, kept: Kept) -> bool:
    is_thumb = kept.type == arm.THM_MOVW_ABS_NC
    # The runtime's near loads have the relocation of a movw.
    if not is_thumb and arm.is_memory_access(bytes_.number(kept.home, kept.place, 4)):
        return False
    return arm.used_directly(bytes_, kept.home, kept.place, is_thumb)
