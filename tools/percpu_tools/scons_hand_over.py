"""Lets SCons find `env.Tool('percpu')` with no toolpath: the wheel installs this file as `SCons/Tool/percpu.py`.

The tool itself is the one in percpu_tools' toolpath(); it is loaded from there and not copied.
"""

import importlib.util
import sys

from percpu_tools import toolpath

# The name under which the tool's modules know each other.
_NAME = "percpu_tools.scons_tool"

if _NAME not in sys.modules:
    _file = toolpath() / "percpu" / "__init__.py"
    _spec = importlib.util.spec_from_file_location(_NAME, str(_file))
    if _spec is None or _spec.loader is None:
        raise ImportError(f"{_file} is not a Python module")
    sys.modules[_NAME] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules[_NAME])

generate = sys.modules[_NAME].generate
exists = sys.modules[_NAME].exists
