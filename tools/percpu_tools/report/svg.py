"""The area as an SVG picture, a cache line a row. The HTML page shows the same picture."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from percpu_tools.checker import Report
from percpu_tools.errors import PercpuError
from percpu_tools.names import printable
from percpu_tools.report.map import KINDS, Picture, Piece, amount, draw

if TYPE_CHECKING:
    from jinja2 import Environment

# Pixels of the picture.
LEFT = 84
WIDTH = 1024
RIGHT = 250
ROW = 34
FOLD = 24
GAP = 3
_CHARACTER = 6.35
_MARGIN = 5
_AREAS = 12


class Box(NamedTuple):
    """A piece where it is drawn, with the lines of text that fit into it."""

    x: float
    width: float
    piece: Piece
    text: list[str]


class Line(NamedTuple):
    y: int
    height: int
    row: Any
    boxes: list[Box]
    remark: str
    remark_class: str


class Area(NamedTuple):
    x: float
    width: float
    text: str
    used: float


def render(reports: Sequence[Report]) -> str:
    """The picture of the one file."""
    if len(reports) != 1:
        raise PercpuError(f"--format svg draws one file, and {len(reports)} were judged", fix="name one, or use --format html")
    return only_ascii(environment().get_template("area.svg.j2").render(report=reports[0], canvas=Canvas(draw(reports[0])), standalone=True))


def only_ascii(text: str) -> str:
    """Any encoding of the output can then hold it; references mean the same in SVG and HTML."""
    return text.encode("ascii", "xmlcharrefreplace").decode("ascii")


@lru_cache(maxsize=None)
def environment() -> Environment:
    import jinja2

    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters["printable"] = printable
    return templates


class Canvas:
    """A picture with its measures: what the template places on the page."""

    def __init__(self, picture: Picture | None) -> None:
        self.picture = picture
        self.kinds = KINDS
        self.amount = amount
        self.left, self.width, self.right, self.row, self.gap = LEFT, WIDTH, RIGHT, ROW, GAP
        self.total_width = LEFT + WIDTH + RIGHT
        self.top = 196
        self.lines: list[Line] = []
        self.areas: list[Area] = []
        self.ruler: list[tuple[float, int]] = []
        self.height = 120
        if picture is not None:
            self._place(picture)

    def _place(self, picture: Picture) -> None:
        # A cache line of a few bytes would otherwise be as wide as one of 64.
        scale = min(WIDTH / picture.line, 32.0)
        y = self.top
        for row in picture.rows:
            height = FOLD if row.folded else ROW
            boxes = [
                Box(piece.start * scale, piece.size * scale, piece, [] if row.folded else label(piece, piece.size * scale))
                for piece in row.pieces
            ]
            remark = "; ".join(text for _, text in row.remarks)
            fits = int((RIGHT - 2 * _MARGIN) / _CHARACTER)
            classes = [kind for kind, _ in row.remarks]
            self.lines.append(Line(y, height, row, boxes, _cut(remark, fits), classes[0] if classes else ""))
            y += height + GAP
        self.height = y + 20
        step = max(8, picture.line // 8)
        self.ruler = [(place * scale, place) for place in range(0, picture.line, step)]
        self.areas = list(_areas(picture))


def label(piece: Piece, width: float) -> list[str]:
    """At most two lines of text that fit into a piece of that many pixels."""
    fits = int((width - 2 * _MARGIN) / _CHARACTER)
    if piece.entry is None:
        text = f"{piece.size} free" if piece.kind == "hole" else f"{piece.size} padding"
        return [text] if len(text) <= fits else []
    entry = piece.entry
    if not piece.is_first:
        return [_cut(f"\u2026 {entry.name}", fits)] if fits >= 6 else []
    name = entry.name if len(entry.name) <= fits else entry.name.rsplit("::", 1)[-1]
    if len(name) <= fits:
        details = amount(entry.size) + (f", {entry.type}" if entry.type is not None else "")
        # A type cut short still says something; a size cut short does not.
        size = next((text for text in (amount(entry.size), str(entry.size)) if len(text) <= fits), "")
        return [name, _cut(details, fits) if fits >= len(amount(entry.size)) + 6 else size]
    if fits < 2:
        return []
    return [name[:fits], _cut(name[fits:], fits)]


def _cut(text: str, fits: int) -> str:
    return text if len(text) <= fits else text[: max(fits - 1, 0)] + "\u2026"


def _areas(picture: Picture) -> list[Area]:
    """The areas of all CPUs in a strip; of many, the first ones and the last."""
    number = picture.cpu_num
    if number is None or number <= 0:
        return []
    shown = list(range(number)) if number <= _AREAS else [*range(_AREAS - 2), -1, number - 1]
    width = WIDTH / len(shown)
    used = picture.template_size / picture.stride if picture.stride else 0
    return [
        Area(place * width, width - 4, f"{number - _AREAS + 1} more" if cpu < 0 else f"CPU {cpu}", 0 if cpu < 0 else (width - 4) * used)
        for place, cpu in enumerate(shown)
    ]
