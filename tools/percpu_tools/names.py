"""From the symbols of storage to the names that the programmer wrote."""

from __future__ import annotations

import re
from collections.abc import Sequence

# What the runtime's macros put before a variable's name.
STORAGE_PATTERN = rb"percpu_(?:storage|near)_"
_STORAGE = re.compile(r"percpu_(storage|near)_(?=.)")
# What compilers append to the symbol of a local or copied object is a dot and these: `.0`, `.lto_priv.1`, `.llvm.123`.
_IN_SUFFIX = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_."
_ANONYMOUS = "_GLOBAL__N_"
# The last part of a name as Rust mangled it before v0: a hash.
_RUST_HASH = re.compile(r"h[0-9a-f]{16}\Z")
_RUST_PART = re.compile(r"(?:s[0-9a-zA-Z]*_)?([1-9][0-9]{0,4})_?")


def is_storage(symbol: str) -> bool:
    """Whether the runtime's macros made that symbol."""
    return _STORAGE.match(_components(symbol)[-1]) is not None


def is_near(symbol: str) -> bool:
    found = _STORAGE.match(_components(symbol)[-1])
    return found is not None and found.group(1) == "near"


def cxx_name(symbol: str) -> str:
    """The variable's name as C++ has it: `_ZN3app21percpu_storage_cpu_idE` is `app::cpu_id`."""
    scopes, name = _scopes_and_identifier(symbol)
    return "::".join((*scopes, _STORAGE.sub("", name, count=1)))


def qualified_identifier(symbol: str) -> str:
    """What the compiler met, with its namespaces: of `_ZN3app21percpu_storage_cpu_idE`, `app::percpu_storage_cpu_id`."""
    scopes, name = _scopes_and_identifier(symbol)
    return "::".join((*scopes, name))


def starts_with(symbol: str, prefixes: Sequence[str]) -> bool:
    """Whether the name that the programmer or a macro wrote begins with one of these."""
    return _parts(symbol)[-1].startswith(tuple(prefixes))


def name_without(symbol: str, prefixes: Sequence[str]) -> str:
    """The variable's name, with its namespaces or modules, and without what the kernel's macro put before it."""
    *scopes, name = _parts(symbol)
    prefix = next((prefix for prefix in prefixes if name.startswith(prefix) and name != prefix), "")
    return "::".join((*scopes, name[len(prefix) :]))


def identifier(symbol: str) -> str:
    """The identifier that the compiler met, as debug information has it: of `_ZN3app21percpu_storage_cpu_idE`, `percpu_storage_cpu_id`."""
    return _components(symbol)[-1]


def printable(text: str) -> str:
    """`text` with everything that a terminal might obey written out: an ELF's names are anybody's."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _scopes_and_identifier(symbol: str) -> tuple[list[str], str]:
    *scopes, name = _components(symbol)
    return ["(anonymous namespace)" if scope.startswith(_ANONYMOUS) else scope for scope in scopes], name


def _components(symbol: str) -> list[str]:
    """The parts of a mangled name that is made of namespaces and identifiers only; any other name whole.

    Itanium C++ ABI, 5.1.2: `_ZN 3app L 21percpu_storage_cpu_id E`, or `_ZL 21percpu_storage_cpu_id`; `L`
    is internal linkage. A symbol in the global namespace with external linkage is not mangled.
    """
    whole = [_without_suffix(symbol) or symbol]
    mangled = re.match(r"_Z(N?)", symbol)
    if mangled is None:
        return whole
    nested = bool(mangled.group(1))
    position = mangled.end()
    parts: list[str] = []
    while True:
        found = re.compile(r"L?([1-9][0-9]{0,4})").match(symbol, position)
        if found is None:
            break
        length = int(found.group(1))
        part = symbol[found.end() : found.end() + length]
        if len(part) != length:
            return whole
        parts.append(part)
        position = found.end() + length
        if not nested:
            break
    rest = symbol[position:]
    ended = rest[:1] == "E" if nested else True
    tail = rest[1:] if nested else rest
    if not parts or not ended or (tail and not tail.startswith(".")):
        return whole
    return parts


def _without_suffix(symbol: str) -> str:
    dot = symbol.find(".", len(symbol.rstrip(_IN_SUFFIX)))
    return symbol if dot < 0 else symbol[:dot]


def _parts(symbol: str) -> list[str]:
    """As `_components`, and of Rust's names too."""
    if symbol.startswith("_R"):
        return _rust_components(symbol)
    parts = _components(symbol)
    return parts[:-1] if len(parts) > 1 and _RUST_HASH.match(parts[-1]) else parts


def _rust_components(symbol: str) -> list[str]:
    """The parts of a v0-mangled path of modules, functions and items; any other name whole.

    RFC 2603: `_R Nv Nt Cs2OpA4fNwd7R_1r 1m 12___PERCPU_FOO` is `r::m::__PERCPU_FOO`; one `N` and a namespace for each
    part but the crate's; `s..._` tells parts of one name apart; `_` parts a length from a name that begins like one.
    """
    whole = [_without_suffix(symbol) or symbol]
    nesting = re.match(r"_R((?:N[a-zA-Z])+)C", symbol)
    if nesting is None:
        return whole
    position = nesting.end()
    parts: list[str] = []
    for _ in range(len(nesting.group(1)) // 2 + 1):
        found = _RUST_PART.match(symbol, position)
        if found is None:
            return whole
        length = int(found.group(1))
        part = symbol[found.end() : found.end() + length]
        if len(part) != length:
            return whole
        parts.append(part)
        position = found.end() + length
    rest = symbol[position:]
    return parts if not rest or rest.startswith(".") else whole
