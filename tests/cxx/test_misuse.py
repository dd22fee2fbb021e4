"""Each file in misuse/ has one mistake, which its name tells; its first line is the message to expect, or to expect first."""

from __future__ import annotations

import re

import pytest
from cxx.build import COMPILERS, FREESTANDING, HERE, compile_object

MISUSES = sorted((HERE / "misuse").glob("*.cpp"))


@pytest.mark.parametrize("compiler", COMPILERS.values(), ids=COMPILERS)
@pytest.mark.parametrize("source", MISUSES, ids=lambda path: path.stem)
def test_misuse_is_refused_in_words(tmp_path, compiler, source):
    which, expected = source.read_text().splitlines()[0].removeprefix("// expect").split(": ", 1)
    flags = ("-Wall", "-Wextra", "-Wconversion", "-Werror", "-fno-pic", *FREESTANDING)
    done = compile_object([compiler], source, tmp_path / "misuse.o", *flags)
    assert done.returncode != 0, "it compiles"
    if which:
        first = re.search(r"error: (.*)", done.stderr)
        assert first and re.search(expected, first[1]), done.stderr
    assert re.search(f"(error|note): .*({expected})", done.stderr) or re.search(expected, done.stderr), done.stderr
