"""Reading link commands: the program, the scripts in the linker's order, the folders."""

from __future__ import annotations

import pytest
from percpu_tools import linkcommand


@pytest.mark.parametrize(("command", "program", "is_linker"), [
    ("g++ -o x", ["g++"], False),
    ("ccache g++ -o x", ["ccache", "g++"], False),
    ("ld -o x", ["ld"], True),
    ("/usr/bin/riscv64-unknown-elf-ld.bfd", ["/usr/bin/riscv64-unknown-elf-ld.bfd"], True),
    ("ld.lld-19 -m elf_x86_64", ["ld.lld-19"], True),
    ("build -o x", ["build"], False),
    ("g++ main.o -o x", ["g++"], False),
    ("ld main.o lib.a", ["ld"], True),
    ("clang++-19 -fuse-ld=lld", ["clang++-19"], False),
])
def test_program(command, program, is_linker):
    parsed = linkcommand.parse(command.split())
    assert (list(parsed.program), parsed.is_linker) == (program, is_linker)


@pytest.mark.parametrize(("command", "scripts"), [
    ("g++ -T a.ld", ["a.ld"]),
    ("g++ -Ta.ld", ["a.ld"]),
    ("g++ -Wl,-T,a.ld", ["a.ld"]),
    ("g++ -Wl,-Ta.ld", ["a.ld"]),
    ("g++ -Wl,-T a.ld", ["a.ld"]),
    ("g++ -Wl,--script=a.ld", ["a.ld"]),
    ("g++ -Wl,--script,a.ld", ["a.ld"]),
    ("g++ -Xlinker -T -Xlinker a.ld", ["a.ld"]),
    ("ld -T a.ld", ["a.ld"]),
    ("ld --script a.ld -T b.ld", ["a.ld", "b.ld"]),
    # A compiler hands on its own -T behind everything that -Wl says, wherever it stands.
    ("g++ -T a.ld -Wl,-T,b.ld", ["b.ld", "a.ld"]),
    # These place sections, or are the value of another option.
    ("g++ -Ttext=0x1000 -Wl,-Tdata,0x2000 -Ttext-segment=0 -Tbss 0x3000", []),
    ("g++ -o -T x.o", []),
    # A default script is read behind the others.
    ("g++ -Wl,-dT,b.ld -T a.ld", ["a.ld", "b.ld"]),
    ("g++ -Wl,--default-script=b.ld -Wl,-T,a.ld", ["a.ld", "b.ld"]),
    ("g++ -T", []),
    ("g++ -Wl,-T", []),
])
def test_scripts(command, scripts):
    assert linkcommand.parse(command.split()).scripts == scripts


def test_search_folders():
    command = "g++ -Lone -L two -Wl,-L,three -Wl,--library-path=four"
    assert sorted(linkcommand.parse(command.split()).search_folders) == ["four", "one", "three", "two"]


def test_response_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "one.rsp").write_text("-nostdlib @two.rsp '-Lwith space'\n")
    (tmp_path / "two.rsp").write_text("-T a.ld\n@one.rsp\n")
    command = linkcommand.parse(["g++", "@one.rsp", "@missing.rsp"])
    assert command.scripts[0] == "a.ld"
    assert command.search_folders[0] == "with space"
    assert command.flags[-1] == "@missing.rsp"


def test_no_program():
    assert linkcommand.parse(["-T", "a.ld"]).program == ()


def test_nothing():
    empty = linkcommand.parse([])
    assert (empty.program, empty.is_linker, empty.scripts) == ((), False, [])
