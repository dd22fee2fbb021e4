"""The names of source files in the header of a line-number program (.debug_line), DWARF 2 to 5.

It is read here and not by pyelftools, whose reader of the version 5 takes the counts of the header as they are: a
damaged one of 2**60 entries without a byte each keeps it busy for ever.
"""

from __future__ import annotations

import posixpath
import struct
from io import BytesIO

from elftools.dwarf.dwarfinfo import DebugSectionDescriptor, DWARFInfo

_DW_LNCT_PATH = 1
_DW_LNCT_DIRECTORY_INDEX = 2

_FIXED = {0x0B: 1, 0x05: 2, 0x06: 4, 0x07: 8, 0x1E: 16}
_STRING, _UDATA, _BLOCK, _LINE_STRP, _STRP = 0x08, 0x0F, 0x09, 0x1F, 0x0E


class _Cursor:
    def __init__(self, data: bytes, place: int, order: str) -> None:
        self._data = data
        self._order = order
        self.place = place

    def number(self, size: int) -> int:
        (value,) = struct.unpack_from(self._order + {1: "B", 2: "H", 4: "I", 8: "Q"}[size], self._data, self.place)
        self.place += size
        return int(value)

    def uleb(self) -> int:
        value = shift = 0
        while True:
            byte = self.number(1)
            value |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80 or shift > 70:
                return value

    def string(self) -> str:
        text = _string(self._data, self.place)
        self.place = self._data.index(b"\0", self.place) + 1
        return text

    def skip(self, size: int) -> None:
        self.place += size
        if self.place > len(self._data):
            raise ValueError("beyond the end of the section")


def contents(section: DebugSectionDescriptor | None) -> BytesIO:
    """The section as pyelftools read it: whole, into memory. Raises ValueError if it is not there."""
    if section is None or not isinstance(section.stream, BytesIO):
        raise ValueError("a section of the debug information is missing")
    return section.stream


def file_names(info: DWARFInfo, place: int) -> list[str | None]:
    """The files of the program at `place`, with their folders, by the numbers that DW_AT_decl_file has."""
    section = info.debug_line_sec
    if section is None:
        return []
    cursor = _Cursor(contents(section).getvalue(), place, "<" if info.config.little_endian else ">")
    offset_size = 4
    if cursor.number(4) == 0xFFFFFFFF:
        offset_size = 8
        cursor.skip(8)
    version = cursor.number(2)
    if version >= 5:
        cursor.skip(2)
    cursor.skip(offset_size + 1 + (1 if version >= 4 else 0) + 3)
    cursor.skip(cursor.number(1) - 1)
    if version >= 5:
        folders = [name for name, _ in _table(cursor, info, offset_size)]
        return [_joined(folders, number, name) for name, number in _table(cursor, info, offset_size)]
    return _old_table(cursor)


def _old_table(cursor: _Cursor) -> list[str | None]:
    """Folders and files as versions up to 4 have them: each list ends with an empty name, and both count from 1."""
    folders: list[str | None] = [None]
    while folder := cursor.string():
        folders.append(folder)
    files: list[str | None] = [None]
    while name := cursor.string():
        number = cursor.uleb()
        cursor.uleb()
        cursor.uleb()
        files.append(_joined(folders, number, name))
    return files


def _table(cursor: _Cursor, info: DWARFInfo, offset_size: int) -> list[tuple[str | None, int]]:
    formats = [(cursor.uleb(), cursor.uleb()) for _ in range(cursor.number(1))]
    count = cursor.uleb()
    entries: list[tuple[str | None, int]] = []
    for _ in range(count):
        before = cursor.place
        name, number = None, 0
        for content, form in formats:
            value = _value(cursor, info, form, offset_size)
            if content == _DW_LNCT_PATH and isinstance(value, str):
                name = value
            elif content == _DW_LNCT_DIRECTORY_INDEX and isinstance(value, int):
                number = value
        if cursor.place == before:
            raise ValueError("entries without a byte")
        entries.append((name, number))
    return entries


def _value(cursor: _Cursor, info: DWARFInfo, form: int, offset_size: int) -> str | int | None:
    if form == _STRING:
        return cursor.string()
    if form in (_LINE_STRP, _STRP):
        table = info.debug_line_str_sec if form == _LINE_STRP else info.debug_str_sec
        offset = cursor.number(offset_size)
        return None if table is None else _string(contents(table).getbuffer(), offset)
    if form == _UDATA:
        return cursor.uleb()
    if form == _BLOCK:
        cursor.skip(cursor.uleb())
        return None
    size = _FIXED[form]
    if size == 16:
        cursor.skip(size)
        return None
    return cursor.number(size)


def _string(data: bytes | memoryview, place: int) -> str:
    # Longer names are not read: each of a million entries may point at the same megabytes.
    return bytes(data[place : place + 4096]).split(b"\0", 1)[0].decode("utf-8", errors="backslashreplace")


def _joined(folders: list[str | None], number: int, name: str | None) -> str | None:
    folder = folders[number] if 0 <= number < len(folders) else None
    return name if name is None or folder is None else posixpath.join(folder, name)
