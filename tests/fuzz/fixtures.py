"""Real ELF files to damage: both classes, both byte orders, everything that a rule reads, every profile."""

from __future__ import annotations

from pathlib import Path

import toolchain
from check import code_builds, projects, test_contents
from check.builds import BY_HAND, VARIABLES, script
from cxx.compilers import ALL

_WITH_NOTE = VARIABLES + toolchain.note(version="0.1.0", arch="x86_64", layout="zero-vma", cache_line=64, near_reach=0)
# An access by a relaxed sequence, a canary, thread-local storage: what the rules about code look for.
_CODE = "PERCPU_DEFINE(size_t, counter, 5);\nPERCPU_DEFINE_NEAR(unsigned, near_one, 7);\n"
_USE = 'extern "C" size_t use() { counter.add_current(1); near_one.write_current(2); return counter.read_current(); }\n'
# Small files are quicker to damage.
_SMALL_PAGES = ("-z", "max-page-size=4096")
_PIE = """\
SECTIONS
{
  .text : { *(.text .text.*) }
  .rodata : { *(.rodata .rodata.*) }
  .rela.dyn : { *(.rela.*) }
  .dynamic : { *(.dynamic) }
  .data : { *(.data .data.*) }
  .tdata : { *(.tdata) }
  .percpu : { _percpu_load_start = .; *(.percpu.*) QUAD(_percpu_load_start); _percpu_load_end = .; }
}
"""


def build(folder: Path) -> dict[str, bytes]:
    """Each of the files, by its name."""
    files: dict[str, bytes] = {}

    def place(name: str) -> Path:
        path = folder / name
        path.mkdir()
        return path

    def add(name: str, path: Path) -> None:
        files[name] = path.read_bytes()

    here = place("note")
    kernel = toolchain.compile_c(here, toolchain.KERNEL + _WITH_NOTE, "-g")
    add("note", toolchain.link(here, [kernel], [script(BY_HAND)], "--no-warn-rwx-segments"))

    here = place("constructors")
    case = test_contents.TestT15ConstructorTouchesTemplate
    source = case.SOURCE + test_contents.in_template("int *percpu_storage_p = &percpu_storage_x;", "p")
    kernel = test_contents.compile_cxx(here, source)
    done = toolchain.try_link(
        here, [kernel], [test_contents.in_image("0x200000").replace(*case.TABLE)], "--emit-relocs", linker="lld"
    )
    assert done.returncode == 0, done.stderr
    add("constructors", here / "kernel.elf")

    here = place("pie")
    source = toolchain.KERNEL + VARIABLES + "_Thread_local int t = 1; int *percpu_pointer = &percpu_storage_x;\n"
    kernel = toolchain.compile_c(here, source, "-fpie", "-mcmodel=small")
    command = ["-pie", "-z", "notext", "-z", "norelro", "--no-dynamic-linker"]
    add("pie", toolchain.link(here, [kernel], [_PIE], *command, linker="lld"))

    for order, flags, emulation in (("little", [], "aarch64linux"), ("big", ["-mbig-endian"], "aarch64linuxb")):
        here = place(f"aarch64-{order}")
        (here / "x.c").write_text("void _start(void) {}\n" + VARIABLES)
        toolchain.run(
            [
                "aarch64-linux-gnu-gcc",
                "-c",
                *flags,
                "-ffreestanding",
                "-fno-pic",
                str(here / "x.c"),
                "-o",
                str(here / "x.o"),
            ]
        )
        (here / "x.ld").write_text(code_builds.ZERO_VMA)
        link = [
            "aarch64-linux-gnu-ld",
            "-m",
            emulation,
            *_SMALL_PAGES,
            "--emit-relocs",
            "-T",
            str(here / "x.ld"),
            str(here / "x.o"),
            "-o",
            str(here / "x.elf"),
        ]
        toolchain.run([*link, "-EB" if order == "big" else "-EL"])
        add(here.name, here / "x.elf")

    for order, flags in (("little", []), ("big", ["-mbig-endian"])):
        here = place(f"arm-{order}")
        (here / "x.c").write_text("void _start(void) {}\n" + VARIABLES)
        (here / "x.ld").write_text(code_builds.ZERO_VMA)
        link = [
            "-nostdlib",
            "-ffreestanding",
            "-Wl,--emit-relocs",
            "-T",
            str(here / "x.ld"),
            str(here / "x.c"),
            "-o",
            str(here / "x.elf"),
        ]
        toolchain.run(["arm-none-eabi-gcc", *flags, *link])
        add(here.name, here / "x.elf")

    for compiler in ALL:
        if compiler.name == "clang":
            here = place(f"runtime-{compiler.arch}")
            objects = code_builds.compile_with_runtime(here, compiler, _CODE + _USE, "", "-O1")
            code_builds.link_with_runtime(
                here, code_builds.Build(compiler, "lld"), objects, "", "--emit-relocs", *_SMALL_PAGES
            )
            add(here.name, here / "kernel.elf")

    for name, project in projects.PROJECTS.items():
        here = place(name.replace(" ", "-"))
        add(here.name, projects.build(here, project))
    return files
