"""Rules about where things lie: the template in the file, the areas in memory, the variables in the template."""

from __future__ import annotations

import re
from collections.abc import Iterator

from percpu_tools import profiles, targets
from percpu_tools.findings import Finding, NotJudged
from percpu_tools.image import SHF_TLS, SHN_ABS, SHN_COMMON, Image, Section
from percpu_tools.layout import Layout, variable_name
from percpu_tools.rules import rule

# How kernels name the bounds of what they clear at boot.
_BSS_STARTS = ("__bss_start", "__bss_start__", "_bss_start", "bss_start", "_sbss", "__sbss", "sbss", "__bss_begin")
_BSS_ENDS = ("__bss_end", "__bss_end__", "__bss_stop", "_bss_end", "bss_end", "_ebss", "__ebss", "ebss")


# How they name the end of all, for `Image.symbols`, and exactly.
_ENDS = (rb"end_*(?=\0)", rb"end_of_kernel", rb"heap_(?:start|base|begin)", rb"ekernel(?=\0)")
_IS_END = re.compile(r"_*(k|kernel_?|image_?)?end_*|_*end_of_kernel\w*|_*heap_(start|base|begin)_*|_*ekernel_*", re.IGNORECASE)


@rule("T05", "lost-initial-values", "the template's initial values do not reach memory", needs_symbols=False, needs=(profiles.VALUES,))
def lost_initial_values(layout: Layout, image: Image) -> Iterator[Finding]:
    """
    Mechanism
      The template holds the initial value of every per-CPU variable. With (NOLOAD) on its output
      section, the linker makes the section NOBITS: the file keeps its size and drops its bytes, and
      every variable begins as 0 on every CPU. Nothing fails at link or at load. The same is lost where
      no load segment carries the section, and where the kernel clears the template with .bss at boot.

    Reproduce
      .percpu 0x0 (NOLOAD) : AT(_percpu_start) { *(.percpu .percpu.*) }
      readelf -SW kernel.elf     shows .percpu with the type NOBITS

    Mend
      1. Remove (NOLOAD) from .percpu. To reserve memory for the other CPUs without bytes in the file,
         give it an output section of its own, as the fragment of percpu-ldscript does.
      2. With PHDRS in the script, name a PT_LOAD header behind .percpu (`} :data`).
      3. Place the template before the symbol that marks the start of .bss.
    """
    section = layout.section
    if not layout.has_areas or section is None or not layout.template_size:
        return
    bytes_expected = f"{layout.template_size} bytes of initial values in the file"
    if not section.has_bytes:
        yield Finding(
            "error",
            f"{section.name} is NOBITS: the initial values of its variables are not in the file, and all of them begin as 0",
            section=section.name,
            found="section type NOBITS, 0 bytes in the file",
            expected=f"section type PROGBITS, {bytes_expected}",
            fix=(
                f"remove (NOLOAD) from {section.name} in the linker script",
                "render the fragment with percpu-ldscript in place of a section written by hand",
            ),
        )
    elif not section.is_allocated or (in_file := _bytes_loaded(layout, image, section)) == 0:
        yield Finding(
            "error",
            f"no load segment carries {section.name}: its initial values are in the file but never in memory",
            section=section.name,
            found="0 bytes loaded",
            expected=bytes_expected,
            fix=(
                f"give {section.name} a PT_LOAD header in the linker script (`:data` behind its closing brace)",
                f"remove (INFO), (COPY) or (DSECT) from {section.name} in the linker script",
            ),
        )
    elif in_file < layout.template_size:
        yield Finding(
            "error",
            f"the file holds the initial values of {section.name} only in part",
            section=section.name,
            found=f"{in_file} bytes in the file",
            expected=bytes_expected,
            fix=(f"keep {section.name} in front of NOBITS sections of its segment",),
        )
    yield from _cleared_at_boot(layout, section)


def _bytes_loaded(layout: Layout, image: Image, section: Section) -> int:
    """How many bytes of the template some load segment takes from the file."""
    assert layout.load_start is not None and layout.template_size is not None
    offset = section.offset + layout.load_start - section.address
    best = 0
    for segment in image.segments:
        into = layout.load_start - segment.address
        if 0 <= into < segment.file_size and segment.offset + into == offset:
            best = max(best, min(layout.template_size, segment.file_size - into))
    return best


def _cleared_at_boot(layout: Layout, section: Section) -> Iterator[Finding]:
    if layout.loaded is None:
        return
    place = layout.template_symbol
    for start_name in _BSS_STARTS:
        for end_name in _BSS_ENDS:
            start, end = layout.value(start_name), layout.value(end_name)
            if start is not None and end is not None and start <= layout.loaded < end:
                yield Finding(
                    "error",
                    f"the template lies between {start_name} and {end_name}: code that clears .bss clears the initial values",
                    symbol=place,
                    section=section.name,
                    found=f"{place} at {layout.loaded:#x}, {start_name} at {start:#x}, {end_name} at {end:#x}",
                    expected=f"{place} below {start_name} or not below {end_name}",
                    fix=(
                        f"write `. = .;` before `{start_name} = .;` in the linker script: GNU ld inserts in front of it",
                        "write INCLUDE percpu.ld there (percpu-ldscript --mode include)",
                    ),
                )
                return


@rule("T23", "areas-overlap", "the areas overlap other sections, or the file grows with CPU_NUM")
def areas_overlap(layout: Layout, image: Image) -> Iterator[Finding | NotJudged]:
    """
    Mechanism
      A script that reserves the areas of all CPUs inside .percpu makes that section CPU_NUM strides
      large. At address 0 it reaches up into a kernel that is linked low: 16 KiB for each of 1024 CPUs
      end at 16 MiB, over a kernel at 2 MiB. And the file carries a copy of zeros for every CPU. Areas that
      are reserved too small, or before the location counter is moved on, are written over by what
      follows; and areas behind the symbol from which an allocator takes memory (_end), by whoever gets it.

    Reproduce
      .percpu 0x0 : AT(_percpu_start) {
        *(.percpu .percpu.*)
        . = ALIGN(64) * CPU_NUM;
      }
      readelf -SW kernel.elf     shows the size of .percpu; GNU ld objects to the overlap unless it is
                                 given --no-check-sections

    Mend
      1. Keep the template alone in .percpu, and reserve the other areas as zero-fill memory in an
         output section of their own behind it, at an ordinary address. The fragment does this.
      2. Move the location counter on behind the areas (`. = _percpu_end;`).
      3. Link with `non-zero-vma`, where .percpu is an ordinary section.
    """
    section = layout.section
    if not layout.has_areas or section is None:
        return
    yield from _overlaps(layout, image, section)
    yield from _behind_the_end(layout, image)
    if (lack := layout.lacks(profiles.AREAS)) is not None:
        yield NotJudged(f"whether the areas overlap: {lack}")
    else:
        yield from _bytes_for_areas(layout, image, section)


def _overlaps(layout: Layout, image: Image, section: Section) -> Iterator[Finding]:
    own = {section.number}
    for symbol in ("_percpu_template", "_percpu_start", "_percpu_end"):
        if symbol in layout.symbols:
            own.add(layout.symbols[symbol].section)
    areas = f"the areas of the CPUs ({layout.name_of('_percpu_start')} .. {layout.name_of('_percpu_end')})"
    linked = [(f"section {section.name}", section.address, section.end)]
    if layout.stays_in_rom:
        linked.append(("the template", layout.loaded or 0, (layout.loaded or 0) + section.size))
        linked.append((areas, layout.start or 0, layout.end or 0))
    elif layout.loaded is not None and layout.end is not None:
        linked.append((areas, layout.loaded, layout.end))
    loaded = []
    if (load_address := image.load_address(section)) is not None:
        loaded.append((areas if layout.memory else section.name, load_address, load_address + max(section.size, layout.memory or 0)))
    for other in image.sections:
        # A TLS section without bytes takes no addresses: its end is where the next section begins.
        takes_no_addresses = other.flags & SHF_TLS and not other.has_bytes
        if other.number in own or not other.is_allocated or other.size == 0 or takes_no_addresses:
            continue
        places = [("", other.address, linked)]
        if (load_address := image.load_address(other)) is not None:
            places.append(("load address ", load_address, loaded))
        for kind, address, ranges in places:
            hit = next((area for area in ranges if max(area[1], address) < min(area[2], address + other.size)), None)
            if hit is not None:
                what, start, end = hit
                yield Finding(
                    "error",
                    f"{what} and section {other.name} overlap: writing to the one changes the other",
                    section=other.name,
                    found=f"{other.name} at {kind}{address:#x} .. {address + other.size:#x}",
                    expected=f"nothing else at {kind}{start:#x} .. {end:#x}",
                    fix=(
                        f"place {other.name} in the linker script, if it is one that no line of it places",
                        "render the fragment with percpu-ldscript: it keeps the template alone in .percpu",
                        "write `. = _percpu_end;` behind .percpu in the linker script",
                        "use a smaller CPU_NUM, or the feature non-zero-vma",
                    ),
                )
                break


def _behind_the_end(layout: Layout, image: Image) -> Iterator[Finding]:
    """The areas are the last thing in memory, and a symbol by which kernels know where that ends lies before them."""
    start, end = layout.loaded, layout.end
    if start is None or end is None or not layout.profile.is_own or layout.stays_in_rom:
        return
    others = [
        section.end
        for section in image.sections
        if section.is_allocated and section.size and not section.name.startswith(".percpu") and not (section.flags & SHF_TLS and not section.has_bytes)
    ]
    for symbol in image.symbols(_ENDS):
        if not _IS_END.fullmatch(symbol.name) or not start - targets.PAGE_SIZE < symbol.value < end:
            continue
        if symbol.value > start or all(other <= symbol.value or other <= start - targets.PAGE_SIZE for other in others):
            yield Finding(
                "warning",
                f"the areas lie behind {symbol.name}: a kernel whose free memory begins there hands them out",
                symbol=symbol.name,
                found=f"{symbol.name} at {symbol.value:#x}, {layout.name_of('_percpu_end')} at {end:#x}",
                expected=f"{symbol.name} at {end:#x} or above",
                fix=(
                    f"write `. = .;` before `{symbol.name} = ...` and `/DISCARD/ : {{ *(.note.GNU-stack) }}` at the end of SECTIONS: GNU ld inserts in front of it then",
                    f"write INCLUDE percpu.ld before `{symbol.name} = ...` (percpu-ldscript --mode include)",
                    f"let free memory begin at {layout.name_of('_percpu_end')}",
                ),
            )
            return


def _bytes_for_areas(layout: Layout, image: Image, section: Section) -> Iterator[Finding]:
    """Bytes of the file that hold nothing but the zeros of areas 1 and up."""
    if layout.load_end is None or layout.template_size is None or not layout.stride:
        return
    wasted = 0
    behind = None
    if section.has_bytes and section.end > layout.load_end:
        wasted = section.end - layout.load_end
    elif layout.end is not None and "_percpu_end" in layout.symbols:
        areas = image.section_at(layout.symbols["_percpu_end"].section)
        if areas is not None and areas.number != section.number:
            wasted = areas.size if areas.has_bytes else _covered_by_file(image, areas)
            behind = _with_bytes_behind(image, areas)
    # Less than a stride is the padding of one area, which every CPU_NUM has.
    if wasted < layout.stride:
        return
    if behind is not None:
        yield Finding(
            "warning",
            f"the file holds the areas of all CPUs, so it grows with CPU_NUM: {behind.name} follows them in their segment, and has bytes",
            section=behind.name,
            found=f"{wasted} bytes in the file behind the template, then {behind.name} at {behind.address:#x}",
            expected=f"the template alone, {layout.template_size} bytes",
            fix=(
                f"move {behind.name} to before the per-CPU sections in the linker script, or insert the fragment after it",
                f"write (NOLOAD) at it, `{behind.name} (NOLOAD) : {{ ... }}`, if it holds no initial values",
            ),
        )
        return
    yield Finding(
        "warning",
        "the file holds the areas of all CPUs, so it grows with CPU_NUM",
        section=section.name,
        found=f"{wasted} bytes in the file behind the template",
        expected=f"the template alone, {layout.template_size} bytes",
        fix=(
            "render the fragment with percpu-ldscript: it reserves the other areas as zero-fill memory",
            "put no PROGBITS section behind the areas in the same segment: insert the fragment after the last section before .bss",
        ),
    )


def _with_bytes_behind(image: Image, areas: Section) -> Section | None:
    """The first section behind the areas, in their segment, for which the file has to hold bytes."""
    for segment in image.segments:
        end = segment.address + segment.file_size
        if segment.address <= areas.address < end:
            behind = [section for section in image.sections if section.is_allocated and section.has_bytes and section.size and areas.end <= section.address < end]
            return min(behind, key=lambda section: section.address, default=None)
    return None


def _covered_by_file(image: Image, areas: Section) -> int:
    for segment in image.segments:
        if segment.address <= areas.address < segment.address + segment.file_size:
            return min(areas.size, segment.address + segment.file_size - areas.address)
    return 0


@rule("T25", "outside-template", "a per-CPU variable lies outside the template", needs=(profiles.MARKS,))
def outside_template(layout: Layout, image: Image) -> Iterator[Finding | NotJudged]:
    """
    Mechanism
      Only what lies between _percpu_load_start and _percpu_load_end is copied into each area. A
      variable that the script's patterns do not collect, or that is placed in another section by hand,
      keeps one address of its own; its offset then points outside every area, into memory of somebody
      else.

    Reproduce
      __attribute__((section(".mydata"))) int percpu_storage_x = 1;
      or a script whose .percpu has *(.percpu) without .percpu.*

    Mend
      1. Collect both forms in the script: *(.percpu .percpu.*). The fragment does.
      2. Define the variable with PERCPU_DEFINE, or place it in .percpu or .percpu.NAME.
    """
    if layout.layout == "none":
        return
    if layout.layout is None and layout.profile_given:
        sections = " or ".join(layout.profile.sections) or "of per-CPU data"
        bounds = " and ".join(layout.name_of(symbol) for symbol in ("_percpu_load_start", "_percpu_load_end"))
        yield NotJudged(f"profile {layout.profile.name} does not fit the file: there is no section {sections}, and no symbols {bounds} in one")
    if layout.has_areas and not image.has_local_symbols:
        yield NotJudged("the file has no local symbols, so static variables may lie outside the template")
    for symbol in layout.storage:
        inside = (
            layout.section is not None
            and layout.load_start is not None
            and layout.load_end is not None
            and symbol.section == layout.section.number
            and layout.load_start <= symbol.value <= symbol.value + symbol.size <= layout.load_end
        )
        if inside:
            continue
        home = image.section_at(symbol.section)
        where = home.name if home else {SHN_ABS: "an absolute address", SHN_COMMON: "COMMON"}.get(symbol.section, "no section")
        expected = f"a section {' or '.join(layout.profile.sections) or 'of their own'} with the template; there is none"
        if layout.section is not None and layout.load_start is not None and layout.load_end is not None:
            expected = f"an address in {layout.section.name}, {layout.load_start:#x} .. {layout.load_end:#x}"
        yield Finding(
            "error",
            f"per-CPU variable {variable_name(layout.profile, symbol.name)} lies in {where}, outside the template: no area has a copy of it",
            symbol=symbol.name,
            section=home.name if home else None,
            found=f"{symbol.value:#x} in {where}",
            expected=expected,
            fix=(
                "collect its input section in the linker script: *(.percpu .percpu.*), or link with the fragment of percpu-ldscript",
                "define it with PERCPU_DEFINE, without a section of its own",
            ),
        )
