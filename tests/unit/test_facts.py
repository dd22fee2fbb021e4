"""Facts that Python and C++ both need are the same in both: asked of the compiler, architecture by architecture."""

from __future__ import annotations

import re

import pytest
import toolchain
from percpu_tools import __version__, includes, targets

COMPILERS = {
    "x86_64": ["g++"],
    "aarch64": ["aarch64-linux-gnu-g++"],
    "arm": ["arm-none-eabi-g++"],
    "riscv64": ["riscv64-unknown-elf-g++"],
    "riscv32": ["riscv64-unknown-elf-g++", "-march=rv32imac", "-mabi=ilp32"],
    "loongarch64": ["clang++-19", "--target=loongarch64-unknown-elf"],
}


def macros(arch: str, *flags: str) -> dict[str, str]:
    """What the macros of config.hpp expand to."""
    names = [
        *("PERCPU_VERSION", "PERCPU_ARCH_NAME", "PERCPU_BASE_REGISTER", "PERCPU_CACHE_LINE", "PERCPU_NEAR_REACH"),
        *("PERCPU_LAYOUT_NAME", "PERCPU_GUARD_WORD"),
    ]
    source = "#include <percpu/config.hpp>\n" + "".join(f"@{name}@\n" for name in names)
    command = [*COMPILERS[arch], "-std=c++20", "-ffreestanding", f"-I{includes()}", *flags, "-E", "-P", "-xc++", "-"]
    values = re.findall(r"@(.*)@", toolchain.run(command, input=source).stdout)
    return dict(zip(names, (value.strip('"') for value in values)))


def define(features: targets.Features) -> list[str]:
    return [f"-D{name}" if value is None else f"-D{name}={value}" for name, value in features.defines.items()]


@pytest.mark.parametrize("arch", COMPILERS)
class TestAgreement:
    def test_defaults(self, arch):
        said = macros(arch)
        target = targets.TARGETS[arch]
        assert said["PERCPU_VERSION"] == __version__
        assert said["PERCPU_ARCH_NAME"] == arch
        assert said["PERCPU_BASE_REGISTER"] == target.base_registers[0]
        assert int(said["PERCPU_CACHE_LINE"]) == target.cache_line
        assert int(said["PERCPU_NEAR_REACH"]) == target.near_reach
        assert int(said["PERCPU_GUARD_WORD"], 16) == targets.GUARD_WORD

    @pytest.mark.parametrize("word", ["sp-naive", "non-zero-vma", ""])
    def test_layouts(self, arch, word):
        features = targets.parse_features(word, arch)
        assert macros(arch, *define(features))["PERCPU_LAYOUT_NAME"] == features.layout

    def test_base_registers(self, arch):
        known = (includes() / "percpu" / "config.hpp").read_text()
        for register in (*targets.TARGETS[arch].base_registers, targets.USER_BASE):
            features = targets.parse_features(f"base-register={register}", arch)
            assert macros(arch, *define(features))["PERCPU_BASE_REGISTER"] == register
            assert f"PERCPU_DETAIL_REGISTER_{register} " in known


def test_arm_el2():
    features = targets.parse_features("arm-el2", "aarch64")
    assert macros("aarch64", *define(features))["PERCPU_BASE_REGISTER"] == features.base_register


def test_arm_el2_may_be_said_twice():
    features = targets.parse_features("arm-el2,base-register=TPIDR_EL2", "aarch64")
    assert macros("aarch64", *define(features))["PERCPU_BASE_REGISTER"] == "TPIDR_EL2"


def test_every_feature_has_its_macro_in_the_runtime():
    config = (includes() / "percpu" / "config.hpp").read_text()
    for macro in targets.FEATURE_MACROS.values():
        assert macro in config
