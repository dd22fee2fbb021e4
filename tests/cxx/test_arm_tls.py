"""ARM: thread-local storage and the default base register want the same register (T22).

No compiler says by a macro how it reaches thread-local storage, so no header can refuse -mtp=cp15. The
measure is base-register=TPIDRPRW; PORTING.md says when.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from cxx.build import FREESTANDING, compile_object
from cxx.compilers import ALL, Compiler

ARM = [compiler for compiler in ALL if compiler.arch == "arm"]
SOURCE = """
#include <percpu/percpu.hpp>
thread_local int of_a_thread;
PERCPU_DEFINE(int, of_a_cpu, 0);
extern "C" int read_thread() { return of_a_thread; }
extern "C" int read_cpu() { return of_a_cpu.read_current(); }
"""
TPIDRURO, TPIDRPRW = "c13, c0, 3", "c13, c0, 4"


def registers(folder: Path, compiler: Compiler, function: str, *flags: str) -> list[str]:
    """The software thread ID registers that `function` reads."""
    source, target = folder / "tls.cpp", folder / "tls.o"
    source.write_text(SOURCE)
    done = compile_object(compiler.command, source, target, "-O2", "-fno-pic", "-ffunction-sections", *FREESTANDING, *flags)
    assert done.returncode == 0, done.stderr
    command = [compiler.objdump, "-d", "-j", f".text.{function}", str(target)]
    code = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    # GNU objdump writes "cr13, cr0, {3}", LLVM's "c13, c0, #0x3".
    return [f"c13, c0, {opcode}" for opcode in re.findall(r"\bmrc\b.* cr?13, cr?0, [{#](?:0x)?(\d)", code)]


@pytest.mark.parametrize("compiler", ARM, ids=lambda compiler: compiler.label)
class TestThreadLocalStorage:
    def test_it_reads_the_default_base_register(self, tmp_path, compiler):
        assert registers(tmp_path, compiler, "read_thread", "-mtp=cp15") == [TPIDRURO]
        assert registers(tmp_path, compiler, "read_cpu", "-mtp=cp15") == [TPIDRURO]

    def test_tpidrprw_keeps_out_of_its_way(self, tmp_path, compiler):
        flags = ("-mtp=cp15", "-DPERCPU_BASE_REGISTER=TPIDRPRW")
        assert registers(tmp_path, compiler, "read_thread", *flags) == [TPIDRURO]
        assert registers(tmp_path, compiler, "read_cpu", *flags) == [TPIDRPRW]

    def test_no_macro_tells(self, compiler):
        """If one does some day, arch/arm.hpp can refuse what is now documented only."""
        macros = [
            subprocess.run(
                [*compiler.command, f"-mtp={how}", "-dM", "-E", "-xc++", "/dev/null"],
                capture_output=True,
                text=True,
                check=True,
                timeout=60,
            ).stdout
            for how in ("cp15", "soft")
        ]
        assert macros[0] == macros[1]
