"""A build that is up to date: SCons with the percpu tool, beside SCons without it, for the same kernel.

Without the tool, the SConstruct names the same fragment, the runtime's source and its headers by hand,
as they were left by a build with it. No finding is looked for there, and CPU_NUM is not tracked.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bench.results import BenchError, Goal, Spread, Table
from bench.run import BUILD
from scons.project import CHECKOUT, HERE, PRELUDE, TOOLPATH

COMPILERS = ("g++", "clang++-19")
SOURCES = (2, 40)
MOST = 1.1

WITH = """\
env = Environment(CXX=COMPILER, LINK=COMPILER, **KERNEL, **SHORT)
env.Tool("percpu", toolpath=TOOLPATH, CPU_NUM=4)
env.Program("kernel.elf", SOURCES)
"""
WITHOUT = """\
env = Environment(CXX=COMPILER, LINK=COMPILER, **KERNEL, **SHORT)
env.Append(CPPPATH=INCLUDES, LINKFLAGS=" -Wl,-T,../with/kernel.elf.percpu/percpu.ld")
env.Program("kernel.elf", [*SOURCES, env.Object("area.o", "../with/kernel.elf.percpu/area.cpp")])
"""
SOURCE = """\
#include <percpu/percpu.hpp>

PERCPU_DEFINE(unsigned long, calls_of_{number}, 0);
void call_{number}() {{ calls_of_{number}.add_current(1); }}
"""


def measure(quick: bool, progress: Callable[[str], None]) -> Table:
    columns = ("compiler", "sources", "ms, without", "ms, with percpu", "times")
    table = Table("uptodate", "A build with SCons that is up to date, with the percpu tool and without it", columns)
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(BUILD / "uptodate" / "bytecode")}
    # As pip leaves an installed package: with its bytecode.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    rounds = 2 if quick else 31
    for compiler in COMPILERS:
        for number in SOURCES:
            progress(f"{compiler}, {number} sources: building")
            folder = BUILD / "uptodate" / f"{compiler}-{number}"
            shutil.rmtree(folder, ignore_errors=True)
            times: dict[str, list[float]] = {"with": [], "without": []}
            for name, text in (("with", WITH), ("without", WITHOUT)):
                _project(folder / name, compiler, number, text)
                _scons(folder / name, environment)
            for turn in range(rounds):
                progress(f"{compiler}, {number} sources: round {turn + 1} of {rounds}")
                for name, taken in times.items():
                    start = time.perf_counter()
                    said = _scons(folder / name, environment)
                    taken.append((time.perf_counter() - start) * 1000)
                    if "up to date" not in said:
                        raise BenchError(f"the build {name} the tool is not up to date: {said.strip()}")
            ratio = Spread.of_ratios(times["with"], times["without"])
            table.rows.append((compiler, number, Spread.of(times["without"]), Spread.of(times["with"]), ratio))
            text = f"{compiler}, {number} sources: within {MOST} times the build without the tool"
            table.goals.append(Goal(text, f"{ratio.median:.2f} times", ratio.median <= MOST))
    return table


def _project(folder: Path, compiler: str, number: int, text: str) -> None:
    shutil.copytree(HERE / "kernel", folder)
    # A repository of its own, as users' projects are: no configuration is looked for above it.
    (folder / ".git").mkdir()
    more = [f"part{place}.cpp" for place in range(2, number)]
    for place, name in enumerate(more, 2):
        (folder / name).write_text(SOURCE.format(number=place))
    known = {"TOOLPATH": [str(TOOLPATH)], "INCLUDES": str(CHECKOUT / "percpu_cpp" / "include"), "COMPILER": compiler}
    lines = [f"{name} = {value!r}\n" for name, value in known.items()]
    (folder / "SConstruct").write_text("".join(lines) + PRELUDE + f"SOURCES += {more!r}\n" + text)


def _scons(folder: Path, environment: dict[str, str]) -> str:
    command = [sys.executable, "-m", "SCons", "-Q"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"scons in {folder} ended with status {done.returncode} and said: {done.stderr.strip()}")
    return done.stdout
