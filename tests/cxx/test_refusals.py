"""Builds that cannot be right are refused by the preprocessor, in a sentence that says what to do."""

from __future__ import annotations

import re

import pytest
from cxx.build import COMPILERS, FREESTANDING, HERE, compile_object
from cxx.compilers import ALL

HOSTED = ("-fno-exceptions",)
GXX = {compiler.arch: compiler.command for compiler in ALL if compiler.name == "gcc"}

REFUSALS = [
    pytest.param("x86_64", HOSTED, "add the feature non-zero-vma, or compile a kernel with -ffreestanding", id="hosted"),
    pytest.param("x86_64", (*FREESTANDING, "-DPERCPU_ARM_EL2"), "arm-el2 .* AArch64 only", id="arm-el2"),
    pytest.param("x86_64", (*FREESTANDING, "-DPERCPU_RESTARTABLE"), "nothing to restart", id="restartable"),
    pytest.param(
        "riscv64",
        (*FREESTANDING, "-DPERCPU_RESTARTABLE", "-DPERCPU_SP_NAIVE"),
        "remove one of the two",
        id="restartable-naive",
    ),
    pytest.param(
        "riscv64",
        (*FREESTANDING, "-DPERCPU_RESTARTABLE", "-DPERCPU_BASE_REGISTER=user", "-DPERCPU_BASE_REGISTER_HEADER=<none.hpp>"),
        "remove one of the features restartable and base-register=user",
        id="restartable-user",
    ),
    pytest.param(
        "aarch64",
        (*FREESTANDING, "-DPERCPU_ARM_EL2", "-DPERCPU_BASE_REGISTER=x18"),
        "both choose the base register",
        id="two-registers",
    ),
    pytest.param("arm", (*FREESTANDING, "-DPERCPU_LARGE_TEMPLATE"), "only on AArch64", id="large-template"),
    pytest.param("arm", (*FREESTANDING, "-fpie"), "compile with -fno-pic, or add the feature non-zero-vma", id="pie"),
    *(
        pytest.param(arch, (*FREESTANDING, "-DPERCPU_BASE_REGISTER=nonsense"), f"base register of {name} is", id=arch)
        for arch, name in (("x86_64", "x86_64"), ("aarch64", "AArch64"), ("arm", "ARM"), ("riscv64", "RISC-V"))
    ),
    pytest.param("arm", (*FREESTANDING, "-march=armv6"), "come with ARMv7", id="armv6"),
    pytest.param(
        "x86_64",
        (*FREESTANDING, "-mcmodel=kernel", "-fstack-protector", "-DPERCPU_NON_ZERO_VMA", "-fno-pic"),
        "stack protector reads offset 40 from the base register",
        id="stack-protector",
    ),
    pytest.param(
        "x86_64",
        (*FREESTANDING, "-DPERCPU_BASE_REGISTER=fs", "-fstack-protector", "-DPERCPU_NON_ZERO_VMA", "-fno-pic"),
        "stack protector reads offset 40 from the base register",
        id="stack-protector-fs",
    ),
    pytest.param("x86_64", (*FREESTANDING, "-mx32"), "compile without -mx32", id="x32"),
    *(
        pytest.param("x86_64", (*FREESTANDING, f"-DPERCPU_CACHE_LINE={line}"), "power of two", id=f"cache-line-{line}")
        for line in (0, 96, -64)
    ),
    pytest.param("arm", (*FREESTANDING, "-march=armv7-m", "-mthumb"), "compile with base-register=user", id="armv7-m"),
    *(
        pytest.param("x86_64", (*FREESTANDING, "-mcmodel=large", *layout), "compile with -mcmodel=kernel", id=f"large-{name}")
        for name, layout in (("zero-vma", ()), ("in-image", ("-DPERCPU_NON_ZERO_VMA",)))
    ),
    pytest.param("x86_64", (*FREESTANDING, "-DPERCPU_BASE_REGISTER=user"), "PERCPU_BASE_REGISTER_HEADER", id="user"),
]


@pytest.mark.parametrize("arch, flags, words", REFUSALS)
def test_refused(tmp_path, arch, flags, words):
    # A float ABI of the distribution's compiler would refuse ARMv6 before our own words.
    extra = ("-mfloat-abi=soft",) if arch == "arm" else ()
    done = compile_object(GXX[arch], HERE / "counts.cpp", tmp_path / "counts.o", *flags, *extra)
    assert done.returncode != 0
    assert re.search(f"error: .*percpu: .*{words}", done.stderr), done.stderr


@pytest.mark.parametrize(
    "target, register, refused",
    [
        ("riscv64-none-elf", "gp", True),
        ("riscv64-none-elf", "tp", False),
        ("aarch64-none-elf", "x18", True),
        ("aarch64-none-elf", "TPIDR_EL1", False),
    ],
)
def test_a_shadow_call_stack_in_the_base_register_is_refused(tmp_path, target, register, refused):
    """Every function that calls another would move the base."""
    fixed = ("-ffixed-x18",) if target.startswith("aarch64") else ()
    flags = (*FREESTANDING, *fixed, "-fsanitize=shadow-call-stack", f"-DPERCPU_BASE_REGISTER={register}")
    done = compile_object(("clang++-19", f"--target={target}"), HERE / "counts.cpp", tmp_path / "counts.o", *flags)
    assert ("percpu: -fsanitize=shadow-call-stack keeps its pointer" in done.stderr) == refused, done.stderr
    assert (done.returncode != 0) == refused, done.stderr


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(("clang++-19", "-mcmodel=large"), id="clang"),
        pytest.param(("g++", "-mcmodel=large", "-DPERCPU_SP_NAIVE"), id="naive"),
    ],
)
def test_the_large_code_model_is_refused_only_where_it_cannot_be(tmp_path, command):
    done = compile_object(command, HERE / "counts.cpp", tmp_path / "counts.o", *FREESTANDING)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("compiler", COMPILERS.values(), ids=COMPILERS)
def test_older_languages_are_refused(tmp_path, compiler):
    done = compile_object([compiler], HERE / "counts.cpp", tmp_path / "counts.o", "-std=c++17", *FREESTANDING)
    assert done.returncode != 0
    assert "percpu: compile with -std=c++20 or later" in done.stderr
