"""What a link command says: who is called, with which linker scripts and which folders to look in.

A kernel is linked either through a compiler (`g++ -Wl,-T,kernel.ld`) or by the linker itself
(`ld -T kernel.ld`). Both spell the same requests differently; here they are read as one.
"""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Iterable, Sequence
from typing import NamedTuple

_LINKER_NAMES = ("ld", "ld.bfd", "ld.lld", "ld.gold", "ld.mold")

# Options of ld that begin with T and place a section rather than name a script.
_SECTION_ADDRESS = ("-Ttext", "-Tdata", "-Tbss", "-Tldata", "-Trodata")

# Options of ld whose value, a script, may be the next word.
_NAMES_SCRIPT = ("-T", "--script", "-script", "-dT", "--default-script", "-default-script")

# Options of a compiler whose value is the next word, where that value could look like an option of ld.
_VALUE_FOLLOWS = frozenset(("-o", "-x", "-e", "-u", "-z", "-Xassembler", "-Xpreprocessor", "-Xclang"))

# Response files may name each other.
_DEEPEST = 8


class LinkCommand(NamedTuple):
    """A link command: the program with its launchers (`ccache g++`), and the words that follow."""

    program: tuple[str, ...]
    flags: tuple[str, ...]

    @property
    def is_linker(self) -> bool:
        """Whether the program is a linker itself, rather than a compiler that calls one."""
        name = os.path.basename(self.program[-1]) if self.program else ""
        unversioned, _, version = name.rpartition("-")
        if unversioned and version and not version.strip("0123456789."):
            name = unversioned
        return name.rpartition("-")[2] in _LINKER_NAMES

    @property
    def scripts(self) -> list[str]:
        """The linker scripts, in the order in which the linker reads them: a default one (-dT) comes last."""
        words = self._words_of_linker()
        last = _values(words, (), ("--default-script=", "-default-script="), ("-dT", "--default-script", "-default-script"))
        return _values(words, ("-T",), ("--script=", "-script="), ("--script", "-script")) + last

    @property
    def search_folders(self) -> list[str]:
        """The folders where the linker looks for scripts that are not where their name says."""
        return _values(self._words_of_linker(), ("-L",), ("--library-path=",), ("--library-path",))

    def _words_of_linker(self) -> list[str]:
        if self.is_linker:
            return list(self.flags)
        direct: list[str] = []
        through: list[str] = []
        words = iter(self.flags)
        for word in words:
            if word.startswith("-Wl,"):
                through.extend(word[len("-Wl,") :].split(","))
            elif word == "-Xlinker":
                through.extend(_next(words))
            elif through and through[-1] in _NAMES_SCRIPT:
                # `-Wl,-T kernel.ld`: the name comes as an input file, right behind the option.
                through.append(word)
            elif word in _VALUE_FOLLOWS:
                _next(words)
            else:
                direct.append(word)
        # Compilers hand their own -T to the linker behind everything else.
        return through + direct


def parse(words: Sequence[str]) -> LinkCommand:
    """The link command that `words` are."""
    first = next((place for place, word in enumerate(words) if _is_argument(word)), len(words))
    return LinkCommand(tuple(words[:first]), tuple(_written_out(words[first:])))


def _written_out(words: Sequence[str], depth: int = 0) -> list[str]:
    """The words, with those of response files (`@FILE`) in their place; of a file that is not there, its name."""
    found: list[str] = []
    for word in words:
        inner = None
        if word.startswith("@") and depth < _DEEPEST:
            with contextlib.suppress(OSError, ValueError), open(word[1:], encoding="utf-8", errors="replace") as file:
                inner = shlex.split(file.read())
        found += [word] if inner is None else _written_out(inner, depth + 1)
    return found


def _is_argument(word: str) -> bool:
    """Whether a word is behind the program and its launchers: an option, or a file to link."""
    return word.startswith(("-", "@")) or word.endswith((".o", ".os", ".obj", ".a", ".so", ".ld"))


def _next(words: Iterable[str]) -> list[str]:
    return [value for value in [next(iter(words), None)] if value is not None]


def _values(
    words: Iterable[str], glued: tuple[str, ...], equated: tuple[str, ...], apart: tuple[str, ...]
) -> list[str]:
    """The values of one option in all its spellings: `-Tx`, `-T x`, `--script=x` and `--script x`."""
    found: list[str] = []
    pending = iter(words)
    for word in pending:
        if word in apart or word in glued:
            found.extend(_next(pending))
        elif word.startswith(equated):
            found.append(word.split("=", 1)[1])
        elif word.startswith(glued) and not word.startswith(_SECTION_ADDRESS):
            found.append(word[2:].strip())
    return found
