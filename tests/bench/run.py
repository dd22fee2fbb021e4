"""Where benchmarks build, and how they run programs."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from bench.results import BenchError

HERE = Path(__file__).resolve().parent
BUILD = HERE.parents[1] / "build" / "bench"


def output(command: Sequence[object], environment: dict[str, str] | None = None, timeout: float = 600) -> str:
    """What a command prints."""
    words = [str(word) for word in command]
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=timeout, check=False, env={**os.environ, **(environment or {})}
    )
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines() or ["nothing"]
        raise BenchError(f"{words[0]} ended with status {done.returncode} and said: {said[-1]}")
    return done.stdout
