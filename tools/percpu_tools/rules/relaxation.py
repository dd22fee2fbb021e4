"""Rules about what RISC-V linkers make of addresses near 0 and near the global pointer."""

from __future__ import annotations

from collections.abc import Iterator

from percpu_tools.findings import STRIPPED, Finding, NotJudged
from percpu_tools.image import Image
from percpu_tools.layout import Layout
from percpu_tools.rules import rule

_KINDS = {"load": "a load of", "store": "a store to", "add": "the address of"}


def _is_riscv(layout: Layout) -> bool:
    return layout.arch in ("riscv64", "riscv32") and layout.has_areas and bool(layout.template_size)


def _more(places: int) -> str:
    return f"; {places - 1} more such places" if places > 1 else ""


@rule(
    "T01", "relaxed-to-zero", "RISC-V: an access is based on `zero` in place of the base register", needs_symbols=False
)
def relaxed_to_zero(layout: Layout, image: Image) -> Iterator[Finding | NotJudged]:
    """
    Mechanism
      Linkers relax RISC-V code: an address within 2 KiB of 0 needs no `lui`, because an immediate behind
      the register `zero` reaches it. In the zero-VMA layout every offset below 2 KiB is such an address.
      GNU ld turns `lui a0,%hi(v); add a0,a0,gp; ld a0,%lo(v)(a0)` into `add a0,a0,gp; ld a0,16(zero)`, and
      `ld a0,%lo(v)(gp)` into `ld a0,16(zero)`. The base register is gone: every CPU reads and writes one
      place in low memory, or faults. The link says nothing.

    Reproduce
      asm("ld %0, %%lo(percpu_storage_x)(gp)" : "=r"(value));     linked by GNU ld
      percpu_storage_x = 1;                                       the same, from C++ code without an accessor

    Mend
      1. `.option push; .option norelax` before the assembly of an access and `.option pop` behind it. The
         runtime's accessors have it.
      2. An accessor, where C++ code names the storage itself.
      3. Link with --no-relax.

    Evidence
      The instructions: a load or store based on `zero` with an address in the template, and an addition of
      the base register whose result the next instruction overwrites with such an address. One before an
      `ebreak` is the compiler's own, for a null pointer. An address made by a single addition to `zero`
      looks like any small number: only relocations tell it, where the link keeps them (--emit-relocs).
    """
    if not _is_riscv(layout) or layout.layout != "zero-vma":
        return
    if not image.has_symbols:
        yield NotJudged(STRIPPED)
        return
    from percpu_tools import code, relocations
    from percpu_tools.evidence import relaxation

    places = relaxation.based_on_zero(layout, image)
    for home, address, access in places[:1]:
        function, where = code.place(image, home, address)
        variable = layout.variable_at(access.immediate)
        yield Finding(
            "error",
            f"{_KINDS[access.kind]} {variable.name if variable else 'the template'} is based on `zero` in place of the "
            f"base register: every CPU uses one place{_more(len(places))}",
            symbol=function,
            section=home.name,
            found=f"{access.kind} {access.immediate:#x}(zero) at {where}",
            expected="accesses relative to the base register",
            fix=(
                "put `.option norelax` around the assembly of the access, as the runtime's accessors do",
                "use an accessor where C++ code names the storage itself",
                "link with --no-relax",
            ),
        )
    if not places and not relocations.tables(image):
        yield NotJudged(
            "an offset made by one addition to `zero` looks like any small number, and no relocations are kept; "
            "link with --emit-relocs"
        )


@rule(
    "T02", "relaxed-to-gp", "RISC-V: code uses gp for ordinary data while it is the base register", needs_symbols=False
)
def relaxed_to_gp(layout: Layout, image: Image) -> Iterator[Finding | NotJudged]:
    """
    Mechanism
      Where the symbol __global_pointer$ is defined, linkers make accesses to ordinary data within 2 KiB of it
      relative to gp: start-up code is to load gp with its address, once and for all (GNU ld, and lld with
      --relax-gp). While gp holds the CPU's area, these accesses read and write somewhere in the area and
      behind it. Adding one global variable elsewhere decides which ones.

    Reproduce
      .sdata : { __global_pointer$ = . + 0x800; *(.sdata .sdata.*) }     in the linker script

    Mend
      1. Leave __global_pointer$ out of the linker script. GNU ld's own script has it: use one of your own.
      2. base-register=tp.
      3. Link with --no-relax, and compile with -mno-relax.

    Evidence
      The instructions: loads, stores and additions relative to gp at offsets at which no variable is. Where an
      access may be to either of a variable and ordinary data, kept relocations (--emit-relocs) tell. If there
      is none of them, the symbol alone is a warning, unless code in its reach is seen not to be relaxed.
    """
    if not _is_riscv(layout):
        return
    if not image.has_symbols:
        yield NotJudged(STRIPPED)
        return
    assert layout.arch is not None
    register = layout.note.base_register if layout.note else layout.profile.base_registers.get(layout.arch)
    if register not in (None, "gp") or register is None and layout.layout != "zero-vma":
        return
    from percpu_tools import code
    from percpu_tools.evidence import relaxation

    pointer = relaxation.global_pointer(image)
    if register is None and not relaxation.adds_gp(image):
        if pointer is not None:
            yield NotJudged(
                f"{relaxation.GLOBAL_POINTER} is defined, "
                "and neither a note nor the code says that gp is the base register"
            )
        return
    mends = (
        f"leave {relaxation.GLOBAL_POINTER} out of the linker script; "
        "in place of GNU ld's own script use one of the kernel's",
        "build with the feature base-register=tp",
        "link with --no-relax",
    )
    places, doubtful = relaxation.based_on_gp(layout, image, pointer)
    if places and not image.has_local_symbols:
        yield NotJudged("the file has no local symbols, so what is accessed relative to gp may be static variables")
        return
    for home, address, access in places[:1]:
        function, where = code.place(image, home, address)
        yield Finding(
            "error",
            f"ordinary data is accessed relative to gp, which holds the per-CPU base{_more(len(places))}",
            symbol=function,
            section=home.name,
            found=f"{access.kind} {access.immediate:#x}(gp) at {where}"
            + (f", with {relaxation.GLOBAL_POINTER} at {pointer:#x}" if pointer is not None else ""),
            expected="gp for per-CPU variables only",
            fix=mends,
        )
    if pointer is None or places:
        return
    if doubtful:
        yield NotJudged(
            f"{len(doubtful)} accesses relative to gp may be to variables or to ordinary data, "
            "and no relocations are kept; link with --emit-relocs"
        )
    elif layout.layout == "zero-vma" and not relaxation.is_unrelaxed(image, pointer):
        yield Finding(
            "warning",
            f"{relaxation.GLOBAL_POINTER} is defined while gp holds the per-CPU base: "
            "the linker may make accesses to ordinary data relative to gp",
            symbol=relaxation.GLOBAL_POINTER,
            found=f"{relaxation.GLOBAL_POINTER} at {pointer:#x}",
            expected="no such symbol",
            fix=mends,
        )
