"""Where the areas lie in the memory of a running kernel."""

from __future__ import annotations

import struct
from dataclasses import dataclass

# percpu::detail::Areas (area.hpp): base, stride and count, each as wide as a pointer.
_WORDS = 3


@dataclass(frozen=True)
class Areas:
    """`count` areas, of which area 0 begins at `base`. Addresses and sizes are in bytes.

    `made` is false before the kernel has made them: then there is area 0 alone, the template as it was loaded.
    """

    base: int
    stride: int
    count: int
    made: bool = True

    def address(self, cpu: int) -> int:
        """Where the area of that CPU begins."""
        return self.base + cpu * self.stride

    def cpu_at(self, address: int) -> int | None:
        """The CPU whose area begins there."""
        if self.count == 1 or self.stride == 0:
            return 0 if address == self.base else None
        cpu, rest = divmod(address - self.base, self.stride)
        return cpu if rest == 0 and 0 <= cpu < self.count else None


def size_of_words(word: int) -> int:
    """The size of percpu::detail::areas, where a pointer has `word` bytes."""
    return _WORDS * word


def from_words(memory: bytes, word: int, little_endian: bool) -> Areas | None:
    """What the runtime has in percpu::detail::areas; `None` until the areas are made, and while they are being made."""
    order, letter = "<" if little_endian else ">", {4: "I", 8: "Q"}[word]
    base, stride, count = struct.unpack(f"{order}{_WORDS}{letter}", memory)
    return Areas(base, stride, count) if base else None
