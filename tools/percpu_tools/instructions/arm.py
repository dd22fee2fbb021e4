"""ARM: what uses an address that `movw` and `movt` make, in A32 and in T32.

Source: Arm Architecture Reference Manual (DDI 0406), A5.2 "Data-processing and miscellaneous instructions",
A5.3 "Load/store word and unsigned byte", A6.2 "16-bit Thumb instruction encoding", A6.3.
"""

from __future__ import annotations

import re
from typing import FrozenSet, Optional, Tuple

from percpu_tools.code import Bytes
from percpu_tools.image import Section

# aaelf32, "Relocation codes table".
REL32, ABS12 = 3, 8
GOTOFF32, BASE_PREL, GOT_BREL, GOT_PREL = 24, 25, 26, 96
MOVW_ABS_NC, MOVT_ABS, MOVW_PREL_NC, MOVT_PREL = 43, 44, 45, 46
THM_MOVW_ABS_NC, THM_MOVT_ABS, THM_MOVW_PREL_NC, THM_MOVT_PREL = 47, 48, 49, 50

# `ldr r, [pc, #number]`, by the last byte of its word in A32, and that of its first half in T32.
A32_LITERAL = re.compile(rb"\xe5(?<=[\x1f\x9f]\xe5)", re.DOTALL)
A32_LITERAL_INTO = 3
T32_LITERAL = re.compile(rb"[\x48-\x4f]|\xf8(?<=[\x5f\xdf]\xf8)", re.DOTALL)
T32_LITERAL_INTO = 1

# `bx lr` and `mov pc, lr`, in A32 and in T32.
_RETURNS = ((0xE12FFF1E, 0xE1A0F00E), (0x4770, 0x46F7))

_USES_LOOKED_AT = 16


def is_memory_access(word: int) -> bool:
    """Whether an A32 word is `ldr` or `str`, of a word or byte, with an immediate."""
    return word & 0x0E000000 == 0x04000000


def used_directly(code: Bytes, home: Section, start: int, is_thumb: bool) -> bool:
    """Whether a load or store goes to the address of which `movw` or `movt` at `start` makes a part.

    In an accessor the base is added, or the address is the index. What is not followed counts as used otherwise.
    """
    return _used_in_t32(code, home, start) if is_thumb else _used_in_a32(code, home, start)


def _used_in_a32(code: Bytes, home: Section, start: int) -> bool:
    first = code.number(home, start, 4)
    if first & 0x0FB00000 != 0x03000000:
        return False
    register = first >> 12 & 15
    for address in range(start + 4, min(start + 4 + 4 * _USES_LOOKED_AT, home.end), 4):
        word = code.number(home, address, 4)
        destination = word >> 12 & 15
        halves = word & 0x0E400090 == 0x00400090 and word & 0x60
        if (is_memory_access(word) or halves) and word >> 16 & 15 == register:
            return True
        if word >> 16 & 15 == register and _adds_index_to_base(word):
            # `ldr r0, [r1, r0]!`: an index was added, as an accessor adds the base, and the sum kept.
            return False
        if word & 0x0E000000 in (0x0A000000, 0x08000000) or word & 0x0FFFFFD0 == 0x012FFF10:
            # Branches, also by a register, and loads of several registers, which may be one.
            return False
        if word & 0x0FF00000 == 0x03400000 and destination == register:
            # The other half of the address. A second movw begins another one.
            continue
        is_store = (is_memory_access(word) or word & 0x0E000010 == 0x06000000) and not word & 0x00100000
        if destination == register and not is_store:
            return False
    return False


def _adds_index_to_base(word: int) -> bool:
    """Whether a load or store has a register for its index, and writes the sum of base and index back."""
    has_index = word & 0x0E000010 == 0x06000000 or (word & 0x0E400090 == 0x00000090 and bool(word & 0x60))
    # Bit 24 clear: the sum is written back after the access; else bit 21 says whether it is.
    return has_index and (not word & 0x01000000 or bool(word & 0x00200000))


def _used_in_t32(code: Bytes, home: Section, start: int) -> bool:
    if code.number(home, start, 2) & 0xFB70 != 0xF240:
        return False
    register = code.number(home, start + 2, 2) >> 8 & 15
    address = start + 4
    for _ in range(_USES_LOOKED_AT):
        first = code.number(home, address, 2)
        second = code.number(home, address + 2, 2)
        if first >> 11 in (0b11101, 0b11110, 0b11111):
            address += 4
            if first & 0xFBF0 == 0xF2C0 and second >> 8 & 15 == register:
                continue
            # Loads and stores with an immediate: bit 7 of the first half, or bit 11 of the second, says so.
            if first & 0xFE00 == 0xF800 and (first & 0x80 or second & 0x800):
                if first & 15 == register:
                    return True
            elif first & 0xF800 == 0xF000 and second & 0x8000:
                return False
            if register in (second >> 12 & 15, second >> 8 & 15) and first & 0xFE10 != 0xF800:
                return False
        else:
            address += 2
            if 0b01100 <= first >> 11 <= 0b10001:
                if first >> 3 & 7 == register:
                    return True
                if first & 0x800 and first & 7 == register:
                    return False
            elif first >> 12 == 0b1101 or first >> 11 == 0b11100 or first & 0xFF00 in (0x4700, 0xBD00):
                return False
            elif first >> 12 == 0b0101:
                # With an index: a load of the register itself, or no use of it as a base.
                if first >> 9 & 7 >= 3 and first & 7 == register:
                    return False
            elif register in (first & 7, first >> 8 & 7, first >> 3 & 15):
                return False
        if address >= home.end:
            return False
    return False


def literal_at(code: Bytes, home: Section, start: int, is_thumb: bool) -> int:
    """The address of the word that the `ldr` of A32_LITERAL or T32_LITERAL at `start` loads."""
    if not is_thumb:
        word = code.number(home, start, 4)
        return start + 8 + (word & 0xFFF if word & 0x00800000 else -(word & 0xFFF))
    first = code.number(home, start, 2)
    if first >> 11 == 0b01001:
        return (start + 4 & ~3) + 4 * (first & 0xFF)
    offset = code.number(home, start + 2, 2) & 0xFFF
    return (start + 4 & ~3) + (offset if first & 0x80 else -offset)


def added_to_thread_register(code: Bytes, home: Section, start: int, is_thumb: bool) -> int | None:
    """The thread ID register to which the number is added that the `ldr` at `start` loads: its opcode 2 in `mrc`."""
    wide = is_thumb and code.number(home, start, 2) >> 11 != 0b01001
    if not is_thumb:
        offset = code.number(home, start, 4) >> 12 & 15
    elif wide:
        offset = code.number(home, start + 2, 2) >> 12 & 15
    else:
        offset = code.number(home, start, 2) >> 8 & 7
    read: dict[int, int] = {}
    # Compilers read the register behind the number's load, or right before it.
    if start >= home.address + 4:
        _, _, written, thread = _decoded(code, home, start - 4, is_thumb)
        if thread is not None and written is not None and offset not in written:
            read[min(written)] = thread
    address = start + (2 if is_thumb and not wide else 4)
    for _ in range(_USES_LOOKED_AT):
        if address >= home.end:
            return None
        size, sum_of, written, thread = _decoded(code, home, address, is_thumb)
        if offset in sum_of:
            return next((read[other] for other in sum_of if other != offset and other in read), None)
        if written is None or offset in written:
            return None
        for register in written:
            read.pop(register, None)
        if thread is not None:
            read[min(written)] = thread
        address += size
    return None


def read_by(code: Bytes, home: Section, start: int) -> int | None:
    """The thread ID register, by its opcode 2, that the function at `start` reads before it returns."""
    is_thumb, address = bool(start & 1), start & ~1
    for _ in range(_USES_LOOKED_AT):
        if address >= home.end or code.number(home, address, 2 if is_thumb else 4) in _RETURNS[is_thumb]:
            return None
        size, _, _, thread = _decoded(code, home, address, is_thumb)
        if thread is not None:
            return thread
        address += size
    return None


# An instruction: its size, the two registers whose sum it computes or takes for an address, those that it may write (`None`:
# it goes elsewhere), and the opcode 2 of the thread ID register that it reads.
_Decoded = Tuple[int, Tuple[int, ...], Optional[FrozenSet[int]], Optional[int]]


def _decoded(code: Bytes, home: Section, address: int, is_thumb: bool) -> _Decoded:
    if is_thumb:
        return _in_t32(code.number(home, address, 2), code.number(home, address + 2, 2))
    return _in_a32(code.number(home, address, 4))


def _in_a32(word: int) -> _Decoded:
    destination = word >> 12 & 15
    if word & 0x0FFF0F1F == 0x0E1D0F10:
        return 4, (), frozenset((destination,)), word >> 5 & 7
    is_store_of_several = word & 0x0E100000 == 0x08000000
    if word & 0x0E000000 in (0x0A000000, 0x08000000) or word & 0x0FFFFFD0 == 0x012FFF10:
        return 4, (), frozenset() if is_store_of_several else None, None
    sums = word & 0x0FE00FF0 == 0x00800000
    indexed = word & 0x0F800FF0 == 0x07800000 or word & 0x0FC00F90 == 0x01800090 and word & 0x60
    return 4, (word >> 16 & 15, word & 15) if sums or indexed else (), frozenset((destination,)), None


def _in_t32(first: int, second: int) -> _Decoded:
    if first >> 11 in (0b11101, 0b11110, 0b11111):
        written = frozenset((second >> 12 & 15, second >> 8 & 15))
        if first == 0xEE1D and second & 0x0F1F == 0x0F10:
            return 4, (), frozenset((second >> 12 & 15,)), second >> 5 & 7
        if first & 0xF800 == 0xF000 and second & 0x8000:
            return 4, (), None, None
        sums = first & 0xFFE0 == 0xEB00 and not second & 0x70F0
        indexed = first & 0xFE80 == 0xF800 and not second & 0x0FF0
        return 4, (first & 15, second & 15) if sums or indexed else (), written, None
    if first >> 12 == 0b1101 or first >> 11 == 0b11100 or first & 0xFF00 in (0x4700, 0xBD00):
        return 2, (), None, None
    low, eight = first & 7, first >> 8 & 7
    high = first >> 4 & 8 | low
    if first & 0xFF00 == 0x4400:
        return 2, (high, first >> 3 & 15), frozenset((high,)), None
    if first & 0xFE00 == 0x1800 or first >> 12 == 0b0101:
        return 2, (first >> 3 & 7, first >> 6 & 7), frozenset((low,)), None
    if first & 0xFF00 == 0x4600:
        return 2, (), frozenset((high,)), None
    if first & 0xFE00 == 0xB400:
        return 2, (), frozenset(), None
    return 2, (), frozenset((eight if first >> 13 == 1 or first >> 11 in (0b01001, 0b10100, 0b10101) else low,)), None
