"""Whose per-CPU data a file may hold: where each project's kernels have the template, and under which names.

The facts are those of the projects' own linker scripts and headers:

- Linux: `PERCPU_INPUT`, `PERCPU_SECTION` and, on x86_64 up to 6.14, `PERCPU_VADDR` at address 0, of
  include/asm-generic/vmlinux.lds.h; areas of the first chunk are made at boot (mm/percpu.c).
- The crate `percpu` 0.3: its README, src/imp.rs, and percpu_macros for the names of variables.
- Xen: `.bss.percpu` in arch/*/xen.lds.S, xen/percpu.h; areas are made at boot from zeroed pages
  (`init_percpu_area`). Xen 3 had `.data.percpu`.
- OSv: arch/*/loader.ld, include/osv/percpu.hh; areas are made at boot, and reached through a thread_local pointer.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from percpu_tools import tomlfile
from percpu_tools.errors import PercpuError

# The symbols between linker script and runtime, by the names that this project's scripts give them. A profile says
# which symbol of its own means the same.
SYMBOLS = (
    "_percpu_load_start",
    "_percpu_load_end",
    "_percpu_start",
    "_percpu_end",
    "_percpu_template",
    "_percpu_stride",
    "_percpu_cpu_num",
    "_percpu_alignment",
    "_percpu_near_end",
    "_percpu_read_mostly_start",
)

# What a profile may lack for a rule: areas and their stride in the file, marks in the names of variables, initial
# values, accessors that are known.
AREAS, STRIDE, MARKS, VALUES, RUNTIME = "areas", "stride", "marks", "values", "runtime"

_MADE_AT_BOOT = "the areas are made at boot, and the file says nothing of them"


class Profile(NamedTuple):
    """One project's layout.

    `symbols` gives the project's name for each of `SYMBOLS` that it has. `prefixes` is what its macros put before a
    variable's name; without one, nothing marks a variable that has landed elsewhere. `fits_with` are the symbols that
    tell its files from all others, and `lacks` says why rules that need something cannot judge.
    """

    name: str
    sections: tuple[str, ...]
    symbols: Mapping[str, str]
    prefixes: tuple[str, ...] = ()
    fits_with: tuple[str, ...] = ()
    layout: str | None = None
    cache_line: int = 64
    lacks: Mapping[str, str] = {}
    # By architecture; what the note says of this project's own kernels.
    base_registers: Mapping[str, str] = {}

    @property
    def is_own(self) -> bool:
        return self.name == OWN.name


OWN = Profile(
    name="percpu",
    sections=(".percpu",),
    symbols={symbol: symbol for symbol in SYMBOLS},
)

_ANOTHER_RUNTIME = "its accessors may take the address of a variable, as this project's and the crate's never do"
_NO_MARK = "nothing in the names of variables marks them, so one that lies elsewhere looks like any other"

LINUX = Profile(
    name="linux",
    sections=(".data..percpu", ".data.percpu"),
    symbols={
        "_percpu_load_start": "__per_cpu_start",
        "_percpu_load_end": "__per_cpu_end",
        # Where the template is in memory, which areas are copied from.
        "_percpu_template": "__per_cpu_load",
    },
    fits_with=("__per_cpu_start", "__per_cpu_end"),
    lacks={AREAS: _MADE_AT_BOOT, STRIDE: _MADE_AT_BOOT, MARKS: _NO_MARK, RUNTIME: _ANOTHER_RUNTIME},
)

RUST = Profile(
    name="rust",
    sections=(".percpu",),
    symbols={symbol: symbol for symbol in SYMBOLS[:4]},
    prefixes=("__PERCPU_",),
    fits_with=("_percpu_load_start", "_percpu_load_end"),
    base_registers={
        "x86_64": "gs",
        "aarch64": "TPIDR_EL1",
        "arm": "TPIDRURO",
        "riscv64": "gp",
        "riscv32": "gp",
        "loongarch64": "r21",
    },
)

XEN = Profile(
    name="xen",
    sections=(".data.percpu",),
    symbols={"_percpu_load_start": "__per_cpu_start", "_percpu_load_end": "__per_cpu_data_end"},
    prefixes=("per_cpu__",),
    fits_with=("__per_cpu_start", "__per_cpu_data_end"),
    layout="in-image",
    lacks={
        AREAS: _MADE_AT_BOOT,
        STRIDE: _MADE_AT_BOOT,
        VALUES: "the template is zeros in .bss, and has no initial values to lose",
        RUNTIME: _ANOTHER_RUNTIME,
    },
)

OSV = Profile(
    name="osv",
    sections=(".percpu",),
    symbols={"_percpu_load_start": "_percpu_start", "_percpu_load_end": "_percpu_end"},
    fits_with=("_percpu_start", "_percpu_end", "_percpu_workers_start"),
    layout="in-image",
    lacks={AREAS: _MADE_AT_BOOT, STRIDE: _MADE_AT_BOOT, MARKS: _NO_MARK, RUNTIME: _ANOTHER_RUNTIME},
)

PROFILES: dict[str, Profile] = {profile.name: profile for profile in (OWN, LINUX, RUST, XEN, OSV)}

# In this order they are tried where none is named: the more a file must have for one, the earlier.
_TRIED = (OSV, XEN, LINUX, RUST)

_KEYS = ("section", "layout", "variables", "cache_line", "symbols")
_LAYOUTS = ("zero-vma", "in-image")


def find_profile(name: str, folder: str = "") -> Profile:
    """The profile of that name, or in that TOML file, which is relative to `folder`."""
    if name in PROFILES:
        return PROFILES[name]
    path = os.path.join(folder, name)
    if name.endswith(".toml") or os.sep in name or os.path.isfile(path):
        return read_profile(path)
    raise PercpuError(
        f"profile is {name!r}: expected one of {', '.join(PROFILES)}, or a TOML file", fix="name a file with its .toml"
    )


def fitting(sections: Collection[str], symbols: Collection[str], prefixes: Collection[str]) -> Profile:
    """The profile of the file with those sections, those symbols, and variables with those prefixes; else our own."""
    for profile in _TRIED:
        has_symbols = all(symbol in symbols for symbol in profile.fits_with)
        if profile is RUST:
            has_symbols = has_symbols and profile.prefixes[0] in prefixes
        # Linux's section is called like no other: it is enough where the symbols have been stripped.
        if has_symbols or (profile is LINUX and not symbols and profile.sections[0] in sections):
            return profile
    return OWN


def read_profile(path: str) -> Profile:
    """The profile of the user's own in that file."""
    table = tomlfile.read(path)
    for key in table:
        if key not in _KEYS:
            raise PercpuError(f"{path}: unknown key {key!r}: expected one of {', '.join(_KEYS)}")
    sections = _texts(path, "section", table.get("section", []))
    symbols = _symbols(path, table.get("symbols", {}))
    bounds = {"_percpu_load_start", "_percpu_load_end"} <= symbols.keys()
    if not sections and not bounds:
        raise PercpuError(
            f"{path}: neither section nor the symbols load_start and load_end say where the template is",
            fix='write section = ".cpulocal", with the name of its output section',
        )
    layout = table.get("layout")
    if layout is not None and layout not in _LAYOUTS:
        raise PercpuError(
            f"{path}: layout is {layout!r}: expected one of {', '.join(_LAYOUTS)}",
            fix="leave it out if either is right",
        )
    prefixes = _texts(path, "variables", table.get("variables", []))
    name = os.path.basename(path)
    has_areas = {"_percpu_start", "_percpu_end"} <= symbols.keys()
    lacks = {RUNTIME: _ANOTHER_RUNTIME}
    if not has_areas:
        lacks[AREAS] = f"{name} names no symbols start and end for the memory of the areas"
    if not has_areas and "_percpu_stride" not in symbols:
        lacks[STRIDE] = f"{name} names no symbol stride, nor start and end"
    if not prefixes:
        lacks[MARKS] = f"{name} does not say under variables what marks the names of variables"
    return Profile(
        name=name,
        sections=sections,
        symbols=symbols,
        prefixes=prefixes,
        layout=layout,
        cache_line=_cache_line(path, table.get("cache_line", 64)),
        lacks=lacks,
    )


def _texts(path: str, key: str, value: Any) -> tuple[str, ...]:
    """One text or a list of them."""
    texts = value if isinstance(value, list) else [value]
    if not all(isinstance(text, str) and text for text in texts):
        raise PercpuError(f"{path}: {key} is {value!r}: expected a text, or a list of texts")
    return tuple(texts)


def _symbols(path: str, table: Any) -> dict[str, str]:
    if not isinstance(table, dict):
        raise PercpuError(f"{path}: symbols is {table!r}: expected a table [symbols]")
    keys = {symbol[len("_percpu_") :]: symbol for symbol in SYMBOLS}
    for key, symbol in table.items():
        if key not in keys:
            raise PercpuError(f"{path}: unknown key {key!r} in [symbols]: expected one of {', '.join(keys)}")
        if not isinstance(symbol, str) or not symbol:
            raise PercpuError(f"{path}: symbols.{key} is {symbol!r}: expected the name of a symbol")
    return {keys[key]: symbol for key, symbol in table.items()}


def _cache_line(path: str, value: Any) -> int:
    if not isinstance(value, int) or not 16 <= value <= 4096 or value & (value - 1):
        raise PercpuError(f"{path}: cache_line is {value!r}: expected a power of two from 16 to 4096")
    return value
