"""What building for a board and running it takes. One row a board."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from dataclasses import dataclass, replace

CLANG = "clang++-19"
LLD_FOLDER = "/usr/lib/llvm-19/bin"  # GCC looks for the name ld.lld, which Debian's lld-19 has only there

KERNEL_FLAGS = (
    "-std=c++20",
    "-g",
    "-Wall",
    "-Wextra",
    "-ffreestanding",
    "-fno-exceptions",
    "-fno-rtti",
    "-nostdinc++",
    "-fno-pic",
    "-fno-stack-protector",
    "-fno-asynchronous-unwind-tables",
    "-fno-threadsafe-statics",
)
LINK_FLAGS = ("-nostdlib", "-static", "-Wl,--build-id=none", "-Wl,--gc-sections")


def _debian() -> int:
    """The version of Debian, for packages that another version has under another name."""
    version = platform.freedesktop_os_release().get("VERSION_ID", "")
    return int(version) if version.isdigit() else 12


@dataclass(frozen=True)
class Board:
    """A machine of QEMU, and how kernels for it are compiled.

    In the mode `linux` it is a process of Linux, under QEMU's user-mode emulation where `qemu` names one.
    """

    arch: str
    triplet: str  # of GCC and its Debian package
    machine_flags: tuple[str, ...]
    qemu: tuple[str, ...]
    qemu_package: str
    pass_status: int
    has_gcc: bool = True  # whether Debian 12 has a GCC for it
    memory: str = "128M"
    max_cpus: int = 64
    mode: str = ""  # what tells it from the architecture's usual board; see Variant.mode
    emulation: str = ""  # the linker's, where Clang does not say it
    lld_machine_flags: tuple[str, ...] | None = None  # to link with lld, where not machine_flags
    clang_target: str = ""  # where it is not the triplet
    sources: tuple[str, ...] = ()  # in kernel/; else <arch>/entry.S and <arch>/board.cpp
    user_base: str = ""  # in kernel/: the header for base-register=user; else <arch>/user_base.hpp
    script: str = ""  # in ldscripts/; else <arch>.ld.j2
    script_variables: tuple[tuple[str, str], ...] = ()
    boots_from: tuple[str, ...] = ("-kernel", "{}")  # {}: the kernel, or what it is in

    @property
    def name(self) -> str:
        return "-".join(filter(None, (self.arch, self.mode)))

    @property
    def machine_sources(self) -> tuple[str, ...]:
        """The board's own sources, in kernel/."""
        return self.sources or (f"{self.arch}/entry.S", f"{self.arch}/board.cpp")

    @property
    def script_template(self) -> str | None:
        """The template of the linker script, in ldscripts/; None for the linker's own."""
        return None if self.mode == "linux" else self.script or f"{self.arch}.ld.j2"

    def defines(self, features: Iterable[str]) -> list[str]:
        """What kernels with these features define, besides what the features themselves do."""
        if "base-register=user" not in features:
            return []
        return [f'PERCPU_BASE_REGISTER_HEADER=<{self.user_base or f"{self.arch}/user_base.hpp"}>']

    @property
    def packages(self) -> list[str]:
        """The Debian packages with which GCC and GNU ld, or else Clang and lld, build for the board and QEMU boots it."""
        tools = [gcc_package(self.triplet)] if self.has_gcc else ["clang-19", "lld-19"]
        return [*tools, self.qemu_package] if self.qemu_package else tools

    def compiler(self, name: str) -> list[str]:
        """The command of the C++ compiler `name`, which compiles, assembles and links."""
        return [CLANG, f"--target={self.clang_target or self.triplet}"] if name == "clang" else [f"{self.triplet}-g++"]

    def link_flags(self, linker: str) -> list[str]:
        """The flags that choose `linker`, and those of every kernel."""
        choice = {"ld": ["-fuse-ld=bfd"], "lld": [f"-B{LLD_FOLDER}", "-fuse-ld=lld"]}[linker]
        machine_flags = self.lld_machine_flags if linker == "lld" else None
        emulation = [f"-Wl,-m,{self.emulation}"] if self.emulation else []
        return [*choice, *emulation, *LINK_FLAGS, *(self.machine_flags if machine_flags is None else machine_flags)]

    def compile_flags(self) -> list[str]:
        """The flags that every source of a kernel is compiled with."""
        return [*KERNEL_FLAGS, "-ffunction-sections", "-fdata-sections", *self.machine_flags]

    def qemu_command(self, kernel: str, cpus: int) -> list[str]:
        """The command that boots `kernel`, with the serial console on its standard output."""
        if self.mode == "linux":
            return [*self.qemu, kernel, str(cpus)]
        source = (word.format(kernel) for word in self.boots_from)
        common = ("-display", "none", "-monitor", "none", "-serial", "stdio", "-nic", "none", "-no-reboot")
        return [*self.qemu, *common, "-m", self.memory, "-smp", str(cpus), *source]


_X86_64 = Board(
    arch="x86_64",
    triplet="x86_64-linux-gnu",
    machine_flags=("-mcmodel=kernel", "-mno-red-zone", "-mgeneral-regs-only"),
    qemu=(
        *("qemu-system-x86_64", "-machine", "q35", "-accel", "tcg", "-cpu", "max"),
        *("-device", "isa-debug-exit,iobase=0xf4,iosize=4"),
    ),
    qemu_package="qemu-system-x86",
    pass_status=33,  # board.cpp writes 0x10; QEMU exits with twice that plus 1
    sources=("x86_64/entry.S", "x86_64/startup.cpp", "x86_64/board.cpp", "x86_64/switch.S"),
)

_RISCV = ("riscv/entry.S", "riscv/board.cpp", "riscv/switch.S")
_RISCV_QEMU = "qemu-system-riscv" if _debian() >= 13 else "qemu-system-misc"
# DWARF 5 from Clang has relocations (R_RISCV_SET_ULEB128) on which GNU ld 2.40 crashes.
_RISCV_FLAGS = ("-mcmodel=medany", "-gdwarf-4")
_RISCV64 = Board(
    arch="riscv64",
    triplet="riscv64-linux-gnu",
    machine_flags=("-march=rv64imac_zicsr", "-mabi=lp64", *_RISCV_FLAGS),
    lld_machine_flags=(),  # of -mabi=lp64 GCC makes an emulation that lld does not know
    qemu=("qemu-system-riscv64", "-machine", "virt", "-bios", "none"),
    qemu_package=_RISCV_QEMU,
    pass_status=0,
    sources=(*_RISCV, "riscv/machine.cpp"),
    user_base="riscv/user_base.hpp",
    script="riscv.ld.j2",
)

_ARM_QEMU = ("-semihosting-config", "enable=on,target=native")
_AARCH64 = Board(
    arch="aarch64",
    triplet="aarch64-linux-gnu",
    # With -ffixed-x18 only base-register=x18 uses that register, and no trap code needs to save it.
    # The helpers of outlined atomics are in a library that kernels do not have.
    machine_flags=("-mgeneral-regs-only", "-ffixed-x18", "-mno-outline-atomics"),
    qemu=("qemu-system-aarch64", "-machine", "virt,gic-version=3", "-cpu", "cortex-a72", *_ARM_QEMU),
    qemu_package="qemu-system-arm",
    pass_status=33,  # see virt.cpp
    sources=("arm_virt/virt.cpp", "aarch64/entry.S", "aarch64/board.cpp", "aarch64/switch.S"),
    user_base="arm_virt/user_base.hpp",
    script="arm_virt.ld.j2",
)

_LOONGARCH64 = Board(
    arch="loongarch64",
    triplet="loongarch64-linux-gnu",
    has_gcc=False,
    clang_target="loongarch64-linux-gnusf",
    # Soft float by the target: the board neither turns on nor saves the units for floats and vectors.
    machine_flags=("-mno-lsx",),
    qemu=(
        *("qemu-system-loongarch64", "-machine", "virt"),
        *("-device", "pvpanic-pci,addr=1f", "-action", "panic=exit-failure"),
    ),
    qemu_package="qemu-system-misc",
    pass_status=0,
    sources=("loongarch64/entry.S", "loongarch64/board.cpp", "loongarch64/switch.S"),
    user_base="loongarch64/user_base.hpp",
    memory="1G",  # the least that this machine takes
    max_cpus=4,  # the most that QEMU 7.2 gives it
)

_LINUX_FLAGS = ("-DPERCPU_LINUX_USER=1",)

BOARDS = {
    board.name: board
    for board in (
        _X86_64,
        # For a loader that maps segments where they are linked: see test_loaders.py.
        replace(
            _X86_64,
            mode="limine",
            sources=("x86_64/limine.cpp", "x86_64/board.cpp", "x86_64/switch.S"),
            script_variables=(("entry", "limine_entry"), ("kernel_base", "0xffffffffc0000000")),
        ),
        _AARCH64,
        replace(
            _AARCH64,
            mode="el2",
            machine_flags=(*_AARCH64.machine_flags, "-DKERNEL_EL2"),
            qemu=(
                *("qemu-system-aarch64", "-machine", "virt,gic-version=3,virtualization=on", "-cpu", "cortex-a72"),
                *_ARM_QEMU,
            ),
        ),
        replace(
            _AARCH64,
            arch="arm",
            triplet="arm-linux-gnueabihf",
            # armv7ve: with division, which -nostdlib leaves to the CPU.
            machine_flags=("-march=armv7ve", "-mfloat-abi=soft", "-marm"),
            qemu=("qemu-system-arm", "-machine", "virt", "-cpu", "cortex-a15", *_ARM_QEMU),
            sources=("arm_virt/virt.cpp", "arm/entry.S", "arm/board.cpp", "arm/switch.S"),
            max_cpus=8,  # a GICv2 has no more
        ),
        _RISCV64,
        replace(
            _RISCV64,
            mode="s-mode",
            machine_flags=(*_RISCV64.machine_flags, "-DRISCV_S_MODE"),
            qemu=("qemu-system-riscv64", "-machine", "virt", "-bios", "default"),
            sources=(*_RISCV, "riscv/supervisor.cpp"),
            script_variables=(("load_address", "0x80200000"),),
        ),
        replace(
            _RISCV64,
            arch="riscv32",
            triplet="riscv64-unknown-elf",
            machine_flags=("-march=rv32imac_zicsr", "-mabi=ilp32", *_RISCV_FLAGS),
            emulation="elf32lriscv",
            lld_machine_flags=None,
            qemu=("qemu-system-riscv32", "-machine", "virt", "-bios", "none"),
        ),
        _LOONGARCH64,
        Board(
            arch="x86_64",
            mode="linux",
            triplet="x86_64-linux-gnu",
            machine_flags=_LINUX_FLAGS,
            qemu=(),
            qemu_package="",
            pass_status=0,
            sources=("linux/board.cpp", "linux/x86_64.S"),
        ),
        replace(
            _RISCV64,
            mode="linux",
            # gp has no second use: no relaxation to the __global_pointer$ of the linker's own script, no small data.
            machine_flags=("-mno-relax", "-msmall-data-limit=0", *_RISCV_FLAGS, *_LINUX_FLAGS),
            qemu=("qemu-riscv64",),
            qemu_package="qemu-user",
            sources=("linux/board.cpp", "linux/riscv64.S"),
        ),
        replace(
            _LOONGARCH64,
            mode="linux",
            machine_flags=(*_LOONGARCH64.machine_flags, *_LINUX_FLAGS),
            qemu=("qemu-loongarch64",),
            qemu_package="qemu-user",
            sources=("linux/board.cpp", "linux/loongarch64.S"),
            max_cpus=64,
        ),
    )
}


def gcc_package(triplet: str) -> str:
    """The Debian package of the command <triplet>-g++: another one on a machine of that kind itself."""
    if triplet.endswith("-elf"):
        return f"gcc-{triplet}"
    native = triplet.startswith(f"{platform.machine()}-")
    return "g++" if native else f"g++-{triplet.replace('_', '-')}"


def test_packages() -> list[str]:
    """The Debian packages that all the tests need: those of the boards, and what other tests compile with."""
    boards = {package for board in BOARDS.values() for package in board.packages}
    # Debian 12 has no GCC for LoongArch64, and gold within binutils.
    newer = {"binutils-gold", gcc_package("loongarch64-linux-gnu")} if _debian() >= 13 else set()
    cross = {gcc_package(triplet) for triplet in ("aarch64-linux-gnu", "riscv64-linux-gnu")}
    others = {"ccache", "clang-19", "clang-tidy-19", "g++", "gcc-arm-none-eabi", "gdb-multiarch", "libclang-rt-19-dev", "lld-19", "llvm-19"}
    others |= {"cmake", "make", "meson", "ninja-build"}  # tests/examples
    others |= {"scons"}  # the system's, for tests/scons/test_wheel.py
    others |= {"mold"}  # tests/unit/test_toolchain.py
    others |= {"grub-common", "grub-pc-bin", "mtools", "xorriso"}  # tests/boot/test_loaders.py
    return sorted(boards | cross | newer | others)


if __name__ == "__main__":
    print(*test_packages())
