"""From symbols to the names that the programmer wrote; the symbols are what compilers make of them."""

from __future__ import annotations

import pytest
import toolchain
from percpu_tools import names

SOURCE = """\
namespace app { int percpu_storage_a = 1; namespace deep { int percpu_near_b = 1; } }
int percpu_storage_c = 1;
static int percpu_storage_d __attribute__((used)) = 1;
namespace { int percpu_storage_e __attribute__((used)) = 1; }
namespace app { static int percpu_storage_f __attribute__((used)) = 1; namespace { int percpu_near_g __attribute__((used)) = 1; } }
int ordinary = 1;
namespace app { int my_percpu_storage_thing = 1; }
void function() { static int percpu_storage_local __attribute__((used)) = 1; }
"""
WRITTEN = {"app::a", "app::deep::b", "c", "d", "(anonymous namespace)::e", "app::f", "app::(anonymous namespace)::g"}


@pytest.mark.parametrize("compiler", ["g++", "clang++-19"])
def test_names_as_compilers_mangle_them(tmp_path, compiler):
    (tmp_path / "names.cpp").write_text(SOURCE)
    toolchain.run([compiler, "-c", str(tmp_path / "names.cpp"), "-o", str(tmp_path / "names.o")])
    symbols = [line.split()[2] for line in toolchain.run(["nm", str(tmp_path / "names.o")]).stdout.splitlines()]
    assert {names.cxx_name(symbol) for symbol in symbols if names.is_storage(symbol)} == WRITTEN


@pytest.mark.parametrize(
    ("symbol", "name"),
    [
        ("percpu_storage_x.lto_priv.0", "x"),
        ("_ZL16percpu_storage_x.lto_priv.1", "x"),
        ("_ZN3appL16percpu_storage_xE.llvm.42", "app::x"),
        ("plain", "plain"),
        ("_ZN3app6cpu_idE", "app::cpu_id"),
        # Templates, functions and broken names are left as they are.
        ("_ZN3app1xIiEE", "_ZN3app1xIiEE"),
        ("_Z3foov", "_Z3foov"),
        ("_ZN99999a", "_ZN99999a"),
        ("_ZN", "_ZN"),
        ("", ""),
        (".L4", ".L4"),
    ],
)
def test_other_symbols(symbol, name):
    assert names.cxx_name(symbol) == name


def test_near_storage():
    assert names.is_near("_ZN3app13percpu_near_xE")
    assert not names.is_near("percpu_storage_x")


def test_printable():
    assert names.printable("a b\u00e9\u4e2d") == "a b\u00e9\u4e2d"
    assert names.printable("\033\n\0\u202e\u2028") == "\\x1b\\n\\x00\\u202e\\u2028"
