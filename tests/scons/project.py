"""A user's project in a folder of its own, built by real SCons runs with the real toolchain."""

from __future__ import annotations

import shutil
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

from elftools.elf.elffile import ELFFile

HERE = Path(__file__).parent
CHECKOUT = HERE.parents[1]
TOOLPATH = CHECKOUT / "site_scons" / "site_tools"

# What every SConstruct of the tests begins with. The short lines say what ran, and nothing else.
PRELUDE = """\
SHORT = dict(
    CCCOMSTR="compile $TARGET", CXXCOMSTR="compile $TARGET", LINKCOMSTR="link $TARGET",
    PERCPU_RUNTIMECOMSTR="copy $TARGET", PERCPU_FRAGMENTCOMSTR="render $TARGET",
    PERCPU_LINKERSCRIPTCOMSTR="render $TARGET", PERCPU_CHECKCOMSTR="check $SOURCE")
KERNEL = dict(
    CXXFLAGS="-std=c++20 -O1 -fno-exceptions -fno-rtti",
    CCFLAGS=["-ffreestanding", "-fno-pic", "-mno-red-zone", "-fno-stack-protector", "-fno-asynchronous-unwind-tables"],
    LINKFLAGS="-nostdlib -static -no-pie -Wl,--build-id=none -Wl,--no-warn-rwx-segments -T kernel.ld")
SOURCES = ["kernel.cpp", "events.cpp"]
"""

USUAL = """\
env = Environment(**KERNEL, **SHORT)
env.Tool("percpu", toolpath=TOOLPATH, CPU_NUM=ARGUMENTS.get("CPU_NUM", 4))
env.Program("kernel.elf", SOURCES)
"""

# All that a build of the usual project does, in SCons's order.
COMPILE = ["compile kernel.o", "compile events.o", "copy kernel.elf.percpu/area.cpp", "compile kernel.elf.percpu/area.o"]
LINK = ["render kernel.elf.percpu/percpu.ld", "link kernel.elf", "check kernel.elf"]


@dataclass
class Run:
    """One run of scons."""

    status: int
    out: str
    err: str

    @property
    def ran(self) -> list[str]:
        """The actions, by their short lines; of nothing, SCons says that it is up to date."""
        lines = self.out.splitlines()
        return [line for line in lines if line and not line.startswith("scons: ")]


def copy_toolkit(place: Path) -> Path:
    """A copy of what a checkout has for builds; its toolpath."""
    for name in ("ldscripts", "percpu_cpp", "site_scons", "tools/percpu_tools"):
        shutil.copytree(CHECKOUT / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
    return place / "site_scons" / "site_tools"


class Project:
    def __init__(self, folder: Path, toolpath: Path = TOOLPATH) -> None:
        self.folder = folder
        self.toolpath = toolpath
        shutil.copytree(HERE / "kernel", folder, dirs_exist_ok=True)
        self.sconstruct(USUAL)

    def sconstruct(self, text: str) -> None:
        toolpath = f"TOOLPATH = [{str(self.toolpath)!r}]\n"
        self.write("SConstruct", toolpath + PRELUDE + textwrap.dedent(text))

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return path

    def replace(self, name: str, old: str, new: str) -> None:
        text = (self.folder / name).read_text()
        assert old in text
        (self.folder / name).write_text(text.replace(old, new))

    def scons(self, *arguments: str, folder: Path | None = None) -> Run:
        """Run scons, whatever comes of it."""
        done = subprocess.run([sys.executable, "-m", "SCons", "-Q", *arguments], cwd=folder or self.folder,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
        assert "Traceback" not in done.stderr and "Traceback" not in done.stdout, done.stderr
        return Run(done.returncode, done.stdout, done.stderr)

    def build(self, *arguments: str) -> list[str]:
        """Run scons, which must succeed; what it did."""
        run = self.scons(*arguments)
        assert run.status == 0, run.out + run.err
        return run.ran

    def symbols(self, name: str) -> dict[str, int]:
        """The symbols of a linked program."""
        with (self.folder / name).open("rb") as file:
            table = ELFFile(file).get_section_by_name(".symtab")
            return {symbol.name: symbol["st_value"] for symbol in table.iter_symbols()}

    def cpu_num(self, name: str) -> int:
        """The number of CPUs that a program was linked for."""
        return self.symbols(name)["_percpu_cpu_num"]

    def files(self) -> set[str]:
        return {str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file()}
