"""Damage ELF files and judge them: nothing but a judgment or a PercpuError may come out, soon, and in little memory.

    PYTHONPATH=tests .venv/bin/python -m fuzz FOLDER [--runs N] [--first N] [--seed N]

FOLDER gets the undamaged files, and each damaged one that failed. Each run depends on its number and the seed alone,
so `--first 4711 --runs 1` is run 4711 again.
"""

from __future__ import annotations

import argparse
import os
import resource
import signal
import sys
import time
import traceback
from pathlib import Path
from random import Random

from fuzz import fixtures, mutations
from percpu_tools import PercpuError, check
from percpu_tools.profiles import PROFILES
from percpu_tools.report import html, json, sarif, svg, text

# Seconds and bytes that no small file may take; a run takes milliseconds.
LIMIT = 10
MEMORY = 2 << 30
# What the process may grow by, once everything is imported and its caches are filled.
GROWTH = 64 << 20

# SARIF and the pictures take longer than the judgment that they show.
_FORMATS = (*[text] * 14, *[json] * 3, sarif, svg, html)
_PROFILES = (None, None, None, *PROFILES)


class Hang(BaseException):
    """Not an Exception, which something may catch."""


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--runs", type=int, default=1500, metavar="N")
    parser.add_argument("--first", type=int, default=0, metavar="N")
    parser.add_argument("--seed", type=int, default=2026, metavar="N")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    files = {name: (data, mutations.shape(data)) for name, data in fixtures.build(options.folder).items()}
    names = sorted(files)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.signal(signal.SIGALRM, _hang)
    # A disk would be what is waited for most of the time.
    memory = os.memfd_create("damaged.elf")
    path = Path(f"/proc/self/fd/{memory}")
    failures: list[str] = []
    judged = 0
    settled = 0
    started = time.monotonic()
    for number in range(options.first, options.first + options.runs):
        chance = Random(f"{options.seed} {number}")
        name = chance.choice(names)
        data = mutations.damage(*files[name], chance)
        os.ftruncate(memory, 0)
        os.pwrite(memory, data, 0)
        signal.setitimer(signal.ITIMER_REAL, LIMIT)
        try:
            judged += _run(path, chance)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            last = traceback.extract_tb(error.__traceback__)[-1]
            failures.append(
                f"run {number}, of {name}: {type(error).__name__}: {error}, at {Path(last.filename).name}:{last.lineno}"
            )
            (options.folder / f"failed-{number}.elf").write_bytes(data)
            print(failures[-1], flush=True)
            if len(failures) == 50:
                break
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        if number - options.first == min(options.runs // 2, 2000):
            settled = _memory()
    growth = _memory() - settled
    if growth > GROWTH:
        failures.append(f"the process grew by {growth >> 20} MB")
    taken = time.monotonic() - started
    print(
        f"{options.runs} runs, {judged} judged and the others refused, {len(failures)} failures,"
        f" {taken:.0f} s, grown by {growth >> 10} kB"
    )
    for failure in failures:
        print(failure)
    return 1 if failures else 0


def _run(path: Path, chance: Random) -> bool:
    """Whether the file was judged; it may be refused too."""
    profile = chance.choice(_PROFILES)
    try:
        report = check(
            path,
            cpu_num=chance.choice((None, 4)),
            profile=profile,
            types=chance.random() < 0.05,
            budget=chance.choice((None, 64)),
        )
    except PercpuError as error:
        message = str(error)
        assert str(path) in message and "\n" not in message, message
        return False
    written = chance.choice(_FORMATS).render([report])
    assert "\x1b" not in written
    return True


def _hang(*_: object) -> None:
    raise Hang(f"not done in {LIMIT} s")


def _memory() -> int:
    """The resident memory that is the process's own, in bytes."""
    resident, shared = Path("/proc/self/statm").read_text().split()[1:3]
    return (int(resident) - int(shared)) * resource.getpagesize()


if __name__ == "__main__":
    sys.exit(main())
