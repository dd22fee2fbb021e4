"""The report as a SARIF 2.1.0 log, for code-scanning services and editors.

One run holds all files: each is an artifact, each finding a result. A result's place is the source line
where --types has told it, and the ELF file otherwise.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from percpu_tools.checker import Report
from percpu_tools.compare import compare
from percpu_tools.findings import Finding, NotJudged
from percpu_tools.layout import variable_name
from percpu_tools.names import cxx_name, printable
from percpu_tools.rules import Rule, all_rules
from percpu_tools.version import __version__

_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"

# The version is part of the name: results with fingerprints of another make are not compared.
_FINGERPRINT = "percpuFinding/v1"

_NUMBER = re.compile(r"\b(?:0x[0-9a-fA-F]+|[0-9]+)\b")


def render(reports: Sequence[Report]) -> str:
    """One log of one run."""
    rules = all_rules()
    seen: dict[str, int] = {}
    indexes = {rule.id: number for number, rule in enumerate(rules)}
    results = [
        _result(report, finding, indexes, number, seen)
        for number, report in enumerate(reports)
        for finding in report.findings
    ]
    results += [
        {
            **_result(report, finding, indexes, number, seen),
            "suppressions": [{"kind": "external", "justification": printable(reason)}],
        }
        for number, report in enumerate(reports)
        for finding, reason in report.suppressed
    ]
    results += [
        _open_result(report, item, indexes, number)
        for number, report in enumerate(reports)
        for item in report.not_judged
    ]
    run = {
        "tool": {
            "driver": {
                "name": "percpu-check",
                "version": __version__,
                "semanticVersion": __version__,
                "rules": [_rule(rule) for rule in rules],
            }
        },
        "columnKind": "utf16CodeUnits",
        "artifacts": [_artifact(report) for report in reports],
        "results": results,
    }
    return json.dumps({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2) + "\n"


def _rule(rule: Rule) -> dict[str, Any]:
    return {
        "id": rule.id,
        "name": "".join(word.capitalize() for word in rule.slug.split("-")),
        "shortDescription": {"text": _sentence(rule.title)},
        "fullDescription": {"text": _sentence(_mechanism(rule.explanation))},
        "help": {"text": rule.explanation, "markdown": _markdown(rule.explanation)},
        "properties": {"slug": rule.slug},
    }


def _sentence(text: str) -> str:
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "?", "!", ")")) else text + "."


def _mechanism(explanation: str) -> str:
    """The paragraph under the first heading, on one line; the whole text if there are no headings."""
    heading, *lines = explanation.splitlines() or [""]
    if heading != "Mechanism":
        return explanation
    paragraph = itertools.takewhile(lambda line: not line or line.startswith(" "), lines)
    return " ".join(line.strip() for line in paragraph if line)


def _markdown(explanation: str) -> str:
    """The explanation with its headings as headings; code and numbered mends keep their line breaks."""
    blocks: list[tuple[str, list[str]]] = []
    for line in explanation.splitlines():
        if line and not line.startswith(" "):
            blocks.append((line, []))
        elif blocks:
            blocks[-1][1].append(line[2:])
    if not blocks:
        return explanation
    parts = []
    for heading, lines in blocks:
        text = "\n".join(lines).strip("\n")
        parts.append(f"**{heading}**\n\n" + (f"```text\n{text}\n```" if heading == "Reproduce" else text))
    return "\n\n".join(parts)


def _artifact(report: Report) -> dict[str, Any]:
    layout = report.layout
    return {
        "location": {"uri": _uri(report.file)},
        "roles": ["analysisTarget"],
        "properties": {
            "arch": layout.arch,
            "layout": layout.layout,
            "profile": layout.profile.name,
            "cpu_num": layout.cpu_num,
            "template_size": layout.template_size,
            "stride": layout.stride,
            "alignment": layout.alignment,
            "reserved": layout.reserved,
            **({} if layout.baseline is None else {"baseline": compare(layout.baseline, layout).as_object}),
        },
    }


def _result(report: Report, finding: Finding, indexes: dict[str, int], artifact: int, seen: dict[str, int]) -> dict[str, Any]:
    result: dict[str, Any] = {
        "ruleId": finding.rule,
        "kind": "fail",
        "level": finding.level,
        "message": {"text": _escaped(_text(finding))},
        "locations": [_location(report, finding, artifact)],
        "partialFingerprints": {_FINGERPRINT: _fingerprint(report, finding, seen)},
        "properties": {
            "symbol": finding.symbol,
            "section": finding.section,
            "found": finding.found,
            "expected": finding.expected,
            "fix": list(finding.fix),
        },
    }
    # A user's own rule may be one that no list has.
    if finding.rule in indexes:
        result["ruleIndex"] = indexes[finding.rule]
    if "region" in result["locations"][0]["physicalLocation"]:
        result["analysisTarget"] = {"uri": _uri(report.file), "index": artifact}
    return result


def _open_result(report: Report, item: NotJudged, indexes: dict[str, int], artifact: int) -> dict[str, Any]:
    """What was not judged. `open` is SARIF's word for a question that could be neither passed nor failed."""
    result: dict[str, Any] = {
        "ruleId": item.rule,
        "kind": "open",
        "level": "none",
        "message": {"text": _escaped(printable(f"not judged: {item.reason}"))},
        "locations": [{"physicalLocation": {"artifactLocation": {"uri": _uri(report.file), "index": artifact}}}],
    }
    if item.rule in indexes:
        result["ruleIndex"] = indexes[item.rule]
    return result


def _text(finding: Finding) -> str:
    lines = [_sentence(finding.message)]
    if finding.found is not None:
        lines.append(f"Found: {finding.found}.")
    if finding.expected is not None:
        lines.append(f"Expected: {finding.expected}.")
    lines += [f"Mend {number}: {mend}." for number, mend in enumerate(finding.fix, 1)]
    return "\n".join(printable(line) for line in lines)


def _escaped(text: str) -> str:
    """In a message, `[text](link)` is a link and `{0}` a placeholder; an ELF's names are anybody's (SARIF 3.11.5, 3.11.6)."""
    text = text.replace("{", "{{").replace("}", "}}")
    # A backslash in front of a bracket is doubled first, or it would undo the one that is put there.
    return re.sub(r"(\\*)([\[\]])", r"\1\1\\\2", text)


def _location(report: Report, finding: Finding, artifact: int) -> dict[str, Any]:
    location: dict[str, Any] = {
        "physicalLocation": {"artifactLocation": {"uri": _uri(report.file), "index": artifact}},
    }
    logical = []
    if finding.symbol is not None:
        logical.append({"fullyQualifiedName": variable_name(report.layout.profile, finding.symbol), "decoratedName": finding.symbol, "kind": "variable"})
        source = report.source_of(finding.symbol)
        if source is not None and source.file is not None and source.line is not None:
            location["physicalLocation"] = {
                "artifactLocation": {"uri": _uri(source.file)},
                "region": {"startLine": source.line},
            }
    if finding.section is not None:
        logical.append({"fullyQualifiedName": finding.section, "kind": "resource"})
    if logical:
        location["logicalLocations"] = logical
    return location


def _fingerprint(report: Report, finding: Finding, seen: dict[str, int]) -> str:
    """The same for the same mistake in the next build: without addresses, sizes and what compilers append to symbols.

    An absolute path differs between machines, so only its last part counts.
    """
    file = os.path.basename(report.file) if os.path.isabs(report.file) else os.path.normpath(report.file)
    parts = (
        file,
        finding.rule,
        cxx_name(finding.symbol) if finding.symbol is not None else "",
        finding.section or "",
        _NUMBER.sub("#", finding.message),
    )
    digest = hashlib.sha256("\0".join(parts).encode("utf-8", errors="surrogateescape")).hexdigest()[:32]
    seen[digest] = seen.get(digest, 0) + 1
    return f"{digest}:{seen[digest]}"


def _uri(path: str) -> str:
    quoted = quote(os.fsencode(path))
    return f"file://{quoted}" if path.startswith("/") else quoted
