"""percpu-check on damaged files, in a process of its own with a limit to its memory. `--mutations 100000` takes longer."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]


def test_damaged_files_are_judged_or_refused(request, tmp_path):
    runs = request.config.getoption("--mutations")
    command = [sys.executable, "-m", "fuzz", str(tmp_path), "--runs", str(runs)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300 + runs, check=False, env={**os.environ, "PYTHONPATH": str(TESTS)})
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    judged = int(done.stdout.split(" runs, ")[1].split(" judged")[0])
    # Changes that are refused at the first look would test little.
    assert runs // 3 < judged < runs
