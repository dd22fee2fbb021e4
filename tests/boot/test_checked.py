"""A checked kernel stops where per-CPU data is misused, and its message names the variable or the area."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from boot.boards import BOARDS
from boot.qemu import boot


@dataclass(frozen=True)
class Misuse:
    """A change to demo.cpp, and the whole message."""

    old: str
    new: str
    message: str


END = "print_table(cpus);"
# As by an array in front of it that is written one too far.
BEHIND = "percpu::percpu_area_base(2) + percpu::percpu_area_size() - 4"
PREEMPTIBLE = 'extern "C" bool percpu_preemptible() noexcept { return all_run; }\n'
MISUSES = {
    "before init": Misuse(
        "const auto made = make_areas();",
        "online.write_current(true);\n    const auto made = make_areas();",
        "online: used before init or init_in_place",
    ),
    "base register": Misuse(
        END,
        f"percpu::write_percpu_reg(percpu::percpu_area_base(1) + 64);\n    mail.add_current(1);\n    {END}",
        "mail: the base register points outside every area: call init_percpu_reg on this CPU first",
    ),
    "CPU number": Misuse(
        END,
        f"*mail.remote_ptr(areas) = 1;\n    {END}",
        "mail: CPU number 4 is out of range: areas were made for 4 CPUs",
    ),
    "guard": Misuse(
        END,
        f"*reinterpret_cast<volatile uint8_t*>({BEHIND}) = 0;\n    mail.remote_ptr(2);\n    {END}",
        "area of CPU 2: the guard word behind its variables was overwritten; seen when mail was used",
    ),
    "raw": Misuse(
        END,
        f"all_run = true;\n    mail.add_current_raw(1);\n    {END}",
        "mail: used raw while the thread may be preempted: hold the CPU, or use a guarded accessor",
    ),
}
# Of the architectures whose updates take several steps, and of the one whose don't.
BOOTS = [*(("riscv64", name) for name in MISUSES), ("x86_64", "guard"), ("x86_64", "before init")]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    every = [(name, misuse) for name in ("aarch64", "arm", "riscv64", "riscv32", "loongarch64") for misuse in MISUSES]
    every += [("x86_64", misuse) for misuse in MISUSES if misuse != "raw"]
    metafunc.parametrize(("board_name", "misuse"), every if metafunc.config.getoption("--matrix") else BOOTS)


def test_misuse_stops_the_kernel(board_name: str, misuse: str, build_by_hand: Callable[..., Path]) -> None:
    case = MISUSES[misuse]
    changes = [("demo.cpp", case.old, case.new)]
    if misuse == "raw":
        changes.append(("demo.cpp", "namespace {\n\nBarrier", f"static bool all_run = false;\n{PREEMPTIBLE}\nnamespace {{\n\nBarrier"))
    kernel = build_by_hand(board_name=board_name, features=("checked",), changes=changes)
    result = boot(BOARDS[board_name], kernel, 4, timeout=60)
    assert result.problem == f"the kernel's check failed: percpu: {case.message}", result.output
