"""ARM: what uses an address that `movw` and `movt` make, in A32 and in T32.

Source: Arm Architecture Reference Manual (DDI 0406), A5.2 "Data-processing and miscellaneous instructions",
A5.3 "Load/store word and unsigned byte", A6.2 "16-bit Thumb instruction encoding", A6.3.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from percpu_tools.code import Bytes, marks
from percpu_tools.image import Image, Section

# aaelf32, "Relocation codes table".
ABS32, REL32, ABS12 = 2, 3, 8
GOTOFF32, BASE_PREL, GOT_BREL, GOT_PREL = 24, 25, 26, 96
MOVW_ABS_NC, MOVT_ABS, MOVW_PREL_NC, MOVT_PREL = 43, 44, 45, 46
THM_MOVW_ABS_NC, THM_MOVT_ABS, THM_MOVW_PREL_NC, THM_MOVT_PREL = 47, 48, 49, 50

_PC = 15

_USES_LOOKED_AT = 16
# How far from the program counter a literal may lie: 12 bits, and where the counter is.
_LITERAL_REACH = 0x1000 + 8


def is_memory_access(word: int) -> bool:
    """Whether an A32 word is `ldr` or `str`, of a word or byte, with an immediate."""
    return word & 0x0E000000 == 0x04000000


def used_directly(code: Bytes, home: Section, start: int, is_thumb: bool) -> bool:
    """Whether a load or store goes to the address of which the `movw` at `start` makes a part.

    In an accessor the base is added, or the address is the index. What is not followed counts as used otherwise.
    """
    if is_thumb:
        if code.number(home, start, 2) & 0xFB70 != 0xF240:
            return False
        return _used_in_t32(code, home, start + 4, code.number(home, start + 2, 2) >> 8 & 15)
    word = code.number(home, start, 4)
    return word & 0x0FB00000 == 0x03000000 and _used_in_a32(code, home, start + 4, word >> 12 & 15)


class Load(NamedTuple):
    """A load of a word that lies beside the code: where it is, and the next instruction, and the register."""

    address: int
    behind: int
    register: int
    is_thumb: bool

    def is_used_directly(self, code: Bytes, home: Section, is_relative: bool) -> bool:
        """Whether a load or store goes to the address that it has loaded, or to its sum with the program counter."""
        start, register = self.behind, self.register
        if is_relative:
            summed = (_summed_in_t32 if self.is_thumb else _summed_in_a32)(code, home, start, register)
            if summed is None:
                return False
            start, register = summed
        return (_used_in_t32 if self.is_thumb else _used_in_a32)(code, home, start, register)


class Literals:
    """The words beside the code of one section (aaelf32, "Mapping symbols": `$a`, `$t` and `$d` say what is where)."""

    def __init__(self, image: Image, home: Section, code: Bytes) -> None:
        self._code = code
        self._home = home
        self._starts: list[int] = []
        self._modes: list[str] = []
        # What was read, by the number of the symbol.
        self._known: dict[int, dict[int, list[Load]]] = {}
        mode = ""
        for mark in marks(image, home):
            if mark.name[:2] in ("$a", "$t", "$d"):
                mode = mark.name[1]
            # The lowest bit of a function's address says Thumb.
            start = mark.value & ~1
            if home.address <= start < home.end:
                self._starts.append(start)
                self._modes.append(mode)

    def loads(self, place: int) -> Iterator[Load]:
        """The loads of the word at `place` from an address relative to the program counter."""
        first = max(bisect_right(self._starts, place - _LITERAL_REACH) - 1, 0)
        for index in range(first, bisect_right(self._starts, place + _LITERAL_REACH)):
            if index not in self._known:
                self._known[index] = self._read(index)
            yield from self._known[index].get(place, ())

    def _read(self, index: int) -> dict[int, list[Load]]:
        """The loads between a symbol and the next one, by the address from which they load."""
        start, mode = self._starts[index], self._modes[index]
        end = self._starts[index + 1] if index + 1 < len(self._starts) else self._home.end
        found: dict[int, list[Load]] = {}
        if mode in ("a", "t"):
            for place, load in self._in_a32(start, end) if mode == "a" else self._in_t32(start, end):
                found.setdefault(place, []).append(load)
        return found

    def _in_a32(self, start: int, end: int) -> Iterator[tuple[int, Load]]:
        for address in range(start, end - 3, 4):
            word = self._code.number(self._home, address, 4)
            if word & 0x0F7F0000 == 0x051F0000:
                offset = word & 0xFFF
                place = address + 8 + (offset if word & 0x00800000 else -offset)
                yield place, Load(address, address + 4, word >> 12 & 15, is_thumb=False)

    def _in_t32(self, start: int, end: int) -> Iterator[tuple[int, Load]]:
        address = start
        while address < end:
            first = self._code.number(self._home, address, 2)
            counter = address + 4 & ~3
            if not _is_wide(first):
                if first & 0xF800 == 0x4800:
                    yield counter + (first & 0xFF) * 4, Load(address, address + 2, first >> 8 & 7, is_thumb=True)
                address += 2
                continue
            if first & 0xFF7F == 0xF85F:
                second = self._code.number(self._home, address + 2, 2)
                offset = second & 0xFFF
                place = counter + (offset if first & 0x80 else -offset)
                yield place, Load(address, address + 4, second >> 12, is_thumb=True)
            address += 4


def _used_in_a32(code: Bytes, home: Section, start: int, register: int) -> bool:
    """Whether a load or store among the instructions at `start` is based on the register alone."""
    for address in range(start, min(start + 4 * _USES_LOOKED_AT, home.end), 4):
        verdict = _use_in_a32(code.number(home, address, 4), register)
        if verdict is not None:
            return verdict
    return False


def _summed_in_a32(code: Bytes, home: Section, start: int, register: int) -> tuple[int, int] | None:
    """Where `add rd, pc, register` has made an address, and the register."""
    for address in range(start, min(start + 4 * _USES_LOOKED_AT, home.end), 4):
        word = code.number(home, address, 4)
        if word & 0x0FFF0FFF == 0x008F0000 | register:
            return address + 4, word >> 12 & 15
        if _use_in_a32(word, register) is not None:
            return None
    return None


def _use_in_a32(word: int, register: int) -> bool | None:
    """Whether an instruction accesses what is at the register alone; `None` if what is behind it tells."""
    if word & 0xFE000000 == 0xF4000000 or word & 0x0DB0F000 == 0x0120F000 and word & 0x0FFFFFD0 != 0x012FFF10:
        # pld, dmb and their kin; nop and msr.
        return None
    destination, base = word >> 12 & 15, word >> 16 & 15
    halves = word & 0x0E400090 == 0x00400090 and word & 0x60
    # swp, ldrex, strex and their kin; ldm and stm.
    exclusive = word & 0x0F0000F0 == 0x01000090
    several = word & 0x0E000000 == 0x08000000
    if base == register and (is_memory_access(word) or halves or exclusive or several):
        return True
    if base == register and _adds_index_to_base(word):
        # `ldr r0, [r1, r0]!`: an index was added, as an accessor adds the base, and the sum kept.
        return False
    is_call = word & 0x0F000000 == 0x0F000000
    if word & 0x0E000000 == 0x0A000000 or several or is_call or word & 0x0FFFFFD0 == 0x012FFF10:
        # Branches, also by a register, svc, and loads of several registers, which may be one.
        return False
    if word & 0x0FF00000 == 0x03400000 and destination == register:
        # The other half of the address. A second movw begins another one.
        return None
    is_store = (is_memory_access(word) or word & 0x0E000010 == 0x06000000) and not word & 0x00100000
    # tst, teq, cmp, cmn.
    is_comparison = word & 0x0D900000 == 0x01100000 and word & 0x02000090 != 0x00000090
    if not is_store and not is_comparison and {register, _PC} & _written_in_a32(word):
        # Also a load of the program counter, which returns.
        return False
    return None


def _written_in_a32(word: int) -> set[int]:
    """The registers that an instruction may write which is neither a branch nor a load of several."""
    written = {word >> 12 & 15}
    if word & 0x0E1000F0 == 0x000000D0 or word & 0x0FF000F0 == 0x01B00090:
        # ldrd, ldrexd.
        written.add(word >> 12 & 15 | 1)
    if word & 0x0F0000F0 == 0x00000090 or word & 0x0F900090 == 0x01000080 or word & 0x0F000010 == 0x07000010:
        # Multiplications and divisions.
        written.add(word >> 16 & 15)
    return written


def _adds_index_to_base(word: int) -> bool:
    """Whether a load or store has a register for its index, and writes the sum of base and index back."""
    has_index = word & 0x0E000010 == 0x06000000 or (word & 0x0E400090 == 0x00000090 and bool(word & 0x60))
    # Bit 24 clear: the sum is written back after the access; else bit 21 says whether it is.
    return has_index and (not word & 0x01000000 or bool(word & 0x00200000))


def _is_wide(first: int) -> bool:
    """Whether an instruction of T32 that begins with these 16 bits has 32."""
    return first >> 11 in (0b11101, 0b11110, 0b11111)


def _used_in_t32(code: Bytes, home: Section, start: int, register: int) -> bool:
    """Whether a load or store among the instructions at `start` is based on the register alone."""
    address = start
    for _ in range(_USES_LOOKED_AT):
        first = code.number(home, address, 2)
        if _is_wide(first):
            verdict = _wide_use(first, code.number(home, address + 2, 2), register)
            address += 4
        else:
            verdict = _narrow_use(first, register)
            address += 2
        if verdict is not None:
            return verdict
        if address >= home.end:
            return False
    return False


def _summed_in_t32(code: Bytes, home: Section, start: int, register: int) -> tuple[int, int] | None:
    """Where `add register, pc` has made an address, and the register."""
    address = start
    for _ in range(_USES_LOOKED_AT):
        first = code.number(home, address, 2)
        if first == 0x4478 | register & 7 | (register & 8) << 4:
            return address + 2, register
        is_wide = _is_wide(first)
        verdict = (
            _wide_use(first, code.number(home, address + 2, 2), register) if is_wide else _narrow_use(first, register)
        )
        if verdict is not None or address >= home.end:
            return None
        address += 4 if is_wide else 2
    return None


def _wide_use(first: int, second: int, register: int) -> bool | None:
    is_movt = first & 0xFBF0 == 0xF2C0 and not second & 0x8000
    if is_movt and second >> 8 & 15 == register or first in (0xF3AF, 0xF3BF):
        # movt, the other half; nop, dmb and their kin.
        return None
    # Loads and stores with an immediate: bit 7 of the first half, or bit 11 of the second, says so.
    is_single = first & 0xFE00 == 0xF800
    # ldm and stm; ldrd, ldrex and their kin.
    is_several, is_other = first & 0xFE40 == 0xE800, first & 0xFE40 == 0xE840
    if first & 0xFFF0 == 0xE8D0 and second & 0xFFE0 == 0xF000:
        # tbb, tbh
        return False
    if first & 15 == register and (is_single and (first & 0x80 or second & 0x800) or is_several or is_other):
        return True
    if first & 0xF800 == 0xF000 and second & 0x8000:
        # Branches.
        return False
    if is_single and not first & 0x10:
        # A store.
        return None
    written = {second >> 12 & 15, second >> 8 & 15}
    if is_single:
        written = {second >> 12 & 15}
    elif is_several and first & 0x10:
        written = {number for number in range(16) if second >> number & 1}
    elif is_other:
        # What strexb, strexh and strexd tell.
        written.add(second & 15)
    elif first & 0xEC00 == 0xEC00:
        # vmov to two registers; vldm and vstm, which may write the sum back.
        written.add(first & 15)
    # Also a load of the program counter, which returns.
    loads_pc = (is_single or is_several) and _PC in written
    return False if loads_pc or register in written else None


def _narrow_use(half: int, register: int) -> bool | None:
    operation = half >> 11
    if 0b01100 <= operation <= 0b10001:
        # Loads and stores with an immediate.
        if half >> 3 & 7 == register:
            return True
        return False if half & 0x800 and half & 7 == register else None
    if operation in (0b11000, 0b11001) and half >> 8 & 7 == register:
        # stm, ldm
        return True
    if half >> 12 == 0b1101 or operation == 0b11100 or half & 0xFF00 in (0x4700, 0xBD00) or half & 0xF500 == 0xB100:
        # Branches, also by a register, a return, cbz and cbnz.
        return False
    return False if {register, _PC} & _written_by_narrow(half) else None


def _written_by_narrow(half: int) -> set[int]:
    """The registers that an instruction of 16 bits may write which is neither a branch nor has an immediate offset."""
    operation, low, high = half >> 11, half & 7, half >> 8 & 7
    if half >> 12 == 0b0101:
        # With an index: a load of the register itself, or no use of it as a base.
        return {low} if half >> 9 & 7 >= 3 else set()
    if operation in (0b00100, 0b00110, 0b00111, 0b01001, 0b10010, 0b10011, 0b10100, 0b10101):
        # A number of 8 bits is moved, added or subtracted, or is the offset from the program counter or stack.
        return {high}
    if operation == 0b00101:
        # cmp
        return set()
    if half & 0xFC00 == 0x4400:
        # add, cmp and mov of all registers: bit 7 is the uppermost of the first.
        return {low | half >> 4 & 8}
    if operation == 0b11001 or half & 0xFE00 == 0xBC00:
        # ldm, pop
        return {number for number in range(8) if half >> number & 1}
    if operation == 0b11000 or half & 0xFE00 == 0xB400 or half & 0xFF00 == 0xBF00:
        # stm, push, it and hints
        return set()
    return {low}
