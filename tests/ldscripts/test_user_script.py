"""percpu-ldscript with the user's own script: where to insert, and what the fragment was made from."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import percpu_tools
import pytest
import toolchain

RENDER = [sys.executable, "-m", "percpu_tools.cli.ldscript", "render", "--cpu-num=4", "--arch=x86_64"]
SCRIPT = "SECTIONS { .text : { *(.text) } .data : { *(.data) } INCLUDE more.ld .bss : { *(.bss) } }\n"
MAKEFILE = "my\\ percpu.ld:\n\t@echo render\n-include percpu.ld.d\n"


def run(*arguments: str, cwd: Path, check: bool = True):
    return toolchain.run([*RENDER, *arguments], cwd=cwd, check=check)


@pytest.fixture
def scripts(tmp_path) -> Path:
    (tmp_path / "kernel one.ld").write_text(SCRIPT)
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "more.ld").write_text(".late : { *(.late) }\n")
    return tmp_path


def test_it_finds_the_section_to_insert_after(scripts):
    assert "INSERT AFTER .data;" in run("--script=kernel one.ld", cwd=scripts).stdout
    assert "INSERT AFTER .late;" in run("--script=kernel one.ld", "-L", "parts", cwd=scripts).stdout
    assert "INSERT AFTER" not in run("--script=kernel one.ld", "--mode=include", cwd=scripts).stdout


def test_make_renders_again_when_a_part_has_changed(scripts):
    (scripts / "Makefile").write_text(MAKEFILE)
    arguments = ("--script=kernel one.ld", "-L", "parts", "-o", "my percpu.ld", "--depfile=percpu.ld.d")
    run(*arguments, cwd=scripts)
    make = ["make", "-s", "my percpu.ld"]
    assert "render" not in toolchain.run(make, cwd=scripts).stdout
    for part in ("kernel one.ld", "parts/more.ld"):
        later = (scripts / "my percpu.ld").stat().st_mtime + 5
        os.utime(scripts / part, (later, later))
        assert toolchain.run(make, cwd=scripts).stdout == "render\n"
        os.utime(scripts / part, (0, 0))
        assert toolchain.run(make, cwd=scripts).stdout == ""
    assert str(percpu_tools.ldscripts() / "percpu.ld.j2") in (scripts / "percpu.ld.d").read_text()


def test_a_template_of_the_users_counts(scripts):
    (scripts / "own").mkdir()
    arguments = ("--templates=own", "-o", "percpu.ld", "--depfile=percpu.ld.d")
    (scripts / "own" / "percpu.ld.j2").write_text('{% extends "percpu/percpu.ld.j2" %}')
    run(*arguments, cwd=scripts)
    depends = (scripts / "percpu.ld.d").read_text().split()
    assert depends == ["percpu.ld:", "own/percpu.ld.j2", str(percpu_tools.ldscripts() / "percpu.ld.j2")]


def test_segments_by_hand_are_refused_before_the_link(scripts):
    (scripts / "kernel.ld").write_text(f"PHDRS {{ all PT_LOAD; }}\n{SCRIPT}")
    for mode in ("insert", "include"):
        done = run("--script=kernel.ld", f"--mode={mode}", "-o", "out.ld", cwd=scripts, check=False)
        assert done.returncode == 2 and "kernel.ld has PHDRS: the zero-VMA template" in done.stderr
        assert not (scripts / "out.ld").exists()
    run("--script=kernel.ld", "--mode=include", "--feature=non-zero-vma", cwd=scripts)


def test_a_script_that_does_not_include_the_fragment(scripts):
    bare = toolchain.HIGHER_HALF
    (scripts / "kernel.ld").write_text(f"# INCLUDE percpu.ld\n/* INCLUDE percpu.ld */ /* _percpu_start */\n{bare}")
    done = run("--script=kernel.ld", "--mode=include", "-o", "percpu.ld", cwd=scripts, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    first, *mends = done.stderr.splitlines()
    assert first == "percpu-ldscript: kernel.ld does not bring the fragment: there is no INCLUDE percpu.ld in it, which the mode include goes by"
    assert mends == [
        "  mend: write INCLUDE percpu.ld in SECTIONS, behind .data and before .bss",
        "  mend: use the mode insert (PERCPU_MODE, --mode)",
    ]
    assert not (scripts / "percpu.ld").exists()
    # With another script that does, with a file of which nobody knows what it has, and by hand.
    (scripts / "front.ld").write_text("SECTIONS { .front : { *(.front) } INCLUDE our.ld }\n")
    run("--script=kernel.ld", "--script=front.ld", "--mode=include", cwd=scripts)
    (scripts / "our.ld").write_text("\n")
    run("--script=kernel.ld", "--script=front.ld", "--mode=include", cwd=scripts)
    (scripts / "kernel.ld").write_text(bare.replace("  . = ALIGN(16);\n", "  _percpu_cpu_num = 4;\n"))
    run("--script=kernel.ld", "--mode=include", cwd=scripts)
    # A template, before it is rendered; and MEMORY alone has no place for it.
    (scripts / "kernel.ld").write_text(bare.replace("  . = ALIGN(16);\n", '{% include "percpu.ld.j2" %}\n'))
    run("--script=kernel.ld", "--mode=include", cwd=scripts)
    (scripts / "kernel.ld").write_text("MEMORY { RAM : ORIGIN = 0, LENGTH = 1M }\n")
    run("--script=kernel.ld", "--mode=include", "--region=RAM", "--feature=non-zero-vma", cwd=scripts)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--script=nowhere.ld"], "nowhere.ld: cannot be read"),
        (["--script=parts/more.ld"], "parts/more.ld has no SECTIONS"),
        (["--script=kernel one.ld", "--insert-after=.data"], "not allowed with argument"),
        (["--depfile=percpu.ld.d"], "--depfile says what --output was made from"),
    ],
)
def test_what_is_refused(scripts, arguments, message):
    done = run(*arguments, cwd=scripts, check=False)
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr
