"""Each file in uses/ is right, and compiles without a warning; its first line tells what it is about."""

from __future__ import annotations

import pytest
from cxx.build import FREESTANDING, HERE, WARNINGS, compile_object
from cxx.compilers import ALL

USES = sorted((HERE / "uses").glob("*.cpp"))


@pytest.mark.parametrize("compiler", ALL, ids=lambda compiler: compiler.label)
@pytest.mark.parametrize("source", USES, ids=lambda path: path.stem)
def test_use_is_taken(tmp_path, compiler, source):
    for optimization in ("-O0", "-O2"):
        flags = (optimization, "-fno-pic", *FREESTANDING, *WARNINGS)
        done = compile_object(compiler.command, source, tmp_path / "use.o", *flags)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("compiler", [c for c in ALL if c.arch == "aarch64"], ids=lambda compiler: compiler.label)
def test_floating_point_numbers_need_no_registers_of_their_own(tmp_path, compiler):
    flags = ("-O2", "-fno-pic", "-mgeneral-regs-only", *FREESTANDING, *WARNINGS)
    done = compile_object(compiler.command, HERE / "uses" / "floating_point.cpp", tmp_path / "use.o", *flags)
    assert done.returncode == 0, done.stderr
