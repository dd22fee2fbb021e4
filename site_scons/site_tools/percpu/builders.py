"""The builders PercpuFragment, PercpuCheck and PercpuLinkerScript."""

import os
import shlex
import shutil

from percpu_tools import paths
from SCons.Action import Action
from SCons.Builder import Builder
from SCons.Scanner import ScannerBase
from SCons.Util import Proxy

from . import checking, scanning, variables
from .errors import said_plainly

_RENDERING = ["CPU_NUM", "PERCPU_ARCH", "PERCPU_FEATURES", "PERCPU_LINKER", "PERCPU_MODE", "PERCPU_CACHE_LINE",
              "PERCPU_LOAD_OFFSET", "PERCPU_REGION", "PERCPU_LOAD_REGION", "PERCPU_VERSION"]


def generate(env):
    """Adds the builders, and the construction variables that hold their actions."""
    if "_PERCPU_CHECK" not in env:
        env["_PERCPU_CHECK"] = Action(checking.check, _displayed("PERCPU_CHECKCOMSTR", checking.command),
                                      varlist=["CPU_NUM", "PERCPU_CHECK", "PERCPU_CHECKFLAGS", "PERCPU_VERSION"])
    env.SetDefault(
        PERCPU_CHECKCOM=env["_PERCPU_CHECK"],
        PERCPU_FRAGMENTCOM=Action(_render_fragment, _displayed("PERCPU_FRAGMENTCOMSTR", _fragment_command),
                                  varlist=_RENDERING),
        PERCPU_LINKERSCRIPTCOM=Action(_render_script, _displayed("PERCPU_LINKERSCRIPTCOMSTR", _script_call),
                                      varlist=[*_RENDERING, "PERCPU_TEMPLATE_VARIABLES"]),
    )
    scripts = ScannerBase(scanning.scan_script, name="PercpuScript", path_function=scanning.script_folders, recursive=True)
    templates = ScannerBase(scanning.scan_template, name="PercpuTemplate", recursive=True)
    env["BUILDERS"]["PercpuFragment"] = _Fragment(Builder(
        action=Action("$PERCPU_FRAGMENTCOM", "$PERCPU_FRAGMENTCOMSTR"), suffix=".ld",
        source_scanner=scripts, emitter=_depend_on_template))
    env["BUILDERS"]["PercpuLinkerScript"] = _Settled(Builder(
        action=Action("$PERCPU_LINKERSCRIPTCOM", "$PERCPU_LINKERSCRIPTCOMSTR"), suffix=".ld", src_suffix=".ld.j2",
        source_scanner=templates, single_source=True))
    env["BUILDERS"]["PercpuCheck"] = Builder(
        action=Action("$PERCPU_CHECKCOM", "$PERCPU_CHECKCOMSTR"), suffix=".check.txt",
        emitter=checking.never_from_cache)
    env["BUILDERS"]["PercpuRuntime"] = Builder(
        action=Action(_copy, _displayed("PERCPU_RUNTIMECOMSTR", _copy_command)))


class _Settled(Proxy):
    """A builder that reads its construction variables when it is called, and refuses wrong ones then."""

    def __call__(self, env, target=None, source=None, **overrides):
        called = env.Override(overrides) if overrides else env
        with said_plainly():
            settled = variables.settings(called).as_overrides()
        return self.get()(env, target, source, **{**overrides, **settled})


class _Fragment(_Settled):
    """PercpuFragment: what alone is named in a call is its target, for it needs no source."""

    def __call__(self, env, target=None, source=None, **overrides):
        if target is None:
            target, source = source, []
        return super().__call__(env, target, source, **overrides)


def _render_fragment(target, source, env):
    _rendering().render_fragment(target, source, env)


def _render_script(target, source, env):
    _rendering().render_script(target, source, env)


def _fragment_command(target, source, env):
    return _rendering().fragment_command(target, source, env)


def _script_call(target, source, env):
    return ["PercpuLinkerScript", str(target[0]), str(source[0])]


def _rendering():
    # Imported when there is something to render: a build that is up to date need not wait for it.
    from . import rendering

    return rendering


def _copy(target, source, env):
    # Compiled from a copy: the objects then do not depend on where the toolkit is installed, and another
    # checkout finds them in a CacheDir. SCons remembers of a folder that was cleaned that it is there.
    os.makedirs(os.path.dirname(str(target[0])) or ".", exist_ok=True)
    shutil.copyfile(str(source[0]), str(target[0]))


def _displayed(variable, command):
    """What is shown when an action runs: the user's string where there is one, else a command that does the same."""

    def display(target, source, env):
        return env.subst(f"${variable}", target=target, source=source) or shlex.join(command(target, source, env))

    return display


def _copy_command(target, source, env):
    return ["cp", str(source[0]), str(target[0])]


def _depend_on_template(target, source, env):
    env.Depends(target, env.fs.File(str(paths.ldscripts() / paths.FRAGMENT)))
    return target, source
