"""Benchmarks of percpu beside named peers.

Run from the checkout, after tools/test has set it up:

    PYTHONPATH=tests .venv/bin/python -m bench

Figures are medians of several rounds, with the least and the greatest in brackets. Compare ratios, which
are taken within a run; the nanoseconds are this machine's. Everything is built into build/bench. The Rust
crate is a peer where `cargo` is on PATH.
"""

from __future__ import annotations

import argparse
import dataclasses
import fcntl
import json
import signal
import sys
from collections.abc import Callable

from bench import check, counts, increment, initialize, link, uptodate
from bench.report import Progress, show
from bench.results import BenchError, Table
from bench.run import BUILD

PARTS: dict[str, Callable[[bool, Callable[[str], None]], Table]] = {
    "increment": increment.measure,
    "counts": counts.measure,
    "init": initialize.measure,
    "link": link.measure,
    "check": check.measure,
    "uptodate": uptodate.measure,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"what to measure, or all: {' '.join(PARTS)}")
    parser.add_argument("--quick", action="store_true", help="few rounds and no cargo, only to see that it works")
    parser.add_argument("--json", action="store_true", help="print the tables as JSON")
    arguments = parser.parse_args()
    for part in arguments.parts:
        if part not in PARTS:
            parser.error(f"{part!r} is no part; there are: {' '.join(PARTS)}")

    BUILD.mkdir(parents=True, exist_ok=True)
    tables = []
    # Two runs at a time would spoil each other's figures, and the programs that the other one runs.
    with open(BUILD / "lock", "w") as lock, Progress() as progress:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for part in arguments.parts or PARTS:
            tables.append(PARTS[part](arguments.quick, lambda step, part=part: progress.step(part, step)))
    if arguments.json:
        print(json.dumps([dataclasses.asdict(table) for table in tables], indent=1))
    else:
        show(tables)
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # as other commands do in `... | head`
    try:
        sys.exit(main())
    except BenchError as error:
        sys.exit(f"bench: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
