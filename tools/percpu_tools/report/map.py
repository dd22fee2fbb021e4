"""The area, cache line by cache line: what the pictures draw.

Everything in here is text that may be shown: names from the ELF have passed `printable`, and the templates
escape what their own format needs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from percpu_tools import names
from percpu_tools.checker import Report
from percpu_tools.layout import Layout, Variable
from percpu_tools.names import printable

# So many full lines of one object or hole are drawn as the first, a fold, and the last.
_FOLD_FROM = 4


@dataclass(frozen=True)
class Entry:
    """A variable as it is shown."""

    number: int
    name: str
    offset: int
    size: int
    alignment: int
    section: str
    kind: str
    type: str | None
    place: str | None
    straddles: bool
    level: str | None
    problems: tuple[str, ...]
    # Other variables in the same bytes.
    aliases: tuple[str, ...] = ()

    @property
    def tooltip(self) -> str:
        end = self.offset + self.size
        lines = [
            self.name if self.type is None else f"{self.type} {self.name}",
            f"offset {self.offset:#x} .. {end:#x}, {amount(self.size)}, aligned to {self.alignment}, {KINDS[self.kind]}",
        ]
        if self.place is not None:
            lines.append(self.place)
        if self.straddles:
            lines.append("on more cache lines than its size needs")
        if self.aliases:
            lines.append("same bytes: " + ", ".join(self.aliases))
        return "\n".join([*lines, *self.problems])


@dataclass(frozen=True)
class Piece:
    """A part of one cache line: of a variable, or of a hole (`entry` is `None`)."""

    start: int
    size: int
    kind: str
    entry: Entry | None = None
    is_first: bool = True
    is_last: bool = True


@dataclass
class Row:
    """A cache line; or, with `folded`, so many lines that hold nothing but the one piece."""

    offset: int
    folded: int = 0
    pieces: list[Piece] = field(default_factory=list)
    remarks: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Picture:
    file: str
    headline: str
    line: int
    template_size: int
    stride: int
    cpu_num: int | None
    holes: int
    rows: list[Row]
    entries: list[Entry]
    near: int
    # Bytes of each kind.
    bytes: dict[str, int]

    @property
    def lines(self) -> int:
        return -(-self.template_size // self.line)

    @property
    def straddling(self) -> list[Entry]:
        return [entry for entry in self.entries if entry.straddles]

    @property
    def mixed(self) -> list[Row]:
        return [row for row in self.rows if any(kind == "mixed" for kind, _ in row.remarks)]


KINDS = {
    "near": "near",
    "far": "far",
    "read-mostly": "read-mostly",
    "hole": "hole",
    "padding": "padding up to the stride",
}


def amount(size: int) -> str:
    return f"{size} byte{'' if size == 1 else 's'}"


def draw(report: Report) -> Picture | None:
    """The picture of a file's area; `None` if it has none."""
    layout = report.layout
    if not layout.has_areas or layout.template_size is None:
        return None
    entries = _entries(report, layout)
    stride = max(layout.stride or 0, layout.template_size)
    parts = list(_parts(entries, layout.template_size, stride))
    sizes = {kind: 0 for kind in KINDS}
    for start, end, kind, _ in parts:
        sizes[kind] += end - start
    rows = _rows(parts, layout.cache_line)
    for row in rows:
        row.remarks = list(_remarks(row))
    cpus = "unknown number of CPUs" if layout.cpu_num is None else f"{layout.cpu_num} CPU{'s' if layout.cpu_num != 1 else ''}"
    if not layout.profile.is_own:
        cpus += f", profile {printable(layout.profile.name)}"
    return Picture(
        file=printable(report.file),
        headline=f"{layout.arch or 'unknown architecture'}, {layout.layout}, {cpus}",
        line=layout.cache_line,
        template_size=layout.template_size,
        stride=stride,
        cpu_num=layout.cpu_num,
        holes=sizes["hole"],
        rows=rows,
        entries=entries,
        near=sizes["near"],
        bytes=sizes,
    )


def _entries(report: Report, layout: Layout) -> list[Entry]:
    problems: dict[str, list[tuple[str, str]]] = {}
    for finding in report.findings:
        if finding.symbol is not None:
            text = printable(f"{finding.level} {finding.rule}: {finding.message}")
            problems.setdefault(finding.symbol, []).append((finding.level, text))
    shown: list[Entry] = []
    end = 0
    for variable in sorted(_placed(layout), key=lambda one: (one.offset or 0, -one.size, one.name)):
        offset = variable.offset or 0
        if shown and offset + variable.size <= end:
            # It lies inside the one before: two names of one object, or a part of it.
            shown[-1] = _with_alias(shown[-1], printable(variable.name))
            continue
        end = offset + variable.size
        said = problems.get(variable.symbol, [])
        source = report.types.get(variable) if report.types is not None else None
        shown.append(
            Entry(
                number=len(shown),
                name=printable(variable.name),
                offset=offset,
                size=variable.size,
                alignment=variable.alignment,
                section=printable(variable.section),
                kind=_kind(layout, variable),
                type=printable(source.type) if source is not None and source.type is not None else None,
                place=printable(source.place) if source is not None and source.place is not None else None,
                straddles=_straddles(offset, variable.size, layout.cache_line),
                level=next((level for level in ("error", "warning", "note") if any(level == one for one, _ in said)), None),
                problems=tuple(text for _, text in said),
            )
        )
    return shown


def _placed(layout: Layout) -> Iterator[Variable]:
    return (variable for variable in layout.variables if variable.offset is not None and variable.offset < (layout.template_size or 0))


def _with_alias(entry: Entry, name: str) -> Entry:
    return Entry(**{**entry.__dict__, "aliases": (*entry.aliases, name)})


def _kind(layout: Layout, variable: Variable) -> str:
    assert layout.load_start is not None
    address = layout.load_start + (variable.offset or 0)
    near_end, read_mostly = layout.value("_percpu_near_end"), layout.value("_percpu_read_mostly_start")
    if names.is_near(variable.symbol) or (near_end is not None and address < near_end):
        return "near"
    if read_mostly is not None and address >= read_mostly:
        return "read-mostly"
    return "far"


def _straddles(offset: int, size: int, line: int) -> bool:
    """Whether it takes more cache lines than one of its size must."""
    return size > 0 and (offset + size - 1) // line - offset // line + 1 > -(-size // line)


def _parts(entries: list[Entry], template_size: int, stride: int) -> Iterator[tuple[int, int, str, Entry | None]]:
    """Every byte of the stride, once, in order."""
    place = 0
    for number, entry in enumerate(entries):
        start = max(entry.offset, place)
        following = entries[number + 1].offset if number + 1 < len(entries) else template_size
        # A symbol without a size is still somewhere: it is shown as a byte.
        end = min(max(entry.offset + entry.size, entry.offset + 1), template_size)
        if entry.size == 0:
            end = min(end, max(following, start))
        if start > place:
            yield place, start, "hole", None
        if end > start:
            yield start, end, entry.kind, entry
        place = max(place, end, start)
    if place < template_size:
        yield place, template_size, "hole", None
    if template_size < stride:
        yield template_size, stride, "padding", None


def _rows(parts: list[tuple[int, int, str, Entry | None]], line: int) -> list[Row]:
    rows: list[Row] = []
    for start, end, kind, entry in parts:
        place = start
        while place < end:
            offset = place // line * line
            full = (end - place) // line if place == offset else 0
            if full >= _FOLD_FROM and place != start or full > _FOLD_FROM:
                if place == start:
                    rows.append(Row(offset, pieces=[Piece(0, line, kind, entry, True, False)]))
                    place += line
                    full -= 1
                rows.append(Row(place, folded=full - 1, pieces=[Piece(0, line, kind, entry, False, False)]))
                place += (full - 1) * line
                continue
            if not rows or rows[-1].folded or rows[-1].offset != offset:
                rows.append(Row(offset))
            stop = min(end, offset + line)
            rows[-1].pieces.append(Piece(place - offset, stop - place, kind, entry, place == start, stop == end))
            place = stop
    return rows


def _remarks(row: Row) -> Iterator[tuple[str, str]]:
    if row.folded:
        return
    read_mostly = next((piece.entry for piece in row.pieces if piece.kind == "read-mostly"), None)
    written = next((piece.entry for piece in row.pieces if piece.kind in ("near", "far")), None)
    if read_mostly is not None and written is not None:
        yield "mixed", f"read-mostly {read_mostly.name} beside {written.name}"
    for piece in row.pieces:
        if piece.entry is not None and piece.entry.straddles and piece.is_first and not piece.is_last:
            yield "straddles", f"{piece.entry.name} straddles"
    free = sum(piece.size for piece in row.pieces if piece.kind == "hole")
    # Of a line that holds nothing else, the hole itself says it.
    if free and len(row.pieces) > 1:
        yield "free", f"{amount(free)} free"
