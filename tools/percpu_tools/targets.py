"""Facts about the architectures, and the words in which a build is asked for: CPU_NUM, features.

A fact that the C++ headers also hold (base registers, near reach) is compared with them by a test.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from percpu_tools.errors import PercpuError

# The table of areas is an ordinary loop over CPU numbers; no kernel has come near this many CPUs
# (Linux stops at 8192), and a larger number is a slip of the keyboard that would ask for gigabytes.
MAX_CPU_NUM = 65536

# What the runtime calls an inline function of the user's own in place of a register.
USER_BASE = "user"

PAGE_SIZE = 4096

# What the fragment puts in front of and behind the variables of a checked build (PERCPU_GUARD_WORD).
GUARD_WORD = 0x6A7B9C5D


class Target(NamedTuple):
    """One architecture. `base_registers[0]` is the default; a reach of 0 means no limit.

    `far_reach` is that of the accesses that every variable takes, near or not: the largest template.
    """

    name: str
    elf_machine: str
    elf_class: int
    base_registers: tuple[str, ...]
    near_reach: int
    cache_line: int
    far_reach: int = 0


TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        # x86_64: %gs:disp32 reaches +-2 GiB, so that every variable is near. SDM vol. 2A, 2.2.1.3.
        Target("x86_64", "EM_X86_64", 64, ("gs", "fs"), near_reach=0, cache_line=64),
        # AArch64: `ldr r, [b, #:lo12:v]` keeps the low 12 bits of the address. aaelf64, R_AARCH64_LDST*_ABS_LO12_NC.
        # `movz r, #:abs_g0:v` holds 16 bits. aaelf64, R_AARCH64_MOVW_UABS_G0.
        Target(
            "aarch64",
            "EM_AARCH64",
            64,
            ("TPIDR_EL1", "TPIDR_EL2", "TPIDR_EL0", "TPIDRRO_EL0", "x18"),
            near_reach=4096,
            cache_line=64,
            far_reach=0x10000,
        ),
        # ARM: the A32 `ldr r, [b, #imm12]` takes offsets up to 4095. aaelf32, R_ARM_ABS12.
        Target("arm", "EM_ARM", 32, ("TPIDRURO", "TPIDRPRW"), near_reach=4096, cache_line=64),
        # RISC-V: %lo is a signed 12-bit immediate, and offsets are not negative. Unprivileged ISA 2.6.
        Target("riscv64", "EM_RISCV", 64, ("gp", "tp"), near_reach=2048, cache_line=64),
        Target("riscv32", "EM_RISCV", 32, ("gp", "tp"), near_reach=2048, cache_line=64),
        # LoongArch: %pc_lo12 is a signed 12-bit immediate. Reference manual vol. 1, 2.2.6 (LD.D).
        Target("loongarch64", "EM_LOONGARCH", 64, ("r21", "tp"), near_reach=2048, cache_line=64),
    )
}

# Feature name -> the macro that turns it on in the runtime. `base-register=NAME` stands beside them.
FEATURE_MACROS: dict[str, str] = {
    "all-near": "PERCPU_ALL_NEAR",
    "arm-el2": "PERCPU_ARM_EL2",
    "checked": "PERCPU_CHECKED",
    "large-template": "PERCPU_LARGE_TEMPLATE",
    "non-zero-vma": "PERCPU_NON_ZERO_VMA",
    "preempt": "PERCPU_PREEMPT",
    "pristine": "PERCPU_PRISTINE",
    "restartable": "PERCPU_RESTARTABLE",
    "sp-naive": "PERCPU_SP_NAIVE",
}

BASE_REGISTER = "base-register"

LAYOUTS = ("zero-vma", "in-image", "none")


class Features(NamedTuple):
    """The features of one build, checked against its architecture."""

    names: tuple[str, ...]
    base_register: str
    base_register_given: bool

    def __contains__(self, name: object) -> bool:
        return name in self.names

    @property
    def layout(self) -> str:
        """`none` is sp-naive: there are no areas to lay out."""
        if "sp-naive" in self.names:
            return "none"
        return "in-image" if "non-zero-vma" in self.names else "zero-vma"

    @property
    def defines(self) -> dict[str, str | None]:
        """The runtime's macros for these features; `None` is a macro without a value."""
        macros: dict[str, str | None] = {FEATURE_MACROS[name]: None for name in self.names}
        if self.base_register_given:
            macros["PERCPU_BASE_REGISTER"] = self.base_register
        return macros

    @property
    def words(self) -> tuple[str, ...]:
        """The features as the user writes them, sorted."""
        if not self.base_register_given:
            return self.names
        return tuple(sorted((*self.names, f"{BASE_REGISTER}={self.base_register}")))


def target(arch: str) -> Target:
    """The target of that name."""
    if arch not in TARGETS:
        raise PercpuError(f"architecture is {arch!r}: expected one of {', '.join(TARGETS)}")
    return TARGETS[arch]


def target_of_elf(machine: str, elf_class: int) -> Target | None:
    """The target that an ELF header speaks of, if it is one of ours."""
    for candidate in TARGETS.values():
        if (candidate.elf_machine, candidate.elf_class) == (machine, elf_class):
            return candidate
    return None


# Big-endian variants have names of their own (aarch64_be, armeb) and are not among the targets.
_BIG_ENDIAN = ("_be", "eb")
_PROCESSORS = (
    (("x86_64", "amd64"), "x86_64"),
    (("aarch64", "arm64"), "aarch64"),
    (("arm", "thumb"), "arm"),
    (("riscv64",), "riscv64"),
    (("riscv32",), "riscv32"),
    (("loongarch64",), "loongarch64"),
)


def arch_of_triple(triple: str) -> str:
    """The architecture of a compiler's target triple (`gcc -dumpmachine`)."""
    processor = triple.split("-")[0]
    for beginnings, arch in _PROCESSORS:
        if processor.startswith(beginnings) and not processor.endswith(_BIG_ENDIAN):
            return arch
    raise PercpuError(
        f"the compiler's target is {triple!r}: expected one of {', '.join(TARGETS)}",
        fix="use a compiler for one of these architectures",
    )


def parse_cpu_num(value: object) -> int:
    """CPU_NUM as a number, from what a user wrote in an SConstruct or on a command line."""
    wanted = f"expected a whole number from 1 to {MAX_CPU_NUM}"
    if value is None or value == "":
        raise PercpuError(f"CPU_NUM is not set: {wanted}")
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise PercpuError(f"CPU_NUM is {value!r}: {wanted}")
    if isinstance(value, str):
        # Eleven digits are more than any number in range has; int() of a million digits takes minutes.
        if not re.fullmatch(r"-?[0-9]{1,11}", value, re.ASCII):
            shown = value if len(value) <= 40 else value[:37] + "..."
            raise PercpuError(f"CPU_NUM is {shown!r}: {wanted}")
        value = int(value)
    if not 1 <= value <= MAX_CPU_NUM:
        # A number of thousands of digits cannot even be printed (ValueError), and says no more than this.
        shown = str(value) if abs(value) < 10**18 else "a number of more than 18 digits"
        raise PercpuError(f"CPU_NUM is {shown}: {wanted}")
    return value


def parse_cache_line(value: object, arch: str) -> int:
    """The cache line in bytes; the architecture's usual one when nothing is said."""
    if value is None or value == "":
        return target(arch).cache_line
    wanted = f"expected a power of two from 16 to {PAGE_SIZE}"
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,6}", value, re.ASCII):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise PercpuError(f"the cache line is {value!r}: {wanted}")
    if not 16 <= value <= PAGE_SIZE or value & (value - 1):
        raise PercpuError(f"the cache line is {value} bytes: {wanted}")
    return value


def parse_features(words: str | Iterable[str], arch: str) -> Features:
    """The features named by `words` (a list, or one string with commas or spaces between)."""
    machine = target(arch)
    if isinstance(words, str):
        words = re.split(r"[,\s]+", words.strip())
    names: set[str] = set()
    registers: set[str] = set()
    for word in words:
        if not isinstance(word, str):
            raise PercpuError(f"feature is {word!r}: expected a name, one of {_feature_list()}")
        name, equals, register = word.partition("=")
        if not word:
            continue
        if name == BASE_REGISTER:
            registers.add(_base_register(register, machine))
        elif name not in FEATURE_MACROS or equals:
            raise PercpuError(f"feature is {word!r}: expected one of {_feature_list()}")
        else:
            names.add(name)
    if len(registers) > 1:
        raise PercpuError(
            f"{BASE_REGISTER} is given as {' and as '.join(sorted(registers))}: expected one register",
            fix="keep the one that the kernel sets aside",
        )
    if "large-template" in names and not machine.far_reach:
        raise PercpuError(
            f"feature large-template on {arch}: the template's size has no limit there",
            fix="leave large-template out",
        )
    if "restartable" in names and arch == "x86_64":
        raise PercpuError(
            "feature restartable on x86_64: every update is one instruction there, and there is nothing to restart",
            fix="leave restartable out",
        )
    if {"restartable", "sp-naive"} <= names:
        raise PercpuError(
            "features restartable and sp-naive: updates of the one CPU are the compiler's atomics, and nothing restarts",
            fix="leave one of the two out",
        )
    if "restartable" in names and registers == {USER_BASE}:
        raise PercpuError(
            f"features restartable and {BASE_REGISTER}={USER_BASE}: a base that a function finds is found before a sequence, "
            "and would be the old CPU's when it restarts",
            fix="use a register, or leave restartable out",
        )
    default = machine.base_registers[0]
    if "arm-el2" in names:
        if arch != "aarch64":
            raise PercpuError(
                f"feature arm-el2 on {arch}: only aarch64 has exception level 2",
                fix="leave arm-el2 out",
            )
        default = "TPIDR_EL2"
        if registers - {default}:
            raise PercpuError(
                f"features arm-el2 and {BASE_REGISTER}={min(registers)}: arm-el2 means {BASE_REGISTER}=TPIDR_EL2",
                fix="leave one of the two out",
            )
    return Features(
        names=tuple(sorted(names)),
        base_register=min(registers, default=default),
        base_register_given=bool(registers),
    )


def _base_register(register: str, machine: Target) -> str:
    allowed = (*machine.base_registers, USER_BASE)
    if register not in allowed:
        raise PercpuError(f"{BASE_REGISTER} is {register!r} on {machine.name}: expected one of {', '.join(allowed)}")
    return register


def _feature_list() -> str:
    return f"{', '.join(FEATURE_MACROS)}, {BASE_REGISTER}=NAME"
