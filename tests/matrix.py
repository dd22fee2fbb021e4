"""The builds of the demonstration kernel that are tested: one declared table.

SConstruct, the tests, tools/demo and the README's table all read it. A row that is `default` is built
and booted by plain `tools/test`; all rows are by `tools/test --matrix`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

ARCHITECTURES = ("x86_64", "aarch64", "arm", "riscv64", "riscv32", "loongarch64")
COMPILERS = ("gcc", "clang")
LINKERS = ("ld", "lld")
OPTIMIZATIONS = ("-O0", "-O2", "-O2 -flto")
INITIALIZATIONS = ("in-place", "dynamic")

# Debian 12 has neither GCC nor GNU ld for LoongArch64.
_TOOLCHAINS = {"loongarch64": (("clang", "lld"),)}


def toolchains(arch: str) -> tuple[tuple[str, str], ...]:
    """The compilers and linkers that build for `arch` together, the usual ones first."""
    return _TOOLCHAINS.get(arch, tuple(itertools.product(COMPILERS, LINKERS)))


@dataclass(frozen=True)
class Variant:
    """One way to build the kernels."""

    arch: str
    compiler: str = "gcc"
    linker: str = "ld"
    opt: str = "-O2"
    features: tuple[str, ...] = ()
    init: str = "in-place"
    cxxflags: tuple[str, ...] = ()
    mode: str = ""
    cpus: int = 4
    default: bool = field(default=False, compare=False)

    @property
    def name(self) -> str:
        """The name of its build folder. `cpus` is not in it: changing CPU_NUM only links again."""
        opt = "".join(self.opt.split()).lstrip("-")
        features = (feature.replace("=", "-") for feature in self.features)
        cxxflags = (flag.lstrip("-") for flag in self.cxxflags)
        return "-".join((self.board, self.compiler, self.linker, opt, self.init, *features, *cxxflags))

    @property
    def board(self) -> str:
        """The name of its board: the architecture's usual one, or that of another mode, as "s-mode"."""
        return "-".join(filter(None, (self.arch, self.mode)))


# Each layout with each kind of scheduler. sp-naive has no areas, so neither layouts nor ways to make them.
_FEATURES = ((), ("non-zero-vma",), ("preempt",), ("non-zero-vma", "preempt"))

# Features that are tried by themselves and in the other layout.
_MORE_FEATURES = {
    "x86_64": ("checked", "all-near", "pristine", "base-register=fs", "base-register=user"),
    "aarch64": (
        *("restartable", "checked", "all-near", "pristine", "large-template", "base-register=TPIDR_EL0"),
        *("base-register=TPIDRRO_EL0", "base-register=x18", "base-register=user"),
    ),
    "arm": ("restartable", "checked", "all-near", "pristine", "base-register=TPIDRPRW", "base-register=user"),
    "riscv64": ("restartable", "checked", "all-near", "pristine", "base-register=tp", "base-register=user"),
    "riscv32": ("restartable", "checked", "all-near", "pristine", "base-register=tp", "base-register=user"),
    "loongarch64": ("restartable", "checked", "all-near", "pristine", "base-register=tp", "base-register=user"),
}

# An architecture's boards besides the usual one, and what is tried on them as above.
_MODES = {
    ("riscv64", "s-mode"): _MORE_FEATURES["riscv64"],
    ("aarch64", "el2"): ("arm-el2", "base-register=TPIDR_EL2"),
}

# What is tried as a Linux program, which is always linked at an ordinary address.
_LINUX = {
    "x86_64": ("checked", "all-near", "pristine", "base-register=fs"),
    "riscv64": ("restartable", "checked", "base-register=tp"),
    "loongarch64": ("restartable", "checked", "base-register=tp"),
}

# Flags that make other code of the same features: x86_64 has instructions for its base register, ARM has T32.
_CXXFLAGS = {"x86_64": ("-mfsgsbase",), "arm": ("-mthumb",)}

# Link-time optimization reads the compiler's own format: each compiler with the linker that knows it.
_LTO = (("gcc", "ld"), ("clang", "lld"))

_DEFAULT = frozenset(
    {
        Variant("x86_64", "gcc", "ld", init="in-place"),
        Variant("x86_64", "gcc", "ld", init="dynamic", features=("non-zero-vma",)),
        Variant("x86_64", "gcc", "ld", init="dynamic", features=("preempt",)),
        Variant("x86_64", "gcc", "ld", features=("sp-naive",)),
        Variant("x86_64", "gcc", "lld", init="dynamic"),
        Variant("x86_64", "clang", "ld", features=("non-zero-vma", "preempt")),
        Variant("x86_64", "clang", "lld", init="in-place"),
        Variant("x86_64", "clang", "lld", init="dynamic", features=("non-zero-vma",)),
        Variant("x86_64", "gcc", "ld", cxxflags=("-mfsgsbase",)),
        Variant("aarch64", "gcc", "ld"),
        Variant("aarch64", "gcc", "lld", features=("base-register=x18",)),
        Variant("aarch64", "clang", "ld", features=("large-template",)),
        Variant("aarch64", "clang", "lld", features=("preempt", "restartable")),
        Variant("aarch64", "gcc", "ld", init="dynamic", features=("arm-el2", "non-zero-vma"), mode="el2"),
        Variant("aarch64", "clang", "lld", features=("arm-el2",), mode="el2"),
        Variant("arm", "gcc", "ld", features=("base-register=TPIDRPRW",)),
        Variant("arm", "gcc", "lld", init="dynamic", features=("checked", "non-zero-vma")),
        Variant("arm", "clang", "lld", features=("all-near",)),
        Variant("arm", "gcc", "ld", features=("preempt", "restartable"), cxxflags=("-mthumb",)),
        Variant("riscv64", "gcc", "ld", features=("preempt", "restartable")),
        Variant("riscv64", "clang", "lld", features=("all-near",)),
        Variant("riscv64", "gcc", "ld", features=("base-register=tp",), mode="s-mode"),
        Variant("riscv64", "gcc", "lld", features=("base-register=user",), mode="s-mode"),
        Variant("riscv64", "clang", "lld", init="dynamic", features=("non-zero-vma", "restartable"), mode="s-mode"),
        Variant("riscv32", "gcc", "ld", features=("checked",)),
        Variant("riscv32", "gcc", "lld", init="dynamic", features=("non-zero-vma",)),
        Variant("riscv32", "clang", "lld", features=("restartable",)),
        Variant("loongarch64", "clang", "lld"),
        Variant("loongarch64", "clang", "lld", features=("preempt", "restartable")),
        Variant("loongarch64", "clang", "lld", init="dynamic", features=("base-register=tp", "non-zero-vma")),
        Variant("loongarch64", "clang", "lld", features=("base-register=user",)),
        Variant("x86_64", "gcc", "ld", features=("non-zero-vma",), mode="linux"),
        Variant("x86_64", "clang", "lld", features=("checked", "non-zero-vma"), mode="linux"),
        Variant("riscv64", "gcc", "ld", features=("non-zero-vma", "restartable"), mode="linux"),
        Variant("loongarch64", "clang", "lld", features=("non-zero-vma", "restartable"), mode="linux"),
    }
)


def _tools(architectures: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    for arch in architectures:
        for compiler, linker in toolchains(arch):
            yield arch, compiler, linker


def _rows() -> list[Variant]:
    rows: list[Variant] = []
    for arch, compiler, linker in _tools(ARCHITECTURES):
        for init, features in itertools.product(INITIALIZATIONS, _FEATURES):
            rows.append(Variant(arch, compiler, linker, init=init, features=features))
        rows.append(Variant(arch, compiler, linker, features=("sp-naive",)))
        rows.append(Variant(arch, compiler, linker, features=("preempt", "sp-naive")))
        for layout in ((), ("non-zero-vma",)):
            rows.append(Variant(arch, compiler, linker, opt="-O0", features=layout))
            if (compiler, linker) in _LTO:
                rows.append(Variant(arch, compiler, linker, opt="-O2 -flto", features=layout))
        rows.extend(_more_rows(arch, compiler, linker, _MORE_FEATURES.get(arch, ())))
        for flag in _CXXFLAGS.get(arch, ()):
            rows.append(Variant(arch, compiler, linker, cxxflags=(flag,)))
        if arch == "arm":
            in_thumb = _more_rows(arch, compiler, linker, ("restartable", "all-near"))
            rows.extend(replace(row, cxxflags=("-mthumb",)) for row in in_thumb)
    rows.extend(row for arch in ARCHITECTURES for row in _pairs(arch) if row not in rows)
    for ((arch, mode), features), compiler, linker in itertools.product(_MODES.items(), COMPILERS, LINKERS):
        rows.append(Variant(arch, compiler, linker, mode=mode))
        rows.append(Variant(arch, compiler, linker, mode=mode, opt="-O0", init="dynamic", features=("preempt",)))
        rows.extend(replace(row, mode=mode) for row in _more_rows(arch, compiler, linker, features))
    for arch, compiler, linker in _tools(_LINUX):
        rows.extend(replace(row, mode="linux") for row in _linux_rows(arch, compiler, linker))
    return rows


def _more_rows(arch: str, compiler: str, linker: str, features: Iterable[str]) -> Iterator[Variant]:
    for feature in features:
        yield Variant(arch, compiler, linker, features=(feature,))
        in_image = tuple(sorted((feature, "non-zero-vma")))
        yield Variant(arch, compiler, linker, init="dynamic", features=in_image)
        if feature == "restartable":
            yield Variant(arch, compiler, linker, features=("preempt", feature))
            yield Variant(arch, compiler, linker, opt="-O0", features=(feature,))
            if (compiler, linker) in _LTO:
                yield Variant(arch, compiler, linker, opt="-O2 -flto", features=(feature,))


# The README says why.
_REFUSED_PAIRS = ({"restartable", "sp-naive"}, {"restartable", "base-register=user"})


def _pairs(arch: str) -> Iterator[Variant]:
    """Every two features that go together, with the toolchains in turn."""
    tools = itertools.cycle([tool for tool in toolchains(arch) if tool in _LTO])
    features = ("non-zero-vma", "preempt", "sp-naive", *_MORE_FEATURES[arch])
    for pair in itertools.combinations(features, 2):
        two_registers = all(feature.startswith("base-register=") for feature in pair)
        if not two_registers and set(pair) not in _REFUSED_PAIRS:
            compiler, linker = next(tools)
            yield Variant(arch, compiler, linker, features=tuple(sorted(pair)))


def _linux_rows(arch: str, compiler: str, linker: str) -> Iterator[Variant]:
    in_image = ("non-zero-vma",)
    yield Variant(arch, compiler, linker, features=in_image)
    yield Variant(arch, compiler, linker, opt="-O0", init="dynamic", features=(*in_image, "preempt"))
    if (compiler, linker) in _LTO:
        yield Variant(arch, compiler, linker, opt="-O2 -flto", features=in_image)
    yield Variant(arch, compiler, linker, features=("sp-naive",))
    for feature in _LINUX[arch]:
        yield Variant(arch, compiler, linker, features=tuple(sorted((feature, *in_image))))


def _mark(row: Variant) -> Variant:
    return replace(row, default=row in _DEFAULT)


MATRIX = tuple(_mark(row) for row in _rows())


def _tortured() -> Iterator[Variant]:
    """One row for each way to keep updates whole in a kernel that is preempted, a default one if there is."""
    measures = ((), ("preempt",), ("restartable",), ("preempt", "restartable"))
    for arch, features in itertools.product(ARCHITECTURES, measures):
        like = (row for row in MATRIX if (row.arch, row.features, row.mode, row.opt) == (arch, features, "", "-O2"))
        rows = sorted(like, key=lambda row: not row.default)
        yield from rows[:1]


# What the torture kernel is built for.
TORTURED = tuple(_tortured())


def select(names: str) -> list[Variant]:
    """The rows that `names` means: "default", "all", or names of rows, separated by commas."""
    if names == "all":
        return list(MATRIX)
    if names == "default":
        return [row for row in MATRIX if row.default]
    by_name = {row.name: row for row in MATRIX}
    unknown = [name for name in names.split(",") if name not in by_name]
    if unknown:
        raise ValueError(f"no variant of tests/matrix.py is named {unknown[0]!r}; expected one of {', '.join(by_name)}")
    return [by_name[name] for name in names.split(",")]
