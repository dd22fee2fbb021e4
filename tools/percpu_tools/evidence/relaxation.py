"""RISC-V code that the linker's relaxations have based on `zero`, or on gp."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from percpu_tools import code, relocations
from percpu_tools.image import SHN_UNDEF, Image, Section
from percpu_tools.instructions import riscv
from percpu_tools.layout import Layout

GLOBAL_POINTER = "__global_pointer$"

# What the rules are called while their scan is shown.
_TO_ZERO, _TO_GP = "T01 relaxed-to-zero", "T02 relaxed-to-gp"

# So many places say enough, and all of them in a large kernel take time.
_MOST_PLACES = 10_000

# An upper part that a relaxation removed leaves a relocation of type NONE; the rest of its address is this close.
_PAIR_BYTES = 64
# The test of a weak variable's address is this close to the access.
_TEST_BYTES = 48


class Place(NamedTuple):
    """A load, store or addition, and where it is."""

    home: Section
    address: int
    access: riscv.Access


def based_on_zero(layout: Layout, image: Image) -> list[Place]:
    """The accesses to the template's own addresses, where those of the CPU's area were meant."""
    places = {
        place.address: place
        for place in (*_zero_accesses(layout, image), *_overwritten_sums(layout, image), *_relaxed_sums(layout, image))
    }
    return [places[address] for address in sorted(places)]


def _scan(
    image: Image, what: str, pattern: re.Pattern[bytes]
) -> Iterator[tuple[Section, int, int, code.Bytes, riscv.Boundaries]]:
    """Every instruction that `pattern` finds: section, address, its bytes as a number, and the code around it."""
    bytes_ = code.Bytes(image)
    boundaries: riscv.Boundaries | None = None
    last: Section | None = None
    for home, address in code.matches(image, what, pattern, alignment=2):
        if boundaries is None or home is not last:
            boundaries, last = riscv.Boundaries(image, home, bytes_), home
        if boundaries.begins(address):
            yield home, address, bytes_.number(home, address, 4), bytes_, boundaries


def _zero_accesses(layout: Layout, image: Image) -> Iterator[Place]:
    pattern = riscv.pattern(riscv.ZERO, additions=False)
    kept = {home.number for _, home in relocations.tables(image)}
    storage: set[tuple[int, int]] | None = None
    for home, address, word, bytes_, boundaries in _scan(image, _TO_ZERO, pattern):
        access = riscv.access(word)
        if access is None or not _is_inside(layout, access.immediate):
            continue
        # Compilers put a breakpoint behind an access to a null pointer, or to a member of one.
        if riscv.is_breakpoint(bytes_.number(home, address + 4, 4)):
            continue
        if home.number in kept:
            if storage is None:
                storage = {(one.home.number, one.place) for one in relocations.to_storage(layout, image, _TO_ZERO)}
            is_of_storage = (home.number, address) in storage
        else:
            # A weak variable that no file defines has the address 0, and code asks for it before.
            is_of_storage = not riscv.tests_a_zero(bytes_, home, boundaries.before(_TEST_BYTES))
        if is_of_storage:
            yield Place(home, address, access)


def _overwritten_sums(layout: Layout, image: Image) -> Iterator[Place]:
    """`add rd, rd, gp; addi rd, zero, offset`: the sum is made for nothing."""
    named = layout.note.base_register if layout.note else layout.profile.base_registers.get(layout.arch or "")
    bases = [riscv.REGISTERS[named]] if named in riscv.REGISTERS else [riscv.GP, riscv.TP]
    for base in bases:
        for home, address, word, bytes_, _ in _scan(image, _TO_ZERO, riscv.addition_pattern(base)):
            added = riscv.added(word, base)
            if added is None:
                continue
            register, size = added
            following = riscv.immediate_loaded(bytes_.number(home, address + size, 4))
            if following is not None and following[0] == register and _is_inside(layout, following[1]):
                yield Place(home, address + size, riscv.Access("add", register, riscv.ZERO, following[1]))


def _relaxed_sums(layout: Layout, image: Image) -> Iterator[Place]:
    """`addi rd, gp, offset` that has become `addi rd, zero, offset`, which only its relocation tells from a number."""
    bytes_ = code.Bytes(image)
    gone: dict[int, list[int]] = {}
    last = (-1, 0)
    for kept in relocations.to_storage(layout, image, _TO_ZERO):
        if kept.type not in (riscv.GPREL_I, riscv.GPREL_S) and kept.type < riscv.INTERNAL:
            continue
        home, place = kept.home, kept.place
        since = max(last[1] if last[0] == home.number else 0, place - _PAIR_BYTES)
        last = (home.number, place)
        access = riscv.access(bytes_.number(home, place, 4))
        if access is None or access.kind != "add" or access.base != riscv.ZERO:
            continue
        if home.number not in gone:
            gone[home.number] = relocations.of_types(image, home, frozenset({riscv.NONE}), _TO_ZERO)
        # With an upper part before it, it may be C++ code that takes the offset, rightly; unless it is all that a load
        # or store is based on.
        places = gone[home.number]
        is_alone = bisect_right(places, place) == bisect_right(places, since)
        if is_alone or riscv.used_directly(bytes_, home, place, image.elf_class):
            yield Place(home, place, access)


class OfPointer(NamedTuple):
    """Accesses that are relative to gp: certainly to ordinary data, or to either of ordinary and per-CPU data."""

    ordinary: list[Place]
    doubtful: list[Place]


def global_pointer(image: Image) -> int | None:
    """The value of __global_pointer$, if it is defined."""
    symbols = [symbol for symbol in image.symbols(re.escape(GLOBAL_POINTER.encode())) if symbol.name == GLOBAL_POINTER]
    return next((symbol.value for symbol in symbols if symbol.section != SHN_UNDEF), None)


def adds_gp(image: Image) -> bool:
    """Whether code adds gp to a register: accessors do, and compilers, for which gp is a fixed address, do not."""
    found = _scan(image, _TO_GP, riscv.addition_pattern(riscv.GP))
    return any(riscv.added(word, riscv.GP) is not None for _, _, word, *_ in found)


def based_on_gp(layout: Layout, image: Image, pointer: int | None) -> OfPointer:
    """The accesses relative to gp that are no accessor's; gp holds the area, and `pointer` is __global_pointer$."""
    ordinary: list[Place] = []
    doubtful: list[Place] = []
    # Without the symbol nothing is relaxed: an offset that means another variable, wrapped, is not this fault.
    covered = _covered(layout, wrapped=pointer is None) if layout.layout == "zero-vma" else frozenset()
    for home, address, word, *_ in _scan(image, _TO_GP, riscv.pattern(riscv.GP, additions=True)):
        access = riscv.access(word)
        # gp itself is loaded with an address, and read with an addition of 0.
        if access is None or access.kind == "add" and (access.register == riscv.GP or not access.immediate):
            continue
        place = Place(home, address, access)
        if access.immediate not in covered:
            ordinary.append(place)
        elif pointer is not None and _is_data(layout, image, pointer + access.immediate):
            doubtful.append(place)
        if len(ordinary) + len(doubtful) >= _MOST_PLACES:
            break
    if doubtful and relocations.tables(image):
        storage = {(kept.home.number, kept.place) for kept in relocations.to_storage(layout, image, _TO_GP)}
        ordinary += [place for place in doubtful if (place.home.number, place.address) not in storage]
        doubtful = []
    return OfPointer(ordinary, doubtful)


def is_unrelaxed(image: Image, pointer: int) -> bool:
    """Whether an address in reach of __global_pointer$ is made without gp: then the link relaxes none."""
    for home, address, word, bytes_, _ in _scan(image, _TO_GP, riscv.UPPER):
        access = riscv.access(bytes_.number(home, address + 4, 4))
        if access is None or access.base != word >> 7 & 31:
            continue
        target = riscv.upper(word, address) + access.immediate
        if -0x800 <= target - pointer < 0x800 and _home_of(image, target) is not None:
            return True
    return False


def _covered(layout: Layout, wrapped: bool) -> frozenset[int]:
    """The immediates of 12 bits that are offsets of a variable; if `wrapped`, also the lower bits of such."""
    found: set[int] = set()
    for variable in layout.variables:
        if variable.offset is not None and (wrapped or variable.offset < 0x800):
            end = variable.offset + min(max(variable.size, 1), 0x1000)
            found.update(range(variable.offset, end if wrapped else min(end, 0x800)))
    return frozenset(riscv.signed(offset) for offset in found)


def _home_of(image: Image, address: int) -> Section | None:
    return next((home for home in image.sections if home.is_allocated and home.address <= address < home.end), None)


def _is_data(layout: Layout, image: Image, address: int) -> bool:
    home = _home_of(image, address)
    return home is not None and home != layout.section and not home.is_executable


def _is_inside(layout: Layout, address: int) -> bool:
    assert layout.load_start is not None and layout.load_end is not None
    return layout.load_start <= address < layout.load_end
