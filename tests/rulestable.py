"""The table of percpu-check's rules against the builds that the tests made: what `--rules` prints.

Each cell counts ELF files of one architecture that tests judged: those on which the rule found something, and those
on which it was asked and found nothing.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from matrix import ARCHITECTURES
from percpu_tools import checker
from percpu_tools.rules import all_rules


class RulesTable:
    """Watches every judgment that is made within the tests' own process."""

    def __init__(self) -> None:
        self.cells: Counter[tuple[str, str, str]] = Counter()
        self._ids = {rule.id for rule in all_rules()}
        self._check = checker.check

    def watch(self) -> None:
        def check(*arguments: Any, **named: Any) -> checker.Report:
            report = self._check(*arguments, **named)
            found = {finding.rule for finding in report.findings} | {finding.rule for finding, _ in report.suppressed}
            silent = self._ids - found - {item.rule for item in report.not_judged}
            arch = report.layout.arch or "another"
            self.cells.update((rule, arch, "found") for rule in found & self._ids)
            self.cells.update((rule, arch, "silent") for rule in silent)
            return report

        # Before any test module takes its name from the package, which looks it up here.
        checker.check = check

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        # A worker of pytest-xdist hands its cells over; they travel as plain lists.
        output = getattr(session.config, "workeroutput", None)
        if output is not None:
            output["rules"] = [[*cell, count] for cell, count in self.cells.items()]

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        for *cell, count in getattr(node, "workeroutput", {}).get("rules", []):
            self.cells[tuple(cell)] += count

    def pytest_terminal_summary(self, terminalreporter: Any, config: pytest.Config) -> None:
        if hasattr(config, "workerinput"):
            return
        terminalreporter.section("rules: builds with a finding / builds without")
        terminalreporter.write_line(" " * 34 + "".join(f"{arch:>13}" for arch in ARCHITECTURES))
        for rule in all_rules():
            row = [(self.cells[rule.id, arch, "found"], self.cells[rule.id, arch, "silent"]) for arch in ARCHITECTURES]
            columns = "".join(f"{f'{found} / {silent}':>13}" for found, silent in row)
            lacks = [word for word, some in (("found nowhere", sum(it[0] for it in row)), ("silent nowhere", sum(it[1] for it in row))) if not some]
            terminalreporter.write_line(f"{rule.id:4} {rule.slug:29}{columns}{'  ' + ', '.join(lacks) if lacks else ''}")
