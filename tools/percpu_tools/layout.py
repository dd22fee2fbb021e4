"""The layout model: the template, the areas and the variables, as an ELF file shows them."""

from __future__ import annotations

from dataclasses import dataclass

from percpu_tools import names
from percpu_tools.image import SHN_UNDEF, Image, Section, Symbol
from percpu_tools.note import Note

TEMPLATE_SECTION = ".percpu"

# The cache line that the seed's scripts and runtime round to, for kernels without our note.
_USUAL_CACHE_LINE = 64

# The symbols between linker script and runtime, and the bounds of .bss, under the names that kernels give them.
_SYMBOLS = rb"_percpu_|" + names.STORAGE_PATTERN + rb"|bss"


@dataclass(frozen=True)
class Variable:
    """One per-CPU variable.

    `alignment` is the one that it has in every area: the largest power of two that divides its offset,
    at most the section's. A linked ELF does not say which one the source asked for; it is not larger.
    `offset` is `None` with sp-naive, where there are no areas.
    """

    name: str
    offset: int | None
    size: int
    alignment: int
    section: str
    symbol: str


@dataclass(frozen=True)
class Layout:
    """What rules judge. A field of which the ELF says nothing is `None`."""

    file: str
    arch: str | None
    layout: str | None
    cpu_num: int | None
    template_size: int | None
    stride: int | None
    alignment: int | None
    reserved: int | None
    variables: tuple[Variable, ...]

    # --cpu-num, or `None`.
    cpu_num_asked: int | None
    note: Note | None
    # The output section that holds the template.
    section: Section | None
    # The addresses of the template, and of the memory of the areas, as the symbols give them.
    load_start: int | None
    load_end: int | None
    start: int | None
    end: int | None
    # Every symbol of the linker script by name, `_percpu_...` and bounds of .bss.
    symbols: dict[str, Symbol]
    # All storage that the runtime's macros made, wherever it landed.
    storage: tuple[Symbol, ...]
    # Whether the script gave a stride, or it was computed here as the runtime computes it.
    stride_given: bool
    cache_line: int

    # --budget, and the layout of --baseline, or `None`.
    budget: int | None = None
    baseline: Layout | None = None

    @property
    def has_areas(self) -> bool:
        """False with sp-naive, and in a file without per-CPU data."""
        return self.layout not in (None, "none")

    def value(self, symbol: str) -> int | None:
        """The value of a symbol of the linker script."""
        return self.symbols[symbol].value if symbol in self.symbols else None


def read_layout(image: Image, cpu_num: int | None = None) -> Layout:
    """The layout of a linked file; `cpu_num` is what the caller believes CPU_NUM to be."""
    note = image.note()
    found = [symbol for symbol in image.symbols(_SYMBOLS) if symbol.section != SHN_UNDEF]
    script = {symbol.name: symbol for symbol in found if "bss" in symbol.name or symbol.name.startswith("_percpu_")}
    storage = tuple(symbol for symbol in found if names.is_storage(symbol.name) and symbol.type not in ("FUNC", "SECTION", "FILE"))
    section = _template_section(image, script)
    load_start, load_end = _template_bounds(section, script)
    template_size = None if load_start is None or load_end is None else load_end - load_start
    layout = _layout_kind(image, note, section, load_start)

    cache_line = (note.cache_line if note else None) or _USUAL_CACHE_LINE
    start, end = _value(script, "_percpu_start"), _value(script, "_percpu_end")
    reserved = None if start is None or end is None else end - start
    stride = _value(script, "_percpu_stride")
    stride_given = stride is not None
    if stride is None and template_size is not None and start is not None:
        # As the runtime does (area.cpp) where an older script gives none.
        stride = -(-template_size // cache_line) * cache_line
    in_script = _value(script, "_percpu_cpu_num")
    if in_script is None and reserved and stride and reserved % stride == 0:
        in_script = reserved // stride
    alignment = _value(script, "_percpu_alignment")
    if alignment is None and section is not None:
        alignment = max(cache_line, section.alignment)
    if layout == "none":
        template_size = stride = reserved = alignment = None

    return Layout(
        file=image.path,
        arch=image.target.name if image.target else None,
        layout=layout,
        cpu_num=in_script,
        template_size=template_size,
        stride=stride,
        alignment=alignment,
        reserved=reserved,
        variables=_variables(image, section, layout, load_start, load_end, storage),
        cpu_num_asked=cpu_num,
        note=note,
        section=section,
        load_start=load_start,
        load_end=load_end,
        start=start,
        end=end,
        symbols=script,
        storage=storage,
        stride_given=stride_given,
        cache_line=cache_line,
    )


def _value(script: dict[str, Symbol], name: str) -> int | None:
    return script[name].value if name in script else None


def _template_section(image: Image, script: dict[str, Symbol]) -> Section | None:
    """The section in which the script says the template begins, or the one with the usual name."""
    if "_percpu_load_start" in script:
        section = image.section_at(script["_percpu_load_start"].section)
        if section is not None:
            return section
    return image.section(TEMPLATE_SECTION)


def _template_bounds(section: Section | None, script: dict[str, Symbol]) -> tuple[int | None, int | None]:
    start, end = _value(script, "_percpu_load_start"), _value(script, "_percpu_load_end")
    if section is not None:
        start = section.address if start is None else start
        end = section.end if end is None else end
    if start is None or end is None or end < start:
        return None, None
    return start, end


def _layout_kind(image: Image, note: Note | None, section: Section | None, load_start: int | None) -> str | None:
    """What the file is, which a rule compares with what the note says. Only the note can say `none`."""
    if note is not None and note.layout == "none":
        return "none"
    if section is None or load_start is None:
        return note.layout if note else None
    return "zero-vma" if load_start == 0 and image.type == "ET_EXEC" else "in-image"


def _variables(
    image: Image,
    section: Section | None,
    layout: str | None,
    load_start: int | None,
    load_end: int | None,
    storage: tuple[Symbol, ...],
) -> tuple[Variable, ...]:
    """The variables in the template, in its order; with sp-naive, the runtime's own wherever they are."""
    if layout == "none":
        return tuple(
            Variable(names.cxx_name(symbol.name), None, symbol.size, _alignment(symbol.value, home.alignment), home.name, symbol.name)
            for symbol in sorted(storage, key=lambda symbol: symbol.value)
            if (home := image.section_at(symbol.section)) is not None
        )
    if section is None or load_start is None or load_end is None:
        return ()
    inside = [
        symbol
        for symbol in image.symbols(names.STORAGE_PATTERN, sections=[section.number])
        if symbol.section == section.number
        and symbol.type in ("OBJECT", "NOTYPE", "COMMON")
        and (symbol.size > 0 or names.is_storage(symbol.name))
        and load_start <= symbol.value < load_end
        and not symbol.name.startswith("_percpu_")
    ]
    inside.sort(key=lambda symbol: (symbol.value, symbol.name))
    return tuple(
        Variable(
            name=names.cxx_name(symbol.name),
            offset=symbol.value - load_start,
            size=symbol.size,
            alignment=_alignment(symbol.value - load_start, section.alignment),
            section=section.name,
            symbol=symbol.name,
        )
        for symbol in inside
    )


def _alignment(offset: int, limit: int) -> int:
    return limit if offset == 0 else min(offset & -offset, limit)
