"""percpu_target of the CMake package, beyond what the example does."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import percpu_tools
import pytest
from boot.boards import LLD_FOLDER
from examples.builds import CHECKOUT, run

PROJECT = """\
cmake_minimum_required(VERSION 3.20)
project(kernel LANGUAGES CXX)
{before}
find_package(percpu REQUIRED)
add_executable(kernel.elf kernel.cpp events.cpp)
target_compile_options(kernel.elf PRIVATE -std=c++20 -O1 -ffreestanding -fno-exceptions -fno-rtti -fno-pic -mno-red-zone
  -fno-stack-protector -fno-asynchronous-unwind-tables)
target_link_options(kernel.elf PRIVATE -nostdlib -static -no-pie LINKER:--build-id=none)
{after}
"""
SCRIPT = "target_link_options(kernel.elf PRIVATE {})\n"
USUAL_SCRIPT = SCRIPT.format("LINKER:-T,${CMAKE_CURRENT_SOURCE_DIR}/kernel.ld")

RISCV = "riscv64-linux-gnu-g++"
RV32 = "-march=rv32g -mabi=ilp32"
OWN_PROFILE = """\
section = ".percpu"
layout = "zero-vma"
[symbols]
load_start = "_percpu_load_start"
load_end = "_percpu_load_end"
"""
BOARD = "add_library(board INTERFACE)\ntarget_link_libraries(kernel.elf PRIVATE board)\n"


class Project:
    """The small kernel of the SCons tool's tests, with a CMakeLists.txt."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "project"
        # What is configured.
        self.top = self.folder
        self.result = self.folder / "build"
        shutil.copytree(CHECKOUT / "tests" / "scons" / "kernel", self.folder)

    def configure(
        self,
        target: str = "",
        script: str = USUAL_SCRIPT,
        before: str = "",
        after: str = "",
        fails: bool = False,
        generator: str = "Ninja",
    ) -> str:
        text = PROJECT.format(before=before, after=f"{target}\n{script}{after}")
        (self.folder / "CMakeLists.txt").write_text(text)
        # The compiler is the same each time: CMake need not try it out.
        known = ("-DCMAKE_CXX_COMPILER=g++", "-DCMAKE_CXX_COMPILER_FORCED=ON")
        options = ("-G", generator, "-B", self.result, f"-Dpercpu_DIR={percpu_tools.cmakedir()}", *known)
        done = run("cmake", *options, cwd=self.top, check=not fails)
        assert not fails or done.returncode != 0, done.stdout
        return " ".join(done.stdout.split())

    def build(self, fails: bool = False) -> str:
        done = run("cmake", "--build", self.result, "-j2", cwd=self.folder, check=not fails)
        assert not fails or done.returncode != 0, done.stdout
        return done.stdout

    @property
    def kernel(self) -> Path:
        return self.result / "kernel.elf"

    @property
    def beside(self) -> Path:
        return self.result / "kernel.elf.percpu"

    @property
    def fragment(self) -> Path:
        return self.beside / "percpu.ld"

    def report(self) -> dict[str, object]:
        found = json.loads(run("percpu-check", "--format=json", self.kernel, cwd=self.folder).stdout)
        assert isinstance(found, dict)
        return found


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_features_reach_compiler_and_linker(project: Project) -> None:
    """And options that are set behind the call count, and a library gets the same."""
    library = "add_library(events OBJECT events.cpp)\npercpu_target(events FEATURES non-zero-vma base-register=fs)"
    flags = "target_compile_options(events PRIVATE -std=c++20 -ffreestanding -fno-exceptions -fno-rtti -fno-pic)"
    project.configure(
        "percpu_target(kernel.elf CPU_NUM 3 FEATURES non-zero-vma base-register=fs CACHE_LINE 128)",
        after=f"{library}\n{flags}",
    )
    project.build()
    report = project.report()
    assert (report["cpu_num"], report["layout"], report["alignment"]) == (3, "in-image", 128)
    commands = run("ninja", "-C", "build", "-t", "commands", cwd=project.folder).stdout.splitlines()
    compiled = [line for line in commands if " -c " in line]
    assert len(compiled) == 4
    assert all("-DPERCPU_NON_ZERO_VMA" in line and "-DPERCPU_BASE_REGISTER=fs" in line for line in compiled)


def test_an_interface_library_hands_them_on(project: Project) -> None:
    library = "add_library(areas INTERFACE)\npercpu_target(areas FEATURES non-zero-vma)\n"
    early = "add_library(early OBJECT events.cpp)\ntarget_link_libraries(early PRIVATE areas)\n"
    flags = "target_compile_options(early PRIVATE -std=c++20 -ffreestanding -fno-exceptions -fno-rtti -fno-pic)\n"
    project.configure("percpu_target(kernel.elf CPU_NUM 2 FEATURES non-zero-vma)", after=library + early + flags)
    project.build()
    commands = run("ninja", "-C", "build", "-t", "commands", "early", cwd=project.folder).stdout.splitlines()
    compiled = [line for line in commands if " -c " in line]
    assert len(compiled) == 1 and "-DPERCPU_NON_ZERO_VMA" in compiled[0]


# Where the flags can be that the compiler needs for the architecture that was said.
NEEDED = {
    "none": ("x86_64", "g++", ""),
    "options": ("riscv32", RISCV, f"target_compile_options(kernel.elf PRIVATE {RV32})"),
    "flags": ("riscv32", RISCV, f'set(CMAKE_CXX_FLAGS "{RV32}")'),
    "property": ("riscv32", RISCV, f'set_target_properties(kernel.elf PROPERTIES COMPILE_FLAGS "{RV32}")'),
    "library": ("riscv32", RISCV, f"{BOARD}target_compile_options(board INTERFACE {RV32})"),
    "expression": ("riscv32", RISCV, f'target_compile_options(kernel.elf PRIVATE "$<1:{RV32.replace(" ", ";")}>")'),
    "expression-of-a-library": ("riscv32", RISCV, f"{BOARD}target_compile_options(board INTERFACE $<1:-march=rv32g>)"),
    "library-in-an-expression": ("riscv32", RISCV, "target_link_libraries(kernel.elf PRIVATE $<1:board>)"),
}


@pytest.mark.parametrize("case", NEEDED)
def test_an_architecture_that_was_said(project: Project, case: str) -> None:
    arch, compiler, needed = NEEDED[case]
    call = f"percpu_target(kernel.elf CPU_NUM 2 ARCH {arch} LINKER ld)"
    project.configure(call, before=f"set(CMAKE_CXX_COMPILER {compiler})", after=needed)
    other = "target_compile_options(kernel.elf PRIVATE $<$<COMPILE_LANGUAGE:CXX>:-fno-builtin>)"
    refused = project.configure(call, before=f"set(CMAKE_CXX_COMPILER {RISCV})", after=other, fails=True)
    assert f"ARCH is {arch}, and the compiler {RISCV} builds for riscv64" in refused


# Where the script can be named, and where percpu_target looks for it.
NAMED = {
    "glued": SCRIPT.format('"-T{}"'),
    "xlinker": SCRIPT.format('"SHELL:-Xlinker -T -Xlinker {}"'),
    "linker-shell": SCRIPT.format('"LINKER:SHELL:-T {}"'),
    "link-flags": 'set_target_properties(kernel.elf PROPERTIES LINK_FLAGS "-T {}")',
    "link-libraries": "target_link_libraries(kernel.elf PRIVATE -Wl,-T,{})",
    "link-libraries-two-words": 'target_link_libraries(kernel.elf PRIVATE "-T {}")',
    "library": """\
add_library(board INTERFACE)
target_link_options(board INTERFACE LINKER:-T,{})
target_link_libraries(kernel.elf PRIVATE board)
""",
    "library-of-a-library": """\
add_library(board INTERFACE)
target_link_options(board INTERFACE LINKER:-T,{})
add_library(boards::board ALIAS board)
file(WRITE ${{CMAKE_CURRENT_BINARY_DIR}}/empty.cpp "")
add_library(drivers STATIC ${{CMAKE_CURRENT_BINARY_DIR}}/empty.cpp)
target_link_libraries(drivers PRIVATE boards::board)
target_link_libraries(kernel.elf PRIVATE drivers)
""",
    "said": SCRIPT.format("$<$<CONFIG:>:LINKER:-T,{}>"),
}


@pytest.mark.parametrize("case", NAMED)
def test_the_script_is_seen_wherever_it_is_named(project: Project, case: str) -> None:
    script = project.folder / "kernel.ld"
    # Without the script, the fragment would be inserted after .data.
    script.write_text(script.read_text().replace("  .bss :", "  .late : { *(.late) }\n  .bss :"))
    said = " SCRIPT kernel.ld" if case == "said" else ""
    output = project.configure(f"percpu_target(kernel.elf CPU_NUM 2{said})", NAMED[case].format(script))
    assert "Warning" not in output
    project.build()
    assert "INSERT AFTER .late;" in project.fragment.read_text()
    before = project.kernel.stat().st_mtime_ns
    script.write_text(script.read_text() + "\n/* changed */\n")
    project.build()
    assert project.kernel.stat().st_mtime_ns > before
    assert "no work to do" in project.build()


def test_a_part_of_the_script_is_seen(project: Project) -> None:
    script, part = project.folder / "kernel.ld", project.folder / "parts" / "more.ld"
    part.parent.mkdir()
    part.write_text(".late : { *(.late) }\n")
    script.write_text(script.read_text().replace("    .bss", "    INCLUDE more.ld\n    .bss"))
    folders = "target_link_directories(kernel.elf PRIVATE parts)\n"
    project.configure("percpu_target(kernel.elf CPU_NUM 2)", USUAL_SCRIPT + folders)
    project.build()
    before = project.kernel.stat().st_mtime_ns
    assert "INSERT AFTER .late" in project.fragment.read_text()
    part.write_text(".later : { *(.later) }\n")
    project.build()
    assert "INSERT AFTER .later" in project.fragment.read_text() and project.kernel.stat().st_mtime_ns > before
    assert "no work to do" in project.build()


def test_a_script_that_may_hide_in_a_generator_expression(project: Project) -> None:
    hidden = SCRIPT.format('"$<$<CONFIG:>:LINKER:-T,${CMAKE_CURRENT_SOURCE_DIR}/kernel.ld;LINKER:-z,now>"')
    warning = project.configure("percpu_target(kernel.elf CPU_NUM 2)", hidden)
    assert "CMake Warning" in warning and "no linker script is found" in warning
    assert "$<$<CONFIG:>:LINKER:-T," in warning and "percpu_target(kernel.elf SCRIPT kernel.ld ...)" in warning
    assert "Warning" not in project.configure("percpu_target(kernel.elf CPU_NUM 2 SCRIPT none)", hidden)
    assert "Warning" not in project.configure("percpu_target(kernel.elf CPU_NUM 2)", USUAL_SCRIPT + hidden)


def test_folders_of_scripts_are_folders(project: Project) -> None:
    """The compiler, which is named by its path, is none."""
    more = SCRIPT.format("-L/one LINKER:-L,/two LINKER:--library-path=/three -L /four -Llost -B/five")
    library = "add_library(board INTERFACE)\ntarget_link_directories(board INTERFACE /six)\n"
    used = "target_link_libraries(kernel.elf PRIVATE board)\n"
    project.configure("percpu_target(kernel.elf CPU_NUM 2)", USUAL_SCRIPT + more + library + used)
    commands = run("ninja", "-C", "build", "-t", "commands", cwd=project.folder).stdout.splitlines()
    rendering = next(line for line in commands if " render " in line).split()
    folders = [word for before, word in zip(rendering, rendering[1:]) if before == "-L"]
    assert sorted(folders) == ["/four", "/one", "/six", "/three", "/two"]


def test_lld(project: Project) -> None:
    lld = f"target_link_options(kernel.elf PRIVATE -fuse-ld=lld -B{LLD_FOLDER})\n"
    project.configure("percpu_target(kernel.elf CPU_NUM 2)", USUAL_SCRIPT + lld)
    project.build()
    assert " *   linker      lld\n" in project.fragment.read_text()


def test_include_mode(project: Project) -> None:
    script = project.folder / "kernel.ld"
    text = script.read_text()
    assert text.count("  .bss") == 1
    script.write_text(text.replace("  .bss", "  INCLUDE percpu.ld\n  .bss"))
    project.configure("percpu_target(kernel.elf CPU_NUM 2 MODE include)")
    project.build()
    assert project.report()["cpu_num"] == 2


def test_a_finding_as_a_warning_and_none(project: Project) -> None:
    call = "percpu_target(kernel.elf CPU_NUM 2 CHECK {} CHECK_OPTIONS --budget=1)"
    project.configure(call.format("warn"))
    assert "budget" in project.build() and project.kernel.is_file()
    project.configure(call.format("off"))
    assert "budget" not in project.build() and project.kernel.is_file()
    project.configure(call.format("error"))
    refused = project.build(fails=True)
    assert "percpu-check refuses kernel.elf" in refused and not project.kernel.exists()
    assert (project.beside / "kernel.elf").is_file()


def test_what_the_check_cannot_judge_is_not_refused_for_its_findings(project: Project) -> None:
    project.configure("percpu_target(kernel.elf CPU_NUM 2 CHECK_OPTIONS --disable T99)")
    output = project.build(fails=True)
    assert "percpu-check cannot judge kernel.elf" in output and "T99" in output and "refuses" not in output
    assert not project.kernel.exists()


@pytest.mark.parametrize("generator", ["Ninja", "Unix Makefiles"])
def test_a_configuration_is_a_reason_to_check_again_wherever_the_build_is(project: Project, generator: str) -> None:
    project.result = project.folder.parent / "elsewhere"
    project.configure("percpu_target(kernel.elf CPU_NUM 2)", generator=generator)
    project.build()
    above, beside = project.folder.parent / "percpu.toml", project.folder / "pyproject.toml"
    above.write_text("budget = 1\n")
    # One that comes from elsewhere is as old as it was there.
    os.utime(above, (1, 1))
    assert "budget" in project.build(fails=True)
    beside.write_text("[project]\nname = 'x'\n")
    assert "budget" in project.build(fails=True)
    beside.write_text("[tool.percpu]\nbudget = 4096\n")
    project.build()
    before = project.kernel.stat().st_mtime_ns
    project.build()
    assert project.kernel.stat().st_mtime_ns == before
    beside.write_text("[tool.percpu]\nbudget =\n")
    output = project.build(fails=True)
    assert "cannot judge" in output and "pyproject.toml" in output
    beside.write_text("[tool.percpu]\nbudget = 4096\n")
    project.build()
    beside.unlink()
    assert "percpu-check refuses kernel.elf" in project.build(fails=True)
    above.unlink()
    project.build()


def test_what_the_options_of_the_check_name_is_a_reason_to_check_again(project: Project) -> None:
    """Relative to the folder of the target, which need not be the top."""
    project.top, project.result = project.folder.parent, project.folder.parent / "[build]"
    top = "cmake_minimum_required(VERSION 3.20)\nproject(top LANGUAGES NONE)\nadd_subdirectory(project)\n"
    (project.top / "CMakeLists.txt").write_text(top)
    project.configure("percpu_target(kernel.elf CPU_NUM 2)")
    project.build()
    names = ("../[old].elf", "strict.toml", "own.toml", "rules.py")
    old, strict, own, rules = (project.folder / name for name in names)
    shutil.copy(project.result / "project" / "kernel.elf", old)
    own.write_text(OWN_PROFILE)
    strict.write_text("rules = ['rules:nothing']\n")
    rules.write_text("def nothing(layout, image):\n    return []\n")
    options = f"--baseline {names[0]} --config={names[1]} --profile {names[2]}"
    project.configure(f"percpu_target(kernel.elf CPU_NUM 2 CHECK_OPTIONS {options})")
    project.build()
    # By an option, and by what an option names.
    for file in old, rules:
        good = file.read_bytes()
        file.write_text("neither this nor that\n")
        assert "cannot judge" in project.build(fails=True), file
        file.write_bytes(good)
        project.build()
    assert "no work to do" in project.build()
    old.unlink()
    assert "cannot judge" in project.build(fails=True)


def test_a_mended_kernel_has_no_refused_one_beside_it(project: Project) -> None:
    project.configure("percpu_target(kernel.elf CPU_NUM 2 CHECK_OPTIONS --budget=1)")
    project.build(fails=True)
    assert (project.beside / "kernel.elf").is_file()
    project.configure("percpu_target(kernel.elf CPU_NUM 2)")
    project.build()
    assert not (project.beside / "kernel.elf").exists()
    assert "nothing found" in (project.beside / "check.txt").read_text()


@pytest.mark.parametrize("generator", ["Ninja", "Unix Makefiles"])
def test_clean_leaves_nothing_and_the_next_build_needs_nothing(project: Project, generator: str) -> None:
    project.configure("percpu_target(kernel.elf CPU_NUM 2)", generator=generator)
    project.build()
    assert (project.beside / "check.txt").is_file()
    run("cmake", "--build", "build", "--target", "clean", cwd=project.folder)
    assert not project.beside.exists()
    project.build()
    shutil.rmtree(project.beside)
    project.build()
    assert project.fragment.is_file() and project.kernel.is_file()


REFUSED = {
    "no-cpu-num": ("percpu_target(kernel.elf)", "CPU_NUM is not given: say percpu_target(kernel.elf CPU_NUM 4)"),
    "no-target": ("percpu_target(kernle.elf CPU_NUM 4)", "there is no target kernle.elf"),
    "feature": ("percpu_target(kernel.elf CPU_NUM 4 FEATURES premept)", "feature is 'premept': expected one of"),
    "argument": ("percpu_target(kernel.elf CPUS 4)", "CPUS;4: no such argument"),
    "check": ("percpu_target(kernel.elf CPU_NUM 4 CHECK loud)", "CHECK is loud: expected error, warn or off"),
    "twice": (
        "percpu_target(kernel.elf CPU_NUM 4)\npercpu_target(kernel.elf CPU_NUM 8)",
        "kernel.elf was given before",
    ),
    "relative": (
        "percpu_target(kernel.elf CPU_NUM 4)\ntarget_link_options(kernel.elf PRIVATE LINKER:-T,other.ld)",
        "the linker script other.ld is named by a relative path",
    ),
    "too-early": (
        "percpu_target(kernel.elf CPU_NUM 4)\nset(CMAKE_EXE_LINKER_FLAGS -Wl,-T,${CMAKE_CURRENT_SOURCE_DIR}/kernel.ld)",
        "which GNU ld would read before the fragment",
    ),
    "too-early-by-a-property": (
        "percpu_target(kernel.elf CPU_NUM 4)\n"
        "set_target_properties(kernel.elf PROPERTIES LINK_FLAGS -Wl,-T,${CMAKE_CURRENT_SOURCE_DIR}/kernel.ld)",
        "which GNU ld would read before the fragment",
    ),
    "folder": ("add_subdirectory(part)", "is a target of"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(project: Project, case: str) -> None:
    call, message = REFUSED[case]
    (project.folder / "part").mkdir()
    (project.folder / "part" / "CMakeLists.txt").write_text("percpu_target(kernel.elf CPU_NUM 4)\n")
    assert message in project.configure(call, fails=True)


@pytest.mark.parametrize(
    ("asked", "found"),
    [("0.1", True), ("0.1.0 EXACT", True), ("0", False), ("0.2", False), ("1.0", False), ("0.1.9", False)],
)
def test_versions(tmp_path: Path, asked: str, found: bool) -> None:
    assert percpu_tools.__version__ == "0.1.0", "write the versions above for this one"
    (tmp_path / "find.cmake").write_text(f"find_package(percpu {asked} REQUIRED)\n")
    done = run("cmake", f"-Dpercpu_DIR={percpu_tools.cmakedir()}", "-P", "find.cmake", cwd=tmp_path, check=False)
    assert (done.returncode == 0) == found, done.stdout
