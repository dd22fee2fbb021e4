"""Rules about the code that touches per-CPU storage: what is no accessor, and what does not reach."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from percpu_tools import profiles
from percpu_tools.findings import STRIPPED, Finding, NotJudged
from percpu_tools.image import Image
from percpu_tools.layout import Layout, Variable
from percpu_tools.rules import rule
from percpu_tools.targets import TARGETS

# Variables that are there for the canary: the runtime's header, Linux's, and what other kernels may call it.
_MEANT_FOR_CANARY = ("guard", "canary", "fixed_percpu_data", "irq_stack_union")
_HEADER = "percpu_storage_header"


def _more(places: int) -> str:
    return f"; {places - 1} more such places" if places > 1 else ""


@rule("T03", "stack-guard", "x86_64: the stack protector's canary lies in a per-CPU variable", needs_symbols=False)
def stack_guard(layout: Layout, image: Image) -> Iterator[Finding | NotJudged]:
    """
    Mechanism
      With -fstack-protector and -mcmodel=kernel, compilers take the canary from %gs:0x28 (%fs:0x28 without
      -mcmodel=kernel), or where -mstack-protector-guard-reg and -offset say. Where that segment holds the
      per-CPU base, it is offset 40 of the area. A variable there changes between a function's begin and end, and
      the function reports a smashed stack; and in the in-image layout the base is biased, so that %gs:0x28 lies
      outside every area.

    Reproduce
      gcc -mcmodel=kernel -fstack-protector-strong, and 48 bytes of per-CPU variables

    Mend
      1. Compile the file that owns the areas with the same flags: the runtime then reserves bytes 40 to 47.
      2. -mstack-protector-guard=global, or -mstack-protector-guard-reg= and -symbol=.
      3. -fno-stack-protector.

    Evidence
      The instructions: a comparison with a word of the segment, and behind it a branch to a call of
      __stack_chk_fail. An accessor that reads a variable at that offset is not followed by one.
    """
    if layout.arch != "x86_64" or not layout.has_areas or not layout.template_size or layout.load_start is None:
        return
    told = layout.note.base_register if layout.note is not None else None
    segment = told or layout.profile.base_registers.get(layout.arch, "gs")
    if segment not in ("gs", "fs"):
        return
    if not image.has_symbols:
        yield NotJudged(STRIPPED)
        return
    in_area = layout.layout == "zero-vma"
    if not in_area and layout.note is None:
        # Without the runtime's bias, what the segment holds is the kernel's own affair.
        return
    from percpu_tools import code
    from percpu_tools.evidence import canary
    from percpu_tools.instructions import x86_64

    usual = _where_canary_is(layout, x86_64.CANARY)
    if in_area and usual is not None and _is_meant_for_canary(usual):
        # Who keeps the usual place for the canary has not told compilers of another one.
        return
    handler = canary.handler(image)
    if handler is None:
        return
    by_offset: dict[int, list[canary.Check]] = {}
    for check in canary.checks(image, segment, handler):
        by_offset.setdefault(check.offset, []).append(check)
    found: list[tuple[canary.Check, Variable | None]] = []
    is_unknown = False
    for displacement, checks in islice(by_offset.items(), _MOST_CANARIES):
        # What is added to a base that is biased is a link-time address.
        offset = (displacement - layout.load_start) % (1 << 64)
        variable = _where_canary_is(layout, offset)
        if variable is None and offset < layout.template_size and not image.has_local_symbols:
            is_unknown = True
        elif not in_area and offset >= layout.template_size or variable and not _is_meant_for_canary(variable):
            found += [(check, variable) for check in checks]
    for (home, place, displacement), variable in found[:1]:
        function, where = code.place(image, home, place)
        word = f"%{segment}:{displacement:#x}"
        if variable is not None:
            begins = variable.offset == (displacement - layout.load_start) % (1 << 64)
            message = (
                f"the stack protector takes its canary from {word}, which belongs to {variable.name}: "
                + ("a write to it looks like a smashed stack" if begins else "unless what lies there is meant for it")
            )
            level = "error" if begins else "warning"
            expected = f"no variable at offset {(displacement - layout.load_start) % (1 << 64)}, or no canary there"
        else:
            message = (
                f"the stack protector takes its canary from {word}, "
                "which in the in-image layout lies outside every area"
            )
            level, expected = "error", "a canary that is not relative to the base register"
        yield Finding(
            level,
            message + _more(len(found)),
            symbol=variable.symbol if variable is not None else function,
            section=layout.section.name if layout.section is not None and variable is not None else home.name,
            found=f"a comparison with {word} at {where}",
            expected=expected,
            fix=(
                *(
                    ("compile the file that owns the areas with -fstack-protector too: it then reserves the place",)
                    if in_area and displacement == x86_64.CANARY
                    else ()
                ),
                "compile with -mstack-protector-guard=global, or -mstack-protector-guard-reg and -symbol",
                "compile with -fno-stack-protector",
            ),
        )
    if is_unknown and not found:
        yield NotJudged(
            "the file has no local symbols, so a static variable may lie where the stack protector has its canary"
        )


# A kernel has one, or two where a file was compiled otherwise.
_MOST_CANARIES = 64


def _where_canary_is(layout: Layout, offset: int) -> Variable | None:
    """The variable that has the first or the last byte of the word at that offset."""
    return layout.variable_at(offset) or layout.variable_at(offset + 7)


def _is_meant_for_canary(variable: Variable) -> bool:
    name = variable.name.lower()
    return _HEADER in variable.symbol and variable.size >= 0x30 or any(word in name for word in _MEANT_FOR_CANARY)


def reach_of_immediate(layout: Layout) -> int:
    """The reach of the shortest access in bytes, 0 for no limit: as the runtime's note or the architecture has it."""
    if layout.note is not None:
        return layout.note.near_reach or 0
    return TARGETS[layout.arch].near_reach if layout.arch in TARGETS else 0


@rule("T04", "offset-out-of-reach", "an access has lost the upper bits of its variable's offset", needs_symbols=False)
def offset_out_of_reach(layout: Layout, image: Image) -> Iterator[Finding | NotJudged]:
    """
    Mechanism
      Instructions of the RISC architectures hold 12 or 16 bits of an offset. Some relocations put the lower
      bits there and do not check that there are no others: AArch64's :abs_g0_nc: makes 0x10 of 0x10010,
      %lo() on RISC-V and %pc_lo12() on LoongArch64 make -0x7f0 of 0x810, :lo12: makes 0x10 of 0x1010, and
      ARM's :lower16: without :upper16: makes 0x10 of 0x10010. The access goes to another variable, or
      to memory in front of the area. x86_64 has 32 bits, and its linkers check them.

    Reproduce
      asm("movz %0, #:abs_g0_nc:percpu_storage_x; mrs %1, tpidr_el1; ldr %0, [%1, %0]" ...);
      with more than 64 KiB of variables in front of x; or a variable defined as near beyond the near reach;
      or all-near, a template beyond it, and a linker script of one's own that defines _percpu_all_near

    Mend
      1. `large-template` on AArch64, or :abs_g1: and :abs_g0_nc: together in assembly of one's own.
      2. :abs_g0: in place of :abs_g0_nc:, with which the link fails.
      3. PERCPU_DEFINE in place of PERCPU_DEFINE_NEAR for the large ones; a script that puts near ones first.
      4. No all-near, or smaller variables.

    Evidence
      The names of near variables, with all-near of all; kept relocations (--emit-relocs); else, on AArch64, a movz whose number is
      added to the base and is what is left of a variable's offset, and on RISC-V and LoongArch64 negative
      offsets from the base register. Nothing is looked at while the template is within the shortest reach.
    """
    if (
        not layout.has_areas
        or layout.layout != "zero-vma"
        or not layout.template_size
        or layout.arch in (None, "x86_64")
    ):
        return
    limit = reach_of_immediate(layout)
    if not limit or layout.template_size <= limit:
        return
    if not image.has_symbols:
        yield NotJudged(STRIPPED)
        return
    from percpu_tools import code
    from percpu_tools.evidence import reach

    near_end = layout.value("_percpu_near_end")
    # Where the script says where the near ones end, T11 compares that with the note.
    told = near_end is not None and layout.load_start is not None and near_end - layout.load_start > limit
    beyond = [] if told else reach.near_beyond(layout, limit)
    for variable in beyond[:1]:
        all_near = reach.all_near(layout)
        yield Finding(
            "error",
            f"{variable.name} is {'near by all-near' if all_near else 'defined as near'}, "
            "and lies beyond the reach of near accesses"
            + (f"; {len(beyond) - 1} more such variables" if len(beyond) > 1 else ""),
            symbol=variable.symbol,
            section=variable.section,
            found=f"offset {variable.offset or 0:#x}, {variable.size} bytes",
            expected=f"{'all' if all_near else 'near'} variables below offset {limit:#x}",
            fix=(
                "leave the feature all-near out, and define what is used most with PERCPU_DEFINE_NEAR",
                "make the variables smaller; a fragment rendered with all-near refuses what is too much, at link",
            )
            if all_near
            else (
                "collect .percpu..near.* first in the linker script, as the fragment of percpu-ldscript does",
                "define it with PERCPU_DEFINE in place of PERCPU_DEFINE_NEAR",
            ),
        )
    if beyond:
        return
    wrapped, doubtful, is_complete, lacks_base = reach.wrapped(layout, image)
    for home, place, meant, offset, becomes in wrapped[:1]:
        function, where = code.place(image, home, place)
        other = layout.variable_at(becomes)
        yield Finding(
            "error",
            f"an access to {meant.name if meant else f'offset {offset:#x}'} has lost the upper bits of the offset, "
            f"and goes to {other.name if other else 'no variable'}" + _more(len(wrapped)),
            symbol=function,
            section=home.name,
            found=f"offset {becomes:#x} in place of {offset:#x}, at {where}",
            expected="an access that reaches every offset in the template",
            fix=_REACH_MENDS.get(layout.arch or "", ())
            + ("make the template smaller, or define the variable with PERCPU_DEFINE_NEAR and put it first",),
        )
    if wrapped:
        return
    if doubtful:
        yield NotJudged(
            f"{len(doubtful)} accesses (the first at {doubtful[0]:#x}) are to variables within 64 KiB, or to others "
            "that lie a multiple of 64 KiB behind them, and no relocations are kept; link with --emit-relocs"
        )
    elif lacks_base:
        yield NotJudged(
            f"the template is larger than the {limit} bytes that the shortest access reaches, and neither a note nor a "
            "profile names the base register, which tells such an access from the end of a longer one"
        )
    elif not is_complete:
        yield NotJudged(
            f"the template is larger than the {limit} bytes that the shortest access reaches, and no relocations are "
            "kept that tell which accesses are to what lies behind; link with --emit-relocs"
        )


_REACH_MENDS = {
    "aarch64": (
        "build with the feature large-template; in assembly of your own, load the offset with :abs_g1: and :abs_g0_nc:",
        "write :abs_g0: for :abs_g0_nc:, so that the link fails where the offset does not fit",
    ),
    "arm": ("load the offset with :lower16: and :upper16:",),
    "riscv64": ("load the offset with %hi and %lo, and add the base between the two",),
    "riscv32": ("load the offset with %hi and %lo, and add the base between the two",),
    "loongarch64": ("load the offset with %abs_hi20 and %abs_lo12",),
}


@rule(
    "T08",
    "outside-accessors",
    "code outside accessors addresses per-CPU storage",
    needs_symbols=False,
    needs=(profiles.RUNTIME,),
)
def outside_accessors(layout: Layout, image: Image) -> Iterator[Finding | NotJudged]:
    """
    Mechanism
      The storage's own address is that of the template. Code that names it as an ordinary variable gets one
      place for all CPUs: in the in-image layout CPU 0's copy, and in the zero-VMA layout low memory. Relative to
      the program counter, a kernel in the higher half is too far from address 0: the link fails, or, where
      linker or flags let it pass, the address wraps. Low kernels link, and are wrong.

    Reproduce
      extern int percpu_storage_x;      percpu_storage_x = 1;
      or in assembly, adrp x0, percpu_storage_x      where the offset was meant

    Mend
      1. The accessors: x.write_current(1), x.current_ptr(), x.remote_ptr(cpu).
      2. x.offset() where the offset is meant.
      3. Another name for an ordinary variable that landed in .percpu by mistake.

    Evidence
      Relocations of code, where the link keeps them (--emit-relocs): those that are relative to the program
      counter or of the global offset table in the zero-VMA layout, and in both layouts loads and stores to an
      address to which no base was added, within the instructions behind the one that makes or loads it. What
      constructors do is T15.
    """
    if not layout.has_areas or layout.arch is None or not layout.template_size or layout.section is None:
        return
    from percpu_tools import relocations

    if not relocations.tables(image):
        yield NotJudged(
            "which code names per-CPU storage only relocations tell, and none are kept; link with --emit-relocs"
        )
        return
    from percpu_tools import code
    from percpu_tools.evidence import outside
    from percpu_tools.rules.constructors import accesses_of_constructors

    places, unread = outside.accesses(layout, image)
    if places:
        constructors = {place for place, _ in accesses_of_constructors(layout, image)}
        places = [place for place in places if place.kept.place not in constructors]
    for (home, _, _, target), how, address in places[:1]:
        function, where = code.place(image, home, address)
        variable = layout.variable_at(target - (layout.load_start or 0))
        name = variable.name if variable else f"storage in {layout.section.name}"
        yield Finding(
            "error",
            f"{name} is addressed {how}, without the base register{_more(len(places))}",
            symbol=function,
            section=home.name,
            found=f"relocation to {layout.section.name} at {where}",
            expected="accesses through the base register",
            fix=(
                "use the variable's accessors: read_current, write_current, current_ptr, remote_ptr",
                "use offset() where the offset is meant",
            ),
        )
    if unread:
        _, where = code.place(image, unread[0].home, unread[0].place)
        yield NotJudged(
            f"{len(unread)} words among code name per-CPU storage, and what reads them is not seen, as at {where}"
        )
