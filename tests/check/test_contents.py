"""Rules about what the template holds and who touches it, against real builds with the fault and without it."""

from __future__ import annotations

import re

import pytest
import toolchain
from check import code_builds
from check.builds import BY_HAND, VARIABLES, judge, rules, script
from check.test_rules import LINKERS, only
from check.test_segments import LOW, TRIPLES
from cxx.compilers import ALL
from percpu_tools import check
from percpu_tools.code import Bytes
from percpu_tools.image import Image
from percpu_tools.instructions import x86_64

X86_64 = [compiler for compiler in ALL if compiler.arch == "x86_64"]


def in_template(declaration: str, name: str) -> str:
    return f'__attribute__((section(".percpu.{name}"), used)) {declaration}\n'


LIST = "struct list { struct list *next, *prev; };\n" + in_template(
    "struct list percpu_storage_waiting = {&percpu_storage_waiting, &percpu_storage_waiting};", "waiting"
).replace("__attribute__", "extern struct list percpu_storage_waiting;\n__attribute__", 1)
# Something in front of it, so that its address is not 0.
FRONT = in_template("long percpu_storage_front[4] = {1, 2, 3, 4};", "front")
IN_IMAGE = LOW.replace(".percpu 0x0 : AT(_percpu_start)", ".percpu :")


def compile_cxx(folder, source, *flags, compiler="g++", name="kernel"):
    path, target = folder / f"{name}.cpp", folder / f"{name}.o"
    path.write_text(source)
    flags = ("-O2", "-ffreestanding", "-fno-pic", "-fno-exceptions", "-fno-asynchronous-unwind-tables", *flags)
    toolchain.run([compiler, "-c", *flags, str(path), "-o", str(target)])
    return target


def judge_for(folder, arch, source, text, *flags, compile=(), language="c"):
    flags_of_compiler = (f"--target={TRIPLES[arch]}", *compile)
    if language == "c":
        kernel = toolchain.compile_c(folder, source, *flags_of_compiler, compiler="clang-19")
    else:
        kernel = compile_cxx(folder, source, *flags_of_compiler, compiler="clang++-19")
    done = toolchain.try_link(folder, [kernel], [text], *flags, linker="lld")
    assert done.returncode == 0, done.stderr
    return check(folder / "kernel.elf")


def zero_vma(base="0x40000000"):
    return LOW.format(at="AT(ADDR(.bss))", base=base)


def in_image(base="0x40000000"):
    return IN_IMAGE.format(at="", base=base)


class TestT30PointerIntoTemplate:
    @pytest.mark.parametrize("arch", TRIPLES)
    @pytest.mark.parametrize("flags", [(), ("--emit-relocs",)], ids=["words", "relocations"])
    @pytest.mark.parametrize("layout", [zero_vma, in_image])
    def test_a_list_that_points_at_itself(self, tmp_path, arch, flags, layout):
        report = judge_for(tmp_path, arch, toolchain.KERNEL + FRONT + LIST, layout(), *flags)
        finding = only(report, "T30")
        assert (finding.symbol, finding.section) == ("percpu_storage_waiting", ".percpu")
        assert finding.found.startswith("relocation" if flags else "word")
        assert "1 more" in finding.message or not flags

    @pytest.mark.parametrize("linker", LINKERS)
    def test_in_the_higher_half(self, tmp_path, linker):
        # GCC writes the variables of a file in reverse order; at 0 the pointer would be a null pointer.
        assert only(judge(tmp_path, BY_HAND, LIST + FRONT, "--emit-relocs", linker=linker), "T30").level == "error"
        assert only(judge(tmp_path, BY_HAND, LIST + FRONT, linker=linker), "T30").level == "warning"

    @pytest.mark.parametrize("arch", TRIPLES)
    @pytest.mark.parametrize("layout", [zero_vma, in_image])
    def test_a_pointer_to_an_ordinary_global(self, tmp_path, arch, layout):
        source = toolchain.KERNEL + FRONT + in_template("int *percpu_storage_pointer = &counter;", "pointer")
        report = judge_for(tmp_path, arch, source, layout(), "--emit-relocs")
        assert (report.findings, report.not_judged) == ((), ())

    def test_without_relocations_it_is_not_taken_for_innocent(self, tmp_path):
        report = judge(tmp_path, BY_HAND, FRONT + in_template("long *percpu_storage_pointer = percpu_storage_front;", "pointer"))
        assert report.findings == ()
        assert [item.rule for item in report.not_judged] == ["T08", "T30"]

    @pytest.mark.parametrize("linker", LINKERS)
    def test_a_link_that_keeps_relocations_has_none_for_the_template(self, tmp_path, linker):
        report = judge(tmp_path, BY_HAND, FRONT, "--emit-relocs", linker=linker)
        assert (report.findings, report.not_judged) == ((), ())


class TestT26ForeignContents:
    @pytest.mark.parametrize("arch", TRIPLES)
    def test_string_literals(self, tmp_path, arch):
        source = toolchain.KERNEL + VARIABLES + "const char *text(void);\nconst char *text(void) { return \"a literal of this file\"; }\n"
        text = zero_vma().replace("*(.percpu .percpu.*)", "*(.percpu .percpu.*) *(.rodata.str*)").replace(" *(.rodata .rodata.*)", " *(.rodata)")
        finding = only(judge_for(tmp_path, arch, source, text), "T26")
        assert "b'a literal of thi'" in finding.found

    @pytest.mark.parametrize("arch", TRIPLES)
    def test_virtual_table(self, tmp_path, arch):
        source = (
            'extern "C" void _start();\nstruct Device { virtual void start(); int number; };\n'
            "void Device::start() { number = 1; }\nvoid _start() { Device device; device.start(); }\n" + VARIABLES
        )
        text = zero_vma().replace("*(.percpu .percpu.*)", "*(.percpu .percpu.*) *(.data.rel.ro._ZTV* .rodata._ZTV* .rodata)")
        text = text.replace(" *(.rodata .rodata.*)", "")
        report = judge_for(tmp_path, arch, source, text, compile=("-fno-rtti", "-fdata-sections"), language="c++")
        (finding,) = (finding for finding in report.findings if finding.symbol == "_ZTV6Device")
        assert (finding.rule, finding.level) == ("T26", "warning")
        assert "a virtual table, lies in the template" in finding.message

    def test_code(self, tmp_path):
        text = script(BY_HAND).replace("*(.percpu .percpu.*)", "*(.percpu .percpu.*) *(.text.stray)").replace("*(.text .text.*)", "*(.text)")
        source = VARIABLES + '__attribute__((section(".text.stray"), used)) void stray(void) {}\n'
        report = judge(tmp_path, text, source, "--no-warn-rwx-segments")
        assert rules(report) == {"T26"}
        assert report.findings[0].symbol == "stray"

    def test_dropped_local_symbols(self, tmp_path):
        report = judge(tmp_path, BY_HAND, VARIABLES.replace("int", "static int"), "-x")
        assert report.findings == ()
        assert "T26" in {item.rule for item in report.not_judged}


class TestTemplateInSectionOfOtherThings:
    """Relocations may name the section alone: what is meant then their addends tell."""

    TEXT = (
        in_image("0x200000")
        .replace("*(.got*) }\n  . = ALIGN(4096);\n  _percpu_start = .;\n  .percpu : {", "*(.got*) . = ALIGN(64); _percpu_start = .;")
        .replace("_percpu_load_end = .; }", "_percpu_load_end = .; . = ALIGN(64); *(.behind) }")
    )
    SOURCE = (
        toolchain.KERNEL
        + "static int own = 3;\n"
        + '__attribute__((section(".behind"))) static int behind = 1;\n'
        + in_template("static int percpu_storage_x = 5;", "x")
        + in_template("int *percpu_storage_pointer = &own;", "pointer")
        + "int use(int);\nint use(int n) { own += n; behind = 7; counter = 9; return own + behind; }\n"
    )
    BAD = {
        "T08": "int get(void);\nint get(void) { return percpu_storage_x++; }\n",
        "T30": in_template("int *percpu_storage_bad = &percpu_storage_x;", "bad"),
    }

    @pytest.mark.parametrize("arch", TRIPLES)
    def test_ordinary_data(self, tmp_path, arch):
        report = judge_for(tmp_path, arch, self.SOURCE, self.TEXT, "--emit-relocs")
        assert report.layout.section.name == ".data"
        assert rules(report) & {"T08", "T15", "T30"} == set()

    @pytest.mark.parametrize("rule", BAD)
    @pytest.mark.parametrize("arch", TRIPLES)
    def test_per_cpu_data(self, tmp_path, arch, rule):
        report = judge_for(tmp_path, arch, self.SOURCE + self.BAD[rule], self.TEXT, "--emit-relocs")
        assert rules(report) & {"T08", "T15", "T30"} == {rule}


class TestT09DynamicRelocations:
    MOVABS = 'void take(void);\nvoid take(void) { __asm__ volatile ("movabs $percpu_storage_x, %%rax" ::: "rax"); }\n'
    PIE = ("-pie", "-z", "notext", "--no-dynamic-linker")

    @pytest.mark.parametrize("linker", LINKERS)
    def test_an_absolute_address_in_code(self, tmp_path, linker):
        kernel = toolchain.compile_c(tmp_path, toolchain.KERNEL.replace("&greeting[counter + cleared]", "0") + VARIABLES + self.MOVABS)
        toolchain.try_link(tmp_path, [kernel], [in_image()], *self.PIE, linker=linker)
        finding = only(check(tmp_path / "kernel.elf"), "T09")
        assert finding.section == ".text"
        assert "an instruction holds the absolute address" in finding.message

    @pytest.mark.parametrize("arch", TRIPLES)
    def test_a_template_that_is_patched(self, tmp_path, arch):
        report = judge_for(tmp_path, arch, toolchain.KERNEL + FRONT + LIST, in_image(), "-pie", "--no-dynamic-linker", compile=("-fpie",))
        assert report.layout.layout == "in-image"
        finding = next(finding for finding in report.findings if finding.rule == "T09")
        assert (finding.level, finding.symbol) == ("error", "percpu_storage_waiting")

    @pytest.mark.parametrize("arch", TRIPLES)
    def test_relative_accesses(self, tmp_path, arch):
        source = toolchain.KERNEL + FRONT + in_template("int *percpu_storage_pointer = &counter;", "pointer")
        report = judge_for(tmp_path, arch, source, in_image(), "-pie", "--no-dynamic-linker", compile=("-fpie",))
        assert report.findings == ()

    @pytest.mark.parametrize("arch", TRIPLES)
    def test_packed_relocations_are_not_taken_for_innocent(self, tmp_path, arch):
        source = toolchain.KERNEL + FRONT + in_template("int *percpu_storage_pointer = &counter;", "pointer")
        report = judge_for(
            tmp_path, arch, source, in_image(), "-pie", "--no-dynamic-linker", "-z", "pack-relative-relocs", compile=("-fpie",)
        )
        assert "T09" in {item.rule for item in report.not_judged}


class TestT15ConstructorTouchesTemplate:
    SOURCE = (
        'extern "C" void _start();\nvoid _start() {}\nint compute();\n__attribute__((noinline, used)) int compute() { return 7; }\n'
        'volatile int wanted = 3;\n__attribute__((section(".percpu.x"), used)) int percpu_storage_x = wanted + 1;\n'
    )
    GOOD = SOURCE.replace("percpu_storage_x = wanted + 1", "percpu_storage_x = 1;\nint elsewhere = wanted + 1")
    # A kernel whose .init_array lies behind .data.
    TABLE = ("*(.got*) }", "*(.got*) }\n  .init_array : { KEEP(*(.init_array*)) }")

    @pytest.mark.parametrize("flags", [(), ("--emit-relocs",)], ids=["code", "relocations"])
    @pytest.mark.parametrize("linker", LINKERS)
    def test_a_dynamic_initializer(self, tmp_path, linker, flags):
        for source, expected in ((self.SOURCE, {"T15"}), (self.GOOD, set())):
            kernel = compile_cxx(tmp_path, source)
            toolchain.link(tmp_path, [kernel], [in_image("0x200000").replace(*self.TABLE)], *flags, linker=linker)
            assert rules(check(tmp_path / "kernel.elf")) == expected

    @pytest.mark.parametrize("flags", [(), ("--emit-relocs",)], ids=["code", "relocations"])
    @pytest.mark.parametrize("compiler", ["g++", "clang++-19"])
    def test_without_optimization(self, tmp_path, compiler, flags):
        """The function in .init_array then calls others, which do the work."""
        for source, expected in ((self.SOURCE, {"T15"}), (self.GOOD, set())):
            kernel = compile_cxx(tmp_path, source, "-O0", "-fpie", compiler=compiler)
            toolchain.link(tmp_path, [kernel], [in_image("0x200000").replace(*self.TABLE)], *flags)
            assert rules(check(tmp_path / "kernel.elf")) == expected

    @pytest.mark.parametrize("arch", ["aarch64", "arm", "riscv64", "riscv32", "loongarch64"])
    def test_by_relocations(self, tmp_path, arch):
        """Kernels linked low enough to reach address 0 relative to the program counter."""
        flags = {"arm": ("-fpie",)}.get(arch, ("-mcmodel=medany", "-mno-relax") if "riscv" in arch else ())
        for source, expected in ((self.SOURCE, {"T15"}), (self.GOOD, set())):
            text = zero_vma("0x200000").replace(*self.TABLE)
            report = judge_for(tmp_path, arch, source, text, "--emit-relocs", compile=flags, language="c++")
            assert rules(report) == expected

    @pytest.mark.parametrize("arch", TRIPLES)
    def test_without_relocations_it_is_not_taken_for_innocent(self, tmp_path, arch):
        text = in_image("0x200000").replace(*self.TABLE)
        report = judge_for(tmp_path, arch, self.GOOD, text, language="c++")
        assert report.findings == ()
        assert [item.rule for item in report.not_judged] == ["T08", "T15"]

    # The table inside another section: with the bounds that whoever calls the constructors needs, or without them.
    HOMES = {
        ".init_array": "__init_array_start = .; KEEP(*(.init_array .init_array.*)) __init_array_end = .;",
        ".ctors": "__CTOR_LIST__ = .; KEEP(*(.ctors .ctors.*)) __CTOR_END__ = .;",
        "without bounds": "KEEP(*(.init_array .init_array.*))",
    }

    @pytest.mark.parametrize("arch", TRIPLES)
    @pytest.mark.parametrize("home", HOMES)
    def test_a_table_inside_another_section(self, tmp_path, arch, home):
        flags = {"arm": ("-fpie",)}.get(arch, ("-mcmodel=medany", "-mno-relax") if "riscv" in arch else ())
        flags += ("-fno-use-init-array",) if home == ".ctors" else ()
        by_hand = self.SOURCE.replace("= wanted + 1", "= 1") + "__attribute__((constructor)) static void early() { percpu_storage_x = wanted; }\n"
        for source, name in ((self.SOURCE, "_GLOBAL__sub_I_kernel.cpp"), (by_hand, "_ZL5earlyv")):
            if name == "_ZL5earlyv" and home == "without bounds":
                continue
            for layout in (zero_vma, in_image):
                text = layout("0x200000").replace("*(.rodata .rodata.*)", f"*(.rodata .rodata.*) {self.HOMES[home]}")
                report = judge_for(tmp_path, arch, source, text, "--emit-relocs", compile=flags, language="c++")
                if layout is zero_vma or arch == "x86_64":
                    assert only(report, "T15").symbol == name
                else:
                    assert rules(report) <= {"T08"} and "T15" in {item.rule for item in report.not_judged}

    @pytest.mark.parametrize("compiler", X86_64, ids=lambda compiler: compiler.label)
    def test_accessors_in_constructors(self, tmp_path, compiler):
        """In the image, they take the variable's address relative to the program counter, and add the base to it."""
        source = (
            "PERCPU_DEFINE(size_t, counter, 1);\n"
            "struct First { First() { *counter.remote_ptr(0) = 5; } } first;\n"
            "struct Sum { size_t sum = counter.sum(); } sum;\n"
            "struct Offset { size_t offset = counter.offset() + counter.symbol_vma(); } offset;\n"
        )
        objects = code_builds.compile_with_runtime(tmp_path, compiler, source, "non-zero-vma", "-O2")
        for linker in LINKERS:
            for kept in (code_builds.KEPT, ()):
                build = code_builds.Build(compiler, linker)
                report = code_builds.link_with_runtime(tmp_path, build, objects, "non-zero-vma", *kept)
                assert report.findings == ()
                assert [item.rule for item in report.not_judged] == (["T15"] if kept else ["T08", "T15"])

    # Compilers address `x` in these relative to the program counter, with immediates of every size, and without one.
    ACCESSES = ("x = y;", "y = x;", "x = 7;", "x += 3;", "x += 70000;", "x *= 5;", "x <<= 3;", "if (x & 64) y = 1;", "y = x * 1000;")
    FOUR = "".join(
        f"{type} ordinary_{number} = 1;\n{type} percpu_storage_{number} = 1;\nvolatile {type} y_{number} = 1;\n"
        for number, type in enumerate(("char", "short", "int", "long"))
    ).replace("percpu", '__attribute__((section(".percpu.x"), used)) percpu')

    @pytest.mark.parametrize("compiler", ["g++", "clang++-19"])
    def test_which_address_an_instruction_names(self, tmp_path, compiler):
        statements = [re.sub(r"\bx\b", f"percpu_storage_{number}", access).replace("y", f"y_{number}") for number in range(4) for access in self.ACCESSES]
        functions = "".join(f"void f{number}() {{ {statement} }}\n" for number, statement in enumerate(statements))
        kernel = compile_cxx(tmp_path, f'extern "C" void _start();\nvoid _start() {{}}\n{self.FOUR}{functions}', compiler=compiler)
        toolchain.try_link(tmp_path, [kernel], [in_image("0x200000")], linker="lld")
        listing = toolchain.run(["objdump", "-dw", str(tmp_path / "kernel.elf")]).stdout
        found = re.findall(r"^ *(\w+):\t((?:\w\w )+).*\(%rip\).*# (\w+)", listing, re.MULTILINE)
        assert len(found) > len(statements)
        with Image(tmp_path / "kernel.elf") as image:
            home, bytes_ = image.section(".text"), Bytes(image)
            for start, encoded, shown in found:
                instruction, target = bytes.fromhex(encoded), int(shown, 16)
                behind = target - int(start, 16) - len(instruction)
                at = instruction.rindex(behind.to_bytes(4, "little", signed=True))
                assert x86_64.relative_target(bytes_, home, int(start, 16) + at) == target, encoded

    @pytest.mark.parametrize("flags", [(), ("--emit-relocs",)], ids=["code", "relocations"])
    @pytest.mark.parametrize("linker", LINKERS)
    @pytest.mark.parametrize("name, expected", [("percpu_storage_0", {"T15"}), ("last", set())])
    def test_a_word_in_front_of_the_template_is_none_of_it(self, tmp_path, linker, flags, name, expected):
        source = f'extern "C" void _start();\nvoid _start() {{}}\n{self.FOUR}__attribute__((section(".last"))) static int last = 1;\n'
        source += f"struct Access {{ Access() {{ {name} = y_2; }} }} access;\n__attribute__((used)) int get() {{ return last; }}\n"
        text = in_image("0x200000").replace(*self.TABLE).replace("  _percpu_start = .;\n", "")
        text = text.replace(".percpu : { ", ".percpu : { *(.last) _percpu_start = .; ")
        done = toolchain.try_link(tmp_path, [compile_cxx(tmp_path, source)], [text], *flags, linker=linker)
        assert done.returncode == 0, done.stderr
        assert rules(check(tmp_path / "kernel.elf")) & {"T15"} == expected

    @pytest.mark.parametrize("flags", [(), ("--emit-relocs",)], ids=["code", "relocations"])
    @pytest.mark.parametrize("linker", LINKERS)
    def test_an_address_at_0_that_is_relative_to_the_program_counter(self, tmp_path, linker, flags):
        source = self.GOOD.replace("elsewhere = wanted", "*elsewhere = &percpu_storage_x + wanted")
        kernel = compile_cxx(tmp_path, source, "-fpie")
        done = toolchain.try_link(tmp_path, [kernel], [zero_vma("0x200000").replace(*self.TABLE)], *flags, linker=linker)
        assert done.returncode == 0, done.stderr
        assert rules(check(tmp_path / "kernel.elf")) == {"T15"}


class TestT22TlsRegister:
    TAKEN = {"x86_64": "fs", "aarch64": "TPIDR_EL0", "arm": "TPIDRURO", "riscv64": "tp", "riscv32": "tp", "loongarch64": "tp"}
    FREE = {"x86_64": "gs", "aarch64": "TPIDR_EL1", "arm": "TPIDRPRW", "riscv64": "gp", "riscv32": "gp", "loongarch64": "r21"}
    SOURCE = toolchain.KERNEL + VARIABLES + "_Thread_local int own = 1;\nint *get(void);\nint *get(void) { return &own; }\n"
    TEXT = zero_vma().replace("  . = ALIGN(4096);\n  _percpu_start", "  .tdata : { *(.tdata) }\n  . = ALIGN(4096);\n  _percpu_start")

    def judge(self, folder, arch, source):
        return judge_for(folder, arch, source, self.TEXT, compile=("-mtp=cp15",) if arch == "arm" else ())

    @pytest.mark.parametrize("arch", TRIPLES)
    def test_the_same_register(self, tmp_path, arch):
        taken = toolchain.note(arch=arch, base_register=self.TAKEN[arch])
        finding = only(self.judge(tmp_path, arch, self.SOURCE + taken), "T22")
        assert (finding.level, finding.section) == ("error", ".tdata")
        assert f"base-register={self.FREE[arch]}" in finding.fix[0] or arch == "aarch64"

    @pytest.mark.parametrize("arch", TRIPLES)
    def test_another_register(self, tmp_path, arch):
        report = self.judge(tmp_path, arch, self.SOURCE + toolchain.note(arch=arch, base_register=self.FREE[arch]))
        assert report.findings == ()

    def test_a_file_that_does_not_say(self, tmp_path):
        report = self.judge(tmp_path, "x86_64", self.SOURCE)
        assert "T22" in {item.rule for item in report.not_judged}

    @pytest.mark.parametrize(
        ("arch", "register", "flags"),
        [
            *(("aarch64", "TPIDR_EL1", ("-mtp=el1", level)) for level in ("-O0", "-O2")),
            *(("arm", "TPIDRPRW", ("-mtp=tpidrprw", mode, level)) for mode in ("-marm", "-mthumb") for level in ("-O0", "-O2")),
        ],
    )
    def test_the_register_that_an_option_names(self, tmp_path, arch, register, flags):
        for base, expected in ((register, {"T22"}), (self.TAKEN[arch], set())):
            report = judge_for(tmp_path, arch, self.SOURCE + toolchain.note(arch=arch, base_register=base), self.TEXT, compile=flags)
            assert (rules(report), [item for item in report.not_judged if item.rule == "T22"]) == (expected, [])

    @pytest.mark.parametrize("mode", ["-marm", "-mthumb"])
    def test_the_register_that_a_function_of_the_kernels_reads(self, tmp_path, mode):
        function = '__attribute__((naked)) void __aeabi_read_tp(void) { __asm__("mrc p15, 0, r0, c13, c0, 4\\n bx lr"); }\n'
        for base, expected in (("TPIDRPRW", {"T22"}), ("TPIDRURO", set())):
            source = self.SOURCE + function + toolchain.note(arch="arm", base_register=base)
            assert rules(judge_for(tmp_path, "arm", source, self.TEXT, compile=("-mtp=soft", mode))) == expected

    @pytest.mark.parametrize("arch", ["aarch64", "arm"])
    def test_storage_that_no_code_reads(self, tmp_path, arch):
        source = toolchain.KERNEL + VARIABLES + "_Thread_local int own = 1;\n" + toolchain.note(arch=arch, base_register=self.TAKEN[arch])
        report = self.judge(tmp_path, arch, source)
        assert report.findings == ()
        assert "which register -mtp chose" in next(item.reason for item in report.not_judged if item.rule == "T22")

    @pytest.mark.parametrize("build", [build for build in code_builds.BUILDS if build.arch in ("aarch64", "arm")], ids=lambda build: build.label)
    def test_beside_the_accessors_of_the_runtime(self, tmp_path, build):
        """They read the base register, and add to it."""
        source = """
thread_local unsigned own = 1;
struct Table { unsigned entries[100]; };
PERCPU_DEFINE(Table, table);
PERCPU_DEFINE(unsigned, x, 2);
extern "C" unsigned use() { x.add_current(1); return ++own + table.current_ptr()->entries[7] + x.read_current(); }
"""
        taken, free = self.TAKEN[build.arch], self.FREE[build.arch]
        for register, expected in ((taken, {"T22"}), (free, set())):
            features = f"base-register={register}"
            objects = code_builds.compile_with_runtime(tmp_path, build.compiler, source, features, *(("-mtp=cp15",) if build.arch == "arm" else ()))
            assert rules(code_builds.link_with_runtime(tmp_path, build, objects, features)) == expected


class TestT14DuplicateStorage:
    BOX = (
        'extern "C" void _start();\ntemplate <class T> struct Box { static int percpu_storage_count; };\n'
        'template <class T> __attribute__((section(".percpu.count"), used)) int Box<T>::percpu_storage_count = 1;\n'
        "template struct Box<int>;\nvoid _start() {}\n"
    )

    @pytest.mark.parametrize("arch", TRIPLES)
    def test_a_template(self, tmp_path, arch):
        finding = only(judge_for(tmp_path, arch, self.BOX, zero_vma(), language="c++"), "T14")
        assert finding.symbol == "_ZN3BoxIiE20percpu_storage_countE"
        assert "a template's variable" in finding.message

    @pytest.mark.parametrize("arch", TRIPLES)
    def test_an_inline_variable(self, tmp_path, arch):
        source = 'extern "C" void _start();\nvoid _start() {}\n__attribute__((section(".percpu.x"), used)) inline int percpu_storage_x = 1;\n'
        finding = only(judge_for(tmp_path, arch, source, zero_vma(), compile=("-std=c++20",), language="c++"), "T14")
        assert "an inline variable" in finding.message

    def test_one_that_is_weak_by_an_attribute(self, tmp_path):
        finding = only(judge(tmp_path, source=VARIABLES + toolchain.variable("weak", 1).replace("used", "used, weak")), "T14")
        assert "per-CPU storage is weak, by an attribute or as an inline variable is:" in finding.message

    def test_a_header_with_a_static_one_is_a_note(self, tmp_path):
        mine = toolchain.compile_c(tmp_path, toolchain.KERNEL + toolchain.variable("x", 1).replace("int", "static int"))
        other = toolchain.compile_c(tmp_path, toolchain.variable("x", 2).replace("int", "static int"), name="other")
        toolchain.link(tmp_path, [mine, other], [script(BY_HAND)])
        report = check(tmp_path / "kernel.elf")
        assert [(finding.rule, finding.level) for finding in report.findings] == [("T14", "note")]


class TestT27FalseSharing:
    def test_a_stride_of_no_line(self, tmp_path):
        text = BY_HAND.replace("MAX(64, ALIGNOF(.percpu))", "16")
        report = judge(tmp_path, text)
        assert [(finding.rule, finding.level) for finding in report.findings] == [("T27", "note")]
        assert report.ok
        assert report.findings[0].found == "stride 16"

    def test_an_object_on_two_lines(self, tmp_path):
        source = "".join(in_template(f"_Alignas(8) char percpu_storage_{name}[40] = {{1}};", name) for name in "ab")
        (finding,) = judge(tmp_path, source=source).findings
        assert (finding.rule, finding.level) == ("T27", "note")
        assert "smaller than a cache line and yet on two" in finding.message

    def test_read_mostly_beside_others(self, tmp_path):
        text = BY_HAND.replace("*(.percpu .percpu.*)", "*(.percpu.x) {} _percpu_read_mostly_start = .; *(.percpu.y)")
        (finding,) = judge(tmp_path, text.replace("{}", "")).findings
        assert "the read-mostly variable y shares a cache line with x" in finding.message
        assert judge(tmp_path, text.replace("{}", ". = ALIGN(64);")).findings == ()
