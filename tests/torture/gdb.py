"""Runs a script inside GDB on a kernel that QEMU holds at its first instruction."""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from boot.boards import Board

HERE = Path(__file__).parent


def debug(board: Board, kernel: Path, call: str, timeout: float = 300) -> Any:
    """Calls `call` of restart_gdb.py inside GDB, and returns what it prints as JSON on its last line."""
    with tempfile.TemporaryDirectory() as folder:
        socket = Path(folder) / "gdb"
        qemu = [*board.qemu_command(str(kernel), 1), "-S", "-gdb", f"unix:{socket},server=on,wait=off"]
        machine = subprocess.Popen(qemu, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
        try:
            command = ["gdb-multiarch", "-batch", "-nx", "-ex", "set confirm off", "-ex", "set pagination off"]
            connect = f"target remote {socket}"
            command += ["-ex", connect, "-ex", f"source {HERE / 'restart_gdb.py'}", "-ex", f"python {call}", str(kernel)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL)
        finally:
            machine.kill()
            machine.wait()
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    assert lines, f"GDB gave no result:\n{done.stdout}\n{done.stderr}"
    return json.loads(lines[-1])
