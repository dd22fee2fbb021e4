"""The ways into a user's linker script that are tested: one declared table.

Each way is right, or is refused by name. The tests link every one that is right and judge what comes out;
ldscripts/GUIDE.md shows the table.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

MODES = ("insert", "include", "macro")
LINKERS = ("ld", "lld")
LAYOUTS = {"zero-vma": (), "in-image": ("non-zero-vma",), "none": ("sp-naive",)}
LINKS = ("", "gc-sections", "pie")

KERNEL_VMA = 0xFFFFFFFF80000000
FLASH, RAM, LENGTH = 0x100000, 0x20000000, 1 << 20

# The place for the fragment in modes that are told it; without one of these, an empty line.
PLACE = "  @place@\n"

_SECTIONS = """\
SECTIONS
{{
  . = {base};
  .text :{at_text} {{ *(.text .text.*) }}{to_text}
  .rodata :{at_rodata} {{ *(.rodata .rodata.* .eh_frame) }}{to_rodata}
  . = ALIGN(4096);
  .data :{at_data} {{ *(.data .data.*) *(.got .got.plt) LONG(7) }}{to_data}
""" + PLACE + """\
  . = ALIGN(16);
  __bss_start = .;
  .bss :{at_bss} {{ *(.bss .bss.* COMMON) }}{to_bss}
  __bss_end = .;
  /DISCARD/ : {{ *(.comment) *(.note.GNU-stack) }}
}}
"""
_NAMES = ("text", "rodata", "data", "bss")


def _script(base: str, head: str = "", at: str = "", to: dict[str, str] | None = None) -> str:
    places = {f"at_{name}": at.format(name=f".{name}") for name in _NAMES}
    places |= {f"to_{name}": (to or {}).get(name, "") for name in _NAMES}
    return f"ENTRY(_start)\n{head}" + _SECTIONS.format(base=base, **places)


# Attributes say what may come into a region that is not named: of our sections, none may need that.
_MEMORIES = [
    f"""\
MEMORY
{{
  FLASH{flash} : ORIGIN = {FLASH:#x}, LENGTH = {LENGTH}
  RAM{ram} : ORIGIN = {RAM:#x}, LENGTH = {LENGTH}
}}
"""
    for flash, ram in ((" (rx)", " (rwx)"), ("", ""))
]
_PHDRS = "PHDRS { text PT_LOAD FLAGS(5); data PT_LOAD FLAGS(6); dynamic PT_DYNAMIC FLAGS(6); }\n"
_IN_RAM = {name: " >RAM" for name in _NAMES}
_IN_FLASH = {"text": " >FLASH", "rodata": " >FLASH", "data": " >RAM AT>FLASH", "bss": " >RAM"}

_OFFSET = f"KERNEL_VMA = {KERNEL_VMA:#x};\n"


def _in_regions(to: dict[str, str]) -> list[str]:
    return [_script(".", memory, to=to).replace("  . = .;\n", "") for memory in _MEMORIES]


# Each kind of script, in one form or more.
SCRIPTS: dict[str, list[str]] = {
    "none of your own": [""],
    "addresses as loaded": [_script("0x40000000")],
    "`AT(ADDR(...) - offset)`": [_script(f"{KERNEL_VMA + 0x100000:#x}", _OFFSET, " AT(ADDR({name}) - KERNEL_VMA)")],
    "`MEMORY`, all in RAM": _in_regions(_IN_RAM),
    "`MEMORY`, runs from flash": _in_regions(_IN_FLASH),
    "`PHDRS`": [_script("0x40000000", _PHDRS, to={"text": " :text", "data": " :data"})],
}


@dataclass(frozen=True)
class Way:
    """One way: the kind of script, and how the fragment comes into it."""

    script: str
    linker: str
    mode: str
    layout: str
    link: str

    @property
    def features(self) -> tuple[str, ...]:
        """The features of the build."""
        return (*LAYOUTS[self.layout], *(["pristine"] if "flash" in self.script else []))

    @property
    def regions(self) -> dict[str, str]:
        """What its user says of the regions."""
        if "MEMORY" not in self.script:
            return {}
        return {"region": "RAM", "load_region": "FLASH"} if "flash" in self.script else {"region": "RAM"}

    @property
    def refusal(self) -> str | None:
        """What is said of a way that cannot be; `None`: it is right."""
        if "MEMORY" in self.script and self.linker == "ld" and self.mode == "insert":
            return "GNU ld reads the fragment before"
        if "MEMORY" in self.script and self.linker == "lld" and self.mode != "insert" and self.layout == "zero-vma":
            return "lld wants a memory region for the template at address 0"
        if "PHDRS" in self.script and self.layout == "zero-vma":
            return "has PHDRS"
        return None

    @property
    def finding(self) -> str | None:
        """The rule by which percpu-check refuses what is linked so; `None`: it finds nothing."""
        return "T09" if self.link == "pie" and self.layout == "zero-vma" else None


def _makes_sense(way: Way) -> bool:
    # Without a script there is no line to write the fragment into; and with sp-naive there are no areas to keep a
    # template for (pristine).
    return (way.script != "none of your own" or way.mode == "insert") and not ("flash" in way.script and way.layout == "none")


WAYS = [way for way in itertools.starmap(Way, itertools.product(SCRIPTS, LINKERS, MODES, LAYOUTS, LINKS)) if _makes_sense(way)]


def guide_table() -> str:
    """The table as ldscripts/GUIDE.md shows it."""
    lines = ["| the script has | linker | `insert` | `include` | Jinja2 |", "|---|---|---|---|---|"]
    for script, linker in itertools.product(SCRIPTS, LINKERS):
        cells = [_cell([way for way in WAYS if (way.script, way.linker, way.mode) == (script, linker, mode)]) for mode in MODES]
        lines.append(f"| {' | '.join([script, 'GNU ld' if linker == 'ld' else linker, *cells])} |")
    return "\n".join(lines) + "\n"


def _cell(found: list[Way]) -> str:
    if not found:
        return ""
    right = {way.layout for way in found if way.link == "" and way.refusal is None}
    if {"zero-vma", "in-image"} <= right:
        return "both layouts"
    return "in-image" if "in-image" in right else "refused"
