"""Tortures per-CPU variables in kernels under QEMU, and shows what was made and lost.

Run from the checkout, after tools/test has set it up:

    PYTHONPATH=tests .venv/bin/python -m torture

Each kernel runs with everything that keeps updates whole where threads are interrupted and moved between
CPUs, and then, to show that the run can tell, without one of these measures.
"""

from __future__ import annotations

import argparse
import signal
import sys

from boot.qemu import QemuError
from matrix import ARCHITECTURES, TORTURED
from rich import box
from rich.console import Console
from rich.table import Table
from torture.updates import Torture, build, cpus_at_once, torture

# Wide enough for the table in a pipe, which has no width of its own.
PIPE_WIDTH = 140


def table(results: list[Torture]) -> Table:
    """A line for each kernel with all measures, and for each measure that is left out."""
    shown = Table(box=box.SIMPLE_HEAD)
    for column in ("kernel", "without"):
        shown.add_column(column, no_wrap=True)
    for column in ("updates", "lost", "interrupts", "a second and CPU", "moves", "seconds"):
        shown.add_column(column, justify="right")
    for result in results:
        for name, run in {"": result.whole, **result.without}.items():
            figures = (f"{figure:,}" for figure in (run.made, run.lost, run.interrupts, run.rate, run.moves))
            shown.add_row("" if name else result.row.name, name, *figures, f"{run.boot.seconds:.1f}")
    return shown


def main() -> int:
    as_it_is = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="torture", description=__doc__, formatter_class=as_it_is)
    parser.add_argument("architectures", nargs="*", metavar="ARCH", help=f"which, or all: {' '.join(ARCHITECTURES)}")
    updates = "how many at least; %(default)s if not given"
    parser.add_argument("--updates", type=int, default=10_000_000, metavar="N", help=updates)
    parser.add_argument("--quick", action="store_true", help="only the kernels that plain tools/test runs")
    arguments = parser.parse_args()
    for arch in arguments.architectures:
        if arch not in ARCHITECTURES:
            parser.error(f"{arch!r} is no architecture; there are: {' '.join(ARCHITECTURES)}")

    chosen = arguments.architectures or ARCHITECTURES
    rows = [row for row in TORTURED if row.arch in chosen and (row.default or not arguments.quick)]
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = PIPE_WIDTH
    folders = build(rows)
    results = []
    for row in rows:
        results.append(torture(row, folders[row], arguments.updates, cpus_at_once(row)))
        print(results[-1], file=sys.stderr, flush=True)
    console.print(table(results))
    problems = [f"{result.row.name}: {problem}" for result in results for problem in result.problems]
    for problem in problems:
        console.print(problem, markup=False)
    return 1 if problems else 0


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # as other commands do in `... | head`
    try:
        sys.exit(main())
    except QemuError as error:
        sys.exit(f"torture: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
