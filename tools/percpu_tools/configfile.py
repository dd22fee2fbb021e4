"""Where the configuration lies: percpu.toml, or the table `[tool.percpu]` of pyproject.toml.

Builds look for it at each start, and most find none; what it says is read by `config`.
"""

from __future__ import annotations

import os
import re
from typing import Any

from percpu_tools import tomlfile

_FILE = "percpu.toml"
_PROJECT_FILE = "pyproject.toml"


def find(folder: str | os.PathLike[str] = ".") -> str | None:
    """The path of the folder's configuration, or of the nearest one above it, up to the repository's top."""
    place = os.path.abspath(folder)
    while True:
        own, project = os.path.join(place, _FILE), os.path.join(place, _PROJECT_FILE)
        if os.path.isfile(own):
            return own
        if os.path.isfile(project) and table(project) is not None:
            return project
        above = os.path.dirname(place)
        if above == place or os.path.exists(os.path.join(place, ".git")):
            return None
        place = above


def is_anothers(path: str, folder: str | os.PathLike[str] = ".") -> bool:
    """Whether what `find` found for the folder may be no part of the user's project: it lies above the folder, nothing
    says that both are of one repository, and it belongs to neither the user nor root."""
    place = os.path.abspath(folder)
    above = os.path.dirname(os.path.abspath(path))
    if place == above or not hasattr(os, "geteuid"):
        return False
    while not os.path.exists(os.path.join(place, ".git")):
        if place == above:
            return os.stat(path).st_uid not in (0, os.geteuid())
        place = os.path.dirname(place)
    return False


def table(path: str) -> dict[str, Any] | None:
    """What concerns us in the file; `None` where a pyproject.toml says nothing of us."""
    contents = tomlfile.read_bytes(path)
    if os.path.basename(path) != _PROJECT_FILE:
        return tomlfile.parse(path, contents)
    # Parsing takes longer than most checks, and most projects' files have nothing for us.
    if b"percpu" not in contents or not re.search(rb"""(?:^|[\s.\[{,"'])percpu["']?\s*[.=\]]""", contents):
        return None
    document = tomlfile.parse(path, contents)
    tool = document.get("tool")
    found = tool.get("percpu") if isinstance(tool, dict) else None
    return found if isinstance(found, dict) else None
