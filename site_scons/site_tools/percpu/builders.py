"""The builders PercpuFragment, PercpuCheck and PercpuLinkerScript, and the actions behind them."""

import contextlib
import re
import shlex
import shutil

import SCons.Node.FS
from percpu_tools import ldscript, linkcommand, paths, scriptfiles, userscript
from percpu_tools.errors import PercpuError
from percpu_tools.files import write_atomically
from SCons.Action import Action
from SCons.Builder import Builder
from SCons.PathList import PathList
from SCons.Scanner import ScannerBase
from SCons.Util import Proxy

from . import checking, packages, variables
from .errors import said_plainly

_RENDERING = ["CPU_NUM", "PERCPU_ARCH", "PERCPU_FEATURES", "PERCPU_LINKER", "PERCPU_MODE", "PERCPU_CACHE_LINE",
              "PERCPU_LOAD_OFFSET", "PERCPU_REGION", "PERCPU_LOAD_REGION", "PERCPU_VERSION"]

_TEMPLATE_NAMES = re.compile(r"""{%[-+]?\s*(?:include|extends|import|from)\s+["']([^"']+)["']""")


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
    scripts = ScannerBase(_scan_script, name="PercpuScript", path_function=script_folders, recursive=True)
    templates = ScannerBase(_scan_template, name="PercpuTemplate", recursive=True)
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


def script_folders(env, directory=None, *_):
    """Where the linker looks for the files that a script INCLUDEs: where it runs, -L, and LIBPATH."""
    flags = linkcommand.parse(["ld", *variables.words(env, "LINKFLAGS")]).search_folders
    top = env.fs.Dir("#")
    libraries = PathList(env.get("LIBPATH", [])).subst_path(env, None, None)
    return (top, *top.Rfindalldirs(tuple(flags)), *(directory or env.fs.getcwd()).Rfindalldirs(tuple(libraries)))


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
    packages.find()
    with said_plainly():
        arch, features = variables.features(env)
        anchor, regions = _place(source, env)
        write_atomically(str(target[0]), ldscript.render_fragment(
            cpu_num=env["CPU_NUM"], arch=arch, features=features.words, linker=env["PERCPU_LINKER"],
            mode=env["PERCPU_MODE"], load_offset=env["PERCPU_LOAD_OFFSET"], cache_line=env["PERCPU_CACHE_LINE"],
            insert_after=anchor, region=regions.region, load_region=regions.load_region))


def _place(source, env):
    """The section to insert the fragment after, and the regions for it, as the user's scripts have them."""
    given = userscript.Regions(env["PERCPU_REGION"], env["PERCPU_LOAD_REGION"])
    if not source:
        return userscript.DEFAULT_ANCHOR, given
    folders = [str(folder) for folder in script_folders(env)]
    text = "\n".join(scriptfiles.read_script(str(script), folders).text for script in source)
    linker, mode, path = env["PERCPU_LINKER"], env["PERCPU_MODE"], " and ".join(map(str, source))
    anchor = userscript.DEFAULT_ANCHOR
    if mode == "insert":
        anchor = userscript.find_anchor(text, linker=linker, layout=variables.features(env)[1].layout, path=path)
    return anchor, userscript.find_regions(text, anchor, linker, mode, path, given)


def _render_script(target, source, env):
    packages.find()
    with said_plainly():
        arch, features = variables.features(env)
        write_atomically(str(target[0]), ldscript.render_template(
            str(source[0]), cpu_num=env["CPU_NUM"], arch=arch, features=features.words, linker=env["PERCPU_LINKER"],
            load_offset=env["PERCPU_LOAD_OFFSET"], cache_line=env["PERCPU_CACHE_LINE"],
            region=env["PERCPU_REGION"], load_region=env["PERCPU_LOAD_REGION"],
            variables=env["PERCPU_TEMPLATE_VARIABLES"]))


def _copy(target, source, env):
    # Compiled from a copy: the objects then do not depend on where the toolkit is installed, and another
    # checkout finds them in a CacheDir.
    shutil.copyfile(str(source[0]), str(target[0]))


def _displayed(variable, command):
    """What is shown when an action runs: the user's string where there is one, else a command that does the same."""

    def display(target, source, env):
        return env.subst(f"${variable}", target=target, source=source) or shlex.join(command(target, source, env))

    return display


def _fragment_command(target, source, env):
    words = ["percpu-ldscript", "render", "--cpu-num", str(env["CPU_NUM"]), "--arch", env["PERCPU_ARCH"]]
    for feature in env["PERCPU_FEATURES"]:
        words += ["--feature", feature]
    words += ["--linker", env["PERCPU_LINKER"], "--mode", env["PERCPU_MODE"]]
    # Shown before it runs, and in a dry run: a script may be wrong, or not there yet.
    anchor, regions = userscript.DEFAULT_ANCHOR, userscript.Regions(env["PERCPU_REGION"], env["PERCPU_LOAD_REGION"])
    with contextlib.suppress(PercpuError):
        anchor, regions = _place(source, env)
    for option, value in (("--load-offset", env["PERCPU_LOAD_OFFSET"]), ("--cache-line", env["PERCPU_CACHE_LINE"]),
                          ("--region", regions.region), ("--load-region", regions.load_region)):
        if value:
            words += [option, str(value)]
    if anchor != userscript.DEFAULT_ANCHOR:
        words += ["--insert-after", anchor]
    return [*words, "-o", str(target[0])]


def _script_call(target, source, env):
    return ["PercpuLinkerScript", str(target[0]), str(source[0])]


def _copy_command(target, source, env):
    return ["cp", str(source[0]), str(target[0])]


def _depend_on_template(target, source, env):
    env.Depends(target, env.fs.File(str(paths.ldscripts() / ldscript.FRAGMENT)))
    return target, source


def _scan_script(node, env, path):
    found = (SCons.Node.FS.find_file(name, path) for name in scriptfiles.included_names(node.get_text_contents()))
    return [file for file in found if file is not None]


def _scan_template(node, env, path):
    folders = (node.get_dir(), env.fs.Dir(str(paths.ldscripts())))
    names = (name[len("percpu/"):] if name.startswith("percpu/") else name
             for name in _TEMPLATE_NAMES.findall(node.get_text_contents()))
    found = (SCons.Node.FS.find_file(name, folders) for name in names)
    return [file for file in found if file is not None]
