"""What the fragment does against each trap of linking: without it, percpu-check finds the trap in the program."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest
import toolchain
from check.builds import rules
from percpu_tools import check, render_fragment

ALIGN = "MAX(64, ALIGNOF(.percpu))"
STRIDE = f"ALIGN(SIZEOF(.percpu), {ALIGN})"
BEHIND = "ADDR(.percpu_table) + SIZEOF(.percpu_table) + SIZEOF(.percpu)"
LOADED_BEHIND = f"AT({BEHIND.replace('ADDR(.percpu_table)', 'LOADADDR(.percpu_table)', 1)})"
VARIABLES = (
    toolchain.variable("rest", 0x11)
    + toolchain.variable("read_mostly", 0x13, ".percpu..read_mostly.read_mostly")
    + '__attribute__((section(".percpu.wide"), used, aligned(0x100))) char percpu_storage_wide[0x110] = {1};\n'
)


@dataclass(frozen=True)
class Measure:
    """A line of the fragment, as it is without the measure, and what is found in the program then."""

    line: str
    without: str
    trap: str
    linkers: tuple[str, ...] = ("ld", "lld")


MEASURES = {
    "the template is loaded": Measure(".percpu 0x0 : AT", ".percpu 0x0 (NOLOAD) : AT", "T05"),
    "the template has a load address": Measure(" AT(LOADADDR(.percpu_table) + SIZEOF(.percpu_table))\n", " AT(0x300000)\n", "T06"),
    "the areas have an address": Measure(f" ({BEHIND}) (NOLOAD)", " (NOLOAD)", "T06"),
    "the areas begin a segment": Measure(f" ({BEHIND}) (NOLOAD) :\n    {LOADED_BEHIND}", f" ({BEHIND}) (NOLOAD) :", "T07", ("lld",)),
    "areas are a stride apart": Measure(STRIDE, "ALIGN(SIZEOF(.percpu), 64)", "T10"),
    "the runtime has the script's stride": Measure(f"_percpu_stride = ABSOLUTE({STRIDE}", f"_percpu_stride = ABSOLUTE({STRIDE} * 2", "T11"),
    "there is room for all areas": Measure(f". += {STRIDE} * 4", f". += {STRIDE} * 3", "T11"),
    "what follows lies behind the areas": Measure(
        "  . = ADDR(.percpu_areas) + SIZEOF(.percpu_areas);\n", "  . = ADDR(.percpu_areas);\n", "T23", ("ld",)
    ),
    "every variable is collected": Measure("    *(SORT_BY_ALIGNMENT(.percpu..read_mostly.*))\n    *(.percpu.*)\n", "", "T25"),
    "the script says CPU_NUM": Measure("_percpu_cpu_num = ABSOLUTE(4)", "_percpu_cpu_num = ABSOLUTE(8)", "T28"),
}


def judge(folder: Path, linker: str, fragment: str):
    kernel = toolchain.compile_c(folder, toolchain.KERNEL + VARIABLES + toolchain.note(arch="x86_64"))
    flags = ["--no-check-sections", "--no-warn-rwx-segments"] if linker == "ld" else ["--no-check-sections"]
    done = toolchain.try_link(folder, [kernel], [fragment, toolchain.HIGHER_HALF], *flags, linker=linker)
    assert done.returncode == 0, done.stderr
    return check(folder / "kernel.elf", cpu_num=4)


@pytest.mark.parametrize(
    ("measure", "linker"),
    [
        pytest.param(measure, linker, id=f"{name.replace(' ', '-')}-{linker}")
        for name, measure in MEASURES.items()
        for linker in measure.linkers
    ],
)
def test_without_it_the_trap_is_found(tmp_path: Path, measure: Measure, linker: str) -> None:
    fragment = render_fragment(4, "x86_64", linker=linker)
    assert measure.line in fragment
    # The fragment's own ASSERTs would end the link before.
    unguarded = re.sub(r'^ *ASSERT\(.*?"\)\n', "", fragment, flags=re.DOTALL | re.MULTILINE)
    assert "ASSERT(" not in unguarded
    assert measure.trap in rules(judge(tmp_path, linker, unguarded.replace(measure.line, measure.without)))


@pytest.mark.parametrize("linker", toolchain.LINKERS)
def test_with_all_of_them_nothing_is_found(tmp_path: Path, linker: str) -> None:
    assert judge(tmp_path, linker, render_fragment(4, "x86_64", linker=linker)).findings == ()
