"""Program as SCons has it, with the runtime, the fragment and the check added to each call."""

import contextlib
import os
import shlex

import SCons.Scanner
import SCons.Script
import SCons.Tool
from percpu_tools import linkcommand, paths, scriptfiles
from percpu_tools.errors import MissingToolError, PercpuError
from SCons.Builder import OverrideWarner
from SCons.Node.FS import find_file
from SCons.Subst import Literal
from SCons.Util import Proxy, flatten, is_List, is_String

from . import checking, scanning, variables
from .errors import said_plainly

_COMPILERS = ("CXX", "CC")
_COMPILER_FLAGS = ("CXXFLAGS", "CFLAGS", "CCFLAGS")

# Construction variables of which no compilation hears.
_OF_THE_LINK = frozenset((
    "CPU_NUM", "LIBPATH", "LIBS", "LINK", "LINKCOM", "LINKCOMSTR", "LINKFLAGS", "PERCPU_CHECK", "PERCPU_CHECKCOM",
    "PERCPU_CHECKCOMSTR", "PERCPU_CHECKFLAGS", "PERCPU_EMIT_RELOCS", "PERCPU_LINKER", "PERCPU_LOAD_OFFSET",
    "PERCPU_LOAD_REGION", "PERCPU_MODE", "PERCPU_REGION"))

# In a link command that is only looked at, for the flags that bring the fragment: what they are depends on the others.
_FRAGMENT = "percpu-fragment"

# Parameters of a builder's call that are not construction variables.
_NOT_VARIABLES = ("chdir", "srcdir")


def generate(env):
    """Puts the kernel's Program in the place of SCons's own, around it."""
    program = SCons.Tool.createProgBuilder(env)
    if not isinstance(program, KernelProgram):
        program.target_scanner = _IncludeScanner(program.target_scanner)
        env["BUILDERS"]["Program"] = KernelProgram(program)


class KernelProgram(Proxy):
    """The Program builder: what it makes is a kernel, unless the call says or shows otherwise."""

    def __call__(self, env, target=None, source=None, **given):
        program = self.get()
        special = {name: given.pop(name) for name in _NOT_VARIABLES if name in given}
        called = env.Override(given) if given else env
        # `scons -h` is answered whatever is wrong: its reader may be looking for what to set. A test of Configure
        # is no kernel, but sees what the kernel's sources see.
        if SCons.Script.GetOption("help") or not variables.is_on(called) or given.get("SCONF_NODE"):
            return program(env, target, source, **given, **special)
        with said_plainly():
            if not _is_kernel(env, called, given):
                return program(env, target, source, **{**given, "PERCPU": False}, **special)
        kernel = _Kernel(called)
        if "srcdir" in special:
            source = _below(special.pop("srcdir"), source)
        # The objects are the environment's: made here, they do not see what only the link is told,
        # and so can be shared with other programs without a warning.
        compiled = {name: value for name, value in given.items() if name not in _OF_THE_LINK}
        compiling = env.Override(compiled) if compiled else env
        source = program.src_builder_sources(compiling, flatten(source), OverrideWarner(compiled))
        nodes = program(called, target, source, **kernel.overrides(), **special)
        kernel.finish(nodes)
        return nodes


def _below(folder, source):
    """The sources in that folder, as SCons's builders take `srcdir`."""
    return [os.path.join(folder, one) if is_String(one) else one for one in (source if is_List(source) else [source])]


def _is_kernel(env, called, given):
    """Whether a call compiles for the environment's machine, and not a tool for the one that builds."""
    changed = [name for name in (*_COMPILERS, *_COMPILER_FLAGS)
               if name in given and called.subst(f"${name}") != env.subst(f"${name}")]
    if not changed:
        return True
    if env.get("PERCPU_ARCH") and "PERCPU_ARCH" in given:
        return True
    compilers = [name for name in _COMPILERS if name in changed]
    try:
        own = variables.machine(env)
        others = [variables.machine(called, name) for name in compilers or ["CXX"]]
    except MissingToolError:
        # Whatever it is: its compilation will say what is missing.
        return not compilers
    if all(other.runs_what(own) for other in others):
        return True
    # With other flags alone (--target) it may be a kernel for another machine, unless that is this one.
    return not compilers and others[0].processor != os.uname().machine


class _Kernel:
    """One call of Program. SCons names the target late, so the parts below wait for its emitter."""

    def __init__(self, called):
        self._called = called
        self._settings = None
        self._fragment = None
        self._scripts = []
        self._missing = None
        self._finished = False

    def overrides(self):
        """What the builder is called with: the link flags with the fragment in front, and our emitter."""
        emitters = self._called.get("PROGEMITTER") or []
        return {
            "LINKFLAGS": "$_PERCPU_LINKFLAGS $_PERCPU_GIVEN_LINKFLAGS",
            "_PERCPU_LINKFLAGS": self._link_flags,
            # Through a function, so that what is added to LINKFLAGS after the call still counts.
            "_PERCPU_GIVEN_LINKFLAGS": lambda target, source, env, for_signature: self._called.get("LINKFLAGS", ""),
            "PROGEMITTER": [*(emitters if is_List(emitters) else [emitters]), self._emit],
        }

    def _emit(self, target, source, env):
        """The emitter: the first place where the target's name and all objects are known."""
        self._name = str(target[0])
        self._folder = target[0].dir.Dir(f"{target[0].name}.percpu")
        with said_plainly(self._name):
            try:
                runtime = self._runtime()
                self._settle(target, [*source, *runtime], env)
            except MissingToolError as error:
                # It concerns those who ask for this program: the link says it, and nothing is compiled before.
                self._missing = error
                return target, []
            except PercpuError:
                # What is cleaned need not be right.
                if not SCons.Script.GetOption("clean"):
                    raise
        return target, [*source, *runtime]

    def _settle(self, target, source, env):
        """Reads what concerns the link."""
        words = self._link_words(target, source, env)
        given = linkcommand.parse([word for word in words if word != _FRAGMENT])
        self._direct = given.is_linker
        self._settings = variables.settings(self._called, given)
        self._checks = variables.check_mode(self._called)
        self._scripts = [self._script(path, given.search_folders) for path in given.scripts]
        # Rendered with the flags of the call, where the script's INCLUDEs are looked for too.
        self._fragment = self._called.PercpuFragment(
            self._folder.File("percpu.ld"), self._scripts, **self._settings.as_overrides())[0]
        with _at_top(self._called.fs):
            flags = self._fragment_flags(self._fragment_file())
        self._refuse_unheard(linkcommand.parse([part for word in words for part in (flags if word == _FRAGMENT else [word])]))

    def _script(self, path, folders):
        """The script that the linker finds by that name: where it runs, else with -L."""
        fs = self._called.fs
        try:
            script = fs.File(path, fs.Top)
            if not (os.path.isabs(path) or script.rexists() or script.has_builder()):
                script = find_file(path, tuple(fs.Dir(folder, fs.Top) for folder in folders)) or script
        except TypeError:
            raise PercpuError(f"the linker script {path} is a folder", fix="name the script in it") from None
        return script

    def _runtime(self):
        """The objects of the runtime, compiled as the kernel is."""
        copies = [self._called.PercpuRuntime(self._folder.File(path.name), self._called.fs.File(str(path)))
                  for path in paths.sources()]
        return flatten([self._called.StaticObject(copy) for copy in copies])

    def _link_words(self, target, source, env):
        """The link command of this program; LINKCOM where it is a text, else LINK and LINKFLAGS."""
        text = env.get("LINKCOM")
        if not is_String(text):
            text = "$LINK $LINKFLAGS"
        looked_at = env.Override({"TEMPFILE": _WrittenOut})
        with _at_top(env.fs):
            lines = looked_at.subst_list(text, target=target, source=source)
        return variables.as_the_shell_does(lines[:1])

    def _link_flags(self, target, source, env, for_signature):
        if self._missing is not None:
            with said_plainly(self._name):
                raise self._missing
        if self._fragment is None:
            return [_FRAGMENT]
        # For a signature the flags are asked for several times, and one more script makes another signature.
        if self._finished and not for_signature:
            self._refuse_late_scripts(target, source)
        kept = ["--emit-relocs"] if self._direct else ["-Wl,--emit-relocs"]
        flags = [*(kept if variables.keeps_relocations(self._called) else []),
                 *self._fragment_flags(self._fragment_file(for_signature))]
        return [word if shlex.quote(word) == word else Literal(word) for word in flags]

    def _fragment_file(self, for_signature=False):
        """The fragment that is read: one that is up to date in a repository stays there."""
        if for_signature or os.path.exists(self._fragment.get_abspath()):
            return self._fragment
        return self._fragment.rfile()

    def _fragment_flags(self, fragment):
        if self._settings.mode == "include":
            return [f"-L{fragment.dir}"]
        if self._direct:
            return ["-T", str(fragment)]
        # -Wl, and not the compiler's own -T, which would come to the linker behind the user's -Wl,-T.
        if "," in str(fragment):
            return ["-Xlinker", "-T", "-Xlinker", str(fragment)]
        return [f"-Wl,-T,{fragment}"]

    def _refuse_late_scripts(self, target, source):
        """Refuse a script that came into LINKFLAGS after the call: the fragment was placed without it."""
        scripts = linkcommand.parse(self._link_words(target, source, self._called)).scripts
        if len(scripts) > len(self._scripts):
            with said_plainly(self._name):
                raise PercpuError(f"the linker script {scripts[-1]} was added after Program was called, which has to know it",
                                  fix="name it in LINKFLAGS before the call")

    def _refuse_unheard(self, command):
        """Refuse a link command by which the linker would not read the fragment as it must be read."""
        with _at_top(self._called.fs):
            fragment = self._fragment_file()
            path, folder = str(fragment), str(fragment.dir)
        if self._settings.mode == "include":
            if folder not in command.search_folders:
                raise PercpuError("the link command does not use $LINKFLAGS, which brings the fragment's folder",
                                  fix="write $LINKFLAGS in LINKCOM")
            return
        if path not in command.scripts:
            raise PercpuError("the link command does not use $LINKFLAGS, which brings the fragment",
                              fix="write $LINKFLAGS in LINKCOM")
        if self._settings.linker == "ld" and command.scripts[0] != path:
            raise PercpuError(
                f"the link command names the script {command.scripts[0]} before $LINKFLAGS, which brings the fragment, "
                "and GNU ld must read the fragment first",
                fix="name the script in LINKFLAGS, and not in LINK or LINKCOM")

    def finish(self, nodes):
        """What hangs on the program once it exists: dependencies, the check, and cleaning."""
        called, program = self._called, nodes[0]
        self._finished = True
        called.Clean(program, self._folder)
        if self._fragment is None:
            return
        called.Depends(program, [self._fragment, *self._scripts])
        program.attributes.percpu_scripts = self._scripts
        with _at_top(called.fs):
            checked = called.Override(self._check_overrides())
        if not hasattr(program.attributes, "percpu_gate"):
            program.attributes.percpu_gate = True
            called.AddPostAction(program, checking.Gate(checked, self._folder))
        if self._checks != "off":
            check = checked.PercpuCheck(self._folder.File("check.txt"), program)[0]
            if checking.refuses(checked):
                # What the check reads, for the gate reads it too.
                called.Depends(program, check.depends)

    def _check_overrides(self):
        return {
            "CPU_NUM": self._settings.cpu_num,
            "PERCPU_CHECK": self._checks,
            "PERCPU_CHECKFLAGS": variables.words(self._called, "PERCPU_CHECKFLAGS"),
        }


@contextlib.contextmanager
def _at_top(fs):
    """Names as they will be when the program is linked: while SConscripts are read, those of nodes are relative to them."""
    here = fs.getcwd()
    fs.chdir(fs.Top)
    try:
        yield
    finally:
        fs.chdir(here)


class _WrittenOut:
    """In place of TEMPFILE, which would write its file for a command that is only looked at."""

    def __init__(self, command, *_):
        self._command = command

    def __call__(self, target, source, env, for_signature):
        return self._command


class _IncludeScanner(SCons.Scanner.ScannerBase):
    """Program's own scanner, which finds libraries, and with it the files that linker scripts INCLUDE."""

    def __init__(self, libraries):
        super().__init__(function=libraries, name="PercpuProgram", path_function=libraries.path)

    def __call__(self, node, env, path=()):
        found = list(self.function(node, env, path))
        scripts = getattr(node.attributes, "percpu_scripts", [])
        folders = [str(folder) for folder in scanning.script_folders(env, node.cwd)] if scripts else []
        for script in scripts:
            # One that is generated may not be there yet: SCons asks again when it is.
            if script.rexists():
                with said_plainly(script):
                    files = scriptfiles.read_script(script.rfile().get_abspath(), folders).files[1:]
                found += [env.fs.File(str(file), env.fs.Top) for file in files]
        return found
