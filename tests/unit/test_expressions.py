"""What the linkers take for an expression is one, and what neither takes is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import toolchain
from percpu_tools.expressions import flaw

RIGHT = [
    "0xffffffff80000000",
    "KERNEL_VMA",
    "KERNEL_VMA + 2M - 0x100",
    "-(-1 - 0xfff)",
    "ADDR(.text) - LOADADDR(.text)",
    "DEFINED(KERNEL_VMA) ? KERNEL_VMA : 0",
    "MAX(KERNEL_VMA, (1 << 4) | 0x10)",
    "~0 & (KERNEL_VMA >= 1 && !0)",
    ". - LOADADDR(.text)",
    "0 ? 1 : 0 ? 2 : 3",
    "10h",
]
WRONG = {
    "1 +": "there is no value behind '+'",
    "foo bar": "there is no operator between 'foo' and 'bar'",
    "1 * / 2": "there is no value in front of '/'",
    "* 2": "there is no value in front of '*'",
    "(1": "its parentheses do not match",
    "1)": "its parentheses do not match",
    "()": "there is no value in front of ')'",
    "(1)(2)": "there is no operator between ')' and '('",
    "1, 2": "a ',' stands outside the arguments of a function",
    "MAX(1, (2, 3))": "a ',' stands outside the arguments of a function",
    "1 ? 2": "a '?' has no ':' behind it",
    "(1 ? 2)": "a '?' has no ':' behind it",
    "1 : 2": "a ':' has no '?' in front of it",
    "12abc": "'12abc' is no part of an expression",
    "KERNEL_VMA @ 2": "'@' is no part of an expression",
    "1 = 2": "'=' is no part of an expression",
    "1 ! 2": "there is no operator between '1' and '!'",
    "+": "there is no value behind '+'",
    "": "it is empty",
}


def linked(folder: Path, linker: str, expression: str) -> int:
    kernel = toolchain.compile_c(folder, toolchain.KERNEL)
    script = folder / "kernel.ld"
    script.write_text(toolchain.HIGHER_HALF.replace("  .data :", f"  offset = ({expression});\n  .data :"))
    command = [toolchain.LINKERS[linker], "-T", str(script), str(kernel), "-o", str(folder / "kernel.elf")]
    return toolchain.run(command, check=False).returncode


@pytest.mark.parametrize("linker", sorted(toolchain.LINKERS))
@pytest.mark.parametrize("expression", RIGHT)
def test_right(tmp_path: Path, linker: str, expression: str) -> None:
    assert flaw(expression) is None
    assert linked(tmp_path, linker, expression) == 0


@pytest.mark.parametrize("linker", sorted(toolchain.LINKERS))
@pytest.mark.parametrize("expression", WRONG)
def test_wrong(tmp_path: Path, linker: str, expression: str) -> None:
    assert flaw(expression) == WRONG[expression]
    assert linked(tmp_path, linker, expression) != 0
