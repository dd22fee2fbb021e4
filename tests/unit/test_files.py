"""Writing results: whole or not at all, through links, several together."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from percpu_tools import PercpuError
from percpu_tools.files import write_atomically, write_together


def test_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    target, link = tmp_path / "real" / "out.ld", tmp_path / "out.ld"
    link.symlink_to("real/out.ld")
    for text in ("made", "written"):
        write_atomically(link, text)
        assert link.is_symlink() and target.read_text() == text
    assert list(target.parent.iterdir()) == [target]


def test_links_that_lead_nowhere(tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to("loop")
    with pytest.raises(PercpuError, match="loop: cannot be written: Too many levels of symbolic links"):
        write_atomically(loop, "text")
    assert loop.is_symlink()
    lost = tmp_path / "lost"
    lost.symlink_to("none/out.ld")
    with pytest.raises(PercpuError, match="lost: cannot be written: No such file or directory"):
        write_atomically(lost, "text")
    assert sorted(tmp_path.iterdir()) == [loop, lost]


@pytest.mark.parametrize("name", ["/dev/fd/1", "/proc/self/fd/1", "link"])
def test_standard_output_by_its_name(tmp_path: Path, name: str) -> None:
    """It is a link to whatever file the shell has opened, which is written to. (/dev/stdout is a link to such a one.)"""
    (tmp_path / "link").symlink_to("/proc/self/fd/1")
    code = "import sys; from percpu_tools.files import write_atomically; write_atomically(sys.argv[1], 'text')"
    command = [sys.executable, "-c", code, name]
    result = tmp_path / "result"
    with result.open("w") as stream:
        opened = os.fstat(stream.fileno()).st_ino
        subprocess.run(command, stdout=stream, check=True, cwd=tmp_path)
    assert result.read_text() == "text" and result.stat().st_ino == opened
    piped = subprocess.run(command, stdout=subprocess.PIPE, check=True, cwd=tmp_path)
    assert piped.stdout == b"text" and (tmp_path / "link").is_symlink()


@pytest.mark.parametrize("second", ["none/out.d", "folder", "/dev/full"])
def test_together_or_not_at_all(tmp_path: Path, second: str) -> None:
    (tmp_path / "folder").mkdir()
    first = tmp_path / "out.ld"
    first.write_text("what was there")
    with pytest.raises(PercpuError, match="cannot be written"):
        write_together({first: "new", tmp_path / second: "new"})
    assert first.read_text() == "what was there"
    assert sorted(tmp_path.iterdir()) == [tmp_path / "folder", first]


def test_together(tmp_path: Path) -> None:
    write_together({tmp_path / "a": "one", tmp_path / "b": "two", Path("/dev/null"): "three"})
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "one", "b": "two"}
