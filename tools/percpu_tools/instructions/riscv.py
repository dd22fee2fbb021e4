"""RISC-V: loads, stores and additions with a 12-bit immediate, and what makes and completes an address.

Source: The RISC-V Instruction Set Manual, Volume I, "RV32/64G Instruction Set Listings" and "C Extension".
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from percpu_tools.code import Bytes, marks
from percpu_tools.image import Image, Section

ZERO, GP, TP = 0, 3, 4
REGISTERS = {"gp": GP, "tp": TP}

# psABI, "Relocations". Linkers make the last two of a pair `%hi`/`%lo` whose target is near `zero` or gp.
NONE, GOT_HI20, PCREL_HI20, HI20, LO12_I, LO12_S, GPREL_I, GPREL_S = 0, 20, 23, 26, 27, 28, 47, 48
# The psABI gives no meaning to numbers from here on. They are linkers' own, some of which have these two among them:
# GNU ld has since 2.44.
INTERNAL = 66

_LOADS, _STORES = (0x03, 0x07), (0x23, 0x27)
_ADDI, _ADD, _LUI, _AUIPC, _AMO = 0x13, 0x33, 0x37, 0x17, 0x2F
_EBREAK, _C_EBREAK = 0x00100073, 0x9002

# How far an address may be used from where it is made: compilers put other things in between.
_USES_LOOKED_AT = 16
# How many instructions are remembered before one that is looked at.
_REMEMBERED = 24


class Access(NamedTuple):
    """`rd, immediate(base)`; in an addition the two are added."""

    kind: str  # load, store, add
    register: int
    base: int
    immediate: int


def length(half: int) -> int:
    """The bytes of an instruction, by its first two."""
    return 4 if half & 3 == 3 else 2


def access(word: int) -> Access | None:
    """The load, store (of integers or floating-point numbers) or addition with an immediate that `word` is."""
    opcode, base = word & 0x7F, word >> 15 & 31
    if opcode in _LOADS:
        return Access("load", word >> 7 & 31, base, signed(word >> 20))
    if opcode in _STORES:
        return Access("store", word >> 20 & 31, base, signed(word >> 25 << 5 | word >> 7 & 31))
    if opcode == _ADDI and not word & 0x7000:
        return Access("add", word >> 7 & 31, base, signed(word >> 20))
    return None


# lui and auipc.
UPPER = re.compile(rb"[\x17\x37\x97\xb7]", re.DOTALL)


def upper(word: int, address: int) -> int:
    """What a `lui` or `auipc` at `address` puts into its register."""
    number = word & 0xFFFFF000
    number -= (number & 0x80000000) << 1
    return number + address if word & 0x7F == _AUIPC else number


def is_breakpoint(word: int) -> bool:
    """Whether the first bytes of `word` are an `ebreak`: what compilers put behind an access to a null pointer."""
    return word == _EBREAK or word & 0xFFFF == _C_EBREAK


def pattern(base: int, additions: bool) -> re.Pattern[bytes]:
    """The loads and stores, and if wanted the additions, with that base register."""
    bit = 0x80 if base & 1 else 0x00
    second = b"[" + _range(bit, bit | 0x7F) + b"]"
    third = _one_of(nibble << 4 | base >> 1 for nibble in range(16))
    accesses = rb"[\x03\x83\x07\x87\x23\xa3\x27\xa7](?=" + second + third + b")"
    if not additions:
        return re.compile(accesses, re.DOTALL)
    # One class of first bytes, by which the search is fast.
    first = rb"[\x03\x83\x07\x87\x23\xa3\x27\xa7\x13\x93]"
    of_additions = rb"(?<![\x13\x93])|(?=[" + _range(bit, bit | 0x0F) + b"])"
    return re.compile(first + rb"(?=" + second + third + rb")(?:" + of_additions + rb")", re.DOTALL)


def addition_pattern(base: int) -> re.Pattern[bytes]:
    """The additions of that register to another one, and what looks like them; `added` tells."""
    compressed = 2 | (base << 2) & 0x7C
    first = _one_of((compressed, compressed | 0x80, 0x33, 0xB3))
    return re.compile(
        first + rb"(?:(?<=[\x33\xb3])(?=[\x00-\x0f\x80-\x8f].[\x00\x01])|(?<![\x33\xb3])(?=[\x90-\x9f]))", re.DOTALL
    )


def _one_of(values: Iterable[int]) -> bytes:
    return b"[" + b"".join(re.escape(bytes([value])) for value in values) + b"]"


def _range(first: int, last: int) -> bytes:
    return re.escape(bytes([first])) + b"-" + re.escape(bytes([last]))


def added(word: int, base: int) -> tuple[int, int] | None:
    """The destination and the bytes of an `add` with that register as one operand."""
    if word & 0xF003 == 0x9002 and word >> 2 & 31 == base and word >> 7 & 31:
        return word >> 7 & 31, 2
    if word & 0xFE00707F == _ADD and base in (word >> 15 & 31, word >> 20 & 31):
        return word >> 7 & 31, 4
    return None


def immediate_loaded(word: int) -> tuple[int, int] | None:
    """The destination and the number of a `li` of 12 bits or fewer."""
    if word & 0xE003 == 0x4001:
        number = (word >> 2 & 31) - (32 if word & 0x1000 else 0)
        return word >> 7 & 31, number
    decoded = access(word)
    return (decoded.register, decoded.immediate) if decoded and decoded.kind == "add" and decoded.base == ZERO else None


def tests_a_zero(code: Bytes, home: Section, addresses: list[int]) -> bool:
    """Whether among these instructions one loads a 0, and a later one branches on it."""
    zeros: set[int] = set()
    for address in addresses:
        word = code.number(home, address, 4)
        if word & 0xFFFFF07F == _ADDI and word >> 7 & 31:
            zeros.add(word >> 7 & 31)
        elif word & 3 == 3:
            branches = word & 0x7F == 0x63 and word >> 13 & 3 == 0
            if branches and {word >> 15 & 31, word >> 20 & 31} & zeros:
                return True
        elif word & 0xC003 == 0xC001 and (word >> 7 & 7) + 8 in zeros:
            return True
    return False


def used_directly(code: Bytes, home: Section, start: int, xlen: int, of_table: bool = False) -> bool:
    """Whether a load or store goes to the address of which the instruction at `start` makes the upper part, or all.

    That is `lui` or `auipc`, or the `addi` to `zero` which a linker has made of a pair. With `of_table` the address
    is that of an entry of the global offset table, and what is loaded from there is the one that matters, unless a
    linker has made an addition of the load.
    In an accessor the base register is added first. What is not followed counts as used otherwise.
    """
    word = code.number(home, start, 4)
    of_zero = word & 0xFF07F == _ADDI
    if word & 0x7F not in (_LUI, _AUIPC) and not of_zero:
        return False
    registers = {word >> 7 & 31}
    entries = set(registers) if of_table else set()
    address = start + 4
    for _ in range(_USES_LOOKED_AT):
        word = code.number(home, address, 4)
        size = length(word & 0xFFFF)
        completed = _completed(word, entries)
        if completed is not None:
            registers, entries = {completed}, set()
        else:
            verdict = _use(word, registers) if size == 4 else _compressed_use(word & 0xFFFF, registers, xlen)
            if verdict is not None:
                return verdict
            entries &= registers
        address += size
        if not registers or address >= home.end:
            return False
    return False


def _completed(word: int, entries: set[int]) -> int | None:
    """The register into which `word` loads from one of `entries`, or puts its sum with the lower part."""
    if word & 0xE003 in (0x4000, 0x6000):
        # c.lw and c.ld.
        return (word >> 2 & 7) + 8 if (word >> 7 & 7) + 8 in entries else None
    decoded = access(word)
    is_one = decoded is not None and decoded.kind != "store" and decoded.base in entries
    return decoded.register if decoded is not None and is_one else None


def _use(word: int, registers: set[int]) -> bool | None:
    opcode, decoded = word & 0x7F, access(word)
    if opcode == _AMO:
        # Its base has no offset: lr, sc and the others.
        if word >> 15 & 31 in registers:
            return True
        registers.discard(word >> 7 & 31)
        return None
    if decoded is not None and decoded.kind != "add":
        if decoded.base in registers:
            return True
        if decoded.kind == "load" and opcode == 0x03:
            registers.discard(decoded.register)
        return None
    if decoded is not None and decoded.base in registers:
        registers.add(decoded.register)
        return None
    if opcode in (0x63, 0x67, 0x6F, 0x73):
        return False
    registers.discard(word >> 7 & 31)
    return None


def _compressed_use(half: int, registers: set[int], xlen: int) -> bool | None:
    quadrant, function = half & 3, half >> 13
    # Registers have 5 bits, or 3, which mean x8 to x15.
    destination, first, second = half >> 7 & 31, (half >> 7 & 7) + 8, (half >> 2 & 7) + 8
    if quadrant == 0:
        if function == 0:
            # c.addi4spn
            registers.discard(second)
            return None
        # Loads and stores; with function 4 those of Zcb.
        if first in registers:
            return True
        if function <= 4:
            registers.discard(second)
        return None
    if quadrant == 1 and function >= 5 or half & 0xF07F == 0x8002 or half & 0xF07F == 0x9002:
        # Jumps and branches.
        return False
    if quadrant == 1 and function == 1 and xlen == 32:
        # c.jal, a call; on RV64 it is c.addiw.
        return False
    if quadrant == 2 and function == 5:
        # c.fsdsp, or an instruction of Zcmp, which may return.
        return False
    if quadrant == 1 and function == 4:
        registers.discard(first)
    elif quadrant == 1 or function < 5:
        registers.discard(destination)
    return None


class Boundaries:
    """Where instructions begin in a section, and where there is data.

    Instructions are 2 or 4 bytes long, so that any 2 bytes may be the beginning of one or its end. A symbol is at
    the beginning of one, and so is what follows one. `$d` marks data, and `$x` that code goes on (psABI, "Mapping
    Symbol"). Addresses are asked in ascending order.
    """

    def __init__(self, image: Image, home: Section, code: Bytes) -> None:
        self._code = code
        self._home = home
        self._at = home.address
        self._index = 0
        # The last instructions before it.
        self._passed: deque[int] = deque(maxlen=_REMEMBERED)
        self._starts = [home.address]
        self._is_code = [True]
        is_code = True
        for mark in marks(image, home):
            if mark.name.startswith(("$d", "$x")):
                is_code = mark.name.startswith("$x")
            # A damaged file gives a section symbols that lie elsewhere.
            if not mark.value % 2 and home.address <= mark.value < home.end:
                self._starts.append(mark.value)
                self._is_code.append(is_code)

    def begins(self, address: int) -> bool:
        index = bisect_right(self._starts, address) - 1
        if index < 0 or not self._is_code[index]:
            return False
        if index != self._index:
            self._index, self._at = index, self._starts[index]
            self._passed.clear()
        while self._at < address:
            self._passed.append(self._at)
            self._at += length(self._code.number(self._home, self._at, 2))
        return self._at == address

    def before(self, size: int) -> list[int]:
        """The instructions that begin in the `size` bytes before the address asked last, back to its symbol."""
        return [at for at in self._passed if at >= self._at - size]


def signed(number: int) -> int:
    """The immediate that 12 bits are; of more, the lower ones."""
    number &= 0xFFF
    return number - 0x1000 if number & 0x800 else number
