"""The wheel in an environment that has SCons and it, and nothing of this checkout."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import textwrap
import venv
import zipfile
from pathlib import Path

import pytest
import toolchain
from percpu_tools import __version__

CHECKOUT = Path(__file__).parents[2]
KERNEL = Path(__file__).parent / "kernel"
DATA = ("percpu_cpp", "ldscripts", "site_scons/site_tools/percpu")

SCONSTRUCT = """\
env = {environment}
env.Replace(
    CXXFLAGS="-std=c++20 -O1 -fno-exceptions -fno-rtti",
    CCFLAGS=["-ffreestanding", "-fno-pic", "-mno-red-zone", "-fno-stack-protector", "-fno-asynchronous-unwind-tables"],
    LINKFLAGS="-nostdlib -static -no-pie -Wl,--build-id=none -Wl,--no-warn-rwx-segments -T kernel.ld")
env.Program("kernel.elf", ["kernel.cpp", "events.cpp"])
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy, by way of the sdist, as an index would have it."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(CHECKOUT, folder / "source", ignore=shutil.ignore_patterns(".git", ".venv", "build", "__pycache__", ".sconsign*"))
    toolchain.run([sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(folder)], cwd=folder / "source")
    shutil.rmtree(folder / "source")
    (sdist,) = folder.glob("*.tar.gz")
    shutil.unpack_archive(sdist, folder)
    (unpacked,) = folder.glob(f"percpu_tools-{__version__}/")
    toolchain.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)], cwd=unpacked)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """An environment with the wheel, SCons and what they need, copied from here: no network is used."""
    place = tmp_path_factory.mktemp("environment")
    venv.create(place, with_pip=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    site = place / "lib" / version / "site-packages"
    older = () if sys.version_info >= (3, 11) else ("tomli",)
    for name in ("SCons", "pyelftools", "Jinja2", "MarkupSafe", "rich", "markdown-it-py", "mdurl", "Pygments", *older):
        copy_distribution(name, site)
    toolchain.run([str(place / "bin" / "pip"), "install", "--quiet", "--no-index", "--disable-pip-version-check", str(wheel)])
    return place


def copy_distribution(name: str, site: Path) -> None:
    """Copy an installed distribution, file by file: SCons without the tool that this checkout has put into its package."""
    here = Path(sysconfig.get_path("purelib")).resolve()
    for file in importlib.metadata.distribution(name).files or ():
        # Commands are recorded as `../../../bin/scons`, and begin with the path of this Python.
        source = Path(file.locate()).resolve()
        if here in source.parents and source.is_file():
            target = site / source.relative_to(here)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)


def run(place: Path, *command: str, check: bool = True, **options) -> subprocess.CompletedProcess[str]:
    """Run a command of that environment, with nothing of ours around it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment["PATH"] = f"{place / 'bin'}{os.pathsep}{environment['PATH']}"
    return toolchain.run([str(place / "bin" / command[0]), *command[1:]], check=check, env=environment, **options)


def test_the_wheel_holds_every_file_and_no_other(wheel):
    expected = {"SCons/Tool/percpu.py"}
    for file in source_files(CHECKOUT / "tools" / "percpu_tools"):
        if file.name != "scons_hand_over.py":
            expected.add(file.relative_to(CHECKOUT / "tools").as_posix())
    for folder in DATA:
        expected |= {f"percpu_tools/data/{file.relative_to(CHECKOUT).as_posix()}" for file in source_files(CHECKOUT / folder)}
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    metadata = {name for name in names if name.startswith(f"percpu_tools-{__version__}.dist-info/")}
    assert names - metadata == expected
    assert {name.split("/", 1)[1] for name in metadata} == {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"}
    # The mapping above is the build's own; these are what people will miss.
    assert {
        "percpu_tools/py.typed",
        "percpu_tools/data/percpu_cpp/include/percpu/percpu.hpp",
        "percpu_tools/data/percpu_cpp/src/area.cpp",
        "percpu_tools/data/ldscripts/percpu.ld.j2",
        "percpu_tools/cmake/percpu-config.cmake",
        "percpu_tools/gdb/extension.py",
        "percpu_tools/report/templates/area.svg.j2",
        "percpu_tools/data/site_scons/site_tools/percpu/__init__.py",
    } <= names


def source_files(folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*") if file.is_file() and "__pycache__" not in file.parts]


def test_the_metadata(wheel):
    with zipfile.ZipFile(wheel) as archive:
        text = archive.read(f"percpu_tools-{__version__}.dist-info/METADATA").decode()
    for line in (
        "Name: percpu-tools",
        f"Version: {__version__}",
        "License-Expression: Apache-2.0",
        "Requires-Python: >=3.9",
        "Requires-Dist: pyelftools<1,>=0.31",
        "Requires-Dist: jinja2<4,>=3.1",
        "Requires-Dist: rich<16,>=13",
    ):
        assert line in text.splitlines()


def test_the_commands_find_their_parts(installed, tmp_path):
    for command in ("percpu-check", "percpu-ldscript", "percpu-config"):
        assert run(installed, command, "--version", cwd=tmp_path).stdout == f"{command} {__version__}\n"
    includes = run(installed, "percpu-config", "--includes", cwd=tmp_path).stdout.strip()
    sources = run(installed, "percpu-config", "--sources", cwd=tmp_path).stdout.split()
    assert includes.startswith(f"-I{installed}")
    assert sources and all(Path(source).is_relative_to(installed) for source in sources)
    toolchain.run(["g++", "-std=c++20", "-ffreestanding", includes, "-c", sources[0], "-o", str(tmp_path / "area.o")])
    files = (("--ldscripts", "percpu.ld.j2"), ("--toolpath", "percpu/__init__.py"), ("--cmakedir", "percpu-config.cmake"))
    for option, file in files:
        assert (Path(run(installed, "percpu-config", option, cwd=tmp_path).stdout.strip()) / file).is_file()
    assert "_percpu_start" in run(installed, "percpu-ldscript", "render", "--cpu-num", "4", "--arch", "arm", cwd=tmp_path).stdout


def test_cmake_finds_the_package_and_its_commands(installed, tmp_path):
    """By percpu_DIR alone: the environment's commands need not be on the PATH."""
    folder = run(installed, "percpu-config", "--cmakedir", cwd=tmp_path).stdout.strip()
    show = "message(${percpu_VERSION}:${PERCPU_CHECK}:${PERCPU_LDSCRIPT})"
    (tmp_path / "find.cmake").write_text(f"find_package(percpu REQUIRED)\n{show}\n")
    environment = {**os.environ, "PATH": "/usr/bin:/bin"}
    cmake = ["cmake", f"-Dpercpu_DIR={folder}", "-P", "find.cmake"]
    version, *found = toolchain.run(cmake, cwd=tmp_path, env=environment).stderr.strip().split(":")
    assert version == __version__
    commands = [installed / "bin" / name for name in ("percpu-check", "percpu-ldscript")]
    assert [Path(command).resolve() for command in found] == commands


@pytest.mark.parametrize(
    "environment",
    [
        'Environment(tools=["default", "percpu"], CPU_NUM=ARGUMENTS["CPU_NUM"])',
        'Environment()\nenv.Tool("percpu", CPU_NUM=ARGUMENTS["CPU_NUM"])',
    ],
    ids=["tools", "Tool"],
)
def test_scons_finds_the_tool_with_no_further_line(installed, tmp_path, environment):
    shutil.copytree(KERNEL, tmp_path / "project")
    (tmp_path / "project" / "SConstruct").write_text(textwrap.dedent(SCONSTRUCT).format(environment=environment))
    built = run(installed, "python", "-m", "SCons", "CPU_NUM=3", cwd=tmp_path / "project")
    assert str(CHECKOUT) not in built.stdout
    report = json.loads(run(installed, "percpu-check", "--format=json", "kernel.elf", cwd=tmp_path / "project").stdout)
    assert report["cpu_num"] == 3
    assert {"cpu_id", "events_seen"} <= {variable["name"] for variable in report["variables"]}
    again = run(installed, "python", "-m", "SCons", "-Q", "CPU_NUM=3", cwd=tmp_path / "project")
    assert again.stdout == "scons: `.' is up to date.\n"


@pytest.mark.parametrize("toolkit", ["wheel", "checkout"])
def test_the_systems_scons_needs_one_line(installed, tmp_path, toolkit):
    """Its Python has neither the package nor what that needs."""
    if toolkit == "wheel":
        toolpath = run(installed, "percpu-config", "--toolpath", cwd=tmp_path).stdout.strip()
    else:
        toolpath = str(CHECKOUT / "site_scons" / "site_tools")
    shutil.copytree(KERNEL, tmp_path / "project")
    environment = f'Environment()\nenv.Tool("percpu", toolpath=[{toolpath!r}], CPU_NUM=3)'
    (tmp_path / "project" / "SConstruct").write_text(textwrap.dedent(SCONSTRUCT).format(environment=environment))
    system = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    for _ in range(2):
        done = toolchain.run(["/usr/bin/scons", "-Q"], cwd=tmp_path / "project", env=system)
    assert done.stdout == "scons: `.' is up to date.\n"
    report = json.loads(run(installed, "percpu-check", "--format=json", "kernel.elf", cwd=tmp_path / "project").stdout)
    assert report["cpu_num"] == 3
