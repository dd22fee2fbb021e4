"""TOML files, and what is wrong with them in one line."""

from __future__ import annotations

import importlib
import sys
from typing import Any

from percpu_tools.errors import PercpuError


def read(path: str) -> dict[str, Any]:
    """The document in that file."""
    return parse(path, read_bytes(path))


def read_bytes(path: str) -> bytes:
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except OSError as error:
        raise PercpuError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        # A NUL in the path.
        raise PercpuError(f"{path!r}: {error}") from error


def parse(path: str, contents: bytes) -> dict[str, Any]:
    """The document of those contents; `path` is for messages."""
    # Imported here: most checks have nothing to read.
    toml = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    try:
        document: dict[str, Any] = toml.loads(contents.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        # TOMLDecodeError and UnicodeDecodeError are both ValueErrors.
        raise PercpuError(f"{path}: not TOML: {error}") from error
    return document
