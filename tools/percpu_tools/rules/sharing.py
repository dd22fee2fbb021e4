"""Advice about cache lines, and storage that exists more than once."""

from __future__ import annotations

import re
from collections.abc import Iterator

from percpu_tools import names, profiles
from percpu_tools.findings import Finding, NotJudged
from percpu_tools.image import SHN_UNDEF, Image
from percpu_tools.layout import Layout, Variable, variable_name
from percpu_tools.rules import rule

# So many names of variables say enough; the layout, as a picture, shows them all.
_SHOWN = 5


@rule("T27", "false-sharing", "variables that share or straddle cache lines")
def false_sharing(layout: Layout, image: Image) -> Iterator[Finding | NotJudged]:
    """
    Mechanism
      Caches hand over whole lines. Where the stride is no multiple of a line, the end of one CPU's area
      and the beginning of the next share one, and each write of the one CPU takes the line from the
      other. A small object across two lines costs two misses in place of one. Data that all CPUs read
      and hardly any writes, on a line with data that is written all the time, is fetched again after
      each write. Nothing is wrong; it is slow.

    Reproduce
      _percpu_stride = SIZEOF(.percpu);      or a struct of 48 bytes at offset 40

    Mend
      1. Round the stride up to the cache line. The fragment of percpu-ldscript does.
      2. PERCPU_DEFINE_ALIGNED for what should not straddle or share a line.
      3. PERCPU_DEFINE_READ_MOSTLY for what is read by others and hardly written.
    """
    if not layout.has_areas or not layout.template_size:
        return
    line = layout.cache_line
    if (lack := layout.lacks(profiles.STRIDE)) is not None:
        yield NotJudged(f"whether areas share cache lines: {lack}")
    if layout.stride and layout.stride % line:
        yield Finding(
            "note",
            "areas of different CPUs share cache lines: the stride is no multiple of one",
            symbol=layout.name_of("_percpu_stride") if layout.stride_given else None,
            found=f"stride {layout.stride}",
            expected=f"a multiple of {line}",
            fix=("round the stride up to the cache line in the linker script", "render the fragment with percpu-ldscript"),
        )
    straddling = [variable for variable in layout.variables if _straddles(variable, line)]
    if straddling:
        first = straddling[0]
        yield Finding(
            "note",
            f"{_listed(straddling)}: smaller than a cache line and yet on two",
            symbol=first.symbol,
            section=first.section,
            found=f"{first.name}, {first.size} bytes at offset {first.offset}",
            expected=f"{first.size} bytes within one line of {line}",
            fix=("define it with PERCPU_DEFINE_ALIGNED", "give its type alignas of a power of two that is at least its size"),
        )
    yield from _read_mostly_beside_others(layout, line)


def _straddles(variable: Variable, line: int) -> bool:
    if variable.offset is None or not 0 < variable.size <= line:
        return False
    return variable.offset // line != (variable.offset + variable.size - 1) // line


def _listed(variables: list[Variable]) -> str:
    shown = ", ".join(variable.name for variable in variables[:_SHOWN])
    more = len(variables) - _SHOWN
    return f"{shown} and {more} more" if more > 0 else shown


def _read_mostly_beside_others(layout: Layout, line: int) -> Iterator[Finding]:
    """Where the script marks the beginning of the read-mostly variables; without the mark the ELF does not tell them apart."""
    begin = layout.value("_percpu_read_mostly_start")
    if begin is None or layout.load_start is None:
        return
    begin -= layout.load_start
    others = {
        (variable.offset + variable.size - 1) // line: variable
        for variable in layout.variables
        if variable.offset is not None and variable.offset < begin and variable.size
    }
    for first in layout.variables:
        if first.offset is None or first.offset < begin or first.offset // line not in others:
            continue
        yield Finding(
            "note",
            f"the read-mostly variable {first.name} shares a cache line with {others[first.offset // line].name}",
            symbol=first.symbol,
            section=first.section,
            found=f"both on the line at offset {first.offset // line * line:#x}",
            expected="read-mostly variables on lines of their own",
            fix=("write `. = ALIGN(cache line);` before the read-mostly variables in the linker script",),
        )
        return


@rule("T14", "duplicate-storage", "inline or template storage, or storage that exists more than once", needs=(profiles.MARKS,))
def duplicate_storage(layout: Layout, image: Image) -> Iterator[Finding]:
    """
    Mechanism
      A per-CPU variable has one storage in the program. An inline variable or a static member of a template
      is emitted by every file that uses it, in a COMDAT group: GCC refuses the section for it (section
      type conflict) or puts it into another one, Clang takes it and leaves it to the linker which copy, with
      which initial value, stays; as it is with __attribute__((weak)). And a variable with internal linkage in
      a header gives each file that includes it a variable of its own: what one file writes, the other
      never reads.

    Reproduce
      template <class T> struct Box { __attribute__((section(".percpu"))) static inline int percpu_storage_count; };
      or     PERCPU_DEFINE_STATIC(int, count, 0);     in a header that two files include

    Mend
      1. PERCPU_DECLARE in the header, PERCPU_DEFINE in one file.
      2. One variable for each instantiation by name; or an array, indexed by the type's number.
    """
    if layout.layout is None:
        return
    seen: dict[str, int] = {}
    for symbol in layout.storage:
        seen[symbol.name] = seen.get(symbol.name, 0) + 1
    for symbol in image.symbols(names.STORAGE_PATTERN) if layout.profile.is_own else ():
        if symbol.section == SHN_UNDEF or symbol.type != "OBJECT":
            continue
        of_template = _is_of_template(symbol.name)
        if not of_template and not (names.is_storage(symbol.name) and symbol.binding in ("WEAK", "UNIQUE")):
            continue
        home = image.section_at(symbol.section)
        where = home.name if home else "no section"
        if of_template:
            kind = "a template's variable"
        elif symbol.binding == "UNIQUE":
            kind = "an inline variable"
        else:
            # So are Clang's inline variables, and GCC's with -fno-gnu-unique.
            kind = "weak, by an attribute or as an inline variable is"
        yield Finding(
            "warning",
            f"per-CPU storage is {kind}: which file's copy and initial value stays is left to the linker",
            symbol=symbol.name,
            section=home.name if home else None,
            found=f"{symbol.binding.lower()} binding, in {where}",
            expected="one definition with strong binding, in the template",
            fix=("PERCPU_DECLARE in the header and PERCPU_DEFINE in one file", "one variable by name for each instantiation"),
        )
    for name, copies in seen.items():
        if copies > 1:
            yield Finding(
                "note",
                f"{copies} files have a per-CPU variable {variable_name(layout.profile, name)} of their own",
                symbol=name,
                found=f"{copies} storage symbols of that name",
                expected="one, unless the files mean different variables",
                fix=("if a header defines it: PERCPU_DECLARE there, and PERCPU_DEFINE in one file",),
            )


_STORAGE_COMPONENT = re.compile(r"(?<=[EZNL])(\d{2,4})percpu_(?:storage|near)_")


def _is_of_template(symbol: str) -> bool:
    """Whether a mangled name is storage inside a template's instantiation, or of a variable template.

    Itanium C++ ABI, 5.1.5: `_ZN3BoxIiE20percpu_storage_countE`, `_Z20percpu_storage_countIiE`. A function or class
    that has the storage as a template argument is `..L_Z20percpu_storage_countE..`, and ends otherwise.
    """
    for found in _STORAGE_COMPONENT.finditer(symbol):
        rest = symbol[found.end(1) + int(found.group(1)) :]
        if symbol.startswith("_ZN") and found.start() > 0 and symbol[found.start() - 1] == "E" and rest == "E":
            return True
        if symbol[: found.start()] in ("_Z", "_ZL") and rest.startswith("I"):
            return True
    return False
