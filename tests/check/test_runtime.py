"""Kernels made with the runtime and the fragment: judged without a finding, and described as they were built."""

from __future__ import annotations

from pathlib import Path

import pytest
import toolchain
from percpu_tools import __version__, check, includes, render_fragment, sources, targets

KERNEL = Path(__file__).parents[1] / "scons" / "kernel"
FLAGS = ("-std=c++20", "-O2", "-ffreestanding", "-fno-exceptions", "-fno-rtti", "-mno-red-zone", "-fno-stack-protector", "-fno-pic")


@pytest.mark.parametrize("words", ["", "non-zero-vma", "sp-naive"])
@pytest.mark.parametrize("linker", sorted(toolchain.LINKERS))
@pytest.mark.parametrize("compiler", ["g++", "clang++-19"])
def test_a_kernel_of_ours(tmp_path, compiler, linker, words):
    features = targets.parse_features(words, "x86_64")
    objects = []
    for source in (KERNEL / "kernel.cpp", KERNEL / "events.cpp", *sources()):
        objects.append(tmp_path / f"{source.stem}.o")
        defines = [f"-D{name}" for name in features.defines]
        toolchain.run([compiler, *FLAGS, *defines, f"-I{includes()}", "-c", str(source), "-o", str(objects[-1])])
    fragment = render_fragment(3, "x86_64", features.words, linker)
    # GNU ld warns that a script without alignment makes segments both writable and executable; lld does not know the option.
    quiet = ["--no-warn-rwx-segments"] if linker == "ld" else []
    path = toolchain.link(tmp_path, objects, [fragment, (KERNEL / "kernel.ld").read_text()], *quiet, linker=linker)

    report = check(path, cpu_num=None if features.layout == "none" else 3)
    assert report.findings == ()
    assert {"cpu_id", "events_seen"} <= {variable.name for variable in report.layout.variables}
    assert report.layout.layout == features.layout
    assert report.layout.cpu_num == (1 if features.layout == "none" else 3)
    note = report.layout.note
    assert (note.version, note.arch, note.layout, note.features) == (__version__, "x86_64", features.layout, features.names)
    assert (note.base_register, note.cache_line, note.near_reach) == ("gs", 64, 0)
