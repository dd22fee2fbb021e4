"""The configuration: `[tool.percpu]` in pyproject.toml, or percpu.toml beside the sources.

    cpu_num = 8
    budget = 4096
    baseline = "release/kernel.elf"
    profile = "mykernel.toml"
    rules = ["mykernel.rules:no_big_arrays"]

    [severity]
    T27 = "warning"

    [[suppress]]
    rule = "T13"
    section = ".boot"
    reason = "the boot code is unmapped before CPU 1 starts"

In pyproject.toml the tables are `[tool.percpu]`, `[tool.percpu.severity]` and `[[tool.percpu.suppress]]`. A
relative path is relative to the file that says it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from percpu_tools import configfile, targets
from percpu_tools.errors import PercpuError
from percpu_tools.findings import LEVELS, Finding

_KEYS = ("cpu_num", "budget", "baseline", "profile", "rules", "severity", "suppress")
_SUPPRESS_KEYS = ("rule", "reason", "symbol", "section")


class Suppression(NamedTuple):
    """Findings that the user has looked at; `symbol` and `section` may hold `*`, and `None` is any."""

    rule: str
    reason: str
    symbol: str | None = None
    section: str | None = None

    def matches(self, finding: Finding) -> bool:
        return (
            self.rule.lower() in (finding.rule.lower(), finding.slug)
            and (self.symbol is None or fnmatchcase(finding.symbol or "", self.symbol))
            and (self.section is None or fnmatchcase(finding.section or "", self.section))
        )


class Config(NamedTuple):
    path: str | None = None
    cpu_num: int | None = None
    budget: int | None = None
    baseline: str | None = None
    profile: str | None = None
    rules: tuple[str, ...] = ()
    severity: Mapping[str, str] = {}
    suppressions: tuple[Suppression, ...] = ()

    @property
    def folder(self) -> str:
        return os.path.dirname(os.path.abspath(self.path)) if self.path else os.getcwd()

    @contextmanager
    def named(self) -> Iterator[None]:
        """What is wrong with its words is said with its name; of rules and profiles only a check can tell."""
        try:
            yield
        except PercpuError as error:
            raise PercpuError(f"{self.path}: {error.message}" if self.path else error.message, error.fix) from error

    @property
    def files(self) -> list[str]:
        """Where the files lie that it names: the baseline, a profile, the modules of rules. Some may not be there."""
        modules = [os.path.join(self.folder, *rule.partition(":")[0].split(".")) for rule in self.rules]
        files = [place for module in modules for place in (f"{module}.py", os.path.join(module, "__init__.py"))]
        files += [self.baseline] if self.baseline else []
        return [*files, os.path.join(self.folder, self.profile)] if self.profile else files


def find_config(folder: str | os.PathLike[str] = ".") -> Config:
    """The configuration of the folder, or of the nearest one above it that has one, up to the repository's top."""
    path = configfile.find(folder)
    if path is None:
        return Config()
    config = read_config(path)
    if config.rules and configfile.is_anothers(path, folder):
        raise PercpuError(
            f"{path}: it is another user's and names rules, which are not run for that",
            fix=("say --config with its path, if they are to be run", "put a percpu.toml of your own beside the sources"),
        )
    return config


def read_config(path: str | os.PathLike[str]) -> Config:
    """The configuration in that file."""
    name = os.fspath(path)
    table = configfile.table(name)
    if table is None:
        raise PercpuError(f"{name}: there is no [tool.percpu]", fix="write the configuration under [tool.percpu]")
    for key in table:
        if key not in _KEYS:
            raise PercpuError(f"{name}: unknown key {key!r}: expected one of {', '.join(_KEYS)}")
    baseline = _of_type(name, table, "baseline", str, "a path")
    rules = _of_type(name, table, "rules", list, "a list of \"module:function\"") or []
    for rule in rules:
        if not isinstance(rule, str):
            raise PercpuError(f"{name}: rules holds {rule!r}: expected \"module:function\"")
    severity = _of_type(name, table, "severity", dict, "a table from rules to levels") or {}
    for rule, level in severity.items():
        if level not in LEVELS:
            raise PercpuError(
                f"{name}: severity of {rule} is {level!r}: expected one of {', '.join(LEVELS)}",
                fix="to silence a rule, write a [[suppress]] table with its reason",
            )
    return Config(
        path=name,
        cpu_num=_cpu_num(name, table),
        budget=_of_type(name, table, "budget", int, "a number of bytes"),
        baseline=os.path.join(os.path.dirname(name), baseline) if baseline else None,
        profile=_of_type(name, table, "profile", str, "the name of a profile, or a path"),
        rules=tuple(rules),
        severity=severity,
        suppressions=tuple(_suppressions(name, _of_type(name, table, "suppress", list, "[[suppress]] tables") or [])),
    )


def _cpu_num(path: str, table: Mapping[str, Any]) -> int | None:
    value = _of_type(path, table, "cpu_num", int, "a whole number")
    try:
        return None if value is None else targets.parse_cpu_num(value)
    except PercpuError as error:
        raise PercpuError(f"{path}: {error.message.replace('CPU_NUM', 'cpu_num')}", error.fix) from error


def _of_type(path: str, table: Mapping[str, Any], key: str, kind: type, wanted: str) -> Any:
    value = table.get(key)
    if value is None or (isinstance(value, kind) and (kind is not int or _is_count(value))):
        return value
    raise PercpuError(f"{path}: {key} is {value!r}: expected {wanted}")


def _is_count(value: Any) -> bool:
    # TOML's true is an int to Python.
    return not isinstance(value, bool) and bool(value >= 0)


def _suppressions(path: str, tables: list[Any]) -> list[Suppression]:
    result = []
    for number, table in enumerate(tables, 1):
        where = f"{path}: suppress number {number}"
        if not isinstance(table, dict) or not isinstance(table.get("rule"), str):
            raise PercpuError(f"{where} names no rule", fix='write rule = "T13"')
        for key, value in table.items():
            if key not in _SUPPRESS_KEYS or not isinstance(value, str):
                raise PercpuError(f"{where} has {key} = {value!r}: expected texts under {', '.join(_SUPPRESS_KEYS)}")
        if not table.get("reason", "").strip():
            raise PercpuError(f"{where}, of {table['rule']}, gives no reason", fix='write why it is right here: reason = "..."')
        result.append(Suppression(**table))
    return result
