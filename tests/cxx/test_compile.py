"""The runtime and every accessor compile without a warning, for all architectures and features."""

from __future__ import annotations

import percpu_tools
import pytest
from cxx.build import COMPILERS, FREESTANDING, HERE, WARNINGS, compile_object
from cxx.compilers import ALL

FEATURES = {
    "plain": (),
    "non-zero-vma": ("-DPERCPU_NON_ZERO_VMA",),
    "preempt": ("-DPERCPU_PREEMPT",),
    "checked": ("-DPERCPU_CHECKED",),
    "pristine": ("-DPERCPU_PRISTINE",),
    "all-near": ("-DPERCPU_ALL_NEAR",),
    "sp-naive": ("-DPERCPU_SP_NAIVE",),
    "restartable": ("-DPERCPU_RESTARTABLE", "-DPERCPU_PREEMPT"),
    "user": ("-DPERCPU_BASE_REGISTER=user", f'-DPERCPU_BASE_REGISTER_HEADER="{HERE / "user_base.hpp"}"'),
}
SOURCES = (HERE / "host" / "accessors.cpp", *percpu_tools.sources())


# On x86_64 there is nothing to restart, and config.hpp says so.
COMBINATIONS = [
    pytest.param(compiler, features, id=f"{compiler.label}-{features}")
    for compiler in ALL
    for features in FEATURES
    if (compiler.arch, features) != ("x86_64", "restartable")
]


@pytest.mark.parametrize("compiler, features", COMBINATIONS)
def test_compiles_without_a_warning(tmp_path, compiler, features):
    # The layouts decide what the assembler sees; without optimization nothing of it is left out.
    for optimization in ("-O0", "-O2") if features in ("plain", "non-zero-vma") else ("-O2",):
        for source in SOURCES:
            flags = (optimization, "-fno-pic", *FREESTANDING, *WARNINGS, *FEATURES[features])
            done = compile_object(compiler.command, source, tmp_path / "object.o", *flags)
            assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("compiler", ALL, ids=lambda compiler: compiler.label)
def test_a_type_may_be_defined_behind_the_declaration(tmp_path, compiler):
    done = compile_object(compiler.command, HERE / "incomplete.cpp", tmp_path / "object.o", "-O2", "-fno-pic", *FREESTANDING, *WARNINGS)
    assert done.returncode == 0, done.stderr


# Where no header of a compiler or a system hides them: a kernel includes ours by -I.
MORE_WARNINGS = {
    "gcc": (
        *("-Wredundant-decls", "-Wdouble-promotion", "-Wuseless-cast", "-Wmissing-declarations", "-Wcast-align=strict"),
        *("-Wcast-qual", "-Wold-style-cast", "-Wsign-conversion", "-Wundef", "-Wpedantic"),
    ),
    "clang": (
        *("-Wcomma", "-Wreserved-identifier", "-Wdouble-promotion", "-Wmissing-prototypes", "-Wcast-align", "-Wcast-qual"),
        *("-Wmissing-variable-declarations", "-Wold-style-cast", "-Wshadow-all", "-Wundef", "-Wextra-semi-stmt", "-Wpedantic"),
    ),
}


@pytest.mark.parametrize("compiler", [c for c in ALL if c.arch in ("x86_64", "riscv64")], ids=lambda compiler: compiler.label)
@pytest.mark.parametrize("features", ["plain", "non-zero-vma", "checked"])
def test_compiles_without_a_warning_that_few_ask_for(tmp_path, compiler, features):
    for source in (HERE / "warnings.cpp", *percpu_tools.sources()):
        flags = ("-O2", "-fno-pic", *FREESTANDING, *WARNINGS, *MORE_WARNINGS[compiler.name], *FEATURES[features])
        done = compile_object(compiler.command, source, tmp_path / "object.o", *flags)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("compiler", COMPILERS.values(), ids=COMPILERS)
def test_a_kernel_may_have_no_char8_t(tmp_path, compiler):
    for source in (HERE / "warnings.cpp", *percpu_tools.sources()):
        done = compile_object([compiler], source, tmp_path / "object.o", "-fno-char8_t", "-fno-pic", *FREESTANDING, *WARNINGS)
        assert done.returncode == 0, done.stderr
