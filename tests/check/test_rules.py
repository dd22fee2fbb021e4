"""Each rule against real builds: with its mistake in, it and no other rule speaks; with the mistake out, none does."""

from __future__ import annotations

import re
import struct

import pytest
import toolchain
from check.builds import BY_HAND, STRIDE, VARIABLES, judge, rules, script
from percpu_tools import check, render_fragment
from percpu_tools.image import Image

LINKERS = sorted(toolchain.LINKERS)


def only(report, rule: str):
    """The one error or warning, which must be of that rule."""
    found = [finding for finding in report.findings if finding.level != "note"]
    assert [finding.rule for finding in found] == [rule], found
    (finding,) = found
    assert finding.slug and finding.message and finding.found and finding.expected and finding.fix
    return finding


@pytest.mark.parametrize("linker", LINKERS)
def test_a_right_script_by_hand_is_not_blamed(tmp_path, linker):
    report = judge(tmp_path, linker=linker, cpu_num=4)
    assert report.findings == ()
    assert report.ok
    assert report.layout.layout == "zero-vma"


@pytest.mark.parametrize("linker", LINKERS)
class TestT05LostInitialValues:
    def test_noload(self, tmp_path, linker):
        finding = only(judge(tmp_path, BY_HAND.replace(".percpu 0x0 :", ".percpu 0x0 (NOLOAD) :"), linker=linker), "T05")
        assert (finding.level, finding.section) == ("error", ".percpu")
        assert "NOBITS" in finding.message
        assert "remove (NOLOAD)" in finding.fix[0]

    def test_not_allocated(self, tmp_path, linker):
        report = judge(tmp_path, BY_HAND.replace(".percpu 0x0 :", ".percpu 0x0 (INFO) :"), linker=linker)
        assert "no load segment carries .percpu" in report.findings[0].message
        assert report.findings[0].rule == "T05"

    def test_in_no_segment(self, tmp_path, linker):
        text = script(BY_HAND).replace("SECTIONS\n{", "PHDRS { kernel PT_LOAD; }\nSECTIONS\n{", 1)
        text = text.replace("{ *(.text .text.*) }", "{ *(.text .text.*) } :kernel")
        text = text.replace("    _percpu_load_end = .;\n  }", "    _percpu_load_end = .;\n  } :NONE", 1)
        text = text.replace("    _percpu_end = .;\n  }", "    _percpu_end = .;\n  } :kernel", 1)
        finding = only(judge(tmp_path, text, linker=linker), "T05")
        assert "no load segment carries .percpu" in finding.message

    def test_cleared_with_bss(self, tmp_path, linker):
        text = script(BY_HAND).replace("  __bss_start = .;\n", "")
        text = text.replace("_percpu_start = .;", "__bss_start = .;\n  _percpu_start = .;", 1)
        finding = only(judge(tmp_path, text, linker=linker), "T05")
        assert "between __bss_start and __bss_end" in finding.message

    @pytest.mark.parametrize(
        ("bounds", "level"),
        [
            *((bounds, "error") for bounds in ("_bss _ebss", "__BSS_START__ __BSS_END__", "bss_begin bss_end", "__start_bss __stop_bss")),
            # What is not called .bss is cleared in most kernels, and not in all.
            *((bounds, "warning") for bounds in ("edata end", "_edata _end", "__bss_start _end", "_edata __bss_end")),
        ],
    )
    def test_cleared_by_other_names(self, tmp_path, linker, bounds, level):
        finding = only(judge(tmp_path, self.cleared(*bounds.split()), linker=linker), "T05")
        assert finding.level == level
        assert "between {} and {}:".format(*bounds.split()) in finding.message

    @pytest.mark.parametrize("behind", ["__bss_end = .;", "__bss_size = . - __bss_start;", "end = .;"])
    def test_cleared_no_further_than_that(self, tmp_path, linker, behind):
        """The template lies behind .bss here, and the end of all behind the template."""
        bss = "  .early (NOLOAD) : { __bss_start = .; *(.early) }\n  %s\n" % behind
        text = self.cleared("", "_end").replace("  . = ALIGN(4096);\n  _percpu_start", f"{bss}  . = ALIGN(4096);\n  _percpu_start", 1)
        assert judge(tmp_path, text, VARIABLES + '__attribute__((section(".early,\\"aw\\",@nobits#"), used)) char early[64];\n', linker=linker).findings == ()

    @pytest.mark.parametrize("start", ["clear_from", "__zero_start", "bss_of_kernel"])
    def test_cleared_from_another_place_than_edata(self, tmp_path, linker, start):
        text = self.cleared("_edata", "_end").replace("  .bss :", f"  {start} = .;\n  .bss :")
        assert judge(tmp_path, text, linker=linker).findings == ()

    @staticmethod
    def cleared(start: str, end: str) -> str:
        """The script with these symbols in front of the template and behind .bss."""
        text = toolchain.HIGHER_HALF.replace("  __bss_start = .;\n", "").replace("  . = ALIGN(16);\n", (f"  {start} = .;\n" if start else "") + BY_HAND)
        return text.replace("__bss_end", end)

    def test_a_segment_that_ends_early(self, tmp_path, linker):
        """No linker does this by itself; tools that work on the finished file do."""
        report = judge(tmp_path, linker=linker)
        kernel = bytearray((tmp_path / "kernel.elf").read_bytes())
        with Image(tmp_path / "kernel.elf") as image:
            headers = struct.unpack_from("<Q", kernel, 0x20)[0]
            (which,) = (n for n, segment in enumerate(image.segments) if segment.address == 0)
        # p_filesz of Elf64_Phdr; the load segments come first in this file.
        struct.pack_into("<Q", kernel, headers + 56 * which + 0x20, 4)
        (tmp_path / "kernel.elf").write_bytes(kernel)
        finding = only(check(report.file), "T05")
        assert (finding.found, finding.expected) == ("4 bytes in the file", "8 bytes of initial values in the file")

    def test_an_empty_template_loses_nothing(self, tmp_path, linker):
        assert judge(tmp_path, source="", linker=linker).findings == ()


class TestT10MisalignedAreas:
    ROUNDED_TO_LINES = BY_HAND.replace(STRIDE, "ALIGN(SIZEOF(.percpu), 64)")
    # A template of 0x140 bytes with a variable aligned to 0x100, as in the trap's own measure.
    ALIGNED = '__attribute__((section(".percpu.wide"), used, aligned(0x100))) char percpu_storage_wide[0x140] = {1};\n'

    @pytest.mark.parametrize("linker", LINKERS)
    def test_stride_by_symbol(self, tmp_path, linker):
        finding = only(judge(tmp_path, self.ROUNDED_TO_LINES, self.ALIGNED, linker=linker), "T10")
        assert (finding.found, finding.expected) == ("stride 0x140", "a multiple of 0x100")
        assert finding.symbol == "percpu_storage_wide"

    @pytest.mark.parametrize("linker", LINKERS)
    def test_stride_of_a_script_that_names_none(self, tmp_path, linker):
        report = judge(tmp_path, toolchain.SEED_SECTION, self.ALIGNED, linker=linker)
        assert rules(report) == {"T10", "T23"}

    def test_misaligned_start(self, tmp_path):
        text = BY_HAND.replace("_percpu_start = .;", ". += 64;\n  _percpu_start = .;", 1)
        finding = only(judge(tmp_path, text, self.ALIGNED), "T10")
        assert "_percpu_start is not aligned" in finding.message

    @pytest.mark.parametrize("linker", LINKERS)
    def test_stride_that_follows_the_alignment(self, tmp_path, linker):
        assert judge(tmp_path, BY_HAND, self.ALIGNED, linker=linker).findings == ()

    # The template inside .data, beside ordinary data that is aligned to pages.
    INSIDE = """*(.data .data.*) . = ALIGN(%s); _percpu_start = .; _percpu_load_start = .; *(.percpu .percpu.*)
    _percpu_load_end = .; . = ALIGN(64); . = _percpu_start + 64 * 4; _percpu_end = .; }
  _percpu_stride = ABSOLUTE(64);
  _percpu_cpu_num = ABSOLUTE(4);"""
    PAGE = "__attribute__((aligned(4096))) int page[1024] = {1};\n"

    @pytest.mark.parametrize("linker", LINKERS)
    def test_an_alignment_that_is_another_ones(self, tmp_path, linker):
        for place, is_judged in ((64, True), (4096, False)):
            text = toolchain.HIGHER_HALF.replace("*(.data .data.*) }", self.INSIDE % place)
            report = judge(tmp_path, text, VARIABLES + self.PAGE, linker=linker)
            # The areas are bytes of the file there.
            assert rules(report) == {"T23"}
            assert ("T10" in {item.rule for item in report.not_judged}) != is_judged
            # By the place of its beginning alone, y might have the page's.
            assert is_judged == (report.layout.alignment == 64 and report.layout.variables[0].alignment == 64)


class TestT11StrideDisagreement:
    def test_memory_for_templates_in_place_of_strides(self, tmp_path):
        text = BY_HAND.replace(f". += {STRIDE} * 4 - SIZEOF(.percpu)", ". += SIZEOF(.percpu) * 3")
        finding = only(judge(tmp_path, text), "T11")
        assert "less than the areas of 4 CPUs need" in finding.message
        assert (finding.found, finding.expected) == ("32 bytes from _percpu_start to _percpu_end", "4 strides of 64 bytes, 256")

    def test_stride_smaller_than_the_template(self, tmp_path):
        source = '__attribute__((section(".percpu.z"), used)) char percpu_storage_z[100] = {1};\n'
        text = BY_HAND.replace(f"_percpu_stride = ABSOLUTE({STRIDE})", "_percpu_stride = ABSOLUTE(64)")
        finding = only(judge(tmp_path, text, source), "T11")
        assert "the stride is smaller than the template" in finding.message

    def test_runtime_that_rounds_to_pages(self, tmp_path):
        """arceos#148: 64 bytes in the script, 4 KiB in the runtime."""
        text = BY_HAND.replace(f"  _percpu_stride = ABSOLUTE({STRIDE});\n  _percpu_cpu_num = ABSOLUTE(4);\n", "")
        finding = only(judge(tmp_path, text, VARIABLES + toolchain.note(arch="x86_64", layout="zero-vma", cache_line=4096)), "T11")
        assert "not a whole number of the runtime's strides" in finding.message
        report = judge(tmp_path, text, VARIABLES + toolchain.note(cache_line=4096), cpu_num=4)
        assert "less than the areas of 4 CPUs need" in only(report, "T11").message
        # How many CPUs it was linked for, 256 bytes with strides of 4096 do not say.
        assert "T28" in {item.rule for item in report.not_judged}

    @pytest.mark.parametrize("layout", ["zero-vma", "in-image"])
    @pytest.mark.parametrize("linker", LINKERS)
    def test_template_apart_in_the_script_alone(self, tmp_path, linker, layout):
        words = ["pristine"] if layout == "zero-vma" else ["non-zero-vma", "pristine"]
        fragment = render_fragment(4, "x86_64", words, linker)
        for features, expected in ((",".join(words), set()), ("", {"T11"})):
            source = VARIABLES + toolchain.note(arch="x86_64", layout=layout, features=features)
            kernel = toolchain.compile_c(tmp_path, toolchain.KERNEL + source)
            report = check(toolchain.link(tmp_path, [kernel], [fragment, toolchain.HIGHER_HALF], linker=linker))
            assert rules(report) == expected
        assert "keeps the template apart" in report.findings[0].message

    def test_cache_line_of_script_and_runtime(self, tmp_path):
        finding = only(judge(tmp_path, source=VARIABLES + toolchain.note(arch="x86_64", cache_line=128)), "T11")
        assert finding.expected == "a multiple of cache-line=128 in the note"
        assert "--cache-line 128" in finding.fix[0]

    @pytest.mark.parametrize("linker", LINKERS)
    def test_layout_of_script_and_runtime(self, tmp_path, linker):
        source = VARIABLES + toolchain.note(arch="x86_64", layout="in-image", cache_line=64)
        finding = only(judge(tmp_path, source=source, linker=linker), "T11")
        assert "built for the in-image layout" in finding.message
        assert finding.found == ".percpu at 0x0"

    def test_architecture_of_note_and_header(self, tmp_path):
        finding = only(judge(tmp_path, source=VARIABLES + toolchain.note(arch="riscv64")), "T11")
        assert (finding.found, finding.expected) == ("arch=riscv64 in the note", "x86_64, as the ELF header has it")

    @pytest.mark.parametrize("form", ["elf32-i386", "elf32-x86-64"])
    def test_a_kernel_for_64_bits_in_a_file_of_32(self, tmp_path, form):
        """As loaders by Multiboot 1 take it."""
        low = script(BY_HAND).replace("0xffffffff80000000", "0")
        report = judge(tmp_path, low, VARIABLES + toolchain.note(arch="x86_64", layout="zero-vma", cache_line=64))
        assert report.findings == ()
        toolchain.run(["objcopy", "-O", form, report.file, str(tmp_path / "kernel.elf32")])
        report = check(tmp_path / "kernel.elf32")
        assert report.findings == ()
        assert "judge the 64-bit file" in next(item.reason for item in report.not_judged if item.rule == "T11")

    def test_near_variables_beyond_reach(self, tmp_path):
        text = BY_HAND.replace("    _percpu_load_end = .;", "    _percpu_near_end = .;\n    _percpu_load_end = .;")
        finding = only(judge(tmp_path, text, VARIABLES + toolchain.note(near_reach=4)), "T11")
        assert (finding.found, finding.expected) == ("8 bytes of near variables", "at most near-reach=4 in the note")

    def test_a_note_that_agrees(self, tmp_path):
        agrees = toolchain.note(version="0.1.0", arch="x86_64", layout="zero-vma", cache_line=64, near_reach=0)
        assert judge(tmp_path, source=VARIABLES + agrees).findings == ()


class TestT23AreasOverlap:
    @pytest.mark.parametrize("linker", LINKERS)
    def test_file_with_the_areas_of_all_cpus(self, tmp_path, linker):
        finding = only(judge(tmp_path, toolchain.SEED_SECTION, linker=linker), "T23")
        assert finding.level == "warning"
        assert finding.found == "248 bytes in the file behind the template"

    def test_file_that_grows_because_data_follows_the_areas(self, tmp_path):
        text = script(BY_HAND).replace("  . = ALIGN(16);\n", "  .late : AT(ADDR(.late) - KERNEL_VMA) { *(.late) }\n  . = ALIGN(16);\n")
        source = VARIABLES + '__attribute__((section(".late"), used)) int late = 1;\n'
        finding = only(judge(tmp_path, text, source), "T23")
        assert "grows with CPU_NUM: .late follows them in their segment, and has bytes" in finding.message
        assert finding.section == ".late"
        # What it says helps: either way, the file does not grow.
        assert [mend.split()[:2] for mend in finding.fix] == [["move", ".late"], ["write", "(NOLOAD)"]]
        line = next(line for line in text.splitlines(keepends=True) if ".late" in line)
        moved = text.replace(line, "").replace("  _percpu_start = .;\n", f"{line}  . = ALIGN(4096);\n  _percpu_start = .;\n")
        assert judge(tmp_path, moved, source).findings == ()
        assert judge(tmp_path, text.replace(".late :", ".late (NOLOAD) :"), source).findings == ()

    @pytest.mark.parametrize("linker", LINKERS)
    def test_areas_at_zero_that_reach_a_low_kernel(self, tmp_path, linker):
        """16 KiB for each of 1024 CPUs end at 16 MiB, over a kernel at 2 MiB."""
        low = script(toolchain.SEED_SECTION.replace("ALIGN(64) * 4", "ALIGN(64) * 1024"))
        low = low.replace("0xffffffff80000000", "0").replace("0x100000", "0x200000")
        source = '__attribute__((section(".percpu.big"), used)) char percpu_storage_big[16384] = {1};\n'
        report = judge(tmp_path, low, source, "--no-check-sections", linker=linker)
        assert rules(report) == {"T23"}
        overlapped = {finding.section for finding in report.findings if "overlap" in finding.message}
        assert ".text" in overlapped

    @pytest.mark.parametrize("linker", LINKERS)
    def test_what_follows_is_written_over(self, tmp_path, linker):
        text = toolchain.SEED_SECTION.replace("  . = _percpu_end;\n", "  . = _percpu_start + 16;\n")
        report = judge(tmp_path, text, VARIABLES, "--no-check-sections", linker=linker)
        assert rules(report) == {"T23"}
        assert ".bss" in {finding.section for finding in report.findings}

    def test_orphan_behind_the_template(self, tmp_path):
        """Apart in virtual memory, in one place in physical memory."""
        text = script(BY_HAND.replace("  . = _percpu_start + SIZEOF", "  .stray : { *(.stray) }\n  . = _percpu_start + SIZEOF"))
        source = VARIABLES + '__attribute__((section(".stray"), used)) int stray = 1;\n'
        finding = only(judge(tmp_path, text, source, "--no-check-sections"), "T23")
        assert finding.section == ".stray"
        assert "load address" in finding.found


    @pytest.mark.parametrize(
        "name",
        [
            *("_end", "end", "__end__", "kernel_end", "__kernel_end", "_heap_start", "end_of_kernel_image"),
            *("KERNEL_END", "__KERNEL_END__", "HEAP_START", "__kernel_image_end", "k_end", "_sheap", "__free_ram"),
        ],
    )
    @pytest.mark.parametrize("words", ["", "non-zero-vma", "pristine"])
    def test_areas_behind_the_end(self, tmp_path, words, name):
        """Where no section follows, GNU ld inserts behind it whatever stands there."""
        together = toolchain.HIGHER_HALF.replace("*(.data .data.*)", "*(.data .data.* .bss .bss.* COMMON)")
        text = together[: together.index("  . = ALIGN(16);")] + f"  . = ALIGN(4096);\n  {name} = .;\n"
        report = self.link(tmp_path, text + "}\n", words)
        finding = only(report, "T23")
        assert finding.message.startswith(f"the areas lie behind {name}:")
        statement = re.search(r"`(/DISCARD/.*?)`", finding.fix[0])[1]
        assert self.link(tmp_path, f"{text}  {statement}\n}}\n", words).findings == ()

    def test_an_end_that_is_not_the_kernels(self, tmp_path):
        """In front of .bss, or far away."""
        for ends in ("  . += 8192;\n", "  . = ALIGN(16);\n"):
            text = toolchain.HIGHER_HALF.replace("  . = ALIGN(16);\n", f"  _end = .;\n{ends}")
            assert self.link(tmp_path, text, "").findings == ()

    def link(self, folder, text, words):
        kernel = toolchain.compile_c(folder, toolchain.KERNEL + VARIABLES)
        return check(toolchain.link(folder, [kernel], [render_fragment(4, "x86_64", words), text]))


class TestT25OutsideTemplate:
    def test_a_pattern_that_misses_it(self, tmp_path):
        finding = only(judge(tmp_path, BY_HAND.replace("*(.percpu .percpu.*)", "*(.percpu .percpu.x)")), "T25")
        assert finding.symbol == "percpu_storage_y"
        assert "per-CPU variable y lies in .percpu.y" in finding.message

    def test_a_section_of_its_own(self, tmp_path):
        finding = only(judge(tmp_path, source=VARIABLES + toolchain.variable("stray", 1, ".data.stray")), "T25")
        assert "variable stray lies in .data" in finding.message

    @pytest.mark.parametrize("linker", LINKERS)
    def test_an_input_section_that_nothing_collects(self, tmp_path, linker):
        """Not a variable of the macros: only the name of its section says what it was to be."""
        source = VARIABLES + '__attribute__((section(".percpu.foo"), used)) int plain;\n'
        misses = BY_HAND.replace("*(.percpu .percpu.*)", "*(.percpu .percpu.x .percpu.y)")
        report = judge(tmp_path, misses, source, "--no-check-sections", linker=linker)
        (finding,) = (finding for finding in report.findings if finding.rule == "T25")
        assert (finding.level, finding.section, finding.found[:7]) == ("error", ".percpu.foo", "4 bytes")
        assert judge(tmp_path, source=source, linker=linker).findings == ()

    @pytest.mark.parametrize("linker", LINKERS)
    def test_memory_that_is_reserved_under_such_a_name(self, tmp_path, linker):
        text = script(BY_HAND).replace("  __bss_end", "  .percpu.stacks (NOLOAD) : AT(ADDR(.percpu.stacks) - KERNEL_VMA) { . += 4096; }\n  __bss_end")
        assert judge(tmp_path, text, linker=linker).findings == ()

    @pytest.mark.parametrize("linker", LINKERS)
    def test_no_template_at_all(self, tmp_path, linker):
        report = judge(tmp_path, toolchain.HIGHER_HALF, linker=linker)
        assert [finding.rule for finding in report.findings] == ["T25", "T25"]
        assert "there is none" in report.findings[0].expected

    def test_dropped_local_symbols(self, tmp_path):
        source = VARIABLES + toolchain.variable("stray", 1, ".data.stray").replace("int", "static int")
        assert rules(judge(tmp_path, source=source)) == {"T25"}
        report = judge(tmp_path, BY_HAND, source, "-x")
        assert report.findings == () and "T25" in {item.rule for item in report.not_judged}
        # Of a kernel without per-CPU data, and of one without areas, there is nothing to say.
        for text, source in ((toolchain.HIGHER_HALF, ""), (BY_HAND, VARIABLES + toolchain.note(layout="none"))):
            assert "T25" not in {item.rule for item in judge(tmp_path, text, source, "-x").not_judged}

    def test_sp_naive_has_no_template(self, tmp_path):
        assert judge(tmp_path, toolchain.HIGHER_HALF, VARIABLES + toolchain.note(layout="none")).findings == ()


class TestT28StaleCpuNum:
    @pytest.mark.parametrize("linker", LINKERS)
    def test_another_number(self, tmp_path, linker):
        finding = only(judge(tmp_path, linker=linker, cpu_num=8), "T28")
        assert (finding.symbol, finding.found, finding.expected) == ("_percpu_cpu_num", "CPU_NUM 4", "CPU_NUM 8")

    def test_a_script_that_does_not_name_it(self, tmp_path):
        """Four areas are reserved, which says for how many CPUs it was linked."""
        report = judge(tmp_path, toolchain.SEED_SECTION, cpu_num=2)
        assert rules(report) == {"T23", "T28"}

    def test_the_same_number(self, tmp_path):
        assert judge(tmp_path, cpu_num="4").findings == ()
