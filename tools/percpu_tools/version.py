"""The version of the whole project. Its one home is the runtime's header, which writes it into the ELF note."""

from __future__ import annotations

from percpu_tools.errors import PercpuError
from percpu_tools.paths import includes


def _read() -> str:
    header = includes() / "percpu" / "config.hpp"
    for line in header.read_text(encoding="utf-8").splitlines():
        if line.startswith("#define PERCPU_VERSION "):
            return line.split('"')[1]
    raise PercpuError(f"{header}: no PERCPU_VERSION is defined")


__version__ = _read()
