"""The difference between two layouts of one kernel: what was added, removed, grew, moved, and what that costs."""

from __future__ import annotations

from typing import Any, NamedTuple


from percpu_tools.layout import Layout, Variable


class Change(NamedTuple):
    """`bytes` is what one area has more (or less, below zero) for it; a variable that only moved costs nothing."""

    kind: str
    name: str
    old: Variable | None
    new: Variable | None
    bytes: int


class Comparison(NamedTuple):
    """`template` is the growth of one area; `memory` that of all areas together, where both files say it.

    `not_compared` says why the variables were not compared, where a file does not tell which it has.
    """

    old_file: str
    changes: tuple[Change, ...]
    template: int
    memory: int | None
    not_compared: str | None = None

    @property
    def as_object(self) -> dict[str, Any]:
        """As JSON and SARIF have it."""
        return {
            "file": self.old_file,
            "template": self.template,
            "memory": self.memory,
            "changes": [
                {
                    "kind": change.kind,
                    "name": change.name,
                    "old_offset": change.old.offset if change.old else None,
                    "new_offset": change.new.offset if change.new else None,
                    "bytes": change.bytes,
                }
                for change in self.changes
            ],
            **({} if self.not_compared is None else {"not_compared": self.not_compared}),
        }


def compare(old: Layout, new: Layout) -> Comparison:
    """What is different in `new`."""
    nameless = [layout.file for layout in (old, new) if _is_nameless(layout)]
    not_compared = f"{' and '.join(nameless)} {'has' if len(nameless) == 1 else 'have'} no symbols" if nameless else None
    before, after = ({}, {}) if nameless else (_by_symbol(old), _by_symbol(new))
    changes = [
        Change("removed", variable.name, variable, None, -variable.size)
        for symbol, variable in before.items()
        if symbol not in after
    ]
    for symbol, variable in after.items():
        was = before.get(symbol)
        if was is None:
            changes.append(Change("added", variable.name, None, variable, variable.size))
        elif was.size != variable.size:
            kind = "grew" if variable.size > was.size else "shrank"
            changes.append(Change(kind, variable.name, was, variable, variable.size - was.size))
        elif was.offset != variable.offset:
            changes.append(Change("moved", variable.name, was, variable, 0))
    memory = None
    if old.reserved is not None and new.reserved is not None:
        memory = new.reserved - old.reserved
    return Comparison(old.file, tuple(changes), (new.template_size or 0) - (old.template_size or 0), memory, not_compared)


def _is_nameless(layout: Layout) -> bool:
    """Whether the file has per-CPU data, and no symbol says of what."""
    return layout.layout is not None and layout.template_size != 0 and not layout.variables and not layout.symbols


def _by_symbol(layout: Layout) -> dict[tuple[str, int], Variable]:
    """The variables by symbol; those of one name, in files of their own, by their order."""
    seen: dict[str, int] = {}
    result = {}
    for variable in layout.variables:
        number = seen[variable.symbol] = seen.get(variable.symbol, -1) + 1
        result[variable.symbol, number] = variable
    return result
