"""Linker scripts with the files that they INCLUDE."""

from __future__ import annotations

import pytest
from percpu_tools.errors import PercpuError
from percpu_tools.scriptfiles import included_names, read_script


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


def test_comments_and_texts_include_nothing():
    assert included_names('/* INCLUDE a.ld */ ASSERT(0, "INCLUDE b.ld") INCLUDE c.ld') == ["c.ld"]


def test_a_circle(tmp_path):
    script = tmp_path / "kernel.ld"
    script.write_text("INCLUDE kernel.ld")
    with pytest.raises(PercpuError, match="includes itself"):
        read_script(script, [tmp_path])


def test_a_script_that_cannot_be_read(tmp_path):
    with pytest.raises(PercpuError, match="cannot be read: No such file"):
        read_script(tmp_path / "missing.ld")
