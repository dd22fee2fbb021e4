"""percpu-config: say where the parts lie, for builds that are not SCons."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from percpu_tools import paths
from percpu_tools.cli import common

_EXAMPLES = """\
  g++ $(percpu-config --includes) -c kernel.cpp
  g++ $(percpu-config --includes) -c $(percpu-config --sources)
  gdb-multiarch -x $(percpu-config --gdb) kernel.elf
"""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = common.parser("percpu-config", "Print what a build needs to know of percpu.", _EXAMPLES)
    choice = parser.add_mutually_exclusive_group(required=True)
    choice.add_argument("--includes", action="store_true", help="the compiler's -I flag for the headers")
    choice.add_argument("--sources", action="store_true", help="the C++ sources to compile into the kernel, one a line")
    choice.add_argument("--ldscripts", action="store_true", help="the folder of the linker-script templates")
    choice.add_argument("--toolpath", action="store_true", help="the folder for the toolpath of SCons")
    choice.add_argument("--gdb", action="store_true", help="the file for GDB's `source`, with $percpu and `info percpu`")
    options = parser.parse_args(arguments)
    return common.run(parser.prog, lambda: _print(options))


def _print(options: argparse.Namespace) -> int:
    if options.includes:
        lines = [f"-I{paths.includes()}"]
    elif options.sources:
        lines = [str(source) for source in paths.sources()]
    elif options.ldscripts:
        lines = [str(paths.ldscripts())]
    elif options.gdb:
        lines = [str(paths.gdb_extension())]
    else:
        lines = [str(paths.toolpath())]
    print("\n".join(lines))
    return common.OK


if __name__ == "__main__":
    sys.exit(main())
