"""percpu-ldscript: render the linker-script fragment."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from percpu_tools import targets
from percpu_tools.cli import common

_EXAMPLES = """\
  percpu-ldscript render --cpu-num 4 --arch x86_64 -o percpu.ld
  ld -T percpu.ld -T kernel.ld ...                  (GNU ld: percpu.ld first)

  percpu-ldscript render --cpu-num 8 --arch riscv64 --feature preempt --linker lld \\
      --mode include -o percpu.ld                   (and INCLUDE percpu.ld in SECTIONS of kernel.ld)
"""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = common.parser("percpu-ldscript", "Render the per-CPU fragment of a linker script.", _EXAMPLES)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    render = commands.add_parser("render", help="write the fragment", allow_abbrev=False)
    # CPU_NUM is read as text, so that "four" and 1.5 get the same message here as in an SConstruct.
    render.add_argument("--cpu-num", required=True, metavar="N", help=f"number of CPUs, 1 to {targets.MAX_CPU_NUM}")
    render.add_argument("--arch", required=True, help=", ".join(targets.TARGETS))
    render.add_argument(
        "--feature",
        action="append",
        default=[],
        metavar="F",
        help=f"may be given several times: {', '.join(targets.FEATURE_MACROS)}, {targets.BASE_REGISTER}=NAME",
    )
    render.add_argument("--linker", default="ld", help="ld (GNU ld, the default) or lld")
    render.add_argument("--mode", default="insert", help="insert (the default) or include")
    render.add_argument("--insert-after", default=".data", metavar="SECTION", help="the last output section before .bss; .data")
    render.add_argument("--load-offset", metavar="EXPR", help="virtual minus physical address, where the script has AT(...)")
    render.add_argument("--cache-line", metavar="BYTES", help="in place of the architecture's usual one")
    render.add_argument("--templates", metavar="DIR", help="a folder with a percpu.ld.j2 of your own")
    render.add_argument("-o", "--output", metavar="FILE", help="in place of standard output")
    options = parser.parse_args(arguments)
    return common.run(parser.prog, lambda: _render(options))


def _render(options: argparse.Namespace) -> int:
    # Jinja2 takes longer to import than --help takes altogether.
    from percpu_tools.files import write_atomically
    from percpu_tools.ldscript import render_fragment

    text = render_fragment(
        cpu_num=options.cpu_num,
        arch=options.arch,
        features=options.feature,
        linker=options.linker,
        mode=options.mode,
        load_offset=options.load_offset,
        cache_line=options.cache_line,
        insert_after=options.insert_after,
        templates=options.templates,
    )
    if options.output is None:
        sys.stdout.write(text)
    else:
        write_atomically(options.output, text)
    return common.OK


if __name__ == "__main__":
    sys.exit(main())
