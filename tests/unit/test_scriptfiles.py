"""Linker scripts with the files that they INCLUDE."""

from __future__ import annotations

import pytest
from percpu_tools.errors import PercpuError
from percpu_tools.scriptfiles import included_names, read_script
from percpu_tools.scriptsyntax import tokens_of


def test_includes_are_read_in_their_places(tmp_path):
    (tmp_path / "folder").mkdir()
    script = tmp_path / "kernel.ld"
    script.write_text('SECTIONS { INCLUDE one.ld INCLUDE "two.ld"; }')
    (tmp_path / "folder/one.ld").write_text(".one : {} INCLUDE deep.ld")
    (tmp_path / "folder/two.ld").write_text(".two : {}")
    (tmp_path / "folder/deep.ld").write_text(".deep : {}")
    read = read_script(script, [tmp_path / "folder"])
    assert read.text == "SECTIONS { .one : {} .deep : {} .two : {} }"
    assert [path.name for path in read.files] == ["kernel.ld", "one.ld", "deep.ld", "two.ld"]


def test_what_is_not_there_stays(tmp_path):
    script = tmp_path / "kernel.ld"
    script.write_text("SECTIONS { INCLUDE percpu.ld }")
    assert read_script(script).text == "SECTIONS { INCLUDE percpu.ld }"
    # Builds touch what they are going to make.
    (tmp_path / "percpu.ld").write_text("\n")
    read = read_script(script, [tmp_path])
    assert read.text == "SECTIONS { INCLUDE percpu.ld }"
    assert read.files == [script, tmp_path / "percpu.ld"]


def test_comments_and_texts_include_nothing():
    assert included_names('/* INCLUDE a.ld */ ASSERT(0, "INCLUDE b.ld") INCLUDE c.ld') == ["c.ld"]
    assert included_names('# INCLUDE a.ld\n/* # */ INCLUDE b.ld#INCLUDE c.ld "\nASSERT(0, "#") INCLUDE d.ld') == ["b.ld", "d.ld"]


def test_a_comment_ends_with_its_file(tmp_path):
    script = tmp_path / "kernel.ld"
    script.write_text("SECTIONS { INCLUDE one.ld .two : {} }")
    (tmp_path / "one.ld").write_text(".one : {} # the end")
    assert tokens_of(read_script(script, [tmp_path]).text) == tokens_of("SECTIONS { .one : {} .two : {} }")


def test_a_circle(tmp_path):
    script = tmp_path / "kernel.ld"
    script.write_text("INCLUDE kernel.ld")
    with pytest.raises(PercpuError, match="includes itself"):
        read_script(script, [tmp_path])


def test_a_script_that_cannot_be_read(tmp_path):
    with pytest.raises(PercpuError, match="cannot be read: No such file"):
        read_script(tmp_path / "missing.ld")
