"""The runtime's logic under the address and the undefined-behavior sanitizer, as Linux programs."""

from __future__ import annotations

import re

import pytest
from cxx.build import HERE, link_program
from cxx.test_host import run

SANITIZED = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-DEXPECTED_AREAS=4")
PROGRAMS = [
    ("accessors", ("non-zero-vma",)),
    ("accessors", ("checked", "non-zero-vma")),
    ("areas", ("non-zero-vma",)),
    ("again", ("non-zero-vma", "pristine")),
    ("again", ("checked", "non-zero-vma", "pristine")),
    ("preempt", ("non-zero-vma", "preempt")),
    ("naive", ("sp-naive",)),
]
COMPILERS = pytest.mark.parametrize("compiler, linker", [("gcc", "ld"), ("clang", "lld")])


@pytest.mark.parametrize("program, features", PROGRAMS, ids=lambda value: value if isinstance(value, str) else "+".join(value))
@COMPILERS
def test_nothing_is_found(tmp_path, compiler, linker, program, features):
    source = HERE / "host" / f"{program}.cpp"
    sources = [source]
    if "checked" in features and program == "accessors":
        sources = [tmp_path / "accessors.cpp"]
        panic = 'extern "C" void percpu_panic(const char*) noexcept { __builtin_trap(); }\n'
        sources[0].write_text(f'#include "{source}"\n{panic}')
    done = run(link_program(tmp_path, sources[0], *SANITIZED, compiler=compiler, linker=linker, features=features))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    "old, new, found",
    [
        ("aligned_alloc(layout.alignment, layout.size + 4096)", "aligned_alloc(4096, 2 * layout.size / 3)", "heap-buffer-overflow|insufficient space"),
        ("size_t sum = 0;", "size_t sum = static_cast<size_t>(0 << (count + 40));", "shift exponent 4"),
    ],
    ids=["memory too small", "undefined behavior"],
)
@COMPILERS
def test_a_fault_is_found(tmp_path, compiler, linker, old, new, found):
    text = (HERE / "host" / "areas.cpp").read_text()
    assert text.count(old) == 1
    source = tmp_path / "areas.cpp"
    source.write_text(text.replace(old, new).replace('"check.hpp"', f'"{HERE / "host" / "check.hpp"}"'))
    done = run(link_program(tmp_path, source, *SANITIZED, compiler=compiler, linker=linker))
    assert done.returncode != 0
    # GCC 14 knows how large the memory is, and the one sanitizer is faster than the other.
    assert re.search(found, done.stderr)
