"""The instructions of a linked file: its executable sections, piece by piece, and whose they are.

Rules look for a few instructions with certain fields. They find the bytes with regular expressions and decode only
what these find, so that a scan goes at about RATE bytes a second and not at a disassembler's speed.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator

from percpu_tools import progress
from percpu_tools.image import Image, Section, Symbol

# Bytes of code a second on one core of 2024, for the slowest of the scans; `tests/check/test_code.py` measures it.
RATE = 20_000_000

_PIECE = 1 << 20

# Longer than any instruction, and than what rules look at behind or before one.
MARGIN = 64


def sections(image: Image) -> list[Section]:
    """The sections with code, unless they claim more bytes than a file can hold by lying over each other."""
    homes = [section for section in image.sections if section.is_executable and section.has_bytes and section.size]
    homes.sort(key=lambda section: section.offset)
    end = 0
    apart = []
    for home in homes:
        if home.offset >= end:
            apart.append(home)
            end = home.offset + home.size
    return apart


def matches(
    image: Image, what: str, pattern: re.Pattern[bytes], alignment: int = 1, into: int = 0
) -> Iterator[tuple[Section, int]]:
    """The addresses of the instructions in all code that `pattern` finds, those that are multiples of `alignment`.

    `pattern` consumes one byte, that at `into` in the instruction, and looks ahead or behind for the others: a match
    that is none then hides none. `what` is told to whoever watches the progress.
    """
    homes = sections(image)
    total, done = sum(home.size for home in homes), 0
    for home in homes:
        for start in range(home.address, home.end, _PIECE):
            size = min(_PIECE, home.end - start)
            progress.report(what, done, total)
            for match in pattern.finditer(image.data(home, start, size + MARGIN)):
                at = match.start() - into
                if 0 <= at < size and not (start + at) % alignment:
                    yield home, start + at
            done += size
    progress.report(what, total, total)


class Bytes:
    """Code at given addresses. Neighboring ones are asked for one after the other, so a piece is kept."""

    def __init__(self, image: Image) -> None:
        self._image = image
        self._home: Section | None = None
        self._start = 0
        self._piece = b""

    def at(self, home: Section, address: int, size: int) -> bytes:
        """At most `size` bytes; fewer at the end of the section, none before it."""
        into = address - self._start
        if self._home is not home or into < 0 or into + size > len(self._piece):
            self._home, self._start = home, max(address - MARGIN, home.address)
            self._piece = self._image.data(home, self._start, _PIECE // 16 + size)
            into = address - self._start
        return self._piece[into : into + size] if into >= 0 else b""

    def number(self, home: Section, address: int, size: int) -> int:
        """The little-endian number there; code is little-endian on every architecture of ours."""
        return int.from_bytes(self.at(home, address, size), "little")


def marks(image: Image, home: Section) -> list[Symbol]:
    """All symbols in a section, by address."""
    return sorted(
        (symbol for symbol in image.symbols(b"(?!)", sections=[home.number]) if symbol.section == home.number),
        key=lambda symbol: symbol.value,
    )


def place(image: Image, home: Section, address: int) -> tuple[str | None, str]:
    """The function in which an address lies, or `None`, and the address as people look for it."""
    functions = [symbol for symbol in marks(image, home) if symbol.type == "FUNC"]
    # The lowest bit of an ARM function's address says Thumb.
    thumb = 1 if image.target is not None and image.target.name == "arm" else 0
    starts = [symbol.value & ~thumb for symbol in functions]
    index = bisect_right(starts, address) - 1
    if index >= 0 and address < starts[index] + max(functions[index].size, 1):
        return functions[index].name, f"{address:#x} ({functions[index].name}+{address - starts[index]:#x})"
    return None, f"{address:#x} in {home.name}"
