"""Per-CPU data for C++ kernels: what the commands do, from Python.

    import percpu_tools
    report = percpu_tools.check("kernel.elf")     # .findings, .layout.variables, .ok
    text = percpu_tools.render_fragment(cpu_num=8, arch="riscv64", features=["preempt"], linker="lld")

The names in `__all__` are the public interface; everything else may change.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from percpu_tools.checker import Report, check
    from percpu_tools.config import Config, find_config, read_config
    from percpu_tools.errors import PercpuError
    from percpu_tools.findings import Finding
    from percpu_tools.ldscript import render_fragment, render_template
    from percpu_tools.paths import cmakedir, gdb_extension, includes, ldscripts, sources, toolpath
    from percpu_tools.scriptsyntax import Regions
    from percpu_tools.userscript import find_anchor, find_regions
    from percpu_tools.version import __version__

__all__ = [
    "Config",
    "Finding",
    "PercpuError",
    "Regions",
    "Report",
    "__version__",
    "check",
    "cmakedir",
    "find_anchor",
    "find_config",
    "find_regions",
    "gdb_extension",
    "includes",
    "ldscripts",
    "read_config",
    "render_fragment",
    "render_template",
    "sources",
    "toolpath",
]

# Where each public name lives. They are imported on first use, because a library takes longer to import
# than most commands take to run.
_HOMES = {
    "__version__": "version",
    "Config": "config",
    "Finding": "findings",
    "PercpuError": "errors",
    "Regions": "scriptsyntax",
    "Report": "checker",
    "check": "checker",
    "cmakedir": "paths",
    "find_anchor": "userscript",
    "find_config": "config",
    "find_regions": "userscript",
    "gdb_extension": "paths",
    "includes": "paths",
    "ldscripts": "paths",
    "read_config": "config",
    "render_fragment": "ldscript",
    "render_template": "ldscript",
    "sources": "paths",
    "toolpath": "paths",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'percpu_tools' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"percpu_tools.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
