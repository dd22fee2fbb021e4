"""Scripts with MEMORY, beyond what test_ways.py links: regions other than those of .data, and what cannot be meant."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import toolchain
from percpu_tools import PercpuError, check, find_regions, render_fragment
from percpu_tools.image import Image
from percpu_tools.scriptsyntax import Regions

FLASH, RAM, LENGTH = 0x100000, 0x20000000, 1 << 20


def script(home: str) -> str:
    """A firmware's script; with `home` FLASH it runs from there, and copies its .data to RAM."""
    held = " AT>FLASH" if home == "FLASH" else ""
    return f"""\
ENTRY(_start)
MEMORY
{{
  FLASH (rx) : ORIGIN = {FLASH:#x}, LENGTH = {LENGTH}
  RAM (rwx) : ORIGIN = {RAM:#x}, LENGTH = {LENGTH}
}}
SECTIONS
{{
  .text : {{ *(.text .text.*) }} >{home}
  .rodata : {{ *(.rodata .rodata.* .eh_frame) }} >{home}
  .data : {{ *(.data .data.*) LONG(7) }} >RAM{held}
  . = .;
  __bss_start = .;
  .bss (NOLOAD) : {{ *(.bss .bss.* COMMON) }} >RAM
  __bss_end = .;
  /DISCARD/ : {{ *(.comment) }}
}}
"""


def variables(features: tuple[str, ...], layout: str) -> str:
    said = {"features": ",".join(features)} if features else {}
    return (
        toolchain.KERNEL
        + toolchain.variable("rest", 0x11)
        + toolchain.variable("aligned", 0x14, ".percpu..aligned.aligned", 64)
        + toolchain.variable("near", 0x16, ".percpu..near.near")
        + toolchain.note(arch="x86_64", layout=layout, **said)
    )


@pytest.mark.parametrize("features", [(), ("non-zero-vma",), ("pristine",), ("pristine", "non-zero-vma")])
@pytest.mark.parametrize("linker", ["ld", "lld"])
def test_a_template_may_be_loaded_to_ram_itself(tmp_path: Path, linker: str, features: tuple[str, ...]) -> None:
    """Behind a .data that is loaded to flash."""
    layout, mode = ("in-image" if "non-zero-vma" in features else "zero-vma"), "include" if linker == "ld" else "insert"
    fragment = render_fragment(3, "x86_64", features, linker, mode, region="RAM", load_region="RAM")
    text = script("FLASH")
    if mode == "include":
        (tmp_path / "percpu.ld").write_text(fragment)
        text = text.replace("  . = .;\n", "  INCLUDE percpu.ld\n  . = .;\n")
    kernel = toolchain.compile_c(tmp_path, variables(features, layout))
    path = toolchain.link(tmp_path, [kernel], [fragment, text] if mode == "insert" else [text], linker=linker)
    report = check(path)
    assert report.findings == ()
    with Image(path) as image:
        assert RAM <= image.load_address(image.section(".percpu")) == report.layout.loaded < RAM + LENGTH
        assert image.load_address(image.section(".data")) < RAM


INCLUDED = "  INCLUDE percpu.ld\n  . = .;\n"


@pytest.mark.parametrize("layout", ["zero-vma", "in-image"])
@pytest.mark.parametrize("words", [(), ("pristine",)])
@pytest.mark.parametrize("linker", ["ld", "lld"])
def test_a_load_region_that_was_forgotten(tmp_path: Path, linker: str, words: tuple[str, ...], layout: str) -> None:
    """The sections of the fragment go on as .data does, and are loaded to flash, from where nobody copies them."""
    text = script("FLASH").replace("  . = .;\n", INCLUDED)
    with pytest.raises(PercpuError, match=r"kernel.ld loads .data to FLASH \(AT>FLASH\), for RAM"):
        find_regions(text, linker=linker, mode="include", path="kernel.ld", given=Regions("RAM", None))
    named = Regions("RAM", "RAM")
    assert find_regions(text, linker=linker, mode="include", given=named) == named
    if layout == "in-image" and linker == "ld":
        features = ("non-zero-vma", *words)
        (tmp_path / "percpu.ld").write_text(render_fragment(3, "x86_64", features, linker, "include", region="RAM"))
        kernel = toolchain.compile_c(tmp_path, variables(features, layout))
        (finding,) = check(toolchain.link(tmp_path, [kernel], [text], linker=linker)).findings
        assert finding.rule == "T06" and "nothing says that it is copied" in finding.message
        # Startup code that copies more than .data.
        copied = text.replace("  . = .;\n", "  _edata = .;\n") if not words else text.replace("INCLUDE percpu.ld\n", "INCLUDE percpu.ld\n  _edata = _percpu_load_end;\n")
        assert check(toolchain.link(tmp_path, [kernel], [copied], linker=linker)).findings == ()


def test_the_section_in_front_is_found_where_an_earlier_fragment_was_read_too() -> None:
    fragment = render_fragment(3, "x86_64", "non-zero-vma", "ld", "include", region="RAM")
    text = script("FLASH").replace("  . = .;\n", fragment + "  . = .;\n")
    with pytest.raises(PercpuError, match="loads .data to FLASH"):
        find_regions(text, mode="include", given=Regions("RAM", None))
    assert find_regions(script("RAM").replace("  . = .;\n", fragment), mode="include", given=Regions("RAM", None)) == Regions("RAM", None)


@pytest.mark.parametrize("pattern", [".percpu*", ".percpu .percpu.*"])
@pytest.mark.parametrize("text", [script("RAM"), toolchain.HIGHER_HALF])
def test_variables_that_are_collected_in_front_of_the_fragment(text: str, pattern: str) -> None:
    given = Regions("RAM" if "MEMORY" in text else None, None)
    before, behind = (f"  .mine : {{ *({pattern}) }}{' >RAM' if given.region else ''}\n{INCLUDED}", f"{INCLUDED}  .mine : {{ *({pattern}) }}\n")
    place = "  . = .;\n" if given.region else "  . = ALIGN(16);\n"
    with pytest.raises(PercpuError, match=r"collects .percpu\*? in .mine, in front of INCLUDE percpu.ld"):
        find_regions(text.replace(place, before), mode="include", given=given)
    assert find_regions(text.replace(place, behind), mode="include", given=given) == given
    assert find_regions(text.replace(place, before), ".data", "lld", given=given) == given


VMA = 0xFFFFFFFF80000000
# A higher-half kernel in a region: with AT(...) beside it, and with a second region for where it is loaded.
BESIDE, BY_REGION = (
    f"""\
ENTRY(_start)
MEMORY
{{
  KERNEL : ORIGIN = {VMA + FLASH:#x}, LENGTH = {LENGTH}
  PHYS : ORIGIN = {FLASH:#x}, LENGTH = {LENGTH}
}}
SECTIONS
{{
"""
    + "".join(
        f"  {name} : {at.format(name)} {{ {body} }} >KERNEL {behind}\n{INCLUDED * (name == '.data')}"
        for name, body in {".text": "*(.text*)", ".rodata": "*(.rodata*) *(.eh_frame)", ".data": "*(.data*)", ".bss": "*(.bss*)"}.items()
    )
    + "  _end = .;\n  /DISCARD/ : { *(.comment) }\n}\n"
    for at, behind in ((f"AT(ADDR({{}}) - {VMA:#x})", ""), ("", "AT>PHYS"))
)


@pytest.mark.parametrize(("linker", "mode"), [("ld", "include"), ("lld", "insert"), ("lld", "include")])
def test_a_region_and_at_beside_it(tmp_path: Path, linker: str, mode: str) -> None:
    text = BESIDE if mode == "include" else BESIDE.replace(INCLUDED, "")
    given = Regions("KERNEL", None)
    with pytest.raises(PercpuError, match=r"has MEMORY, and AT\(...\) at .data") as refusal:
        find_regions(text, ".data", linker, mode, given=given, layout="zero-vma")
    assert "non-zero-vma" in refusal.value.fix[0]
    assert find_regions(text, ".data", linker, mode, given=given, layout="in-image") == given
    fragment = render_fragment(3, "x86_64", "non-zero-vma", linker, mode, region="KERNEL")
    (tmp_path / "percpu.ld").write_text(fragment)
    kernel = toolchain.compile_c(tmp_path, variables(("non-zero-vma",), "in-image"))
    # Code and data in one region make one segment.
    quiet = ["--no-warn-rwx-segments"] if linker == "ld" else []
    path = toolchain.link(tmp_path, [kernel], [fragment, text] if mode == "insert" else [text], *quiet, linker=linker)
    report = check(path)
    assert report.findings == ()
    with Image(path) as image:
        assert image.load_address(image.section(".percpu")) == report.layout.loaded - VMA


@pytest.mark.parametrize("layout", ["zero-vma", "in-image"])
@pytest.mark.parametrize(("linker", "mode"), [("lld", "insert"), ("ld", "include"), ("lld", "include")])
def test_a_kernel_that_is_loaded_to_a_second_region(linker: str, mode: str, layout: str) -> None:
    text = BY_REGION if mode == "include" else BY_REGION.replace(INCLUDED, "")
    with pytest.raises(PercpuError, match="has all of the kernel loaded to PHYS for KERNEL") as refusal:
        find_regions(text, ".data", linker, mode, given=Regions("KERNEL", None), layout=layout)
    assert refusal.value.fix[0].startswith("write AT(ADDR(.name) - OFFSET) at each section")
    # An earlier stage may have copied it all.
    named = Regions("KERNEL", "PHYS")
    assert find_regions(text, ".data", linker, mode, given=named, layout=layout) == named


@pytest.mark.parametrize("layout", ["zero-vma", "in-image"])
@pytest.mark.parametrize(("linker", "mode"), [("lld", "insert"), ("ld", "include"), ("lld", "include")])
def test_data_that_is_loaded_to_flash_by_an_address(linker: str, mode: str, layout: str) -> None:
    text = script("RAM").replace(">RAM", ">FLASH").replace(".data :", ".data : AT(ADDR(.rodata) + SIZEOF(.rodata))").replace("LONG(7) } >FLASH", "LONG(7) } >RAM")
    text = text.replace("  . = .;\n", INCLUDED if mode == "include" else "  . = .;\n")
    with pytest.raises(PercpuError, match=r"loads .data elsewhere \(AT\(...\)\), for RAM") as refusal:
        find_regions(text, ".data", linker, mode, given=Regions("RAM", None), layout=layout)
    assert "pristine" in refusal.value.fix[0] and refusal.value.fix[1].endswith("the load region RAM")
    named = Regions("RAM", "FLASH")
    assert find_regions(text, ".data", linker, mode, given=named, layout=layout) == named


@pytest.mark.parametrize("mode", ["insert", "include"])
@pytest.mark.parametrize("given", [Regions("SRAM", None), Regions("RAM", "SRAM")])
def test_a_region_that_the_script_does_not_have(mode: str, given: Regions) -> None:
    """GNU ld warns of it, and links the areas at address 0."""
    text = script("RAM").replace("  . = .;\n", INCLUDED)
    with pytest.raises(PercpuError, match="kernel.ld has no memory region SRAM: its MEMORY has FLASH, RAM") as refusal:
        find_regions(text, ".data", "lld", mode, "kernel.ld", given)
    assert ("--region" in refusal.value.fix[0]) == (given.region == "SRAM")
    with pytest.raises(PercpuError, match="kernel.ld has no MEMORY, and the region"):
        find_regions(toolchain.HIGHER_HALF, ".data", "lld", mode, "kernel.ld", given)


def test_regions_that_cannot_be_known() -> None:
    given = Regions("SRAM", None)
    assert find_regions("INCLUDE memory.ld\n" + script("RAM"), ".data", "lld", given=given) == given
    assert find_regions('REGION_ALIAS("SRAM", RAM)\n' + script("RAM"), ".data", "lld", given=given) == given
    assert find_regions("", given=given) == given


@pytest.mark.parametrize(
    ("rendering", "said"),
    [
        ({"load_region": "FLASH"}, "no region is given that the areas lie in"),
        ({"region": "RAM", "load_region": "FLASH"}, "without the feature pristine it is the area of CPU 0, in RAM"),
        ({"region": "RAM", "load_offset": "0x100"}, "both a load offset (0x100) and a memory region (RAM) are given"),
        ({"region": "RAM : {"}, "the memory region is 'RAM : {': expected a name that MEMORY has"),
    ],
)
def test_what_no_script_could_mean(rendering: dict[str, str], said: str) -> None:
    with pytest.raises(PercpuError, match=re.escape(said)):
        render_fragment(2, "x86_64", linker="lld", **rendering)


@pytest.mark.parametrize("features", [(), ("non-zero-vma",), ("sp-naive",)])
def test_a_region_that_a_linker_cannot_take(features: tuple[str, ...]) -> None:
    with pytest.raises(PercpuError, match="GNU ld reads the fragment before the script whose MEMORY has RAM"):
        render_fragment(3, "x86_64", features, "ld", "insert", region="RAM")


def test_the_regions_are_those_of_the_section_in_front() -> None:
    assert find_regions(script("RAM"), ".data", "lld") == Regions("RAM", None)
    assert find_regions(toolchain.HIGHER_HALF, ".data", "lld") == Regions(None, None)
    assert find_regions(None) == Regions(None, None)
    # Who names another one has a reason.
    assert find_regions(script("RAM"), ".data", "lld", given=Regions("FLASH", None)) == Regions("FLASH", None)
    named = Regions("RAM", "FLASH")
    assert find_regions(script("FLASH"), ".data", "lld", given=named) == named
    assert find_regions(script("FLASH"), ".data", "ld", "include", given=named) == named


@pytest.mark.parametrize(
    ("text", "linker", "mode", "said"),
    [
        (script("RAM"), "ld", "insert", "GNU ld reads the fragment before it"),
        (script("RAM"), "ld", "include", "no region is given"),
        (script("RAM"), "lld", "include", "no region is given"),
        (script("RAM").replace(" LONG(7) } >RAM", " LONG(7) }"), "lld", "insert", "names no region for .data"),
        (script("FLASH"), "lld", "insert", "loads .data to FLASH (AT>FLASH), for RAM"),
    ],
)
def test_scripts_that_do_not_say_enough(text: str, linker: str, mode: str, said: str) -> None:
    with pytest.raises(PercpuError, match=re.escape(said)):
        find_regions(text, ".data", linker, mode, "kernel.ld")
