"""Standard output that is full or closed: one line and exit status 2, from each command and each way to print."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import toolchain

RENDER = ("ldscript", "render", "--cpu-num=4", "--arch=x86_64")
PRINTING = {
    "report": ("check", "kernel.elf"),
    "json": ("check", "--format=json", "kernel.elf"),
    "html": ("check", "--format=html", "kernel.elf"),
    "rules": ("check", "--list-rules"),
    "explain": ("check", "--explain=T05"),
    "version": ("check", "--version"),
    "help": ("check", "--help"),
    "fragment": RENDER,
    "help-of-a-subcommand": ("ldscript", "render", "--help"),
    "sources": ("config", "--sources"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("streams")
    toolchain.link(place, [toolchain.compile_c(place, toolchain.KERNEL)], [toolchain.HIGHER_HALF])
    return place


def run(
    folder: Path, words: tuple[str, ...], redirection: str, buffered: bool = True, **more: str
) -> subprocess.CompletedProcess[str]:
    """A command through the shell, which can close a stream."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "" if buffered else "1", **more}
    module, *arguments = words
    command = (sys.executable, "-m", f"percpu_tools.cli.{module}", *arguments)
    return toolchain.run(
        ["sh", "-c", f'"$@" {redirection}', "sh", *command], check=False, cwd=folder, env=environment
    )


@pytest.mark.parametrize("buffered", [True, False], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize("words", PRINTING.values(), ids=PRINTING)
def test_full(folder: Path, words: tuple[str, ...], buffered: bool) -> None:
    done = run(folder, words, ">/dev/full", buffered)
    message = f"percpu-{words[0]}: standard output cannot be written: No space left on device\n"
    assert (done.returncode, done.stderr) == (2, message)


@pytest.mark.parametrize("words", PRINTING.values(), ids=PRINTING)
def test_closed(folder: Path, words: tuple[str, ...]) -> None:
    done = run(folder, words, ">&-")
    assert (done.returncode, done.stderr) == (2, f"percpu-{words[0]}: standard output cannot be written: it is closed\n")


@pytest.mark.parametrize("words", [("check", "kernel.elf"), RENDER], ids=["check", "ldscript"])
@pytest.mark.parametrize("redirection", [">&-", ">/dev/full"])
def test_it_does_not_matter_to_who_writes_a_file(folder: Path, words: tuple[str, ...], redirection: str) -> None:
    done = run(folder, (*words, "-o", "result"), redirection)
    assert (done.returncode, done.stderr) == (0, "")
    (folder / "result").unlink()


@pytest.mark.parametrize("words", PRINTING.values(), ids=PRINTING)
def test_a_reader_that_goes_away(folder: Path, words: tuple[str, ...]) -> None:
    done = run(folder, words, "| true")
    assert done.stderr == ""


def test_an_encoding_without_the_letters(folder: Path) -> None:
    (folder / "own").mkdir()
    (folder / "own" / "percpu.ld.j2").write_text("/* größer */\n", encoding="utf-8")
    words = (*RENDER, "--templates=own")
    done = run(folder, words, "", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        "percpu-ldscript: standard output cannot be written: its encoding, ascii, has no '\\xf6'",
        "  mend: set PYTHONIOENCODING=utf-8",
    ]
    assert run(folder, words, "", PYTHONIOENCODING="utf-8").stdout == "/* größer */\n"


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full"])
@pytest.mark.parametrize("words", [("check", "none.elf"), ("check", "--none"), ("config",)], ids=" ".join)
def test_a_message_that_nobody_gets(folder: Path, words: tuple[str, ...], redirection: str) -> None:
    done = run(folder, words, redirection)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "")
