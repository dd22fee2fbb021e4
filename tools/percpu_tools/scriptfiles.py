"""The files that a linker script is made of: itself and those that it names by INCLUDE."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from percpu_tools.errors import PercpuError

# Comments and quoted texts come first, so that an INCLUDE in one of them is none.
_INCLUDE = r"""(?s)/\*.*?\*/|#[^\n]*|"[^"]*"|\bINCLUDE\s+(?:"([^"]+)"|([^\s;"#]+))(?:\s*;)?"""


class ScriptText(NamedTuple):
    """A script with the text of its INCLUDEs in their places, and the files that were read for it."""

    text: str
    files: list[Path]


def read_script(path: str | os.PathLike[str], folders: Iterable[str | os.PathLike[str]] = ()) -> ScriptText:
    """Read the script at `path`; INCLUDEs are looked for where linkers do: here, then in `folders` (-L).

    An INCLUDE of what is not there (yet), or empty, stays as it is: it may be the fragment itself.
    """
    return _read(Path(path), [Path(), *map(Path, folders)], ())


def included_names(text: str) -> list[str]:
    """The names that a script's text INCLUDEs, in order."""
    # Most scripts have none, and to make a pattern takes longer than to read a script.
    if "INCLUDE" not in text:
        return []
    return [quoted or bare for quoted, bare in re.findall(_INCLUDE, text) if quoted or bare]


def _read(path: Path, folders: list[Path], outer: tuple[Path, ...]) -> ScriptText:
    if path in outer:
        raise PercpuError(f"{path} includes itself, through {' and '.join(map(str, outer))}")
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise PercpuError(f"{path}: cannot be read: {error.strerror}") from error
    files = [path]
    if not included_names(text):
        return ScriptText(text, files)

    def with_contents(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        found = name and next((folder / name for folder in folders if (folder / name).is_file()), None)
        if not found:
            return match[0]
        inner = _read(found, folders, (*outer, path))
        files.extend(inner.files)
        if not inner.text.strip():
            return match[0]
        # A comment in its last line ends with it.
        return f"{inner.text}\n" if "#" in inner.text.rpartition("\n")[2] else inner.text

    return ScriptText(re.sub(_INCLUDE, with_contents, text), files)
