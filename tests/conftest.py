"""The options that tools/test adds to pytest's own."""

from __future__ import annotations

import os

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("percpu")
    group.addoption("--matrix", action="store_true", help="boot all variants of tests/matrix.py, not only the default ones")
    group.addoption("--rules", action="store_true", help="print the rules of percpu-check against the builds of tests/check")
    group.addoption("--boots", type=int, default=1, metavar="N", help="boot the demonstration and the torture kernels N times in a row")
    updates = "make N updates in each torture of tests/matrix.py, not few of them in the default ones"
    group.addoption("--updates", type=int, metavar="N", help=updates)
    vmlinux = "a distribution's vmlinux with symbols, for tests/check/test_vmlinux.py; else PERCPU_VMLINUX"
    group.addoption("--vmlinux", metavar="FILE", default=os.environ.get("PERCPU_VMLINUX"), help=vmlinux)
    group.addoption("--limine", metavar="FOLDER", help="a release of Limine 8 or later, for tests/boot/test_loaders.py")
    group.addoption("--mutations", type=int, default=1500, metavar="N", help="damage ELF files N times in tests/fuzz")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--rules"):
        from rulestable import RulesTable

        table = RulesTable()
        table.watch()
        config.pluginmanager.register(table)
