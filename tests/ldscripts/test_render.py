"""percpu-ldscript and the rendered text: what is refused, what is written, what a user may override."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
import toolchain
from percpu_tools import PercpuError, ldscripts, render_fragment, render_template

RENDER = [sys.executable, "-m", "percpu_tools.cli.ldscript", "render"]
INCLUDING = toolchain.HIGHER_HALF.replace("  . = ALIGN(16);\n", "  INCLUDE percpu.ld\n  . = ALIGN(16);\n")


def run(*arguments: str, **options):
    return toolchain.run([*RENDER, *arguments], check=False, **options)


def test_to_standard_output_and_to_a_file(tmp_path):
    target = tmp_path / "percpu.ld"
    shown = run("--cpu-num", "4", "--arch", "x86_64")
    assert shown.returncode == 0
    written = run("--cpu-num", "4", "--arch", "x86_64", "-o", str(target))
    assert (written.returncode, written.stdout) == (0, "")
    assert target.read_text() == shown.stdout == render_fragment(4, "x86_64")
    assert list(tmp_path.iterdir()) == [target], "no temporary file is left"
    assert target.stat().st_mode & 0o444 == 0o444 & ~_umask()


@pytest.mark.parametrize("words", [["preempt,checked"], ["preempt checked"], ["checked", "preempt"]])
def test_features_are_given_as_to_percpu_config(words, tmp_path):
    (tmp_path / "kernel.ld").write_text(INCLUDING)
    for more in ([], ["--script=kernel.ld"], ["--script=kernel.ld", "--mode=include"]):
        done = run("--cpu-num=4", "--arch=x86_64", *(f"--feature={word}" for word in words), *more, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        assert "features    checked preempt\n" in done.stdout


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cpu-num=0"], "CPU_NUM is 0: expected a whole number from 1 to 65536"),
        (["--cpu-num=-1"], "CPU_NUM is -1"),
        (["--cpu-num=1.5"], "CPU_NUM is '1.5'"),
        (["--cpu-num=four"], "CPU_NUM is 'four'"),
        (["--cpu-num="], "CPU_NUM is not set"),
        (["--cpu-num=1000000000"], "CPU_NUM is 1000000000"),
        (["--cpu-num=4", "--arch=mips"], "architecture is 'mips'"),
        (["--cpu-num=4", "--feature=fast"], "feature is 'fast'"),
        (["--cpu-num=4", "--feature=arm-el2"], "feature arm-el2 on x86_64: only aarch64"),
        (["--cpu-num=4", "--linker=gold"], "linker is 'gold': expected one of ld, lld"),
        (["--cpu-num=4", "--mode=append"], "mode is 'append': expected one of insert, include"),
        (["--cpu-num=4", "--cache-line=48"], "the cache line is 48 bytes: expected a power of two"),
        (["--cpu-num=4", "--insert-after=a b"], "the section to insert after is 'a b'"),
        (["--cpu-num=4", "--load-offset=1); EVIL("], "the load offset is '1); EVIL('"),
        (["--cpu-num=4", "--load-offset=(1"], "the load offset is '(1': its parentheses do not match"),
        (["--cpu-num=4", "--load-offset=1 +"], "the load offset is '1 +': there is no value behind '+'"),
        (["--cpu-num=4", "--load-offset=foo bar"], "the load offset is 'foo bar': there is no operator between 'foo' and 'bar'"),
        (["--cpu-num=4", "--templates=/nonexistent/here"], "/nonexistent/here: there is no folder of that name"),
        (["--cpu-num=4", "--templates=/dev/null"], "/dev/null: it is no folder"),
        (["--cpu-num=4", "--templates=/usr"], "/usr: there is no percpu.ld.j2 in that folder"),
        (["--cpu-num=4", "--templates=/nonexistent/here", "--insert-after=;"], "the section to insert after"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(tmp_path, arguments, message):
    target = tmp_path / "percpu.ld"
    target.write_text("what was there")
    done = run("--arch=x86_64", *arguments, "-o", str(target))
    assert (done.returncode, done.stdout) == (2, "")
    first, *mends = done.stderr.splitlines()
    assert first.startswith("percpu-ldscript: ")
    assert message in first
    assert all(mend.startswith("  mend: ") for mend in mends)
    assert target.read_text() == "what was there"
    assert list(tmp_path.iterdir()) == [target]


def test_without_a_cpu_num(tmp_path):
    done = run("--arch", "x86_64", "-o", str(tmp_path / "percpu.ld"))
    assert done.returncode == 2
    assert "--cpu-num" in done.stderr.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there(tmp_path):
    done = run("--cpu-num", "4", "--arch", "x86_64", "-o", str(tmp_path / "none" / "percpu.ld"))
    assert done.returncode == 2
    assert "cannot be written: No such file or directory" in done.stderr


def test_a_depfile_has_the_names_byte_by_byte(tmp_path):
    """Also of a file whose name is no UTF-8."""
    script = os.fsencode(tmp_path) + b"/kernel-\xff.ld"
    with open(script, "w", encoding="utf-8") as stream:
        stream.write(toolchain.HIGHER_HALF)
    depfile = tmp_path / "percpu.ld.d"
    done = run("--cpu-num=4", "--arch=x86_64", f"--script={os.fsdecode(script)}", f"-o{tmp_path / 'percpu.ld'}", f"--depfile={depfile}")
    assert (done.returncode, done.stderr) == (0, "")
    assert depfile.read_bytes().rstrip().endswith(b" " + script)


@pytest.mark.parametrize("depfile", ["a", "./a", "../{folder}/a"])
def test_a_depfile_in_the_place_of_the_fragment(tmp_path, depfile):
    depfile = depfile.format(folder=tmp_path.name)
    done = run("--cpu-num=4", "--arch=x86_64", "-o", "a", "--depfile", depfile, cwd=tmp_path)
    assert done.returncode == 2 and f"--output and --depfile name the same file: {depfile}" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-o", "kernel.ld"], "--output kernel.ld would replace what it is made from"),
        (["-o", "other/../link.ld"], "--output other/../link.ld would replace what it is made from: kernel.ld"),
        (["-o", "other/part.ld"], "--output other/part.ld would replace what it is made from"),
        (["-o", "other/part.ld", "--mode=include"], "--output other/part.ld would replace what it is made from"),
        (["-o", "other/percpu.ld.j2"], "--output other/percpu.ld.j2 would replace what it is made from"),
        (["-o", "percpu.ld", "--depfile=kernel.ld"], "--depfile kernel.ld would replace what --output is made from"),
        (["-o", "percpu.ld", "--depfile=other/percpu.ld.j2"], "--depfile other/percpu.ld.j2 would replace"),
    ],
)
def test_what_it_is_made_from_is_not_replaced(tmp_path, arguments, said):
    (tmp_path / "other").mkdir()
    (tmp_path / "other/percpu.ld.j2").write_text('{% extends "percpu/percpu.ld.j2" %}')
    (tmp_path / "other/part.ld").write_text("page = 4096;\n")
    (tmp_path / "kernel.ld").write_text("INCLUDE part.ld\n" + INCLUDING)
    (tmp_path / "link.ld").symlink_to("kernel.ld")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    done = run("--cpu-num=4", "--arch=x86_64", "--script=kernel.ld", "-L", "other", "--templates=other", *arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    first, *mends = done.stderr.splitlines()
    assert first.startswith(f"percpu-ldscript: {said}") and mends == ["  mend: name a file of its own"]
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("earlier", ["", "an earlier fragment"])
def test_the_fragment_that_the_script_includes_is_rendered_again(tmp_path, earlier):
    """And make is not told that it depends on itself."""
    (tmp_path / "kernel.ld").write_text(INCLUDING.replace("percpu.ld", "our.ld"))
    again = ["--cpu-num=4", "--arch=x86_64", "--mode=include", "--script=kernel.ld", "-o", "our.ld", "--depfile=our.d"]
    (tmp_path / "our.ld").write_text(earlier and run(*again[:3]).stdout)
    done = run(*again, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "our.d").read_text().split() == ["our.ld:", str(ldscripts() / "percpu.ld.j2"), "kernel.ld"]


def test_two_streams_may_be_one():
    command = [*RENDER, "--cpu-num=4", "--arch=x86_64", "-o", "/dev/stdout", "--depfile=/dev/stderr"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
    assert done.returncode == 0 and "/dev/stdout: " in done.stdout


def test_nothing_is_replaced_where_the_depfile_cannot_be_written(tmp_path):
    target = tmp_path / "percpu.ld"
    target.write_text("what was there")
    depfile = tmp_path / "none" / "percpu.ld.d"
    done = run("--cpu-num=4", "--arch=x86_64", "-o", str(target), f"--depfile={depfile}")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"percpu-ldscript: {depfile}: cannot be written: No such file or directory\n"
    assert target.read_text() == "what was there"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("linker", ["ld", "lld"])
@pytest.mark.parametrize("mode", ["insert", "include"])
@pytest.mark.parametrize("features", [[], ["non-zero-vma"], ["sp-naive"]])
def test_the_header_names_what_it_was_rendered_from(linker, mode, features):
    text = render_fragment(8, "riscv64", [*features, "preempt"], linker, mode, cache_line=128, load_offset="OFFSET", insert_after=".sdata")
    header = text[: text.index("*/")]
    for line in ("CPU_NUM     8", f"linker      {linker}", "cache line  128 bytes", "near reach  2048 bytes", "load offset OFFSET"):
        assert line in header
    assert f"mode        {mode}" in header
    assert " ".join(sorted([*features, "preempt"])) in header
    assert "for riscv64" in header
    assert ("INSERT AFTER .sdata;" in text) == (mode == "insert")
    assert ("INSERT" in text) == (mode == "insert")
    if mode == "include":
        assert "INCLUDE percpu.ld" in header
        assert "SECTIONS\n{" not in text


def test_rendering_depends_on_its_arguments_alone():
    assert render_fragment(4, "x86_64") == render_fragment("4", "x86_64", "", "ld", "insert", None, None, ".data")


def test_a_folder_of_the_users_overrides_one_block(tmp_path):
    (tmp_path / "percpu.ld.j2").write_text(
        '{% extends "percpu/percpu.ld.j2" %}\n'
        "{% block extra_sections %}\n  .mine : { *(.mine.{{ cpu_num }}) }\n{% endblock %}\n"
    )
    ours = render_fragment(4, "x86_64")
    theirs = render_fragment(4, "x86_64", templates=tmp_path)
    added = set(theirs.splitlines()) - set(ours.splitlines())
    assert added == {"  .mine : { *(.mine.4) }"}
    assert set(ours.splitlines()) <= set(theirs.splitlines())


@pytest.mark.parametrize("words", ["", "non-zero-vma", "sp-naive"])
@pytest.mark.parametrize("linker", toolchain.LINKERS)
def test_an_assert_of_the_users_is_evaluated(tmp_path, linker, words):
    template = tmp_path / "percpu.ld.j2"
    kernel = toolchain.compile_c(tmp_path, toolchain.KERNEL + toolchain.variable("x", 1))
    for small, expected in ((4, 0), (3, 1)):
        template.write_text(
            '{% extends "percpu/percpu.ld.j2" %}\n'
            f'{{% block extra_asserts %}}\nASSERT(SIZEOF(.percpu) <= {small}, "ERROR: mine")\n{{% endblock %}}\n'
        )
        fragment = render_fragment(4, "x86_64", words, linker, templates=tmp_path)
        done = toolchain.try_link(tmp_path, [kernel], [fragment, toolchain.HIGHER_HALF], linker=linker)
        assert done.returncode == expected, done.stderr
        assert ("ERROR: mine" in done.stderr) == bool(expected)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fine\n{% if %}\n", ":2: Expected an expression, got 'end of statement block'"),
        ("\n{{ missing }}", ":2: 'missing' is undefined"),
        ("{{ cpu_num.half }}", ":1: 'int object' has no attribute 'half'"),
        ('{% extends "none.ld.j2" %}', ":1: there is no template 'none.ld.j2' in "),
        ('{% include "../percpu.ld.j2" %}', ":1: there is no template '../percpu.ld.j2' in "),
        ('{% include "/etc/passwd" %}', ":1: there is no template '/etc/passwd' in "),
        ("fine\n{{ 1/0 }}", ":2: ZeroDivisionError: division by zero"),
        ('{{ "%d" % "x" }}', ":1: TypeError: %d format: a "),
        ("{% macro one(a) %}{% endmacro %}\n\n{{ one(1, 2) }}", ":3: TypeError: macro 'one' takes not more than 1 argument"),
        ('{% extends "percpu/percpu.ld.j2" %}\n{% block extra_sections %}\n{{ 1/0 }}{% endblock %}', ":3: ZeroDivisionError"),
        ("fine\n\xff\n", ":2: it is not UTF-8 text"),
        ('\n{% extends "percpu.ld.j2" %}', ":2: the template takes itself in, without end"),
        ('{% include "percpu.ld.j2" %}', ":1: the template takes itself in, without end"),
        ("{% macro one() %}\n{{ one() }}{% endmacro %}{{ one() }}", ":2: it calls itself, without end"),
    ],
)
def test_mistakes_in_a_users_template_are_named(tmp_path, text, message):
    template = tmp_path / "percpu.ld.j2"
    template.write_text(text, encoding="latin-1")
    target = tmp_path / "percpu.ld"
    done = run("--cpu-num=4", "--arch=x86_64", f"--templates={tmp_path}", "-o", str(target))
    first, *mends = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (2, "")
    assert first.startswith(f"percpu-ldscript: {template}{message}")
    takes_itself = "takes itself" in message
    assert mends == ['  mend: write {% extends "percpu/percpu.ld.j2" %} for the template of percpu'] * takes_itself
    assert not target.exists()


def test_the_template_with_the_mistake_is_named(tmp_path):
    """It need not be the one that was asked for."""
    (tmp_path / "board.ld.j2").write_text('{% include "part.ld.j2" %}')
    part = tmp_path / "part.ld.j2"
    for text, message in ((b"\n{{ 1/0 }}", ":2: ZeroDivisionError"), (b"\xff", ":1: it is not UTF-8 text")):
        part.write_bytes(text)
        with pytest.raises(PercpuError, match=f"^{re.escape(str(part))}{message}"):
            render_template(tmp_path / "board.ld.j2", 4, "x86_64")
    with pytest.raises(PercpuError, match="there is no template 'none.ld.j2' in "):
        render_template(tmp_path / "none.ld.j2", 4, "x86_64")


def test_a_template_that_cannot_be_read(tmp_path):
    # Not even by root, whom no mode of a file stops: nothing lies at address 0 of a process.
    (tmp_path / "percpu.ld.j2").symlink_to("/proc/self/mem")
    with pytest.raises(PercpuError, match="percpu.ld.j2: cannot be read: Input/output error"):
        render_fragment(4, "x86_64", templates=tmp_path)


@pytest.mark.parametrize("linker", toolchain.LINKERS)
def test_a_whole_script_from_a_template(tmp_path, linker):
    template = tmp_path / "board.ld.j2"
    template.write_text(
        toolchain.HIGHER_HALF.replace("0x100000", "{{ base }}")
        .replace("  . = ALIGN(16);\n", '{% include "percpu.ld.j2" %}\n  . = ALIGN(16);\n')
    )
    text = render_template(template, 4, "x86_64", linker=linker, variables={"base": "2M"})
    kernel = toolchain.compile_c(tmp_path, toolchain.KERNEL + toolchain.variable("x", 1))
    toolchain.link(tmp_path, [kernel], [text], linker=linker)
    with pytest.raises(PercpuError, match="template variable 'cpu_num' is percpu's own"):
        render_template(template, 4, "x86_64", variables={"cpu_num": 5})


@pytest.mark.parametrize("linker", toolchain.LINKERS)
def test_the_macro_is_the_fragment(tmp_path, linker):
    def rendered(before, fragment):
        template = tmp_path / "board.ld.j2"
        template.write_text(before + toolchain.HIGHER_HALF.replace("  . = ALIGN(16);\n", f"{fragment}\n  . = ALIGN(16);\n"))
        lines = render_template(template, 4, "x86_64", "pristine", linker).splitlines()
        return [line for line in lines if line]

    importing = '{% from "percpu/macro.ld.j2" import percpu with context %}\n'
    assert rendered(importing, "{{ percpu() }}") == rendered("", '{% include "percpu.ld.j2" %}')
    # Also where a block of it is overridden.
    override = "{% block extra_sections %}  .mine : { mine = .; }\n{% endblock %}\n"
    (tmp_path / "percpu.ld.j2").write_text('{% extends "percpu/percpu.ld.j2" %}\n' + override)
    assert "  .mine : { mine = .; }" in rendered(importing, "{{ percpu() }}")
