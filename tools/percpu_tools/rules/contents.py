"""Rules about what the template holds: things that are no variables, pointers, places that a loader patches."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import compress
from operator import eq

from percpu_tools.findings import Finding, NotJudged
from percpu_tools.image import SHF_ALLOC, SHN_ABS, SHN_UNDEF, Image, Relocation, Section
from percpu_tools.layout import Layout, Variable
from percpu_tools.rules import rule

# What C++ compilers make by themselves: tables, type information and its names, guards, temporaries.
_COMPILER_MADE = {
    "_ZTV": "a virtual table",
    "_ZTT": "a virtual table",
    "_ZTI": "type information",
    "_ZTS": "the name of a type",
    "_ZGV": "the guard of a local variable",
    "_ZGR": "a temporary",
}

# Below this a number is as likely to be a count as an address.
_LOWEST_POINTER = 0x10000

_SHOWN_BYTES = 16

# Each CPU has a copy of the template. Its bytes are looked at only where they can be meant.
_LARGEST = 1 << 26
_TOO_LARGE = f"the template is larger than {_LARGEST >> 20} MiB: its bytes are not looked at"

# The words that the fragment of a checked build puts around the variables.
_GUARDS = ("_percpu_front_guard", "_percpu_back_guard")
_GUARD_SIZE = 4

_CONSTRUCTED = "define it with PERCPU_DEFINE_CONSTRUCTED: its constructor runs in each area"


@rule("T26", "foreign-contents", "something that is no variable lies in the template")
def foreign_contents(layout: Layout, image: Image) -> Iterator[Finding | NotJudged]:
    """
    Mechanism
      A pattern in the script that is too wide, or an object file linked into .percpu whole, brings
      string literals, virtual tables, constants or code into the template. Every area holds a copy of
      them. At address 0 their addresses are offsets, so a pointer to such a string is a small number,
      and code that follows it reads whatever lies there.

    Reproduce
      .percpu 0x0 : AT(_percpu_start) { *(.percpu .percpu.*) *(.rodata.str*) }

    Mend
      1. Collect only *(.percpu .percpu.*) in the script.
      2. Look at what the linker map (-Map) lists under .percpu, and take the attribute
         section(".percpu") from what is no per-CPU variable.
    """
    section = layout.section
    if not layout.has_areas or section is None or layout.load_start is None or layout.load_end is None:
        return
    symbols = [
        symbol
        for symbol in image.symbols((), sections=[section.number])
        if symbol.section == section.number and layout.load_start <= symbol.value < layout.load_end
    ]
    for symbol in symbols:
        kind = "code" if symbol.type == "FUNC" else _COMPILER_MADE.get(symbol.name[:4])
        if kind is None:
            continue
        yield Finding(
            "warning",
            f"{symbol.name}, {kind}, lies in the template: every area has a copy of it",
            symbol=symbol.name,
            section=section.name,
            found=f"{symbol.size} bytes at {symbol.value:#x}",
            expected="per-CPU variables only",
            fix=(
                "collect only *(.percpu .percpu.*) into the template in the linker script",
                "take the attribute section(\".percpu\") from what is no per-CPU variable",
            ),
        )
    if not section.has_bytes:
        return
    if layout.load_end - layout.load_start > _LARGEST:
        yield NotJudged(_TOO_LARGE)
        return
    if not image.has_local_symbols:
        yield NotJudged("the file has no local symbols, so bytes of the template without a symbol may be static variables")
        return
    bounds = set(layout.profile.symbols.values())
    # `$d` and `$x` say what the bytes are (AArch64, ARM, RISC-V), not whose; `.L` is the compiler's own.
    covered = sorted(
        (symbol.value, _GUARD_SIZE if symbol.name in _GUARDS else symbol.size)
        for symbol in symbols
        if symbol.name in _GUARDS
        or (symbol.type != "SECTION" and symbol.name not in bounds and not symbol.name.startswith(("_percpu_", "$", ".L")))
    )
    yield from _without_symbol(layout, image, section, covered)


def _without_symbol(layout: Layout, image: Image, section: Section, covered: list[tuple[int, int]]) -> Iterator[Finding]:
    """The first bytes that no symbol covers and that are no padding."""
    assert layout.load_start is not None and layout.load_end is not None
    position = layout.load_start
    bounds = [*covered, (layout.load_end, 0)]
    for number, (start, size) in enumerate(bounds):
        gap = image.data(section, position, start - position) if start > position else b""
        # Linkers pad with zeros, or repeat the pattern that the script gives.
        if gap.strip(b"\0") and len(set(gap)) > 1:
            begin = position + len(gap) - len(gap.lstrip(b"\0"))
            shown = gap.strip(b"\0")[:_SHOWN_BYTES]
            yield Finding(
                "warning",
                "the template holds bytes that belong to no symbol: string literals or constants, most likely",
                section=section.name,
                found=f"{shown!r} at {begin:#x}",
                expected="per-CPU variables, and zeros between them",
                fix=(
                    "collect only *(.percpu .percpu.*) into the template in the linker script",
                    "find in the linker map (-Map) which input section lies there",
                ),
            )
            return
        if size == 0 and number < len(covered):
            # A label of assembly: its extent is not known, it lasts until the next one.
            size = max(bounds[number + 1][0] - start, 0)
        position = max(position, start + size)


@rule("T30", "pointer-into-template", "the template holds a pointer to per-CPU storage")
def pointer_into_template(layout: Layout, image: Image) -> Iterator[Finding | NotJudged]:
    """
    Mechanism
      Areas are made by copying bytes. A pointer in the template that points into it, such as an empty list's
      head that points at itself, is copied as it is: on every CPU it points at one place, that of the
      template or of the first area, and in the zero-VMA layout at a small number. All CPUs then
      share one list without a lock, or fault.

    Reproduce
      struct List { List* next; };
      PERCPU_DEFINE(List, waiting, {&percpu_storage_waiting});

    Mend
      1. PERCPU_DEFINE_CONSTRUCTED: the constructor runs in each area, and `this` is that area's.
      2. Begin with a null pointer, and set it on each CPU after init.
      3. Keep the offset in place of the pointer.

    Evidence
      Relocations, where the link keeps them (--emit-relocs) or a loader needs them. Else the words of the
      template: in the zero-VMA layout a pointer looks like any small number, and only a word that holds
      its own address, twice in a row, is judged.
    """
    section = layout.section
    if not layout.has_areas or section is None or layout.load_start is None or layout.load_end is None or not section.has_bytes:
        return
    kept = [table for table in image.sections if _relocates(table, section)]
    if layout.load_end - layout.load_start > _LARGEST:
        yield NotJudged(_TOO_LARGE)
        return
    if kept:
        places = sorted({relocation.offset for table in kept for relocation in image.relocations(table) if _points_in(relocation, layout, image, section)})
        evidence = "relocation"
    else:
        places = sorted(set(_pointer_words(layout, image, section)))
        evidence = "word"
    for place in places[:1]:
        variable = _variable_at(layout, place)
        where = f"{variable.name}" if variable else f"the template at {place:#x}"
        value = int.from_bytes(image.data(section, place, image.elf_class // 8), "little" if image.little_endian else "big")
        more = f"; {len(places) - 1} more such places" if len(places) > 1 else ""
        yield Finding(
            "error" if evidence == "relocation" or layout.load_start >= _LOWEST_POINTER else "warning",
            f"{where} holds a pointer to per-CPU storage: after the copy it points at one place on every CPU{more}",
            symbol=variable.symbol if variable else None,
            section=section.name,
            found=f"{evidence} at {place:#x}, value {value:#x}",
            expected="no pointer to per-CPU storage in the initial values",
            fix=(_CONSTRUCTED, "begin with a null pointer, and set it on each CPU after init"),
        )
    # Where the link kept others, there were none for the template.
    if not places and layout.load_start < _LOWEST_POINTER and image.type == "ET_EXEC" and not any(_is_kept(table, image) for table in image.sections):
        yield NotJudged("no relocations are kept, and in a template at 0 a pointer looks like any small number; link with --emit-relocs")


def _relocates(table: Section, section: Section) -> bool:
    """Whether these are the relocations that the link of a static file kept for the template."""
    return table.type in ("SHT_REL", "SHT_RELA") and not table.flags & SHF_ALLOC and table.info == section.number


def _is_kept(table: Section, image: Image) -> bool:
    """Whether these are relocations of something that is loaded, which the link of a static file kept."""
    home = image.section_at(table.info)
    return table.type in ("SHT_REL", "SHT_RELA") and not table.flags & SHF_ALLOC and home is not None and home.is_allocated


def _target(relocation: Relocation, image: Image, section: Section) -> int:
    """The address that the relocation puts there."""
    addend = relocation.addend
    if addend is None:
        # SHT_REL: what stands there. After the link that is the whole address.
        stored = image.data(section, relocation.offset, image.elf_class // 8)
        return int.from_bytes(stored, "little" if image.little_endian else "big")
    return (relocation.symbol.value if relocation.symbol else 0) + addend


def _points_in(relocation: Relocation, layout: Layout, image: Image, section: Section) -> bool:
    assert layout.load_start is not None and layout.load_end is not None
    if not layout.load_start <= relocation.offset < layout.load_end:
        return False
    symbol, target = relocation.symbol, _target(relocation, image, section)
    is_inside = layout.load_start <= target < layout.load_end
    if symbol is not None and symbol.section not in (SHN_UNDEF, SHN_ABS):
        is_of_template = symbol.section == section.number and (is_inside or layout.is_alone)
        return is_of_template and not _is_load_address(target, layout)
    return symbol is None and is_inside


def _is_load_address(address: int, layout: Layout) -> bool:
    """Whether it is where the template is loaded, elsewhere than linked: what Linux's this_cpu_off holds until the areas are made."""
    assert layout.load_start is not None and layout.load_end is not None
    return address == layout.value("_percpu_template") and not layout.load_start <= address < layout.load_end


def _pointer_words(layout: Layout, image: Image, section: Section) -> Iterator[int]:
    """The addresses of words that can only be such pointers."""
    assert layout.load_start is not None and layout.load_end is not None
    ranges = [(layout.load_start, layout.load_end)]
    if layout.loaded is not None and layout.stride:
        # The template where it is loaded, and area 0 where that is another place.
        if layout.stays_in_rom:
            ranges.append((layout.loaded, layout.loaded + section.size))
            ranges.append((layout.start or 0, (layout.start or 0) + layout.stride))
        else:
            ranges.append((layout.loaded, (layout.start or layout.loaded) + layout.stride))
    ranges = [(start, end) for start, end in ranges if start >= _LOWEST_POINTER]
    size = image.elf_class // 8
    first, words = image.words(section, layout.load_start, layout.load_end)
    for start, end in ranges:
        yield from (first + size * number for number, word in enumerate(words) if start <= word < end)
    # An empty list's head, at 0: `next` and `prev` are the address of the first of the two.
    for number in compress(range(len(words)), map(eq, words, words[1:])):
        if words[number] and words[number] == first + size * number:
            yield words[number]


def _variable_at(layout: Layout, address: int) -> Variable | None:
    assert layout.load_start is not None
    for variable in layout.variables:
        if variable.offset is not None and variable.offset <= address - layout.load_start < variable.offset + max(variable.size, 1):
            return variable
    return None


# The relocations by which a loader adds the load base to what stands there, or to the addend.
_RELATIVE = {"x86_64": 8, "aarch64": 1027, "arm": 23, "riscv64": 3, "riscv32": 3, "loongarch64": 3}


@rule("T09", "dynamic-relocations", "a loader patches the template, or absolute addresses of it", needs_symbols=False)
def dynamic_relocations(layout: Layout, image: Image) -> Iterator[Finding | NotJudged]:
    """
    Mechanism
      A kernel that is linked to run anywhere (PIE, KASLR) carries relocations, by which the boot code adds
      the load base to every absolute address. In a template at 0 that patches low memory, and an offset
      that is encoded as an absolute address becomes something else: the zero-VMA layout is not for such
      kernels. In the in-image layout, an instruction
      that holds the absolute address of per-CPU storage is patched too, if the loader can write
      to code at all, and a 32-bit one cannot hold it; so accesses must be relative to the program counter.

    Reproduce
      movabs $percpu_storage_x, %rax     linked with -pie -z notext
      readelf -rW kernel.elf             shows a relocation in .text with the template's address

    Mend
      1. Build with `non-zero-vma` and -fpie: the runtime's accesses are then relative to the program counter.
      2. Link the kernel without -pie.
      3. For a pointer in the template, PERCPU_DEFINE_CONSTRUCTED.
    """
    section = layout.section
    # GNU ld writes ET_EXEC for a PIE whose script gives it an address.
    is_pie = image.type == "ET_DYN" or any(table.type == "SHT_DYNAMIC" for table in image.sections)
    if not is_pie or not layout.has_areas or section is None or layout.load_start is None or layout.load_end is None:
        return
    if any(table.type == "SHT_RELR" or table.name == ".relr.dyn" for table in image.sections):
        yield NotJudged("the file packs its relative relocations (SHT_RELR), which are not read; link with -z nopack-relative-relocs")
    in_template: list[Relocation] = []
    in_code: list[tuple[Relocation, Section]] = []
    code = [home for home in image.sections if home.is_executable]
    looked_at = [(layout.load_start, layout.load_end), *((home.address, home.end) for home in code)]
    for table in image.sections:
        if table.type not in ("SHT_REL", "SHT_RELA") or not table.is_allocated:
            continue
        for relocation in image.relocations(table, looked_at):
            if layout.load_start <= relocation.offset < layout.load_end:
                in_template.append(relocation)
            else:
                home = next((home for home in code if home.address <= relocation.offset < home.end), None)
                if home is not None and layout.load_start <= _target(relocation, image, home) < layout.load_end:
                    in_code.append((relocation, home))
    for relocation, home in in_code[:1]:
        yield Finding(
            "error",
            f"an instruction holds the absolute address of per-CPU storage, in a file that is loaded anywhere; {len(in_code)} such places",
            section=home.name,
            found=f"dynamic relocation of type {relocation.type} at {relocation.offset:#x}",
            expected="accesses relative to the program counter",
            fix=("build with the feature non-zero-vma and with -fpie", "link without -pie"),
        )
    if layout.layout == "zero-vma" and layout.profile.is_own and not in_code and not in_template:
        yield Finding(
            "error",
            "the template is linked at 0 in a file that is loaded anywhere: the load base would be added to offsets",
            section=section.name,
            found=f"{section.name} at {section.address:#x}, in a position-independent file",
            expected="the in-image layout, or a file that is loaded where it is linked",
            fix=("build with the feature non-zero-vma and with -fpie", "link with -no-pie"),
        )
    inward = [relocation for relocation in in_template if layout.load_start <= _target(relocation, image, section) < layout.load_end]
    judged = in_template if layout.load_start < _LOWEST_POINTER and layout.loaded != layout.load_start else inward
    for relocation in judged[:1]:
        variable = _variable_at(layout, relocation.offset)
        relative = relocation.type == _RELATIVE.get(layout.arch or "")
        yield Finding(
            "error",
            f"a loader patches the initial value of {variable.name if variable else 'the template'}; {len(judged)} such places",
            symbol=variable.symbol if variable else None,
            section=section.name,
            found=f"{'relative' if relative else 'dynamic'} relocation of type {relocation.type} at {relocation.offset:#x}",
            expected="no relocation to per-CPU storage, and none in a template at 0",
            fix=(_CONSTRUCTED, "build with the feature non-zero-vma", "link without -pie"),
        )
