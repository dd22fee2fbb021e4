"""The names that `percpu_tools` gives to programs."""

from __future__ import annotations

import importlib
import pkgutil
import sys

import percpu_tools
import pytest
import toolchain


@pytest.mark.parametrize("name", percpu_tools.__all__)
def test_every_public_name_is_there(name):
    assert getattr(percpu_tools, name) is not None
    assert name in dir(percpu_tools)


def test_no_module_hides_a_public_name():
    """Importing a module sets an attribute of its package: one called `check` would replace the function."""
    modules = [module.name for module in pkgutil.iter_modules(percpu_tools.__path__)]
    assert not set(modules) & set(percpu_tools.__all__)
    for module in modules:
        if module != "scons_hand_over":
            importlib.import_module(f"percpu_tools.{module}")
    assert callable(percpu_tools.check)
    assert callable(percpu_tools.render_fragment)


def test_a_name_that_is_not_there():
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        getattr(percpu_tools, "nonsense")


def test_the_package_alone_imports_neither_jinja2_nor_pyelftools():
    code = "import sys, percpu_tools; print(sorted(n for n in ('jinja2', 'elftools', 'rich', 'argparse') if n in sys.modules))"
    assert toolchain.run([sys.executable, "-c", code]).stdout == "[]\n"


def test_errors_say_the_message_and_the_mends():
    error = percpu_tools.PercpuError("x is 1: expected 2", fix=("do this", "do that"))
    assert str(error) == "x is 1: expected 2; do this; or do that"
    assert (error.message, error.fix) == ("x is 1: expected 2", ("do this", "do that"))
    assert percpu_tools.PercpuError("x", fix="mend").fix == ("mend",)
