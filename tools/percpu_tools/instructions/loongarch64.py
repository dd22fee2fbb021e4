"""LoongArch64: loads, stores and additions with a 12-bit immediate, and what completes an address.

Source: LoongArch Reference Manual, Volume 1, Appendix B, "Table of Instruction Encoding".
"""

from __future__ import annotations

import re
from typing import NamedTuple

from percpu_tools.code import Bytes
from percpu_tools.image import Section

REGISTERS = {"r21": 21, "tp": 2}

# LoongArch ELF psABI, "Relocations".
ABS_HI20, ABS_LO12, PCALA_HI20, PCALA_LO12, GOT_PC_HI20, PCREL20_S2 = 64, 65, 71, 72, 75, 103

_USES_LOOKED_AT = 16

# The upper 10 bits of the word: ld.b to ld.wu, without preld; fld and fst; addi.d.
_LOADS = frozenset({0xA0, 0xA1, 0xA2, 0xA3, 0xA8, 0xA9, 0xAA, 0xAC, 0xAE})
_STORES = frozenset({0xA4, 0xA5, 0xA6, 0xA7, 0xAD, 0xAF})
_FLOATING = frozenset({0xAC, 0xAD, 0xAE, 0xAF})
_ADDI = 0x0B
# The upper 7 bits: lu12i.w, pcaddi, pcalau12i.
_PCADDI = 0x0C
_UPPER = (0x0A, _PCADDI, 0x0D)
# From llacq.w to the last of am*, before dbar.
_ATOMIC = (0x38578000, 0x38720000)


class Access(NamedTuple):
    """`rd, base, immediate`; in an addition the two are added."""

    kind: str  # load, store, add
    register: int
    base: int
    immediate: int


def access(word: int) -> Access | None:
    """The load, store or addition with an immediate that `word` is."""
    operation = word >> 22
    kind = "load" if operation in _LOADS else "store" if operation in _STORES else "add" if operation == _ADDI else None
    if kind is None:
        return None
    immediate = word >> 10 & 0xFFF
    return Access(kind, word & 31, word >> 5 & 31, immediate - 0x1000 if immediate & 0x800 else immediate)


def pattern(base: int) -> re.Pattern[bytes]:
    """The loads, stores and additions with that base register: its bits are 5 to 9."""
    low = b"[" + b"".join(re.escape(bytes([(base & 7) << 5 | register])) for register in range(32)) + b"]"
    middle = b"[" + b"".join(re.escape(bytes([immediate << 2 | base >> 3])) for immediate in range(64)) + b"]"
    # The top byte: ld and st, fld and fst; addi.d with its immediate's upper bits.
    return re.compile(low + rb"(?=" + middle + rb".[\x28-\x2b\x02])", re.DOTALL)


def _other_base(word: int) -> int | None:
    """The base of a load or store without an index that is no `Access`: ll, sc, ldptr, stptr, and atomic ones."""
    return word >> 5 & 31 if 0x20 <= word >> 24 <= 0x27 or _ATOMIC[0] <= word < _ATOMIC[1] else None


def used_directly(code: Bytes, home: Section, start: int, of_table: bool = False) -> bool:
    """Whether a load or store goes to the address of which the instruction at `start` makes the upper part.

    With `of_table` the address is that of an entry of the global offset table, and what is loaded from there is the
    one that matters, unless a linker has made an addition of the load.
    In an accessor the base register is added first. What is not followed counts as used otherwise.
    """
    first = code.number(home, start, 4)
    if first >> 25 not in _UPPER:
        # A linker's relaxation has made something shorter of it.
        return False
    registers = {first & 31}
    entries = set(registers) if of_table and first >> 25 != _PCADDI else set()
    for address in range(start + 4, min(start + 4 + 4 * _USES_LOOKED_AT, home.end), 4):
        word = code.number(home, address, 4)
        decoded = access(word)
        if decoded is not None and decoded.base in entries and decoded.kind != "store":
            # The entry's lower part: of the load, or of the addition that has become of it.
            registers, entries = {decoded.register}, set()
        elif decoded is not None and decoded.base in registers:
            if decoded.kind != "add":
                return True
            registers.add(decoded.register)
        elif _other_base(word) in registers:
            return True
        elif word >> 22 == 0x0E and word >> 5 & 31 in registers:
            # ori, which puts in the lower part.
            registers.add(word & 31)
        elif 0x10 <= word >> 26 <= 0x1B:
            # Branches and jumps.
            return False
        elif decoded is None or decoded.kind == "add" or decoded.kind == "load" and word >> 22 not in _FLOATING:
            registers.discard(word & 31)
            entries.discard(word & 31)
        if not registers:
            return False
    return False
