"""What every compilation of the environment gets: the runtime's folder of headers, and the features' macros.

Neither CPPPATH nor CPPDEFINES is touched, because `env["CPPPATH"] = [...]` behind the tool, or an
override in a call, would lose what had been added. SCons makes its flags from them in _CPPINCFLAGS and
_CPPDEFFLAGS; ours stand behind those, and are worked out when a command line is.
"""

import copy

import SCons.Scanner
import SCons.Tool
from percpu_tools import paths, targets
from percpu_tools.errors import MissingToolError

from . import variables
from .errors import said_plainly

_HEADERS = str(paths.includes())


def generate(env):
    """Adds the flags, and lets the scanner of #include lines look into the runtime's folder."""
    for name, ours in (("_CPPINCFLAGS", "$_PERCPU_CPPINCFLAGS"), ("_CPPDEFFLAGS", "$_PERCPU_CPPDEFFLAGS")):
        if ours not in env.get(name, ""):
            env[name] = f"{env.get(name, '')} {ours}".strip()
    env["_PERCPU_CPPINCFLAGS"] = _include_flags
    env["_PERCPU_CPPDEFFLAGS"] = _define_flags
    for builder in SCons.Tool.createObjBuilders(env):
        # Clones of an environment share their builders; the scanner looks whether the tool is loaded.
        builder.get().source_scanner = _HeaderScanner.around(builder.source_scanner)


def _include_flags(target, source, env, for_signature):
    if not variables.is_on(env):
        return []
    folder = _HEADERS.replace("$", "$$")
    # `$( $)`: where the toolkit is installed is not part of what was compiled.
    return ["$(", f"${{INCPREFIX}}{folder}${{INCSUFFIX}}", "$)"]


def _define_flags(target, source, env, for_signature):
    if not variables.is_on(env) or not (env.get("PERCPU_FEATURES") or env.get("PERCPU_CACHE_LINE")):
        return []
    with said_plainly():
        if not _is_for_percpu(env):
            return []
        macros = dict(variables.features(env)[1].defines)
        line = variables.cache_line(env)
        if line is not None:
            macros["PERCPU_CACHE_LINE"] = str(line)
    return [f"${{CPPDEFPREFIX}}{name if value is None else f'{name}={value}'}${{CPPDEFSUFFIX}}"
            for name, value in sorted(macros.items())]


def _is_for_percpu(env):
    """Whether a compilation is for a machine that percpu knows: boot code of 16 or 32 bits beside a kernel is not."""
    try:
        return variables.machine(env).processor in targets.TARGETS
    except MissingToolError:
        return False  # the compilation will say so


class _HeaderScanner(SCons.Scanner.ScannerBase):
    """A builder's scanner that also looks for headers where the runtime has them."""

    @classmethod
    def around(cls, scanner):
        return scanner if isinstance(scanner, cls) else cls(scanner)

    def __init__(self, scanner):
        super().__init__(function=scanner, name=scanner.name, skeys=scanner.skeys)
        self._by_original = {}

    def __call__(self, node, env, path=()):
        scanner = self.select(node)
        return scanner(node, env, path) if scanner else []

    def select(self, node):
        """The scanner for this kind of file, with the runtime's folder behind CPPPATH where it reads that."""
        original = self.function.select(node)
        if getattr(getattr(original, "path_function", None), "variable", None) != "CPPPATH":
            return original
        if original not in self._by_original:
            extended = copy.copy(original)
            extended.path_function = _with_runtime(original.path_function)
            self._by_original[original] = extended
        return self._by_original[original]


def _with_runtime(path_function):
    def path(env, directory=None, target=None, source=None, *rest):
        found = tuple(path_function(env, directory, target, source, *rest))
        if not variables.is_on(env):
            return found
        return (*found, env.fs.Dir(_HEADERS))

    return path
