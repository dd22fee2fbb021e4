"""No update of a per-CPU variable is lost where threads are interrupted anywhere and moved between CPUs.

`tools/test tests/torture --updates 10000000 -s` makes 10 million in each kernel and prints the figures.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from matrix import TORTURED, Variant
from torture.updates import build, cpus_at_once, torture

TESTS = Path(__file__).resolve().parents[1]
FEW = 50_000


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "tortured" in metafunc.fixturenames:
        every = metafunc.config.getoption("--updates") is not None
        rows = [row for row in TORTURED if every or row.default]
        metafunc.parametrize("tortured", rows, ids=lambda row: row.name)


def test_no_update_is_lost_but_without_the_measures(tortured: Variant, pytestconfig: pytest.Config) -> None:
    many = pytestconfig.getoption("--updates")
    wanted, cpus = (many, cpus_at_once(tortured)) if many else (FEW, tortured.cpus)
    folder = build([tortured])[tortured]
    for _ in range(pytestconfig.getoption("--boots")):
        result = torture(tortured, folder, wanted, cpus)
        print(f"\n{result}")
        assert not result.problems, "\n".join(result.problems)
        assert result.whole.made >= wanted and result.whole.interrupts >= 400


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "torture", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    return subprocess.run(words, capture_output=True, text=True, timeout=300, check=False, env=environment)


def test_command_shows_a_table() -> None:
    done = command("--quick", "--updates", "50000", "riscv32")
    assert done.returncode == 0, done.stdout + done.stderr
    updates = re.findall(r"([\d,]+) +([\d,]+) +[\d,]+ +[\d,]+ +[\d,]+ +[\d.]+ *$", done.stdout, re.MULTILINE)
    (made, lost), (_, lost_without) = [(int(a.replace(",", "")), int(b.replace(",", ""))) for a, b in updates]
    assert made >= 50_000 and lost == 0 and lost_without > 0


def test_command_refuses_an_unknown_architecture() -> None:
    done = command("vax")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        "torture: error: 'vax' is no architecture; there are: x86_64 aarch64 arm riscv64 riscv32 loongarch64"
    )
