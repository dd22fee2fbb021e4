"""The instructions of each access, counted in the disassembly of code that a user would write."""

from __future__ import annotations

import re
import subprocess

import pytest
from cxx.build import COMPILERS, FREESTANDING, HERE, compile_object

# The whole access as compiled into a function, without the return.
X86_64 = {
    "read_far": 1,
    "read_near": 1,
    "read_byte_far": 1,
    "write_far": 1,
    "write_near": 1,
    "pointer_far": 2,
    "pointer_near": 2,
    "add_far": 1,
    "add_near": 1,
    "sub_far": 1,
    "and_far": 1,
    "or_far": 1,
    "xor_far": 1,
}
# Besides the one instruction these have moves between the registers of the calling convention and
# those that the instruction wants.
X86_64_ONE_ACCESS = {"fetch_add_far": "xadd", "exchange_far": "xchg", "compare_exchange_far": "cmpxchg"}

LAYOUTS = {
    "zero-vma": ("-fno-pic", *FREESTANDING),
    "zero-vma-higher-half": ("-fno-pic", "-mcmodel=kernel", *FREESTANDING),
    "in-image": ("-fno-pic", "-DPERCPU_NON_ZERO_VMA", *FREESTANDING),
    "in-image-pie": ("-fpie", "-DPERCPU_NON_ZERO_VMA", *FREESTANDING),
    "preempt": ("-fno-pic", "-DPERCPU_PREEMPT", *FREESTANDING),
}


def disassemble(path) -> dict[str, list[str]]:
    """The instructions of each function, without padding and the return."""
    text = subprocess.run(
        ["objdump", "-d", "--no-show-raw-insn", str(path)], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    functions: dict[str, list[str]] = {}
    for line in text.splitlines():
        if head := re.match(r"[0-9a-f]+ <(\w+)>:", line):
            body = functions.setdefault(head[1], [])
        elif instruction := re.match(r"\s+[0-9a-f]+:\s+(\S.*)", line):
            if not re.match(r"(ret|nop|cs nop|data16|xchg +%ax,%ax)", instruction[1]):
                body.append(instruction[1].strip())
    return functions


@pytest.mark.parametrize("compiler", COMPILERS.values(), ids=COMPILERS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_x86_64_counts(tmp_path, compiler, layout):
    target = tmp_path / "counts.o"
    done = compile_object(compiler, HERE / "counts.cpp", target, "-O2", *LAYOUTS[layout])
    assert done.returncode == 0, done.stderr
    functions = disassemble(target)
    assert {name: len(functions[name]) for name in X86_64} == X86_64, functions
    for name, mnemonic in X86_64_ONE_ACCESS.items():
        accesses = [instruction for instruction in functions[name] if "%gs:" in instruction]
        assert len(accesses) == 1 and accesses[0].startswith(mnemonic), functions[name]
        assert "call" not in " ".join(functions[name])
