"""The rules: each is a function from the layout, and the image where it needs more, to findings.

A rule's id is that of the trap that it finds. Its docstring is what `--explain` prints: the mechanism,
how to reproduce it, the mends.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Union

from percpu_tools.errors import PercpuError
from percpu_tools.findings import Finding, NotJudged
from percpu_tools.image import Image
from percpu_tools.layout import Layout

Judge = Callable[[Layout, Image], Iterable[Union[Finding, NotJudged]]]

_MODULES = ("placement", "agreement", "segments", "contents", "sharing", "registers", "constructors")


@dataclass(frozen=True)
class Rule:
    id: str
    slug: str
    title: str
    judge: Judge
    needs_symbols: bool

    @property
    def explanation(self) -> str:
        # `python -OO` takes docstrings away.
        return inspect.cleandoc(self.judge.__doc__ or "(no explanation: Python runs with -OO)")

    def findings(self, layout: Layout, image: Image) -> Iterator[Finding | NotJudged]:
        """What this rule has to say of the file, and what it could not judge."""
        if self.needs_symbols and not image.has_symbols:
            yield NotJudged("the file has no symbol table; check it before it is stripped", rule=self.id, slug=self.slug)
            return
        for finding in self.judge(layout, image):
            yield replace(finding, rule=self.id, slug=self.slug)


_registered: dict[str, Rule] = {}


def rule(id: str, slug: str, title: str, needs_symbols: bool = True) -> Callable[[Judge], Judge]:
    """Register the function below as a rule."""

    def register(judge: Judge) -> Judge:
        _registered[id] = Rule(id, slug, title, judge, needs_symbols)
        return judge

    return register


def all_rules() -> tuple[Rule, ...]:
    """Every rule, by id."""
    for module in _MODULES:
        importlib.import_module(f"percpu_tools.rules.{module}")
    return tuple(_registered[id] for id in sorted(_registered))


def find_rule(name: str) -> Rule:
    """The rule of that id or slug."""
    rules = all_rules()
    for candidate in rules:
        if name.lower() in (candidate.id.lower(), candidate.slug):
            return candidate
    known = ", ".join(f"{candidate.id} {candidate.slug}" for candidate in rules)
    raise PercpuError(f"rule is {name!r}: expected one of {known}")
