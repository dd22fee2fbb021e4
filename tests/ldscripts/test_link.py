"""The rendered fragment in real links: every mode, layout and linker, judged by the ELF file that comes out."""

from __future__ import annotations

from pathlib import Path

import pytest
import toolchain
from percpu_tools import PercpuError, check, render_fragment, targets
from percpu_tools.image import Image
from percpu_tools.userscript import refuse_segments

LAYOUTS = {"zero-vma": "", "in-image": "non-zero-vma"}
CPU_NUMS = (1, 2, 4, 64)
KERNEL_VMA = 0xFFFFFFFF80000000
PAGE = 4096

VARIABLES = (
    toolchain.variable("rest", 0x11)
    + toolchain.variable("bare", 0x12, ".percpu")
    + toolchain.variable("read_mostly", 0x13, ".percpu..read_mostly.read_mostly")
    + toolchain.variable("aligned", 0x14, ".percpu..aligned.aligned", 64)
    + toolchain.variable("page", 0x15, ".percpu..page_aligned.page", PAGE)
    + toolchain.variable("near", 0x16, ".percpu..near.near")
    + toolchain.variable("first", 0x17, ".percpu..first", 8)
)
SOURCE = toolchain.KERNEL + VARIABLES + toolchain.note(version="0.1.0", arch="x86_64", cache_line=64)
ORDER = ["first", "near", "page", "aligned", "rest", "bare", "read_mostly"]
VALUES = {"first": 0x17, "near": 0x16, "page": 0x15, "aligned": 0x14, "rest": 0x11, "bare": 0x12, "read_mostly": 0x13}


def link_kernel(folder: Path, linker: str, mode: str, layout: str, cpu_num: int, source: str = SOURCE, **given) -> Path:
    fragment = render_fragment(cpu_num, "x86_64", LAYOUTS[layout], linker, mode, **given)
    kernel = toolchain.compile_c(folder, source)
    if mode == "insert":
        return toolchain.link(folder, [kernel], [fragment, toolchain.HIGHER_HALF], linker=linker)
    (folder / "percpu.ld").write_text(fragment)
    script = toolchain.HIGHER_HALF.replace("  . = ALIGN(16);\n", "  INCLUDE percpu.ld\n  . = ALIGN(16);\n")
    return toolchain.link(folder, [kernel], [script], linker=linker)


def bss_start(path: Path) -> int:
    with Image(path) as image:
        return next(symbol.value for symbol in image.symbols(b"__bss_start") if symbol.name == "__bss_start")


@pytest.mark.parametrize(
    ("cpu_num", "load_offset"), [*((number, None) for number in CPU_NUMS), (4, "KERNEL_VMA"), (4, KERNEL_VMA)]
)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("mode", ["insert", "include"])
@pytest.mark.parametrize("linker", toolchain.LINKERS)
def test_a_higher_half_kernel_is_laid_out(tmp_path, linker, mode, layout, cpu_num, load_offset):
    path = link_kernel(tmp_path, linker, mode, layout, cpu_num, load_offset=load_offset)
    report = check(path, cpu_num=cpu_num)
    assert report.findings == ()
    model = report.layout
    assert (model.layout, model.cpu_num) == (layout, cpu_num)
    assert model.reserved == model.stride * cpu_num
    assert model.load_start == (0 if layout == "zero-vma" else model.start)
    assert bss_start(path) >= model.end
    assert model.note.version == "0.1.0"

    ordered = [variable.name for variable in model.variables]
    assert ordered == ORDER or ordered == [*ORDER[:4], "bare", "rest", "read_mostly"]
    with Image(path) as image:
        for variable in model.variables:
            value = toolchain.data_at(image, model.section, model.load_start + variable.offset, variable.size)
            assert value == VALUES[variable.name]
        judge_segments(image, model)


def judge_segments(image: Image, model) -> None:
    """Every segment is loaded where the kernel's mapping finds it, and no two in the same place."""
    for segment in image.segments:
        expected = segment.address - KERNEL_VMA
        if model.layout == "zero-vma" and segment.address == 0:
            assert segment.memory_size == segment.file_size == model.template_size
            expected = model.start - KERNEL_VMA
        assert segment.load_address == expected
    places = sorted((s.load_address, s.load_address + s.memory_size) for s in image.segments if s.memory_size)
    assert all(end <= start for (_, end), (start, _) in zip(places, places[1:]))


@pytest.mark.parametrize("behind_data", ["", ". = ALIGN(4096);", ". = ALIGN(4096) - 1;"])
@pytest.mark.parametrize("before_bss", ["", ". = .;\n", ". = ALIGN(4096);\n"])
@pytest.mark.parametrize("layout", [*LAYOUTS, "none"])
@pytest.mark.parametrize("linker", toolchain.LINKERS)
def test_addresses_hold_wherever_data_ends_and_bss_begins(tmp_path, linker, layout, before_bss, behind_data):
    """GNU ld loses the load address of a section without a byte, and moves `.` for one that is not allocated."""
    script = toolchain.HIGHER_HALF.replace("*(.data .data.*)", f"*(.data .data.*) {behind_data}")
    # Without an assignment to `.`, there must be no symbol either, or GNU ld inserts behind it.
    script = script.replace("  . = ALIGN(16);\n  __bss_start = .;\n", before_bss + ("__bss_start = .;\n" if before_bss else ""))
    fragment = render_fragment(2, "x86_64", {**LAYOUTS, "none": "sp-naive"}[layout], linker)
    kernel = toolchain.compile_c(tmp_path, toolchain.KERNEL + VARIABLES + toolchain.note(arch="x86_64", layout=layout))
    report = check(toolchain.link(tmp_path, [kernel], [fragment, script], linker=linker))
    assert report.findings == ()
    with Image(report.file) as image:
        judge_segments(image, report.layout)
        last = image.section(".percpu" if layout == "none" else ".percpu_areas")
        assert 0 <= image.section(".bss").address - last.end < PAGE


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("linker", toolchain.LINKERS)
def test_the_size_of_the_file_does_not_grow_with_cpu_num(tmp_path, linker, layout):
    sizes = {}
    for cpu_num in (2, 64, 1024):
        folder = tmp_path / str(cpu_num)
        folder.mkdir()
        sizes[cpu_num] = link_kernel(folder, linker, "insert", layout, cpu_num).stat().st_size
    # lld gives .bss, which has an AT of its own in this script, a segment of its own; its offset in the
    # file is congruent to its address modulo the page, which moves it by less than a page.
    allowed = PAGE if linker == "lld" else 0
    assert abs(sizes[64] - sizes[2]) <= allowed
    assert abs(sizes[1024] - sizes[2]) <= allowed


@pytest.mark.parametrize("alignment", [256, PAGE])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("linker", toolchain.LINKERS)
def test_areas_keep_the_largest_alignment(tmp_path, linker, layout, alignment):
    source = toolchain.KERNEL + toolchain.variable("x", 1, alignment=alignment) + "char pad[3] = {1};"
    model = check(link_kernel(tmp_path, linker, "insert", layout, 3, source)).layout
    assert model.alignment == alignment
    assert model.stride % alignment == 0
    assert model.start % alignment == 0


@pytest.mark.parametrize(("cpu_num", "load_offset"), [(1, None), (4, None), (64, "KERNEL_VMA")])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("mode", ["insert", "include"])
@pytest.mark.parametrize("linker", toolchain.LINKERS)
def test_a_pristine_template_lies_in_front_of_all_areas(tmp_path, linker, mode, layout, cpu_num, load_offset):
    words = " ".join(filter(None, (LAYOUTS[layout], "pristine")))
    source = SOURCE.replace("arch=x86_64", f"arch=x86_64\\\\nfeatures={words.replace(' ', ',')}")
    fragment = render_fragment(cpu_num, "x86_64", words, linker, mode, load_offset=load_offset)
    kernel = toolchain.compile_c(tmp_path, source)
    script = toolchain.HIGHER_HALF
    if mode == "include":
        (tmp_path / "percpu.ld").write_text(fragment)
        script = script.replace("  . = ALIGN(16);\n", "  INCLUDE percpu.ld\n  . = ALIGN(16);\n")
    path = toolchain.link(tmp_path, [kernel], [fragment, script] if mode == "insert" else [script], linker=linker)
    report = check(path, cpu_num=cpu_num)
    assert report.findings == ()
    model = report.layout
    assert model.start == model.loaded + model.stride
    assert model.reserved == model.stride * cpu_num
    assert model.load_start == (0 if layout == "zero-vma" else model.loaded)
    assert bss_start(path) >= model.end
    with Image(path) as image:
        for variable in model.variables:
            value = toolchain.data_at(image, model.section, model.load_start + variable.offset, variable.size)
            assert value == VALUES[variable.name]
        expected = model.loaded - KERNEL_VMA
        assert image.load_address(model.section) == expected
        assert not image.section(".percpu_areas").has_bytes


@pytest.mark.parametrize("words", ["non-zero-vma", "non-zero-vma pristine", "sp-naive"])
@pytest.mark.parametrize("mode", ["insert", "include"])
@pytest.mark.parametrize("linker", toolchain.LINKERS)
def test_a_script_with_phdrs_is_laid_out_in_the_image(tmp_path, linker, mode, words):
    layout = "none" if words == "sp-naive" else "in-image"
    script = toolchain.HIGHER_HALF.replace("SECTIONS\n", "PHDRS { text PT_LOAD FLAGS(5); data PT_LOAD FLAGS(6); }\nSECTIONS\n")
    script = script.replace("*(.text .text.*) }", "*(.text .text.*) } :text").replace("*(.data .data.*) }", "*(.data .data.*) } :data")
    fragment = render_fragment(4, "x86_64", words, linker, mode)
    if mode == "include":
        (tmp_path / "percpu.ld").write_text(fragment)
        script = script.replace("  . = ALIGN(16);\n", "  INCLUDE percpu.ld\n  . = ALIGN(16);\n")
    said = {"features": words.replace(" ", ",")}
    kernel = toolchain.compile_c(tmp_path, toolchain.KERNEL + VARIABLES + toolchain.note(arch="x86_64", layout=layout, **said))
    path = toolchain.link(tmp_path, [kernel], [fragment, script] if mode == "insert" else [script], linker=linker)
    report = check(path)
    assert report.findings == ()
    with Image(path) as image:
        judge_segments(image, report.layout)
        assert len(image.segments) == 2
        assert image.section(".percpu").end <= image.segments[1].address + image.segments[1].file_size


@pytest.mark.parametrize("areas", ["areas", "data"])
@pytest.mark.parametrize("linker", toolchain.LINKERS)
def test_with_phdrs_a_template_of_the_users_may_name_segments(tmp_path, linker, areas):
    """One for the template at 0 alone, and one for what follows; else a loader clears the one with the other."""
    (tmp_path / "percpu.ld.j2").write_text(
        '{% extends "percpu/percpu.ld.j2" %}\n'
        "{% block template_segment %} :percpu{% endblock %}\n"
        f"{{% block areas_segment %}} :{areas}{{% endblock %}}\n"
    )
    names = "data PT_LOAD FLAGS(6); percpu PT_LOAD FLAGS(6); areas PT_LOAD FLAGS(6);"
    script = toolchain.HIGHER_HALF.replace("SECTIONS\n", f"PHDRS {{ text PT_LOAD FLAGS(5); {names} }}\nSECTIONS\n")
    script = script.replace("  . = ALIGN(16);\n", "  INCLUDE percpu.ld\n  . = ALIGN(16);\n")
    script = script.replace("*(.text .text.*) }", "*(.text .text.*) } :text").replace("*(.data .data.*) }", "*(.data .data.*) } :data")
    with pytest.raises(PercpuError, match="has PHDRS"):
        refuse_segments(script, render_fragment(4, "x86_64", (), linker, "include"))
    fragment = render_fragment(4, "x86_64", (), linker, "include", templates=tmp_path)
    refuse_segments(script, fragment)
    (tmp_path / "percpu.ld").write_text(fragment)
    report = check(toolchain.link(tmp_path, [toolchain.compile_c(tmp_path, SOURCE)], [script], linker=linker))
    assert report.layout.layout == "zero-vma"
    if areas == "data":
        assert {finding.rule for finding in report.findings} == {"T06"}
        assert "reaches over the template" in report.findings[0].message
        return
    assert report.findings == ()
    with Image(report.file) as image:
        judge_segments(image, report.layout)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("linker", toolchain.LINKERS)
def test_a_checked_build_has_a_guard_on_either_side_of_the_variables(tmp_path, linker, layout):
    words = [*filter(None, [LAYOUTS[layout]]), "checked"]
    kernel = toolchain.compile_c(tmp_path, SOURCE)
    path = toolchain.link(tmp_path, [kernel], [render_fragment(2, "x86_64", words, linker), toolchain.HIGHER_HALF], linker=linker)
    report = check(path)
    assert report.findings == ()
    model = report.layout
    front, back = (model.value(f"_percpu_{which}_guard") - model.load_start for which in ("front", "back"))
    behind_first, *others = (variable.offset for variable in model.variables)
    assert behind_first == 0 and front == 4 and back + 4 == model.template_size
    assert all(front + 4 <= offset < back for offset in others)
    with Image(path) as image:
        for offset in (front, back):
            assert toolchain.data_at(image, model.section, model.load_start + offset, 4) == targets.GUARD_WORD


@pytest.mark.parametrize("linker", toolchain.LINKERS)
def test_unused_variables_are_collected_and_constructors_and_note_are_kept(tmp_path, linker):
    source = (
        toolchain.KERNEL.replace("counter + cleared", "counter + cleared + percpu_storage_read")
        .replace("int counter", "extern int percpu_storage_read;\nint counter")
        + toolchain.variable("read", 1, used=False)
        + toolchain.variable("unread", 2, used=False)
        + '__attribute__((section("percpu_constructors"))) void* const entry = &counter;\n'
        + toolchain.note(version="0.1.0", arch="x86_64")
    )
    kernel = toolchain.compile_c(tmp_path, source, "-mcmodel=large", "-fdata-sections", "-ffunction-sections")
    fragment = render_fragment(2, "x86_64", linker=linker)
    path = toolchain.link(tmp_path, [kernel], [fragment, toolchain.HIGHER_HALF], "--gc-sections", linker=linker)
    report = check(path)
    assert report.findings == ()
    assert [variable.name for variable in report.layout.variables] == ["read"]
    assert report.layout.note is not None
    symbols = report.layout.symbols
    table = symbols["_percpu_constructors_end"].value - symbols["_percpu_constructors_start"].value
    assert table == 8


@pytest.mark.parametrize("mode", ["insert", "include"])
@pytest.mark.parametrize("linker", toolchain.LINKERS)
def test_sp_naive_places_variables_as_ordinary_data(tmp_path, linker, mode):
    source = toolchain.KERNEL + toolchain.variable("x", 5) + toolchain.note(arch="x86_64", layout="none")
    kernel = toolchain.compile_c(tmp_path, source)
    fragment = render_fragment(1, "x86_64", "sp-naive", linker, mode)
    script = toolchain.HIGHER_HALF
    if mode == "include":
        (tmp_path / "percpu.ld").write_text(fragment)
        script = script.replace("  . = ALIGN(16);", "  INCLUDE percpu.ld\n  . = ALIGN(16);")
    path = toolchain.link(tmp_path, [kernel], [fragment, script] if mode == "insert" else [script], linker=linker)
    report = check(path)
    assert report.findings == ()
    assert report.layout.layout == "none"
    assert [(variable.name, variable.offset) for variable in report.layout.variables] == [("x", None)]
    with Image(path) as image:
        assert image.section(".percpu_areas") is None
        home = image.section(".percpu")
        assert toolchain.data_at(image, home, home.address, 4) == 5
        assert bss_start(path) >= home.end


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("linker", toolchain.LINKERS)
def test_the_fragment_leaves_no_orphan(tmp_path, linker, layout):
    kernel = toolchain.compile_c(tmp_path, SOURCE)
    fragment = render_fragment(2, "x86_64", LAYOUTS[layout], linker)
    script = toolchain.HIGHER_HALF.replace("*(.comment)", "*(.comment) *(.note.GNU-stack)")
    done = toolchain.try_link(tmp_path, [kernel], [fragment, script], "--orphan-handling=warn", linker=linker)
    assert done.returncode == 0
    # lld warns of the tables that it makes itself (.symtab and its strings).
    assert "percpu" not in done.stderr


# Read-only data with the code, as kernels without protection have it: what the linker adds has no section for its like.
TOGETHER = toolchain.HIGHER_HALF.replace("*(.text .text.*)", "*(.text .text.* .rodata .rodata.* .eh_frame)").replace(
    "  .rodata : AT(ADDR(.rodata) - KERNEL_VMA) { *(.rodata .rodata.*) *(.eh_frame) }\n", ""
)


@pytest.mark.parametrize("words", ["", "non-zero-vma", "pristine", "non-zero-vma pristine", "sp-naive"])
@pytest.mark.parametrize("linker", toolchain.LINKERS)
def test_the_fragment_moves_no_section_that_the_script_leaves_to_the_linker(tmp_path, linker, words):
    """To lld an ASSERT is an assignment to `.`; at the top, it would have read-only orphans at address 0."""
    source = SOURCE + '__attribute__((section(".constants"), used)) const int constant = 1;\n'
    kernel = toolchain.compile_c(tmp_path, source)
    fragment = render_fragment(4, "x86_64", words, linker)
    paths = {
        name: toolchain.link(tmp_path, [kernel], scripts, "--build-id=sha1", linker=linker, name=name)
        for name, scripts in (("without.elf", [TOGETHER.replace("*(.data .data.*)", "*(.data .data.* .percpu*)")]), ("with.elf", [fragment, TOGETHER]))
    }
    found = {}
    for name, path in paths.items():
        with Image(path) as image:
            found[name] = [(section, image.section(section).address) for section in (".note.gnu.build-id", ".constants", ".text")]
    assert found["with.elf"] == found["without.elf"]


@pytest.mark.parametrize("linker", toolchain.LINKERS)
@pytest.mark.parametrize("cpu_num", [1, 4])
def test_a_restart_table_stands_before_the_areas(tmp_path, linker, cpu_num):
    table = '__asm__(".pushsection percpu_restart,\\"ao\\",@progbits,_start\\n.long _start - ., 0\\n.popsection");\n'
    kernel = toolchain.compile_c(tmp_path, SOURCE + table)
    # For an architecture that has such tables; where they stand is the same for the one linked here.
    fragment = render_fragment(cpu_num, "riscv64", "restartable", linker)
    path = toolchain.link(tmp_path, [kernel], [fragment, toolchain.HIGHER_HALF], linker=linker)
    report = check(path, cpu_num=cpu_num)
    assert report.findings == ()
    start, end = report.layout.value("_percpu_restart_start"), report.layout.value("_percpu_restart_end")
    assert end - start == 8
    assert end <= report.layout.start


# A program for Linux on top of the linker's default script: it finds the template and copies it to the other areas.
@pytest.mark.parametrize("with_note", [False, True])
@pytest.mark.parametrize("layout", [*LAYOUTS, "none"])
@pytest.mark.parametrize("linker", toolchain.LINKERS)
def test_a_kernel_without_variables_is_as_it_was(tmp_path, linker, layout, with_note):
    source = toolchain.KERNEL + (toolchain.note(arch="x86_64", layout=layout) if with_note else "")
    fragment = render_fragment(4, "x86_64", {**LAYOUTS, "none": "sp-naive"}[layout], linker)
    kernel = toolchain.compile_c(tmp_path, source)
    report = check(toolchain.link(tmp_path, [kernel], [fragment, toolchain.HIGHER_HALF], linker=linker))
    assert report.findings == ()
    assert report.layout.variables == ()
    with Image(report.file) as image:
        assert 0 < image.section(".bss").address - image.section(".data").end < PAGE
        judge_segments(image, report.layout)


# Symbols are read from words in memory: compilers take different arrays to have different addresses and
# fold the comparison (T12), and a PIE cannot compute absolute symbols from the program counter.
PROGRAM = """\
#include <stdint.h>
#include <string.h>
extern char _percpu_start[], _percpu_end[], _percpu_load_start[], _percpu_load_end[], __bss_start[];
extern char _percpu_stride[], _percpu_cpu_num[];
""" + VARIABLES + """
char* const volatile start = _percpu_start;
char* const volatile end = _percpu_end;
char* const volatile load_start = _percpu_load_start;
char* const volatile load_end = _percpu_load_end;
char* const volatile bss_start = __bss_start;
char* const volatile stride = _percpu_stride;
char* const volatile cpu_num = _percpu_cpu_num;
char* const volatile page = (char*)&percpu_storage_page;
int main(void) {
    if (load_start != start) return 2;
    if (end - start != (intptr_t)stride * (intptr_t)cpu_num) return 3;
    if (bss_start < end) return 4;
    if ((uintptr_t)start % 4096) return 5;
    for (intptr_t cpu = 1; cpu < (intptr_t)cpu_num; ++cpu) {
        char* area = start + cpu * (intptr_t)stride;
        if (*area) return 6;
        memcpy(area, load_start, load_end - load_start);
        if (*(int*)(area + (page - start)) != 0x15) return 7;
    }
    return 42;
}
"""


@pytest.mark.parametrize("kind", ["-static", "-static-pie", "-no-pie", "-pie"])
@pytest.mark.parametrize("linker", toolchain.LINKERS)
def test_a_linux_program_needs_no_script_of_its_own(tmp_path, linker, kind):
    source = tmp_path / "program.c"
    source.write_text(PROGRAM)
    fragment = tmp_path / "percpu.ld"
    fragment.write_text(render_fragment(4, "x86_64", "non-zero-vma", linker))
    program = tmp_path / "program"
    compiler = ["gcc", "-fuse-ld=bfd"] if linker == "ld" else ["clang-19", "-fuse-ld=lld"]
    pic = "-fno-pic" if kind in ("-static", "-no-pie") else "-fPIE"
    done = toolchain.run([*compiler, "-O1", pic, kind, str(source), f"-Wl,-T,{fragment}", "-o", str(program)])
    assert "warning" not in done.stderr
    assert check(program, cpu_num=4).findings == ()
    assert toolchain.run([str(program)], check=False).returncode == 42


@pytest.mark.parametrize("linker", ["riscv64-linux-gnu-ld", "ld.lld-19"])
def test_a_program_may_begin_a_segment_at_the_template(tmp_path, linker):
    """Behind the restart table, which is read-only, lld without a script of the user's does."""
    table = '__asm__(".pushsection percpu_restart,\\"ao\\",@progbits,_start\\n.long _start - ., 1\\n.popsection");\n'
    (tmp_path / "kernel.c").write_text(toolchain.KERNEL + toolchain.variable("rest", 0x11) + table)
    flags = ["-O1", "-ffreestanding", "-fno-pic", "-mno-relax", "-msmall-data-limit=0"]
    kernel = tmp_path / "kernel.o"
    toolchain.run(["riscv64-linux-gnu-gcc", "-c", *flags, str(tmp_path / "kernel.c"), "-o", str(kernel)])
    name = "lld" if "lld" in linker else "ld"
    fragment = render_fragment(4, "riscv64", "non-zero-vma,restartable", name)
    report = check(toolchain.link(tmp_path, [kernel], [fragment], linker=linker))
    assert report.findings == ()
    assert report.layout.start == report.layout.load_start
    assert report.layout.value("_percpu_restart_end") <= report.layout.start
