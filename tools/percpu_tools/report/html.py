"""The report as one HTML page that needs nothing else: the picture, the findings, a table of the variables."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence

from markupsafe import Markup

from percpu_tools.checker import Report
from percpu_tools.compare import Comparison, compare
from percpu_tools.names import printable
from percpu_tools.report.map import draw
from percpu_tools.report.svg import Canvas, environment, only_ascii
from percpu_tools.version import __version__


def render(reports: Sequence[Report]) -> str:
    """One page for all files."""
    templates = environment()
    script = templates.get_template("page.js").render()
    # The page says itself that it runs this script and no other, whatever the names of a hostile file hold.
    digest = base64.b64encode(hashlib.sha256(script.encode("ascii")).digest()).decode("ascii")
    page = templates.get_template("page.html.j2").render(
        pages=[(report, Canvas(draw(report)), _since(report)) for report in reports],
        script=Markup(script),
        digest=digest,
        printable=printable,
        version=__version__,
    )
    return only_ascii(page)


def _since(report: Report) -> Comparison | None:
    return None if report.layout.baseline is None else compare(report.layout.baseline, report.layout)
