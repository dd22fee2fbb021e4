"""The types of variables, and where the source defines them, from DWARF 4 and 5.

A kernel's debug information is hundreds of megabytes, of which a few hundred bytes are of interest here. So
the section is searched for the addresses of the variables first, and only the compilation units with a
hit are read, each once and front to back. pyelftools reads the entries. Nothing here trusts the file: every
loop goes forward in its bytes, and the work is bounded by their number.
"""

from __future__ import annotations

import posixpath
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from elftools.dwarf.die import DIE
from elftools.dwarf.dwarfinfo import DWARFInfo

from percpu_tools import names, progress
from percpu_tools.image import Image
from percpu_tools.layout import Layout, Variable
from percpu_tools.linetable import contents, file_names

_DW_OP_ADDR = 0x03
_DW_OP_ADDRX = 0xA1
_DW_OP_GNU_ADDR_INDEX = 0xFB

# A type in a linked list of typedefs and pointers this long is not from a compiler.
_DEPTH = 40
_LONGEST_NAME = 400
# Attributes for each byte of .debug_info: compilers stay below 1; a damaged table of abbreviations knows no limit.
_ATTRIBUTES_A_BYTE = 4

# How compilers write percpu::detail::Storage<T> where nothing else tells T.
_STORAGE_NAME = re.compile(r"Storage<(.+)>")

_REFERENCES = {"DW_FORM_ref1", "DW_FORM_ref2", "DW_FORM_ref4", "DW_FORM_ref8", "DW_FORM_ref_udata"}
_SCOPES = {"DW_TAG_namespace", "DW_TAG_structure_type", "DW_TAG_class_type", "DW_TAG_union_type"}
_ANONYMOUS = {
    "DW_TAG_structure_type": "(anonymous struct)",
    "DW_TAG_class_type": "(anonymous class)",
    "DW_TAG_union_type": "(anonymous union)",
    "DW_TAG_enumeration_type": "(anonymous enum)",
    "DW_TAG_namespace": "(anonymous namespace)",
}
_QUALIFIERS = {
    "DW_TAG_const_type": "const",
    "DW_TAG_volatile_type": "volatile",
    "DW_TAG_restrict_type": "__restrict",
    "DW_TAG_atomic_type": "_Atomic",
}
_INDIRECTIONS = {"DW_TAG_pointer_type": "*", "DW_TAG_reference_type": "&", "DW_TAG_rvalue_reference_type": "&&"}


@dataclass(frozen=True)
class SourceType:
    """What the source says of a variable. `file` is relative to the folder of compilation where it lies in it."""

    type: str | None
    file: str | None
    line: int | None

    @property
    def place(self) -> str | None:
        """`file:line`, as compilers write it."""
        if self.file is None:
            return None
        return self.file if self.line is None else f"{self.file}:{self.line}"


@dataclass(frozen=True)
class Types:
    """What the debug information tells, of the variables in the template and of those that ended elsewhere; and why it is not more."""

    variables: dict[Variable, SourceType]
    symbols: dict[str, SourceType]
    problem: str | None = None

    def get(self, variable: Variable) -> SourceType | None:
        return self.variables.get(variable)


class _Exhausted(Exception):
    """More entries than the bytes of the file can hold."""


def read_types(image: Image, layout: Layout) -> Types:
    """The types of the variables of a layout."""
    wanted = {key: variable for variable in layout.variables if (key := _key(layout, variable)) is not None}
    keys = {*wanted, *((symbol.name, symbol.value) for symbol in layout.storage)}
    found: dict[tuple[str, int], SourceType] = {}
    problem = None
    try:
        info = image.debug_information() if keys else None
        if info is not None:
            reader = _Reader(info, 4 if image.elf_class == 32 else 8, image.little_endian)
            for key, source in reader.variables(keys):
                found.setdefault(key, source)
        elif keys:
            problem = "the file has no debug information: compile with -g and do not strip it"
    except Exception:
        # As in image.py: a damaged file surfaces in pyelftools as almost any exception. Types are an
        # ornament of the report, so what was read is kept, and the report says that there may be more.
        problem = "the debug information is damaged: types may be missing"
    missing = [variable.name for key, variable in wanted.items() if key not in found]
    if missing and problem is None:
        rest = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        problem = f"the debug information does not tell of {', '.join(missing[:3])}{rest}"
    return Types(
        variables={variable: found[key] for key, variable in wanted.items() if key in found},
        symbols={symbol: source for (symbol, _), source in found.items()},
        problem=problem,
    )


def _key(layout: Layout, variable: Variable) -> tuple[str, int] | None:
    """A variable's symbol and address, by which its entry is recognized."""
    if variable.offset is not None and layout.load_start is not None:
        return variable.symbol, layout.load_start + variable.offset
    # With sp-naive it has no offset, only the address of an ordinary global.
    return next(((symbol.name, symbol.value) for symbol in layout.storage if symbol.name == variable.symbol), None)


class _Unit:
    """A compilation unit, and for each of its entries the one around it."""

    def __init__(self, cu: Any, start: int, end: int) -> None:
        self.cu = cu
        self.start = start
        self.end = end
        self.parents: dict[int, int] | None = None
        self.files: list[str | None] | None = None


class _Reader:
    def __init__(self, info: DWARFInfo, address_size: int, little_endian: bool) -> None:
        self._info = info
        self._stream = contents(info.debug_info_sec)
        self._bytes: bytes = self._stream.getvalue()
        self._address_size = address_size
        self._order: Any = "little" if little_endian else "big"
        self._budget = _ATTRIBUTES_A_BYTE * len(self._bytes) + 1000
        self._units = [
            _Unit(cu, cu.cu_offset, cu.cu_offset + cu["unit_length"] + cu.structs.initial_length_field_size())
            for cu in info.iter_CUs()
        ]
        self._starts = [unit.start for unit in self._units]
        self._names: dict[int, str] = {}

    def variables(self, wanted: Iterable[tuple[str, int]]) -> Iterator[tuple[tuple[str, int], SourceType]]:
        by_address: dict[int, list[str]] = {}
        for symbol, address in wanted:
            by_address.setdefault(address, []).append(symbol)
        hits: dict[int, list[int]] = {}
        for place in self._places(by_address):
            unit = self._unit_at(place)
            if unit is not None:
                hits.setdefault(unit.start, []).append(place)
        units = [self._units[bisect_right(self._starts, start) - 1] for start in hits]
        done, total = 0, sum(unit.end - unit.start for unit in units)
        for unit, places in zip(units, hits.values()):
            # A distribution's kernel takes minutes: pyelftools reads every entry of the units that define variables.
            progress.report("types from debug information", done, total)
            done += unit.end - unit.start
            for die in self._entries_at(unit, places):
                at = self._address(unit, die)
                if at is None:
                    continue
                for symbol in by_address.get(at, ()):
                    if self._is_named(unit, die, symbol):
                        yield (symbol, at), self._describe(unit, die)
        progress.report("types from debug information", total, total)

    def _places(self, addresses: Iterable[int]) -> Iterator[int]:
        """Where in .debug_info a location expression may be that names one of the addresses."""
        encoded = [address.to_bytes(self._address_size, self._order) for address in addresses]
        either = b"|".join(re.escape(address) for address in sorted(encoded))
        # DW_OP_addr and its operand, behind the length of the expression.
        length = bytes([1 + self._address_size])
        for match in re.finditer(re.escape(length) + bytes([_DW_OP_ADDR]) + b"(?:" + either + b")", self._bytes, re.DOTALL):
            yield match.start()
        table = self._info.debug_addr_sec
        if table is not None:
            yield from self._indexed_places(contents(table).getvalue(), either)

    def _indexed_places(self, table: bytes, either: bytes) -> Iterator[int]:
        """The same for DW_OP_addrx (DWARF 5 of Clang), whose operand is an index into the unit's part of .debug_addr."""
        slots = {match.start() for match in re.finditer(b"(?=" + either + b")", table, re.DOTALL)}
        for unit in self._units if slots else ():
            base = self._address_base(unit)
            if base is None:
                continue
            for match in re.finditer(b"[\\xa1\\xfb]", self._bytes[unit.start : unit.end]):
                place = unit.start + match.start()
                if base + self._address_size * self._uleb(place + 1) in slots:
                    yield place

    def _address_base(self, unit: _Unit) -> int | None:
        top = unit.cu.get_top_DIE()
        for name in ("DW_AT_addr_base", "DW_AT_GNU_addr_base"):
            if name in top.attributes:
                return int(top.attributes[name].value)
        return None

    def _uleb(self, place: int, data: bytes | None = None) -> int:
        data = self._bytes if data is None else data
        value = 0
        for shift in range(0, 64, 7):
            if place >= len(data):
                break
            value |= (data[place] & 0x7F) << shift
            if not data[place] & 0x80:
                break
            place += 1
        return value

    def _unit_at(self, place: int) -> _Unit | None:
        index = bisect_right(self._starts, place) - 1
        if index < 0 or place >= self._units[index].end:
            return None
        return self._units[index]

    def _entry(self, unit: _Unit, offset: int) -> DIE:
        die = DIE(cu=unit.cu, stream=self._stream, offset=offset)
        self._budget -= 1
        if not die.is_null():
            self._budget -= len(unit.cu.get_abbrev_table().get_abbrev(die.abbrev_code)["attr_spec"])
        if self._budget < 0:
            raise _Exhausted
        return die

    def _entries_at(self, unit: _Unit, places: list[int]) -> list[DIE]:
        """The entries in which the places lie. Reading them makes the parents of all entries known."""
        parents: dict[int, int] = {}
        found: list[DIE] = []
        waiting = sorted(places, reverse=True)
        above: list[int] = []
        # The unit's own entry sets the bases that other entries are read with.
        unit.cu.get_top_DIE()
        offset = unit.cu.cu_die_offset
        while offset < unit.end:
            die = self._entry(unit, offset)
            after = offset + max(die.size, 1)
            if die.is_null():
                if above:
                    above.pop()
            else:
                if above:
                    parents[offset] = above[-1]
                while waiting and waiting[-1] < after:
                    if waiting.pop() >= offset and (not found or found[-1] is not die):
                        found.append(die)
                sibling = self._reference(unit, die, "DW_AT_sibling") if die.tag == "DW_TAG_subprogram" else None
                if sibling is not None and after < sibling <= unit.end and not (waiting and waiting[-1] < sibling):
                    # A function without a variable of ours, which is most of the unit.
                    after = sibling
                elif die.has_children:
                    above.append(offset)
            offset = after
        unit.parents = parents
        return found

    def _reference(self, unit: _Unit, die: DIE, name: str) -> int | None:
        """The offset in .debug_info to which an attribute refers."""
        attribute = die.attributes.get(name)
        if attribute is None:
            return None
        if attribute.form in _REFERENCES:
            return int(unit.start + attribute.raw_value)
        if attribute.form == "DW_FORM_ref_addr":
            return int(attribute.raw_value)
        return None

    def _address(self, unit: _Unit, die: DIE) -> int | None:
        if die.tag != "DW_TAG_variable" or "DW_AT_location" not in die.attributes:
            return None
        expression = die.attributes["DW_AT_location"].value
        if not isinstance(expression, (list, bytes)) or not expression:
            return None
        code = bytes(expression)
        if code[0] == _DW_OP_ADDR and len(code) == 1 + self._address_size:
            return int.from_bytes(code[1:], self._order)
        table = self._info.debug_addr_sec
        base = self._address_base(unit)
        if code[0] in (_DW_OP_ADDRX, _DW_OP_GNU_ADDR_INDEX) and base is not None and table is not None:
            place = base + self._address_size * self._uleb(1, code)
            return int.from_bytes(contents(table).getvalue()[place : place + self._address_size], self._order)
        return None

    def _declaration(self, unit: _Unit, die: DIE) -> tuple[_Unit, DIE] | None:
        """The entry that says what this one leaves out."""
        for name in ("DW_AT_specification", "DW_AT_abstract_origin"):
            target = self._reference(unit, die, name)
            home = None if target is None else self._unit_at(target)
            if target is not None and home is not None:
                return home, self._entry(home, target)
        return None

    def _lineage(self, unit: _Unit, die: DIE) -> list[tuple[_Unit, DIE]]:
        lineage = [(unit, die)]
        while len(lineage) < 4 and (more := self._declaration(*lineage[-1])) is not None:
            lineage.append(more)
        return lineage

    def _is_named(self, unit: _Unit, die: DIE, symbol: str) -> bool:
        # The address alone does not tell: linkers write 0 for variables that they have dropped, and 0 is
        # where a template may begin.
        for _, entry in self._lineage(unit, die):
            for name in ("DW_AT_linkage_name", "DW_AT_MIPS_linkage_name", "DW_AT_name"):
                if _text(entry, name) in (symbol, names.identifier(symbol)):
                    return True
        return False

    def _describe(self, unit: _Unit, die: DIE) -> SourceType:
        type_name = file = line = None
        for home, entry in self._lineage(unit, die):
            if type_name is None and "DW_AT_type" in entry.attributes:
                type_name = self._type(home, entry, 0, of_storage=True)
            if file is None and "DW_AT_decl_file" in entry.attributes:
                file = self._file(home, entry.attributes["DW_AT_decl_file"].value)
                number = entry.attributes["DW_AT_decl_line"].value if "DW_AT_decl_line" in entry.attributes else None
                line = number if isinstance(number, int) and number > 0 else None
        return SourceType(type_name, file, line if file is not None else None)

    def _file(self, unit: _Unit, number: Any) -> str | None:
        top = unit.cu.get_top_DIE()
        if unit.files is None:
            place = top.attributes["DW_AT_stmt_list"].value if "DW_AT_stmt_list" in top.attributes else None
            unit.files = [] if place is None else file_names(self._info, place)
        if not isinstance(number, int) or not 0 <= number < len(unit.files):
            return None
        name = unit.files[number]
        folder = _text(top, "DW_AT_comp_dir")
        if name is None or folder is None:
            return name
        whole = posixpath.normpath(posixpath.join(folder, name))
        prefix = posixpath.normpath(folder).rstrip("/") + "/"
        return whole[len(prefix) :] if whole.startswith(prefix) else whole

    def _type(self, unit: _Unit, die: DIE, depth: int, of_storage: bool = False) -> str:
        """The name of the type that DW_AT_type of `die` refers to."""
        if "DW_AT_type" not in die.attributes:
            return "void"
        target = self._reference(unit, die, "DW_AT_type")
        if target is None:
            return self._type_by_signature(die)
        home = self._unit_at(target)
        if home is None or depth > _DEPTH:
            return "?"
        if of_storage:
            inner = self._inside_storage(home, self._entry(home, target), depth)
            if inner is not None:
                return inner
        if target not in self._names:
            self._names[target] = _shortened(self._spell(home, self._entry(home, target), depth + 1))
        return self._names[target]

    def _type_by_signature(self, die: DIE) -> str:
        """A type in a unit of its own (-fdebug-types-section); its scopes are not told."""
        attribute = die.attributes["DW_AT_type"]
        if attribute.form != "DW_FORM_ref_sig8":
            return "?"
        for unit in self._units:
            header = unit.cu.header
            if "type_signature" in header and header["type_signature"] == attribute.raw_value:
                entry = self._entry(unit, unit.start + header["type_offset"])
                break
        else:
            entry = die.get_DIE_from_attribute("DW_AT_type")
        name = _text(entry, "DW_AT_name") or _ANONYMOUS.get(str(entry.tag), "?")
        storage = _STORAGE_NAME.fullmatch(name)
        return storage.group(1).replace(" [", "[") if storage else name

    def _inside_storage(self, unit: _Unit, die: DIE, depth: int) -> str | None:
        """T, where the entry is percpu::detail::Storage<T>, in which the runtime wraps its variables."""
        if die.tag != "DW_TAG_union_type" or self._qualified(unit, die, depth).split("<")[0] != "percpu::detail::Storage":
            return None
        for child in self._children(unit, die):
            if child.tag == "DW_TAG_template_type_param":
                return self._type(unit, child, depth + 1)
        return None

    def _children(self, unit: _Unit, die: DIE) -> Iterator[DIE]:
        """The entries directly below one."""
        offset = die.offset + die.size
        depth = 1 if die.has_children else 0
        while depth and offset < unit.end:
            entry = self._entry(unit, offset)
            offset += max(entry.size, 1)
            if entry.is_null():
                depth -= 1
                continue
            if depth == 1:
                yield entry
            if entry.has_children:
                sibling = self._reference(unit, entry, "DW_AT_sibling")
                if sibling is not None and offset < sibling <= unit.end:
                    offset = sibling
                else:
                    depth += 1

    def _spell(self, unit: _Unit, die: DIE, depth: int) -> str:
        tag = str(die.tag)
        if tag in _QUALIFIERS:
            inner = self._type(unit, die, depth)
            # `const int`, but `int* const`.
            return f"{inner} {_QUALIFIERS[tag]}" if inner.endswith(("*", "&")) else f"{_QUALIFIERS[tag]} {inner}"
        if tag in _INDIRECTIONS:
            return _indirect(self._type(unit, die, depth), _INDIRECTIONS[tag])
        if tag == "DW_TAG_array_type":
            return self._array(unit, die, depth)
        if tag == "DW_TAG_subroutine_type":
            parameters = [
                "..." if child.tag == "DW_TAG_unspecified_parameters" else self._type(unit, child, depth)
                for child in self._children(unit, die)
                if child.tag in ("DW_TAG_formal_parameter", "DW_TAG_unspecified_parameters")
            ]
            return f"{self._type(unit, die, depth)}({', '.join(parameters)})"
        if tag == "DW_TAG_ptr_to_member_type":
            return self._type(unit, die, depth) + " (member pointer)"
        return self._qualified(unit, die, depth)

    def _array(self, unit: _Unit, die: DIE, depth: int) -> str:
        extents = ""
        for child in self._children(unit, die):
            if child.tag != "DW_TAG_subrange_type":
                continue
            number = None
            for name, more in (("DW_AT_count", 0), ("DW_AT_upper_bound", 1)):
                value = child.attributes[name].value if name in child.attributes else None
                if number is None and isinstance(value, int) and value + more >= 0:
                    number = value + more
            extents += f"[{'' if number is None else number}]"
        element = self._type(unit, die, depth)
        # The extents of an array of arrays follow those of the outer one.
        base, bracket, inner = element.partition("[") if element.endswith("]") else (element, "", "")
        return f"{base}{extents or '[]'}{bracket}{inner}"

    def _qualified(self, unit: _Unit, die: DIE, depth: int) -> str:
        parts = [_text(die, "DW_AT_name") or _ANONYMOUS.get(str(die.tag), "?")]
        if unit.parents is None:
            self._entries_at(unit, [])
        parents = unit.parents or {}
        offset = parents.get(die.offset)
        while offset is not None and len(parts) <= _DEPTH:
            scope = self._entry(unit, offset)
            if scope.tag not in _SCOPES:
                break
            parts.append(_text(scope, "DW_AT_name") or _ANONYMOUS[str(scope.tag)])
            offset = parents.get(offset)
        return "::".join(reversed(parts))


def _text(die: DIE, name: str) -> str | None:
    attribute = die.attributes.get(name)
    value = None if attribute is None else attribute.value
    return value.decode("utf-8", errors="backslashreplace") if isinstance(value, bytes) else None


def _indirect(inner: str, mark: str) -> str:
    """A pointer or reference to a type; to a function or an array, the mark stands in the middle."""
    if inner.endswith(")") and "(" in inner and not inner.startswith("("):
        # The parentheses that match the last one hold the parameters.
        depth = 0
        for place in range(len(inner) - 1, -1, -1):
            depth += {")": 1, "(": -1}.get(inner[place], 0)
            if depth == 0:
                head, parameters = inner[:place], inner[place:]
                if head.endswith(")") and "(*" in head:
                    cut = head.rindex("(*") + 2
                    return f"{head[:cut]}{mark}{head[cut:]}{parameters}"
                return f"{head} ({mark}){parameters}"
    if inner.endswith("]"):
        base, bracket, extents = inner.partition("[")
        return f"{base} ({mark}){bracket}{extents}"
    return inner + mark


def _shortened(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 3] + "..."
