"""Judging an ELF file: read it, lay it out, ask the rules."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from percpu_tools import targets
from percpu_tools.errors import PercpuError
from percpu_tools.findings import Finding, NotJudged
from percpu_tools.image import Image
from percpu_tools.layout import Layout, read_layout
from percpu_tools.rules import all_rules, find_rule

if TYPE_CHECKING:
    from percpu_tools.dwarf import SourceType, Types


@dataclass(frozen=True)
class Report:
    """The judgment of one file."""

    file: str
    layout: Layout
    findings: tuple[Finding, ...]
    # What no rule could look at, for want of evidence in the file.
    not_judged: tuple[NotJudged, ...] = ()
    # What the debug information says of the variables, if it was asked.
    types: Types | None = None

    def source_of(self, symbol: str) -> SourceType | None:
        """The type and source line of the variable with that symbol, if they were read."""
        return None if self.types is None else self.types.symbols.get(symbol)

    @property
    def ok(self) -> bool:
        """Whether there is no error and no warning."""
        return all(finding.level == "note" for finding in self.findings)


def check(
    path: str | os.PathLike[str],
    *,
    cpu_num: int | str | None = None,
    disable: Iterable[str] = (),
    types: bool = False,
) -> Report:
    """Judge the linked ELF file at `path`.

    `cpu_num` is the number of CPUs that it should have been linked for; `disable` names rules, by id or
    slug, not to ask; `types` asks for the variables' types from the debug information. Raises PercpuError where the file cannot be judged.
    """
    asked = None if cpu_num is None else targets.parse_cpu_num(cpu_num)
    disabled = {find_rule(name).id for name in ((disable,) if isinstance(disable, str) else disable)}
    with Image(path) as image:
        if image.type not in ("ET_EXEC", "ET_DYN"):
            raise PercpuError(
                f"{image.path}: ELF type {image.type}: expected a linked program (ET_EXEC or ET_DYN)",
                fix="check the linked kernel; objects have no layout yet",
            )
        layout = read_layout(image, asked)
        read = _read_types(image, layout) if types else None
        said = [
            finding
            for rule in all_rules()
            if rule.id not in disabled
            for finding in rule.findings(layout, image)
        ]
    return Report(
        file=image.path,
        layout=layout,
        findings=tuple(item for item in said if isinstance(item, Finding)),
        not_judged=tuple(item for item in said if isinstance(item, NotJudged)),
        types=read,
    )


def _read_types(image: Image, layout: Layout) -> Types:
    # Imported here: reading DWARF takes longer to import than most checks take to run.
    from percpu_tools.dwarf import read_types

    return read_types(image, layout)
