"""clang-tidy finds nothing in the runtime, for any architecture or feature, with the checks of .clang-tidy."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import percpu_tools
import pytest
from cxx.build import FREESTANDING, HERE
from cxx.compilers import ALL, Compiler
from cxx.test_compile import FEATURES

TOP = HERE.parents[1]
# Together with every accessor, as counts.cpp has them.
SOURCES = (HERE / "counts.cpp", *percpu_tools.sources())
CLANG = {compiler.label: compiler for compiler in ALL if compiler.name == "clang"}
TOGETHER = (*FEATURES["checked"], *FEATURES["pristine"], *FEATURES["preempt"], *FEATURES["non-zero-vma"])
USUAL = [
    *((label, ()) for label in CLANG if label != "riscv32-clang"),
    ("x86_64-clang", TOGETHER),
    ("aarch64-clang", FEATURES["sp-naive"]),
    ("riscv64-clang", FEATURES["restartable"]),
    ("loongarch64-clang", FEATURES["user"]),
]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "label" in metafunc.fixturenames:
        builds = list(USUAL)
        if metafunc.config.getoption("--matrix"):
            builds += [
                (label, flags)
                for label in CLANG
                for name, flags in FEATURES.items()
                if (label, name) != ("x86_64-clang", "restartable") and (label, flags) not in USUAL
            ]
        metafunc.parametrize("label, flags", builds, ids=lambda value: value if isinstance(value, str) else " ".join(value))


def tidy(compiler: Compiler, *flags: str, include: str = str(percpu_tools.includes())) -> str:
    """What clang-tidy finds in the runtime's own files."""
    _, *target = compiler.command
    options = [*target, "-std=c++20", "-fno-pic", *FREESTANDING, *flags, f"-I{include}"]
    command = ["clang-tidy-19", "--quiet", *map(str, SOURCES), "--", *options]
    done = subprocess.run(command, cwd=TOP, capture_output=True, text=True, timeout=300)
    found = re.findall(r"^\S*percpu_cpp/.* (?:warning|error): .*$", done.stdout, re.MULTILINE)
    assert "error: " not in done.stderr, done.stderr
    return "\n".join(found)


def test_nothing_is_found(label: str, flags: tuple[str, ...]) -> None:
    assert tidy(CLANG[label], *flags) == ""


@pytest.mark.parametrize(
    ("code", "check"),
    [
        ("inline int is_three(int it) { if (it = 3) return 1; return 0; }", "bugprone-assignment-in-if-condition"),
        ("inline unsigned code_of(char it) { unsigned code = it; return code; }", "misc-const-correctness"),
    ],
    ids=["assignment", "const"],
)
def test_a_fault_is_found(code: str, check: str, tmp_path: Path) -> None:
    """In a header of the runtime's, as all code but one file is."""
    folder = tmp_path / "percpu_cpp" / "include" / "percpu"
    folder.mkdir(parents=True)
    for header in percpu_tools.includes().rglob("*.hpp"):
        target = folder.parent / header.relative_to(percpu_tools.includes())
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(header.read_text())
    with (folder / "percpu.hpp").open("a") as stream:
        stream.write(code + "\n")
    assert check in tidy(CLANG["x86_64-clang"], include=str(folder.parent))


def test_each_check_that_is_left_out_has_its_reason() -> None:
    text = (TOP / ".clang-tidy").read_text()
    listed = re.findall(r"^  -([a-z][a-z-]+)", text, re.MULTILINE)
    reasons = re.findall(r"^#   ([a-z][a-z-]+)  +\S", text, re.MULTILINE)
    assert listed and sorted(listed) == sorted(reasons)
