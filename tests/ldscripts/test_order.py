"""Forms that one linker takes and the other does not (T29)."""

from __future__ import annotations

import pytest
import toolchain
from percpu_tools import check, render_fragment

KERNEL = toolchain.KERNEL + toolchain.variable("counter", 1) + toolchain.note(version="0.1.0", arch="x86_64", cache_line=64)


@pytest.mark.parametrize("layout", ["", "non-zero-vma"])
@pytest.mark.parametrize("linker", toolchain.LINKERS)
def test_the_fragment_goes_before_the_main_script(tmp_path, linker, layout):
    fragment = render_fragment(4, "x86_64", layout, linker)
    kernel = toolchain.compile_c(tmp_path, KERNEL)
    before = toolchain.link(tmp_path, [kernel], [fragment, toolchain.HIGHER_HALF], linker=linker)
    assert check(before, cpu_num=4).findings == ()
    behind = toolchain.try_link(tmp_path, [kernel], [toolchain.HIGHER_HALF, fragment], linker=linker, name="behind.elf")
    # Here is why the fragment comes first in every link: one of the linkers is left with no main script otherwise.
    assert (behind.returncode == 0) is (linker == "lld"), behind.stderr


@pytest.mark.parametrize("linker", toolchain.LINKERS)
def test_a_list_of_patterns_is_sorted_one_by_one(tmp_path, linker):
    fragment = render_fragment(4, "x86_64", "", linker)
    one_by_one = "SORT_BY_ALIGNMENT(.percpu) SORT_BY_ALIGNMENT(.percpu.[!.]*)"
    assert one_by_one in fragment
    kernel = toolchain.compile_c(tmp_path, KERNEL)
    together = fragment.replace(one_by_one, "SORT_BY_ALIGNMENT(.percpu .percpu.[!.]*)")
    done = toolchain.try_link(tmp_path, [kernel], [together, toolchain.HIGHER_HALF], linker=linker)
    assert done.returncode != 0 or linker == "lld", "GNU ld takes the shorter form too: it may be used"
