"""Rules about the base register and who else uses it."""

from __future__ import annotations

from collections.abc import Iterator

from percpu_tools.findings import Finding, NotJudged
from percpu_tools.image import SHF_TLS, Image
from percpu_tools.layout import Layout
from percpu_tools.rules import rule
from percpu_tools.targets import TARGETS, USER_BASE

# The register that compilers read for thread-local storage. On AArch64 and ARM it is the one that -mtp names, or that a function
# of the kernel's reads (GCC, "AArch64 Options" and "ARM Options").
_TLS_REGISTERS = {"x86_64": "fs", "riscv64": "tp", "riscv32": "tp", "loongarch64": "tp"}


@rule("T22", "tls-register", "thread-local storage uses the base register", needs_symbols=False)
def tls_register(layout: Layout, image: Image) -> Iterator[Finding | NotJudged]:
    """
    Mechanism
      Compilers reach thread_local variables through a register that the ABI names: fs, TPIDR_EL0,
      TPIDRURO (ARM with -mtp=cp15), tp; on AArch64 and ARM, -mtp names others. Where the per-CPU base lies
      in the same one, each thread_local variable of the kernel is a read or a write somewhere in the area.

    Reproduce
      thread_local int x;     in an ARM kernel with the default base register, TPIDRURO

    Mend
      1. Another base register: base-register=TPIDRPRW on ARM; gs, TPIDR_EL1, gp or r21, the
         defaults, elsewhere.
      2. No thread_local in the kernel; a per-CPU variable in its place.
    """
    if layout.layout in (None, "none") or layout.arch is None:
        return
    section = next((section for section in image.sections if section.flags & SHF_TLS and section.is_allocated and section.size), None)
    if section is None:
        return
    register = layout.note.base_register if layout.note else layout.profile.base_registers.get(layout.arch)
    if register is None or register == USER_BASE:
        unnamed = "no note of the runtime" if layout.profile.is_own else f"nothing in profile {layout.profile.name}"
        why = "the base register is the user's own" if register else f"{unnamed} names the base register"
        yield NotJudged(f"the file has thread-local storage ({section.name}), and {why}")
        return
    if layout.arch in _TLS_REGISTERS:
        used = {_TLS_REGISTERS[layout.arch]}
    elif not register.startswith("TPIDR"):
        return
    else:
        from percpu_tools.evidence import thread_pointer

        used = thread_pointer.registers(image, layout.arch)
        if not used:
            yield NotJudged(f"the file has thread-local storage ({section.name}), and no code was found to read it: which register -mtp chose is not known")
            return
    if register in used:
        better = next((name for name in TARGETS[layout.arch].base_registers if name not in used), None)
        yield Finding(
            "error",
            f"thread-local storage is reached through {register}, which holds the per-CPU base",
            section=section.name,
            found=f"{section.size} bytes of thread-local storage, base-register={register} in the {'note' if layout.note else 'profile'}",
            expected="no thread-local storage, or another base register",
            fix=(
                *((f"build with the feature base-register={better}",) if better else ()),
                "define per-CPU variables in place of thread_local ones",
            ),
        )
