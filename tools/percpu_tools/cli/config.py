"""percpu-config: say where the parts lie, for builds that are not SCons."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from percpu_tools import checkinputs, paths, targets
from percpu_tools.cli import common

_PROG = "percpu-config"
_EXAMPLES = """\
  g++ $(percpu-config --includes) -c kernel.cpp
  g++ $(percpu-config --includes) -c $(percpu-config --sources)
  g++ $(percpu-config --defines x86_64 preempt non-zero-vma) -c kernel.cpp
  gdb-multiarch -x $(percpu-config --gdb) kernel.elf
"""


def main(arguments: Sequence[str] | None = None) -> int:
    return common.run(_PROG, lambda: _print(_options(arguments)))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = common.parser(_PROG, "Print what a build needs to know of percpu.", _EXAMPLES)
    choice = parser.add_mutually_exclusive_group(required=True)
    choice.add_argument("--includes", action="store_true", help="the compiler's -I flag for the headers")
    choice.add_argument("--sources", action="store_true", help="the C++ sources to compile into the kernel, one a line")
    choice.add_argument(
        "--defines",
        nargs="+",
        metavar=("ARCH", "FEATURE"),
        help="the compiler's -D flags for the features, on one line",
    )
    for option, answer in (
        ("--arch-of", "what this compiler, with these flags, builds for"),
        ("--linker-of", "what it links with, with these flags: ld or lld"),
        ("--scripts-of", "the linker scripts that it names, one a line"),
    ):
        choice.add_argument(option, nargs=argparse.REMAINDER, metavar="COMMAND", help=answer)
    choice.add_argument(
        "--check-files",
        nargs=argparse.REMAINDER,
        metavar="OPTION",
        help="what percpu-check with these options reads here beside the kernel, one a line; some may not be there",
    )
    choice.add_argument("--ldscripts", action="store_true", help="the folder of the linker-script templates")
    choice.add_argument("--toolpath", action="store_true", help="the folder for the toolpath of SCons")
    choice.add_argument("--cmakedir", action="store_true", help="the folder for CMake's percpu_DIR")
    choice.add_argument("--gdb", action="store_true", help="the file for GDB's `source`: $percpu, info percpu")
    options = parser.parse_args(arguments)
    for name in ("arch_of", "linker_of", "scripts_of"):
        if getattr(options, name) == []:
            parser.error(f"argument --{name.replace('_', '-')}: expected a command")
    return options


def _print(options: argparse.Namespace) -> int:
    if options.includes:
        lines = [f"-I{paths.includes()}"]
    elif options.sources:
        lines = [str(source) for source in paths.sources()]
    elif options.defines:
        arch, *words = options.defines
        lines = [" ".join(_flags(targets.parse_features(",".join(words), arch)))]
    elif options.arch_of or options.linker_of or options.scripts_of:
        lines = _of_command(options)
    elif options.check_files is not None:
        inputs = checkinputs.of(options.check_files)
        lines = [*filter(None, [inputs.configuration]), *inputs.files]
    elif options.ldscripts:
        lines = [str(paths.ldscripts())]
    elif options.cmakedir:
        lines = [str(paths.cmakedir())]
    elif options.gdb:
        lines = [str(paths.gdb_extension())]
    else:
        lines = [str(paths.toolpath())]
    with common.stdout() as stream:
        for line in lines:
            print(line, file=stream)
    return common.OK


def _of_command(options: argparse.Namespace) -> list[str]:
    # Asking a compiler takes longer to import than the other answers take altogether.
    from percpu_tools import linkcommand, toolchain

    command = linkcommand.parse(options.arch_of or options.linker_of or options.scripts_of)
    if options.arch_of:
        return [toolchain.machine(command.program, command.flags, os.environ).arch]
    if options.linker_of:
        return [toolchain.linker(command, os.environ)]
    return command.scripts


def _flags(features: targets.Features) -> list[str]:
    return [f"-D{name}" if value is None else f"-D{name}={value}" for name, value in sorted(features.defines.items())]


if __name__ == "__main__":
    sys.exit(main())
