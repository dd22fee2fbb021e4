"""The words in which a build is asked for."""

from __future__ import annotations

import pytest
from percpu_tools import targets
from percpu_tools.errors import PercpuError


@pytest.mark.parametrize(("value", "number"), [(1, 1), (65536, 65536), ("4", 4), ("064", 64)])
def test_cpu_num(value, number):
    assert targets.parse_cpu_num(value) == number


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "is 0"),
        (-1, "is -1"),
        ("-1", "is -1"),
        (1.5, "is 1.5"),
        (4.0, "is 4.0"),
        ("1.5", "is '1.5'"),
        ("four", "is 'four'"),
        ("4 ", "is '4 '"),
        ("0x4", "is '0x4'"),
        ("\u0664", "is '\u0664'"),
        (None, "is not set"),
        ("", "is not set"),
        (True, "is True"),
        ([4], "is [4]"),
        (65537, "is 65537"),
        (10**9, "is 1000000000"),
        pytest.param(10**5000, "is a number of more than 18 digits", id="5001-digits"),
        pytest.param("9" * 5000, "is '99999", id="text-of-5000-digits"),
    ],
)
def test_a_cpu_num_that_is_none_is_refused_in_one_line(value, shown):
    with pytest.raises(PercpuError) as refusal:
        targets.parse_cpu_num(value)
    message = str(refusal.value)
    assert message.startswith(f"CPU_NUM {shown}")
    assert "expected a whole number from 1 to 65536" in message
    assert "\n" not in message
    assert len(message) < 120


@pytest.mark.parametrize(("value", "size"), [(None, 64), ("", 64), (32, 32), ("128", 128)])
def test_cache_line(value, size):
    assert targets.parse_cache_line(value, "x86_64") == size


@pytest.mark.parametrize("value", [0, 48, 8, 8192, "64k", True, 64.0, -64])
def test_a_cache_line_that_is_none(value):
    with pytest.raises(PercpuError, match="expected a power of two from 16 to 4096"):
        targets.parse_cache_line(value, "x86_64")


@pytest.mark.parametrize(
    "words",
    [
        "preempt,non-zero-vma",
        "preempt non-zero-vma",
        ["non-zero-vma", "preempt"],
        ("preempt", "non-zero-vma", "preempt"),
        iter(["preempt", "non-zero-vma"]),
    ],
)
def test_features_in_every_form(words):
    features = targets.parse_features(words, "x86_64")
    assert features.words == ("non-zero-vma", "preempt")
    assert features.defines == {"PERCPU_NON_ZERO_VMA": None, "PERCPU_PREEMPT": None}
    assert "preempt" in features and "sp-naive" not in features


@pytest.mark.parametrize(
    ("words", "layout"),
    [("", "zero-vma"), ("non-zero-vma", "in-image"), ("sp-naive", "none"), ("sp-naive,non-zero-vma", "none")],
)
def test_features_choose_the_layout(words, layout):
    assert targets.parse_features(words, "x86_64").layout == layout


@pytest.mark.parametrize(
    ("arch", "words", "register"),
    [
        ("x86_64", "", "gs"),
        ("x86_64", "base-register=fs", "fs"),
        ("aarch64", "", "TPIDR_EL1"),
        ("aarch64", "arm-el2", "TPIDR_EL2"),
        ("aarch64", "arm-el2,base-register=TPIDR_EL2", "TPIDR_EL2"),
        ("aarch64", "base-register=x18", "x18"),
        ("arm", "base-register=TPIDRPRW", "TPIDRPRW"),
        ("riscv32", "base-register=tp", "tp"),
        ("loongarch64", "", "r21"),
        ("loongarch64", "base-register=user", "user"),
    ],
)
def test_base_register(arch, words, register):
    features = targets.parse_features(words, arch)
    assert features.base_register == register
    given = "base-register" in words
    assert features.defines.get("PERCPU_BASE_REGISTER") == (register if given else None)
    assert (f"base-register={register}" in features.words) == given


@pytest.mark.parametrize(
    ("arch", "words", "message"),
    [
        ("x86_64", "fast", "feature is 'fast': expected one of all-near, arm-el2,"),
        ("x86_64", "preempt=1", "feature is 'preempt=1'"),
        ("x86_64", "arm-el2", "feature arm-el2 on x86_64: only aarch64 has exception level 2"),
        ("x86_64", "base-register=tp", "base-register is 'tp' on x86_64: expected one of gs, fs, user"),
        ("x86_64", "base-register", "base-register is '' on x86_64"),
        ("riscv64", "base-register=gp,base-register=tp", "base-register is given as gp and as tp"),
        ("aarch64", "arm-el2,base-register=x18", "arm-el2 means base-register=TPIDR_EL2"),
        ("x86_64", "restartable", "there is nothing to restart"),
        ("riscv64", "restartable,sp-naive", "nothing restarts"),
        ("arm", "restartable,base-register=user", "would be the old CPU's when it restarts"),
        ("mips", "", "architecture is 'mips': expected one of x86_64,"),
    ],
)
def test_features_that_are_refused(arch, words, message):
    with pytest.raises(PercpuError) as refusal:
        targets.parse_features(words, arch)
    assert message in str(refusal.value)


def test_a_feature_that_is_no_text():
    with pytest.raises(PercpuError, match="feature is 3"):
        targets.parse_features([3], "x86_64")


@pytest.mark.parametrize(
    ("triple", "arch"),
    [
        ("x86_64-linux-gnu", "x86_64"),
        ("x86_64-pc-linux-gnu", "x86_64"),
        ("aarch64-none-elf", "aarch64"),
        ("arm-none-eabi", "arm"),
        ("armv7a-linux-gnueabihf", "arm"),
        ("riscv64-unknown-elf", "riscv64"),
        ("riscv32-unknown-elf", "riscv32"),
        ("loongarch64-linux-gnu", "loongarch64"),
    ],
)
def test_architecture_of_a_compiler(triple, arch):
    assert targets.arch_of_triple(triple) == arch


@pytest.mark.parametrize("triple", ["i686-linux-gnu", "mips-elf", "", "aarch64_be-none-elf", "armeb-none-eabi"])
def test_a_compiler_for_something_else(triple):
    with pytest.raises(PercpuError, match="the compiler's target is"):
        targets.arch_of_triple(triple)
