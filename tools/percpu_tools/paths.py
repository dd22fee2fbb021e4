"""Where the parts that are not Python lie: in the wheel's `data` folder, or at the top of a checkout."""

from __future__ import annotations

from pathlib import Path

from percpu_tools.errors import PercpuError

_PACKAGE = Path(__file__).resolve().parent

# The template of the fragment, in the folder of templates.
FRAGMENT = "percpu.ld.j2"


def _find(relative: str) -> Path:
    in_wheel = _PACKAGE / "data" / relative
    in_checkout = _PACKAGE.parent.parent / relative
    for place in (in_wheel, in_checkout):
        if place.exists():
            return place
    raise PercpuError(
        f"{relative} is neither at {in_wheel} nor at {in_checkout}",
        fix="install percpu-tools again, or run it from a complete checkout",
    )


def includes() -> Path:
    """The folder for the compiler's `-I`: `#include <percpu/percpu.hpp>` is found below it."""
    return _find("percpu_cpp/include")


def sources() -> list[Path]:
    """The C++ sources to compile into the kernel."""
    return sorted(_find("percpu_cpp/src").glob("*.cpp"))


def ldscripts() -> Path:
    """The folder of linker-script templates."""
    return _find("ldscripts")


def cmakedir() -> Path:
    """The folder for CMake's `percpu_DIR`: `find_package(percpu)` finds its package there."""
    return _PACKAGE / "cmake"


def gdb_extension() -> Path:
    """The file for GDB's `source`: `$percpu("NAME", CPU)` and `info percpu`."""
    return _PACKAGE / "gdb" / "extension.py"


def toolpath() -> Path:
    """The folder for SCons's `toolpath=[...]`."""
    return _find("site_scons/site_tools")
