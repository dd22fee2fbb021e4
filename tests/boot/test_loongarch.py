"""What is particular to the LoongArch64 board."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from boot.boards import BOARDS
from boot.qemu import boot

ON_CPU_0 = "print_table(cpus);"
RESET = "*reinterpret_cast<volatile uint8_t*>(0x80000000100e001e) = 0x42; for (;;) board::relax();"

# The change to a source, and what the boot must say.
FAULTS = {
    "exception": ("demo.cpp", ON_CPU_0, 'asm volatile("break 0");', "the kernel's check failed: exception 12 at 0x9"),
    "address in no window": ("demo.cpp", ON_CPU_0, "*reinterpret_cast<volatile int*>(8) = 0;", "address 0x8"),
    "status of a failure": ("loongarch64/board.cpp", "    if (ok) {\n", "    if (!ok) {\n", "exit status is 1"),
    "reset": ("demo.cpp", ON_CPU_0, RESET, "did not say"),
    "no interrupt": (
        "loongarch64/board.cpp",
        "write<Csr::enabled_interrupts>(timer_interrupt);",
        "",
        "did not end within",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_kernel_fails(fault: str, build_by_hand: Callable[..., Path]) -> None:
    *change, problem = FAULTS[fault]
    result = boot(BOARDS["loongarch64"], build_by_hand(board_name="loongarch64", changes=[tuple(change)]), 4, timeout=5)
    assert not result.ok
    assert problem in (result.problem or ""), result.output
