"""Judging an ELF file: read it, lay it out, ask the rules."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from percpu_tools import targets
from percpu_tools.config import Config
from percpu_tools.errors import PercpuError
from percpu_tools.findings import Finding, NotJudged
from percpu_tools.image import Image
from percpu_tools.layout import Layout, read_layout
from percpu_tools.profiles import Profile, find_profile
from percpu_tools.rules import all_rules, find_rule, user_rule

if TYPE_CHECKING:
    from percpu_tools.dwarf import SourceType, Types


class Report(NamedTuple):
    """The judgment of one file."""

    file: str
    layout: Layout
    findings: tuple[Finding, ...]
    # What no rule could look at, for want of evidence in the file.
    not_judged: tuple[NotJudged, ...] = ()
    # Findings that the configuration suppresses, each with its reason.
    suppressed: tuple[tuple[Finding, str], ...] = ()
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
    budget: int | None = None,
    baseline: str | os.PathLike[str] | None = None,
    profile: str | None = None,
    config: Config | None = None,
) -> Report:
    """Judge the linked ELF file at `path`.

    `cpu_num` is the number of CPUs that it should have been linked for; `disable` names rules, by id or
    slug, not to ask; `types` asks for the variables' types from the debug information.
    `profile` says whose kernel it is: `linux`, `rust`, `xen`, `osv`, `percpu`, or a TOML file; else what fits is found out.
    `budget` is the largest size of the template, in bytes; `baseline` is an older build to compare with; `config` gives
    what the other arguments do not, and rules of the user's own. Raises PercpuError where the file cannot be judged.
    """
    config = config or Config()
    cpu_num = config.cpu_num if cpu_num is None else cpu_num
    baseline = config.baseline if baseline is None else baseline
    whose = _find_profile(profile, config)
    asked = None if cpu_num is None else targets.parse_cpu_num(cpu_num)
    with config.named():
        of_user = tuple(user_rule(name, config.folder) for name in config.rules)
        severity = {find_rule(name, of_user).id: level for name, level in config.severity.items()}
        for suppression in config.suppressions:
            find_rule(suppression.rule, of_user)
    disabled = {find_rule(name, of_user).id for name in ((disable,) if isinstance(disable, str) else disable)}
    old = None if baseline is None else _layout_of(baseline, whose)
    with Image(path) as image:
        if image.type not in ("ET_EXEC", "ET_DYN"):
            raise PercpuError(
                f"{image.path}: ELF type {image.type}: expected a linked program (ET_EXEC or ET_DYN)",
                fix="check the linked kernel; objects have no layout yet",
            )
        if _is_debug_file(image):
            raise PercpuError(
                f"{image.path}: it holds no program, only its debug information or its symbols: nothing of what is loaded has bytes in it",
                fix="check the kernel itself, from which this file was made",
            )
        layout = read_layout(image, asked, whose)._replace(budget=config.budget if budget is None else budget, baseline=old)
        read = _read_types(image, layout) if types else None
        said = [
            finding
            for rule in (*all_rules(), *of_user)
            if rule.id not in disabled
            for finding in rule.findings(layout, image)
        ]
    kept, suppressed = _sort_out((item for item in said if isinstance(item, Finding)), severity, config)
    return Report(
        file=image.path,
        layout=layout,
        findings=kept,
        suppressed=suppressed,
        not_judged=tuple(item for item in said if isinstance(item, NotJudged)),
        types=read,
    )


def _is_debug_file(image: Image) -> bool:
    """Whether the file is what `objcopy --only-keep-debug` or `eu-strip -f` has kept, which make all that is loaded NOBITS
    but the notes, or `objcopy --extract-symbol`, which makes all of it empty."""
    allocated = [section for section in image.sections if section.is_allocated and section.type != "SHT_NOTE"]
    return bool(allocated) and not any(section.has_bytes and section.size for section in allocated)


def _find_profile(name: str | None, config: Config) -> Profile | None:
    if name is not None:
        return find_profile(name)
    with config.named():
        return None if config.profile is None else find_profile(config.profile, config.folder)


def _layout_of(path: str | os.PathLike[str], profile: Profile | None) -> Layout:
    with Image(path) as image:
        return read_layout(image, profile=profile)


def _sort_out(
    findings: Iterable[Finding], severity: Mapping[str, str], config: Config
) -> tuple[tuple[Finding, ...], tuple[tuple[Finding, str], ...]]:
    """The findings with the levels that the configuration gives them, and those that it suppresses."""
    kept, suppressed = [], []
    for finding in findings:
        finding = finding._replace(level=severity.get(finding.rule, finding.level))
        reason = next((suppression.reason for suppression in config.suppressions if suppression.matches(finding)), None)
        if reason is None:
            kept.append(finding)
        else:
            suppressed.append((finding, reason))
    return tuple(kept), tuple(suppressed)


def _read_types(image: Image, layout: Layout) -> Types:
    # Imported here: reading DWARF takes longer to import than most checks take to run.
    from percpu_tools.dwarf import read_types

    return read_types(image, layout)
