"""x86_64: what the bytes in front of a displacement or an immediate say of it.

Source: Intel SDM, volume 2, 2.1 (instruction format, ModR/M and SIB bytes), 2.2.1.6 (RIP-relative addressing), and
the opcode maps of appendix A (which instructions have an immediate).
"""

from __future__ import annotations

import re

from percpu_tools.code import Bytes
from percpu_tools.image import Section

# psABI, "Relocation Types".
R_64, PC32, PLT32, GOTPCREL, R_32, R_32S, GOTPCRELX, REX_GOTPCRELX = 1, 2, 4, 9, 10, 11, 41, 42

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

    They are the operand of a `movabs` between memory and the accumulator, or of one into a register that the next
    instruction has for its only base (the large code model).
    """
    front = _before(code, home, place, 4)
    if front and 0xA0 <= front[-1] <= 0xA3:
        return not re.search(rb"[\x64\x65][\x66\x40-\x4f]{0,2}.\Z", front, re.DOTALL)
    if len(front) < 2 or front[-1] & 0xF8 != 0xB8 or front[-2] & 0xFE != 0x48:
        return False
    register = front[-1] & 7
    behind = re.match(rb"\x66?([\x40-\x4f]?)(?:\x0f.|[^\x40-\x4f\x64-\x67])(.)", code.at(home, place + 8, 5), re.DOTALL)
    if behind is None or register in (4, 5):
        return False
    rex = behind.group(1)[0] if behind.group(1) else 0
    return behind.group(2)[0] & 0xC7 == register and rex & 1 == front[-2] & 1


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
