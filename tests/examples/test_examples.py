"""The examples for Make, CMake and Meson: they build the demonstration kernel, and it boots."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from boot.boards import BOARDS
from boot.qemu import boot
from examples.builds import CHECKOUT, HERE, run, times

OBJECTS = ("*.o", "*.obj")
RESULTS = (*OBJECTS, "kernel.elf", "percpu.ld", "check.txt")
Command = tuple[str, ...]
# For CPU_NUM and options of percpu-check, and whether it is the first time.
Configure = Callable[[int, str, bool], list[Command]]
# Among what a build prints when it does anything.
ACTIONS = ("g++", "c++", "Building", "Compiling", "Linking", "Rendering", "Checking", "Generating")


class Example:
    """One example in a folder of its own. A step of its build is a command."""

    def __init__(self, system: str, folder: Path, configure: Configure, make: Command) -> None:
        self.system = system
        self.folder, self.result = folder, folder / "build"
        self._configure, self._make = configure, make
        self._now: tuple[int, str] | None = None

    @property
    def kernel(self) -> Path:
        return self.result / "kernel.elf"

    def build(self, cpu_num: int, check_options: str = "", fails: bool = False) -> str:
        """What the last step prints; for what it was configured for already, that step alone is done."""
        if (cpu_num, check_options) != self._now:
            for step in self._configure(cpu_num, check_options, self._now is None):
                run(*step, cwd=self.folder)
        self._now = cpu_num, check_options
        given = (f"CPU_NUM={cpu_num}", f"CHECKFLAGS={check_options}") if self._make[0] == "make" else ()
        done = run(*self._make, *given, cwd=self.folder, check=not fails)
        assert not fails or done.returncode != 0, done.stdout
        return done.stdout


def nothing(cpu_num: int, check_options: str, first: bool) -> list[Command]:
    return []


def cmake(generator: str) -> Configure:
    def configure(cpu_num: int, check_options: str, first: bool) -> list[Command]:
        return [("cmake", "-G", generator, "-B", "build", f"-DCPU_NUM={cpu_num}", f"-DCHECK_OPTIONS={check_options}")]

    return configure


def meson(cpu_num: int, check_options: str, first: bool) -> list[Command]:
    command = ("setup",) if first else ("configure",)
    return [("meson", *command, "build", f"-Dcpu_num={cpu_num}", f"-Dcheck_options={check_options}")]


CMAKE_BUILD = ("cmake", "--build", "build", "-j2")
SYSTEMS: dict[str, tuple[str, Configure, Command]] = {
    "make": ("make", nothing, ("make", "-j2")),
    "cmake-ninja": ("cmake", cmake("Ninja"), CMAKE_BUILD),
    "cmake-make": ("cmake", cmake("Unix Makefiles"), CMAKE_BUILD),
    "meson": ("meson", meson, ("meson", "compile", "-C", "build", "-j2")),
}


@pytest.fixture(scope="module", params=SYSTEMS)
def example(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Example:
    return copied(request.param, tmp_path_factory.mktemp(request.param))


def copied(system: str, place: Path) -> Example:
    folder, configure, make = SYSTEMS[system]
    shutil.copytree(HERE / folder, place / "examples" / folder)
    shutil.copy(HERE / "kernel.ld", place / "examples")
    shutil.copytree(CHECKOUT / "tests" / "boot" / "kernel", place / "boot" / "kernel")
    return Example(system, place / "examples" / folder, configure, make)


def boots(example: Example, cpus: int) -> None:
    booted = boot(BOARDS["x86_64"], example.kernel, cpus)
    assert booted.ok, f"{booted.problem}\n{booted.output}"
    assert f"{cpus} areas of " in booted.output and f"running {cpus}\n" in booted.output


def test_it_builds_and_boots(example: Example) -> None:
    example.build(4)
    boots(example, 4)
    report = run("percpu-check", "--cpu-num=4", example.kernel, cwd=example.folder).stdout
    assert "cpu_id" in report and "nothing found" in report

    before = times(example.result, *RESULTS)
    assert len(before) >= 11
    output = example.build(4)
    assert not [word for word in ACTIONS if word in output], output
    assert times(example.result, *RESULTS) == before


def test_a_change_of_the_script_renders_and_links(example: Example) -> None:
    example.build(4)
    objects, script = times(example.result, *OBJECTS), example.folder.parent / "kernel.ld"
    text = script.read_text()
    script.write_text(text.replace("    .bss :", "    .late : AT(ADDR(.late) - KERNEL_BASE) { *(.late) }\n    .bss :"))
    example.build(4)
    assert "INSERT AFTER .late" in next(example.result.rglob("percpu.ld")).read_text()
    assert times(example.result, *OBJECTS) == objects
    script.write_text(text)


def test_a_change_of_what_the_script_includes_renders_and_links(example: Example) -> None:
    script, more = example.folder.parent / "kernel.ld", example.folder.parent / "more.ld"
    text = script.read_text()
    script.write_text(text.replace("    .bss :", f"    INCLUDE {more}\n    .bss :"))
    for name in ".late", ".later":
        more.write_text(f"    {name} : AT(ADDR({name}) - KERNEL_BASE) {{ *({name}) }}\n")
        example.build(4)
        assert f"INSERT AFTER {name};" in next(example.result.rglob("percpu.ld")).read_text()
    script.write_text(text)


def test_a_finding_fails_the_build_until_it_is_mended(example: Example) -> None:
    for _ in range(2):
        assert "budget" in example.build(4, "--budget=16", fails=True)
    example.build(4)
    assert example.kernel.is_file()


def test_a_configuration_that_comes_changes_and_goes(example: Example) -> None:
    def say(budget: int | None) -> None:
        configuration = example.folder / "percpu.toml"
        comes_or_goes = configuration.exists() == (budget is None)
        if budget is None:
            configuration.unlink()
        else:
            configuration.write_text(f"budget = {budget}\n")
        if comes_or_goes and example.system == "meson":
            # Of files that are not there it does not hear; the example says so.
            run("meson", "setup", "--reconfigure", "build", cwd=example.folder)

    example.build(4)
    for _ in range(2):
        say(16)
        assert "percpu-check" in example.build(4, fails=True)
        say(1000000)
        example.build(4)
    say(16)
    example.build(4, fails=True)
    say(None)
    example.build(4)
    assert example.kernel.is_file()


def test_a_change_of_cpu_num_links_and_compiles_nothing(example: Example) -> None:
    example.build(4)
    objects, kernel = times(example.result, *OBJECTS), example.kernel.read_bytes()
    example.build(6)
    assert times(example.result, *OBJECTS) == objects
    assert example.kernel.read_bytes() != kernel
    boots(example, 6)
    before = times(example.result, *RESULTS)
    example.build(6)
    assert times(example.result, *RESULTS) == before


def test_make_sees_what_was_said_on_the_command_line(tmp_path: Path) -> None:
    """A flag has no time of change, and `make FEATURES=...` must not find everything up to date."""
    example = copied("make", tmp_path)

    def layout() -> object:
        return json.loads(run("percpu-check", "--format=json", example.kernel, cwd=example.folder).stdout)["layout"]

    example.build(4)
    assert layout() == "zero-vma"
    for said in ("FEATURES=non-zero-vma", "FEATURES=", "CXX=clang++-19"):
        before = times(example.result, *OBJECTS)
        run("make", "-j2", "CPU_NUM=4", said, cwd=example.folder)
        after = times(example.result, *OBJECTS)
        assert after.keys() == before.keys() and all(after[name] > before[name] for name in after), said
        assert layout() == ("in-image" if said == "FEATURES=non-zero-vma" else "zero-vma")
        assert "Nothing to be done" in run("make", "-j2", "CPU_NUM=4", said, cwd=example.folder).stdout
