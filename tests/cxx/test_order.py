"""What the compiler may move, and what a guard or a write keeps in its place."""

from __future__ import annotations

import re

import pytest
from cxx.build import FREESTANDING, HERE, compile_object
from cxx.compilers import ALL, Compiler
from cxx.test_counts import disassemble

# A fetch of the base register, or a load by it.
BASE = {
    "x86_64": r"%gs:",
    "aarch64": r"mrs\b.*tpidr_el1",
    "arm": r"mrc\b",
    "riscv64": r"\(gp\)|, ?gp\b",
    "riscv32": r"\(gp\)|, ?gp\b",
    "loongarch64": r"\$r21\b",
}


def functions(folder, compiler: Compiler, *flags: str) -> dict[str, list[str]]:
    target = folder / "order.o"
    hooks = (f'-DPERCPU_PREEMPT_HEADER="{HERE / "order.hpp"}"', "-DPERCPU_PREEMPT")
    done = compile_object(compiler.command, HERE / "order.cpp", target, "-O2", "-fno-pic", *FREESTANDING, *hooks, *flags)
    assert done.returncode == 0, done.stderr
    return disassemble(compiler.objdump, target)


@pytest.mark.parametrize("compiler", [c for c in ALL if c.arch in ("x86_64", "aarch64")], ids=lambda compiler: compiler.label)
@pytest.mark.parametrize("opt", ["-O2", "-O3", "-Os"])
def test_what_is_guarded_stays_between_the_hooks(tmp_path, compiler, opt):
    body = functions(tmp_path, compiler, opt)["in_a_guard"]
    hooks = [place for place, line in enumerate(body) if re.search(r"\b(0x1111|0x2222|4369|8738)\b", line)]
    assert len(hooks) == 2, body
    guarded = r"%gs:|\(%r(?!ip)[a-z0-9]+\)" if compiler.arch == "x86_64" else r"tpidr_el1|ld[rp]\s+x"
    accesses = [place for place, line in enumerate(body) if re.search(guarded, line, re.IGNORECASE)]
    assert accesses and hooks[0] < accesses[0] and accesses[-1] < hooks[1], body


@pytest.mark.parametrize("compiler", ALL, ids=lambda compiler: compiler.label)
def test_a_stable_read_is_done_again_behind_a_guard_or_a_write(tmp_path, compiler):
    compiled = functions(tmp_path, compiler)
    reads = {
        name: sum(bool(re.search(BASE[compiler.arch], line, re.IGNORECASE)) for line in compiled[name])
        for name in ("at_once", "in_two_guards", "behind_a_write")
    }
    # The write finds the base for itself.
    assert reads == {"at_once": 1, "in_two_guards": 2, "behind_a_write": 3}, compiled
