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
