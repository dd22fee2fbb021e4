"""What code says that it was built for, in lines of `key=value`: the runtime in its ELF note, and each translation unit
in the name of a symbol."""

from __future__ import annotations

from typing import NamedTuple

from percpu_tools import targets


class Note(NamedTuple):
    """A field that the note does not give, or gives in a form that is not understood, is `None`."""

    version: str | None
    arch: str | None
    layout: str | None
    features: tuple[str, ...]
    base_register: str | None
    cache_line: int | None
    near_reach: int | None
    stack_guard: bool


def parse_note(description: bytes) -> Note:
    """The note of that description. Unknown keys are those of a later version, and are passed over."""
    text = description.split(b"\0", 1)[0].decode("utf-8", errors="backslashreplace")
    fields = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    return Note(
        version=fields.get("version"),
        arch=fields.get("arch"),
        layout=fields.get("layout") if fields.get("layout") in targets.LAYOUTS else None,
        features=tuple(filter(None, fields.get("features", "").split(","))),
        base_register=fields.get("base-register"),
        cache_line=_power_of_two(fields.get("cache-line")),
        near_reach=_number(fields.get("near-reach")),
        stack_guard=fields.get("stack-guard") == "1",
    )


UNIT_SYMBOL = "percpu:version="
"""How the symbol of a translation unit begins; its lines end in `:` (percpu/built.hpp)."""


def parse_unit(symbol: str) -> Note:
    """What the translation unit with that symbol was built for."""
    return parse_note(symbol.partition(":")[2].replace(":", "\n").encode())


def _number(text: str | None) -> int | None:
    # Nine digits hold every size that is meant; int() of a hostile file's megabyte of digits takes minutes.
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) <= 9 else None


def _power_of_two(text: str | None) -> int | None:
    number = _number(text)
    return number if number and number & (number - 1) == 0 else None
