"""What a build's tools have said about themselves, kept in a file from one run of the build to the next.

To start a compiler costs a build that is up to date more than all else that there is to do for it. An
answer is taken from the file while the program is the same file, and nothing has come into or gone from
the folders where it, and the linker that it calls, are looked for. What a script answers is not kept:
that may depend on anything.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from percpu_tools.errors import PercpuError
from percpu_tools.files import write_atomically

# A project asks two questions for each of its toolchains; what has not been asked for long may go.
_MOST = 64


class KeptAnswers:
    """The answers in `file`, which need not exist. What is wrong with it costs the answers, and no more."""

    def __init__(self, file: str | os.PathLike[str]) -> None:
        self.file = os.fspath(file)
        self._records = _read(self.file)

    def get(self, command: Sequence[str], environment: Mapping[str, str]) -> str | None:
        """What `command` said when it was run in `environment`, if it would say the same now."""
        asked = _question(command, environment)
        for record in self._records:
            if _question_of(record) == asked:
                return record["answer"] if record["state"] == _state(command, environment) else None
        return None

    def put(self, command: Sequence[str], environment: Mapping[str, str], answer: str) -> None:
        """Keep what `command` has said. A file that cannot be written is no error: it will be asked again."""
        if any(map(_is_script, _programs(command, environment))):
            return
        asked = _question(command, environment)
        new = {"command": asked[0], "environment": asked[1], "state": _state(command, environment), "answer": answer}
        # Another build may have written since.
        others = [record for record in _read(self.file) if _question_of(record) != asked]
        self._records = [new, *others[: _MOST - 1]]
        with contextlib.suppress(PercpuError):
            write_atomically(self.file, json.dumps(self._records, indent=1) + "\n")


def _question(command: Sequence[str], environment: Mapping[str, str]) -> tuple[list[str], str]:
    # A digest: the environment is nothing to leave in a file, for it may hold what is secret.
    text = json.dumps(sorted(environment.items()))
    return list(command), hashlib.sha256(text.encode()).hexdigest()


def _question_of(record: dict[str, Any]) -> tuple[object, object]:
    return record["command"], record["environment"]


def _read(file: str) -> list[dict[str, Any]]:
    try:
        with open(file, encoding="utf-8") as stream:
            records = json.load(stream)
    except (OSError, ValueError):
        return []
    names = {"command", "environment", "state", "answer"}
    whole = isinstance(records, list) and all(isinstance(record, dict) and names <= set(record) for record in records)
    return records if whole else []


def _state(command: Sequence[str], environment: Mapping[str, str]) -> list[list[object]]:
    """The programs that answer, and the folders where they and what they call are looked for, as they are now."""
    seen = set(_search(environment).split(os.pathsep)) | _linker_folders(command, environment)
    # `ld` may lead through links in other folders (alternatives).
    for found in _programs((*command, "ld"), environment):
        real = os.path.realpath(found)
        seen |= {real, os.path.dirname(real), os.path.dirname(found)}
    return [[path, *_stamp(path)] for path in sorted(seen)]


def _linker_folders(command: Sequence[str], environment: Mapping[str, str]) -> set[str]:
    """Where a compiler looks for a linker before it looks on PATH (GCC manual, "Directory Options"), and `--ld-path`."""
    found = set(filter(None, environment.get("COMPILER_PATH", "").split(os.pathsep)))
    for word, following in zip(command, [*command[1:], ""]):
        if word.startswith("-B"):
            found.add(word[2:] or following)
        elif word.startswith("--ld-path="):
            found |= {word.split("=", 1)[1], os.path.realpath(word.split("=", 1)[1])}
    return found


def _programs(command: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """The files of the compiler and of the launchers in front of it."""
    found = (shutil.which(word, path=_search(environment)) for word in command if not word.startswith("-"))
    return [path for path in found if path is not None]


def _search(environment: Mapping[str, str]) -> str:
    return environment.get("PATH", os.defpath)


def _is_script(path: str) -> bool:
    with contextlib.suppress(OSError), open(path, "rb") as stream:
        return stream.read(2) == b"#!"
    return True


def _stamp(path: str) -> tuple[int, ...]:
    try:
        state = os.stat(path)
    except OSError:
        return ()
    return (state.st_ino, state.st_size, state.st_mtime_ns)
