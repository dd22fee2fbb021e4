"""x86_64 code that looks for the stack protector's canary through a segment register."""

from __future__ import annotations

from typing import NamedTuple

from percpu_tools import code
from percpu_tools.image import SHN_UNDEF, Image, Section
from percpu_tools.instructions import x86_64

_HANDLER = b"__stack_chk_fail"


def handler(image: Image) -> int | None:
    """The function that code calls when the canary has changed; a protected kernel defines it."""
    found = (symbol for symbol in image.symbols(_HANDLER) if symbol.name == _HANDLER.decode())
    return next((symbol.value for symbol in found if symbol.section != SHN_UNDEF), None)


class Check(NamedTuple):
    """A place at which the word at `offset` of the segment is compared, and the handler called if it differs."""

    home: Section
    place: int
    offset: int


def checks(image: Image, segment: str, function: int) -> list[Check]:
    """The places at which a word of the segment is compared, and `function` called if it differs.

    An accessor may read a variable at its offset by the same instruction; it does not go on like that.
    """
    bytes_ = code.Bytes(image)
    pattern = x86_64.canary_pattern(x86_64.SEGMENT_PREFIXES[segment])
    return [
        Check(home, place, x86_64.canary_offset(bytes_, home, place))
        for home, place in code.matches(image, "T03 stack-guard", pattern)
        if x86_64.checks_canary(bytes_, home, place, function)
    ]
