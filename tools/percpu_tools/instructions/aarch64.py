"""AArch64: how offsets and addresses are made, and the loads and stores that use them.

Source: Arm Architecture Reference Manual (DDI 0487), C4.1, "A64 instruction set encoding".
"""

from __future__ import annotations

import re

from percpu_tools.code import Bytes
from percpu_tools.image import Section

REGISTERS = {"x18": 18}

# aaelf64, "Relocation types".
MOVW_UABS_G0, MOVW_UABS_G0_NC, MOVW_UABS_G1, MOVW_UABS_G1_NC = 263, 264, 265, 266
LD_PREL_LO19, ADR_PREL_LO21, ADR_PREL_PG_HI21, ADR_PREL_PG_HI21_NC = 273, 274, 275, 276
GOT_LD_PREL19, ADR_GOT_PAGE, LD64_GOTPAGE_LO15 = 309, 311, 313
ADD_ABS_LO12_NC = 277
LDST_ABS_LO12_NC = (278, 284, 285, 286, 299)

# The last byte of movz x, #number, unshifted: bits 31 to 21 are 110 1001 0100.
MOVZ = re.compile(rb"\xd2(?<=[\x80-\x9f]\xd2)", re.DOTALL)
MOVZ_INTO = 3

# mrs x, of these.
_BASES = {0xD538D080: "TPIDR_EL1", 0xD53BD040: "TPIDR_EL0", 0xD53BD060: "TPIDRRO_EL0", 0xD53CD040: "TPIDR_EL2", 0xD53ED040: "TPIDR_EL3"}

# The last byte of `add x, x, #0, lsl #12`. Compilers have no use for it but the upper half of an offset from the thread pointer,
# which the linker fills in (aaelf64, R_AARCH64_TLSLE_ADD_TPREL_HI12): in the first 4 KiB it is 0.
ADD_TPREL_HI12 = re.compile(rb"\x91(?<=[\x00-\x03]\x40\x91)", re.DOTALL)
ADD_TPREL_HI12_INTO = 3

_NOP = 0xD503201F

_USES_LOOKED_AT = 16
# The base is read within so many instructions of an offset's making, before it or behind.
_NEAR_BASE = 4


def moved(word: int) -> tuple[int, int] | None:
    """The register and number of an unshifted `movz` of 64 bits."""
    return (word & 31, word >> 5 & 0xFFFF) if word & 0xFFE00000 == 0xD2800000 else None


def base_read(word: int) -> int | None:
    """The register into which a thread ID register is read."""
    return word & 31 if word & ~31 in _BASES else None


def base_of(word: int) -> int | None:
    """The base of a load or store without an index: with an immediate, of a pair, exclusive, atomic."""
    plain = word & 0x3B000000 == 0x39000000 or word & 0x3B200000 == 0x38000000
    other = word & 0x3A000000 == 0x28000000 or word & 0x3F000000 == 0x08000000 or word & 0x3B200C00 == 0x38200000
    return word >> 5 & 31 if plain or other else None


def added_registers(word: int) -> tuple[int, int] | None:
    """The two registers whose sum `word` computes, or from whose sum it loads or to which it stores."""
    indexed, summed = word & 0x3B200C00 == 0x38200800, word & 0xFF200000 == 0x8B000000
    return (word >> 5 & 31, word >> 16 & 31) if indexed or summed else None


def added_to_base(code: Bytes, home: Section, start: int, registers: frozenset[int]) -> bool:
    """Whether the offset that the `movz` at `start` makes is added to a base: one of `registers`, or read close by."""
    bases = set(registers)
    for address in range(max(start - 4 * _NEAR_BASE, home.address), start, 4):
        register = base_read(code.number(home, address, 4))
        if register is not None:
            bases.add(register)
    offset = code.number(home, start, 4) & 31
    bases.discard(offset)
    for address in range(start + 4, min(start + 4 + 4 * _NEAR_BASE, home.end), 4):
        word = code.number(home, address, 4)
        register = base_read(word)
        if register is not None:
            bases.add(register)
        operands = added_registers(word)
        if operands is not None and offset in operands:
            return bool(bases & set(operands))
        # Also a movk, which gives the number upper bits, writes the register again.
        if _is_branch(word) or register != offset and base_of(word) is None and word & 31 == offset:
            return False
    return False


def base_is_register(code: Bytes, home: Section, place: int, registers: frozenset[int]) -> bool:
    """Whether the instruction at `place` is based on the base register itself, not on a page's address.

    That is one of `registers`, or one into which a thread ID register was read within the instructions before.
    """
    base = code.number(home, place, 4) >> 5 & 31
    if base in registers:
        return True
    for address in range(place - 4, max(place - 4 * _USES_LOOKED_AT, home.address) - 4, -4):
        if address < home.address:
            break
        word = code.number(home, address, 4)
        if base_read(word) == base:
            return True
        if _is_branch(word) or word & 31 == base and not _is_store(word):
            return False
    return False


def thread_pointer(code: Bytes, home: Section, start: int) -> str | None:
    """The thread ID register from which the operand of the `add` of ADD_TPREL_HI12 at `start` was read."""
    operand = code.number(home, start, 4) >> 5 & 31
    for address in range(start - 4, max(start - 4 * _USES_LOOKED_AT, home.address - 4), -4):
        word = code.number(home, address, 4)
        if base_read(word) == operand:
            return _BASES[word & ~31]
        if _is_branch(word) or word & 31 == operand and not _is_store(word):
            return None
    return None


def used_directly(
    code: Bytes, home: Section, start: int, of_table: bool = False, low: frozenset[int] = frozenset()
) -> bool:
    """Whether a load or store goes to the address of which the instruction at `start` makes the first part, or all.

    That is `adrp`, `movz` or `adr`, also behind a `nop`, where a linker has made it of a pair; or the load itself.
    With `of_table` the address is that of an entry of the global offset table, and what is loaded from there is the
    one that matters, unless a linker has made an addition of the load. `low` are the places that have the lower part
    of the address for their offset: behind a call only they tell that it has left a register alone.
    In an accessor the base is added first. What is not followed counts as used otherwise.
    """
    first = code.number(home, start, 4)
    if first == _NOP:
        start, of_table = start + 4, False
        first = code.number(home, start, 4)
        if not _is_adr(first):
            return False
    is_pointer = of_table and (_loads_pointer(first) or _is_literal_load(first))
    if not is_pointer and not _is_adr(first) and first & 0x9F000000 != 0x90000000 and moved(first) is None:
        return not of_table and _is_literal_load(first)
    registers = {first & 31}
    entries = set(registers) if of_table and not is_pointer else set()
    was_call = False
    for address in range(start + 4, min(start + 4 + 4 * _USES_LOOKED_AT, home.end), 4):
        word = code.number(home, address, 4)
        makes_more = word & 0xFF800000 == 0x91000000 and word >> 5 & 31 in registers
        if word >> 5 & 31 in entries and (makes_more or _loads_pointer(word)):
            # The entry's lower part: of the load, or of the addition that has become of it.
            registers, entries = {word & 31}, set()
            continue
        base = base_of(word)
        if base in registers and (not was_call or address in low):
            return True
        if _is_call(word):
            was_call = True
            continue
        if _is_branch(word):
            return False
        if makes_more:
            registers.add(word & 31)
        elif word & 0xFF800000 != 0xF2800000 and not _is_store(word):
            written = {word & 31, word >> 10 & 31} if _is_pair_load(word) else {word & 31}
            registers -= written
            entries -= written
        if not registers:
            return False
    return False


def _is_adr(word: int) -> bool:
    return word & 0x9F000000 == 0x10000000


def _is_literal_load(word: int) -> bool:
    """Whether `word` loads from an address relative to the program counter, into a general register or a vector."""
    return word & 0x3B000000 == 0x18000000 and word & 0xFF000000 != 0xD8000000  # prfm


def _loads_pointer(word: int) -> bool:
    """Whether `word` is a load of 64 bits with an offset."""
    return word & 0xFFC00000 == 0xF9400000


def _is_pair_load(word: int) -> bool:
    return word & 0x3A400000 == 0x28400000


def _is_call(word: int) -> bool:
    return word & 0xFC000000 == 0x94000000


def _is_branch(word: int) -> bool:
    return word & 0x1C000000 == 0x14000000 and word & 0xFFC00000 != 0xD5000000


def _is_store(word: int) -> bool:
    return word & 0x3A000000 == 0x38000000 and not word & 0x00C00000
