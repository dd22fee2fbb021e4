"""The whole percpu-check, start-up included, beside `readelf -sW` of the same file, with the same symbols to read.

The file is a Linux kernel's size of symbols, made here; and a distribution's vmlinux, where PERCPU_VMLINUX names one.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import toolchain
from bench.results import BenchError, Goal, Spread, Table
from bench.run import BUILD
from check.projects import LINUX_AT_ZERO, variable

SYMBOLS = 190_000
VARIABLES = 1000
MOST_TIME = 1.5
MOST_MEMORY = 150


def measure(quick: bool, progress: Callable[[str], None]) -> Table:
    columns = ("file", "MB", "symbols", "readelf -sW, ms", "percpu-check, ms", "times readelf", "memory, MB")
    table = Table("check", "percpu-check against readelf -sW of the same file", columns)
    folder = BUILD / "check"
    folder.mkdir(exist_ok=True)
    progress("building")
    files = [("made here", _kernel(folder, SYMBOLS // 10 if quick else SYMBOLS))]
    given = os.environ.get("PERCPU_VMLINUX")
    if given:
        files.append((Path(given).name, Path(given)))
    command = Path(sys.executable).with_name("percpu-check")
    # As pip leaves an installed package: with its bytecode.
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(folder / "bytecode")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    rounds = 3 if quick else 31
    for name, path in files:
        times: dict[str, list[float]] = {"readelf": [], "check": []}
        memory = 0.0
        # The first round fills the caches, and is not counted.
        for number in range(rounds + 1):
            progress(f"{name}, round {number} of {rounds}")
            readelf, _ = _run(["readelf", "-sW", path], os.environ)
            check, memory = _run([command, path], environment)
            if number:
                times["readelf"].append(readelf)
                times["check"].append(check)
        ratio = Spread.of_ratios(times["check"], times["readelf"])
        symbols = toolchain.run(["readelf", "-sW", str(path)]).stdout.count("\n")
        size = path.stat().st_size >> 20
        table.rows.append(
            (name, size, symbols, Spread.of(times["readelf"]), Spread.of(times["check"]), ratio, round(memory))
        )
        table.goals.append(
            Goal(
                f"{name}: within {MOST_TIME} times readelf -sW", f"{ratio.median:.2f} times", ratio.median <= MOST_TIME
            )
        )
        table.goals.append(Goal(f"{name}: less than {MOST_MEMORY} MB", f"{memory:.0f} MB", memory < MOST_MEMORY))
    if not given:
        table.notes.append(
            "PERCPU_VMLINUX=FILE measures a distribution's vmlinux too (Debian: linux-image-VERSION-dbg)."
        )
    return table


def _run(command: Sequence[object], environment: Mapping[str, str]) -> tuple[float, float]:
    """Milliseconds, and the most memory in MB."""
    start = time.perf_counter()
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, env=dict(environment))
    _, status, usage = os.wait4(process.pid, 0)
    taken = (time.perf_counter() - start) * 1000
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise BenchError(f"{command[0]} ended with status {process.returncode}")
    # Kilobytes on Linux.
    return taken, usage.ru_maxrss / 1024


def _kernel(folder: Path, symbols: int) -> Path:
    """A kernel in Linux's layout with that many functions, and names as long as Linux's are."""
    target = folder / f"kernel-{symbols}.elf"
    if target.exists():
        return target
    functions = (
        f".type {name}, @function\n{name}: ret\n.size {name}, 1\n"
        for name in (f"subsystem_{n % 997}_function_{n}" for n in range(symbols))
    )
    (folder / "functions.s").write_text(".section .note.GNU-stack\n.text\n" + "".join(functions))
    toolchain.run(["as", str(folder / "functions.s"), "-o", str(folder / "functions.o")])
    variables = "".join(variable(f"per_cpu_state_of_{n}", ".data..percpu", 8 * (n % 30 + 1)) for n in range(VARIABLES))
    kernel = toolchain.compile_c(folder, toolchain.KERNEL + LINUX_AT_ZERO.source + variables)
    return toolchain.link(
        folder, [kernel, folder / "functions.o"], [LINUX_AT_ZERO.script], "--no-warn-rwx-segments", name=target.name
    )
