"""Rules about where things lie: the template in the file, the areas in memory, the variables in the template."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from operator import attrgetter

from percpu_tools import profiles, targets
from percpu_tools.findings import Finding, NotJudged
from percpu_tools.image import SHF_TLS, SHF_WRITE, SHN_ABS, SHN_COMMON, SHN_UNDEF, Image, Section, Symbol
from percpu_tools.layout import Layout, variable_name
from percpu_tools.rules import rule

# How kernels name the bounds of what they clear at boot, for `Image.symbols`, and exactly.
_BSS = (b"bss", b"BSS")
_IS_BSS_START = re.compile(r"_*(k|kernel_)?(bss(_?(start|begin))?|(start|begin)_?bss|sbss)_*", re.IGNORECASE)
_IS_BSS_END = re.compile(r"_*(k|kernel_)?(bss_?(end|stop)|(end|stop)_?bss|ebss)_*", re.IGNORECASE)
# Where no name speaks of .bss: JOS clears from `edata` to `end` (kern/init.c). Later versions of xv6 leave it to the loader.
_DATA_ENDS = (rb"edata_*(?=\0)", rb"EDATA_*(?=\0)")
_IS_DATA_END = re.compile(r"_*edata_*", re.IGNORECASE)
_CLEARED = (b"zero", b"ZERO", b"clear", b"CLEAR")

# How they name the end of all, or where free memory begins. In small letters or in capitals: one pattern for both is slower.
_ENDS = tuple(
    spelt
    for pattern in (rb"end_*(?=\0)", rb"end_of_kernel", rb"heap_?(?:start|base|begin)", rb"sheap_*(?=\0)", rb"ekernel_*(?=\0)", rb"free_ram")
    for spelt in (pattern, pattern.upper())
)
_IS_END = re.compile(
    r"_*(k_?|kernel_?|image_?|kernel_?image_?)?end_*|_*end_of_kernel\w*|_*heap_?(start|base|begin)_*|_*sheap_*|_*ekernel_*|_*free_ram(_?(start|base|begin))?_*",
    re.IGNORECASE,
)
_IS_PLAIN_END = re.compile(r"_*end_*", re.IGNORECASE)


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
      3. Place the template before the symbol that marks the start of .bss, or `edata`, if that is what the
         kernel clears from.
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
    yield from _cleared_at_boot(layout, image, section)


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


def _cleared_at_boot(layout: Layout, image: Image, section: Section) -> Iterator[Finding]:
    loaded, place = layout.loaded, layout.template_symbol
    bounds = None if loaded is None else _cleared(image, loaded)
    if loaded is None or bounds is None:
        return
    start, end = bounds
    is_named = _IS_BSS_START.fullmatch(start.name) and _IS_BSS_END.fullmatch(end.name)
    yield Finding(
        "error" if is_named else "warning",
        f"the template lies between {start.name} and {end.name}: code that clears {'.bss' if is_named else 'from the one to the other'} clears the initial values",
        symbol=place,
        section=section.name,
        found=f"{place} at {loaded:#x}, {start.name} at {start.value:#x}, {end.name} at {end.value:#x}",
        expected=f"{place} below {start.name} or not below {end.name}",
        fix=(
            f"write `. = .;` before `{start.name} = .;` in the linker script: GNU ld inserts in front of it",
            "write INCLUDE percpu.ld there (percpu-ldscript --mode include)",
        ),
    )


def _cleared(image: Image, loaded: int) -> tuple[Symbol, Symbol] | None:
    """The bounds of what the kernel clears at boot, where `loaded` lies between them."""
    of_bss = _of_script(image, _BSS)
    starts = [symbol for symbol in of_bss if _IS_BSS_START.fullmatch(symbol.name)]
    ends = [symbol for symbol in of_bss if _IS_BSS_END.fullmatch(symbol.name)]
    # A name that is not known here may be what the kernel goes by, a size for one.
    is_known = len(starts) + len(ends) == len(of_bss)
    if not starts and is_known:
        starts = [symbol for symbol in _of_script(image, _DATA_ENDS) if _IS_DATA_END.fullmatch(symbol.name)]
        if starts and _of_script(image, _CLEARED):
            return None
    start = max((symbol for symbol in starts if symbol.value <= loaded), key=attrgetter("value"), default=None)
    if start is None:
        return None
    if not ends and is_known:
        ends = [symbol for symbol in _of_script(image, _ENDS) if _IS_PLAIN_END.fullmatch(symbol.name)]
    end = min((symbol for symbol in ends if symbol.value >= start.value), key=attrgetter("value"), default=None)
    return None if end is None or end.value <= loaded else (start, end)


def _of_script(image: Image, patterns: Iterable[bytes]) -> list[Symbol]:
    """The symbols with those patterns in their names that a linker script may have defined; labels in code are none."""
    found = []
    for symbol in image.symbols(patterns):
        home = image.section_at(symbol.section)
        in_code = home is not None and home.is_executable and not home.flags & SHF_WRITE and home.address <= symbol.value < home.end
        is_plain = symbol.type in ("NOTYPE", "OBJECT") and not symbol.size and symbol.section != SHN_UNDEF and symbol.name.isidentifier()
        if is_plain and not in_code:
            found.append(symbol)
    return found


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
    told = set()
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
        told.add(symbol.section)
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
    if layout.profile.is_own and layout.section is not None:
        yield from _left_over(layout, image, layout.section, told)


def _left_over(layout: Layout, image: Image, template: Section, told: Collection[int]) -> Iterator[Finding]:
    """What was placed in .percpu.NAME by hand, under whatever name, and has become an output section of its own."""
    for section in image.sections:
        if not section.name.startswith(".percpu.") or section.number in (template.number, *told):
            continue
        # Memory without bytes has no initial value to copy: somebody has reserved it. What linkers make of variables has bytes.
        if not (section.is_allocated and section.has_bytes and section.size):
            continue
        # A script may make the template of several output sections.
        if layout.load_start is not None and layout.load_end is not None and layout.load_start <= section.address <= section.end <= layout.load_end:
            continue
        yield Finding(
            "error",
            f"{section.shown} is an output section of its own, outside the template: no area has a copy of what is in it",
            section=section.name,
            found=f"{section.size} bytes at {section.address:#x}",
            expected=f"all of .percpu.* in {template.name}",
            fix=("collect it in the linker script: *(.percpu .percpu.*), or link with the fragment of percpu-ldscript",),
        )
