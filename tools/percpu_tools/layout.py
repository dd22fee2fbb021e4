"""The layout model: the template, the areas and the variables, as an ELF file shows them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from percpu_tools import names, profiles
from percpu_tools.image import SHN_UNDEF, Image, Section, Symbol
from percpu_tools.note import Note
from percpu_tools.profiles import Profile

# What is in the names of every profile's symbols and marked variables; and of the bounds of .bss, for which a rule asks:
# what is asked for together is found in one pass.
_SYMBOLS = (b"percpu_", b"per_cpu_", b"PERCPU_", b"bss")


class Variable(NamedTuple):
    """One per-CPU variable.

    `alignment` is the one that it has in every area: the largest power of two that divides its offset,
    at most the template's. A linked ELF does not say which one the source asked for; it is not larger.
    `offset` is `None` with sp-naive, where there are no areas.
    """

    name: str
    offset: int | None
    size: int
    alignment: int
    section: str
    symbol: str


class Layout(NamedTuple):
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
    # Every symbol of the linker script, `_percpu_...` by the name that this project gives it whatever the profile
    # calls it.
    symbols: dict[str, Symbol]
    # All storage that the runtime's macros made, wherever it landed; none where the profile's do not mark it.
    storage: tuple[Symbol, ...]
    # Whether the script gave a stride, or it was computed here as the runtime computes it.
    stride_given: bool
    cache_line: int

    # Whose data it is, and whether the caller said so.
    profile: Profile = profiles.OWN
    profile_given: bool = False

    # --budget, and the layout of --baseline, or `None`.
    budget: int | None = None
    baseline: Layout | None = None

    @property
    def has_areas(self) -> bool:
        """False with sp-naive, and in a file without per-CPU data."""
        return self.layout not in (None, "none")

    @property
    def is_pristine(self) -> bool:
        """Whether the script keeps the template apart from the areas."""
        return "_percpu_template" in self.symbols

    @property
    def template_symbol(self) -> str:
        """The symbol of the address at which the template is when the kernel runs."""
        return self.name_of("_percpu_template" if self.is_pristine else "_percpu_start")

    @property
    def loaded(self) -> int | None:
        """That address: the beginning of area 0, or of what lies in front of it."""
        return self.value("_percpu_template") if self.is_pristine else self.start

    @property
    def stays_in_rom(self) -> bool:
        """Whether the template has a memory region of its own, and the areas lie in another."""
        if not self.is_pristine or None in (self.loaded, self.start, self.stride):
            return False
        return self.start != (self.loaded or 0) + (self.stride or 0)

    @property
    def memory(self) -> int | None:
        """The bytes from there to the end of the areas; those of the template alone, where the areas lie elsewhere."""
        if self.stays_in_rom:
            return self.template_size
        return None if self.loaded is None or self.end is None else self.end - self.loaded

    @property
    def is_alone(self) -> bool:
        """Whether the template is all that its section holds."""
        return self.section is not None and (self.section.address, self.section.end) == (self.load_start, self.load_end)

    @property
    def template_alignment(self) -> int:
        """The alignment with which the template begins; without a section 1."""
        return 1 if self.section is None else _template_alignment(self.section, self.load_start)

    def value(self, symbol: str) -> int | None:
        """The value of a symbol of the linker script."""
        return self.symbols[symbol].value if symbol in self.symbols else None

    def variable_at(self, offset: int) -> Variable | None:
        """The variable that has that offset in it."""
        return next(
            (
                variable
                for variable in self.variables
                if variable.offset is not None and variable.offset <= offset < variable.offset + max(variable.size, 1)
            ),
            None,
        )

    def name_of(self, symbol: str) -> str:
        """What the file's own project calls that symbol."""
        return self.profile.symbols.get(symbol, symbol)

    def lacks(self, *needs: str) -> str | None:
        """Why a rule that needs these cannot judge the file; `None` if it can."""
        if not self.has_areas:
            return None
        reason = next((self.profile.lacks[need] for need in needs if need in self.profile.lacks), None)
        return None if reason is None else f"profile {self.profile.name}: {reason}"


def read_layout(image: Image, cpu_num: int | None = None, profile: Profile | None = None) -> Layout:
    """The layout of a linked file; `cpu_num` is what the caller believes CPU_NUM to be, `profile` whose kernel it is."""
    note = image.note()
    patterns = [*_SYMBOLS, *(re.escape(name.encode()) for name in (*profile.symbols.values(), *profile.prefixes))] if profile else _SYMBOLS
    found = [symbol for symbol in image.symbols(patterns) if symbol.section != SHN_UNDEF]
    given = profile is not None
    if profile is None:
        profile = _profile(image, note, found)
    script = _script(profile, found)
    storage = tuple(symbol for symbol in found if is_storage(profile, symbol))
    section = _template_section(image, profile, script)
    load_start, load_end = _template_bounds(section, script)
    template_size = None if load_start is None or load_end is None else load_end - load_start
    start, end = _value(script, "_percpu_start"), _value(script, "_percpu_end")
    # Where another's profile has found nothing, our note is not of what it looked for.
    said = note.layout if note and (profile.is_own or section is not None) else None
    layout = _layout_kind(image, said, section, load_start, start)

    cache_line = (note.cache_line if note else None) or profile.cache_line
    reserved = None if start is None or end is None else end - start
    stride = _value(script, "_percpu_stride")
    stride_given = stride is not None
    if stride is None and template_size is not None and start is not None and profiles.STRIDE not in profile.lacks:
        # As the runtime does (area.cpp) where an older script gives none.
        stride = -(-template_size // cache_line) * cache_line
    in_script = _value(script, "_percpu_cpu_num")
    if in_script is None and reserved and stride and reserved % stride == 0:
        in_script = reserved // stride
    alignment = _value(script, "_percpu_alignment")
    if alignment is None and section is not None:
        own = _template_alignment(section, load_start)
        alignment = own if profiles.AREAS in profile.lacks else max(cache_line, own)
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
        variables=_variables(image, profile, section, layout, load_start, load_end, storage),
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
        profile=profile,
        profile_given=given,
    )


def is_storage(profile: Profile, symbol: Symbol) -> bool:
    """Whether the macros of the profile's runtime made that symbol."""
    if symbol.type in ("FUNC", "SECTION", "FILE"):
        return False
    if profile.is_own:
        return names.is_storage(symbol.name)
    # A linker script's symbols may begin like variables. They have neither type nor size.
    is_object = symbol.type == "OBJECT" or symbol.size > 0
    return is_object and bool(profile.prefixes) and names.starts_with(symbol.name, profile.prefixes)


def variable_name(profile: Profile, symbol: str) -> str:
    """The name that the programmer gave the variable with that symbol."""
    return names.cxx_name(symbol) if profile.is_own else names.name_without(symbol, profile.prefixes)


def _profile(image: Image, note: Note | None, found: list[Symbol]) -> Profile:
    """The profile that fits, where the caller named none: our own for whatever our runtime is in."""
    if note is not None or any(names.is_storage(symbol.name) for symbol in found):
        return profiles.OWN
    marks = profiles.RUST.prefixes
    marked = any(names.starts_with(symbol.name, marks) for symbol in found)
    sections = {section.name for section in image.sections}
    return profiles.fitting(sections, {symbol.name for symbol in found}, marks if marked else ())


def _script(profile: Profile, found: Iterable[Symbol]) -> dict[str, Symbol]:
    """The symbols of the linker script, by our names for them."""
    by_name = {symbol.name: symbol for symbol in found}
    script = {ours: by_name[theirs] for ours, theirs in profile.symbols.items() if theirs in by_name}
    if profile.is_own:
        script.update((name, symbol) for name, symbol in by_name.items() if name.startswith("_percpu_"))
    return script


def _value(script: dict[str, Symbol], name: str) -> int | None:
    return script[name].value if name in script else None


def _template_section(image: Image, profile: Profile, script: dict[str, Symbol]) -> Section | None:
    """The section in which the script says the template begins, or the one with the usual name."""
    named = next((section for name in profile.sections if (section := image.section(name)) is not None), None)
    if "_percpu_load_start" in script:
        start = script["_percpu_load_start"]
        section = image.section_at(start.section)
        if section is not None and profile.is_own:
            return section
        # An assignment in front of an output section belongs to the section before, to a linker.
        holding = (one for one in (section, named, *image.sections) if one is not None and one.is_allocated)
        return next((one for one in holding if one.address <= start.value < one.end), named)
    return named


def _template_bounds(section: Section | None, script: dict[str, Symbol]) -> tuple[int | None, int | None]:
    start, end = _value(script, "_percpu_load_start"), _value(script, "_percpu_load_end")
    if section is not None:
        start = section.address if start is None else start
        end = section.end if end is None else end
    if start is None or end is None or end < start:
        return None, None
    return start, end


def _layout_kind(
    image: Image, said: str | None, section: Section | None, load_start: int | None, start: int | None
) -> str | None:
    """What the file is, which a rule compares with what the note has said. Only the note can say `none`."""
    if said == "none" or section is None or load_start is None:
        return said
    # A file that is loaded anywhere (PIE) may be linked at 0 itself, with a template in it that begins there.
    is_at_zero = load_start == 0 and (image.type == "ET_EXEC" or start not in (None, 0))
    return "zero-vma" if is_at_zero else "in-image"


def _variables(
    image: Image,
    profile: Profile,
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
        for symbol in image.symbols((), sections=[section.number])
        if symbol.section == section.number
        and symbol.type in ("OBJECT", "NOTYPE", "COMMON")
        and (symbol.size > 0 or is_storage(profile, symbol))
        and load_start <= symbol.value < load_end
        and not symbol.name.startswith("_percpu_")
    ]
    inside.sort(key=lambda symbol: (symbol.value, symbol.name))
    return tuple(
        Variable(
            name=variable_name(profile, symbol.name),
            offset=symbol.value - load_start,
            size=symbol.size,
            alignment=_alignment(symbol.value - load_start, _template_alignment(section, load_start)),
            section=section.name,
            symbol=symbol.name,
        )
        for symbol in inside
    )


def _alignment(offset: int, limit: int) -> int:
    return limit if offset == 0 else min(offset & -offset, limit)


def _template_alignment(section: Section, load_start: int | None) -> int:
    """The section's, unless the template begins inside it, where less is kept."""
    return _alignment(load_start or 0, section.alignment)
