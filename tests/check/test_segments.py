"""Rules about load segments, against real builds with the fault and without it."""

from __future__ import annotations

import pytest
import toolchain
from check import code_builds
from check.builds import BY_HAND, VARIABLES, judge, rules, script
from check.test_rules import LINKERS, only
from percpu_tools import check, render_fragment
from percpu_tools.image import Image

# .bss as someone writes it who copied only the lines for .percpu.
NO_AT = script(BY_HAND.replace(" : AT(ADDR(.percpu_areas) - KERNEL_VMA)", " :")).replace(".bss : AT(ADDR(.bss) - KERNEL_VMA)", ".bss :")

QUIET = {"ld": ["--no-warn-rwx-segments"], "lld": []}


@pytest.mark.parametrize("linker", LINKERS)
class TestT06LoadAddressDrift:
    def test_no_at_behind_the_template(self, tmp_path, linker):
        report = judge(tmp_path, NO_AT, linker=linker)
        # lld also takes what follows into the template's segment, across the hole between the two.
        assert rules(report) == ({"T06"} if linker == "ld" else {"T06", "T07"})
        finding = report.findings[0]
        assert "have drifted" in finding.message
        assert finding.section == ".percpu_areas"

    def test_template_in_the_virtual_half(self, tmp_path, linker):
        finding = only(judge(tmp_path, BY_HAND.replace("AT(_percpu_start - KERNEL_VMA)", "AT(_percpu_start)"), linker=linker), "T06")
        assert "physical address of .percpu lies in the virtual half" in finding.message

    def test_template_loaded_elsewhere(self, tmp_path, linker):
        finding = only(judge(tmp_path, BY_HAND.replace("AT(_percpu_start -", "AT(_percpu_start + 0x100000 -"), linker=linker), "T06")
        assert "loaded elsewhere" in finding.message

    @pytest.mark.parametrize("at_bss", [" AT(ADDR(.bss) - KERNEL_VMA)", ""])
    @pytest.mark.parametrize("words", [(), ("pristine",)])
    def test_a_fragment_with_another_load_offset_than_the_script(self, tmp_path, linker, words, at_bss):
        kernel = toolchain.compile_c(tmp_path, toolchain.KERNEL + VARIABLES + toolchain.note(features=",".join(words)))
        text = toolchain.HIGHER_HALF.replace(" AT(ADDR(.bss) - KERNEL_VMA)", at_bss)
        for offset, expected in (("0xffffffff80000000", set()), ("0xffffffff80080000", {"T06"})):
            fragment = render_fragment(4, "x86_64", words, linker, load_offset=offset)
            report = check(toolchain.link(tmp_path, [kernel], [fragment, text], linker=linker))
            assert rules(report) == expected
        (finding,) = report.findings
        assert "the template is loaded elsewhere than where" in finding.message
        assert finding.fix[0] == (
            "render the fragment with the load offset 0xffffffff80000000, which the other sections have (PERCPU_LOAD_OFFSET, --load-offset)"
        )

    def test_restartable_sequences_have_the_load_offset_too(self, tmp_path, linker):
        source = toolchain.KERNEL + VARIABLES + '__attribute__((section("percpu_restart"), used)) long entry[3] = {1, 2, 3};\n'
        kernel = toolchain.compile_c(tmp_path, source, "--target=aarch64-none-elf", compiler="clang-19")
        fragment = render_fragment(4, "aarch64", "restartable", linker, load_offset="0xffffffff80080000")
        ld = "aarch64-linux-gnu-ld" if linker == "ld" else linker
        toolchain.link(tmp_path, [kernel], [fragment, toolchain.HIGHER_HALF], *QUIET[linker], linker=ld)
        found = [finding.message for finding in check(tmp_path / "kernel.elf").findings if finding.rule == "T06"]
        assert len(found) == 1 and "the template is loaded elsewhere than where" in found[0]

    @pytest.mark.parametrize("place", ["0", "0x80000000"])
    def test_areas_taken_elsewhere(self, tmp_path, linker, place):
        text = BY_HAND.replace("AT(ADDR(.percpu_areas) - KERNEL_VMA)", f"AT({place})")
        finding = only(judge(tmp_path, text, linker=linker), "T06")
        assert "the memory of .percpu_areas is taken elsewhere" in finding.message
        assert finding.found == f".percpu_areas at physical address {place if place != '0' else '0x0'}"

    def test_a_segment_that_reaches_over_the_template(self, tmp_path, linker):
        """With relocations kept, GNU ld makes an empty .data as large as what moves `.` behind the template."""
        script = code_builds.ZERO_VMA.replace("  .filler : { BYTE(0) }\n", "")
        kernel = toolchain.compile_c(tmp_path, "void _start(void);\nvoid _start(void) {}\n" + VARIABLES)
        report = check(toolchain.link(tmp_path, [kernel], [script], "--emit-relocs", linker=linker))
        assert rules(report) == ({"T06"} if linker == "ld" else set())
        assert linker == "lld" or "reaches over the template" in report.findings[0].message

    def test_segments_that_overlap(self, tmp_path, linker):
        text = script(BY_HAND).replace("AT(ADDR(.data) - KERNEL_VMA)", "AT(ADDR(.text) - KERNEL_VMA)")
        found = judge(tmp_path, text, VARIABLES, "--no-check-sections", linker=linker)
        assert rules(found) == {"T06"}
        assert any("overlap in physical memory" in finding.message for finding in found.findings)


READ_ONLY = "  .rodata : AT(ADDR(.rodata) - KERNEL_VMA) { *(.rodata .rodata.*) *(.eh_frame) }\n"

# A kernel that is linked where it is loaded, on each architecture.
LOW = """\
ENTRY(_start)
SECTIONS
{{
  . = {base};
  .text : {{ *(.text .text.*) *(.rodata .rodata.*) *(.eh_frame) }}
  . = ALIGN(4096);
  .data : {{ *(.data .data.*) *(.sdata .sdata.*) *(.got*) }}
  . = ALIGN(4096);
  _percpu_start = .;
  .percpu 0x0 : AT(_percpu_start) {{ _percpu_load_start = .; *(.percpu .percpu.*) _percpu_load_end = .; }}
  . = _percpu_start + 256;
  _percpu_end = .;
  .bss : {at} {{ *(.bss .bss.*) *(.sbss .sbss.*) *(COMMON) }}
  /DISCARD/ : {{ *(.comment) *(.ARM.exidx*) }}
}}
"""
TRIPLES = {
    "x86_64": "x86_64-elf",
    "aarch64": "aarch64-none-elf",
    "arm": "armv7a-none-eabi",
    "riscv64": "riscv64-unknown-elf",
    "riscv32": "riscv32-unknown-elf",
    "loongarch64": "loongarch64-unknown-elf",
}


def judge_low(folder, arch, at, source=toolchain.KERNEL + VARIABLES, base="0x40000000", *flags):
    kernel = toolchain.compile_c(folder, source, f"--target={TRIPLES[arch]}", compiler="clang-19")
    toolchain.link(folder, [kernel], [LOW.format(at=at, base=base)], *flags, linker="lld")
    return check(folder / "kernel.elf")


@pytest.mark.parametrize("arch", TRIPLES)
class TestEveryArchitecture:
    def test_t06_drift(self, tmp_path, arch):
        report = judge_low(tmp_path, arch, "")
        assert report.layout.arch == arch
        # lld takes what follows the template into its segment, across the hole between the two.
        assert rules(report) & {"T06", "T07"}
        assert {finding.section for finding in report.findings} <= {".bss", ".percpu"}

    def test_with_an_at(self, tmp_path, arch):
        assert judge_low(tmp_path, arch, "AT(ADDR(.bss))").findings == ()

    def test_t13_low_boot_code(self, tmp_path, arch):
        source = toolchain.KERNEL + VARIABLES + '__attribute__((section(".boot"), used)) int boot = 1;\n'
        low = LOW.format(at="AT(ADDR(.bss))", base="0x40000000").replace("  . = 0x40000000;", "  .boot {boot} : {{ *(.boot) }}\n  . = 0x40000000;")
        kernel = toolchain.compile_c(tmp_path, source, f"--target={TRIPLES[arch]}", compiler="clang-19")
        for place, expected in (("0x800", {"T13"}), ("0x8000", set())):
            toolchain.link(tmp_path, [kernel], [low.replace("{boot}", place).replace("{{", "{").replace("}}", "}")], linker="lld")
            report = check(tmp_path / "kernel.elf")
            assert rules(report) == expected


class TestT07ImpossibleSegment:
    # The template without an AT, and .bss behind it: lld makes one segment of the two.
    MERGED = LOW.replace(" : AT(_percpu_start)", " :").replace("_percpu_start + 256", "0xffffffff80200000")

    def build(self, folder, linker, at):
        text = self.MERGED.format(at=at, base="0xffffffff80100000")
        kernel = toolchain.compile_c(folder, toolchain.KERNEL + VARIABLES)
        toolchain.link(folder, [kernel], [text], linker=linker)
        return check(folder / "kernel.elf")

    def test_merged_with_the_higher_half(self, tmp_path):
        report = self.build(tmp_path, "lld", "")
        (finding,) = (finding for finding in report.findings if finding.rule == "T07")
        assert finding.level == "error"
        assert (finding.found, finding.section) == ("memory size 0xffffffff80200004 at 0x0", ".percpu")

    def test_file_larger_than_memory(self, tmp_path):
        """lld merges the two into the segment of .data; the file is 2 GiB of nothing."""
        text = script(BY_HAND.replace(" : AT(ADDR(.percpu_areas) - KERNEL_VMA)", " :").replace(" : AT(_percpu_start - KERNEL_VMA)", " :"))
        report = judge(tmp_path, text.replace(".bss : AT(ADDR(.bss) - KERNEL_VMA)", ".bss :"), linker="lld")
        (tmp_path / "kernel.elf").unlink()
        assert [finding.message for finding in report.findings if finding.rule == "T07" and "in the file cannot be meant" in finding.message]

    @pytest.mark.parametrize("linker", LINKERS)
    def test_an_at_behind_the_template(self, tmp_path, linker):
        assert "T07" not in rules(self.build(tmp_path, linker, "AT(0x200000)"))


class TestT24MovedEntry:
    def test_build_id(self, tmp_path):
        """lld puts the note in front of .text where the script has no section for read-only data."""
        text = script(BY_HAND).replace(READ_ONLY, "").replace("*(.text .text.*)", "*(.text .text.* .rodata .rodata.* .eh_frame)")
        assert text.count(".rodata") == 2
        finding = only(judge(tmp_path, text, VARIABLES, "--build-id=sha1", linker="lld"), "T24")
        assert finding.section == ".note.gnu.build-id"

    def test_build_id_of_gnu_ld(self, tmp_path):
        """GNU ld puts the note in front of .text up to some version, and later behind the read-only data."""
        report = judge(tmp_path, BY_HAND, VARIABLES, "--build-id=sha1")
        with Image(tmp_path / "kernel.elf") as image:
            in_front = image.section(".note.gnu.build-id").address < image.section(".text").address
        assert rules(report) == ({"T24"} if in_front else set())

    def test_build_id_behind_text(self, tmp_path):
        """lld puts it there."""
        assert judge(tmp_path, BY_HAND, VARIABLES, "--build-id=sha1", linker="lld").findings == ()

    @pytest.mark.parametrize(("where", "expected"), [("front", {"T24"}), ("end", set())])
    @pytest.mark.parametrize("linker", LINKERS)
    def test_alone_far_below(self, tmp_path, linker, where, expected):
        """lld takes an ASSERT for an assignment to `.`, and puts the note behind the first of those."""
        text = script(render_fragment(4, "x86_64", "non-zero-vma", linker, "include"))
        text = text.replace(READ_ONLY, "").replace("*(.text .text.*)", "*(.boot) *(.text .text.* .rodata .rodata.* .eh_frame)")
        check_that = 'ASSERT(1, "right")\n'
        text = check_that + text if where == "front" else text + check_that
        # The entry is not the first instruction.
        boot = '__attribute__((section(".boot"), used)) void boot(void) {}\n'
        report = judge(tmp_path, text, VARIABLES + boot, "--build-id=sha1", linker=linker)
        assert rules(report) == (expected if linker == "lld" else set())
        for finding in report.findings:
            assert "alone at the lowest addresses, far below the kernel" in finding.message
            assert finding.found.startswith(".note.gnu.build-id at 0x0, 0xffffffff800fff")

    @pytest.mark.parametrize("linker", LINKERS)
    def test_placed(self, tmp_path, linker):
        text = script(BY_HAND).replace("*(.eh_frame)", "*(.eh_frame) *(.note.*)")
        assert judge(tmp_path, text, VARIABLES, "--build-id=sha1", linker=linker).findings == ()
