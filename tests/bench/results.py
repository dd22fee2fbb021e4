"""What a benchmark gives: tables whose cells are figures with their spread, and goals reached or missed."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Union


class BenchError(Exception):
    """Something that a benchmark needs failed; the message says what."""


@dataclass(frozen=True)
class Spread:
    """The median of several rounds, and between what they lay."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        ordered = sorted(values)
        return cls(statistics.median(ordered), ordered[0], ordered[-1])

    @classmethod
    def of_ratios(cls, values: Iterable[float], to: Iterable[float]) -> Spread:
        """Of the ratios within each round: what slows a whole round down falls out."""
        return cls.of(value / unit for value, unit in zip(values, to))


Cell = Union[str, int, Spread, None]


@dataclass(frozen=True)
class Goal:
    text: str
    found: str
    reached: bool


@dataclass
class Table:
    name: str
    title: str
    columns: tuple[str, ...]
    rows: list[tuple[Cell, ...]] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
