"""The ELF file's size and the link's time by CPU_NUM: our fragment, and the one in the Rust crate's README.

A kernel of a few hundred bytes with a template of 4 KiB, in the zero-VMA layout, so that what is seen is
the areas' own. The README's fragment holds the areas inside `.percpu`, hence in the file.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import percpu_tools
import toolchain
from bench.results import Goal, Spread, Table
from bench.run import BUILD

CPU_NUMS = (1, 16, 256, 4096)
TEMPLATE = 4096
# Within what the time counts as flat: links of tens of milliseconds vary by more than nothing.
FLAT = 1.1


def measure(quick: bool, progress: Callable[[str], None]) -> Table:
    columns = ("linker", "CPU_NUM", "bytes, ours", "bytes, README's", "ms, ours", "ms, README's")
    table = Table("link", "The linked file by CPU_NUM, a template of 4 KiB", columns)
    folder = BUILD / "link"
    folder.mkdir(exist_ok=True)
    block = f'__attribute__((section(".percpu.block"), used)) char percpu_storage_block[{TEMPLATE}] = {{1}};\n'
    kernel = toolchain.compile_c(folder, toolchain.KERNEL + block)

    rounds = 1 if quick else 15
    times: dict[tuple[str, int, bool], list[float]] = {}
    sizes: dict[tuple[str, int, bool], int] = {}
    keys = [(linker, cpu_num, ours) for linker in toolchain.LINKERS for cpu_num in CPU_NUMS for ours in (True, False)]
    scripts = {key: _ours(key[1], key[0]) if key[2] else _readme(key[1]) for key in keys}
    order = random.Random(0)
    for number in range(rounds):
        progress(f"round {number + 1} of {rounds}")
        # A large file is still being written to the disk while the next links run: let that be any of them.
        order.shuffle(keys)
        for key in keys:
            start = time.perf_counter()
            linked = toolchain.link(folder, [kernel], scripts[key], linker=key[0])
            times.setdefault(key, []).append((time.perf_counter() - start) * 1000)
            sizes[key] = linked.stat().st_size

    for linker in toolchain.LINKERS:
        for cpu_num in CPU_NUMS:
            size = [sizes[linker, cpu_num, ours] for ours in (True, False)]
            taken = [Spread.of(times[linker, cpu_num, ours]) for ours in (True, False)]
            table.rows.append((linker, cpu_num, *size, *taken))
        own = {sizes[linker, cpu_num, True] for cpu_num in CPU_NUMS}
        found = f"{', '.join(map(str, sorted(own)))} bytes"
        table.goals.append(Goal(f"{linker}: file size flat in CPU_NUM", found, len(own) == 1))
        growth = Spread.of_ratios(times[linker, CPU_NUMS[-1], True], times[linker, CPU_NUMS[0], True])
        found = f"{growth.median:.2f} times from {CPU_NUMS[0]} to {CPU_NUMS[-1]} CPUs"
        table.goals.append(Goal(f"{linker}: link time flat in CPU_NUM", found, growth.median <= FLAT))
    return table


def _ours(cpu_num: int, linker: str) -> list[str]:
    return [percpu_tools.render_fragment(cpu_num, "x86_64", linker=linker), toolchain.HIGHER_HALF]


def _readme(cpu_num: int) -> list[str]:
    section = toolchain.SEED_SECTION.replace("ALIGN(64) * 4;", f"ALIGN(64) * {cpu_num};")
    return [toolchain.HIGHER_HALF.replace("  . = ALIGN(16);", section)]
