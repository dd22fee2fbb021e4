"""Rules about restartable sequences: whether anything restarts them, and what the table says in which percpu::restart_pc
looks them up."""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from percpu_tools.findings import STRIPPED, Finding, NotJudged
from percpu_tools.image import Image, Section
from percpu_tools.layout import Layout
from percpu_tools.rules import rule

_START, _END = "_percpu_restart_start", "_percpu_restart_end"
# Local symbols, one wherever percpu::restart_pc is compiled in and was not collected as unused.
_RESTARTS = b"percpu:restart_pc:"
# Defined by kernels that search the table with code of their own.
_CALLED = "_percpu_restart_called"
# What the code's own sections are called, and the fragment's.
_INPUTS, _TABLE = "percpu_restart", ".percpu_restart"

# The start relative to the entry, and the bytes from there to the commit (RestartEntry in percpu/restart.hpp). Neither
# needs a relocation at run time, so a PIE's table reads as any other's.
_ENTRY = "iI"


class _Sequence(NamedTuple):
    start: int
    commit: int


@rule("T18", "restart-never-called", "restartable sequences that nothing restarts")
def restart_never_called(layout: Layout, image: Image) -> Iterator[Finding | NotJudged]:
    """
    Mechanism
      With the feature restartable an update of a per-CPU word is a sequence of instructions, and no guard holds
      the CPU meanwhile. It is safe only because the trap path sends an interrupted thread back to the sequence's
      start: frame.pc = percpu::restart_pc(frame.pc). Without that, a thread that was interrupted between the load
      and the store overwrites what the handler wrote, or what another CPU has meanwhile in its copy: an update is
      lost, now and then, and nothing says so.

    Reproduce
      PERCPU_RESTARTABLE, counter.add_current(1) in a thread and in a timer's handler, and a trap path that returns
      to frame.pc as it was; or one that is compiled without PERCPU_RESTARTABLE, where restart_pc changes nothing.

    Mend
      1. In the trap's return path to kernel code: frame.pc = percpu::restart_pc(frame.pc) (PORTING.md has each
         architecture's).
      2. Nothing interrupts the kernel: build it without restartable.
      3. Trap code that looks the table up by itself: .globl _percpu_restart_called; .set _percpu_restart_called, 1
         beside it.

    Evidence
      The runtime's note, and the local symbols (percpu:restart_pc:...) that percpu::restart_pc leaves wherever it is
      compiled in, unless the linker collected that as unused; no instruction is read. Whether the trap path calls
      the function that holds it is not seen.
    """
    if layout.note is None or "restartable" not in layout.note.features or layout.value(_CALLED) is not None:
        return
    if image.symbols(_RESTARTS):
        return
    sections = {section.name: section for section in image.sections if section.size}
    table = sections.get(_TABLE) or sections.get(_INPUTS)
    first, end = layout.value(_START), layout.value(_END)
    # A kernel without a sequence has none to restart.
    size = end - first if first is not None and end is not None else table.size if table else 0
    if size <= 0:
        return
    if not image.has_local_symbols:
        yield NotJudged("whether anything restarts the sequences: the file has no local symbols, whose names tell")
        return
    yield Finding(
        "error",
        "the kernel is built restartable, and no code of it calls percpu::restart_pc: interrupted updates are lost",
        section=table.name if table else None,
        found=f"{size // struct.calcsize(_ENTRY)} restartable sequences, and no code that restarts them",
        expected="a trap path that calls percpu::restart_pc",
        fix=(
            "before the trap path returns to kernel code: frame.pc = percpu::restart_pc(frame.pc)",
            "compile the trap path with the feature, too: without PERCPU_RESTARTABLE restart_pc changes nothing",
            "build without restartable where nothing interrupts the kernel",
            f"if code of your own looks the table up, define {_CALLED} beside it",
        ),
    )


@rule("T19", "unsorted-restart-table", "percpu::restart_pc misses restartable sequences", needs_symbols=False)
def unsorted_restart_table(layout: Layout, image: Image) -> Iterator[Finding | NotJudged]:
    """
    Mechanism
      restart_pc looks for an interrupted sequence by a binary search, so the entries must ascend by address.
      The linker sorts them: each section percpu_restart is tied to the section of its code (SHF_LINK_ORDER).
      GNU ld -r (2.40; 2.44 no more) joins the sections percpu_restart of its inputs into one, which can be tied to
      one section only. Their entries keep the order of the objects, whatever the final link does with the code. The
      search then misses sequences, and an update that was interrupted is lost, or goes to the CPU that the thread
      left.

    Reproduce
      PERCPU_RESTARTABLE, updates in a.cpp and b.cpp, and
      ld -r a.o b.o -o built-in.o
      where both have functions in .text and inline or cold ones in other sections: the code is joined section
      by section, and the table object by object.

    Mend
      1. ld -r --unique=percpu_restart, which joins none of them.
      2. lld: ld.lld -r keeps them apart.
      3. Give the final link the objects themselves, or an archive (ar with the modifier T).

    Evidence
      The bytes from _percpu_restart_start to _percpu_restart_end: no instruction is read.
    """
    first, end = layout.value(_START), layout.value(_END)
    if first is None or end is None:
        if not image.has_symbols and layout.note is not None and "restartable" in layout.note.features:
            yield NotJudged(STRIPPED)
        return
    if first == end:
        return
    holding = (section for section in image.sections if section.is_allocated)
    table = next((section for section in holding if section.address <= first < end <= section.end), None)
    if table is None or not table.has_bytes:
        yield NotJudged(f"no section of the file holds what lies from {_START} to {_END}")
        return
    sequences = _read(image, table, first, end)
    wrong = list(_no_code(image, table, sequences, (end - first) % struct.calcsize(_ENTRY)))
    # What is no sequence has no place in an order.
    yield from wrong or _no_order(image, table, sequences)


def _read(image: Image, table: Section, first: int, end: int) -> list[_Sequence]:
    entry = struct.Struct(("<" if image.little_endian else ">") + _ENTRY)
    data = image.data(table, first, (end - first) // entry.size * entry.size)
    mask = (1 << image.elf_class) - 1
    sequences = []
    for place, (distance, length) in zip(range(first, end, entry.size), entry.iter_unpack(data)):
        start = place + distance & mask
        # A commit in front of the start is a length below 0.
        sequences.append(_Sequence(start, start + (length if length < 1 << 31 else length - (1 << 32))))
    return sequences


def _no_code(image: Image, table: Section, sequences: list[_Sequence], rest: int) -> Iterator[Finding]:
    """The entries that can be none: the assembly of sequence.hpp writes no such ones."""
    from percpu_tools import code

    homes = sorted(code.sections(image), key=lambda home: home.address)
    addresses = [home.address for home in homes]

    def is_code(one: _Sequence) -> bool:
        index = bisect_right(addresses, one.start) - 1
        return index >= 0 and one.commit < homes[index].end

    wrong = [one for one in sequences if one.commit < one.start or not is_code(one)]
    if not wrong and not rest:
        return
    if wrong:
        start, commit = wrong[0]
        more = f"; {len(wrong) - 1} more such entries" if len(wrong) > 1 else ""
        found = f"a sequence from {start:#x} to {commit:#x}{more}"
    else:
        found = f"{rest} bytes behind the last entry"
    yield Finding(
        "error",
        "the table of restartable sequences holds what is no sequence: restart_pc may send a thread anywhere",
        symbol=_START,
        section=table.name,
        found=found,
        expected="entries of 8 bytes, for code that begins at or before its commit",
        fix=(
            "put nothing but *(percpu_restart) between the table's two symbols in the linker script",
            "in assembly of your own, write an entry as `.long start - ., commit - start`",
        ),
    )


def _no_order(image: Image, table: Section, sequences: list[_Sequence]) -> Iterator[Finding]:
    early = [(before, one) for before, one in zip(sequences, sequences[1:]) if one.start <= before.start]
    over = [(before, one) for before, one in zip(sequences, sequences[1:]) if before.start < one.start <= before.commit]
    if not early and not over:
        return
    from percpu_tools import code

    for pairs, message, expected, fix in (
        (
            early,
            "the table of restartable sequences is not sorted by address: restart_pc misses some of them",
            "entries that ascend by address",
            (
                "link partially with `ld -r --unique=percpu_restart`, which keeps each section's entries apart",
                "link partially with ld.lld -r, which keeps them apart too",
                "give the final link the objects themselves",
            ),
        ),
        (
            over,
            "restartable sequences overlap: restart_pc sends a thread back to the wrong one's start",
            "sequences that begin behind the commit of the one before",
            ("in assembly of your own, let a sequence end in its commit, and nest none",),
        ),
    ):
        for before, one in pairs[:1]:
            home = next(home for home in code.sections(image) if home.address <= one.start < home.end)
            function, where = code.place(image, home, one.start)
            yield Finding(
                "error",
                message,
                symbol=function,
                section=table.name,
                found=f"the sequence at {where} behind the one from {before.start:#x} to {before.commit:#x}, "
                f"{len(pairs)} such places in {len(sequences)} entries",
                expected=expected,
                fix=fix,
            )

