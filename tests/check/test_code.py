"""The rules about code: each against bad builds by every compiler and linker where its trap exists, and good ones."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import subprocess
import time

import pytest
import toolchain
from check.builds import rules
from check.code_builds import BUILDS, IN_IMAGE, KEPT, ZERO_VMA, Build, compile_with_runtime, judge, link_with_runtime
from check.memory import measured, most_memory
from check.test_rules import only
from cxx.build import HERE
from cxx.compilers import ALL
from cxx.test_riscv_relaxation import RISCV as RUNTIME
from cxx.test_riscv_relaxation import headers_without_norelax, linked
from percpu_tools import check, code
from percpu_tools.evidence import outside
from percpu_tools.image import Image
from percpu_tools.targets import TARGETS

CODE_RULES = {"T01", "T02", "T03", "T04", "T08"}
RISCV = ("riscv64", "riscv32")
EVIDENCE = pytest.mark.parametrize("kept", [(), KEPT], ids=["instructions", "relocations"])

# Something in front of it, so that its offset is not 0.
FRONT = '__attribute__((section(".percpu.front"), used)) int percpu_storage_front[4] = {1, 2, 3, 4};\n'
X = FRONT + toolchain.variable("x", 5)


__all__ = ["headers_without_norelax"]


def builds(*archs: str, linker: str = "", thumb: bool = True):
    chosen = [build for build in BUILDS if build.arch in archs and linker in ("", build.linker)]
    chosen = [build for build in chosen if thumb or "thumb" not in build.compiler.name]
    return pytest.mark.parametrize("build", chosen, ids=[build.label for build in chosen])


def not_judged(report) -> set[str]:
    return {item.rule for item in report.not_judged}


def assembly(text: str, result: str = "int", name: str = "access", clobbers: str = "") -> str:
    """A function whose result is what the assembly puts into %0."""
    used = f' : : "{clobbers}"' if clobbers else ""
    quoted = "".join(f'"{line.strip()}\\n"' for line in text.split(";"))
    body = f'{result} value; __asm__ volatile({quoted} : "=&r"(value){used}); return value;'
    return f"{result} {name}(void);\n{result} {name}(void) {{ {body} }}\n"


class TestGoodKernels:
    # Every kind of access as a user writes it, to small offsets and to large ones.
    SOURCE = (
        (HERE / "counts.cpp")
        .read_text()
        .replace("PERCPU_DECLARE", "PERCPU_DEFINE")
        .replace("_word);", "_word, 1);")
        .replace("_byte);", "_byte, 2);")
        .replace("_task);", "_task, 3, 4);")
        + """
PERCPU_DEFINE(char[6000], ballast, 1);
PERCPU_DEFINE_READ_MOSTLY(size_t, late, 4);
PERCPU_DEFINE_STATIC(uint16_t, half, 5);
struct List {
    List* next;
    constexpr List() : next(nullptr) {}
    explicit List(int) : next(this) {}
};
PERCPU_DEFINE_CONSTRUCTED(List, waiting, 1);
size_t ordinary = 3;
extern "C" size_t use(size_t cpu) {
    half.write_current(7);
    late.add_current(2);
    *late.remote_ptr(cpu) = ordinary;
    return half.read_current() + far_word.offset() + late.offset() + late.sum() + half.fetch_add_current(2) +
           reinterpret_cast<size_t>(waiting.current_ptr()->next) +
           far_task.with_current([](Task& task) { return task.id; }) +
           (*ballast.current_ptr())[cpu] + far_task.current_ref()->priority + late.read_current_stable();
}
"""
    )

    @pytest.mark.parametrize("features", ["", "non-zero-vma"])
    @pytest.mark.parametrize("compiler", ALL, ids=lambda compiler: compiler.label)
    def test_accessors(self, tmp_path, request, compiler, features):
        for opt in ("-O2", "-O0") if request.config.getoption("matrix") else ("-O2",):
            objects = compile_with_runtime(tmp_path, compiler, self.SOURCE, features, opt)
            for build in (build for build in BUILDS if build.compiler is compiler):
                for kept in (KEPT, ()):
                    report = link_with_runtime(tmp_path, build, objects, features, *kept)
                    assert [finding for finding in report.findings if finding.level != "note"] == []
                    assert not kept or report.not_judged == ()

    @pytest.mark.parametrize("program", ["/bin/ls", "/usr/bin/ld", "/lib/x86_64-linux-gnu/libc.so.6"])
    def test_files_without_per_cpu_data(self, program):
        report = check(program)
        assert CODE_RULES & (rules(report) | not_judged(report)) == set()


class TestT01RelaxedToZero:
    FORMS = {
        "near": assembly("lw %0, %%lo(percpu_storage_x)(gp)"),
        "far": assembly("lui %0, %%hi(percpu_storage_x); add %0, %0, gp; lw %0, %%lo(percpu_storage_x)(%0)"),
        "far pointer": assembly(
            "lui %0, %%hi(percpu_storage_x); add %0, %0, gp; addi %0, %0, %%lo(percpu_storage_x)", "long"
        ),
        "near store": "void access(int number);\nvoid access(int number) {"
        '__asm__ volatile("sw %0, %%lo(percpu_storage_x)(gp)" : : "r"(number)); }\n',
        "no assembly": "int access(void);\nint access(void) { return percpu_storage_x; }\n",
    }
    NEAR_POINTER = assembly("addi %0, gp, %%lo(percpu_storage_x)", "long")

    @EVIDENCE
    @pytest.mark.parametrize("form", FORMS)
    @builds(*RISCV, linker="ld")
    def test_an_access_near_0(self, tmp_path, build, form, kept):
        finding = only(
            judge(tmp_path, build, X + self.FORMS[form], ZERO_VMA, *kept, compile=("-mcmodel=medany",)), "T01"
        )
        assert (finding.level, finding.symbol, finding.section) == ("error", "access", ".text")
        assert " x " in finding.message and "0x10(zero)" in finding.found

    @builds(*RISCV, linker="ld")
    def test_an_address_made_by_one_addition(self, tmp_path, build):
        """Only its relocation tells it from a number."""
        assert only(judge(tmp_path, build, X + self.NEAR_POINTER, ZERO_VMA, *KEPT), "T01").symbol == "access"
        report = judge(tmp_path, build, X + self.NEAR_POINTER, ZERO_VMA)
        assert report.findings == () and "T01" in not_judged(report)

    @pytest.mark.parametrize("opt", ["-O0", "-O2", "-Os"])
    @builds(*RISCV, linker="ld")
    def test_an_address_used_twice(self, tmp_path, build, opt):
        """It is made by one addition, too, and the load and the store are based on it."""
        source = X + "void access(void);\nvoid access(void) { percpu_storage_x++; }\n"
        report = judge(tmp_path, build, source, ZERO_VMA, *KEPT, compile=("-mcmodel=medany", opt))
        assert only(report, "T01").symbol == "access"

    @pytest.mark.parametrize("flags", [(), ("--no-relax",)], ids=["norelax", "--no-relax"])
    @builds(*RISCV, linker="ld")
    def test_without_relaxation(self, tmp_path, build, flags):
        forms = (*self.FORMS.values(), self.NEAR_POINTER)
        source = X + "".join(
            form.replace("access", f"access{number}") for number, form in enumerate(forms) if "__asm__" in form
        )
        if not flags:
            source = source.replace('volatile("', 'volatile(".option push\\n.option norelax\\n').replace(
                '" :', '\\n.option pop" :'
            )
        report = judge(tmp_path, build, source, ZERO_VMA, *flags, *KEPT)
        assert report.findings == () and "T01" not in not_judged(report)

    @builds(*RISCV, linker="lld")
    def test_a_linker_that_does_not_relax_to_zero(self, tmp_path, build):
        assert judge(tmp_path, build, X + self.FORMS["far"], ZERO_VMA, *KEPT).findings == ()

    @EVIDENCE
    @builds(*RISCV, linker="ld")
    def test_a_weak_variable_that_nothing_defines(self, tmp_path, build, kept):
        """Its address is 0, to which the linker relaxes the access as well; the code tests the address before."""
        source = X + "extern int absent __attribute__((weak));\nint get(void);\n"
        source += "int get(void) { return &absent ? absent : 3; }\n"
        report = judge(tmp_path, build, source, ZERO_VMA, *kept, compile=("-mcmodel=medlow",))
        text = toolchain.run([build.compiler.objdump, "-d", str(tmp_path / "kernel.elf")]).stdout
        assert "(zero)" in text and report.findings == ()

    @builds(*RISCV)
    def test_the_end_of_an_instruction_and_data(self, tmp_path, build):
        """The end of one and the beginning of the next look like `lw a0, 16(zero)`, and so does a word of data."""
        source = X + assembly("lui %0, 0x25030; c.addi4spn s0, sp, 128", clobbers="s0")
        source += '__asm__(".text\\n.balign 4\\n.type words,@object\\nwords: .word 0x01002503\\n.size words, 4\\n");\n'
        report = judge(tmp_path, build, source, ZERO_VMA)
        assert (tmp_path / "kernel.elf").read_bytes().count(bytes.fromhex("03250001")) == 2
        assert report.findings == ()

    @pytest.mark.parametrize("compiler", RUNTIME, ids=lambda compiler: compiler.label)
    def test_the_runtime_without_its_norelax(self, tmp_path, compiler, headers_without_norelax):
        assert (
            "is based on `zero`"
            in only(check(linked(tmp_path, compiler, headers=headers_without_norelax)), "T01").message
        )
        assert check(linked(tmp_path, compiler)).findings == ()

    @builds(*RISCV, linker="ld")
    def test_numbers_and_null_pointers(self, tmp_path, build):
        """GCC reads a null pointer, and puts a breakpoint behind it; a number, or an offset, is not an access."""
        source = X + "int number(void);\nint number(void) { return 16; }\nlong offset(void);\n"
        source += "long offset(void) { return (long)&percpu_storage_x; }\n"
        source += "int null(int *, int);\nint null(int *from, int is_null) { if (is_null) from = 0; return from[4]; }\n"
        report = judge(tmp_path, build, source, ZERO_VMA, *KEPT, compile=("-mcmodel=medany",))
        assert report.findings == ()
        if build.compiler.name == "gcc":
            code = toolchain.run([build.compiler.objdump, "-d", str(tmp_path / "kernel.elf")]).stdout
            # GCC 14 loads the null pointer first on RV32.
            assert re.search(r"\tlw\t\w+,16\((zero|a\d)\)", code) and "ebreak" in code


class TestT02RelaxedToGp:
    SOURCE = X + "long below = 7;\nlong get(void);\nlong get(void) { return below; }\n"
    ACCESSOR = assembly(
        ".option push; .option norelax; lui %0, %%hi(percpu_storage_x); add %0, %0, gp; "
        "lw %0, %%lo(percpu_storage_x)(%0); .option pop"
    )
    NEAR = assembly(".option push; .option norelax; lw %0, %%lo(percpu_storage_x)(gp); .option pop", name="near")

    @staticmethod
    def defined(script: str, beyond: int) -> str:
        """With the global pointer so many bytes behind the small data."""
        return script.replace("*(.sdata", f"__global_pointer$ = . + {beyond}; *(.sdata")

    def judge(self, folder, build: Build, source: str, script: str, *flags: str):
        # lld relaxes absolute addresses only, and only when it is asked.
        relaxed = ("--relax-gp",) if build.linker == "lld" and "--no-relax" not in flags else ()
        model = "medlow" if build.linker == "lld" else "medany"
        return judge(folder, build, source, script, *relaxed, *flags, compile=(f"-mcmodel={model}",))

    @pytest.mark.parametrize("script", [ZERO_VMA, IN_IMAGE], ids=["zero-vma", "in-image"])
    @builds(*RISCV)
    def test_ordinary_data(self, tmp_path, build, script):
        source = self.SOURCE + toolchain.note(arch=build.arch, base_register="gp")
        finding = only(self.judge(tmp_path, build, source, self.defined(script, 64)), "T02")
        assert (finding.level, finding.symbol) == ("error", "get")
        assert "load -0x40(gp)" in finding.found and "__global_pointer$ at 0x" in finding.found

    @builds(*RISCV)
    def test_a_kernel_without_a_note(self, tmp_path, build):
        """An accessor that adds gp says that it is the base register."""
        script = self.defined(ZERO_VMA, 64)
        assert rules(self.judge(tmp_path, build, self.SOURCE + self.ACCESSOR, script)) == {"T02"}
        report = self.judge(tmp_path, build, self.SOURCE, script)
        assert report.findings == () and "T02" in not_judged(report)

    @EVIDENCE
    @builds(*RISCV)
    def test_an_offset_that_a_variable_has(self, tmp_path, build, kept):
        """The data is as far from the global pointer as x is from the base: relocations tell the two apart."""
        source = self.SOURCE + toolchain.note(arch=build.arch, base_register="gp")
        report = self.judge(tmp_path, build, source, self.defined(ZERO_VMA, -16), *kept)
        if kept:
            assert only(report, "T02").symbol == "get"
        else:
            assert report.findings == () and "T02" in not_judged(report)

    @builds(*RISCV)
    def test_a_symbol_that_nothing_uses_yet(self, tmp_path, build):
        source = X + self.NEAR + toolchain.note(arch=build.arch, base_register="gp")
        finding = only(self.judge(tmp_path, build, source, self.defined(ZERO_VMA, 0x10000)), "T02")
        assert (finding.level, finding.symbol) == ("warning", "__global_pointer$")

    @builds(*RISCV)
    def test_what_needs_no_mend(self, tmp_path, build):
        source = self.SOURCE + self.NEAR + toolchain.note(arch=build.arch, base_register="gp")
        assert self.judge(tmp_path, build, source, ZERO_VMA).findings == ()
        assert self.judge(tmp_path, build, source, self.defined(ZERO_VMA, 64), "--no-relax").findings == ()
        # gp itself is loaded with an address, and read.
        start = assembly(".option push; .option norelax; la gp, below; mv %0, gp; .option pop", "long", "start")
        assert self.judge(tmp_path, build, source.replace(self.NEAR, start), IN_IMAGE).findings == ()
        tp = self.SOURCE + toolchain.note(arch=build.arch, base_register="tp")
        assert self.judge(tmp_path, build, tp, self.defined(ZERO_VMA, 64)).findings == ()


class TestT03StackGuard:
    # 40 bytes in front of it.
    EIGHT = FRONT.replace("[4] = {1, 2, 3, 4}", "[10] = {1}") + toolchain.variable("eight", 1, alignment=8).replace(
        "int percpu", "long percpu"
    )
    PROTECTED = """
int use(char*);
__attribute__((noinline)) int use(char* to) { __asm__ volatile("" : : "r"(to) : "memory"); return *to; }
int deep(int);
int deep(int number) { char buffer[64] = {0}; buffer[number] = 1; return use(buffer) + buffer[3]; }
void __stack_chk_fail(void);
void __stack_chk_fail(void) { for (;;) __asm__ volatile("hlt"); }
"""
    READ = """
long get(void);
long get(void) {
    long value;
    __asm__ volatile("movq %%gs:%c1, %0" : "=r"(value) : "i"(&percpu_storage_eight));
    return value;
}
"""
    KERNEL = ("-mcmodel=kernel", "-fstack-protector-all")
    ELSEWHERE = (
        *("-fstack-protector-all", "-mstack-protector-guard=tls"),
        *("-mstack-protector-guard-reg=gs", "-mstack-protector-guard-offset=16"),
    )
    LARGE = "-mcmodel=large"

    @pytest.mark.parametrize("opt", ["-O0", "-O2"])
    @pytest.mark.parametrize("segment, flags", [("gs", KERNEL), ("fs", KERNEL[1:])], ids=["gs", "fs"])
    @builds("x86_64")
    def test_a_variable_at_offset_40(self, tmp_path, build, segment, flags, opt):
        source = self.EIGHT + self.PROTECTED + toolchain.note(arch="x86_64", base_register=segment)
        finding = only(judge(tmp_path, build, source, ZERO_VMA, compile=(*flags, opt)), "T03")
        assert (finding.level, finding.symbol) == ("error", "percpu_storage_eight")
        assert f"%{segment}:0x28" in finding.found

    @pytest.mark.parametrize("opt", ["-O0", "-O2"])
    @pytest.mark.parametrize(
        "flags", [ELSEWHERE, (*ELSEWHERE, LARGE), (*KERNEL[1:], LARGE)], ids=["gs:16", "large gs:16", "large"]
    )
    @builds("x86_64")
    def test_other_offsets_and_calls(self, tmp_path, build, flags, opt):
        """In the large code model, the handler's address is loaded into a register, by which it is called."""
        is_elsewhere = flags[: len(self.ELSEWHERE)] == self.ELSEWHERE
        segment, source, name = ("gs", X, "x") if is_elsewhere else ("fs", self.EIGHT, "eight")
        source += self.PROTECTED + toolchain.note(arch="x86_64", base_register=segment)
        script = ZERO_VMA.replace("*(.text .text.*)", "*(.text .text.* .ltext .ltext.*)")
        finding = only(judge(tmp_path, build, source, script, compile=(*flags, opt)), "T03")
        assert (finding.level, finding.symbol) == ("error", f"percpu_storage_{name}")
        assert ("%gs:0x10" if is_elsewhere else "%fs:0x28") in finding.found
        assert ("reserves the place" in finding.fix[0]) != is_elsewhere

    @builds("x86_64")
    def test_a_handler_called_by_any_register(self, tmp_path, build):
        for register in ("rax", "rcx", "rbx", "rdi", "r8", "r11", "r15"):
            source = self.EIGHT + self.PROTECTED.replace("deep", "other")
            source += assembly(
                "mov 8(%%rsp), %0; sub %%gs:0x28, %0; je 1f; "
                f"movabs $__stack_chk_fail, %%{register}; call *%%{register}; 1:",
                "long",
                clobbers=register,
            )
            assert only(judge(tmp_path, build, source, ZERO_VMA), "T03").symbol == "percpu_storage_eight", register

    # Functions whose canary is elsewhere, and that compare a variable just before they look for it.
    COMPARE = """
extern int limit; int limit = 3;
int last(int); int is_less(int); int calls(int);
int last(int n) { char buffer[64]; use(buffer); long v; READ return v == limit; }
int is_less(int n) { char buffer[64]; use(buffer); long v; READ if (v == n) return 3; return buffer[n]; }
int calls(int n) { char buffer[64]; use(buffer); long v; READ if (v != *(long*)buffer) use(buffer); return n; }
"""

    @pytest.mark.parametrize("opt", ["-O0", "-O1", "-O2", "-Os"])
    @pytest.mark.parametrize("offset", [16, 40])
    @builds("x86_64")
    def test_a_variable_that_is_compared_last(self, tmp_path, build, offset, opt):
        read = f'__asm__ volatile("movq %%gs:{offset}, %0" : "=r"(v));'
        source = (X if offset == 16 else self.EIGHT) + self.PROTECTED + self.COMPARE.replace("READ", read)
        flags = ("-mcmodel=kernel", "-fstack-protector-all", "-mstack-protector-guard=global", opt)
        report = judge(tmp_path, build, source + "unsigned long __stack_chk_guard = 1;\n", ZERO_VMA, compile=flags)
        assert report.findings == ()

    @pytest.mark.parametrize("flags", [KERNEL, ELSEWHERE], ids=["gs:40", "gs:16"])
    @builds("x86_64")
    def test_dropped_local_symbols(self, tmp_path, build, flags):
        variables = (self.EIGHT if flags is self.KERNEL else X).replace(")) ", ")) static ")
        source = variables + self.PROTECTED + toolchain.note(arch="x86_64", base_register="gs")
        assert only(judge(tmp_path, build, source, ZERO_VMA, compile=flags), "T03")
        report = judge(tmp_path, build, source, ZERO_VMA, "-x", compile=flags)
        assert report.findings == () and "T03" in not_judged(report)
        # No canary there; and none of which anything could lie.
        report = judge(tmp_path, build, source, ZERO_VMA, "-x", compile=(*flags, "-fno-stack-protector"))
        assert report.findings == () and "T03" not in not_judged(report)
        report = judge(tmp_path, build, toolchain.variable("x", 5) + self.PROTECTED, ZERO_VMA, "-x", compile=flags)
        assert report.findings == () and "T03" not in not_judged(report)

    @builds("x86_64")
    def test_a_larger_variable_is_a_warning(self, tmp_path, build):
        """A kernel may keep a member of a structure for the canary."""
        source = FRONT.replace("[4] = {1, 2, 3, 4}", "[16] = {1}") + self.PROTECTED
        assert only(judge(tmp_path, build, source, ZERO_VMA, compile=self.KERNEL), "T03").level == "warning"

    @builds("x86_64")
    def test_the_in_image_layout(self, tmp_path, build):
        source = X + self.PROTECTED + toolchain.note(arch="x86_64", layout="in-image", base_register="gs")
        finding = only(judge(tmp_path, build, source, IN_IMAGE, compile=self.KERNEL), "T03")
        assert "outside every area" in finding.message
        # A segment that holds something else is the kernel's own affair.
        assert judge(tmp_path, build, X + self.PROTECTED, IN_IMAGE, compile=self.KERNEL).findings == ()

    @builds("x86_64")
    def test_what_needs_no_mend(self, tmp_path, build):
        # Nothing lies there; what lies there is meant for it; the canary is elsewhere, or in the other segment.
        gs = toolchain.note(arch="x86_64", base_register="gs")
        assert judge(tmp_path, build, X + self.PROTECTED + gs, ZERO_VMA, compile=self.KERNEL).findings == ()
        meant = self.EIGHT.replace("storage_eight", "storage_stack_guard")
        assert judge(tmp_path, build, meant + self.PROTECTED + gs, ZERO_VMA, compile=self.KERNEL).findings == ()
        source = self.EIGHT + self.READ + self.PROTECTED + gs
        for flags in (("-fno-stack-protector",), ("-mstack-protector-guard=global",), ()):
            if flags or build.compiler.name == "clang":
                more = "unsigned long __stack_chk_guard = 1;\n" if flags and "global" in flags[0] else ""
                report = judge(
                    tmp_path,
                    build,
                    source + more,
                    ZERO_VMA,
                    compile=("-mcmodel=kernel", "-fstack-protector-all", *flags)
                    if flags
                    else ("-fstack-protector-all",),
                )
                assert report.findings == ()

    @pytest.mark.parametrize("protector", ["-fstack-protector-all", "-fno-stack-protector"])
    @pytest.mark.parametrize(
        "compiler", [compiler for compiler in ALL if compiler.arch == "x86_64"], ids=lambda compiler: compiler.label
    )
    def test_the_runtime(self, tmp_path, compiler, protector):
        """It reserves the place if its own file is compiled with the same flags, and only then."""
        words = "".join(f"PERCPU_DEFINE(size_t, word{number}, {number});\n" for number in range(8)) + self.PROTECTED
        source = words.replace("\nint use", '\nextern "C" {\nint use', 1) + "}\n"
        objects = compile_with_runtime(tmp_path, compiler, source, "", "-O2", *self.KERNEL)
        (tmp_path / "other").mkdir()
        others = compile_with_runtime(tmp_path / "other", compiler, source, "", "-O2", "-mcmodel=kernel", protector)
        for build in (build for build in BUILDS if build.compiler is compiler):
            report = link_with_runtime(tmp_path, build, [objects[0], others[1]], "")
            assert rules(report) == (set() if protector == self.KERNEL[1] else {"T03"})


class TestT04OffsetOutOfReach:
    """Offsets as they are put into instructions; `front` is at 0, `ballast` at 16 and `x` behind it."""

    # 64 KiB: AArch64's movz, in the order of the trap and with the base read first; a pointer; ARM's movw.
    MOVZ = {
        "load": "movz %0, #:abs_g0_nc:percpu_storage_x; mrs x9, tpidr_el1; ldr %w0, [x9, %0]",
        "base first": "mrs x9, tpidr_el1; movz %0, #:abs_g0_nc:percpu_storage_x; ldr %w0, [x9, %0]",
        "pointer": "movz %0, #:abs_g0_nc:percpu_storage_x; mrs x9, tpidr_el1; add %0, x9, %0",
        "x18": "movz %0, #:abs_g0_nc:percpu_storage_x; add %0, x18, %0",
    }
    BOTH = (
        "movz %0, #:abs_g1:percpu_storage_x; movk %0, #:abs_g0_nc:percpu_storage_x; "
        "mrs x9, tpidr_el1; ldr %w0, [x9, %0]"
    )
    MOVW = "movw %0, #:lower16:percpu_storage_x; mrc p15, 0, r3, c13, c0, 3; ldr %0, [r3, %0]"
    WHOLE = (
        "movw %0, #:lower16:percpu_storage_x; movt %0, #:upper16:percpu_storage_x; "
        "mrc p15, 0, r3, c13, c0, 3; ldr %0, [r3, %0]"
    )
    # 2 or 4 KiB: one access with the offset in it.
    IMMEDIATE = {
        "aarch64": "mrs x9, tpidr_el1; ldr %w0, [x9, #:lo12:percpu_storage_x]",
        "arm": "mrc p15, 0, r3, c13, c0, 3; .reloc ., R_ARM_MOVW_ABS_NC, percpu_storage_x; ldr %0, [r3]",
        "riscv64": ".option push; .option norelax; lw %0, %%lo(percpu_storage_x)(gp); .option pop",
        "riscv32": ".option push; .option norelax; lw %0, %%lo(percpu_storage_x)(gp); .option pop",
        "loongarch64": "ld.w %0, $r21, %%pc_lo12(percpu_storage_x)",
    }
    BASES = {"aarch64": "TPIDR_EL1", "arm": "TPIDRURO", "riscv64": "gp", "riscv32": "gp", "loongarch64": "r21"}
    RISC = builds("aarch64", "arm", "riscv64", "riscv32", "loongarch64")
    # Thumb has no near access.
    WITH_IMMEDIATE = builds("aarch64", "arm", "riscv64", "riscv32", "loongarch64", thumb=False)

    @staticmethod
    def source(ballast: int, variable: str = "storage_x") -> str:
        text = (
            FRONT
            + f'__attribute__((section(".percpu.ballast"), used)) char percpu_storage_ballast[{ballast}] = {{1}};\n'
        )
        return text + toolchain.variable("x", 5).replace("storage_x", variable)

    def note(self, arch: str, base: str = "") -> str:
        return toolchain.note(
            arch=arch,
            base_register=base or self.BASES[arch],
            near_reach=2048 if arch[:5] in ("riscv", "loong") else 4096,
        )

    @EVIDENCE
    @pytest.mark.parametrize("form", MOVZ)
    @builds("aarch64")
    def test_64_kib_wrapped(self, tmp_path, build, form, kept):
        code = assembly(self.MOVZ[form], "long", clobbers="x9")
        source = self.source(0x10008) + code + (self.note("aarch64", "x18") if form == "x18" else "")
        finding = only(judge(tmp_path, build, source, ZERO_VMA, *kept), "T04")
        assert (finding.level, finding.symbol, finding.section) == ("error", "access", ".text")
        assert finding.message.startswith("an access to x has lost") and "goes to ballast" in finding.message
        assert "offset 0x18 in place of 0x10018" in finding.found

    @EVIDENCE
    @builds("aarch64")
    def test_64_kib_wrapped_to_the_beginning_of_another(self, tmp_path, build, kept):
        """It may be an access to `ballast`."""
        code = assembly(self.MOVZ["load"], "long", clobbers="x9")
        report = judge(tmp_path, build, self.source(0x10000) + code, ZERO_VMA, *kept)
        if kept:
            assert "offset 0x10 in place of 0x10010" in only(report, "T04").found
        else:
            assert report.findings == ()
            (reason,) = (item.reason for item in report.not_judged if item.rule == "T04")
            assert reason.startswith("1 accesses")

    @EVIDENCE
    @builds("aarch64", "arm")
    def test_64_kib_reached(self, tmp_path, build, kept):
        form, clobbers = (self.WHOLE, "r3") if build.arch == "arm" else (self.BOTH, "x9")
        code = assembly(form, "long", clobbers=clobbers)
        # The lower bits first: what is left of them is not all of the offset.
        code += assembly(
            form.replace("movk %0, #:abs_g0_nc:percpu_storage_x; ", "").replace(
                "#:abs_g1:percpu_storage_x", "#:abs_g0_nc:percpu_storage_x; movk %0, #:abs_g1:percpu_storage_x"
            ),
            "long",
            "other",
            clobbers,
        )
        low = assembly(
            (self.MOVW if build.arch == "arm" else self.MOVZ["load"]).replace("storage_x", "storage_ballast"),
            "long",
            "low",
            clobbers,
        )
        report = judge(tmp_path, build, self.source(0x10008) + code + low, ZERO_VMA, *kept)
        assert report.findings == () and ("T04" in not_judged(report)) == (kept == ())

    @builds("arm")
    def test_half_of_an_offset_on_arm(self, tmp_path, build):
        source = self.source(0x10008) + assembly(self.MOVW, clobbers="r3")
        assert only(judge(tmp_path, build, source, ZERO_VMA, *KEPT), "T04").symbol == "access"
        report = judge(tmp_path, build, source, ZERO_VMA)
        assert report.findings == () and "T04" in not_judged(report)

    @EVIDENCE
    @pytest.mark.parametrize("offset", [0x810, 0x1010])
    @WITH_IMMEDIATE
    def test_one_immediate(self, tmp_path, build, offset, kept):
        """A negative offset from the base is seen in the instruction, too; 12 bits that are left look like any."""
        code = assembly(self.IMMEDIATE[build.arch], clobbers={"aarch64": "x9", "arm": "r3"}.get(build.arch, ""))
        report = judge(tmp_path, build, self.source(offset - 16) + code + self.note(build.arch), ZERO_VMA, *kept)
        signed = build.arch not in ("aarch64", "arm")
        if offset < 0x1000 and not signed:
            assert report.findings == () and "T04" not in not_judged(report)
        elif kept or offset < 0x1000:
            finding = only(report, "T04")
            assert finding.symbol == "access"
            assert f"offset {'-0x7f0' if offset < 0x1000 else '0x10'} in place of {offset:#x}" in finding.found
        else:
            assert report.findings == () and "T04" in not_judged(report)

    @pytest.mark.parametrize("form, offset", [("load", 0x10018), ("near", 0x1010)])
    @builds("aarch64")
    def test_dropped_local_symbols(self, tmp_path, build, form, offset):
        """Relocations then name the section, and the offset."""
        text = self.MOVZ[form] if form == "load" else self.IMMEDIATE["aarch64"]
        source = self.source(offset - 16).replace("int percpu_storage_x", "static int percpu_storage_x")
        source += assembly(text, "long", clobbers="x9")
        for flags, name in (((), "x"), (("-x",), f"offset {offset:#x}")):
            report = judge(tmp_path, build, source, ZERO_VMA, *KEPT, *flags)
            assert only(report, "T04").message.startswith(f"an access to {name} has lost")

    @builds("riscv64", "riscv32", "loongarch64")
    def test_a_base_register_that_nothing_names(self, tmp_path, build):
        """Of a variable at a small offset it makes no difference."""
        near = self.IMMEDIATE[build.arch].replace("storage_x", "storage_front")
        for text, expected in ((self.IMMEDIATE[build.arch], {"T04"}), (near, set())):
            report = judge(tmp_path, build, self.source(0x800) + assembly(text), ZERO_VMA, *KEPT)
            assert report.findings == () and not_judged(report) & {"T04"} == expected
            assert all("base register" in item.reason for item in report.not_judged if item.rule == "T04")

    @RISC
    def test_near_variables_behind_others(self, tmp_path, build):
        source = self.source(0x1000, "near_x") + self.note(build.arch)
        finding = only(judge(tmp_path, build, source, ZERO_VMA), "T04")
        assert (finding.symbol, finding.section) == ("percpu_near_x", ".percpu")
        first = ZERO_VMA.replace("*(.percpu.front)", "*(.percpu.x) *(.percpu.front)")
        assert judge(tmp_path, build, source, first, *KEPT).findings == ()

    # Its accesses go wrong, and no relocations are needed to see that: the runtime says how it accesses them.
    ALL_NEAR = "PERCPU_DEFINE(char[REACH - 16], ballast, 1);\nPERCPU_DEFINE(uint8_t[SIZE], last, 2);\n" + (
        'extern "C" void use() { (*last.current_ptr())[0] = (*ballast.current_ptr())[0]; }\n'
    )

    @EVIDENCE
    @RISC
    def test_all_near_and_a_script_of_the_users(self, tmp_path, build, kept):
        reach = str(TARGETS[build.arch].near_reach)
        for size, expected in (("16", set()), ("17", {"T04"})):
            source = self.ALL_NEAR.replace("REACH", reach).replace("SIZE", size)
            objects = compile_with_runtime(tmp_path, build.compiler, source, "all-near", "-O2")
            report = link_with_runtime(tmp_path, build, objects, "", "--defsym=_percpu_all_near=0", *kept)
            assert {finding.rule for finding in report.findings if finding.level != "note"} == expected
        finding = only(report, "T04")
        assert (finding.level, finding.symbol) == ("error", "percpu_storage_last")
        assert "near by all-near" in finding.message and "leave the feature all-near out" in finding.fix[0]


class TestT08OutsideAccessors:
    READ = "int access(void);\nint access(void) { return percpu_storage_x; }\n"
    STORE = "void access(int);\nvoid access(int number) { percpu_storage_x = number; }\n"
    ADDRESS = "int *access(void);\nint *access(void) { return &percpu_storage_x; }\n"
    EVERYWHERE = builds("x86_64", "aarch64", "arm", "riscv64", "riscv32", "loongarch64")
    SCRIPTS = pytest.mark.parametrize("script", [ZERO_VMA, IN_IMAGE], ids=["zero-vma", "in-image"])
    # As compilers have it in one instruction or several: with the address in a register, for more than one of them.
    FORMS = {
        "constant": "percpu_storage_x = 1;",
        "increment": "percpu_storage_x++;",
        "members": "percpu_storage_front[2] = percpu_storage_front[1];",
        "condition": "if (percpu_storage_x > 3) percpu_storage_x = call();",
        "result": "percpu_storage_x = call();",
        "atomic": "__atomic_fetch_add(&percpu_storage_x, 1, __ATOMIC_SEQ_CST);",
    }
    CALL = "__attribute__((noinline)) int call(void);\nint call(void) { static volatile int number; return number; }\n"

    def judge_forms(self, folder, build: Build, script: str, *compile: str):
        """One function for each of them."""
        source = X + self.CALL
        source += "".join(f"void {name}(void);\nvoid {name}(void) {{ {text} }}\n" for name, text in self.FORMS.items())
        # Without instructions of their own, atomic accesses are calls on AArch64.
        inline = ("-mno-outline-atomics",) if build.arch == "aarch64" else ()
        report = self.judge(folder, build, source, script, *KEPT, compile=(*compile, *inline))
        with Image(report.file) as image:
            places, unread = outside.accesses(report.layout, image)
            found = {code.place(image, place.kept.home, place.address)[0] for place in places}
        assert not unread
        return found

    def judge(self, folder, build: Build, source: str, script: str, *flags: str, compile: tuple[str, ...] = ()):
        # GNU ld would relax what lies near 0, and it would be T01.
        relax = ("-mno-relax",) if build.arch in RISCV else ()
        return judge(folder, build, source, script, *flags, compile=(*relax, *compile))

    @pytest.mark.parametrize("script", [ZERO_VMA, IN_IMAGE], ids=["zero-vma", "in-image"])
    @EVERYWHERE
    def test_an_ordinary_access(self, tmp_path, build, script):
        finding = only(
            self.judge(tmp_path, build, X + self.READ + self.STORE.replace("access", "store"), script, *KEPT), "T08"
        )
        assert (finding.level, finding.symbol, finding.section) == ("error", "access", ".text")
        assert finding.message.endswith("; 1 more such places")
        # ARM has the addend in the code.
        assert build.arch == "arm" or finding.message.startswith("x is addressed")

    @pytest.mark.parametrize("opt", ["-O0", "-O2"])
    @SCRIPTS
    @EVERYWHERE
    def test_forms(self, tmp_path, build, script, opt):
        assert self.judge_forms(tmp_path, build, script, opt) == set(self.FORMS)

    @builds("x86_64", "aarch64", "riscv64", "riscv32", "loongarch64")
    def test_the_global_offset_table(self, tmp_path, build):
        """The address is loaded from there, or linkers have made it a part of the code."""
        assert self.judge_forms(tmp_path, build, IN_IMAGE, "-fpic") == set(self.FORMS)

    @builds("aarch64")
    def test_the_tiny_code_model(self, tmp_path, build):
        for flags in ((), ("-fpic",)):
            found = self.judge_forms(tmp_path, build, IN_IMAGE, "-mcmodel=tiny", *flags)
            # GCC knows which registers a function of the same file leaves alone, and nothing else tells.
            assert found >= set(self.FORMS) - {"result"}

    @EVERYWHERE
    def test_an_address_relative_to_the_program_counter(self, tmp_path, build):
        """Of a variable at 0, where the link allows it at all; in the in-image layout it may be an offset."""
        report = self.judge(tmp_path, build, X + self.ADDRESS, ZERO_VMA, *KEPT, compile=("-fpie",))
        assert "relative to the program counter" in only(report, "T08").message
        assert self.judge(tmp_path, build, X + self.ADDRESS, IN_IMAGE, *KEPT, compile=("-fpie",)).findings == ()

    @EVERYWHERE
    def test_without_relocations_it_is_not_taken_for_innocent(self, tmp_path, build):
        report = self.judge(tmp_path, build, X + self.READ, ZERO_VMA)
        assert report.findings == () and "T08" in not_judged(report)
        other = "extern int counter;\nint counter = 1;\nint access(void);\nint access(void) { return counter; }\n"
        report = self.judge(tmp_path, build, X + other, ZERO_VMA, *KEPT)
        assert report.findings == () and "T08" not in not_judged(report)

    @builds("x86_64")
    def test_an_accessor_of_a_pointer(self, tmp_path, build):
        """What it loads is the address of something else."""
        for access in (
            "movq %%gs:percpu_storage_x(%%rip), %%rax",
            "leaq percpu_storage_x(%%rip), %%rax; addq %%gs:8, %%rax",
        ):
            source = X + assembly(f"{access}; movl (%%rax), %0", clobbers="rax")
            assert self.judge(tmp_path, build, source, IN_IMAGE, *KEPT).findings == ()

    @builds(*RISCV)
    def test_an_accessor_without_compressed_instructions(self, tmp_path, build):
        accessor = (
            ".option push; .option norelax; .option norvc; 1: auipc %0, %%pcrel_hi(percpu_storage_x); "
            "add %0, %0, gp; lw %0, %%pcrel_lo(1b)(%0); .option pop"
        )
        assert self.judge(tmp_path, build, X + assembly(accessor), IN_IMAGE, *KEPT).findings == ()
        direct = assembly(accessor.replace("add %0, %0, gp; ", ""))
        assert rules(self.judge(tmp_path, build, X + direct, IN_IMAGE, *KEPT)) == {"T08"}

    @builds("riscv32")
    def test_an_offset_given_to_a_function(self, tmp_path, build):
        """It returns an address in the same register; RV32 has a call of 2 bytes, which RV64 has not."""
        given = "lui a0, %%hi(percpu_storage_x); addi a0, a0, %%lo(percpu_storage_x); c.jal access; lw %0, 0(a0)"
        report = self.judge(tmp_path, build, X + assembly(given, clobbers="a0"), IN_IMAGE, *KEPT)
        assert report.findings == ()

    @SCRIPTS
    @builds("arm")
    def test_addresses_beside_the_code(self, tmp_path, build, script):
        assert self.judge_forms(tmp_path, build, script, "-Os") == set(self.FORMS)

    @builds("arm")
    def test_words_relative_to_the_program_counter(self, tmp_path, build):
        assert self.judge_forms(tmp_path, build, IN_IMAGE, "-fpie") == set(self.FORMS)
        report = self.judge(tmp_path, build, X + self.ADDRESS, IN_IMAGE, *KEPT, compile=("-fpie",))
        assert report.findings == () and "T08" not in not_judged(report)
        # Loads from the global offset table are not followed.
        report = self.judge(tmp_path, build, X + self.STORE, IN_IMAGE, *KEPT, compile=("-fpic",))
        assert report.findings == () and "T08" in not_judged(report)

    @SCRIPTS
    @builds("arm")
    def test_an_offset_beside_the_code(self, tmp_path, build, script):
        access = "ldr %0, =percpu_storage_x; mrc p15, 0, ip, c13, c0, 3; ldr %0, [ip, %0]"
        report = self.judge(tmp_path, build, X + assembly(access, clobbers="ip"), script, *KEPT)
        assert report.findings == () and "T08" not in not_judged(report)
        direct = access.replace("[ip, %0]", "[%0]")
        report = self.judge(tmp_path, build, X + assembly(direct, clobbers="ip"), script, *KEPT)
        assert only(report, "T08").symbol == "access"
        # What reads a word is not seen where its address is made otherwise.
        table = '__asm__(".text\\n.balign 4\\n.word percpu_storage_x\\n.text\\n");\n'
        report = self.judge(tmp_path, build, X + table, script, *KEPT)
        assert report.findings == () and "T08" in not_judged(report)

    @builds("arm")
    def test_an_offset_returned(self, tmp_path, build):
        """By a load of the program counter: behind it is another function."""
        returned = (
            "push {{lr}}; movw r0, #:lower16:percpu_storage_x; movt r0, #:upper16:percpu_storage_x; {}; ldr r0, [r0]"
        )
        for instruction in (
            "pop {pc}",
            "ldr pc, [sp], #4",
            "ldm sp!, {r3, pc}",
            "pop {lr}; mov pc, lr",
            "pop {lr}; bx lr",
        ):
            source = X + assembly(returned.format(instruction), clobbers="r0")
            assert self.judge(tmp_path, build, source, ZERO_VMA, *KEPT).findings == ()

    @builds("arm")
    def test_an_accessor_whose_register_is_used_again(self, tmp_path, build):
        address = "movw %0, #:lower16:{0}; movt %0, #:upper16:{0}; "
        accessor = address.format("percpu_storage_x") + "mrc p15, 0, ip, c13, c0, 3; "
        indexed = accessor + "ldr ip, [ip, %0]; "
        ordinary = assembly(indexed + address.format("other") + "ldr %0, [%0]", clobbers="ip") + "int other = 1;\n"
        assert self.judge(tmp_path, build, X + ordinary, ZERO_VMA, *KEPT).findings == ()
        direct = assembly(accessor + "ldr %0, [%0]", clobbers="ip")
        assert rules(self.judge(tmp_path, build, X + direct, ZERO_VMA, *KEPT)) == {"T08"}

    @pytest.mark.parametrize("access", ["ldr ip, [%0, ip]!", "ldrh ip, [%0, ip]!", "ldr ip, [%0], ip"])
    @builds("arm")
    def test_an_accessor_that_keeps_the_sum(self, tmp_path, build, access):
        """As compilers make of a load of 8 bytes in two halves: the second goes to the sum."""
        a32 = ("-marm",)  # T32 has no such loads
        accessor = f"movw %0, #:lower16:percpu_storage_x; mrc p15, 0, ip, c13, c0, 3; {access}; ldr %0, [%0, #4]"
        report = self.judge(tmp_path, build, X + assembly(accessor, clobbers="ip"), ZERO_VMA, *KEPT, compile=a32)
        assert report.findings == ()
        # The base is added to another register, and what is loaded lies at the plain address.
        direct = accessor.replace("[%0, ip]!", "[lr, ip]!").replace("[%0], ip", "[lr], ip")
        report = self.judge(tmp_path, build, X + assembly(direct, clobbers="ip"), ZERO_VMA, *KEPT, compile=a32)
        assert rules(report) == {"T08"}

    @pytest.mark.parametrize("script", [ZERO_VMA, IN_IMAGE], ids=["zero-vma", "in-image"])
    @builds("x86_64", "aarch64")
    def test_the_large_code_model(self, tmp_path, build, script):
        report = self.judge(
            tmp_path,
            build,
            X + self.READ + self.STORE.replace("access", "store"),
            script,
            *KEPT,
            compile=("-mcmodel=large", "-O0"),
        )
        if build.label.startswith("aarch64-gcc"):
            # Its addresses are words beside the code.
            assert report.findings == ()
        else:
            assert rules(report) == {"T08"}

    @builds("x86_64")
    def test_forms_in_the_large_code_model(self, tmp_path, build):
        assert self.judge_forms(tmp_path, build, ZERO_VMA, "-mcmodel=large") == set(self.FORMS)


@pytest.fixture(scope="module")
def large_kernel(tmp_path_factory):
    """Megabytes of code: the C library's, many times over, which has nothing to do with per-CPU data.

    So many that a fast machine, too, scans them for longer than the progress waits before it is shown.
    """
    folder = tmp_path_factory.mktemp("large")
    library = "/usr/riscv64-linux-gnu/lib/libc.so.6"
    texts = (
        f".text\\n.balign 4\\n.type code{n},@function\\n"
        f'code{n}: .incbin \\"{library}\\"\\n.balign 4\\n.size code{n}, .-code{n}\\n'
        for n in range(64)
    )
    source = X + "".join(f'__asm__("{text}");\n' for text in texts) + toolchain.note(arch="riscv64", base_register="gp")
    judge(folder, next(build for build in BUILDS if build.label == "riscv64-gcc-ld"), source, ZERO_VMA)
    return folder / "kernel.elf"


class TestManyMegabytes:
    def test_rate(self, large_kernel):
        size = large_kernel.stat().st_size
        started = time.process_time()
        check(large_kernel)
        taken = time.process_time() - started
        # Two rules scan it. A machine may be a fourth as fast as the one of the stated rate, or busy.
        assert size > 60_000_000 and 2 * size / taken > code.RATE / 4

    @pytest.mark.parametrize("is_terminal", [True, False])
    def test_progress_is_shown_on_a_terminal(self, large_kernel, is_terminal, tmp_path):
        """On stderr, and only there: the report is the same. And memory stays below the limit."""
        ours, theirs = pty.openpty() if is_terminal else os.pipe()
        environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
        environment.pop("NO_COLOR", None)
        with subprocess.Popen(
            [*measured(tmp_path / "memory"), str(large_kernel)], stdout=subprocess.PIPE, stderr=theirs, env=environment
        ) as process:
            os.close(theirs)
            shown = b""
            with contextlib.suppress(OSError):
                while piece := os.read(ours, 4096):
                    shown += piece
            report = process.stdout.read().decode()
        os.close(ours)
        assert process.returncode == 0 and report.endswith("nothing found\n")
        assert most_memory(tmp_path / "memory") < 150_000_000
        # Whichever rule scans it when the patience is over.
        assert bool(re.search(rb"(T01 relaxed-to-zero|T02 relaxed-to-gp).*/s", shown)) == is_terminal
        assert is_terminal or shown == b""
