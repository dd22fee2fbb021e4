"""A distribution's Linux: its per-CPU variables and the template, as binutils have them.

`tools/test --vmlinux FILE tests/check/test_vmlinux.py`, with a vmlinux that has its symbols. Debian has one in each
package linux-image-VERSION-dbg (usr/lib/debug/boot, 350 MB).
"""

from __future__ import annotations

import os
import re
import subprocess
from collections import Counter

import pytest
import toolchain
from check.memory import measured, most_memory
from percpu_tools import check

# The limit: of its hundreds of megabytes, a check looks at a few.
MOST_MEMORY = 150 << 20


@pytest.fixture(scope="module")
def vmlinux(request) -> str:
    path = request.config.getoption("--vmlinux")
    if path is None:
        pytest.skip("no vmlinux: name one with --vmlinux FILE or PERCPU_VMLINUX")
    return path


@pytest.fixture(scope="module")
def report(vmlinux):
    return check(vmlinux, profile="linux")


def test_template_as_readelf_and_nm_have_it(vmlinux, report):
    layout = report.layout
    sections = toolchain.run(["readelf", "-SW", vmlinux]).stdout
    number, address, size = re.search(r"\[ *(\d+)\] \.data\.\.percpu +PROGBITS +(\w+) \w+ (\w+)", sections).groups()
    bounds = toolchain.run(["nm", vmlinux]).stdout
    start, end = (
        int(re.search(rf"^(\w+) \w __per_cpu_{name}$", bounds, re.MULTILINE)[1], 16) for name in ("start", "end")
    )
    assert (layout.section.number, layout.section.address, layout.section.size) == (
        int(number),
        int(address, 16),
        int(size, 16),
    )
    assert (layout.load_start, layout.template_size) == (start, end - start)
    # Address 0 on x86_64 up to 6.14, an ordinary one elsewhere and since.
    assert layout.layout == ("zero-vma" if start == 0 else "in-image")


def test_variables_as_readelf_and_nm_have_them(vmlinux, report):
    layout = report.layout
    found = Counter((one.symbol, one.offset + layout.load_start, one.size) for one in layout.variables)
    assert len(found) > 100
    # Num: Value Size Type Bind Vis Ndx Name
    told: Counter[tuple[str, int, int]] = Counter()
    for line in toolchain.run(["readelf", "-sW", vmlinux]).stdout.splitlines():
        words = line.split()
        if (
            len(words) == 8
            and words[6] == str(layout.section.number)
            and words[3] in ("OBJECT", "NOTYPE")
            and words[2] != "0"
        ):
            told[words[7], int(words[1], 16), int(words[2], 0)] += 1
    assert found == told
    by_nm = Counter(
        (words[3], int(words[0], 16), int(words[1], 16))
        for words in map(str.split, toolchain.run(["nm", "-S", vmlinux]).stdout.splitlines())
        if len(words) == 4
    )
    assert found <= by_nm


def test_nothing_is_wrong_with_it(report):
    assert [finding for finding in report.findings if finding.level != "note"] == []


def test_found_out_without_a_profile(vmlinux, report):
    assert check(vmlinux).layout == report.layout._replace(profile_given=False)


def test_memory(vmlinux, tmp_path):
    place = tmp_path / "memory"
    subprocess.run([*measured(place), "--profile", "linux", vmlinux], stdout=subprocess.DEVNULL, check=True)
    assert most_memory(place) < MOST_MEMORY
