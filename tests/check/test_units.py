"""The rule T11 about files of a kernel that are compiled with other PERCPU_* macros than the runtime."""

from __future__ import annotations

from pathlib import Path

import pytest
import toolchain
from check.builds import rules
from check.code_builds import BUILDS, Build, compile_with_runtime, link_with_runtime
from check.test_rules import only
from percpu_tools import check, targets
from percpu_tools.checker import Report

OF_EACH = pytest.mark.parametrize("build", BUILDS, ids=lambda build: build.label)
OTHER = """\
#include <percpu/percpu.hpp>
extern "C" size_t number() { return percpu::percpu_area_num(); }
"""


def mixed(folder: Path, build: Build, features: str, *flags: str) -> Report:
    """The report on a kernel of which one file, more.cpp, is compiled for these features and with these flags."""
    parts = {"usual": ("",), "other": (features, *flags)}
    for name, arguments in parts.items():
        (folder / name).mkdir()
        parts[name] = compile_with_runtime(folder / name, build.compiler, "", *arguments, more=OTHER)
    usual = [path for path in parts["usual"] if path.name != "more.o"]
    return link_with_runtime(folder, build, [*usual, folder / "other" / "more.o"], "")


@pytest.mark.parametrize("field", ["features", "base-register", "cache-line"])
@OF_EACH
def test_a_file_that_is_compiled_for_something_else(tmp_path, build, field):
    registers = targets.TARGETS[build.arch].base_registers
    features, flags, found, expected = {
        "features": ("preempt", (), "preempt", "none"),
        "base-register": (f"base-register={registers[1]}", (), registers[1], registers[0]),
        "cache-line": ("", ("-DPERCPU_CACHE_LINE=256",), "256", "64"),
    }[field]
    finding = only(mixed(tmp_path, build, features, *flags), "T11")
    assert finding.level == "error" and finding.message.endswith("than the runtime")
    assert finding.found == f"{field}={found} in more.cpp"
    assert finding.expected.startswith(f"{field}={expected} in kernel.cpp")


@OF_EACH
def test_files_that_are_compiled_alike(tmp_path, build):
    assert mixed(tmp_path, build, "").findings == ()


def test_without_names_of_files_the_kinds_are_told(tmp_path):
    report = mixed(tmp_path, next(one for one in BUILDS if one.label == "riscv64-gcc-ld"), "preempt")
    toolchain.run(["llvm-objcopy-19", "--strip-symbol=more.cpp", "--strip-symbol=kernel.cpp", "--wildcard", "--strip-symbol=*.cpp", report.file])
    finding = only(check(report.file), "T11")
    assert (finding.found, finding.expected) == ("features=preempt", "features=none")


def test_without_symbols_it_is_not_judged(tmp_path):
    report = mixed(tmp_path, BUILDS[0], "preempt")
    toolchain.run(["llvm-objcopy-19", "--strip-all", "--keep-section=.note.percpu", report.file])
    report = check(report.file)
    assert "T11" not in rules(report) and "T11" in {item.rule for item in report.not_judged}
