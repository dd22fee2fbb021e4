"""The rules about restartable sequences: kernels that never restart one (T18), and tables of objects that were linked
partially before, rightly and wrongly (T19)."""

from __future__ import annotations

from pathlib import Path

import pytest
import toolchain
from check.builds import rules
from check.code_builds import BUILDS, GNU_LD, compile_with_runtime, link_with_runtime
from check.test_rules import only
from cxx.compilers import ALL, Compiler
from percpu_tools import check
from percpu_tools.image import Image

COMPILERS = [compiler for compiler in ALL if compiler.arch != "x86_64"]
OF_EACH = pytest.mark.parametrize("compiler", COMPILERS, ids=lambda compiler: compiler.label)
OF_GNU_LD = pytest.mark.parametrize(
    "compiler", [one for one in COMPILERS if one.arch in GNU_LD], ids=lambda compiler: compiler.label
)
OF_CLANG = pytest.mark.parametrize(
    "compiler", [one for one in COMPILERS if one.name == "clang"], ids=lambda compiler: compiler.arch
)
LAYOUTS = pytest.mark.parametrize("features", ["restartable", "non-zero-vma,restartable"], ids=["zero-vma", "in-image"])

# Code in .text and in .text.unlikely, as every kernel has it. Of each file three sequences.
SOURCE = """\
#include <percpu/percpu.hpp>
PERCPU_DEFINE_STATIC(size_t, far_NAME, 1);
PERCPU_DEFINE_STATIC_NEAR(uint8_t, near_NAME, 2);
extern "C" {
[[gnu::noinline]] void usual_NAME() { far_NAME.add_current(1); near_NAME.or_current(4); }
[[gnu::cold, gnu::noinline]] void seldom_NAME() { far_NAME.exchange_current(3); }
uintptr_t trap_NAME(uintptr_t pc) { return percpu::restart_pc(pc); }
}
"""
TRAP = "uintptr_t trap_NAME(uintptr_t pc) { return percpu::restart_pc(pc); }\n"
ENTRIES = 6

# An entry by hand, for the code of a function of its own.
BY_HAND = """\
asm(".pushsection .text.by_hand, \\"ax\\", %progbits\\n.balign 4\\n.Lby_hand:\\n.zero 16\\n.popsection\\n"
    ".pushsection percpu_restart, \\"ao\\", %progbits, .Lby_hand\\n.balign 4\\nENTRY\\n.popsection\\n");
"""
GOOD_ENTRY = ".long .Lby_hand - ., 8"


def compiled(
    folder: Path, compiler: Compiler, features: str, *flags: str, more: str = "", source: str = SOURCE
) -> list[Path]:
    first, second = (source.replace("NAME", name) for name in ("first", "second"))
    return compile_with_runtime(folder, compiler, first + more, features, "-O2", *flags, more=second)


def joined(folder: Path, compiler: Compiler, objects: list[Path], linker: str, *flags: str) -> list[Path]:
    """What one partial link makes of the objects."""
    command = GNU_LD[compiler.arch] if linker == "ld" else ("ld.lld-19",)
    toolchain.run([*command, "-r", *flags, *map(str, objects), "-o", str(folder / "built-in.o")])
    return [folder / "built-in.o"]


def is_joined(folder: Path) -> bool:
    """Whether that link made one table of the objects' sections. GNU ld 2.40 does, 2.44 does not."""
    with Image(folder / "built-in.o") as image:
        tables = [section for section in image.sections if section.name == "percpu_restart"]
    assert tables
    return len(tables) == 1


def kernels(folder: Path, compiler: Compiler, objects: list[Path], features: str, *flags: str, linker: str = ""):
    """The reports on the kernels that each linker makes of them, or one."""
    for build in (build for build in BUILDS if build.compiler is compiler and linker in ("", build.linker)):
        yield link_with_runtime(folder, build, objects, features, *flags)


@LAYOUTS
@OF_GNU_LD
def test_joined_by_gnu_ld(tmp_path, compiler, features):
    objects = joined(tmp_path, compiler, compiled(tmp_path, compiler, features), "ld")
    for report in kernels(tmp_path, compiler, objects, features):
        if not is_joined(tmp_path):
            assert report.findings == ()
            continue
        finding = only(report, "T19")
        assert (finding.level, finding.section) == ("error", ".percpu_restart")
        assert "not sorted by address" in finding.message
        assert finding.symbol in ("usual_second", "seldom_first", "seldom_second")
        assert "--unique=percpu_restart" in finding.fix[0]


@LAYOUTS
@OF_EACH
def test_what_keeps_the_order(tmp_path, compiler, features):
    objects = compiled(tmp_path, compiler, features)
    ways = [("not at all",), ("lld",), *([("ld", "--unique=percpu_restart")] if compiler.arch in GNU_LD else [])]
    for way in ways:
        given = objects if way == ("not at all",) else joined(tmp_path, compiler, objects, *way)
        for report in kernels(tmp_path, compiler, given, features):
            assert report.findings == (), way
            assert "T19" not in {item.rule for item in report.not_judged}
            with Image(tmp_path / "kernel.elf") as image:
                assert image.section(".percpu_restart").size == 8 * ENTRIES


@pytest.mark.parametrize(
    "flags, expected", [((), {"T19"}), (("--unique=percpu_restart",), set())], ids=["joined", "--unique"]
)
@OF_GNU_LD
def test_a_pie(tmp_path, compiler, flags, expected):
    """The entries are relative to themselves: what a PIE holds is what restart_pc reads.

    GNU ld says ET_EXEC where a PIE has an address other than 0.
    """
    features = "non-zero-vma,restartable"
    objects = joined(tmp_path, compiler, compiled(tmp_path, compiler, features, "-fpie"), "ld", *flags)
    for report in kernels(tmp_path, compiler, objects, features, "-pie", linker="lld"):
        with Image(tmp_path / "kernel.elf") as image:
            assert image.type == "ET_DYN"
        assert rules(report) == (expected if is_joined(tmp_path) else set()), report.findings


class TestAKernelThatRestartsNothing:
    SOURCE = SOURCE.replace(TRAP, "")
    BY_ASSEMBLY = 'asm(".globl _percpu_restart_called\\n.set _percpu_restart_called, 1");\n'

    @LAYOUTS
    @pytest.mark.parametrize("with_table", [True, False], ids=["table", "fragment-without-it"])
    @OF_EACH
    def test_it_is_found(self, tmp_path, compiler, features, with_table):
        """Without restart_pc nothing refers to the table's symbols: a fragment without the feature links, too."""
        objects = compiled(tmp_path, compiler, features, source=self.SOURCE)
        for_fragment = features if with_table else features.replace("restartable", "").strip(",")
        for report in kernels(tmp_path, compiler, objects, for_fragment):
            finding = only(report, "T18")
            assert finding.level == "error" and "percpu::restart_pc" in finding.fix[0]
            assert finding.found.startswith(f"{ENTRIES} restartable sequences")
            assert finding.section == (".percpu_restart" if with_table else "percpu_restart")

    @pytest.mark.parametrize("flags", [("-O2",), ("-O0",), ("-O2", "-ffunction-sections")], ids=" ".join)
    @pytest.mark.parametrize("how", ["restart_pc", "assembly"])
    @OF_EACH
    def test_one_that_does_is_silent(self, tmp_path, compiler, how, flags):
        source, more = (SOURCE, "") if how == "restart_pc" else (self.SOURCE, self.BY_ASSEMBLY)
        objects = compiled(tmp_path, compiler, "restartable", *flags, source=source, more=more)
        for report in kernels(tmp_path, compiler, objects, "restartable", "--gc-sections", "-u", "usual_first", "-u", "trap_first"):
            assert report.findings == ()
            with Image(tmp_path / "kernel.elf") as image:
                assert image.section(".percpu_restart").size > 0

    @pytest.mark.parametrize("flags", ["-O2", "-O0"])
    @LAYOUTS
    @OF_EACH
    def test_one_that_collects_it_as_unused_is_found(self, tmp_path, compiler, features, flags):
        objects = compiled(tmp_path, compiler, features, flags, "-ffunction-sections")
        used = ["-u", "usual_first", "-u", "seldom_second"]
        for report in kernels(tmp_path, compiler, objects, features, "--gc-sections", *used):
            assert only(report, "T18").found.startswith("3 restartable sequences")
        for report in kernels(tmp_path, compiler, objects, features, "--gc-sections", *used, "-u", "trap_second"):
            assert report.findings == ()

    @OF_EACH
    def test_nothing_to_restart(self, tmp_path, compiler):
        objects = compile_with_runtime(tmp_path, compiler, "", "restartable", "-O2")
        for report in kernels(tmp_path, compiler, objects, "restartable"):
            assert report.findings == ()


@pytest.mark.parametrize("by", ["the linker", "objcopy"])
@OF_EACH
def test_dropped_local_symbols_are_no_fault(tmp_path, compiler, by):
    """Neither of static variables, nor of restart_pc, nor of what each file is compiled for."""
    objects = compiled(tmp_path, compiler, "restartable")
    for report in kernels(tmp_path, compiler, objects, "restartable", *(["-x"] if by == "the linker" else [])):
        if by == "objcopy":
            toolchain.run(["llvm-objcopy-19", "--discard-all", report.file])
            report = check(report.file)
        assert report.findings == ()
        assert {"T11", "T18", "T26"} <= {item.rule for item in report.not_judged}


class TestEntriesByHand:
    ENTRIES = {
        "outside of all code": (".long far_away - ., 8", "holds what is no sequence"),
        "a commit in front of the start": (".long .Lby_hand - . + 8, -8", "holds what is no sequence"),
        "half an entry": (".long .Lby_hand - ., 8, 0", "holds what is no sequence"),
        "a sequence in another": (".long .Lby_hand - ., 8\\n.long .Lby_hand - . + 8, 4", "sequences overlap"),
        "the same twice": (".long .Lby_hand - ., 8\\n.long .Lby_hand - ., 8", "not sorted by address"),
    }

    @pytest.mark.parametrize("entry", ENTRIES)
    @OF_CLANG
    def test_what_is_wrong(self, tmp_path, compiler, entry):
        text, message = self.ENTRIES[entry]
        source = BY_HAND.replace("ENTRY", text) + 'extern "C" { [[gnu::used]] int far_away[4] = {1}; }\n'
        objects = compiled(tmp_path, compiler, "restartable", more=source)
        for report in kernels(tmp_path, compiler, objects, "restartable"):
            assert message in only(report, "T19").message

    @OF_EACH
    def test_what_is_right(self, tmp_path, compiler):
        objects = compiled(tmp_path, compiler, "restartable", more=BY_HAND.replace("ENTRY", GOOD_ENTRY))
        for report in kernels(tmp_path, compiler, objects, "restartable"):
            assert report.findings == ()


def test_a_stripped_kernel_is_not_judged(tmp_path):
    compiler = next(one for one in COMPILERS if one.arch == "riscv64")
    for features, asked in (("restartable", True), ("", False)):
        report = next(iter(kernels(tmp_path, compiler, compiled(tmp_path, compiler, features), features)))
        toolchain.run(["llvm-objcopy-19", "--strip-all", "--keep-section=.note.percpu", report.file])
        assert ("T19" in {item.rule for item in check(report.file).not_judged}) == asked
