"""Reading a user's linker script far enough to say where the per-CPU sections belong in it.

They belong behind the last output section before .bss, or behind the last of all where .data follows .bss.
Earlier, and GNU ld writes the zero-fill areas to the file, because data follows them in the same segment;
later, and the template lies in what the kernel clears at boot, or behind the symbol that ends the kernel.

GNU ld has one surprise (2.40, insert_os_after): INSERT AFTER puts the statements not right behind the
section, but in front of the next output section or of the next assignment to `.`. A line
`__bss_start = .;` between the two is overtaken, and the template is cleared with .bss. A `. = .;` or
`. = ALIGN(...);` before such a line holds it; the linkers' default scripts have one there. But it holds only
in front of an output section that takes memory, or of /DISCARD/: where none follows, the statements go behind
everything, and in front of a .comment, behind all that stands before it.
"""

from __future__ import annotations

import re

from percpu_tools.errors import PercpuError
from percpu_tools.scriptsyntax import ASSIGNMENT, Include, OutputSection, Regions, memory_regions, output_sections, tokens_of

# The anchor on top of a linker's default script, GNU ld's and lld's alike.
DEFAULT_ANCHOR = ".data"

_CLEARED = re.compile(r"bss|zero|clear", re.IGNORECASE)
_END_OF_DATA = re.compile(r"\b_*edata_*\b")


def find_anchor(
    script: str | None,
    linker: str = "ld",
    layout: str = "zero-vma",
    path: str = "the linker script",
) -> str:
    """The output section to insert the fragment after, in a user's script given as text (`None`: no script).

    `layout` is `zero-vma`, `in-image` or `none`; `path` is what messages call the script.
    """
    if script is None:
        return DEFAULT_ANCHOR
    tokens = tokens_of(script)
    sections, trailing = output_sections(tokens, path)
    if not sections and "INSERT" in tokens:
        return DEFAULT_ANCHOR
    loaded = [section for section in sections if section.is_loaded]
    if not loaded:
        why = "has no output section" if "SECTIONS" in tokens else "has no SECTIONS"
        raise PercpuError(
            f"{path} {why}, so there is no place to insert the per-CPU sections",
            fix=("name the script that has SECTIONS", "use the mode include and write INCLUDE percpu.ld where they belong"),
        )
    for section in loaded:
        if section.name in (".percpu", ".percpu_areas", ".percpu_table"):
            raise PercpuError(
                f"{path} has an output section {section.name} already, and the fragment would bring a second one",
                fix=(
                    "remove it from the script; the fragment places .percpu and .percpu.* too",
                    "use the mode include (PERCPU_MODE, --mode), where the script brings the fragment itself",
                ),
            )
    if layout == "zero-vma" and "PHDRS" in tokens:
        _refuse_phdrs(path)
    last_data = max((index for index, section in enumerate(loaded) if section.is_data), default=-1)
    first_bss = next((index for index, section in enumerate(loaded) if section.is_bss and index > last_data), len(loaded))
    if first_bss == 0:
        raise PercpuError(
            f"{path} has {loaded[0].name} as its first output section, so there is none to insert the per-CPU sections after",
            fix="place .data before it, or use the mode include and write INCLUDE percpu.ld before it",
        )
    anchor = loaded[first_bss - 1]
    if anchor.name == "OVERLAY":
        raise PercpuError(
            f"{path} has an OVERLAY as the last statement before .bss, and the linkers insert behind an output section alone",
            fix=("move the OVERLAY to before .data", "use the mode include and write INCLUDE percpu.ld behind the OVERLAY"),
        )
    if linker == "ld":
        place = next(index for index, section in enumerate(sections) if section is anchor) + 1
        follower = sections[place] if place < len(sections) else None
        between = trailing if follower is None else follower.assigned_before
        _refuse_overtaken(between, anchor.name, follower, path, _start_of_bss(tokens) if first_bss < len(loaded) else None)
    return anchor.name


def refuse_without_fragment(script: str, path: str = "the linker script") -> None:
    """Refuse a script for the mode include, given as text, of which it is sure that it does not bring the fragment."""
    tokens = tokens_of(script)
    # What is in a file that was not read, or is still to be rendered (Jinja2), nobody knows; and what brings the
    # fragment, or is one by hand, has its symbols.
    unread = "INCLUDE" in tokens or "{%" in script or "{{" in script
    if unread or "SECTIONS" not in tokens or any("_percpu_" in token for token in tokens):
        return
    raise PercpuError(
        f"{path} does not bring the fragment: there is no INCLUDE percpu.ld in it, which the mode include goes by",
        fix=("write INCLUDE percpu.ld in SECTIONS, behind .data and before .bss", "use the mode insert (PERCPU_MODE, --mode)"),
    )


def refuse_segments(script: str, fragment: str, path: str = "the linker script") -> None:
    """Refuse a script with PHDRS whose segments would take the template at 0 in; both are texts, or one and the same.

    A template of the user's may give .percpu a segment of its own.
    """
    if "PHDRS" not in tokens_of(script):
        return
    tokens = tokens_of(fragment)
    # The fragment to include stands inside the SECTIONS of the script.
    sections, _ = output_sections(tokens if "SECTIONS" in tokens else ["SECTIONS", "{", *tokens, "}"], path)
    if all(section.has_segment for section in sections if section.name == ".percpu"):
        return
    _refuse_phdrs(path)


def _refuse_phdrs(path: str) -> None:
    raise PercpuError(
        f"{path} has PHDRS: the zero-VMA template would share a segment with what stands before it",
        fix=("use the feature non-zero-vma", "remove PHDRS; the linkers make the segments then"),
    )


def find_regions(
    script: str | None,
    anchor: str = DEFAULT_ANCHOR,
    linker: str = "ld",
    mode: str = "insert",
    path: str = "the linker script",
    given: Regions = Regions(None, None),
    layout: str | None = None,
) -> Regions:
    """The regions for the fragment, by those of the section `anchor` in a user's script given as text.

    In the mode include they are those of the section that stands in front of INCLUDE. `given` are the ones that the
    user has named, which count for more. `layout` is as in `find_anchor`; `None`: it is not known yet.
    """
    tokens = tokens_of(script or "")
    _refuse_unknown(tokens, given, path)
    sections, _ = output_sections(tokens, path)
    if mode == "include":
        front = _in_front_of_fragment(sections)
        _refuse_collected(front, path)
    else:
        front = [section for section in sections if section.name == anchor][:1]
    if "MEMORY" not in tokens:
        return given
    name_it = "name the region that the areas are to lie in (PERCPU_REGION, --region)"
    if mode == "include" and not given.region:
        raise PercpuError(f"{path} has MEMORY, and no region is given for the per-CPU sections", fix=name_it)
    if mode == "insert" and linker == "ld":
        raise PercpuError(
            f"{path} has MEMORY, and GNU ld reads the fragment before it: it does not know the regions then",
            fix=f"use the mode include: write INCLUDE percpu.ld behind {anchor}, and {name_it}",
        )
    own = front[-1].regions if front else Regions(None, None)
    region = given.region or own.region
    if region is None:
        raise PercpuError(
            f"{path} has MEMORY, and names no region for {anchor}, which the per-CPU sections follow",
            fix=(f"write >NAME behind {anchor}", name_it),
        )
    if front and not given.load_region:
        _refuse_loaded_elsewhere(front[-1], region, sections, layout, path)
    return Regions(region, given.load_region)


def _refuse_loaded_elsewhere(
    front: OutputSection, region: str, sections: list[OutputSection], layout: str | None, path: str
) -> None:
    """Refuse a section `front` of the fragment that is loaded elsewhere than where it is linked, where that does not carry on.

    With the code loaded so too, it is the kernel's mapping; without, startup code copies, and only what it knows of.
    """
    own = front.regions
    code = [section for section in sections if section.is_code]
    load_region = own.load_region if own.load_region not in (own.region, region) else None
    if load_region is None and not front.has_at:
        return
    flash = load_region or "NAME"
    stays = (
        f"let it stay in {load_region or 'flash'}, from where init copies it: the feature pristine, and the load region "
        f"{flash} (PERCPU_LOAD_REGION, --load-region)"
    )
    if load_region is None and any(section.has_at for section in code):
        if layout != "zero-vma":
            return
        raise PercpuError(
            f"{path} has MEMORY, and AT(...) at {front.name}: the template at address 0 would be loaded by neither",
            fix="use the feature non-zero-vma: it is then loaded as the section in front of it",
        )
    if load_region is not None and any(section.regions == own for section in code):
        raise PercpuError(
            f"{path} has all of the kernel loaded to {load_region} for {own.region} (AT>{load_region}), "
            f"which for the areas, behind {front.name}, no linker does",
            fix=(
                f"write AT(ADDR(.name) - OFFSET) at each section in place of AT>{load_region}, and use the feature non-zero-vma",
                stays,
            ),
        )
    how = f"to {load_region} (AT>{load_region})" if load_region else "elsewhere (AT(...))"
    raise PercpuError(
        f"{path} loads {front.name} {how}, for {own.region or region}: the template would have to be brought there before the first access",
        fix=(stays, f"have it loaded to {region} itself: the load region {region}"),
    )


def _refuse_unknown(tokens: list[str], given: Regions, path: str) -> None:
    """Refuse a region that the script does not have: GNU ld warns of it, and links what it is for at address 0."""
    # What is in a file that was not read, nobody knows.
    if not tokens or any(name == "INCLUDE" and not Include(file).is_fragment for name, file in zip(tokens, tokens[1:])):
        return
    known = memory_regions(tokens)
    for name, option in zip(given, ("PERCPU_REGION, --region", "PERCPU_LOAD_REGION, --load-region")):
        if not name or name in known:
            continue
        if not known:
            raise PercpuError(f"{path} has no MEMORY, and the region {name} is given", fix=f"leave it out ({option})")
        raise PercpuError(
            f"{path} has no memory region {name}: its MEMORY has {', '.join(known)}",
            fix=f"name one of those ({option})",
        )


def _in_front_of_fragment(sections: list[OutputSection]) -> list[OutputSection]:
    """The loaded output sections that stand in front of the fragment, where the script includes it; else none."""
    end = next((index + 1 for index, section in enumerate(sections) if section.precedes_fragment), 0)
    if not end and any(section.name == ".percpu_table" for section in sections):
        # An earlier rendering of it was read with the script.
        end = next(index for index, section in enumerate(sections) if section.name in (".percpu_restart", ".percpu_table"))
    return [section for section in sections[:end] if section.is_loaded]


def _refuse_collected(front: list[OutputSection], path: str) -> None:
    """Refuse a script that collects the variables in front of the fragment, which would then have none."""
    for section in front:
        pattern = next((word for word in section.body if re.match(r"\.percpu(?![a-z_])", word)), None)
        if pattern is not None:
            raise PercpuError(
                f"{path} collects {pattern} in {section.name}, in front of INCLUDE percpu.ld, which finds no variables then",
                fix=f"remove it from {section.name}; the fragment places .percpu and .percpu.*",
            )


def _refuse_overtaken(
    between: list[tuple[str, bool]],
    anchor: str,
    follower: OutputSection | None,
    path: str,
    start_of_bss: re.Pattern[str] | None,
) -> None:
    """Refuse a script where GNU ld would insert behind a symbol that must stand after the areas.

    `follower` is the statement of an output section, of whatever kind, that comes next after `between`;
    `start_of_bss` is what symbols are called where .bss starts, and `None` where there is none.
    """
    dot_holds = follower is not None and follower.holds_dot
    dot_assigned = False
    for name, speaks_of_dot in between:
        if name == ".":
            if dot_holds:
                return
            dot_assigned = True
            continue
        # `_edata = .;` may be overtaken: that the areas are not part of it is right. The start of .bss may
        # not; nor, where there is no .bss, whatever ends the kernel or begins the heap.
        matters = start_of_bss.search(name) if start_of_bss else not _END_OF_DATA.fullmatch(name)
        if not speaks_of_dot or not matters:
            continue
        mends = [] if dot_assigned else [f"write `. = .;` before `{name} = ...`"]
        if not dot_holds:
            where = "at the end of SECTIONS" if follower is None else f"before {follower.name}"
            mends.append(f"write `/DISCARD/ : {{ *(.note.GNU-stack) }}` {where}: GNU ld inserts in front of `. =` only where a section follows")
        raise PercpuError(
            f"{path} assigns {name} {'behind' if dot_assigned else 'right after'} {anchor}: GNU ld inserts the per-CPU sections behind that line, "
            + ("where they are cleared with .bss" if start_of_bss else "where the kernel takes the memory for free"),
            fix=(" and ".join(mends), "use the mode include and write INCLUDE percpu.ld before it"),
        )


def _start_of_bss(tokens: list[str]) -> re.Pattern[str]:
    """What symbols of the script are called where .bss starts: `edata`, as in xv6 and JOS, if no other one is there."""
    assigned = [name for name, follows in zip(tokens, tokens[1:]) if ASSIGNMENT.fullmatch(follows)]
    if any(_CLEARED.search(name) and not re.search(r"end|stop|ebss|size|len", name, re.IGNORECASE) for name in assigned):
        return _CLEARED
    return re.compile(f"{_CLEARED.pattern}|{_END_OF_DATA.pattern}", re.IGNORECASE)
