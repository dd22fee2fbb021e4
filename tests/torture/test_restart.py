"""A sequence that is interrupted at any of its instructions happens as a whole, after the interrupt."""

from __future__ import annotations

import pytest
from boot.boards import BOARDS
from boot.conftest import scons
from matrix import MATRIX, Variant
from torture.gdb import debug

# Near and far, in either layout, with each compiler; how areas are made and who boots does not matter here.
ROWS = [
    row
    for row in MATRIX
    if "restartable" in row.features and row.opt == "-O2" and not row.mode and "preempt" not in row.features
]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.config.getoption("--matrix"):
        rows = ROWS
    else:
        rows = list({row.arch: row for row in reversed(ROWS)}.values())
    metafunc.parametrize("row", rows, ids=lambda row: row.name)


def test_every_instruction_may_be_interrupted(row: Variant) -> None:
    kernel = scons(f"VARIANTS={row.name}", folder="build/matrix").kernel(row, "restart")
    fixed = debug(BOARDS[row.board], kernel, "main(fix=True)")
    assert fixed["wrong"] == []

    # Left where it was, a sequence that has loaded the variable already stores over the handler's change.
    unfixed = debug(BOARDS[row.board], kernel, "main(fix=False)")
    assert unfixed["stops"] == fixed["stops"] >= 160
    lost = {probe.removeprefix("probe_") for probe, *_ in unfixed["wrong"]}
    assert {f"{operation}_far_32" for operation in ("add", "fetch_add", "exchange", "compare_exchange")} <= lost
