"""No update of a per-CPU variable is lost where threads are interrupted anywhere and moved between CPUs.

`tools/test tests/torture --updates 10000000 -s` makes 10 million in each kernel and prints the figures.
"""

from __future__ import annotations

import pytest
from matrix import TORTURED, Variant
from torture.updates import build, torture

FEW = 100_000


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "tortured" in metafunc.fixturenames:
        every = metafunc.config.getoption("--updates") is not None
        rows = [row for row in TORTURED if every or row.default]
        metafunc.parametrize("tortured", rows, ids=lambda row: row.name)


def test_no_update_is_lost_but_without_the_measures(tortured: Variant, pytestconfig: pytest.Config) -> None:
    wanted = pytestconfig.getoption("--updates") or FEW
    result = torture(tortured, build([tortured])[tortured], wanted)
    print(f"\n{result}")
    assert not result.problems, "\n".join(result.problems)
    assert result.whole.made >= wanted
