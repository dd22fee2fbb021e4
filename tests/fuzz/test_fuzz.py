"""percpu-check on damaged files: at random, in a process with a limit to its memory, and those on which it once failed.

`--mutations 100000` takes longer. The folder `cases` has the others.
"""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from percpu_tools import PercpuError, check
from percpu_tools.profiles import PROFILES

TESTS = Path(__file__).resolve().parents[1]
CASES = sorted(Path(__file__).with_name("cases").iterdir())


def test_damaged_files_are_judged_or_refused(request, tmp_path):
    runs = request.config.getoption("--mutations")
    command = [sys.executable, "-m", "fuzz", str(tmp_path), "--runs", str(runs)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=300 + runs,
        check=False,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    judged = int(done.stdout.split(" runs, ")[1].split(" judged")[0])
    # Changes that are refused at the first look would test little.
    assert runs // 3 < judged < runs


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_files_on_which_it_once_failed(case, tmp_path):
    path = tmp_path / case.stem
    path.write_bytes(gzip.decompress(case.read_bytes()))
    started = time.monotonic()
    for profile in (None, *PROFILES):
        try:
            check(path, profile=profile)
        except PercpuError as error:
            assert str(path) in error.message and "\n" not in error.message
    assert time.monotonic() - started < 10
