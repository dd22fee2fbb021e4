"""x86_64: what the bytes in front of a displacement or an immediate say of it.

Source: Intel SDM, volume 2, 2.1 (instruction format, ModR/M and SIB bytes), 2.2.1.6 (RIP-relative addressing), and
appendix A, "Opcode Map" (which instructions have an immediate, too).
"""

from __future__ import annotations

import re
from typing import NamedTuple

from percpu_tools.code import Bytes
from percpu_tools.image import Section

# psABI, "Relocation Types".
R_64, PC32, PLT32, GOTPCREL, R_32, R_32S, GOTPCRELX, REX_GOTPCRELX = 1, 2, 4, 9, 10, 11, 41, 42
# Those of an entry of the global offset table.
OF_TABLE = frozenset({GOTPCREL, GOTPCRELX, REX_GOTPCRELX})

SEGMENT_PREFIXES = {"gs": 0x65, "fs": 0x64}

_LEA = 0x8D

# A segment override, further prefixes, an opcode of up to 3 bytes.
_SEGMENT = re.compile(rb"[\x64\x65][\x66\xf2\xf3\x40-\x4f]{0,3}(?:\x0f[\x38\x3a]?)?.\Z", re.DOTALL)


def _before(code: Bytes, home: Section, place: int, size: int) -> bytes:
    start = max(place - size, home.address)
    return code.at(home, start, place - start)


def addressing(code: Bytes, home: Section, place: int, is_relative: bool) -> str:
    """How the 4 bytes at `place` are used, whose relocation is relative to the program counter or not.

    `memory` is a load, store or jump; `lea` computes the address; `segment` is either with a segment override; and
    `number` is an immediate, or a displacement from a register.
    """
    front = _before(code, home, place, 12)
    if is_relative and len(front) >= 2 and front[-1] & 0xC7 == 0x05:
        opcode = front[:-1]
    elif not is_relative and len(front) >= 3 and front[-1] == 0x25 and front[-2] & 0xC7 == 0x04:
        # A SIB byte without base and index.
        opcode = front[:-2]
    else:
        return "number"
    if _SEGMENT.search(opcode):
        return "segment"
    return "lea" if opcode[-1] == _LEA and opcode[-2:-1] != b"\x0f" else "memory"


# The opcodes that have an immediate of a byte behind the displacement, and those that have one as wide as the operand.
_WITH_BYTE = re.compile(
    rb"(?:\x0f\x3a.|\x0f[\x70-\x73\xa4\xac\xba\xc2\xc4-\xc6]|(?<!\x0f)[\x6b\x80\x83\xc0\xc1\xc6])\Z", re.DOTALL
)
_WITH_OPERAND = re.compile(rb"(?<!\x0f)[\x69\x81]\Z")
_MOV_IMMEDIATE = 0xC7
# Group 3: of its instructions, `test` has one.
_GROUP_3 = re.compile(rb"(?<!\x0f)[\xf6\xf7]\Z")
_OF_16_BITS = re.compile(rb"\x66[\x40-\x4f]?.\Z", re.DOTALL)


def bytes_behind(code: Bytes, home: Section, place: int) -> int:
    """How far the instruction's end is behind the `place` of its displacement, which counts from there."""
    front = _before(code, home, place, 12)
    if not front:
        # At the beginning of a section, where no instruction has it: a damaged file.
        return 4
    opcode, digit = front[:-1], front[-1] >> 3 & 7
    is_test = digit < 2 and _GROUP_3.search(opcode) is not None
    if _WITH_BYTE.search(opcode) or is_test and opcode[-1] & 1 == 0:
        return 5
    # The other one whose opcode ends so, 0F C7 (group 9), has no digit of 0.
    if is_test or _WITH_OPERAND.search(opcode) or digit == 0 and opcode[-1:] == bytes([_MOV_IMMEDIATE]):
        return 6 if _OF_16_BITS.search(opcode) else 8
    return 4


def relative_target(code: Bytes, home: Section, place: int) -> int:
    """The address that an instruction names by the displacement at `place`."""
    displacement = int.from_bytes(code.at(home, place, 4), "little", signed=True)
    return place + bytes_behind(code, home, place) + displacement


def is_wide_access(code: Bytes, home: Section, place: int) -> bool:
    """Whether the 8 bytes at `place` are an address to which a load or store goes, without a segment override.

    They are the operand of a `movabs` between memory and the accumulator, or of one into a register on which an
    instruction behind it is based (the large code model).
    """
    front = _before(code, home, place, 4)
    if front and 0xA0 <= front[-1] <= 0xA3:
        return not re.search(rb"[\x64\x65][\x66\x40-\x4f]{0,2}.\Z", front, re.DOTALL)
    if len(front) < 2 or front[-1] & 0xF8 != 0xB8 or front[-2] & 0xFE != 0x48:
        return False
    return _is_base(code, home, place + 8, front[-1] & 7 | (front[-2] & 1) << 3)


def is_used_by_register(code: Bytes, home: Section, place: int, kind: int) -> bool:
    """Whether a load or store is based on a register that has the address which the 4 bytes at `place` tell.

    The instruction is a `lea`, a `mov` from the global offset table, or the `mov` of a number that linkers make of
    one. In an accessor the base is added first, or it is a segment. What is not followed counts as used otherwise.
    """
    front = _before(code, home, place, 4)
    if len(front) < 3:
        return False
    rex, opcode, modrm = front[-3:]
    if kind not in (R_32, R_32S):
        loads = opcode == _MOV and kind in OF_TABLE
        if not loads and opcode != _LEA or modrm & 0xC7 != 0x05 or rex & 0xFB != 0x48:
            return False
        register = modrm >> 3 & 7 | (rex & 4) << 1
    elif opcode == 0xC7 and modrm & 0xF8 == 0xC0 and rex & 0xFE == 0x48:
        register = modrm & 7 | (rex & 1) << 3
    elif kind == R_32 and modrm & 0xF8 == 0xB8:
        # No displacement, whose ModR/M byte may look like this: it would be R_32S.
        register = modrm & 7 | (8 if opcode == 0x41 else 0)
    else:
        return False
    return _is_base(code, home, place + 4, register)


_USES_LOOKED_AT = 16
_MOST_BYTES = 15

# Opcodes of one byte: those with a ModR/M byte, and how many bytes of immediate follow; 4 are 2 with a 0x66 prefix.
_WITH_MODRM = {
    **{operation | form: 0 for operation in range(0, 0x40, 8) for form in range(4)},
    **{opcode: 0 for opcode in (0x63, *range(0x84, 0x8F), *range(0xD0, 0xD4), 0xFE, 0xFF)},
    **{opcode: 1 for opcode in (0x6B, 0x80, 0x83, 0xC0, 0xC1, 0xC6, 0xF6)},
    **{opcode: 4 for opcode in (0x69, 0x81, 0xC7, 0xF7)},
}
# Those without: on the accumulator, push, nop, cbw, cwd, test, mov of a number.
_WITHOUT_MODRM = {
    **{operation | 4: 1 for operation in range(0, 0x40, 8)},
    **{operation | 5: 4 for operation in range(0, 0x40, 8)},
    **{opcode: 0 for opcode in (*range(0x50, 0x60), 0x90, 0x98, 0x99)},
    **{0xA8: 1, 0xA9: 4},
    **{opcode: 1 for opcode in range(0xB0, 0xB8)},
    **{opcode: 4 for opcode in range(0xB8, 0xC0)},
}
# Opcodes behind 0F, all with ModR/M: moves of vectors, nop, cmov, setcc, bt and its kin, shifts, imul, cmpxchg, movzx,
# bsf, bsr, movsx, xadd.
_BEHIND_0F = {
    **{opcode: 0 for opcode in (0x10, 0x11, 0x1F, 0x28, 0x29, *range(0x40, 0x50), 0x57, 0x6E, 0x6F, 0x7E, 0x7F)},
    **{opcode: 0 for opcode in (*range(0x90, 0xA0), 0xA3, 0xA5, 0xAB, 0xAD, 0xAF, 0xB0, 0xB1, 0xB3, 0xB6, 0xB7)},
    **{opcode: 0 for opcode in (*range(0xBB, 0xC2), 0xD6, 0xEF)},
    **{opcode: 1 for opcode in (0xA4, 0xAC, 0xBA)},
}
_ACCUMULATOR, _DATA = 0, 2
_NOP = 0x1F
_IMPLIED = frozenset({0xF6, 0xF7, 0xB0, 0xB1})
# Cmp and test leave their operands as they are.
_ONLY_READ = frozenset({*range(0x38, 0x3C), 0x84, 0x85})
# What stands in the place of the register operand says the operation, or nothing.
_GROUPS = frozenset({0x80, 0x81, 0x83, 0xC0, 0xC1, 0xC6, 0xC7, *range(0xD0, 0xD4), 0xF6, 0xF7, 0xFE, 0xFF})
_GROUPS_BEHIND_0F = frozenset({_NOP, *range(0x90, 0xA0), 0xBA})
# Of vectors, whose registers are others.
_OF_VECTORS = frozenset({0x10, 0x11, 0x28, 0x29, 0x57, 0x6F, 0x7F, 0xD6, 0xEF})


class _Decoded(NamedTuple):
    """One instruction: its bytes, the one register on which its load or store is based, and those it may write."""

    size: int
    base: int | None
    written: frozenset[int]


def _is_base(code: Bytes, home: Section, start: int, register: int) -> bool:
    """Whether a load or store among the instructions at `start` is based on `register`, before it is written."""
    for _ in range(_USES_LOOKED_AT):
        decoded = _decoded(code.at(home, start, _MOST_BYTES))
        if decoded is None or decoded.base == register:
            return decoded is not None
        if register in decoded.written:
            return False
        start += decoded.size
    return False


def _decoded(text: bytes) -> _Decoded | None:
    """The instruction that `text` begins with; `None` for a branch, one with a segment, and what is not decoded."""
    prefix = re.match(rb"([\x66\xf0\xf2\xf3]*)([\x40-\x4f]?)(\x0f?)(.)", text, re.DOTALL)
    if prefix is None:
        return None
    rex = prefix.group(2)[0] if prefix.group(2) else 0
    opcode, behind = prefix.group(4)[0], prefix.end()
    if not prefix.group(3) and opcode in _WITHOUT_MODRM:
        size = _WITHOUT_MODRM[opcode]
        if opcode & 0xF8 == 0xB8 and rex & 8:
            size = 8
        elif size == 4 and 0x66 in prefix.group(1):
            size = 2
        if opcode == 0x90:
            return None if rex else _Decoded(behind, None, frozenset())
        if opcode & 0xF0 in (0x50, 0xB0):
            named = opcode & 7 | (rex & 1) << 3
            # Without REX, 4 to 7 are the second bytes of 0 to 3 in a mov of 8 bits.
            written = frozenset() if opcode & 0xF8 == 0x50 else frozenset({named, named & 3})
        else:
            written = frozenset({_ACCUMULATOR, _DATA})
        return _Decoded(behind + size, None, written)
    known = _BEHIND_0F if prefix.group(3) else _WITH_MODRM
    if opcode not in known or behind >= len(text):
        return None
    modrm, size = text[behind], known[opcode]
    operation = modrm >> 3 & 7
    address = _address(text, behind, rex)
    if address is None or opcode == 0xFF and operation in (2, 3, 4, 5) or opcode in (0xC6, 0xC7) and operation:
        # Calls and jumps; transactions.
        return None
    if opcode in (0xF6, 0xF7) and operation >= 2:
        size = 0
    elif size == 4 and 0x66 in prefix.group(1):
        size = 2
    length, base = address
    is_access = opcode != (_NOP if prefix.group(3) else _LEA)
    written = _written(opcode, bool(prefix.group(3)), modrm, rex)
    return _Decoded(behind + length + size, base if is_access else None, written)


def _address(text: bytes, at: int, rex: int) -> tuple[int, int | None] | None:
    """The bytes of the ModR/M byte at `at` with what belongs to it, and the base, if there is one and no index."""
    mode, memory = text[at] >> 6, text[at] & 7
    if mode == 3:
        return 1, None
    length, base = 1, memory | (rex & 1) << 3
    has_base = True
    if memory == 4:
        if at + 1 >= len(text):
            return None
        sib = text[at + 1]
        length, base = 2, sib & 7 | (rex & 1) << 3
        has_base = sib >> 3 & 7 == 4 and not rex & 2
        memory = sib & 7
    if mode == 0 and memory == 5:
        return length + 4, None
    return length + (0, 1, 4)[mode], base if has_base else None


def _written(opcode: int, behind_0f: bool, modrm: int, rex: int) -> frozenset[int]:
    """The general registers that an instruction with ModR/M may write: rather too many than too few."""
    is_register = modrm >= 0xC0
    if behind_0f and opcode in _OF_VECTORS or not behind_0f and opcode in _ONLY_READ:
        return frozenset()
    if not behind_0f and opcode in (0x88, 0x89) and not is_register:
        return frozenset()
    named = set()
    if opcode not in (_GROUPS_BEHIND_0F if behind_0f else _GROUPS):
        named.add(modrm >> 3 & 7 | (rex & 4) << 1)
    if is_register:
        named.add(modrm & 7 | (rex & 1) << 3)
    # In an operation on 8 bits without REX, 4 to 7 are the second bytes of 0 to 3.
    named |= {number & 3 for number in named}
    # Division and multiplication; cmpxchg.
    return frozenset(named | {_ACCUMULATOR, _DATA} if opcode in _IMPLIED else named)


# The offset of the canary, unless compilers are told another one (GCC manual, -mstack-protector-guard-offset).
CANARY = 0x28


def canary_pattern(prefix: int) -> re.Pattern[bytes]:
    """A 64-bit mov from, or a comparison or subtraction with, a word of that segment at a fixed offset."""
    forms = rb"(?=[\x48-\x4f][\x8b\x2b\x33\x3b\x39][\x04\x0c\x14\x1c\x24\x2c\x34\x3c]\x25)"
    return re.compile(re.escape(bytes([prefix])) + forms, re.DOTALL)


# Segment override, REX, opcode, ModR/M, SIB, displacement.
_CANARY_BYTES = 9
_MOV = 0x8B


def canary_offset(code: Bytes, home: Section, place: int) -> int:
    """The offset from the segment's base of the word at `place`."""
    return int.from_bytes(code.at(home, place + _CANARY_BYTES - 4, 4), "little", signed=True)


def checks_canary(code: Bytes, home: Section, place: int, handler: int) -> bool:
    """Whether the word that is read at `place` is compared, and the function at `handler` called if it differs.

    That is how compilers end a function whose stack they protect: `sub` or `cmp` with the word itself (GCC), or
    `mov` and `cmp` with the copy on the stack (Clang), and a branch to or around the call. Nothing stands between:
    a function may compare a variable just before it looks for a canary that is elsewhere.
    """
    front, text = code.at(home, place, _CANARY_BYTES), code.at(home, place + _CANARY_BYTES, 32)
    behind = place + _CANARY_BYTES
    if front[2] == _MOV:
        loaded = _register(front[1:4])
        using = next((match for match in _WITH_REGISTER.finditer(text) if loaded in _registers(match.group())), None)
        # Loaded with something else, it is not the word any more.
        if using is None or using.group()[1] == _MOV:
            return False
        end = using.start() + _length(text[using.start() :])
        text, behind = text[end:], behind + end
    jump = _JUMP.match(text)
    if jump is None:
        return False
    distance = int.from_bytes(jump.group(1) or jump.group(2), "little", signed=True)
    behind += jump.end()
    return _calls(code, home, behind, handler) or _calls(code, home, behind + distance, handler)


# je and jne.
_JUMP = re.compile(rb"[\x74\x75](.)|\x0f[\x84\x85](.{4})", re.DOTALL)

# mov to a register, sub, xor, cmp in both directions, of 64 bits.
_WITH_REGISTER = re.compile(rb"[\x48-\x4f][\x8b\x2b\x33\x39\x3b].", re.DOTALL)


def _register(instruction: bytes) -> int:
    """The register operand of an instruction that begins with REX, opcode and ModR/M."""
    return (instruction[0] & 4) << 1 | instruction[2] >> 3 & 7


def _registers(instruction: bytes) -> set[int]:
    """The register operand, and of a comparison between two registers the other one."""
    rex, opcode, modrm = instruction
    both = modrm >= 0xC0 and opcode != _MOV
    return {_register(instruction)} | ({(rex & 1) << 3 | modrm & 7} if both else set())


def _length(instruction: bytes) -> int:
    """The length of one of REX, opcode, ModR/M and an operand in memory or a register, without an immediate."""
    mode, rm = instruction[2] >> 6, instruction[2] & 7
    has_sib = mode != 3 and rm == 4
    base = instruction[3] & 7 if has_sib and len(instruction) > 3 else rm
    return 3 + has_sib + (4 if mode == 2 or mode == 0 and base == 5 else 1 if mode == 1 else 0)


def _calls(code: Bytes, home: Section, start: int, handler: int) -> bool:
    """Whether `handler` is called at `start`; in the large code model its address is loaded into a register first."""
    if not home.address <= start < home.end:
        return False
    text = code.at(home, start, 10)
    if text[:1] == b"\xe8":
        return start + 5 + int.from_bytes(text[1:5], "little", signed=True) == handler
    loaded = _MOVABS.match(text)
    return loaded is not None and int.from_bytes(loaded.group(1), "little") == handler


_MOVABS = re.compile(rb"[\x48\x49][\xb8-\xbf](.{8})", re.DOTALL)
