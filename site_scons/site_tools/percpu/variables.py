"""The construction variables: their defaults, and reading them."""

import shlex
from collections import namedtuple

import SCons.Script
import SCons.SConsign
import SCons.Subst
import SCons.Util
from percpu_tools import __version__, linkcommand, targets, toolchain
from percpu_tools.errors import PercpuError

from .errors import said_plainly

_DEFAULTS = {
    "PERCPU": True,
    "PERCPU_ARCH": "",
    "PERCPU_CACHE_LINE": "",
    "PERCPU_CHECK": "error",
    "PERCPU_CHECKFLAGS": [],
    "PERCPU_EMIT_RELOCS": False,
    "PERCPU_FEATURES": [],
    "PERCPU_LINKER": "",
    "PERCPU_LOAD_OFFSET": "",
    "PERCPU_LOAD_REGION": "",
    "PERCPU_MODE": "insert",
    "PERCPU_REGION": "",
    "PERCPU_TEMPLATE_VARIABLES": {},
}
_NOT_SET_HERE = ("CPU_NUM", "PERCPU_CHECKCOM", "PERCPU_CHECKCOMSTR", "PERCPU_FRAGMENTCOM", "PERCPU_FRAGMENTCOMSTR",
                 "PERCPU_LINKERSCRIPTCOM", "PERCPU_LINKERSCRIPTCOMSTR", "PERCPU_RUNTIMECOMSTR")
_MODES = ("insert", "include")
_YES = ("1", "on", "t", "true", "y", "yes")
_CHECKS = ("error", "warn", "off")
_NO = ("", "0", "f", "false", "n", "no", "none", "off")


class Settings(namedtuple("Settings", (
        "cpu_num", "arch", "features", "linker", "mode", "cache_line", "load_offset", "region", "load_region"))):
    """What one linked program, or one rendered script, is to be."""

    def as_overrides(self):
        """The construction variables that say the same, whatever becomes of the environment's own."""
        return {
            "CPU_NUM": self.cpu_num,
            "PERCPU_ARCH": self.arch,
            "PERCPU_FEATURES": list(self.features.words),
            "PERCPU_LINKER": self.linker,
            "PERCPU_MODE": self.mode,
            "PERCPU_CACHE_LINE": self.cache_line,
            "PERCPU_LOAD_OFFSET": self.load_offset,
            "PERCPU_REGION": self.region,
            "PERCPU_LOAD_REGION": self.load_region,
        }


def set_given(env, given):
    """Sets what was said in `env.Tool("percpu", ...)`, and the defaults of what nobody has said."""
    known = (*_DEFAULTS, *_NOT_SET_HERE)
    with said_plainly():
        for name in given:
            if name not in known:
                raise PercpuError(f"env.Tool('percpu', {name}=...) has no such parameter: "
                                  f"expected one of {', '.join(sorted(known))}")
    env.Replace(**given)
    env.SetDefault(PERCPU_VERSION=__version__, **_DEFAULTS)


def words(env, name, **nodes):
    """The words of a construction variable that is a string, a list or a command."""
    return as_the_shell_does(env.subst_list(f"${name}", **nodes))


def as_the_shell_does(lines):
    """The words of command lines without the quotes that are there for the shell."""
    given = [str(word) for line in lines for word in line]
    # SCons quotes a word with a space itself.
    text = " ".join(map(SCons.Subst.quote_spaces, given))
    try:
        return shlex.split(text) if set(text) & set("\"'\\") else given
    except ValueError:
        return given


def is_on(env):
    """Whether the tool is loaded in this environment and not turned off for this call."""
    return "PERCPU_VERSION" in env and _text(env, "PERCPU").lower() not in _NO


def keeps_relocations(env):
    """Whether the linked program is to have its relocations left in it."""
    return _text(env, "PERCPU_EMIT_RELOCS").lower() not in _NO


def check_mode(env):
    """`error`, `warn` or `off`."""
    value = _text(env, "PERCPU_CHECK")
    if value.lower() in _NO:
        return "off"
    if value.lower() in _YES:
        return "error"
    if value not in _CHECKS:
        raise PercpuError(f"PERCPU_CHECK is {value!r}: expected error, warn or off")
    return value


def machine(env, variable="CXX"):
    """What the compiler that `variable` (CXX or CC) names builds for."""
    _keep_answers(env)
    flags = ("CXXFLAGS" if variable == "CXX" else "CFLAGS", "CCFLAGS")
    # Asked for every compilation: filling in takes longer than all else, so it is done where needed only.
    compiler, *given = [_plain_words(env.get(name, "")) or words(env, name) for name in (variable, *flags)]
    if not compiler:
        raise PercpuError(f"there is no compiler: {variable} is not set",
                          fix=("install one", f"set {variable} to the one to use"))
    return toolchain.machine(compiler, sum(given, []), env["ENV"])


_NOT_PLAIN = frozenset("$\"'\\")


def _plain_words(value):
    """The words of a value in which nothing is to be filled in; none, where that cannot be told."""
    if SCons.Util.is_String(value):
        return [] if _NOT_PLAIN & set(value) else value.split()
    if SCons.Util.is_List(value) and all(SCons.Util.is_String(word) and not {*_NOT_PLAIN, " "} & set(word) for word in value):
        return list(value)
    return []


def features(env):
    """The architecture and the features, checked against each other."""
    arch = _arch(env)
    given = env.get("PERCPU_FEATURES") or []
    if SCons.Util.is_String(given):
        given = env.subst(given)
    elif SCons.Util.is_Sequence(given):
        # What a word refers to may be several.
        given = [part for word in given for part in (env.subst(word).split() if SCons.Util.is_String(word) else [word])]
    else:
        raise PercpuError(f"PERCPU_FEATURES is {given!r}: expected a list or a string")
    return arch, targets.parse_features(given, arch)


def cache_line(env):
    """The length of a cache line where one was given, else None."""
    value = _value(env, "PERCPU_CACHE_LINE")
    return None if value in (None, "") else targets.parse_cache_line(value, _arch(env))


def settings(env, link=None):
    """The settings of a program or script; `link` is the link command, by which the linker is known."""
    cpu_num = targets.parse_cpu_num(_value(env, "CPU_NUM"))
    arch, chosen = features(env)
    mode = _text(env, "PERCPU_MODE")
    if mode not in _MODES:
        raise PercpuError(f"PERCPU_MODE is {mode!r}: expected {' or '.join(_MODES)}")
    return Settings(
        cpu_num=cpu_num,
        arch=arch,
        features=chosen,
        linker=_linker(env, link),
        mode=mode,
        cache_line=cache_line(env),
        load_offset=_value(env, "PERCPU_LOAD_OFFSET") or None,
        region=_name(env, "PERCPU_REGION"),
        load_region=_name(env, "PERCPU_LOAD_REGION"),
    )


def _arch(env):
    given = _text(env, "PERCPU_ARCH")
    if not given:
        return machine(env).arch
    if given not in targets.TARGETS:
        raise PercpuError(f"PERCPU_ARCH is {given!r}: expected one of {', '.join(targets.TARGETS)}")
    built_for = machine(env)
    if built_for.processor != given:
        raise PercpuError(
            f"PERCPU_ARCH is {given!r}, and the compiler {built_for.compiler} builds for {built_for.processor} "
            f"({built_for.triple})", fix=(f"set CXX to a compiler for {given}", "remove PERCPU_ARCH"))
    return given


def _linker(env, link):
    given = _text(env, "PERCPU_LINKER")
    if not given:
        # A rendering without a link command: C++ programs are linked by the C++ compiler.
        command = link or linkcommand.parse([*(words(env, "LINK") or words(env, "CXX")), *words(env, "LINKFLAGS")])
        if not command.program:
            raise PercpuError("there is no linker: LINK is not set", fix="set LINK to the compiler or linker to use")
        _keep_answers(env)
        return toolchain.linker(command, env["ENV"])
    if given not in toolchain.LINKERS:
        raise PercpuError(f"PERCPU_LINKER is {given!r}: expected {' or '.join(toolchain.LINKERS)}")
    return given


def _keep_answers(env):
    """Have what the tools say kept beside SCons's own file of what it knows, and as that is: not in a dry run."""
    if SCons.Script.GetOption("no_exec"):
        return toolchain.keep_answers(None)
    beside = SCons.SConsign.DB_Name or SCons.SConsign.current_sconsign_filename()
    return toolchain.keep_answers(env.fs.Top.File(f"{beside}.percpu.json").get_abspath())


def _value(env, name):
    """A variable's value, with what a string refers to filled in, and other types as they are."""
    value = env.get(name)
    return env.subst(value) if SCons.Util.is_String(value) else value


def _name(env, name):
    value = _value(env, name) or None
    if value is not None and not SCons.Util.is_String(value):
        raise PercpuError(f"{name} is {value!r}: expected the name of a region of MEMORY")
    return value


def _text(env, name):
    return str(_value(env, name) if env.get(name) is not None else "").strip()
