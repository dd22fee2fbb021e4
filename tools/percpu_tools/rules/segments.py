"""Rules about the load segments: where a loader that goes by physical addresses puts what, and what else lies low."""

from __future__ import annotations

from collections.abc import Iterator

from percpu_tools import targets
from percpu_tools.findings import Finding
from percpu_tools.image import SHF_EXECINSTR, SHF_TLS, Image, Section, Segment
from percpu_tools.layout import Layout
from percpu_tools.rules import rule

_RENDER = "render the fragment with percpu-ldscript: it gives every section around the template its own AT(...)"

# What the fragment places beside the template, as far from where it is linked as its load offset says, right or wrong.
_OF_FRAGMENT = (".percpu_restart", ".percpu_table", ".percpu_areas")

# A hole of this size inside one segment is never meant: no kernel leaves 256 MiB to nothing.
_HOLE = 1 << 28


# Sections that linkers make by themselves; a script that does not name them makes orphans of them.
_LINKER_MADE = (".note.gnu.", ".note.ABI-tag", ".gnu.", ".hash", ".dynsym", ".dynstr", ".dynamic", ".rela.", ".rel.", ".eh_frame_hdr", ".interp")


@rule("T06", "load-address-drift", "physical addresses behind the template are wrong", needs_symbols=False)
def load_address_drift(layout: Layout, image: Image) -> Iterator[Finding]:
    """
    Mechanism
      In the zero-VMA layout the template is linked at 0 and loaded elsewhere: `.percpu 0x0 : AT(x)`. A
      section behind it without an AT of its own keeps the distance between its virtual and its
      load address that .percpu has, so it is loaded x too high: .bss of a kernel at 0x80005000 lands at
      0x100009000, and .data of a higher-half kernel at an address that no memory has. The same
      slip at .percpu itself, AT(_percpu_start) in a kernel that is linked in the higher half, puts the
      template there; a wrong AT at the areas behind it, AT(0), has memory cleared and reserved that is not
      theirs. Loaders refuse the file, or write over something else. In the in-image layout, what follows a
      `.data : { ... } >RAM AT>FLASH` is loaded to flash too, where no startup code looks that copies
      .data alone.

    Reproduce
      .percpu 0x0 : AT(_percpu_start - KERNEL_VMA) { ... }
      . = _percpu_end;
      .bss : { *(.bss) }
      readelf -lW kernel.elf     shows the PhysAddr of the segment with .bss

    Mend
      1. Give the section behind the template an AT of its own:
         .bss : AT(ADDR(.bss) - KERNEL_VMA). The fragment of percpu-ldscript does, so that what follows
         it needs none.
      2. Subtract the same KERNEL_VMA in the AT of .percpu as in those of the other sections.
      3. Link with `non-zero-vma`, where .percpu is an ordinary section.
      4. Name the region in which the template stays (`pristine`, --load-region), or in which it is loaded.
    """
    section = layout.section
    if not layout.has_areas or section is None or not layout.template_size:
        return
    areas = _load_range(layout, image, section)
    if areas is None:
        return
    loaded = areas[0]
    drifted = list(_drifted(image, section, loaded, areas))
    if drifted:
        names = ", ".join(other.name for other in drifted)
        first = drifted[0]
        shift = loaded - section.address
        yield Finding(
            "error",
            f"the load addresses behind {section.name} have drifted: {names} as far from the linked address as the template is",
            section=first.name,
            found=f"{first.name} linked at {first.address:#x}, loaded at {_wrapped(first.address + shift, image):#x}",
            expected="the distance that the sections in front of the template have",
            fix=(
                f"give {first.name} an AT(...) of its own in the linker script, as the sections in front of {section.name} have",
                _RENDER,
                "link with the feature non-zero-vma",
            ),
        )
        return
    in_virtual_half = list(_in_virtual_half(image, section, loaded))
    yield from in_virtual_half or (
        *_template_away_from_area(layout, image, section, loaded),
        *_template_to_be_copied(layout, image, section, loaded),
    )
    yield from _areas_away(layout, image, section)
    yield from _template_covered(image, section, loaded)
    yield from _physical_overlaps(image, areas)


def _load_range(layout: Layout, image: Image, section: Section) -> tuple[int, int] | None:
    """The physical memory of the areas, of which the template is the first or lies in front of them."""
    loaded = image.load_address(section)
    return None if loaded is None else (loaded, loaded + max(section.size, layout.memory or 0))


def _wrapped(address: int, image: Image) -> int:
    return address & ((1 << image.elf_class) - 1)


def _loaded(image: Image) -> Iterator[tuple[Section, int]]:
    """The allocated sections that take memory, in the order of the file, each with its load address."""
    for section in image.sections:
        if not section.is_allocated or section.size == 0 or (section.flags & SHF_TLS and not section.has_bytes):
            continue
        address = image.load_address(section)
        if address is not None:
            yield section, address


def _drifted(image: Image, template: Section, loaded: int, areas: tuple[int, int]) -> Iterator[Section]:
    """The sections behind the template that have its distance from linked to load address, where no other has."""
    shift = _wrapped(loaded - template.address, image)
    if shift == 0:
        return
    others = [(section, address) for section, address in _loaded(image) if section.number != template.number]
    if any(_wrapped(address - section.address, image) == shift for section, address in others if section.number < template.number):
        return
    for section, address in others:
        # What lies in the areas themselves is another fault (T23).
        in_areas = max(areas[0], address) < min(areas[1], address + section.size)
        if section.number > template.number and _wrapped(address - section.address, image) == shift and not in_areas:
            yield section


def _in_virtual_half(image: Image, template: Section, loaded: int) -> Iterator[Finding]:
    half = 1 << (image.elf_class - 1)
    # A note that no line of the script places is another fault (T24).
    segments = [segment for segment in image.segments if segment.memory_size and not _holds_only_linker_made(image, segment)]
    # A 32-bit machine has memory in both halves.
    if image.elf_class != 64 or all(segment.load_address >= half for segment in segments):
        return
    high = [segment for segment in segments if segment.load_address >= half]
    own = [segment for segment in segments if segment.load_address <= loaded < segment.load_address + segment.memory_size]
    if len(segments) - len(high) <= len(own) and loaded < half:
        # Only the template is low: all the rest is linked without AT, for a loader that goes by virtual addresses.
        return
    if high:
        worst = high[0]
        name = template.name if worst in own else f"the segment at {worst.address:#x}"
        yield Finding(
            "error",
            f"the physical address of {name} lies in the virtual half: no machine has memory there",
            section=template.name if worst in own else None,
            found=f"physical address {worst.load_address:#x}",
            expected=f"an address below {half:#x}, as the other segments have",
            fix=("subtract the kernel's virtual base in its AT(...), as in those of the other sections", _RENDER),
        )


def _holds_only_linker_made(image: Image, segment: Segment) -> bool:
    end = segment.address + segment.memory_size
    inside = [section for section in image.sections if section.is_allocated and section.size and segment.address <= section.address < end]
    return bool(inside) and all(section.name.startswith(_LINKER_MADE) for section in inside)


def _template_away_from_area(layout: Layout, image: Image, template: Section, loaded: int) -> Iterator[Finding]:
    """The template is the contents of area 0, so it is loaded where area 0 is linked, or where the script says."""
    if layout.loaded is None or layout.load_start is None or layout.layout != "zero-vma":
        return
    others = [(section, address - section.address) for section, address in _loaded(image) if section.number != template.number]
    # Only of those in front: behind the fragment, what has no AT of its own is loaded as far off as the fragment is.
    scripts_own = {distance for section, distance in others if section.number < template.number and section.name not in _OF_FRAGMENT}
    strays = [section for section, distance in others if section.name in _OF_FRAGMENT and distance not in scripts_own]
    below = [(section.address, distance) for section, distance in others if section.address <= layout.loaded and section not in strays]
    if not below:
        return
    distance = max(below)[1]
    expected = _wrapped(layout.loaded + distance, image)
    found = _wrapped(loaded + layout.load_start - template.address, image)
    if found != expected and expected < 1 << (image.elf_class - 1 if image.elf_class == 64 else 32):
        mends: tuple[str, ...] = (f"write AT({layout.template_symbol} - KERNEL_VMA) at .percpu, with the KERNEL_VMA of the other sections", _RENDER)
        if any(section.address <= layout.loaded for section in strays):
            offset = _wrapped(-distance, image)
            mends = (f"render the fragment with the load offset {offset:#x}, which the other sections have (PERCPU_LOAD_OFFSET, --load-offset)",)
        yield Finding(
            "error",
            f"the template is loaded elsewhere than where {_what_begins(layout)}: no initial value is found there",
            symbol=layout.template_symbol,
            section=template.name,
            found=f"{template.name} at physical address {found:#x}",
            expected=f"{expected:#x}, the physical address of {layout.template_symbol}",
            fix=mends,
        )


def _template_to_be_copied(layout: Layout, image: Image, template: Section, loaded: int) -> Iterator[Finding]:
    """In the image, the template is loaded where it is linked, as far off as the code is that runs there."""
    if layout.layout != "in-image" or not layout.profile.is_own or layout.load_end is None:
        return
    shift = _wrapped(loaded - template.address, image)
    code = {_wrapped(address - section.address, image) for section, address in _loaded(image) if section.flags & SHF_EXECINSTR}
    if not code or shift in code:
        return
    # A .data that is copied with the template in it, or as far as behind it, is right.
    ends = image.symbols((b"edata", b"data_end", b"data_stop"))
    if any(layout.load_end <= symbol.value < template.end + targets.PAGE_SIZE for symbol in ends):
        return
    yield Finding(
        "error",
        f"the template is loaded elsewhere than where {_what_begins(layout)}, and nothing says that it is copied: no initial value is found there",
        symbol=layout.template_symbol,
        section=template.name,
        found=f"{template.name} linked at {template.address:#x}, loaded at {loaded:#x}",
        expected="the distance between the two that the code has",
        fix=(
            "let it stay where it is loaded, from where init copies it: the feature pristine, and that memory region "
            "as the load region (PERCPU_LOAD_REGION, --load-region)",
            "have it loaded to RAM itself: RAM as the load region",
        ),
    )


def _areas_away(layout: Layout, image: Image, template: Section) -> Iterator[Finding]:
    """The memory of the areas is where they are linked, as far off as the sections around them: not elsewhere."""
    if layout.start is None or layout.end is None or layout.layout != "zero-vma" or layout.stays_in_rom:
        return
    placed = sorted((section.address, address - section.address, section) for section, address in _loaded(image) if section.number != template.number)
    areas = [(shift, section) for address, shift, section in placed if layout.start <= address and section.end <= layout.end]
    around = {shift for address, shift, _ in placed if address >= layout.end}
    below = [shift for address, shift, _ in placed if address < layout.start]
    for shift, section in areas:
        if not below or _wrapped(shift - below[-1], image) == 0 or shift in around:
            continue
        yield Finding(
            "error",
            f"the memory of {section.name} is taken elsewhere than where the areas are: a loader clears, and reserves, that",
            section=section.name,
            found=f"{section.name} at physical address {_wrapped(section.address + shift, image):#x}",
            expected=f"{_wrapped(section.address + below[-1], image):#x}, behind the template",
            fix=(f"write AT(ADDR({section.name}) - KERNEL_VMA) at {section.name}, with the KERNEL_VMA of the other sections", _RENDER),
        )


def _what_begins(layout: Layout) -> str:
    return "the runtime reads it" if layout.is_pristine else "the area of CPU 0 begins"


def _template_covered(image: Image, template: Section, loaded: int) -> Iterator[Finding]:
    """The template stands in a hole of another segment, which has none for a loader: it is filled with zeros."""
    end = loaded + template.size
    # A section in that place is another fault (T23).
    if any(section.number != template.number and max(loaded, at) < min(end, at + section.size) for section, at in _loaded(image)):
        return
    for segment in image.segments:
        is_own = segment.address <= template.address and template.end <= segment.address + segment.memory_size
        if is_own or max(loaded, segment.load_address) >= min(end, segment.load_address + segment.memory_size):
            continue
        yield Finding(
            "error",
            f"the segment at {segment.address:#x} reaches over the template in physical memory: loading it clears the initial values",
            section=template.name,
            found=f"physical addresses {segment.load_address:#x} .. {segment.load_address + segment.memory_size:#x}, the template at {loaded:#x}",
            expected="what stands in front of the template and what stands behind it in two segments",
            fix=("give the memory of the areas a segment of its own in PHDRS, beside that of the template", _RENDER),
        )


def _physical_overlaps(image: Image, areas: tuple[int, int]) -> Iterator[Finding]:
    ranges = sorted(
        (segment.load_address, segment.load_address + segment.memory_size, segment.address)
        for segment in image.segments
        if segment.memory_size
    )
    for (start, end, address), (next_start, next_end, next_address) in zip(ranges, ranges[1:]):
        overlap = (next_start, min(end, next_end))
        # What overlaps the areas is another fault (T23).
        if overlap[0] >= overlap[1] or max(areas[0], overlap[0]) < min(areas[1], overlap[1]):
            continue
        yield Finding(
            "error",
            f"the segments at {address:#x} and {next_address:#x} overlap in physical memory: loading the one destroys the other",
            found=f"both at physical addresses {overlap[0]:#x} .. {overlap[1]:#x}",
            expected=f"the second one at {end:#x} or above",
            fix=("correct the AT(...) of the second one in the linker script: ADDR(...) minus the kernel's virtual base", _RENDER),
        )


@rule("T07", "impossible-segment", "a load segment whose size cannot be meant", needs_symbols=False)
def impossible_segment(layout: Layout, image: Image) -> Iterator[Finding]:
    """
    Mechanism
      A linker puts sections with equal permissions into one segment. lld also does that with .percpu at
      0 and a section in the higher half that follows it, and the segment then reaches from 0 to
      there: 0xffffffff80201100 bytes of memory, all of which a loader would have to
      allocate and clear. With bytes behind the hole the link ends with "output file too large".

    Reproduce
      .percpu 0x0 : { *(.percpu .percpu.*) }
      .bss 0xffffffff80200000 : { *(.bss) }      linked with lld
      readelf -lW kernel.elf     shows the MemSiz

    Mend
      1. Give the section behind the template an AT of its own: lld then begins a new segment. The
         fragment of percpu-ldscript does.
      2. Name the segments yourself with PHDRS, and give the template one for itself.
    """
    if not layout.has_areas or layout.section is None:
        return
    for segment in image.segments:
        inside = sorted(
            (section.address, section.end, section.name)
            for section in image.sections
            if section.is_allocated
            and section.size
            and segment.address <= section.address <= section.end <= segment.address + segment.memory_size
            and not (section.flags & SHF_TLS and not section.has_bytes)
        )
        hole, before, behind = max(
            ((next_start - end, name, next_name) for (_, end, name), (next_start, _, next_name) in zip(inside, inside[1:])),
            default=(0, "", ""),
        )
        if segment.file_size > segment.memory_size:
            yield Finding(
                "error",
                f"a load segment of {segment.file_size:#x} bytes in the file cannot be meant: it takes less memory than that",
                section=layout.section.name,
                found=f"file size {segment.file_size:#x}, memory size {segment.memory_size:#x} at {segment.address:#x}",
                expected="a file size that is at most the memory size",
                fix=("give the section behind .percpu an AT(...) of its own in the linker script: the linker then begins a new segment", _RENDER),
            )
            continue
        if hole < _HOLE and segment.address + segment.memory_size <= 1 << image.elf_class:
            continue
        between = f"nothing lies between {before} and {behind}" if hole >= _HOLE else "it ends beyond the last address"
        yield Finding(
            "error",
            f"a load segment of {segment.memory_size:#x} bytes cannot be meant: {between}",
            section=before or None,
            found=f"memory size {segment.memory_size:#x} at {segment.address:#x}",
            expected=f"segments that end where their sections end, {behind} in one of its own" if behind else "a segment within the address space",
            fix=(
                f"give {behind or 'the section behind .percpu'} an AT(...) of its own in the linker script: the linker then begins a new segment",
                "name the segments with PHDRS, and give .percpu one for itself",
                _RENDER,
            ),
        )


@rule("T13", "low-addresses-in-use", "a stale or null pointer hits real memory", needs_symbols=False)
def low_addresses_in_use(layout: Layout, image: Image) -> Iterator[Finding]:
    """
    Mechanism
      In the zero-VMA layout the address of a per-CPU variable is its offset, a small number. Code that
      uses it without the base register, or through a null pointer, faults as long as nothing is mapped
      that low. Where boot code or data is linked at low addresses too, the access hits that
      instead, silently.

    Reproduce
      .boot 0x800 : { *(.boot) }     beside     .percpu 0x0 : AT(_percpu_start) { ... }

    Mend
      1. Link boot code at a page of its own above the template, or discard its mapping after boot.
      2. Link with `non-zero-vma`.
    """
    section = layout.section
    if layout.layout != "zero-vma" or section is None or not layout.template_size:
        return
    limit = -(-section.size // targets.PAGE_SIZE) * targets.PAGE_SIZE
    areas = _load_range(layout, image, section)
    for other in image.sections:
        takes_memory = other.is_allocated and other.size and not (other.flags & SHF_TLS and not other.has_bytes)
        if other.number == section.number or not takes_memory or not section.size <= other.address < limit:
            continue
        # What overlaps the template itself, here or in physical memory, is another fault (T23).
        loaded = image.load_address(other)
        if areas and loaded is not None and max(areas[0], loaded) < min(areas[1], loaded + other.size):
            continue
        yield Finding(
            "warning",
            f"{other.name} lies on the template's pages: an offset that is used as an address hits it, and does not fault",
            section=other.name,
            found=f"{other.name} at {other.address:#x}",
            expected=f"nothing but {section.name} below {limit:#x}",
            fix=(f"link {other.name} at {limit:#x} or above", "link with the feature non-zero-vma"),
        )


@rule("T24", "moved-entry", "a section that no script line places lies in front of the entry", needs_symbols=False)
def moved_entry(layout: Layout, image: Image) -> Iterator[Finding]:
    """
    Mechanism
      The linker adds allocated sections of its own, such as the note with the build id. A script that
      does not place them leaves that to the linker, which puts them in front of .text: at the image
      base, where the boot loader or the firmware expects the first instruction. The entry moves by the
      size of the note. In lld an ASSERT that stands in front of SECTIONS draws them to address 0, into a segment
      that a loader by virtual addresses puts there.

    Reproduce
      gcc -Wl,--build-id ...     with a script without a line for .note.gnu.build-id
      readelf -SW kernel.elf     shows the note in front of .text

    Mend
      1. Place it: *(.note.*) in .rodata, or behind it.
      2. Leave it out: -Wl,--build-id=none, or /DISCARD/ : { *(.note.gnu.*) }.
      3. Find such sections at link: --orphan-handling=warn.
    """
    if layout.layout is None or image.type != "ET_EXEC":
        return
    for section in _in_front_of_entry(layout, image):
        yield Finding(
            "warning",
            f"{section.name}, which the linker made and no line of the script places, lies at the image base in front of the entry",
            section=section.name,
            found=f"{section.name} at {section.address:#x}, the entry at {image.entry:#x}",
            expected="the entry at the image base",
            fix=(
                f"place it behind .text in the linker script: *({section.name}) in .rodata",
                f"leave it out: -Wl,--build-id=none, or /DISCARD/ : {{ *({section.name}) }}",
            ),
        )
    for section, gap in _alone_below(layout, image):
        yield Finding(
            "warning",
            f"{section.name}, which the linker made and no line of the script places, lies alone at the lowest addresses, far below the kernel",
            section=section.name,
            found=f"{section.name} at {section.address:#x}, {gap:#x} bytes below the next segment",
            expected="it beside the other read-only sections",
            fix=(
                f"place it behind .text in the linker script: *({section.name}) in .rodata",
                "move each ASSERT to the end of the linker script: in front of SECTIONS, lld takes it for an assignment to `.`",
                f"leave it out: -Wl,--build-id=none, or /DISCARD/ : {{ *({section.name}) }}",
            ),
        )


def _in_front_of_entry(layout: Layout, image: Image) -> Iterator[Section]:
    """The linker's own sections from the image base up to the entry's section, when the entry begins that one."""
    half = image.elf_class - 1
    before: list[Section] = []
    for section in sorted(image.sections, key=lambda section: section.address):
        is_template = layout.section is not None and section.number == layout.section.number
        if is_template or not section.is_allocated or not section.size or section.address >> half != image.entry >> half:
            continue
        if section.address == image.entry:
            yield from before
            return
        if not section.name.startswith(_LINKER_MADE) or _has_elf_header(image, section):
            return
        before.append(section)


def _alone_below(layout: Layout, image: Image) -> Iterator[tuple[Section, int]]:
    """The linker's own sections that are all of a segment on the first page, and how far below the next one it ends."""
    segments = sorted(
        (segment for segment in image.segments if segment.memory_size and not (layout.section is not None and _holds(segment, layout.section))),
        key=lambda segment: segment.address,
    )
    if len(segments) < 2 or not _holds_only_linker_made(image, segments[0]):
        return
    lowest, following = segments[:2]
    gap = following.address - (lowest.address + lowest.memory_size)
    # Elsewhere, somebody may have placed them.
    if lowest.address >= targets.PAGE_SIZE or gap < targets.PAGE_SIZE:
        return
    for section in image.sections:
        if section.is_allocated and section.size and _holds(lowest, section) and not _has_elf_header(image, section):
            yield section, gap


def _holds(segment: Segment, section: Section) -> bool:
    return segment.address <= section.address < segment.address + segment.memory_size


def _has_elf_header(image: Image, section: Section) -> bool:
    """Whether its segment begins with the ELF header: that of a program for an operating system, which reads e_entry."""
    return any(
        segment.offset == 0 and segment.file_size and segment.address <= section.address < segment.address + segment.memory_size
        for segment in image.segments
    )
