"""Boots a kernel in QEMU and says how it ended."""

from __future__ import annotations

import re
import subprocess
import time
from dataclasses import dataclass, replace
from pathlib import Path

from boot.boards import Board


class QemuError(Exception):
    """QEMU could not be run at all. The text is one plain line."""


@dataclass(frozen=True)
class Boot:
    """How a boot ended."""

    output: str
    seconds: float
    problem: str | None
    """Why the boot does not count as passed; None if it does."""

    @property
    def ok(self) -> bool:
        return self.problem is None


def one_instruction_at_a_time(board: Board) -> Board:
    """The board with interrupts between any two instructions; else QEMU takes them between blocks of them.

    Raises QemuError if QEMU does not say its version.
    """
    try:
        command = [board.qemu[0], "--version"]
        said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60).stdout
    except FileNotFoundError:
        raise _not_installed(board) from None
    found = re.search(r"version (\d+)\.(\d+)", said)
    if not found:
        raise QemuError(f"{board.qemu[0]} --version says {said!r}, and no version")
    if (int(found[1]), int(found[2])) < (8, 1):
        return replace(board, qemu=(*board.qemu, "-singlestep"))
    # Of several -accel QEMU takes the first.
    at = board.qemu.index("-accel") if "-accel" in board.qemu else len(board.qemu)
    return replace(board, qemu=(*board.qemu[:at], *board.qemu[at + 2 :], "-accel", "tcg,one-insn-per-tb=on"))


def boot(board: Board, kernel: Path, cpus: int, timeout: float = 60) -> Boot:
    """Boot `kernel` on `cpus` CPUs; after `timeout` seconds QEMU is ended.

    A boot passes if the kernel says on the console that all its checks held and ends the machine with
    the board's status for that.
    """
    if not kernel.is_file():
        raise QemuError(f"{kernel}: no such kernel; build it with scons")
    command = board.qemu_command(str(kernel), cpus)
    begin = time.monotonic()
    try:
        # Standard input stays closed: QEMU would change the terminal's mode and eat what is typed.
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout,
            check=False,
        )
        printed, problem = done.stdout, _problem(board, done.returncode, _text(done.stdout))
    except FileNotFoundError:
        raise _not_installed(board) from None
    except subprocess.TimeoutExpired as expired:
        printed, problem = expired.stdout or b"", f"it did not end within {timeout:g} s"
    return Boot(_text(printed), time.monotonic() - begin, problem)


def _not_installed(board: Board) -> QemuError:
    mend = f"apt-get install {board.qemu_package}, or run tools/demo"
    return QemuError(f"{board.qemu[0]} is not installed: {mend}")


def _text(printed: bytes) -> str:
    return printed.decode(errors="replace").replace("\r\n", "\n")


def _problem(board: Board, status: int, output: str) -> str | None:
    failures = re.findall(r"^FAILED: (.*)$", output, re.MULTILINE)
    if failures:
        more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
        return f"the kernel's check failed: {failures[0]}{more}"
    if status != board.pass_status:
        return f"QEMU's exit status is {status}; a kernel whose checks held gives {board.pass_status}"
    if not re.search(r"^all \d+ checks held$", output, re.MULTILINE):
        return "the kernel did not say that its checks held"
    return None
