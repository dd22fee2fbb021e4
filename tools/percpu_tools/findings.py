"""What a rule finds."""

from __future__ import annotations

from typing import NamedTuple


LEVELS = ("error", "warning", "note")

# Why a rule that goes by symbols does not judge a file without them.
STRIPPED = "the file has no symbol table; check it before it is stripped"


class Finding(NamedTuple):
    """One thing that is wrong: where, what was found, what was expected, and the mends, most likely first.

    A `note` is advice; only `error` and `warning` make a check fail.
    `rule` and `slug` are filled in for the rule that yields the finding.
    """

    level: str
    message: str
    symbol: str | None = None
    section: str | None = None
    found: str | None = None
    expected: str | None = None
    fix: tuple[str, ...] = ()
    rule: str = ""
    slug: str = ""


class NotJudged(NamedTuple):
    """What a rule could not judge, for want of evidence: it is not taken for innocence."""

    reason: str
    rule: str = ""
    slug: str = ""
