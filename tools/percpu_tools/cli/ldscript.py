"""percpu-ldscript: render the linker-script fragment."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from percpu_tools import targets, userscript
from percpu_tools.cli import common
from percpu_tools.scriptfiles import read_script
from percpu_tools.scriptsyntax import Regions

_PROG = "percpu-ldscript"
_EXAMPLES = """\
  percpu-ldscript render --cpu-num 4 --arch x86_64 -o percpu.ld
  ld -T percpu.ld -T kernel.ld ...                  (GNU ld: percpu.ld first)

  percpu-ldscript render --cpu-num 4 --arch x86_64 --script kernel.ld -o percpu.ld --depfile percpu.ld.d

  percpu-ldscript render --cpu-num 8 --arch riscv64 --feature preempt --linker lld \\
      --mode include -o percpu.ld                   (and INCLUDE percpu.ld in SECTIONS of kernel.ld)
"""


def main(arguments: Sequence[str] | None = None) -> int:
    return common.run(_PROG, lambda: _render(_options(arguments)))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = common.parser(_PROG, "Render the per-CPU fragment of a linker script.", _EXAMPLES)
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
        help=f"may be several, with commas or spaces between, or given several times: {', '.join(targets.FEATURE_MACROS)}, {targets.BASE_REGISTER}=NAME",
    )
    render.add_argument("--linker", default="ld", help="ld (GNU ld, the default) or lld")
    render.add_argument("--mode", default="insert", help="insert (the default) or include")
    where = render.add_mutually_exclusive_group()
    where.add_argument(
        "--insert-after", default=".data", metavar="SECTION", help="the last output section before .bss; .data"
    )
    where.add_argument(
        "--script",
        action="append",
        default=[],
        metavar="FILE",
        help="your own script, in which that section is looked for; may be given several times",
    )
    render.add_argument(
        "-L",
        "--library-path",
        action="append",
        default=[],
        metavar="DIR",
        help="where INCLUDEs of --script are looked for, too",
    )
    render.add_argument("--region", metavar="NAME", help="of a script with MEMORY, the region for the areas: of >RAM, RAM")
    render.add_argument(
        "--load-region", metavar="NAME", help="the region in which the template is and stays (pristine): FLASH"
    )
    render.add_argument("--load-offset", metavar="EXPR", help="virtual minus physical address, where the script has AT(...)")
    render.add_argument("--cache-line", metavar="BYTES", help="in place of the architecture's usual one")
    render.add_argument("--templates", metavar="DIR", help="a folder with a percpu.ld.j2 of your own")
    render.add_argument("-o", "--output", metavar="FILE", help="in place of standard output")
    render.add_argument("--depfile", metavar="FILE", help="for make or ninja: what --output was made from")
    options = parser.parse_args(arguments)
    options.feature = ",".join(options.feature)
    if options.depfile is not None and options.output is None:
        render.error("--depfile says what --output was made from: give that, too")
    if options.depfile is not None and common.is_same_file(options.depfile, options.output):
        render.error(f"--output and --depfile name the same file: {options.depfile}")
    return options


def _render(options: argparse.Namespace) -> int:
    # Jinja2 takes longer to import than --help takes altogether.
    from percpu_tools.files import write_together
    from percpu_tools.ldscript import render_fragment
    from percpu_tools.paths import FRAGMENT, ldscripts

    scripts = [read_script(path, options.library_path) for path in options.script]
    anchor = _anchor(options, [script.text for script in scripts]) if scripts else options.insert_after
    regions = userscript.find_regions(
        "\n".join(script.text for script in scripts),
        anchor,
        options.linker,
        options.mode,
        " and ".join(options.script),
        Regions(options.region, options.load_region),
        targets.parse_features(options.feature, options.arch).layout,
    )
    text = render_fragment(
        cpu_num=options.cpu_num,
        arch=options.arch,
        features=options.feature,
        linker=options.linker,
        mode=options.mode,
        load_offset=options.load_offset,
        cache_line=options.cache_line,
        insert_after=anchor,
        templates=options.templates,
        region=regions.region,
        load_region=regions.load_region,
    )
    if options.mode == "include":
        given, names = "\n".join(script.text for script in scripts), " and ".join(options.script)
        if targets.parse_features(options.feature, options.arch).layout == "zero-vma":
            userscript.refuse_segments(given, text, names)
        userscript.refuse_without_fragment(given, names)
    if options.output is None:
        with common.stdout() as stream:
            stream.write(text)
        return common.OK
    # A template of the user's own may extend ours.
    templates = [Path(folder) / FRAGMENT for folder in (options.templates, ldscripts()) if folder is not None]
    files = [*filter(Path.is_file, templates), *(file for script in scripts for file in script.files)]
    included = [file for script in scripts for file in script.files[1:]]
    if options.mode == "include":
        # What the script includes in this place is an earlier rendering, or what stands in for it.
        files = [file for file in files if not (file in included and _is_earlier(file, options.output))]
    common.refuse_replacing("--output", options.output, files, "what it is made from")
    texts = {options.output: text}
    if options.depfile is not None:
        common.refuse_replacing("--depfile", options.depfile, files, "what --output is made from")
        texts[options.depfile] = _rule(options.output, files)
    write_together(texts)
    return common.OK


def _anchor(options: argparse.Namespace, texts: Sequence[str]) -> str:
    """The section to insert after, as the user's scripts have it."""
    if options.mode != "insert":
        return userscript.DEFAULT_ANCHOR
    layout = targets.parse_features(options.feature, options.arch).layout
    return userscript.find_anchor("\n".join(texts), options.linker, layout, " and ".join(options.script))


def _is_earlier(file: Path, output: str) -> bool:
    """Whether the included file is the one to write, and nothing that the user has written."""
    if not common.is_same_file(output, file):
        return False
    text = file.read_text(encoding="utf-8", errors="replace")
    return "_percpu_" in text or not text.strip()


def _rule(target: str, files: Sequence[Path]) -> str:
    """A rule of make without a command: what `target` depends on."""
    names = [re.sub(r"([ #])", r"\\\1", name).replace("$", "$$") for name in (target, *map(str, files))]
    return f"{names[0]}: {' '.join(names[1:])}\n"


if __name__ == "__main__":
    sys.exit(main())
