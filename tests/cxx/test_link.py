"""What only the linker can refuse: declarations that do not go with the definition. And what it must not refuse."""

from __future__ import annotations

import subprocess

import pytest
import toolchain
from check.code_builds import BUILDS, compile_with_runtime, link_with_runtime
from cxx.build import COMPILERS, FREESTANDING, HERE, compile_object, link_program
from cxx.compilers import ALL

DEFINITIONS = {"far": "PERCPU_DEFINE(int, word, 1);", "near": "PERCPU_DEFINE_NEAR(int, word, 1);"}
USES = {"far": "PERCPU_DECLARE(int, word);", "near": "PERCPU_DECLARE_NEAR(int, word);"}
SYMBOLS = {"far": "percpu_storage_word", "near": "percpu_near_word"}


@pytest.mark.parametrize("compiler", COMPILERS.values(), ids=COMPILERS)
@pytest.mark.parametrize("declared", USES)
@pytest.mark.parametrize("defined", DEFINITIONS)
def test_near_and_far_declarations_are_kept_apart(tmp_path, compiler, declared, defined):
    objects = []
    for name, text in (("defined", DEFINITIONS[defined]), ("used", USES[declared] + "\nint read() { return word.read_current(); }")):
        source = tmp_path / f"{name}.cpp"
        source.write_text(f"#include <percpu/percpu.hpp>\n{text}\n")
        objects.append(str(source.with_suffix(".o")))
        done = compile_object([compiler], source, source.with_suffix(".o"), "-O2", "-fno-pic", *FREESTANDING)
        assert done.returncode == 0, done.stderr
    header = ("--defsym", "_ZN6percpu4arch21percpu_storage_headerE=0")
    done = subprocess.run(
        ["ld", "-e", "_Z4readv", *header, "-o", str(tmp_path / "linked"), *objects], capture_output=True, text=True, timeout=60
    )
    if declared == defined:
        assert done.returncode == 0, done.stderr
    else:
        assert done.returncode != 0
        assert f"undefined reference to `{SYMBOLS[declared]}'" in done.stderr


PROGRAM = """\
#include <percpu/percpu.hpp>
PERCPU_DEFINE(int, word, 1);
extern "C" {
void* memcpy(void* to, const void*, size_t) { return to; }
void _start() {
    (void)percpu::init_in_place();
    percpu::init_percpu_reg(0);
    word.write_current(2);
}
}
"""


@pytest.mark.parametrize("linker", ["ld", "lld"])
@pytest.mark.parametrize("flags", [(), ("-flto",)], ids=["", "lto"])
def test_a_program_without_data_of_its_own_links(tmp_path, linker, flags):
    """The fragment goes behind .data; without a script of the user's, lld refuses where there is none."""
    source = tmp_path / "program.cpp"
    source.write_text(PROGRAM)
    bare = ("-DPERCPU_LINUX_USER=1", "-nostdlib", "-static", "-fno-pic", "-fno-stack-protector", "-Wl,--gc-sections")
    link_program(tmp_path, source, "-O2", *flags, *bare, *FREESTANDING, compiler="clang", linker=linker)


WORDS = """\
PERCPU_DEFINE(char[1000], ballast, 1);
PERCPU_DEFINE(uint8_t, word, 2);
extern "C" void use() { word.add_current(1); }
extern "C" void percpu_panic(const char*) noexcept { for (;;) {} }
"""
REFUSED = "undefined (reference to|(hidden )?symbol:) `?_percpu_all_near"
SMALL = ("-O2", "-ffunction-sections", "-fdata-sections")
RISC = pytest.mark.parametrize(
    "compiler", [one for one in ALL if one.arch != "x86_64"], ids=lambda compiler: compiler.label
)


def builds(compiler):
    return [build for build in BUILDS if build.compiler is compiler]


@pytest.mark.parametrize("flags", [SMALL, (*SMALL, "-flto")], ids=["", "lto"])
@RISC
def test_all_near_does_not_link_with_a_script_rendered_without_it(tmp_path, compiler, flags):
    objects = compile_with_runtime(tmp_path, compiler, WORDS, "all-near", *flags)
    given = builds(compiler)
    if "-flto" in flags and compiler.name.startswith("gcc"):
        # Only its own driver knows what GCC has put into the objects.
        objects = [after_lto(tmp_path, compiler, objects)]
    elif "-flto" in flags:
        given = [build for build in given if build.linker == "lld"]
    for build in given:
        for more in ((), ("--gc-sections",)):
            with pytest.raises(AssertionError, match=REFUSED):
                link_with_runtime(tmp_path, build, objects, "", *more)
            assert link_with_runtime(tmp_path, build, objects, "all-near", *more).ok


def after_lto(folder, compiler, objects):
    whole = folder / "whole.o"
    command = [*compiler.command, "-O2", "-flto", "-r", "-flinker-output=nolto-rel", "-nostdlib"]
    toolchain.run([*command, *map(str, objects), "-o", str(whole)])
    return whole


@pytest.mark.parametrize("mode", ["include", "macro"])
@pytest.mark.parametrize("features", ["all-near", "all-near,checked,pristine"])
@RISC
def test_all_near_in_each_mode(tmp_path, compiler, features, mode):
    others = features.replace("all-near", "").strip(",")
    objects = compile_with_runtime(tmp_path, compiler, WORDS, features, *SMALL)
    for build in builds(compiler):
        assert link_with_runtime(tmp_path, build, objects, features, mode=mode).ok
        with pytest.raises(AssertionError, match=REFUSED):
            link_with_runtime(tmp_path, build, objects, others, mode=mode)


@pytest.mark.parametrize("features", ["all-near,non-zero-vma", "all-near,sp-naive", "all-near,base-register=user"])
def test_where_near_has_no_limit_any_script_does(tmp_path, features):
    compiler = next(one for one in ALL if one.label == "riscv64-clang")
    user = (f'-DPERCPU_BASE_REGISTER_HEADER="{HERE / "user_base.hpp"}"',) if "user" in features else ()
    objects = compile_with_runtime(tmp_path, compiler, WORDS.replace("1000", "5000"), features, *SMALL, *user)
    for build in builds(compiler):
        assert link_with_runtime(tmp_path, build, objects, features.replace("all-near,", "")).ok
