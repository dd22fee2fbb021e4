"""What only the linker can refuse: declarations that do not go with the definition."""

from __future__ import annotations

import subprocess

import pytest
from cxx.build import COMPILERS, FREESTANDING, compile_object

DEFINITIONS = {"far": "PERCPU_DEFINE(int, word, 1);", "near": "PERCPU_DEFINE_NEAR(int, word, 1);"}
USES = {"far": "PERCPU_DECLARE(int, word);", "near": "PERCPU_DECLARE_NEAR(int, word);"}
SYMBOLS = {"far": "percpu_storage_word", "near": "percpu_near_word"}


@pytest.mark.parametrize("compiler", COMPILERS.values(), ids=COMPILERS)
@pytest.mark.parametrize("declared", USES)
@pytest.mark.parametrize("defined", DEFINITIONS)
def test_near_and_far_declarations_are_kept_apart(tmp_path, compiler, declared, defined):
    objects = []
    for name, text in (("defined", DEFINITIONS[defined]), ("used", USES[declared] + "\nint read() { return word.read_current(); }")):
        source = tmp_path / f"{name}.cpp"
        source.write_text(f"#include <percpu/percpu.hpp>\n{text}\n")
        objects.append(str(source.with_suffix(".o")))
        done = compile_object([compiler], source, source.with_suffix(".o"), "-O2", "-fno-pic", *FREESTANDING)
        assert done.returncode == 0, done.stderr
    header = ("--defsym", "_ZN6percpu4arch21percpu_storage_headerE=0")
    done = subprocess.run(
        ["ld", "-e", "_Z4readv", *header, "-o", str(tmp_path / "linked"), *objects], capture_output=True, text=True, timeout=60
    )
    if declared == defined:
        assert done.returncode == 0, done.stderr
    else:
        assert done.returncode != 0
        assert f"undefined reference to `{SYMBOLS[declared]}'" in done.stderr
