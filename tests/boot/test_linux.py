"""The kernels as Linux programs: that they fail when they should, and run on as many threads as asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from boot.boards import BOARDS
from boot.qemu import boot
from boot.test_boot import check_demo
from matrix import Variant

NAMES = [name for name, board in BOARDS.items() if board.mode == "linux"]
ON_CPU_0 = "print_table(cpus);"

# The change to a source, and what the boot must say.
FAULTS = {
    "signal": ("demo.cpp", ON_CPU_0, "__builtin_trap();", "exit status is -"),
    "status of a failure": ("linux/board.cpp", "exit_group, !ok", "exit_group, ok", "exit status is 1"),
    "early exit": ("demo.cpp", ON_CPU_0, "board::exit(true);", "did not say"),
    "no interrupt": ("linux/board.cpp", "linux_call(timer_settime, timer, 0, address(&setting));", "", "did not end within"),
    "all threads use area 0": (
        "demo.cpp",
        "init_percpu_reg(cpu)",
        "init_percpu_reg(0)",
        "a CPU finds what CPU 0 wrote into its area",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", NAMES)
def test_a_faulty_program_fails(name: str, fault: str, build_by_hand: Callable[..., Path]) -> None:
    *change, problem = FAULTS[fault]
    program = build_by_hand(board_name=name, features=("non-zero-vma",), changes=[tuple(change)])
    result = boot(BOARDS[name], program, 4, timeout=5)
    assert not result.ok
    assert problem in (result.problem or ""), result.output


@pytest.mark.parametrize("name", NAMES)
def test_64_threads(name: str, build_by_hand: Callable[..., Path]) -> None:
    board = BOARDS[name]
    program = build_by_hand(board_name=name, features=("non-zero-vma",), cpu_num=64)
    # User-mode emulation in QEMU has 32 timers for one process.
    cpus = 32 if board.qemu else 64
    check_demo(program, Variant(board.arch, mode="linux"), cpus, cpus)
