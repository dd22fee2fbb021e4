"""The tables for a person, and what is going on meanwhile."""

from __future__ import annotations

from collections.abc import Iterable

from bench.results import Cell, Spread, Table
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.status import Status
from rich.table import Table as RichTable

# Wide enough for every table in a pipe, which has no width of its own.
PIPE_WIDTH = 140


class Progress:
    """A line on a terminal that says what is being done, and nothing elsewhere; on standard error."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._status = Status("", console=self._console)

    def __enter__(self) -> Progress:
        if self._console.is_terminal:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._status.stop()

    def step(self, part: str, what: str) -> None:
        self._status.update(escape(f"{part}: {what}"))


def show(tables: Iterable[Table]) -> None:
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = PIPE_WIDTH
    for table in tables:
        console.print(_rich(table))
        for note in table.notes:
            console.print(f"  {escape(note)}")
        for goal in table.goals:
            mark = "[green]reached[/]" if goal.reached else "[red]missed[/] "
            console.print(f"  {mark}  {escape(goal.text)}: {escape(goal.found)}")
        console.print()


def _rich(table: Table) -> RichTable:
    text = RichTable(title=table.title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for number, column in enumerate(table.columns):
        left = all(isinstance(row[number], str) for row in table.rows)
        text.add_column(escape(column), justify="left" if left else "right", no_wrap=left)
    for row in table.rows:
        text.add_row(*(escape(_text(cell)) for cell in row))
    return text


def _text(cell: Cell) -> str:
    if cell is None:
        return "-"
    if isinstance(cell, Spread):
        return f"{_number(cell.median)} ({_number(cell.low)}..{_number(cell.high)})"
    return str(cell)


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.2f}" if abs(value) < 100 else f"{value:.1f}"
