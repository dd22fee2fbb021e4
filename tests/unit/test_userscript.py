"""Finding the place for the fragment in linker scripts of all kinds."""

from __future__ import annotations

import re
import subprocess

import pytest
import toolchain
from percpu_tools import PercpuError, find_anchor, find_regions, render_fragment
from percpu_tools.image import Image
from percpu_tools.scriptfiles import read_script
from percpu_tools.scriptsyntax import Regions


def sections(body: str) -> str:
    return f"ENTRY(_start)\nSECTIONS\n{{\n{body}\n}}\n"


TEXT = ".text : { *(.text .text.*) }\n"
DATA = ".data : { *(.data .data.*) }\n"
ALL_DATA = ".data : { *(.data .data.*) *(.bss .bss.*) *(COMMON) }\n"
BSS = ".bss : { *(.bss .bss.*) *(COMMON) }\n"


def addresses(folder, script: str, source: str = "") -> dict[str, int]:
    """The symbols of a kernel that GNU ld links with the script and the fragment after .data."""
    kernel = toolchain.compile_c(folder, toolchain.KERNEL + toolchain.variable("x", 1) + source)
    path = toolchain.link(folder, [kernel], [render_fragment(4, "x86_64"), script])
    with Image(path) as image:
        return {symbol.name: symbol.value for symbol in image.symbols(b"")}


def test_without_a_script_the_linkers_own_has_data():
    assert find_anchor(None) == ".data"


@pytest.mark.parametrize(
    ("script", "anchor"),
    [
        (sections(TEXT + DATA + BSS), ".data"),
        (sections(TEXT + DATA + ".got : { *(.got) }\n" + BSS), ".got"),
        (sections(TEXT + DATA + ".sbss : { *(.sbss) }\n" + BSS), ".data"),
        (sections(TEXT + DATA + ".bss (NOLOAD) : { *(.bss) }"), ".data"),
        (sections(TEXT + DATA + "kernel_bss : { *(.bss .bss.*) *(COMMON) }"), ".data"),
        (sections(TEXT + '"my data" : { *(.data) }\n' + BSS), "my data"),
        (
            sections(TEXT + ".data : { *(.data) *(.bss) }\n/DISCARD/ : { *(.comment) }\n.debug_info 0 : { *(.debug_info) }"),
            ".data",
        ),
        # Regions, headers and fill patterns behind a section are not the next one's name.
        (sections(".text : { *(.text) } >FLASH :text =0x90909090\n.data : { *(.data) } >RAM AT>FLASH\n.bss : { *(.bss) } >RAM"), ".data"),
        (sections(".text : { *(.text) } > FLASH\n.data : { *(.data) } > RAM AT > FLASH = (1 + 2)\n.bss : { *(.bss) } > RAM"), ".data"),
        # Braces and keywords where they mean nothing.
        (sections("/* SECTIONS { .bss : { */" + TEXT + ".data : { *(.data) . = ALIGN(8); KEEP(*(SORT(.x))) LONG(4); }\n" + BSS), ".data"),
        (sections(TEXT + DATA + 'ASSERT(1, ".bss : { }")\nPROVIDE(edata = .);\n. = ALIGN(4K);\n__bss_start = .;\n' + BSS), ".data"),
        ("INCLUDE memory.ld\n" + sections("INCLUDE sections.ld\n" + TEXT + DATA + "INCLUDE more.ld;\n" + BSS), ".data"),
        ("MEMORY { RAM (rwx) : ORIGIN = 0, LENGTH = 1M }\n" + sections(TEXT + DATA + BSS), ".data"),
        ("SECTIONS { " + TEXT + " }\nSECTIONS { " + DATA + BSS + " }", ".data"),
        # .bss in front of data, and what only asserts that nothing is there.
        (sections(TEXT + BSS + DATA), ".data"),
        (sections(BSS + DATA), ".data"),
        (sections(TEXT + BSS + ".rodata : { *(.rodata*) }\n" + DATA + ".sbss : { *(.sbss) }\n"), ".data"),
        (sections(TEXT + DATA + BSS + ".got : { *(.got) }\n.data.rel.ro : { *(.data.rel.ro) }\n.stack : { . += 4K; }"), ".data"),
        # On top of the linker's own script.
        ("SECTIONS { }\nINSERT AFTER .text;", ".data"),
        (toolchain.HIGHER_HALF, ".data"),
    ],
)
@pytest.mark.parametrize("linker", ["ld", "lld"])
def test_the_last_section_before_bss(script, anchor, linker):
    assert find_anchor(script, linker) == anchor


@pytest.mark.parametrize("ld", ["ld", "aarch64-linux-gnu-ld", "riscv64-unknown-elf-ld", "arm-none-eabi-ld"])
def test_the_linkers_own_scripts_have_a_place(ld):
    shown = subprocess.run([ld, "--verbose"], capture_output=True, text=True, check=True).stdout
    assert find_anchor(shown.split("=" * 50)[1], "ld", "in-image").startswith(".")


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("", "kernel.ld has no SECTIONS, so there is no place"),
        ("MEMORY { RAM : ORIGIN = 0, LENGTH = 1M }", "kernel.ld has no SECTIONS"),
        (sections(". = 1M;"), "kernel.ld has no output section"),
        (sections("/DISCARD/ : { *(*) }"), "kernel.ld has no output section"),
        (sections(BSS + ".stack : { . += 4K; }"), "kernel.ld has .bss as its first output section"),
        (sections(TEXT + DATA + "OVERLAY : { .one { *(.one) } .two { *(.two) } }" + BSS), "kernel.ld has an OVERLAY as the last statement"),
        (sections(TEXT + ".percpu : { *(.percpu) }\n" + BSS), "kernel.ld has an output section .percpu already"),
        ("SECTIONS {" + TEXT, "kernel.ld: the '{' of SECTIONS is never closed"),
        ("SECTIONS { .text : { *(.text) ", "kernel.ld: a '{' is never closed"),
        ("SECTIONS { .text : AT(1", "kernel.ld: a '(' is never closed"),
        ("/* SECTIONS { .data : { } }", "kernel.ld has no SECTIONS"),
    ],
)
@pytest.mark.parametrize("linker", ["ld", "lld"])
def test_a_script_without_a_place_is_refused(script, message, linker):
    with pytest.raises(PercpuError) as refusal:
        find_anchor(script, linker, path="kernel.ld")
    assert message in refusal.value.message


@pytest.mark.parametrize(
    "comment",
    [
        '# 7 "defs.h" 2',
        '# it is "odd',
        "# .bss : {",
        "# the } of old",
        "# PHDRS { all PT_LOAD; }",
        "# MEMORY { RAM : ORIGIN = 0, LENGTH = 1M }",
        "# /* not closed",
        "# INCLUDE nowhere.ld",
    ],
)
@pytest.mark.parametrize("place", ["\n{}\n", "/* # */ {}\n", "x = 1; {}\n", "x = 1{}\n;"])
@pytest.mark.parametrize("linker", ["ld", "lld"])
def test_a_comment_to_the_end_of_the_line(tmp_path, comment, place, linker):
    """Both linkers take `#` so, wherever it stands: cpp's markers too, where a script was preprocessed."""
    text = sections(". = 1M;\n" + TEXT + ".rodata : { *(.rodata*) *(.eh_frame) }\n. = ALIGN(4096);\n" + place.format(comment) + DATA + ". = .;\n__bss_start = .;\n" + BSS)
    (tmp_path / "kernel.ld").write_text(text)
    read = read_script(tmp_path / "kernel.ld").text
    assert find_anchor(read, linker) == ".data"
    assert find_regions(read, ".data", linker) == Regions(None, None)
    kernel = toolchain.compile_c(tmp_path, toolchain.KERNEL + toolchain.variable("x", 1))
    toolchain.link(tmp_path, [kernel], [render_fragment(4, "x86_64", linker=linker), text], linker=linker)


def test_headers_by_hand_and_a_template_at_zero_do_not_go_together():
    script = "PHDRS { text PT_LOAD; }\n" + toolchain.HIGHER_HALF
    with pytest.raises(PercpuError, match="has PHDRS"):
        find_anchor(script, layout="zero-vma")
    assert find_anchor(script, layout="in-image") == ".data"


class TestGnuLdInsertsBehindASymbol:
    """`INSERT AFTER .data` goes in front of the next section or assignment to `.`, whichever is first."""

    @pytest.mark.parametrize(
        "assignment",
        ["__bss_start = .;", "PROVIDE(__bss_start = .);", "_sbss = ALIGN(8) + . ;", "HIDDEN(bss_begin = .);"],
    )
    def test_a_start_of_bss_that_would_be_overtaken(self, assignment):
        script = sections(TEXT + DATA + assignment + BSS)
        with pytest.raises(PercpuError, match="GNU ld inserts the per-CPU sections behind that line") as refusal:
            find_anchor(script, "ld")
        assert refusal.value.fix[0].startswith("write `. = .;` before")
        assert find_anchor(script, "lld") == ".data"

    @pytest.mark.parametrize("holds", [". = .;", ". = ALIGN(4096);", ". += 16;"])
    def test_an_assignment_to_dot_holds_it(self, holds):
        assert find_anchor(sections(TEXT + DATA + holds + "__bss_start = .;" + BSS), "ld") == ".data"

    @pytest.mark.parametrize("start", ["__bss_start = .; *(.bss)", "PROVIDE(_sbss = .); *(.bss)"])
    def test_the_end_of_data_may_be_overtaken(self, start):
        assert find_anchor(sections(TEXT + DATA + "_edata = .;" + BSS.replace("*(.bss", f"{start} *(.bss")), "ld") == ".data"

    @pytest.mark.parametrize("end", ["end", "__bss_end"])
    def test_unless_it_is_the_start_of_bss(self, tmp_path, end):
        """xv6 and JOS: memset(edata, 0, end - edata)."""
        edata = "PROVIDE(edata = .);\n"
        script = sections(f". = 1M;\n{TEXT}.rodata : {{ *(.rodata*) *(.eh_frame) }}\n. = ALIGN(4096);\n{DATA}{edata}{BSS}PROVIDE({end} = .);")
        with pytest.raises(PercpuError, match="assigns edata right after .data.* where they are cleared with .bss") as refusal:
            find_anchor(script, "ld")
        assert find_anchor(script, "lld") == ".data"
        uses = f"extern char edata[], {end}[]; char* const bounds[] = {{edata, {end}}};\n"
        found = addresses(tmp_path, script, uses)
        assert found["edata"] <= found["_percpu_start"] < found[end], "it is refused rightly"
        assert refusal.value.fix[0] == "write `. = .;` before `edata = ...`"
        held = script.replace(edata, f". = .;\n{edata}")
        assert find_anchor(held, "ld") == ".data"
        found = addresses(tmp_path, held, uses)
        assert found["_percpu_end"] <= found["edata"] <= found[end]

    @pytest.mark.parametrize("name", ["_kernel_end", "heap_start", "end_of_kernel_image", "_end"])
    @pytest.mark.parametrize("behind", ["", "/DISCARD/ : { *(.comment) }"])
    def test_the_end_of_a_kernel_without_bss_may_not(self, name, behind):
        with pytest.raises(PercpuError, match=f"assigns {name} right after .data"):
            find_anchor(sections(TEXT + ALL_DATA + f"{name} = .;\n" + behind), "ld")
        assert find_anchor(sections(TEXT + ALL_DATA + f"{name} = .;\n" + behind), "lld") == ".data"

    @pytest.mark.parametrize("end", ["_end = .;\n}\n", "}\n_end = .;\n"])
    def test_where_nothing_follows_no_assignment_to_dot_holds_it(self, end):
        script = f"SECTIONS\n{{\n{TEXT}{ALL_DATA}. = ALIGN(4096);\n{end}"
        with pytest.raises(PercpuError, match="assigns _end behind .data") as refusal:
            find_anchor(script, "ld")
        assert refusal.value.fix[0].startswith("write `/DISCARD/ : { *(.note.GNU-stack) }` at the end of SECTIONS")
        assert find_anchor(script, "lld") == ".data"

    def test_nor_in_front_of_what_takes_no_memory(self):
        script = sections(TEXT + ALL_DATA + ". = .;\n_end = .;\n.comment 0 : { *(.comment) }")
        with pytest.raises(PercpuError) as refusal:
            find_anchor(script, "ld")
        assert "` before .comment" in refusal.value.fix[0]

    @pytest.mark.parametrize("end", ["_end = .;", ". = ALIGN(4096);\n_end = .;", ". = .;\n_end = .;\n.comment 0 : { *(.comment) }"])
    def test_with_the_mend_the_areas_lie_before_the_end(self, tmp_path, end):
        script = sections(f". = 1M;\n{TEXT}.rodata : {{ *(.rodata*) *(.eh_frame) }}\n. = ALIGN(4096);\n{ALL_DATA}{end}")
        with pytest.raises(PercpuError) as refusal:
            find_anchor(script, "ld")
        assert addresses(tmp_path, script)["_end"] <= addresses(tmp_path, script)["_percpu_start"], "it is refused rightly"
        said = refusal.value.fix[0]
        if "`. = .;`" in said:
            script = script.replace("_end = .;", ". = .;\n_end = .;")
        statement = re.search(r"`(/DISCARD/ .*?)`", said)[1]
        place = ".comment 0" if "before .comment" in said else "}\n"
        before, place, behind = script.rpartition(place)
        script = f"{before}{statement}\n{place}{behind}"
        assert find_anchor(script, "ld") == ".data"
        found = addresses(tmp_path, script)
        assert found["_percpu_end"] <= found["_end"]

    def test_an_end_behind_what_is_left_out_is_behind_the_areas(self, tmp_path):
        script = sections(f". = 1M;\n{TEXT}.rodata : {{ *(.rodata*) *(.eh_frame) }}\n. = ALIGN(4096);\n{ALL_DATA}/DISCARD/ : {{ *(.comment) }}\n_end = .;")
        assert find_anchor(script, "ld") == ".data"
        found = addresses(tmp_path, script)
        assert found["_percpu_end"] <= found["_end"]
