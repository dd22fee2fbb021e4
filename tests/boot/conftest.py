"""The kernels that the boot tests boot: SCons builds the variants, `build_by_hand` the faulty ones."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import percpu_tools
import pytest
from boot.boards import BOARDS
from matrix import Variant, select, toolchains

TOP = Path(__file__).resolve().parents[2]
KERNEL = TOP / "tests" / "boot" / "kernel"


@dataclass(frozen=True)
class Built:
    """Where SCons put its kernels, and what it said."""

    folder: Path
    output: str

    def kernel(self, variant: Variant, name: str) -> Path:
        path = self.folder / variant.name / f"{name}.elf"
        assert path.is_file(), f"{path} was not built:\n{self.output}"
        return path


@contextmanager
def scons_alone() -> Iterator[None]:
    """Holds SCons in the checkout, for the workers of pytest-xdist share its database."""
    (TOP / "build").mkdir(exist_ok=True)
    with (TOP / "build" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def scons(*arguments: str, folder: str) -> Built:
    """Run SCons in the checkout, with its results in `folder`; tools/demo keeps its own in `build` itself."""
    command = [Path(sys.executable).parent / "scons", "-Q", "-k", "-j2", f"BUILD={folder}", "LAUNCHER=ccache", *arguments]
    with scons_alone():
        done = subprocess.run(
            command,
            # Rows that differ in their linker alone compile the same, and so do sources that know no feature.
            env=dict(os.environ, CCACHE_DIR=str(TOP / "build" / "ccache")),
            cwd=TOP,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=1200,
        )
    return Built(TOP / folder, done.stdout)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "variant" in metafunc.fixturenames:
        metafunc.parametrize("variant", _variants(metafunc.config), ids=lambda row: row.name)


class BuiltMatrix:
    """The kernels of the variants that this run boots: built some at a time, when one of them is asked for."""

    AT_A_TIME = 40

    def __init__(self, variants: list[Variant]) -> None:
        self._variants = variants
        self._built: dict[int, Built] = {}

    def kernel(self, variant: Variant, name: str) -> Path:
        first = self._variants.index(variant) // self.AT_A_TIME * self.AT_A_TIME
        if first not in self._built:
            names = ",".join(row.name for row in self._variants[first : first + self.AT_A_TIME])
            self._built[first] = scons(f"VARIANTS={names}", folder="build/matrix")
        return self._built[first].kernel(variant, name)


@pytest.fixture(scope="session")
def built(pytestconfig: pytest.Config) -> BuiltMatrix:
    return BuiltMatrix(_variants(pytestconfig))


def _variants(config: pytest.Config) -> list[Variant]:
    return select("all" if config.getoption("--matrix") else "default")


@pytest.fixture
def build_by_hand(tmp_path: Path) -> Callable[..., Path]:
    """Builds a kernel as a project without SCons would, with changes to its source and its scripts."""

    def build(
        main: str = "demo.cpp",
        board_name: str = "x86_64",
        cpu_num: int = 4,
        features: Iterable[str] = (),
        changes: Iterable[tuple[str, str, str]] = (),
        change_fragment: Callable[[str], str] = lambda text: text,
        change_script: Callable[[str], str] = lambda text: text,
        change_runtime: Callable[[str], str] = lambda text: text,
        **rendering: str,
    ) -> Path:
        board = BOARDS[board_name]
        sources = tmp_path / "kernel"
        for source in KERNEL.rglob("*.*"):
            target = sources / source.relative_to(KERNEL)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(source.read_text())
        for name, old, new in changes:
            text = (sources / name).read_text()
            assert text.count(old) == 1, f"{name} has {old!r} {text.count(old)} times; expected once"
            (sources / name).write_text(text.replace(old, new))

        runtime = tmp_path / "runtime"
        runtime.mkdir(exist_ok=True)
        for source in percpu_tools.sources():
            (runtime / source.name).write_text(change_runtime(source.read_text()))

        script, fragment, elf = tmp_path / "kernel.ld", tmp_path / "percpu.ld", tmp_path / "kernel.elf"
        compiler, linker = toolchains(board.arch)[0]
        fragment.write_text(change_fragment(percpu_tools.render_fragment(cpu_num, board.arch, features, linker, **rendering)))
        scripts = [] if rendering.get("mode") == "include" else [fragment]
        if board.script_template:
            template = TOP / "ldscripts" / board.script_template
            variables = dict(board.script_variables)
            text = percpu_tools.render_template(template, cpu_num, board.arch, features, linker, variables=variables)
            script.write_text(change_script(text))
            scripts.append(script)
        command = [
            *board.compiler(compiler),
            *(*board.compile_flags(), "-O2", *board.link_flags(linker)),
            *(f"-DPERCPU_{feature.upper().replace('-', '_')}" for feature in features),
            f"-I{percpu_tools.includes()}",
            f"-Wl,-L,{tmp_path}",
            *(f"-Wl,-T,{path}" for path in scripts),
            *("-o", elf),
            *(sources / name for name in (main, "console.cpp", "memory.cpp", "check.cpp", "panic.cpp", "preempt.cpp")),
            *(sources / name for name in board.machine_sources),
            *(runtime / source.name for source in percpu_tools.sources()),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr
        return elf

    return build
