"""The increment of a per-CPU word in Linux user space (x86_64), beside named peers.

Everybody does one increment an iteration, in memory: each iteration ends in an empty asm that may touch
all memory, so no compiler merges iterations or keeps the word in a register (our own asm says the same).
Loops begin on a cache line. A batch is some 100 microseconds, so that most are not interrupted; a round is
a few batches of every peer, in turns; a figure is the median of the rounds' medians, and a ratio is taken
within a round. The programs check that every increment was counted.
"""

from __future__ import annotations

import os
import platform
import statistics
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from bench.crate import Build, builds
from bench.results import BenchError, Goal, Spread, Table
from bench.run import BUILD, HERE, output
from cxx.build import link_program

Key = tuple[str, str, int]  # who, how, threads

OURS = "percpu (C++)"
NAMES: dict[str, tuple[str, str]] = {
    "add_current": (OURS, "add_current"),
    "with_current": (OURS, "with_current"),
    "read_current/write_current": (OURS, "read_current/write_current"),
    "thread_local": ("C++", "thread_local"),
    "array by sched_getcpu": ("C++", "padded array by sched_getcpu"),
    "array by sched_getcpu, atomic": ("C++", "the same, atomic"),
    "shared atomic": ("C++", "one shared atomic"),
}
BATCHES = 5
ITERATIONS = 100_000
FLAGS = ("-O2", "-falign-loops=64")


def measure(quick: bool, progress: Callable[[str], None]) -> Table:
    columns = ("who", "how", "threads", "ns", "times add_current")
    table = Table("increment", "Increment of a per-CPU word, x86_64 Linux, in-image layout", columns)
    if platform.machine() != "x86_64":
        raise BenchError(f"the machine is {platform.machine()}; this part is for x86_64")
    progress("compiling")
    programs: dict[str, Path] = {}
    for name, features in {OURS: ("non-zero-vma",), f"{OURS}, preempt": ("non-zero-vma", "preempt")}.items():
        folder = BUILD / "-".join(("increment", *features))
        folder.mkdir(exist_ok=True)
        programs[name] = compiled(folder, features)
    absent: dict[str, str] = {}
    for build in builds():
        try:
            programs[build.label] = _built(build, quick, progress)
        except BenchError as error:
            absent[build.label] = f"not measured: {error}"

    rounds = 3 if quick else 60
    figures: dict[Key, list[float]] = defaultdict(list)
    for number in range(rounds):
        progress(f"round {number + 1} of {rounds}")
        for name, program in programs.items():
            # increment.cpp moves its threads to their CPUs by itself; the crate's goes where the first one is.
            where = () if name.startswith(OURS) else ("taskset", "-c", min(os.sched_getaffinity(0)))
            for key, batches in _batches(name, output((*where, program, BATCHES, ITERATIONS))).items():
                figures[key].append(statistics.median(batches))

    for key, values in figures.items():
        unit = figures[(OURS, "add_current", key[2])]
        table.rows.append((*key, Spread.of(values), Spread.of_ratios(values, unit)))
    for name, why in absent.items():
        table.rows += [(name, how, 1, why, None) for how in ("with_current", "read_current/write_current")]
    if not any(key[2] == 2 for key in figures):
        table.rows.append((OURS, "add_current", 2, "not measured: one CPU", None))
        table.rows.append((*NAMES["shared atomic"], 2, "not measured: one CPU", None))
    table.goals = _goals(table)
    table.notes = [
        "ns: of one thread's increment; with 2 threads, the slower thread's.",
        "The crate as `cargo build --release` makes it; LTO is its best case, with the hooks inlined.",
    ]
    return table


def compiled(folder: Path, features: tuple[str, ...]) -> Path:
    return link_program(folder, HERE / "increment.cpp", *FLAGS, features=features, cpu_num=2)


def _built(build: Build, quick: bool, progress: Callable[[str], None]) -> Path:
    if not quick:
        progress(f"cargo build: {build.label}")
        build.make()
    elif not build.program.exists():
        raise BenchError("not built (--quick)")
    return build.program


def _batches(program: str, text: str) -> dict[Key, list[float]]:
    batches: dict[Key, list[float]] = defaultdict(list)
    for line in text.splitlines():
        name, threads, nanoseconds = line.split("\t")
        if program == OURS:
            who, how = NAMES[name]
        elif program.startswith(OURS) and name != "with_current":
            continue  # The feature changes nothing else.
        else:
            who, how = program, name
        batches[who, how, int(threads)].append(float(nanoseconds))
    return batches


def _goals(table: Table) -> list[Goal]:
    goals = []
    for who, how, threads, _, ratio in table.rows:
        if not isinstance(ratio, Spread):
            continue
        found = f"{ratio.median:.2f} times"
        if (how, threads) == ("thread_local", 1):
            found = f"thread_local takes {ratio.median:.3f} times add_current"
            goals.append(Goal("add_current within 2 % of thread_local", found, ratio.median >= 1 / 1.02))
        elif (how, threads) == ("one shared atomic", 2):
            goals.append(Goal("at least 10 times faster than a shared atomic on 2 threads", found, ratio.median >= 10))
        elif how == "with_current" and "preempt" in str(who) and not str(who).startswith(OURS):
            goals.append(Goal(f"at least 2 times faster than with_current of {who}", found, ratio.median >= 2))
    return goals
