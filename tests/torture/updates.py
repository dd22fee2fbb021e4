"""Runs the torture kernel: what was updated and what was lost, with all measures against that and without one."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from boot.boards import BOARDS
from boot.conftest import scons
from boot.qemu import Boot, boot, one_instruction_at_a_time
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection
from matrix import Variant

NOTHING = "nothing"
# What a kernel can be told to leave out, by their numbers in measures.hpp.
_MEASURES = (NOTHING, "guards", "masks", "single instructions", "restarts", "counts in threads")


def measures(row: Variant) -> list[str]:
    """What keeps updates whole in the kernels of `row`, each of which can be left out."""
    if "restartable" in row.features:
        words = ["restarts"]
    else:
        words = ["single instructions"] if row.arch == "x86_64" else []
    guards = ["guards"] if "preempt" in row.features else []
    # A count of the guards on each CPU would itself be updated in several steps. On LoongArch nothing is lost by
    # that, for load and store take the base anew: threads are moved from a count of 0 to a count of 0.
    if guards and not words and row.arch != "loongarch64":
        guards.append("counts in threads")
    # Without guards, and where words take several steps, interrupts are masked.
    return words + guards or ["masks"]


@dataclass(frozen=True)
class Outcome:
    """What one run of the kernel said."""

    boot: Boot
    made: int
    """Updates of per-CPU variables, by threads and by the interrupt handlers."""
    lost: int
    """By how much their sums and other traces are off."""
    moves: int
    """How often a thread went on on another CPU than the one where it was interrupted."""
    interrupts: int
    fewest_interrupts: int
    """Those of the CPU that had the fewest."""

    @property
    def rate(self) -> int:
        """Interrupts in a second on the CPU that had the fewest, with the time that QEMU and the kernel take to start."""
        return round(self.fewest_interrupts / self.boot.seconds)


@dataclass(frozen=True)
class Torture:
    """The runs of one row: with all measures, and without each of them in turn."""

    row: Variant
    whole: Outcome
    without: dict[str, Outcome]

    @property
    def problems(self) -> list[str]:
        """What is not as it has to be, in plain lines."""
        runs = {NOTHING: self.whole, **self.without}
        bad = ((name, run.boot) for name, run in runs.items() if not run.boot.ok)
        found = [f"without {name}: {boot.problem}\n{boot.output}" for name, boot in bad]
        found += [f"without {name}: nothing is lost" for name, run in self.without.items() if run.lost == 0]
        if self.whole.lost != 0:
            found.append(f"{self.whole.lost} of {self.whole.made} updates are lost")
        return found

    def __str__(self) -> str:
        controls = (f"{run.lost} without {name}" for name, run in self.without.items())
        return (
            f"{self.row.name}: {self.whole.made} updates, {self.whole.lost} lost ({', '.join(controls)}); "
            f"{self.whole.interrupts} interrupts, {self.whole.rate} a second and CPU, {self.whole.moves} moves, "
            f"{self.whole.boot.seconds:.1f} s"
        )


def build(rows: Iterable[Variant]) -> dict[Variant, Path]:
    """The folders with the kernels of the rows."""
    rows = list(rows)
    folder = "build/matrix"
    targets = {
        f"{folder}/{row.name}/{_kernel(without)}" for row in rows for without in (NOTHING, *measures(row))
    }
    built = scons(f"VARIANTS={','.join(row.name for row in rows)}", *sorted(targets), folder=folder)
    return {row: built.kernel(row, "torture").parent for row in rows}


def cpus_at_once(row: Variant) -> int:
    """How many CPUs of `row` this machine can run at the same time, at least two of them.

    More of them take turns of some milliseconds, and a CPU whose turn it is not has no interrupts.
    """
    return max(2, min(row.cpus, os.cpu_count() or 1))


def torture(row: Variant, folder: Path, updates: int, cpus: int) -> Torture:
    """Make at least `updates` updates with the kernels in `folder`, with all measures and without each."""
    runs = {name: _run(row, folder, updates, cpus, name) for name in (NOTHING, *measures(row))}
    return Torture(row, runs.pop(NOTHING), runs)


def _kernel(without: str) -> str:
    # Whether a trap restarts sequences is decided when its code is compiled.
    return "torture-unrestarted.elf" if without == "restarts" else "torture.elf"


def _run(row: Variant, folder: Path, updates: int, cpus: int, without: str) -> Outcome:
    kernel = folder / _kernel(without)
    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(temporary) / kernel.name
        copy.write_bytes(_with_parameters(kernel, updates, _MEASURES.index(without)))
        # Slow hosts make a few ten thousand updates a second.
        result = boot(one_instruction_at_a_time(BOARDS[row.board]), copy, cpus, timeout=60 + updates / 10_000)
    said = {name: int(number) for name, number in re.findall(r"^([A-Za-z ]+): (\d+)$", result.output, re.MULTILINE)}
    return Outcome(
        boot=result,
        made=said.get("updates by threads", 0) + said.get("updates by handlers", 0),
        lost=said.get("lost", 0),
        moves=said.get("moves", 0),
        interrupts=said.get("ticks", 0),
        fewest_interrupts=said.get("fewest ticks of a CPU", 0),
    )


def _with_parameters(kernel: Path, *values: int) -> bytes:
    """The kernel's file with other values in its torture_parameters."""
    with kernel.open("rb") as file:
        elf = ELFFile(file)
        word = elf.elfclass // 8
        symbols = elf.get_section_by_name(".symtab")
        assert isinstance(symbols, SymbolTableSection), kernel
        found = symbols.get_symbol_by_name("torture_parameters")
        assert found, kernel
        at = next(iter(elf.address_offsets(found[0]["st_value"])))
    image = bytearray(kernel.read_bytes())
    for place, value in enumerate(values):
        image[at + place * word : at + (place + 1) * word] = value.to_bytes(word, "little")
    return bytes(image)
