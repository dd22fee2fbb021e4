"""Where percpu_tools lies, and what it needs, also where SCons is another Python's: the system's."""

import sys
from pathlib import Path

_HERE = Path(__file__).resolve()
_CHECKOUT, _INSTALLED = _HERE.parents[3], _HERE.parents[5]


def find():
    """Makes the packages importable.

    Once is not enough: while SCons reads the tool, or an SConscript, sys.path is one that it throws away after.
    """
    # In a checkout the package lies beside the tool, and they belong together even where another version is installed.
    if (_CHECKOUT / "tools" / "percpu_tools").is_dir() and "percpu_tools" not in sys.modules:
        sys.path.insert(0, str(_CHECKOUT / "tools"))
    sys.path.extend(folder for folder in needed() if folder not in sys.path)


def needed():
    """The folders to look in last, for what this Python does not have itself."""
    if (_CHECKOUT / "tools" / "percpu_tools").is_dir():
        return sorted(str(folder) for folder in _CHECKOUT.glob(".venv/lib/python3*/site-packages"))
    return [str(_INSTALLED)] if (_INSTALLED / "percpu_tools").is_dir() else []
