"""What the README shows works: its code compiles, its SConstruct builds, its commands run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from cxx.build import COMPILERS, FREESTANDING, compile_object
from matrix import ARCHITECTURES, toolchains
from percpu_tools.targets import FEATURE_MACROS, TARGETS

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
KERNEL = """
[[noreturn]] void panic(const char*) { for (;;) {} }
extern "C" void* memcpy(void* to, const void* from, size_t size) {
    for (size_t i = 0; i < size; ++i) static_cast<char*>(to)[i] = static_cast<const char*>(from)[i];
    return to;
}
extern "C" void _start() { start_first_cpu(); }
"""
SCRIPT = """
ENTRY(_start)
SECTIONS {
    . = 0x200000;
    .text : { *(.text .text.*) }
    .rodata : { *(.rodata .rodata.*) }
    .data : { *(.data .data.*) }
    .bss : { *(.bss .bss.*) }
    /DISCARD/ : { *(.comment .eh_frame .note.gnu.*) }
}
"""
# Run by other tests: boot/test_demo.py, and this very run.
RUN_ELSEWHERE = {"tools/demo", "tools/test"}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    return re.findall(r"^\$ (.*)$", "".join(blocks("console")), re.MULTILINE)


def kernel_source() -> str:
    include, _, rest = blocks("cpp")[0].partition("\n")
    return f"{include}\n[[noreturn]] void panic(const char*);\n{rest}{KERNEL}"


def environment() -> dict[str, str]:
    """The user's: the commands on PATH, SCons's tool found as from an installed package."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "SCONSFLAGS": f"--site-dir={ROOT / 'site_scons'}"}


@pytest.fixture(scope="module")
def kernel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("readme")
    (folder / "SConstruct").write_text(blocks("python")[0])
    (folder / "kernel.cpp").write_text(kernel_source())
    (folder / "kernel.ld").write_text(SCRIPT)
    done = subprocess.run(["scons"], cwd=folder, env=environment(), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.parametrize("compiler", COMPILERS.values(), ids=COMPILERS)
def test_the_code_compiles(tmp_path, compiler):
    source = tmp_path / "kernel.cpp"
    source.write_text(kernel_source())
    flags = ("-O2", "-Wall", "-Werror", "-fno-pic", *FREESTANDING)
    done = compile_object([compiler], source, tmp_path / "kernel.o", *flags)
    assert done.returncode == 0, done.stderr


def test_the_sconstruct_builds(kernel):
    assert (kernel / "kernel.elf").is_file()
    assert len(blocks("python")[0].splitlines()) <= 10


def test_there_are_commands_to_run():
    assert RUN_ELSEWHERE < set(commands())


@pytest.mark.parametrize("command", [command for command in commands() if command not in RUN_ELSEWHERE])
def test_each_command_runs(kernel, command):
    done = subprocess.run(command.split(), cwd=kernel, env=environment(), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_architectures_are_those_of_the_matrix():
    titles = {"gcc": "GCC", "clang": "Clang", "ld": "GNU ld", "lld": "lld"}
    for arch in ARCHITECTURES:
        first, *others = (f"`{register}`" for register in TARGETS[arch].base_registers)
        compilers, linkers = zip(*toolchains(arch))
        made = [", ".join(titles[name] for name in titles if name in used) for used in (compilers, linkers)]
        assert f"| `{arch}` | {first} | {', '.join(others)} | {' | '.join(made)} |" in README


def test_the_features_are_those_of_the_tools():
    for name, macro in FEATURE_MACROS.items():
        assert f"| `{name}` | `{macro}` | " in README


def test_files_that_it_names_are_there():
    for link in re.findall(r"\]\(([^):]+)\)", README):
        assert (ROOT / link).exists(), link
    for path in re.findall(r"`((?:percpu_cpp|ldscripts|tools|tests|site_scons)/[^` ]*)`", README):
        assert (ROOT / path).exists(), path
