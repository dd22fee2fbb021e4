"""The command of the benchmarks gives every row. What it measures is for people to judge: no times here."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest
from bench.crate import builds
from bench.increment import NAMES, OURS, compiled
from bench.run import BUILD, HERE

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="the increments are measured on x86_64")
TESTS = HERE.parent


def bench(*arguments: str, folder: Path = TESTS) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    command = [sys.executable, "-m", "bench", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, cwd=folder, env=environment)


def test_quick_gives_every_row(tmp_path):
    done = bench("--quick", "--json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    tables = {table["name"]: table["rows"] for table in json.loads(done.stdout)}

    increment = {tuple(row[:3]): row[3] for row in tables["increment"]}
    wanted = {(*name, 1) for name in NAMES.values()}
    wanted |= {(OURS, "add_current", 2), ("C++", "one shared atomic", 2), (f"{OURS}, preempt", "with_current", 1)}
    wanted |= {(build.label, how, 1) for build in builds() for how in ("with_current", "read_current/write_current")}
    assert wanted <= increment.keys()
    assert {build.version for build in builds()} >= {"0.3.0"}
    for nanoseconds in increment.values():
        assert str(nanoseconds).startswith("not measured: ") or nanoseconds["low"] > 0

    architectures = ("x86_64", "aarch64", "arm", "riscv64", "riscv32", "loongarch64")
    accesses = ("read", "write", "pointer", "add")
    assert [row[:2] for row in tables["counts"]] == [[arch, access] for arch in architectures for access in accesses]
    assert all(isinstance(cell, int) and cell > 0 for row in tables["counts"] for cell in row[2:])

    assert {(64, 1), (64, 8192), (4096, 1)} <= {tuple(row[:2]) for row in tables["init"]}

    link = {tuple(row[:2]): row for row in tables["link"]}
    assert link.keys() == {(linker, number) for linker in ("ld", "lld") for number in (1, 16, 256, 4096)}
    for linker in ("ld", "lld"):
        assert link[linker, 1][2] == link[linker, 4096][2]
        assert link[linker, 4096][3] - link[linker, 1][3] == 4095 * 4096

    name, _, symbols, readelf, check, ratio, memory = tables["check"][0]
    assert name == "made here" and symbols > 19_000
    assert readelf["low"] > 0 and check["low"] > 0 and ratio["low"] > 0
    assert 0 < memory < 150

    builds_up_to_date = {tuple(row[:2]): row[2:] for row in tables["uptodate"]}
    assert builds_up_to_date.keys() == {(compiler, number) for compiler in ("g++", "clang++-19") for number in (2, 40)}
    assert all(spread["low"] > 0 for row in builds_up_to_date.values() for spread in row)


def test_no_peer_is_optimized_away(tmp_path):
    """The loop of each peer changes memory in each iteration."""
    program = compiled(tmp_path, ("non-zero-vma",))
    command = ["objdump", "-d", "--no-show-raw-insn", str(program)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for function, update in {
        "add_current": r"addq\s+\$0x1,%gs:",
        "with_current": r"addq\s+\$0x1,\(",
        "read_write_current": r"mov\s+%r\w+,%gs:",
        "increment_thread_local": r"addq\s+\$0x1,%fs:",
        "array_plain": r"addq\s+\$0x1,0x0\(%r",
        "array_atomic": r"lock addq\s+\$0x1,\(",
        "shared_atomic": r"lock addq\s+\$0x1,",
    }.items():
        body = re.search(rf"<{function}>:\n(.*?)\n\n", text, re.DOTALL)
        found = [int(at, 16) for at in re.findall(rf"([0-9a-f]+):\s+{update}", body[1])]
        assert len(found) == 1, function
        # The loop's end jumps back to above the update.
        jumps = re.findall(r"([0-9a-f]+):\s+jne\s+([0-9a-f]+)", body[1])
        assert any(int(to, 16) <= found[0] < int(at, 16) for at, to in jumps), function


def test_without_cargo_its_rows_say_so(tmp_path):
    """In a place where nothing was built: with cargo out of reach, the rows are there and give the reason."""
    path = os.pathsep.join(one for one in os.environ["PATH"].split(os.pathsep) if not Path(one, "cargo").exists())
    code = """
from bench.crate import builds, counts
from bench.results import BenchError
for make in (next(builds()).make, lambda: counts("x86_64")):
    try:
        make()
    except BenchError as error:
        print(error)
"""
    environment = {**os.environ, "PYTHONPATH": str(TESTS), "PATH": path}
    BUILD.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, cwd=tmp_path, env=environment)
    assert done.stdout == "no cargo\n" * 2


def test_table_has_no_colors_in_a_pipe():
    done = bench("--quick", "counts")
    assert done.returncode == 0 and "\033" not in done.stdout
    assert done.stdout.splitlines()[0].startswith("Instructions of one access")


def test_unknown_part():
    done = bench("speed")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == "bench: error: 'speed' is no part; there are: increment counts init link check uptodate"
