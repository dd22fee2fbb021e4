"""What linker scripts and their templates read beside themselves."""

import re

import SCons.Node.FS
from percpu_tools import linkcommand, paths, scriptfiles
from SCons.PathList import PathList

from . import variables

_TEMPLATE_NAMES = r"""{%[-+]?\s*(?:include|extends|import|from)\s+["']([^"']+)["']"""


def script_folders(env, directory=None, *_):
    """Where the linker looks for the files that a script INCLUDEs: where it runs, -L, and LIBPATH."""
    flags = linkcommand.parse(["ld", *variables.words(env, "LINKFLAGS")]).search_folders
    top = env.fs.Dir("#")
    libraries = PathList(env.get("LIBPATH", [])).subst_path(env, None, None)
    return (top, *top.Rfindalldirs(tuple(flags)), *(directory or env.fs.getcwd()).Rfindalldirs(tuple(libraries)))


def scan_script(node, env, path):
    """The scanner of linker scripts: what they INCLUDE."""
    found = (SCons.Node.FS.find_file(name, path) for name in scriptfiles.included_names(node.get_text_contents()))
    return [file for file in found if file is not None]


def scan_template(node, env, path):
    """The scanner of templates: the templates that they include, extend or import."""
    folders = (node.get_dir(), env.fs.Dir(str(paths.ldscripts())))
    names = (name[len("percpu/"):] if name.startswith("percpu/") else name
             for name in re.findall(_TEMPLATE_NAMES, node.get_text_contents()))
    found = (SCons.Node.FS.find_file(name, folders) for name in names)
    return [file for file in found if file is not None]
