"""What the builders' actions do: the fragment or a whole script, rendered for one program."""

import contextlib

from percpu_tools import ldscript, scriptfiles, userscript
from percpu_tools.errors import PercpuError
from percpu_tools.files import write_atomically
from percpu_tools.scriptsyntax import Regions

from . import packages, scanning, variables
from .errors import said_plainly


def render_fragment(target, source, env):
    """The action of PercpuFragment."""
    packages.find()
    with said_plainly():
        arch, features = variables.features(env)
        anchor, regions = _place(target, source, env)
        text = ldscript.render_fragment(
            cpu_num=env["CPU_NUM"], arch=arch, features=features.words, linker=env["PERCPU_LINKER"],
            mode=env["PERCPU_MODE"], load_offset=env["PERCPU_LOAD_OFFSET"], cache_line=env["PERCPU_CACHE_LINE"],
            insert_after=anchor, region=regions.region, load_region=regions.load_region)
        if env["PERCPU_MODE"] == "include":
            given, names = _text(target, source, env), _names(source)
            if features.layout == "zero-vma":
                userscript.refuse_segments(given, text, names)
            userscript.refuse_without_fragment(given, names)
        write_atomically(str(target[0]), text)


def render_script(target, source, env):
    """The action of PercpuLinkerScript."""
    packages.find()
    with said_plainly():
        arch, features = variables.features(env)
        write_atomically(str(target[0]), ldscript.render_template(
            str(source[0]), cpu_num=env["CPU_NUM"], arch=arch, features=features.words, linker=env["PERCPU_LINKER"],
            load_offset=env["PERCPU_LOAD_OFFSET"], cache_line=env["PERCPU_CACHE_LINE"],
            region=env["PERCPU_REGION"], load_region=env["PERCPU_LOAD_REGION"],
            variables=env["PERCPU_TEMPLATE_VARIABLES"]))


def fragment_command(target, source, env):
    """The command line that renders the same fragment."""
    words = ["percpu-ldscript", "render", "--cpu-num", str(env["CPU_NUM"]), "--arch", env["PERCPU_ARCH"]]
    for feature in env["PERCPU_FEATURES"]:
        words += ["--feature", feature]
    words += ["--linker", env["PERCPU_LINKER"], "--mode", env["PERCPU_MODE"]]
    # Shown before it runs, and in a dry run: a script may be wrong, or not there yet.
    anchor, regions = userscript.DEFAULT_ANCHOR, Regions(env["PERCPU_REGION"], env["PERCPU_LOAD_REGION"])
    with contextlib.suppress(PercpuError):
        anchor, regions = _place(target, source, env)
    for option, value in (("--load-offset", env["PERCPU_LOAD_OFFSET"]), ("--cache-line", env["PERCPU_CACHE_LINE"]),
                          ("--region", regions.region), ("--load-region", regions.load_region)):
        if value:
            words += [option, str(value)]
    if anchor != userscript.DEFAULT_ANCHOR:
        words += ["--insert-after", anchor]
    return [*words, "-o", str(target[0])]


def _place(target, source, env):
    """The section to insert the fragment after, and the regions for it, as the user's scripts have them."""
    given = Regions(env["PERCPU_REGION"], env["PERCPU_LOAD_REGION"])
    if not source:
        return userscript.DEFAULT_ANCHOR, given
    text, linker, mode, path = _text(target, source, env), env["PERCPU_LINKER"], env["PERCPU_MODE"], _names(source)
    anchor, layout = userscript.DEFAULT_ANCHOR, variables.features(env)[1].layout
    if mode == "insert":
        anchor = userscript.find_anchor(text, linker=linker, layout=layout, path=path)
    return anchor, userscript.find_regions(text, anchor, linker, mode, path, given, layout)


def _text(target, source, env):
    """The text of the user's scripts, with what they INCLUDE."""
    # What was said in an SConscript is relative to its folder, which is no more the current one.
    folders = [str(folder) for folder in scanning.script_folders(env, target[0].cwd)]
    return "\n".join(scriptfiles.read_script(str(script), folders).text for script in source)


def _names(source):
    return " and ".join(map(str, source))
