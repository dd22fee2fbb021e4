"""percpu-check: judge the per-CPU data of linked kernels."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from percpu_tools.cli import common
from percpu_tools.errors import PercpuError

if TYPE_CHECKING:
    from percpu_tools.checker import Report
    from percpu_tools.config import Config

_PROG = "percpu-check"
FORMATS = ("text", "json", "sarif", "svg", "html")

_EXAMPLES = """\
  percpu-check kernel.elf
  percpu-check --cpu-num 4 --format json -o report.json kernel.elf
  percpu-check --disable T23 kernel.elf
  percpu-check --profile linux vmlinux
  percpu-check --profile mykernel.toml kernel.elf
  percpu-check --types --format html -o area.html kernel.elf
  percpu-check --types --format sarif -o percpu.sarif kernel.elf
  percpu-check --budget 4096 --baseline release/kernel.elf kernel.elf
  percpu-check --explain T05

a profile of your own, mykernel.toml; only section is needed:

  section = ".cpulocal"             # the output section with the template, or a list of names
  layout = "zero-vma"               # or "in-image"
  variables = "__cpulocal_"         # what your macro puts before the names of variables
  cache_line = 64
  [symbols]                         # of your linker script
  load_start = "__cpulocal_load_start"
  load_end = "__cpulocal_load_end"  # also: start end stride cpu_num alignment near_end read_mostly_start

exit status: 0 nothing found but notes, 1 errors or warnings found, 2 a file could not be judged
"""


def main(arguments: Sequence[str] | None = None) -> int:
    return common.run(_PROG, lambda: _run(_options(arguments)))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = common.parser(_PROG, "Judge the per-CPU data of linked ELF files.", _EXAMPLES)
    parser.add_argument("files", nargs="*", metavar="ELF", help="a linked kernel or program")
    parser.add_argument("--format", choices=FORMATS, default="text", help="text (the default), json, sarif, or a picture of the area: svg, html")
    parser.add_argument("-o", "--output", metavar="FILE", help="write the report there in place of standard output")
    parser.add_argument("--cpu-num", metavar="N", help="the number of CPUs that the files should be linked for")
    parser.add_argument("--disable", action="append", default=[], metavar="RULE", help="do not ask this rule; may be given several times")
    parser.add_argument("--budget", type=_bytes, metavar="BYTES", help="the largest size of the template, on one CPU")
    parser.add_argument("--baseline", metavar="OLD.elf", help="an older build: say what was added, removed, grew or moved since")
    parser.add_argument("--profile", metavar="NAME", help="whose kernel: percpu, linux, rust, xen, osv, or a TOML file; else found out")
    parser.add_argument("--config", metavar="FILE", help="the configuration; else percpu.toml or pyproject.toml here or above")
    parser.add_argument("--types", action="store_true", help="read each variable's type and source line from the debug information")
    parser.add_argument("--list-rules", action="store_true", help="print the rules and exit")
    parser.add_argument("--explain", metavar="RULE", help="print a rule's mechanism, how to reproduce it and the mends, and exit")
    options = parser.parse_args(arguments)
    if not (options.list_rules or options.explain is not None or options.files):
        parser.error("name at least one ELF file")
    if options.format == "svg" and len(options.files) > 1:
        parser.error(f"--format svg draws one file, and {len(options.files)} are named: name one, or use --format html")
    return options


def _bytes(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number of bytes")
    return int(text)


def _run(options: argparse.Namespace) -> int:
    if options.list_rules:
        return _list_rules()
    if options.explain is not None:
        return _explain(options.explain)
    return _check(options)


def _check(options: argparse.Namespace) -> int:
    from percpu_tools.checker import check
    from percpu_tools.config import find_config, read_config

    config = find_config() if options.config is None else read_config(options.config)
    if options.output is not None:
        common.refuse_replacing("--output", options.output, _read(options, config), "what is read")
    reports = []
    failed = False
    for path in options.files:
        try:
            with _progress():
                report = check(
                    path,
                    cpu_num=options.cpu_num,
                    disable=options.disable,
                    types=options.types,
                    budget=options.budget,
                    baseline=options.baseline,
                    profile=options.profile,
                    config=config,
                )
            reports.append(report)
        except PercpuError as error:
            # The other files are still judged; the exit status remembers.
            common.complain(_PROG, error)
            failed = True
    if reports:
        _write(reports, options)
    if failed:
        return common.FAILED
    return common.OK if all(report.ok for report in reports) else common.FINDINGS


def _read(options: argparse.Namespace, config: Config) -> list[str]:
    """The files that are read for the report."""
    from percpu_tools.profiles import PROFILES

    profile = None if options.profile in PROFILES else options.profile
    named = (options.baseline, profile, config.path)
    return [*options.files, *(name for name in named if name is not None), *config.files]


@contextmanager
def _progress() -> Iterator[None]:
    """On a terminal, the progress of what lasts is shown on stderr."""
    if not sys.stderr.isatty():
        yield
        return
    from percpu_tools.cli.bar import Bar
    from percpu_tools.progress import listening

    with Bar(sys.stderr) as bar, listening(bar):
        yield


def _write(reports: Sequence[Report], options: argparse.Namespace) -> None:
    # Only the module of the format that was chosen: Jinja2 alone takes longer to import than a check takes.
    report = importlib.import_module(f"percpu_tools.report.{options.format}")
    if options.output is None and options.format == "text":
        with common.stdout() as stream:
            report.write(reports, stream)
        return
    # Whether a program gets a list must depend on what it named, and not on which of them could be judged.
    text = report.render(reports, **({"as_list": len(options.files) > 1} if options.format == "json" else {}))
    if options.output is not None:
        from percpu_tools.files import write_atomically

        write_atomically(options.output, text)
    else:
        with common.stdout() as stream:
            stream.write(text)


def _list_rules() -> int:
    from percpu_tools.rules import all_rules

    rules = all_rules()
    width = max(len(rule.slug) for rule in rules)
    with common.stdout() as stream:
        for rule in rules:
            print(f"{rule.id}  {rule.slug:<{width}}  {rule.title}", file=stream)
    return common.OK


def _explain(name: str) -> int:
    from percpu_tools.rules import find_rule

    rule = find_rule(name)
    with common.stdout() as stream:
        print(f"{rule.id} {rule.slug}: {rule.title}\n\n{rule.explanation}", file=stream)
    return common.OK


if __name__ == "__main__":
    sys.exit(main())
