"""The report as JSON, for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from percpu_tools.checker import Report
from percpu_tools.compare import compare
from percpu_tools.layout import Variable


def render(reports: Sequence[Report], as_list: bool = False) -> str:
    """One object for one file, a list for several, or where `as_list` says so."""
    objects = [as_object(report) for report in reports]
    return json.dumps(objects[0] if len(objects) == 1 and not as_list else objects, indent=2) + "\n"


def as_object(report: Report) -> dict[str, Any]:
    layout = report.layout
    return {
        "file": report.file,
        "arch": layout.arch,
        "layout": layout.layout,
        **({} if layout.profile.is_own else {"profile": layout.profile.name}),
        "cpu_num": layout.cpu_num,
        "template_size": layout.template_size,
        "stride": layout.stride,
        "alignment": layout.alignment,
        "reserved": layout.reserved,
        "variables": [
            {
                "name": variable.name,
                "offset": variable.offset,
                "size": variable.size,
                "alignment": variable.alignment,
                "section": variable.section,
                **_source(report, variable),
            }
            for variable in layout.variables
        ],
        "findings": [
            {
                "rule": finding.rule,
                "slug": finding.slug,
                "level": finding.level,
                "message": finding.message,
                "symbol": finding.symbol,
                "section": finding.section,
                "found": finding.found,
                "expected": finding.expected,
                "fix": list(finding.fix),
            }
            for finding in report.findings
        ],
        "not_judged": [{"rule": item.rule, "slug": item.slug, "reason": item.reason} for item in report.not_judged],
        **_suppressed(report),
        **_baseline(report),
    }


def _suppressed(report: Report) -> dict[str, Any]:
    """The key of a file of which the configuration suppresses findings."""
    if not report.suppressed:
        return {}
    return {
        "suppressed": [
            {"rule": finding.rule, "slug": finding.slug, "message": finding.message, "reason": reason}
            for finding, reason in report.suppressed
        ]
    }


def _baseline(report: Report) -> dict[str, Any]:
    """The key that --baseline adds."""
    if report.layout.baseline is None:
        return {}
    return {"baseline": compare(report.layout.baseline, report.layout).as_object}


def _source(report: Report, variable: Variable) -> dict[str, Any]:
    """The keys that --types adds."""
    if report.types is None:
        return {}
    source = report.types.get(variable)
    return {
        "type": source.type if source else None,
        "file": source.file if source else None,
        "line": source.line if source else None,
    }
