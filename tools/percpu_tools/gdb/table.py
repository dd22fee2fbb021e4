"""The table that `info percpu` prints: CPUs next to each other whose copies are equal share a line."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

TITLES = ("offset", "variable", "type", "CPU", "value")
LONGEST_VALUE = 100

Row = tuple[str, str, str, str, str]


def runs(copies: Sequence[object]) -> list[tuple[int, int]]:
    """The first and the last CPU of each run of equal copies."""
    found: list[tuple[int, int]] = []
    for cpu, copy in enumerate(copies):
        if found and copies[found[-1][0]] == copy:
            found[-1] = (found[-1][0], cpu)
        else:
            found.append((cpu, cpu))
    return found


def cpus(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"


def shortened(value: str) -> str:
    """A value in one line of the table."""
    line = " ".join(value.split("\n"))
    return line if len(line) <= LONGEST_VALUE else f"{line[: LONGEST_VALUE - 3]}..."


def render(rows: Iterable[Row]) -> str:
    """The rows under their titles, in columns; what repeats the line above in the first columns is left out."""
    lines = [TITLES, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(TITLES) - 1)]
    text: list[str] = []
    above: Sequence[str] = ()
    for line in lines:
        about, own = line[:3], line[3:]
        shown = (*(("", "", "") if about == above else about), *own)
        text.append("  ".join((*(cell.ljust(width) for cell, width in zip(shown, widths)), shown[-1])).rstrip())
        above = about
    return "\n".join(text)
