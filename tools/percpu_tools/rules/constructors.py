"""The rule about code that runs before anything else: the constructors of .init_array."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from percpu_tools.findings import Finding, NotJudged
from percpu_tools.image import SHF_ALLOC, SHN_UNDEF, Image, Relocation, Section, Symbol
from percpu_tools.layout import Layout
from percpu_tools.rules import rule

if TYPE_CHECKING:
    from percpu_tools.code import Bytes

_TABLES = (".init_array", ".preinit_array", ".ctors")

# A script may put them into a section of another name. These bounds it has to give to the code that calls them
# (gABI, "Initialization and Termination Functions"; GCC Internals, "How Initialization Functions Are Handled").
_BOUNDS = (("__preinit_array_start", "__preinit_array_end"), ("__init_array_start", "__init_array_end"), ("__CTOR_LIST__", "__CTOR_END__"))
# For `Image.symbols`, which finds those sooner that begin with a letter.
_OF_BOUNDS = (rb"init_array_(?:start|end)", rb"CTOR_(?:LIST|END)__")
# And so GCC and Clang call the function that initializes a file's variables, or those of one priority.
_OF_FILE = rb"GLOBAL__(?:sub_)?I[_.]"
# Without optimization that one calls others: GCC one for all variables, Clang one for each.
_PARTS = (rb"Z41__static_initialization_and_destruction_0", rb"cxx_global_var_init")

# Without a symbol of its own, a constructor's end is not known; it is not looked at further than this.
_LONGEST = 0x10000
# No program's constructors are longer together, or more; a hostile file's may be, and overlap.
_MOST_CODE = 1 << 22
_MOST_CONSTRUCTORS = 4096

# x86: the segment prefixes by which an access goes through the base register.
_SEGMENT_PREFIX = re.compile(rb"[\x64\x65][\x66\xf2\xf3\x40-\x4f]{0,3}(?:\x0f[\x38\x3a]?)?.?.?\Z", re.DOTALL)

# The relocations by which code takes the plain address of a symbol, and that no accessor makes at address 0
# (psABI of each architecture): relative to the program counter.
_PC_RELATIVE = {
    "aarch64": (274, 275, 276),  # ADR_PREL_LO21, ADR_PREL_PG_HI21, ADR_PREL_PG_HI21_NC
    "arm": (3, 45, 46),  # REL32, MOVW_PREL_NC, MOVT_PREL
    "riscv64": (23, 20),  # PCREL_HI20, GOT_HI20
    "riscv32": (23, 20),
    "loongarch64": (71, 103),  # PCALA_HI20, PCREL20_S2
    "x86_64": (2, 9, 41, 42),  # PC32, GOTPCREL, GOTPCRELX, REX_GOTPCRELX
}


class _Constructors(NamedTuple):
    """The addresses of the constructors, and the section in which these, or else they themselves, were found."""

    where: str
    starts: list[int]
    # Whether there is a table that a loader fills.
    is_for_loader: bool


class _Access(NamedTuple):
    """A place in a constructor that names the template. `is_address`: all that is seen is that it takes the address."""

    place: int
    function: Symbol
    is_address: bool


@rule("T15", "constructor-touches-template", "a constructor accesses per-CPU storage at its link-time address")
def constructor_touches_template(layout: Layout, image: Image) -> Iterator[Finding | NotJudged]:
    """
    Mechanism
      A C++ variable whose initial value is not a constant is initialized by a function in .init_array, which
      writes to the address that the linker gave. For per-CPU storage that is the template's: in the
      zero-VMA layout a low address, where the write faults or destroys something, and in the in-image
      layout the area of CPU 0 only, so that the other CPUs keep the value that stands in the file.

    Reproduce
      int compute();
      __attribute__((section(".percpu.x"))) int percpu_storage_x = compute();

    Mend
      1. PERCPU_DEFINE with a constant: the compiler then says where it is none (constinit).
      2. PERCPU_DEFINE_CONSTRUCTED, whose constructor runs in each area.
      3. Write the value on each CPU after init.

    Evidence
      Relocations of the code, where the link keeps them (--emit-relocs); on x86_64 the instructions
      that are relative to the program counter too. In the in-image layout an accessor takes the address as
      well (`lea` on x86_64), and adds the base to it: there only x86_64's loads and stores are judged.
    """
    section = layout.section
    if not layout.has_areas or section is None or layout.load_start is None or layout.load_end is None or not layout.template_size:
        return
    where, starts, is_for_loader = _constructors(image)
    by_loader = NotJudged(f"the constructors' addresses are put into {where} by the loader")
    if not starts:
        if is_for_loader:
            yield by_loader
        return
    functions = _functions(image, starts)
    kept = _kept(image)
    accesses = list(_relocated_accesses(layout, image, section, functions, kept))
    if layout.arch == "x86_64" and all(access.is_address for access in accesses):
        accesses += _relative_accesses(layout, image, functions)
    hits = [access for access in accesses if not access.is_address]
    for place, function, _ in hits[:1]:
        yield Finding(
            "error",
            f"the constructor {function.name or hex(function.value)} accesses per-CPU storage at its link-time address",
            symbol=function.name or None,
            section=section.name,
            found=f"access at {place:#x} to {section.name} without the base register",
            expected="constant initial values",
            fix=(
                "give the variable a constant initial value: PERCPU_DEFINE makes the compiler say where it is none",
                "define it with PERCPU_DEFINE_CONSTRUCTED: its constructor runs in each area",
            ),
        )
    if hits:
        return
    if not kept:
        yield NotJudged(f"{len(starts)} constructors in {where}, and no relocations kept that tell what they access; link with --emit-relocs")
    elif accesses or layout.layout != "zero-vma" and layout.arch != "x86_64":
        yield NotJudged(f"{len(starts)} constructors in {where}: in the in-image layout their accesses look like those of accessors")
    elif is_for_loader:
        yield by_loader


def accesses_of_constructors(layout: Layout, image: Image) -> list[tuple[int, Symbol]]:
    """The places at which constructors access the template, as kept relocations tell, with the constructors."""
    starts = _constructors(image).starts
    if layout.section is None or layout.load_start is None or layout.load_end is None or not starts:
        return []
    accesses = _relocated_accesses(layout, image, layout.section, _functions(image, starts), _kept(image))
    return [(access.place, access.function) for access in accesses if not access.is_address]


def _constructors(image: Image) -> _Constructors:
    tables = [(table, table.address, table.end) for table in image.sections if table.name.startswith(_TABLES) and _has_words(table)]
    tables += _between_bounds(image)
    limit = image.elf_class // 8 * _MOST_CONSTRUCTORS
    words = {word for table, start, end in tables for word in image.words(table, start, min(end, start + limit))[1]}
    listed = {word for word in words if _home(image, word) is not None}
    named = [symbol for symbol in image.symbols(_OF_FILE) if symbol.type == "FUNC"][:_MOST_CONSTRUCTORS]
    starts = listed.union(symbol.value for symbol in named if _home(image, symbol.value) is not None)
    home = tables[0][0] if tables else _home(image, min(starts)) if starts else None
    return _Constructors(home.name if home else "", sorted(starts), bool(tables) and not listed and image.type == "ET_DYN")


def _between_bounds(image: Image) -> list[tuple[Section, int, int]]:
    """The tables between the symbols that a script defines for them, each with the section that it is in."""
    names = {name for bounds in _BOUNDS for name in bounds}
    symbols = image.symbols(_OF_BOUNDS)
    values = {symbol.name: symbol.value for symbol in symbols if symbol.name in names and symbol.section != SHN_UNDEF}
    found = []
    for start, end in ((values.get(first, 0), values.get(last, 0)) for first, last in _BOUNDS):
        home = next((home for home in image.sections if _has_words(home) and home.address <= start < home.end), None)
        if home is not None and start < end:
            found.append((home, start, end))
    return found


def _has_words(section: Section) -> bool:
    return bool(section.is_allocated and section.has_bytes and section.size)


def _kept(image: Image) -> list[Section]:
    return [table for table in image.sections if table.type in ("SHT_REL", "SHT_RELA") and not table.flags & SHF_ALLOC]


def _home(image: Image, address: int) -> Section | None:
    # The lowest bit of an ARM function's address says Thumb.
    return next((home for home in image.sections if home.is_executable and home.has_bytes and home.address <= address < home.end), None)


def _functions(image: Image, starts: list[int]) -> list[Symbol]:
    """The constructors and their parts, each with where it ends."""
    parts = (symbol.value for symbol in image.symbols(_PARTS) if symbol.type == "FUNC" and _home(image, symbol.value) is not None)
    return list(_with_ends(image, sorted({*starts, *islice(parts, _MOST_CONSTRUCTORS)})))


def _with_ends(image: Image, starts: list[int]) -> Iterator[Symbol]:
    """The functions at these addresses, each with where it ends; the function symbols say so."""
    homes = {home.number for start in starts if (home := _home(image, start)) is not None}
    symbols = [symbol for symbol in image.symbols((), sections=homes) if symbol.type == "FUNC" and symbol.section in homes]
    by_address = {symbol.value & ~1 if image.target and image.target.name == "arm" else symbol.value: symbol for symbol in symbols if symbol.size}
    addresses = sorted(by_address)
    for start in starts:
        at = bisect_right(addresses, start) - 1
        if at >= 0 and (symbol := by_address[addresses[at]]) and start < addresses[at] + symbol.size:
            yield symbol._replace(value=addresses[at])
            continue
        home = _home(image, start)
        if home is not None:
            limit = addresses[at + 1] if at + 1 < len(addresses) else home.end
            yield Symbol("", start, min(limit, home.end, start + _LONGEST) - start, "FUNC", home.number)


def _relocated_accesses(
    layout: Layout, image: Image, section: Section, functions: list[Symbol], kept: list[Section]
) -> Iterator[_Access]:
    from percpu_tools.code import Bytes
    from percpu_tools.instructions import x86_64

    assert layout.load_start is not None and layout.load_end is not None
    types = _PC_RELATIVE.get(layout.arch or "", ())
    if layout.layout != "zero-vma" and layout.arch != "x86_64":
        return
    bytes_ = Bytes(image)
    for table in kept:
        home = image.section_at(table.info)
        mine = [function for function in functions if home is not None and function.section == home.number]
        if not mine or home is None:
            continue
        mine.sort(key=lambda function: function.value)
        begins = [function.value for function in mine]
        for relocation in image.relocations(table):
            symbol = relocation.symbol
            at = bisect_right(begins, relocation.offset) - 1
            if at < 0 or relocation.type not in types or symbol is None or symbol.section != section.number:
                continue
            function = mine[at]
            inside = layout.load_start <= _target(layout, bytes_, home, relocation, symbol) < layout.load_end
            if inside and relocation.offset < function.value + function.size and not _through_base(image, home, relocation.offset):
                is_address = layout.layout != "zero-vma" and (
                    relocation.type in x86_64.OF_TABLE or x86_64.addressing(bytes_, home, relocation.offset, is_relative=True) == "lea"
                )
                yield _Access(relocation.offset, function, is_address)


def _target(layout: Layout, bytes_: Bytes, home: Section, relocation: Relocation, symbol: Symbol) -> int:
    """The address that the relocation's instruction names: the symbol may be that of a section with other things in it."""
    from percpu_tools.instructions import x86_64

    # ARM keeps the addend in the instruction (SHT_REL). The one of a displacement counts from the instruction's end.
    target = symbol.value + (relocation.addend or 0)
    return target + x86_64.bytes_behind(bytes_, home, relocation.offset) if layout.arch == "x86_64" else target


def _through_base(image: Image, home: Section, place: int) -> bool:
    """Whether the x86 instruction with its displacement at `place` has a segment prefix."""
    if image.target is None or image.target.name != "x86_64":
        return False
    return _SEGMENT_PREFIX.search(image.data(home, max(place - 8, home.address), min(8, place - home.address))) is not None


def _relative_accesses(layout: Layout, image: Image, functions: list[Symbol]) -> Iterator[_Access]:
    """The x86_64 instructions that address the template relative to the program counter.

    Every four bytes of the function are tried as a displacement, behind a ModRM byte that says so (SDM vol. 2A,
    2.2.1.6).
    """
    from percpu_tools.code import Bytes
    from percpu_tools.instructions import x86_64

    assert layout.load_start is not None and layout.load_end is not None
    bytes_ = Bytes(image)
    examined = 0
    for function in functions:
        home = image.section_at(function.section)
        examined += min(function.size, _LONGEST)
        if home is None or not home.has_bytes or examined > _MOST_CODE:
            continue
        code = image.data(home, function.value, min(function.size, _LONGEST))
        for at in range(1, len(code) - 3):
            if code[at - 1] & 0xC7 != 0x05:
                continue
            place = function.value + at
            inside = layout.load_start <= x86_64.relative_target(bytes_, home, place) < layout.load_end
            if inside and not _through_base(image, home, place):
                is_lea = x86_64.addressing(bytes_, home, place, is_relative=True) == "lea"
                yield _Access(place, function, is_address=is_lea and layout.layout != "zero-vma")
