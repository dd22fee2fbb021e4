"""From the symbols of storage to the names that the programmer wrote."""

from __future__ import annotations

import re

# What the runtime's macros put before a variable's name.
STORAGE_PATTERN = rb"percpu_(?:storage|near)_"
_STORAGE = re.compile(r"percpu_(storage|near)_(?=.)")
# What compilers append to the symbol of a local or copied object: `.0`, `.lto_priv.1`, `.llvm.123`.
_SUFFIX = re.compile(r"\.[A-Za-z0-9_.]*\Z")
_ANONYMOUS = "_GLOBAL__N_"


def is_storage(symbol: str) -> bool:
    """Whether the runtime's macros made that symbol."""
    return _STORAGE.match(_components(symbol)[-1]) is not None


def is_near(symbol: str) -> bool:
    found = _STORAGE.match(_components(symbol)[-1])
    return found is not None and found.group(1) == "near"


def cxx_name(symbol: str) -> str:
    """The variable's name as C++ has it: `_ZN3app21percpu_storage_cpu_idE` is `app::cpu_id`."""
    *scopes, name = _components(symbol)
    scopes = ["(anonymous namespace)" if scope.startswith(_ANONYMOUS) else scope for scope in scopes]
    return "::".join((*scopes, _STORAGE.sub("", name, count=1)))


def identifier(symbol: str) -> str:
    """The identifier that the compiler met, as debug information has it: of `_ZN3app21percpu_storage_cpu_idE`, `percpu_storage_cpu_id`."""
    return _components(symbol)[-1]


def printable(text: str) -> str:
    """`text` with everything that a terminal might obey written out: an ELF's names are anybody's."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _components(symbol: str) -> list[str]:
    """The parts of a mangled name that is made of namespaces and identifiers only; any other name whole.

    Itanium C++ ABI, 5.1.2: `_ZN 3app L 21percpu_storage_cpu_id E`, or `_ZL 21percpu_storage_cpu_id`; `L`
    is internal linkage. A symbol in the global namespace with external linkage is not mangled.
    """
    whole = [_SUFFIX.sub("", symbol) or symbol]
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
