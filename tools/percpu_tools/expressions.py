"""Expressions of linker scripts, read far enough to see what no linker would take for one."""

from __future__ import annotations

import re

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<number> (?: 0[xX][0-9a-fA-F]+[kKmM]? | [0-9][0-9a-fA-F]*[hH] | [0-9]+[kKmM]? ) (?![A-Za-z0-9_.$]) )
    | (?P<name> [A-Za-z_.$][A-Za-z0-9_.$]* )
    | (?P<operator> << | >> | && | \|\| | [=!<>]= | [-+*/%&|^<>?:,] )
    | (?P<prefix> [~!] )
    | (?P<bracket> [()] )
    | (?P<other> \S[^\s()]* )
    )""",
    re.VERBOSE,
)


def flaw(expression: str) -> str | None:
    """What keeps the text from being an expression, as the end of a sentence about it; `None` where nothing does.

    Whether its names are symbols or functions, only the linker can tell.
    """
    # What is open: the bracket of a function's arguments, another bracket, or a `?` whose `:` is to come.
    opened: list[str] = []
    before, wants_value = "", True
    for match in _TOKEN.finditer(expression.rstrip()):
        kind, token = match.lastgroup, match[match.lastgroup or 0]
        if kind == "other":
            return f"{token!r} is no part of an expression"
        if token == "(" and (wants_value or re.match(r"[A-Za-z_]", before)):
            opened.append("(" if wants_value else "call")
            wants_value = True
        elif kind in ("number", "name") or token == "(":
            if not wants_value:
                return f"there is no operator between {before!r} and {token!r}"
            wants_value = False
        elif kind == "prefix":
            if not wants_value:
                return f"there is no operator between {before!r} and {token!r}"
        elif wants_value:
            # A sign may stand in front of a value.
            if token not in ("+", "-"):
                return f"there is no value in front of {token!r}"
        elif token == ")":
            if not opened:
                return "its parentheses do not match"
            if opened.pop() == "?":
                return "a '?' has no ':' behind it"
        else:
            if token == "?":
                opened.append("?")
            elif token == ":" and (not opened or opened.pop() != "?"):
                return "a ':' has no '?' in front of it"
            elif token == "," and opened[-1:] != ["call"]:
                return "a ',' stands outside the arguments of a function"
            wants_value = True
        before = token
    if wants_value:
        return f"there is no value behind {before!r}" if before else "it is empty"
    if "?" in opened:
        return "a '?' has no ':' behind it"
    return "its parentheses do not match" if opened else None
