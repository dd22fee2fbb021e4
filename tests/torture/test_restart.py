"""A sequence that is interrupted at any of its instructions happens as a whole, after the interrupt.

Each probe of the kernel restart.elf runs one sequence. For every instruction of it, up to its commit, the
probe is stopped before that instruction; the variable is changed as an interrupt handler on the same CPU
would; and the sequence goes on where percpu::restart_pc sends it. The outcome must be that of the handler
first and the operation after it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from boot.boards import BOARDS
from boot.conftest import scons
from elftools.elf.elffile import ELFFile
from matrix import MATRIX, Variant
from torture.stub import Stub, machine

# As in restart.cpp, and what the handler of this test writes.
INITIAL, OPERAND, FROM_HANDLER = 40, 3, 61

# operation: (value before, mask) -> (value given, value left)
OPERATIONS: dict[str, Callable[[int, int], tuple[int, int]]] = {
    "read": lambda value, mask: (value, value),
    "write": lambda value, mask: (0, OPERAND),
    "add": lambda value, mask: (0, value + OPERAND & mask),
    "sub": lambda value, mask: (0, value - OPERAND & mask),
    "and": lambda value, mask: (0, value & OPERAND),
    "or": lambda value, mask: (0, value | OPERAND),
    "xor": lambda value, mask: (0, value ^ OPERAND),
    "fetch_add": lambda value, mask: (value, value + OPERAND & mask),
    "exchange": lambda value, mask: (value, OPERAND),
    "compare_exchange": lambda value, mask: (1, OPERAND) if value == INITIAL else (0, value),
}

ROWS = [
    row
    for row in MATRIX
    if "restartable" in row.features and row.opt == "-O2" and not row.mode and "preempt" not in row.features
]


@dataclass(frozen=True)
class Registers:
    """The stub's numbers of registers: program counter, first argument and result, return address."""

    pc: int
    argument: int
    link: int


REGISTERS = {
    "aarch64": Registers(pc=32, argument=0, link=30),
    "arm": Registers(pc=15, argument=0, link=14),
    "riscv64": Registers(pc=32, argument=10, link=1),
    "riscv32": Registers(pc=32, argument=10, link=1),
    "loongarch64": Registers(pc=33, argument=4, link=1),
}


# Whether an instruction that begins with that halfword has no other: RISC-V Unprivileged ISA, "Base
# Instruction-Length Encoding"; Arm Architecture Reference Manual (ARMv7-A), A6.1.
IS_SHORT: dict[str, Callable[[int], bool]] = {
    "riscv64": lambda first: first & 3 != 3,
    "riscv32": lambda first: first & 3 != 3,
    "thumb": lambda first: first >> 11 < 0b11101,
}


class Probes:
    """A machine that stands at the beginning of restart.elf's probes."""

    def __init__(self, stub: Stub, kernel: Path, row: Variant) -> None:
        self.stub, self.registers = stub, REGISTERS[row.arch]
        # Bit 0 of a Thumb function's address is no part of it, but makes a branch there stay in Thumb state.
        self.thumb = int("-mthumb" in row.cxxflags)
        self.is_short = IS_SHORT.get("thumb" if self.thumb else row.arch, lambda first: False)
        with kernel.open("rb") as file:
            elf = ELFFile(file)
            self.word = elf.elfclass // 8
            symbols = list(elf.get_section_by_name(".symtab").iter_symbols())
        functions = sorted(
            (symbol["st_value"] & ~self.thumb, symbol.name) for symbol in symbols if symbol["st_info"]["type"] == "STT_FUNC"
        )
        self.symbols = {symbol.name: symbol["st_value"] for symbol in symbols}
        self.symbols.update((name, address) for address, name in functions)
        self._starts, self._names = zip(*functions)
        stub.run_to(self.symbols["primary_main"])
        self.sequences: dict[str, list[tuple[int, int]]] = {}
        for place in range(self.symbols["_percpu_restart_start"], self.symbols["_percpu_restart_end"], 8):
            start = (place + stub.read(place, 4)) & 0xFFFFFFFF | place & ~0xFFFFFFFF
            commit = start + stub.read(place + 4, 4)
            self.sequences.setdefault(self._names[bisect_right(self._starts, start) - 1], []).append((start, commit))

    def instructions(self, start: int, commit: int) -> list[int]:
        """The addresses of a sequence's instructions, the commit's the last."""
        places = [start]
        while places[-1] < commit:
            places.append(places[-1] + (2 if self.is_short(self.stub.read(places[-1], 2)) else 4))
        return places

    def value(self, symbol: str, index: int = 0) -> int:
        return self.stub.read(self.symbols[symbol] + index * self.word, self.word)

    def where_to_restart(self, pc: int) -> int:
        """Lets the machine call percpu::restart_pc, and puts its registers back."""
        before, home = self.stub.registers(), self.symbols["probe_done"]
        for register, value in (
            (self.registers.argument, pc),
            (self.registers.link, home | self.thumb),
            (self.registers.pc, self.symbols["where_to_restart"]),
        ):
            self.stub.set_register(register, self.word, value)
        self.stub.run_to(home)
        result = self.stub.register(self.registers.argument)
        self.stub.set_registers(before)
        return result

    def interrupt(self, place: int, fix: bool) -> tuple[tuple[int, int], int]:
        """Interrupts the probe at `place`; gives what it gave and left, and the variable's size."""
        self.stub.run_to(place)
        size = self.value("watched_size")
        self.stub.write(self.value("watched"), size, FROM_HANDLER)
        if fix:
            self.stub.set_register(self.registers.pc, self.word, self.where_to_restart(place))
        self.stub.run_to(self.symbols["probe_done"])
        return (self.value("outcome"), self.value("outcome", 1)), size

    def all_interrupts(self, fix: bool) -> tuple[int, list[str]]:
        """Interrupts everything everywhere; gives how often, and the probes with a wrong outcome."""
        stops, wrong = 0, []
        for operation, outcome in OPERATIONS.items():
            for name in ("far_8", "far_16", "far_32", "far_word", "near_8", "near_16", "near_32", "near_word"):
                probe = f"{operation}_{name}"
                # The first sequence gives the variable its initial value, the last reads the outcome.
                _, (start, commit), _ = self.sequences[f"probe_{probe}"]
                for place in self.instructions(start, commit):
                    result, size = self.interrupt(place, fix)
                    stops += 1
                    if result != outcome(FROM_HANDLER, (1 << 8 * size) - 1):
                        wrong.append(probe)
        return stops, wrong


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.config.getoption("--matrix"):
        rows = ROWS
    else:
        rows = list({row.arch: row for row in reversed(ROWS)}.values())
    metafunc.parametrize("row", rows, ids=lambda row: row.name)


def test_every_instruction_may_be_interrupted(row: Variant) -> None:
    kernel = scons(f"VARIANTS={row.name}", folder="build/matrix").kernel(row, "restart")
    with machine(BOARDS[row.board], kernel) as stub:
        probes = Probes(stub, kernel, row)
        stops, wrong = probes.all_interrupts(fix=True)
        assert wrong == []

        # Left where it was, a sequence that has loaded the variable already stores over the handler's change.
        stops_unfixed, wrong = probes.all_interrupts(fix=False)
        assert stops == stops_unfixed >= 160
        assert {f"{operation}_far_32" for operation in ("add", "fetch_add", "exchange", "compare_exchange")} <= set(wrong)
