"""A kernel under GDB: QEMU holds it at its stub, GDB runs it up to a function and is asked there."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import percpu_tools
from boot.boards import Board

GDB = "gdb-multiarch"
# What GDB prints between two answers; no kernel and no command says it.
_BETWEEN = "@@@@"


@dataclass(frozen=True)
class Answers:
    """What GDB said to each command, errors too, and what the kernel had printed by then."""

    said: tuple[str, ...]
    console: str


def ask(
    board: Board, kernel: Path, cpus: int, function: str, commands: Sequence[str], before: Sequence[str] = ()
) -> Answers:
    """Runs `kernel` on `cpus` CPUs up to `function`, and gives GDB the commands there.

    Those of `before` are given before it connects.
    """
    # With the OpenSBI of Debian 12's QEMU, about one boot of fifty in S-mode on a busy machine begins twice and goes
    # nowhere under the debugger, as if a hart were started before the firmware knew where; none of 250 without it.
    for _ in range(2):
        with contextlib.suppress(subprocess.TimeoutExpired):
            return _ask(board, kernel, cpus, function, commands, before)
    return _ask(board, kernel, cpus, function, commands, before)


def _ask(
    board: Board, kernel: Path, cpus: int, function: str, commands: Sequence[str], before: Sequence[str]
) -> Answers:
    with tempfile.TemporaryDirectory() as folder:
        socket, console = Path(folder) / "stub", Path(folder) / "console"
        command = [*board.qemu_command(str(kernel), cpus), "-S", "-gdb", f"unix:{socket},server=on,wait=off"]
        with console.open("wb") as output:
            machine = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        try:
            for _ in range(600):
                if socket.exists() or machine.poll() is not None:
                    break
                time.sleep(0.1)
            run_up = [*before, f"target remote {socket}", f"hbreak {function}", "continue"]
            said = gdb(str(kernel), run_up, commands)
        finally:
            machine.kill()
            machine.wait()
        return Answers(said, console.read_text(errors="replace").replace("\r\n", "\n"))


def gdb(program: str, run_up: Sequence[str], commands: Sequence[str]) -> tuple[str, ...]:
    """What GDB says to each of `commands` with the extension loaded, after those of `run_up`."""
    asked = [f"source {percpu_tools.gdb_extension()}"]
    for text in commands:
        asked += [f"echo {_BETWEEN}", text]
    # Behind it comes what GDB says when it ends.
    asked += [f"echo {_BETWEEN}"]
    # -nx: what the user's own .gdbinit sets does not count.
    command = [GDB, "-nx", "-q", "-batch", *([program] if program else [])]
    for text in ("set width 0", "set confirm off", *run_up, *asked):
        command += ["-ex", text]
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=30,
    )
    _, *said, _ = done.stdout.split(_BETWEEN)
    assert len(said) == len(commands), done.stdout
    assert "Traceback" not in done.stdout and "Python Exception" not in done.stdout, done.stdout
    return tuple(text.strip() for text in said)
