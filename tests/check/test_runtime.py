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


PLACE = "  INCLUDE percpu.ld\n"
# At low addresses, where code for either layout links.
SCRIPT = toolchain.HIGHER_HALF.replace("  . = ALIGN(16);\n", f"{PLACE}  . = ALIGN(16);\n").replace("0xffffffff80000000", "0").replace("_start)", "kernel_entry)", 1)
TAKEN = {
    "by a section for notes": ("  . = ALIGN(4096);\n", "  .notes : AT(ADDR(.notes) - KERNEL_VMA) { KEEP(*(.note.*)) }\n  . = ALIGN(4096);\n"),
    "by one with other things": (
        "  . = ALIGN(4096);\n", "  .mynotes : AT(ADDR(.mynotes) - KERNEL_VMA) { LONG(7) LONG(7) KEEP(*(.note.*)) }\n  . = ALIGN(4096);\n"
    ),
    "by the constants": ("*(.rodata .rodata.*)", "*(.rodata .rodata.* .note.*)"),
}
LOST = {
    "by the code": ("*(.text .text.*)", "*(.text .text.* .note.*)"),
    "discarded": ("  . = ALIGN(4096);\n", "  /DISCARD/ : { *(.note.*) }\n  . = ALIGN(4096);\n"),
}


def link_runtime(folder: Path, linker: str, taken: tuple[str, str]) -> Path:
    """A kernel with the runtime for the zero-VMA layout, linked with the fragment for the other one, which is included."""
    (folder / "percpu.ld").write_text(render_fragment(3, "x86_64", "non-zero-vma", linker, "include"))
    objects = []
    for source in (KERNEL / "kernel.cpp", KERNEL / "events.cpp", *sources()):
        objects.append(folder / f"{source.stem}.o")
        toolchain.run(["g++", *FLAGS, f"-I{includes()}", "-c", str(source), "-o", str(objects[-1])])
    return toolchain.link(folder, objects, [SCRIPT.replace(*taken, 1)], linker=linker)


@pytest.mark.parametrize("taken", TAKEN.values(), ids=TAKEN)
@pytest.mark.parametrize("linker", sorted(toolchain.LINKERS))
def test_a_note_that_the_script_takes_elsewhere_is_found(tmp_path, linker, taken):
    report = check(link_runtime(tmp_path, linker, taken))
    assert "built for the zero-vma layout" in next(finding.message for finding in report.findings if finding.rule == "T11")
    assert not [item for item in report.not_judged if item.rule == "T11"]


@pytest.mark.parametrize("lost", LOST.values(), ids=LOST)
@pytest.mark.parametrize("linker", sorted(toolchain.LINKERS))
def test_a_runtime_without_its_note_is_said(tmp_path, linker, lost):
    report = check(link_runtime(tmp_path, linker, lost))
    assert report.layout.note is None
    assert [item.reason.split(":")[0] for item in report.not_judged if item.rule == "T11"] == ["whether the script suits the runtime"]
