"""The statements of a linker script, as far as they say where its sections lie."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from percpu_tools.errors import PercpuError

_TOKEN = re.compile(
    r"""
      /\*.*?\*/                     # comment
    | /\*.*\Z                       # comment that nobody closed
    | \#[^\n]*                      # comment to the end of the line, cpp's markers too
    | "[^"]*"                       # quoted name
    | (?:<<|>>|[-+*/&|^])?=(?!=)    # assignment
    | [{}();:,<>?!&|=]              # punctuation
    | [^\s{}();:,<>?!&|="\#]+       # word
    """,
    re.VERBOSE | re.DOTALL,
)
ASSIGNMENT = re.compile(r"(?:<<|>>|[-+*/&|^])?=")
# Functions that stand as statements of their own, with their parentheses.
_CALLS = {"PROVIDE", "PROVIDE_HIDDEN", "HIDDEN", "ASSERT", "ENTRY", "EXTERN", "CREATE_OBJECT_SYMBOLS", "CONSTRUCTORS"}
_BSS_NAME = re.compile(r"\.?s?bss(?![a-z])", re.IGNORECASE)
# Not .got, .plt, .data.rel.ro: kernels place those behind .bss to assert that they are empty.
_DATA_NAME = re.compile(r"\.(s?data|rodata)(?![a-z]|\.rel)")
# What linkers and debuggers keep at the end of a script; it takes no memory.
_NOT_LOADED = re.compile(r"/DISCARD/|\.(comment|debug|stab|line|symtab|strtab|shstrtab|note\.GNU|gnu\.attributes|riscv\.attr|ARM\.attr)")


class Regions(NamedTuple):
    """Where in the script's MEMORY the areas lie, and where the template is; `None`: nowhere in particular."""

    region: str | None
    load_region: str | None


class Include(NamedTuple):
    """An INCLUDE of a file that was not read."""

    name: str

    @property
    def is_fragment(self) -> bool:
        return "percpu" in self.name


@dataclass
class OutputSection:
    """The statement of an output section, or another one with braces."""

    name: str
    body: list[str]
    regions: Regions
    # Whether it says `:NAME` of a segment in PHDRS.
    has_segment: bool
    # Whether it says AT(...).
    has_at: bool
    # What is assigned before it and after the section in front: target and whether it speaks of `.`.
    assigned_before: list[tuple[str, bool]] = field(default_factory=list)
    # Whether the fragment is included right behind it.
    precedes_fragment: bool = False

    @property
    def is_bss(self) -> bool:
        if _BSS_NAME.match(self.name):
            return True
        inputs = [word for word in self.body if word.startswith(".") and len(word) > 1]
        return bool(inputs) and all(_BSS_NAME.match(word) for word in inputs)

    @property
    def is_data(self) -> bool:
        """Whether it is one that the file holds, as far as its contents tell."""
        return not self.is_bss and any(_DATA_NAME.match(word) for word in self.body)

    @property
    def is_code(self) -> bool:
        return any(re.match(r"\.text(?![a-z])", word) for word in self.body)

    @property
    def is_loaded(self) -> bool:
        return not _NOT_LOADED.match(self.name)

    @property
    def holds_dot(self) -> bool:
        """Whether GNU ld inserts in front of an assignment to `.` that stands before it."""
        return self.is_loaded or self.name == "/DISCARD/"


def tokens_of(script: str) -> list[str]:
    """The words and marks of a script's text, without comments."""
    return [token for token in _TOKEN.findall(script) if not token.startswith(("/*", "#"))]


def output_sections(tokens: list[str], path: str) -> tuple[list[OutputSection], list[tuple[str, bool]]]:
    """The output sections of all SECTIONS blocks in order, and the assignments after the last one, in SECTIONS or not."""
    sections: list[OutputSection] = []
    assigned: list[tuple[str, bool]] = []
    reader = _Reader(tokens, path)
    while (token := reader.take()) is not None:
        if token == "SECTIONS" and reader.peek() == "{":
            reader.take()
            for statement in reader.statements():
                if isinstance(statement, Include):
                    if statement.is_fragment and sections:
                        sections[-1].precedes_fragment = True
                elif isinstance(statement, OutputSection):
                    statement.assigned_before = assigned
                    assigned = []
                    sections.append(statement)
                else:
                    assigned.append(statement)
        elif token == "{":
            reader.skip_to_close("{", "}")
        elif reader.at_assignment():
            assigned.append((token, "." in reader.expression()))
    return sections, assigned


def memory_regions(tokens: list[str]) -> list[str]:
    """The names of the regions that the MEMORY commands declare, and their aliases."""
    regions: list[str] = []
    reader = _Reader(tokens, "")
    while (token := reader.take()) is not None:
        if token == "REGION_ALIAS" and reader.peek() == "(":
            reader.take()
            regions.append((reader.take() or "").strip('"'))
        elif token == "MEMORY" and reader.peek() == "{":
            reader.take()
            inside = _Reader(reader.skip_to_close("{", "}"), "")
            name = ""
            while (word := inside.take()) is not None:
                if word == "(":
                    inside.skip_to_close("(", ")")
                elif word == ":":
                    regions.append(name.strip('"'))
                else:
                    name = word
    return regions


class _Reader:
    """A cursor over the tokens of a script."""

    def __init__(self, tokens: list[str], path: str) -> None:
        self._tokens = tokens
        self._path = path
        self._next = 0

    def peek(self) -> str | None:
        return self._tokens[self._next] if self._next < len(self._tokens) else None

    def take(self) -> str | None:
        token = self.peek()
        self._next += token is not None
        return token

    def skip_to_close(self, opening: str, closing: str) -> list[str]:
        """The tokens up to the bracket that closes the one just taken."""
        start = self._next
        depth = 1
        while depth:
            token = self.take()
            if token is None:
                raise PercpuError(f"{self._path}: a {opening!r} is never closed")
            depth += {opening: 1, closing: -1}.get(token, 0)
        return self._tokens[start : self._next - 1]

    def statements(self) -> Iterator[OutputSection | Include | tuple[str, bool]]:
        """The statements of a SECTIONS block, whose `{` was taken, up to its `}`."""
        while (token := self.take()) != "}":
            if token is None:
                raise PercpuError(f"{self._path}: the '{{' of SECTIONS is never closed")
            if token in (";", ","):
                continue
            if token == "INCLUDE":
                yield Include((self.take() or "").strip('"'))
            elif token in _CALLS and self.peek() == "(":
                self.take()
                inside = self.skip_to_close("(", ")")
                if token in ("PROVIDE", "PROVIDE_HIDDEN", "HIDDEN") and inside:
                    yield inside[0], "." in inside[1:]
            elif self.at_assignment():
                yield token, "." in self.expression()
            else:
                found = self._section_body()
                if found is not None:
                    yield OutputSection(token.strip('"'), *found)

    def at_assignment(self) -> bool:
        """Whether the token just taken is the target of an assignment."""
        return ASSIGNMENT.fullmatch(self.peek() or "") is not None

    def expression(self) -> list[str]:
        """The tokens up to the `;`, or up to the end of the block where it is missing."""
        start = self._next
        while self.peek() not in (";", "}", None):
            self.take()
        return self._tokens[start : self._next]

    def _section_body(self) -> tuple[list[str], Regions, bool, bool] | None:
        """What stands in the braces of the statement whose name was taken, its regions, whether it names a segment, and AT(...)."""
        has_at = False
        while (token := self.peek()) != "{":
            if token in ("}", ";", None):
                return None
            self.take()
            has_at |= token == "AT"
            if token == "(":
                self.skip_to_close("(", ")")
        self.take()
        body = self.skip_to_close("{", "}")
        # `>RAM AT>FLASH :text =0x90`: without this, they would read as the name of the next section.
        named: dict[bool, str | None] = {}
        loads = has_segment = False
        while self.peek() in (">", ":", "=", "AT"):
            token = self.take()
            if token == "AT" or self.peek() is None:
                loads = True
                continue
            value = self.take()
            has_segment |= token == ":"
            if value == "(":
                self.skip_to_close("(", ")")
            elif token == ">":
                named[loads] = value
            loads = False
        return body, Regions(named.get(False), named.get(True)), has_segment, has_at
