"""`percpu::init` in Linux user space against memcpy of the same bytes, area by area."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bench.results import Goal, Spread, Table
from bench.run import BUILD, HERE, output
from cxx.build import link_program

CPUS = (1, 8, 64, 512, 8192)
AREAS = (64, 256, 1024, 4096, 16384, 65536)
MOST = 512 << 20
# What one round should copy at least, so that the clock is fine enough for it.
LEAST = 1 << 20


def measure(quick: bool, progress: Callable[[str], None]) -> Table:
    columns = ("area, bytes", "CPUs", "init, ns", "memcpy, ns", "times memcpy", "again, init, ns", "again, times memcpy",
               "times exchange and memcpy")
    table = Table("init", "init against memcpy of the same bytes", columns)
    most = MOST // 32 if quick else MOST
    missed: dict[str, list[str]] = {"as at boot": [], "again": []}
    for area in AREAS[:: 3 if quick else 1]:
        program = _program(area)
        for cpus in CPUS:
            if area * cpus > most:
                continue
            progress(f"{cpus} areas of {area} bytes")
            rounds = 5 if quick else 31 if area * cpus <= MOST // 8 else 9
            repeats = max(1, min(20_000, LEAST // (area * cpus)))
            lines = [tuple(map(float, line.split("\t"))) for line in output((program, cpus, rounds, repeats)).splitlines()]
            ours, theirs, ours_again, theirs_again, claimed_again = zip(*lines)
            ratio = Spread.of_ratios(ours, theirs)
            again = Spread.of_ratios(ours_again, theirs_again)
            claimed = Spread.of_ratios(ours_again, claimed_again)
            table.rows.append((area, cpus, Spread.of(ours), Spread.of(theirs), ratio, Spread.of(ours_again), again, claimed))
            for when, measured in (("as at boot", ratio), ("again", again)):
                if measured.median > 1.2:
                    missed[when].append(f"{cpus} x {area} B: {measured.median:.2f}")
    table.goals = [
        Goal(f"init within 1.2 times memcpy, {when}", "missed by " + "; ".join(cells) if cells else "by all", not cells)
        for when, cells in missed.items()
    ]
    table.notes = [
        "As at boot: the areas in no cache, each time until other CPUs can see them. Again: the same memory, in the cache. "
        "There the atomic exchange that keeps two CPUs from making areas at once takes longer than to copy a small area."
    ]
    return table


def _program(area: int) -> Path:
    folder = BUILD / f"initialize-{area}"
    folder.mkdir(exist_ok=True)
    return link_program(folder, HERE / "initialize.cpp", "-O2", f"-DAREA_BYTES={area}", cpu_num=1)
