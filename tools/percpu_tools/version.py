"""The version of the whole project. Its one home is the runtime's header, which writes it into the ELF note."""

from __future__ import annotations

import re

from percpu_tools.errors import PercpuError
from percpu_tools.paths import includes


def _read() -> str:
    header = includes() / "percpu" / "config.hpp"
    found = re.search(r'^#define PERCPU_VERSION "([^"]+)"', header.read_text(encoding="utf-8"), re.MULTILINE)
    if found is None:
        raise PercpuError(f"{header}: no PERCPU_VERSION is defined")
    return found.group(1)


__version__ = _read()
