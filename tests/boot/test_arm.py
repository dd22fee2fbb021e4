"""What is particular to the AArch64 and ARM boards."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from boot.boards import BOARDS
from boot.conftest import scons
from boot.qemu import boot
from boot.test_boot import check_demo
from matrix import Variant

AARCH64 = Variant("aarch64")
ON_CPU_0 = "print_table(cpus);"


def test_aarch64_boots_64_cpus() -> None:
    """More than a cluster of 16: CPUs are started, and find their redistributors, by affinity."""
    folder = "build/cpus-64"
    kernel = scons("ARCH=aarch64", "CPU_NUM=64", f"{folder}/{AARCH64.name}/demo.elf", folder=folder).kernel(AARCH64, "demo")
    check_demo(kernel, AARCH64, 64, 64)


def test_a_template_of_100_kib_works(build_by_hand: Callable[..., Path]) -> None:
    """T04: the variables behind the large one lie beyond what one movz reaches."""
    size = 100 * 1024
    larger = ("demo.cpp", "PERCPU_DEFINE_PAGE_ALIGNED(uint8_t[4096],", f"PERCPU_DEFINE_PAGE_ALIGNED(uint8_t[{size}],")
    kernel = build_by_hand(board_name="aarch64", features=["large-template"], changes=[larger])
    output = check_demo(kernel, AARCH64, 4, 4)
    assert int(output.split("areas of ")[1].split()[0]) > size


# The change to a source, and what the boot must say.
FAULTS = {
    "exception": ("demo.cpp", ON_CPU_0, "__builtin_trap();", "the kernel's check failed: exception "),
    "power off": ("demo.cpp", ON_CPU_0, "psci(0x84000008);", "exit status is 0"),
    "status of a failure": ("arm_virt/virt.cpp", "ok ? 33u : 35u", "ok ? 35u : 33u", "exit status is 35"),
    "no end of interrupt": {
        "aarch64": ("aarch64/board.cpp", 'WRITE("icc_eoir1_el1", interrupt);', "", "did not end within 5 s"),
        "arm": ("arm/board.cpp", "reg(interface_end) = interrupt;", "", "did not end within 5 s"),
    },
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("arch", ["aarch64", "arm"])
def test_a_faulty_kernel_fails(arch: str, fault: str, build_by_hand: Callable[..., Path]) -> None:
    change = FAULTS[fault]
    source, old, new, problem = change[arch] if isinstance(change, dict) else change
    declared = ("demo.cpp", '#include "preempt.hpp"\n', '#include "preempt.hpp"\n#include "arm_virt/virt.hpp"\n')
    kernel = build_by_hand(board_name=arch, changes=[declared, (source, old, new)])
    result = boot(BOARDS[arch], kernel, 4, timeout=5)
    assert not result.ok
    assert problem in (result.problem or ""), result.output
