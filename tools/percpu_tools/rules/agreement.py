"""Rules about facts that several parties hold: script, runtime, alignment of the variables, the caller."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from percpu_tools import profiles
from percpu_tools.findings import Finding, NotJudged
from percpu_tools.image import Image, Section
from percpu_tools.layout import Layout
from percpu_tools.note import UNIT_SYMBOL, Note, parse_unit
from percpu_tools.rules import rule

# percpu::detail::areas, which the runtime has in every build with areas.
_OF_RUNTIME = b"ZN6percpu6detail5areasE"

# What each translation unit says of itself (percpu/built.hpp), and how many of them a finding names.
_UNIT_FIELDS = ("version", "layout", "features", "base_register", "cache_line")
_FILES_NAMED = 3
# A kernel has one kind of them, or by mistake two.
_MOST_KINDS = 4

# What `objcopy -O elf32-i386` or `-O elf32-x86-64` makes of a kernel for x86_64; QEMU loads no other by Multiboot ("Cannot load
# x86-64 image, give a 32bit one", hw/i386/multiboot.c).
_REWRAPPED = ("EM_386", "EM_X86_64")

_RENDER = "render the fragment with percpu-ldscript in place of a section written by hand"


@rule("T10", "misaligned-areas", "a variable is aligned on CPU 0 and misaligned on others")
def misaligned_areas(layout: Layout, image: Image) -> Iterator[Finding | NotJudged]:
    """
    Mechanism
      The area of CPU n begins at _percpu_start + n * stride. The linker aligns the template to its most
      aligned variable; a stride that is not a multiple of that alignment loses it from CPU 1 on. A
      template of 0x140 bytes with a variable aligned to 0x100 has a stride of 0x140 when it is rounded to
      cache lines only. Aligned vector accesses fault, page-aligned data shares pages.

    Reproduce
      alignas(256) in a per-CPU variable, and a script with
      _percpu_stride = ALIGN(_percpu_load_end - _percpu_load_start, 64);

    Mend
      1. Round the stride up to the larger of the cache line and ALIGNOF(.percpu). The fragment does.
      2. Ask for less alignment.
    """
    section = layout.section
    if not layout.has_areas or section is None or not layout.template_size:
        return
    # The most aligned variable is the one that asked for the section's alignment, or is as good a witness.
    witness = max(layout.variables, key=lambda variable: variable.alignment, default=None)
    symbol = witness.symbol if witness else None
    name = f" ({witness.name} has it)" if witness else ""
    if (lack := layout.lacks(profiles.STRIDE)) is not None:
        yield NotJudged(f"whether the stride keeps the alignment: {lack}")
    alignment = layout.template_alignment
    if ((layout.stride or 0) % alignment or (layout.start or 0) % alignment) and _is_shared(layout, image, section):
        yield NotJudged(f"{section.name} holds other things than the template, and may have its alignment from them")
        return
    if layout.stride and layout.stride % alignment:
        origin = layout.name_of("_percpu_stride") if layout.stride_given else "the stride that the runtime computes"
        yield Finding(
            "error",
            f"{origin} is not a multiple of the alignment of {section.name}{name}: from CPU 1 on, the area loses it",
            symbol=symbol,
            section=section.name,
            found=f"stride {layout.stride:#x}",
            expected=f"a multiple of {alignment:#x}",
            fix=(
                "round the stride up to max(cache line, ALIGNOF(.percpu)) in the linker script",
                _RENDER,
                f"ask for an alignment of at most {layout.stride & -layout.stride:#x}",
            ),
        )
    if layout.start is not None and layout.start % alignment:
        yield Finding(
            "error",
            f"{layout.name_of('_percpu_start')} is not aligned as {section.name} is{name}: every area loses the alignment",
            symbol=layout.name_of("_percpu_start"),
            section=section.name,
            found=f"{layout.name_of('_percpu_start')} at {layout.start:#x}",
            expected=f"a multiple of {alignment:#x}",
            fix=(f"write `. = ALIGN(ALIGNOF({section.name}));` before {layout.name_of('_percpu_start')} in the linker script", _RENDER),
        )


def _is_shared(layout: Layout, image: Image, section: Section) -> bool:
    """Whether things that are not the template's lie in its section, or may do so where their symbols were dropped."""
    assert layout.load_start is not None and layout.load_end is not None
    if layout.is_alone:
        return False
    if not image.has_local_symbols and section.has_bytes:
        return True
    bounds = {layout.name_of(symbol) for symbol in layout.symbols}
    return any(
        symbol.section == section.number
        and symbol.type not in ("SECTION", "FILE")
        # What a script defines between sections, lld says to be of the one before.
        and section.address <= symbol.value < section.end
        and not layout.load_start <= symbol.value <= layout.load_end
        and symbol.name not in bounds
        and not symbol.name.startswith(("_percpu_", "$", ".L"))
        for symbol in image.symbols((), sections=[section.number])
    )


@rule("T11", "stride-disagreement", "the linker script, the runtime and its users do not agree")
def disagreement(layout: Layout, image: Image) -> Iterator[Finding | NotJudged]:
    """
    Mechanism
      The script reserves the memory of the areas, and the runtime walks through it. When they do not
      use the same stride, the same layout or the same cache line, the runtime writes beyond what was
      reserved, most often over the boot stack, or reads variables where none are.
      The same holds for the files that use the runtime: one that is compiled with other PERCPU_* macros finds
      the areas by another register or at other addresses, or leaves out the guards that all others rely on.

    Reproduce
      . = _percpu_load_start + ALIGN(64) * CPU_NUM;     with a runtime that rounds areas to 4 KiB
      or a runtime compiled with non-zero-vma, linked with a script that places .percpu at 0
      or a makefile that gives -DPERCPU_PREEMPT to some of the files

    Mend
      1. Render the fragment with the same architecture, features and cache line with which the runtime
         is compiled. The SCons tool does both from one place.
      2. Let the script say its stride (_percpu_stride), which the runtime then uses.
      3. Compile all files of the kernel with what `percpu-config --defines ARCH FEATURES` prints.
    """
    if layout.profile.is_own:
        yield from _units_against_each_other(layout, image)
    if layout.layout is None:
        return
    yield from _note_against_file(layout, image)
    if layout.note is None and layout.profile.is_own and image.symbols((_OF_RUNTIME,)):
        yield NotJudged(
            "whether the script suits the runtime: the file has the runtime, and not its note; "
            "keep .note.percpu in the linker script, in front of patterns that take notes"
        )
    yield from _layout_against_profile(layout)
    if (lack := layout.lacks(profiles.STRIDE, profiles.AREAS)) is not None:
        yield NotJudged(lack)
    elif layout.has_areas and layout.section is not None:
        yield from _stride_against_memory(layout)


def _units_against_each_other(layout: Layout, image: Image) -> Iterator[Finding | NotJudged]:
    symbols = Counter(symbol.name for symbol in image.symbols((UNIT_SYMBOL.encode(),)) if symbol.name.startswith(UNIT_SYMBOL))
    if not symbols and not image.has_local_symbols:
        yield NotJudged("whether all files are compiled for the same: the file has no local symbols, whose names tell")
    if len(symbols) < 2:
        return
    units = {name: parse_unit(name) for name in symbols}
    # The runtime's own, if it is among them; else what most are built for.
    usual = max(units, key=lambda name: (_is_of(units[name], layout.note), symbols[name]))
    others = "the runtime" if _is_of(units[usual], layout.note) else "the others"
    for name in sorted(units.keys() - {usual})[:_MOST_KINDS]:
        differing = [field for field in _UNIT_FIELDS if getattr(units[name], field) != getattr(units[usual], field)]
        if not differing:
            continue
        found, expected = (_built_for(units[one], differing) for one in (name, usual))
        yield Finding(
            "error",
            f"files of the kernel are compiled with other PERCPU_* macros than {others}",
            found=f"{found}{_in_files(image, name, symbols[name])}",
            expected=f"{expected}{_in_files(image, usual, symbols[usual])}",
            fix=(
                "compile all files of the kernel with the same PERCPU_* macros: percpu-config --defines ARCH FEATURES prints them",
                "compile again what was compiled before the features changed",
            ),
        )


def _is_of(unit: Note, note: Note | None) -> bool:
    return note is not None and all(getattr(unit, field) == getattr(note, field) for field in _UNIT_FIELDS)


def _built_for(unit: Note, fields: Iterable[str]) -> str:
    values = ((field, getattr(unit, field)) for field in fields)
    return "; ".join(
        f"{field.replace('_', '-')}={','.join(value) or 'none' if isinstance(value, tuple) else value}" for field, value in values
    )


def _in_files(image: Image, name: str, count: int) -> str:
    sources = image.sources(name, _FILES_NAMED)
    if not sources:
        return ""
    return f" in {', '.join(sources)}{f' and {count - len(sources)} more' if count > len(sources) else ''}"


def _layout_against_profile(layout: Layout) -> Iterator[Finding]:
    expected = layout.profile.layout
    if expected is None or not layout.has_areas or layout.section is None or expected == layout.layout:
        return
    yield Finding(
        "error",
        f"profile {layout.profile.name} is of kernels with the {expected} layout, and the script has linked {layout.section.name} as {layout.layout}",
        section=layout.section.name,
        found=f"{layout.section.name} at {layout.load_start or 0:#x}",
        expected="address 0" if expected == "zero-vma" else "an ordinary address, not 0",
        fix=("correct the address of the section in the linker script", "correct layout in the profile"),
    )


def _note_against_file(layout: Layout, image: Image) -> Iterator[Finding | NotJudged]:
    note = layout.note
    if note is None:
        return
    if note.arch == "x86_64" and image.elf_class == 32 and image.machine in _REWRAPPED:
        yield NotJudged(
            "what depends on the architecture: the file is a kernel for x86_64 that was made a 32-bit ELF file, for its loader; "
            "judge the 64-bit file that it was made from"
        )
    elif note.arch is not None and note.arch != layout.arch:
        yield Finding(
            "error",
            "the runtime's note speaks of another architecture than the ELF header",
            section=".note.percpu",
            found=f"arch={note.arch} in the note",
            expected=f"{layout.arch or image.machine}, as the ELF header has it",
            fix=("compile the runtime and the kernel with the same compiler",),
        )
    if layout.section is not None and note.layout is not None and note.layout != layout.layout:
        yield Finding(
            "error",
            f"the runtime is built for the {note.layout} layout, and the script has linked {layout.section.name} as {layout.layout}",
            section=layout.section.name,
            found=f"{layout.section.name} at {layout.load_start or 0:#x}",
            expected="address 0" if note.layout == "zero-vma" else "an ordinary address, not 0",
            fix=(
                "render the fragment with the features with which the runtime is compiled "
                + ("(without non-zero-vma)" if note.layout == "zero-vma" else "(with non-zero-vma)"),
                "compile everything again after changing features",
            ),
        )
    # The other way round, a runtime that wants _percpu_template and finds none, nothing links.
    if layout.has_areas and layout.section is not None and layout.is_pristine and "pristine" not in note.features:
        yield Finding(
            "error",
            "the script keeps the template apart from the areas, and the runtime is not built for that: it copies area 0, which is empty",
            symbol=layout.template_symbol,
            section=layout.section.name,
            found=f"{layout.template_symbol}, and features={','.join(note.features)} in the note",
            expected="the feature pristine in both, or in neither",
            fix=("compile the runtime with PERCPU_PRISTINE", "render the fragment without the feature pristine"),
        )
    if layout.stride_given and layout.stride and note.cache_line and layout.stride % note.cache_line:
        yield Finding(
            "error",
            "the script rounds areas to a smaller cache line than the one that the runtime is built for",
            symbol="_percpu_stride",
            section=layout.section.name if layout.section else None,
            found=f"stride {layout.stride}",
            expected=f"a multiple of cache-line={note.cache_line} in the note",
            fix=(
                f"render the fragment with --cache-line {note.cache_line}",
                "compile the runtime with the PERCPU_CACHE_LINE of the script",
            ),
        )
    near_end = layout.value("_percpu_near_end")
    if note.near_reach and near_end is not None and layout.load_start is not None and near_end - layout.load_start > note.near_reach:
        yield Finding(
            "error",
            "the near variables end beyond the reach of the runtime's near accesses",
            symbol="_percpu_near_end",
            section=layout.section.name if layout.section else None,
            found=f"{near_end - layout.load_start} bytes of near variables",
            expected=f"at most near-reach={note.near_reach} in the note",
            fix=("define the largest ones with PERCPU_DEFINE in place of PERCPU_DEFINE_NEAR", "leave the feature all-near out"),
        )


def _stride_against_memory(layout: Layout) -> Iterator[Finding]:
    section = layout.section
    assert section is not None
    stride, reserved, template = layout.stride, layout.reserved, layout.template_size
    if stride is None or template is None:
        return
    if stride < template:
        yield Finding(
            "error",
            "the stride is smaller than the template: each area is written over by the next one's first variables",
            symbol=layout.name_of("_percpu_stride") if layout.stride_given else None,
            section=section.name,
            found=f"stride {stride}",
            expected=f"at least the template's {template} bytes",
            fix=("compute the stride from SIZEOF(.percpu) in the linker script", _RENDER),
        )
    if reserved is None:
        return
    cpu_num = layout.value("_percpu_cpu_num")
    if cpu_num is None:
        cpu_num = layout.cpu_num_asked
    # The last area needs no padding behind it.
    if cpu_num is not None and reserved < (cpu_num - 1) * stride + template:
        yield Finding(
            "error",
            f"the script reserves less than the areas of {cpu_num} CPUs need: the last ones are written over what follows",
            symbol=layout.name_of("_percpu_end"),
            section=section.name,
            found=f"{reserved} bytes from {layout.name_of('_percpu_start')} to {layout.name_of('_percpu_end')}",
            expected=f"{cpu_num} strides of {stride} bytes, {cpu_num * stride}",
            fix=("reserve CPU_NUM strides, and not CPU_NUM templates, in the linker script", _RENDER),
        )
    elif cpu_num is None and template and stride and (reserved < stride or reserved % stride):
        yield Finding(
            "error",
            "what the script reserves is not a whole number of the runtime's strides: the two do not round alike",
            symbol=layout.name_of("_percpu_end"),
            section=section.name,
            found=f"{reserved} bytes from {layout.name_of('_percpu_start')} to {layout.name_of('_percpu_end')}",
            expected=f"a multiple of the stride, {stride} bytes",
            fix=(
                f"round areas to {layout.cache_line} bytes in the linker script, as the runtime does",
                "define _percpu_stride in the script, which the runtime then uses",
                _RENDER,
            ),
        )


@rule("T28", "stale-cpu-num", "the kernel was linked for another CPU_NUM")
def stale_cpu_num(layout: Layout, image: Image) -> Iterator[Finding | NotJudged]:
    """
    Mechanism
      CPU_NUM reaches the kernel through the linker script alone. Where the build does not know the
      rendered script as a dependency of the link, a change of CPU_NUM leaves the old kernel: it boots
      with the old number of areas, and CPUs beyond it have none.

    Reproduce
      Change CPU_NUM in a Makefile whose link rule does not name percpu.ld, and run make again.
      percpu-check --cpu-num 8 kernel.elf

    Mend
      1. Make the rendered percpu.ld a dependency of the link. The SCons tool does.
      2. Pass to percpu-check the number with which the script is rendered.
    """
    if layout.cpu_num_asked is None or not layout.has_areas:
        return
    if layout.cpu_num is None:
        lack = layout.lacks(profiles.AREAS) or f"it has no symbol {layout.name_of('_percpu_cpu_num')}"
        yield NotJudged(f"the file does not say for how many CPUs it was linked: {lack}")
    elif layout.cpu_num != layout.cpu_num_asked:
        yield Finding(
            "error",
            "the file was linked for another number of CPUs than --cpu-num says",
            symbol=layout.name_of("_percpu_cpu_num"),
            section=layout.section.name if layout.section else None,
            found=f"CPU_NUM {layout.cpu_num}",
            expected=f"CPU_NUM {layout.cpu_num_asked}",
            fix=("link again: the rendered script must be a dependency of the link", "correct --cpu-num"),
        )
