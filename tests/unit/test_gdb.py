"""What the GDB extension works out by itself; tests/boot/test_gdb.py runs it in GDB."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import elftools
import percpu_tools
import pytest
import toolchain
from hypothesis import given
from hypothesis import strategies as st
from percpu_tools.gdb import areas, table
from percpu_tools.gdb.areas import Areas

PACKAGE = Path(percpu_tools.__file__).parent


@pytest.mark.parametrize(("word", "little_endian"), [(4, True), (4, False), (8, True), (8, False)])
def test_areas_as_they_lie_in_memory(word, little_endian):
    order = "little" if little_endian else "big"
    memory = b"".join(number.to_bytes(word, order) for number in (0x40201000, 0x80, 4))
    assert len(memory) == areas.size_of_words(word)
    assert areas.from_words(memory, word, little_endian) == Areas(0x40201000, 0x80, 4)
    assert areas.from_words(bytes(word) + memory[word:], word, little_endian) is None


@given(
    base=st.integers(0, 2**64 - 2**30),
    stride=st.integers(1, 2**14),
    count=st.integers(1, 65536),
    into=st.integers(0, 2**14),
)
def test_an_address_is_of_the_cpu_whose_area_begins_there(base, stride, count, into):
    made = Areas(base, stride, count)
    assert made.cpu_at(made.address(count - 1)) == count - 1
    assert made.cpu_at(made.address(count)) is None
    assert made.cpu_at(base - stride) is None
    address = made.address(count // 2) + into % stride
    assert made.cpu_at(address) == (count // 2 if into % stride == 0 else None)


def test_equal_neighbors_share_a_line():
    assert table.runs([]) == []
    assert table.runs("aabca") == [(0, 1), (2, 2), (3, 3), (4, 4)]
    assert [table.cpus(*run) for run in table.runs("aabbb")] == ["0-1", "2-4"]
    assert table.cpus(7, 7) == "7"


def test_the_table():
    rows = [
        ("0x0", "id", "int", "0", "0"),
        ("0x0", "id", "int", "1-3", "5"),
        ("0x10", "app::pair", "Pair [2]", "0-3", "{1, 2}"),
    ]
    assert table.render(rows).splitlines() == [
        "offset  variable   type      CPU  value",
        "0x0     id         int       0    0",
        "                             1-3  5",
        "0x10    app::pair  Pair [2]  0-3  {1, 2}",
    ]


def test_a_long_value_is_shortened():
    assert table.shortened("a\nb") == "a b"
    assert table.shortened("x" * table.LONGEST_VALUE) == "x" * table.LONGEST_VALUE
    assert table.shortened("x" * 101) == "x" * 97 + "..."


def test_it_needs_nothing_but_the_standard_library_and_pyelftools(tmp_path):
    """GDB's Python has no other packages; GDB's own module is there only in GDB."""
    (tmp_path / "elftools").symlink_to(Path(elftools.__file__).parent)
    imported = [node for file in (PACKAGE / "gdb").glob("*.py") for node in ast.walk(ast.parse(file.read_text()))]
    modules = {name.name for node in imported if isinstance(node, ast.Import) for name in node.names}
    modules |= {node.module for node in imported if isinstance(node, ast.ImportFrom)}
    ours = sorted(
        module for module in modules if module.startswith("percpu_tools") and module != "percpu_tools.gdb.kernel"
    )
    assert "percpu_tools.layout" in ours
    code = f"import sys; sys.path += {[str(PACKAGE.parent), str(tmp_path)]!r}; import {', '.join(ours)}"
    isolated = [sys.executable, "-I", "-S", "-c", code]
    assert toolchain.run(isolated).returncode == 0
    others = {module.partition(".")[0] for module in modules} - {"percpu_tools", "gdb"}
    # Where the standard library lies, and nothing else: sys.stdlib_module_names came with Python 3.10.
    found = [sys.executable, "-I", "-S", "-c", f"import {', '.join(sorted(others))}"]
    assert toolchain.run(found).returncode == 0
