"""ARM: code that adds a number to a thread ID register, as accesses to thread-local storage do.

Source: ARM ARM (DDI 0406), A5.1 "ARM instruction set encoding", A6.1 "Thumb instruction set encoding".
"""

from __future__ import annotations

import re
from typing import FrozenSet, Optional, Tuple

from percpu_tools.code import Bytes
from percpu_tools.image import Section

# `ldr r, [pc, #number]`, by the last byte of its word in A32, and that of its first half in T32.
A32_LITERAL = re.compile(rb"\xe5(?<=[\x1f\x9f]\xe5)", re.DOTALL)
A32_LITERAL_INTO = 3
T32_LITERAL = re.compile(rb"[\x48-\x4f]|\xf8(?<=[\x5f\xdf]\xf8)", re.DOTALL)
T32_LITERAL_INTO = 1

# `bx lr` and `mov pc, lr`, in A32 and in T32.
_RETURNS = ((0xE12FFF1E, 0xE1A0F00E), (0x4770, 0x46F7))

_USES_LOOKED_AT = 16


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
