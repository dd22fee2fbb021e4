"""The rules: each is a function from the layout, and the image where it needs more, to findings.

A rule's id is that of the trap that it finds. Its docstring is what `--explain` prints: the mechanism,
how to reproduce it, the mends.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, Union

from percpu_tools.errors import PercpuError
from percpu_tools.findings import STRIPPED, Finding, NotJudged
from percpu_tools.image import Image
from percpu_tools.layout import Layout

Judge = Callable[[Layout, Image], Iterable[Union[Finding, NotJudged]]]

_MODULES = ("placement", "agreement", "segments", "contents", "sharing", "registers", "constructors", "relaxation", "accesses", "restart", "gates")


class Rule(NamedTuple):
    id: str
    slug: str
    title: str
    judge: Judge
    needs_symbols: bool
    # What a profile must not lack, for the rule to be asked at all (percpu_tools.profiles).
    needs: tuple[str, ...] = ()
    is_users: bool = False

    @property
    def explanation(self) -> str:
        # Imported here: of all that asks rules, only --explain and SARIF need it, and it takes as long as a check.
        import inspect

        # `python -OO` takes docstrings away.
        return inspect.cleandoc(self.judge.__doc__ or "(no explanation: Python runs with -OO)")

    def findings(self, layout: Layout, image: Image) -> Iterator[Finding | NotJudged]:
        """What this rule has to say of the file, and what it could not judge."""
        if self.needs_symbols and not image.has_symbols:
            yield NotJudged(STRIPPED, rule=self.id, slug=self.slug)
            return
        if (lack := layout.lacks(*self.needs)) is not None:
            yield NotJudged(lack, rule=self.id, slug=self.slug)
            return
        try:
            for finding in self.judge(layout, image):
                yield finding._replace(rule=self.id, slug=self.slug)
        except Exception as error:
            if not self.is_users or isinstance(error, PercpuError):
                raise
            raise PercpuError(f"{image.path}: rule {self.id} failed: {type(error).__name__}: {error}", fix="correct the rule") from error


_registered: dict[str, Rule] = {}


def rule(id: str, slug: str, title: str, needs_symbols: bool = True, needs: tuple[str, ...] = ()) -> Callable[[Judge], Judge]:
    """Register the function below as a rule."""

    def register(judge: Judge) -> Judge:
        _registered[id] = Rule(id, slug, title, judge, needs_symbols, needs)
        return judge

    return register


def all_rules() -> tuple[Rule, ...]:
    """Every rule, by id."""
    for module in _MODULES:
        importlib.import_module(f"percpu_tools.rules.{module}")
    return tuple(_registered[id] for id in sorted(_registered))


_of_users: dict[tuple[str, str], Rule] = {}


def user_rule(name: str, folder: str) -> Rule:
    """A rule of the user's own: `module:function`, found from `folder` or wherever Python finds modules.

    A function that is registered with `rule` has its id and slug; of any other one the name is both.
    """
    key = (name, folder)
    if key not in _of_users:
        _of_users[key] = _load(name, folder)
    return _of_users[key]


def _load(name: str, folder: str) -> Rule:
    module, colon, function = name.partition(":")
    if not (module and colon and function):
        raise PercpuError(f"rule is {name!r}: expected module:function")
    sys.path.insert(0, folder)
    try:
        judge = getattr(importlib.import_module(module), function, None)
    except Exception as error:
        # It is the user's code: it may raise whatever Python knows.
        raise PercpuError(f"rule {name}: {module} cannot be imported: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(folder)
    if not callable(judge):
        raise PercpuError(f"rule {name}: {module} has no function {function!r}")
    for id, registered in tuple(_registered.items()):
        if registered.judge is judge:
            # Named in one configuration, it is not asked under another one.
            return _registered.pop(id)._replace(is_users=True)
    slug = function.replace("_", "-")
    title = ((judge.__doc__ or "").strip() or slug).split("\n", 1)[0].rstrip(".")
    return Rule(slug, slug, title, judge, needs_symbols=False, is_users=True)


def find_rule(name: str, of_user: Iterable[Rule] = ()) -> Rule:
    """The rule of that id or slug."""
    rules = (*all_rules(), *of_user)
    for candidate in rules:
        if name.lower() in (candidate.id.lower(), candidate.slug):
            return candidate
    known = ", ".join(f"{candidate.id} {candidate.slug}" for candidate in rules)
    raise PercpuError(f"rule is {name!r}: expected one of {known}")
