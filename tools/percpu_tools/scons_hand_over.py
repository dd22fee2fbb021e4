"""Lets SCons find `env.Tool('percpu')` with no toolpath: the wheel installs this file as `SCons/Tool/percpu.py`.

The tool itself is the one in percpu_tools' toolpath(); it is loaded from there and not copied.
"""

import importlib.util
import sys

from percpu_tools import toolpath

_NAME = "percpu_tools.scons_tool"


def _load():
    if _NAME not in sys.modules:
        spec = importlib.util.spec_from_file_location(_NAME, str(toolpath() / "percpu" / "__init__.py"))
        module = importlib.util.module_from_spec(spec)
        sys.modules[_NAME] = module
        spec.loader.exec_module(module)
    return sys.modules[_NAME]


generate = _load().generate
exists = _load().exists
