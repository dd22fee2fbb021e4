"""Builds as a user would do them, with percpu's commands on the PATH."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
CHECKOUT = HERE.parents[1]


def run(*command: str | Path, cwd: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a command there; its errors are in the output, too."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    # Variables by which a user chooses a compiler or a generator would be obeyed here as well.
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in ("CC", "CXX", "CXXFLAGS", "LDFLAGS", "MAKEFLAGS", "CMAKE_GENERATOR")
    }
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env={**kept, "PATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=300,
    )
    assert not check or done.returncode == 0, done.stdout
    return done


def times(folder: Path, *patterns: str) -> dict[str, int]:
    """When the files were written, in nanoseconds."""
    return {str(path): path.stat().st_mtime_ns for pattern in patterns for path in folder.rglob(pattern)}
