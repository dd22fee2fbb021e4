"""The report as text, for people.

It is composed once, as lines of styled pieces. Only a terminal gets the styles, through rich; a file or
a pipe gets the same lines plain, and does not wait for rich to be imported.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TextIO

from percpu_tools import profiles
from percpu_tools.checker import Report
from percpu_tools.compare import Comparison, compare
from percpu_tools.findings import LEVELS, Finding
from percpu_tools.layout import Layout
from percpu_tools.names import printable

if TYPE_CHECKING:
    from percpu_tools.dwarf import SourceType

# Pieces of (text, style of rich).
Line = list[tuple[str, str]]

_LEVEL_STYLES = {"error": "bold red", "warning": "bold yellow", "note": "bold cyan"}


def render(reports: Sequence[Report]) -> str:
    """The plain text."""
    return "".join("".join(text for text, _ in line) + "\n" for line in lines(reports))


def write(reports: Sequence[Report], stream: TextIO) -> None:
    """Write to `stream`, in colour if it is a terminal."""
    if not stream.isatty():
        stream.write(render(reports))
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(file=stream)
    for line in lines(reports):
        # Text, not markup: a symbol may be called "[red]". The terminal wraps long lines by itself.
        console.print(Text.assemble(*line), soft_wrap=True)


def lines(reports: Sequence[Report]) -> Iterator[Line]:
    for number, report in enumerate(reports):
        if number:
            yield []
        yield from _report(report)


def _report(report: Report) -> Iterator[Line]:
    layout = report.layout
    yield [(printable(report.file), "bold"), (": " + _headline(layout), "")]
    sizes = [
        ("template", layout.template_size),
        ("stride", layout.stride),
        ("alignment", layout.alignment),
        ("reserved", layout.reserved),
    ]
    if layout.has_areas:
        told = [(name, size) for name, size in sizes if size is not None or layout.profile.is_own]
        yield [("  " + ", ".join(f"{name} {_bytes(size)}" for name, size in told), "")]
    if layout.variables:
        yield []
        yield from _variables(report)
    if report.types is not None and report.types.problem is not None:
        yield []
        yield [("types: ", "bold cyan"), (printable(report.types.problem), "")]
    for finding in report.findings:
        yield []
        yield from _finding(report, finding)
    if layout.baseline is not None:
        yield []
        yield from _comparison(compare(layout.baseline, layout), layout.cpu_num)
    if report.suppressed:
        yield []
    for finding, reason in report.suppressed:
        yield [("suppressed: ", "dim"), (f"{finding.rule} {finding.slug}: {printable(finding.message)}; {printable(reason)}", "dim")]
    if report.not_judged:
        yield []
    for item in report.not_judged:
        yield [("not judged: ", "bold cyan"), (f"{item.rule} {item.slug}: ", "bold"), (printable(item.reason), "")]
    yield []
    yield _verdict(report)


def _headline(layout: Layout) -> str:
    arch = layout.arch or "unknown architecture"
    if layout.layout is None:
        return f"{arch}, no per-CPU data"
    if layout.layout == "none":
        return f"{arch}, sp-naive: one CPU, no areas"
    if profiles.AREAS in layout.profile.lacks:
        return f"{arch}, {layout.layout}, profile {printable(layout.profile.name)}, no areas in the file"
    profile = "" if layout.profile.is_own else f", profile {printable(layout.profile.name)}"
    return f"{arch}, {layout.layout}, {_cpus(layout.cpu_num)}{profile}"


def _cpus(number: int | None) -> str:
    return "unknown number of CPUs" if number is None else f"{number} CPU{'s' if number != 1 else ''}"


def _bytes(size: int | None) -> str:
    return "unknown" if size is None else f"{size} bytes"


def _variables(report: Report) -> Iterator[Line]:
    types = report.types
    rows = [
        (
            "-" if variable.offset is None else f"{variable.offset:#x}",
            str(variable.size),
            str(variable.alignment),
            variable.section,
            variable.name,
            *(() if types is None else _source(types.get(variable))),
        )
        for variable in report.layout.variables
    ]
    titles: tuple[str, ...] = ("offset", "size", "aligned", "section", "variable")
    if types is not None:
        titles += ("type", "defined at")
    table = [titles, *(tuple(printable(cell) for cell in row) for row in rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(titles))]
    for number, row in enumerate(table):
        cells = [
            cell.ljust(width) if column >= 3 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths))
        ]
        yield [(("  " + "  ".join(cells)).rstrip(), "" if number else "dim")]


def _source(source: SourceType | None) -> tuple[str, str]:
    return ((source.type or "-", source.place or "-") if source else ("-", "-"))


def _finding(report: Report, finding: Finding) -> Iterator[Line]:
    yield [
        (f"{printable(report.file)}: ", ""),
        (finding.level, _LEVEL_STYLES[finding.level]),
        (f" {finding.rule} {finding.slug}: ", "bold"),
        (printable(finding.message), ""),
    ]
    for title, value in (
        ("symbol", finding.symbol),
        ("section", finding.section),
        ("found", finding.found),
        ("expected", finding.expected),
    ):
        if value is not None:
            yield [(f"  {title + ':':<10}", "dim"), (printable(value), "")]
    for number, mend in enumerate(finding.fix, 1):
        title = "mend:" if number == 1 else ""
        yield [(f"  {title:<10}", "dim"), (f"{number}. {printable(mend)}", "green")]


def _comparison(comparison: Comparison, cpu_num: int | None) -> Iterator[Line]:
    memory = "unknown" if comparison.memory is None else f"{comparison.memory:+} bytes"
    yield [(f"since {printable(comparison.old_file)}: template {comparison.template:+} bytes, memory of all areas {memory}", "bold")]
    if comparison.not_compared is not None:
        yield [(f"  variables were not compared: {printable(comparison.not_compared)}", "")]
    for change in comparison.changes:
        places = [
            f"{'unknown' if variable.offset is None else hex(variable.offset)}" for variable in (change.old, change.new) if variable is not None
        ]
        total = f" x {cpu_num} CPUs = {change.bytes * cpu_num:+}" if cpu_num and change.bytes else ""
        yield [(f"  {change.kind + ':':<9}{printable(change.name)}, at {' -> '.join(places)}, {change.bytes:+} bytes{total}", "")]


def _verdict(report: Report) -> Line:
    if not report.findings:
        return [("nothing found", "bold green")]
    counts = [
        f"{number} {level}{'s' if number != 1 else ''}"
        for level in LEVELS
        if (number := sum(finding.level == level for finding in report.findings))
    ]
    return [(", ".join(counts), _LEVEL_STYLES["note"] if report.ok else "bold red"), ("; percpu-check --explain RULE tells more", "dim")]
