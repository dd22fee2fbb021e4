"""What is particular to the RISC-V boards."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from boot.boards import BOARDS
from boot.conftest import scons
from boot.qemu import boot
from boot.test_boot import check_demo
from matrix import Variant

NAMES = ("riscv64", "riscv64-s-mode", "riscv32")
ON_CPU_0 = "print_table(cpus);"


@pytest.mark.parametrize("mode", ["", "s-mode"])
def test_riscv64_boots_64_cpus(mode: str) -> None:
    variant, folder = Variant("riscv64", mode=mode), "build/cpus-64"
    target = f"{folder}/{variant.name}/demo.elf"
    built = scons("ARCH=riscv64", f"MODE={mode}", "CPU_NUM=64", target, folder=folder)
    check_demo(built.kernel(variant, "demo"), variant, 64, 64)


def test_the_global_pointer_and_the_base_in_gp_exclude_each_other(build_by_hand: Callable[..., Path]) -> None:
    """T02: the linker makes accesses to ordinary data relative to gp, where a CPU keeps its area's address."""

    def define_global_pointer(script: str) -> str:
        begin = "    .bss :\n    {\n"
        assert script.count(begin) == 1, script
        return script.replace(begin, begin + "        __global_pointer$ = . + 0x400;\n")

    kernel = build_by_hand(board_name="riscv64", change_script=define_global_pointer)
    assert not boot(BOARDS["riscv64"], kernel, 4, timeout=5).ok


# The change to a source, and what the boot must say.
FAULTS = {
    "exception": ("demo.cpp", ON_CPU_0, 'asm volatile("unimp");', "the kernel's check failed: exception 2 at "),
    "status of a failure": ("riscv/board.cpp", "ok ? test_pass : test_fail", "test_fail", "exit status is 1"),
    "reset": ("demo.cpp", ON_CPU_0, "*reinterpret_cast<volatile uint32_t*>(0x100000) = 0x7777;", "did not say"),
    "no interrupt": ("riscv/board.cpp", "SET_CSR(ie, uintptr_t{1} << TIMER_INTERRUPT);", "", "did not end within"),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", NAMES)
def test_a_faulty_kernel_fails(name: str, fault: str, build_by_hand: Callable[..., Path]) -> None:
    *change, problem = FAULTS[fault]
    result = boot(BOARDS[name], build_by_hand(board_name=name, changes=[tuple(change)]), 4, timeout=5)
    assert not result.ok
    assert problem in (result.problem or ""), result.output
