"""What percpu-check reads beside the kernel, for builds, which check again when it changes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

from percpu_tools import configfile
from percpu_tools.errors import PercpuError


class Inputs(NamedTuple):
    """The configuration, if there is one; what it says, or what is wrong with it; the other files, of which some may
    not be there. All paths are absolute."""

    configuration: str | None
    says: str
    files: list[str]


def of(options: Sequence[str], folder: str | os.PathLike[str] = ".") -> Inputs:
    """What percpu-check reads that is run in `folder` with these options. Only the check itself refuses any of it."""
    top = os.path.abspath(folder)
    named = [_value(options, "--baseline"), _value(options, "--profile")]
    given = _value(options, "--config")
    path: str | None = None
    says = ""
    try:
        path = configfile.find(top) if given is None else os.path.abspath(os.path.join(top, given))
        if path is not None:
            # Imported where there is one: a build that is up to date need not wait for it.
            from percpu_tools.config import read_config

            configuration = read_config(path)
            says = repr(configuration)
            named += configuration.files
    except PercpuError as error:
        says = str(error)
    return Inputs(path, says, [os.path.abspath(os.path.join(top, name)) for name in named if name])


def _value(options: Sequence[str], name: str) -> str | None:
    """The value of an option of percpu-check; the last one counts."""
    found = None
    for word, following in zip(options, [*options[1:], None]):
        if word == name:
            found = following
        elif word.startswith(f"{name}="):
            found = word[len(name) + 1 :]
    return found
