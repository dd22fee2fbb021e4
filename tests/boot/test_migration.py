"""A thread that the timer interrupt moves between CPUs finds the copies of the CPU where it runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from boot.boards import BOARDS
from boot.qemu import boot, one_instruction_at_a_time
from percpu_tools import check

RISCV = ("riscv64", "riscv64-s-mode", "riscv32")
# Boards with the functions of switch.hpp, and a change by which trap code restores the base register.
RESTORING = {
    **dict.fromkeys(RISCV, ("riscv/entry.S", "t4, t5, t6", "t4, t5, gp")),
    "aarch64": (
        "aarch64/entry.S",
        "bl handle_interrupt",
        "mrs x1, tpidr_el1; str x1, [sp, #-16]!; bl handle_interrupt; ldr x1, [sp], #16; msr tpidr_el1, x1",
    ),
    "arm": (
        "arm/entry.S",
        "bl handle_interrupt",
        "mrc p15, 0, r1, c13, c0, 3; push {r1, r2}; bl handle_interrupt; pop {r1, r2}; mcr p15, 0, r1, c13, c0, 3",
    ),
    "loongarch64": (
        "loongarch64/entry.S",
        "bl trap",
        "addi.d $sp, $sp, -16; st.d $r21, $sp, 0; bl trap; ld.d $r21, $sp, 0; addi.d $sp, $sp, 16",
    ),
    "x86_64": (
        "x86_64/board.cpp",
        "    on_tick();\n",
        'uint32_t low, high; asm volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(0xc0000101)); on_tick();'
        'asm volatile("wrmsr" : : "a"(low), "d"(high), "c"(0xc0000101));',
    ),
}
NAMES = tuple(RESTORING)
RESTARTABLE = tuple(name for name in NAMES if name != "x86_64")
# ... and one by which threads keep it.
KEEPING = {
    **dict.fromkeys(RISCV, ("riscv/switch.S", "s10, s11", "s10, gp")),
    "loongarch64": ("loongarch64/switch.S", "$s8", "$r21"),
}


@pytest.mark.parametrize("name", NAMES)
def test_a_moved_thread_finds_the_copies_of_its_cpu(name: str, build_by_hand: Callable[..., Path]) -> None:
    result = boot(BOARDS[name], build_by_hand(main="migrate.cpp", board_name=name), 2)
    assert result.ok, f"{result.problem}\n{result.output}"


@pytest.mark.parametrize("name", RESTARTABLE)
def test_a_moved_thread_loses_no_update(name: str, build_by_hand: Callable[..., Path]) -> None:
    kernel = build_by_hand(main="migrate.cpp", board_name=name, features=("restartable",))
    result = boot(one_instruction_at_a_time(BOARDS[name]), kernel, 2)
    assert result.ok, f"{result.problem}\n{result.output}"


@pytest.mark.parametrize("name", NAMES)
def test_trap_code_that_restores_the_base_register_fails(name: str, build_by_hand: Callable[..., Path]) -> None:
    kernel = build_by_hand(main="migrate.cpp", board_name=name, changes=[RESTORING[name]])
    result = boot(BOARDS[name], kernel, 2, timeout=10)
    assert "finds the copies of the CPU where it runs" in (result.problem or ""), result.output


@pytest.mark.parametrize("name", KEEPING)
def test_threads_that_keep_the_base_register_fail(name: str, build_by_hand: Callable[..., Path]) -> None:
    kernel = build_by_hand(main="migrate.cpp", board_name=name, changes=[KEEPING[name]])
    result = boot(BOARDS[name], kernel, 2, timeout=10)
    assert not result.ok, result.output


@pytest.mark.parametrize("name", RESTARTABLE)
def test_a_trap_path_that_restarts_nothing_loses_updates(name: str, build_by_hand: Callable[..., Path]) -> None:
    restart = "    frame.pc = percpu::restart_pc(frame.pc);\n"
    board_source = next(source for source in BOARDS[name].machine_sources if source.endswith("/board.cpp"))
    changes = [(board_source, restart, "")]
    kernel = build_by_hand(main="migrate.cpp", board_name=name, features=("restartable",), changes=changes)
    assert [finding.rule for finding in check(kernel).findings if finding.level == "error"] == ["T18"]
    result = boot(one_instruction_at_a_time(BOARDS[name]), kernel, 2)
    assert "no update is lost" in (result.problem or ""), result.output
