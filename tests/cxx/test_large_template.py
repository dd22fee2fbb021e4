"""AArch64, zero-VMA: an offset beyond 64 KiB is reached or refused at the link, never wrapped (T04)."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import percpu_tools
import pytest
from cxx.build import FREESTANDING, compile_object
from cxx.compilers import ALL
from percpu_tools import targets

AARCH64 = [compiler for compiler in ALL if compiler.arch == "aarch64"]
LINKERS = {"ld": "aarch64-linux-gnu-ld", "lld": "ld.lld-19"}
SIZE = 100 * 1024
SOURCE = f"""
#include <percpu/percpu.hpp>
PERCPU_DEFINE_PAGE_ALIGNED(char[{SIZE}], ballast, 1);
PERCPU_DEFINE(size_t, word, 2);
extern "C" void* memset(void* to, int, size_t) {{ return to; }}
extern "C" size_t _start() {{ return word.read_current(); }}
"""
SCRIPT = """
SECTIONS
{
    . = 0x40200000;
    .text : { *(.text .text.*) }
    .rodata : { *(.rodata .rodata.*) }
    .data : { *(.data .data.*) }
    .bss : { *(.bss .bss.*) }
    /DISCARD/ : { *(.eh_frame) }
}
"""


def link(folder: Path, compiler, linker: str, features=(), change=lambda fragment: fragment):
    source, script, fragment = folder / "kernel.cpp", folder / "kernel.ld", folder / "percpu.ld"
    source.write_text(SOURCE)
    defines = [f"-D{name}" for name in targets.parse_features(features, "aarch64").defines]
    done = compile_object(compiler.command, source, folder / "kernel.o", "-O2", "-fno-pic", *FREESTANDING, *defines)
    assert done.returncode == 0, done.stderr
    script.write_text(SCRIPT)
    fragment.write_text(change(percpu_tools.render_fragment(2, "aarch64", features, linker)))
    command = [LINKERS[linker], "-T", fragment, "-T", script, folder / "kernel.o", "-o", folder / "kernel.elf"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("linker", LINKERS)
@pytest.mark.parametrize("compiler", AARCH64, ids=lambda compiler: compiler.label)
class TestTemplateOf100KiB:
    def test_the_fragment_says_what_to_do(self, tmp_path, compiler, linker):
        done = link(tmp_path, compiler, linker)
        assert done.returncode != 0
        assert "ERROR(percpu): the template is larger than 64 KiB" in done.stderr
        assert "Add the feature large-template (PERCPU_LARGE_TEMPLATE)" in done.stderr

    def test_a_script_without_asserts_does_not_link(self, tmp_path, compiler, linker):
        def without_asserts(fragment: str) -> str:
            return re.sub(r'^ *ASSERT\(.*?"\);?$', "", fragment, flags=re.MULTILINE | re.DOTALL)

        done = link(tmp_path, compiler, linker, change=without_asserts)
        assert done.returncode != 0
        assert re.search(r"R_AARCH64_MOVW_UABS_G0\b.*(percpu_storage_word|out of range)", done.stderr), done.stderr

    def test_large_template_reaches_it(self, tmp_path, compiler, linker):
        done = link(tmp_path, compiler, linker, ["large-template"])
        assert done.returncode == 0, done.stderr
        command = [compiler.objdump, "-d", "--no-show-raw-insn", tmp_path / "kernel.elf"]
        code = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
        offset = rf"mov\s+(x\d+), #{SIZE >> 16 << 16:#x}\b.*\n.*movk\s+\1, #{SIZE & 0xffff:#x}\b"
        assert re.search(offset, code), code

    def test_in_image_needs_nothing(self, tmp_path, compiler, linker):
        assert link(tmp_path, compiler, linker, ["non-zero-vma"]).returncode == 0
