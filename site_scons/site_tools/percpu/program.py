"""Program as SCons has it, with the runtime, the fragment and the check added to each call."""

import SCons.Scanner
import SCons.Script
import SCons.Tool
from percpu_tools import linkcommand, paths, scriptfiles
from percpu_tools.errors import PercpuError
from SCons.Builder import OverrideWarner
from SCons.Util import Proxy, flatten, is_List, is_String

from . import checking, scanning, variables
from .errors import said_plainly

_COMPILERS = ("CXX", "CC")

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
        with said_plainly():
            # `scons -h` is answered whatever is wrong: its reader may be looking for what to set.
            if SCons.Script.GetOption("help") or not _is_kernel(env, called, given):
                return program(env, target, source, **given, **special)
        kernel = _Kernel(called)
        if "srcdir" not in special:
            # The objects are the environment's: made here, they do not see what only the link is told,
            # and so can be shared with other programs without a warning.
            source = program.src_builder_sources(called, flatten(source), OverrideWarner(given))
        nodes = program(called, target, source, **kernel.overrides(), **special)
        kernel.finish(nodes)
        return nodes


def _is_kernel(env, called, given):
    if not variables.is_on(called) or given.get("SCONF_NODE"):
        return False
    changed = [name for name in _COMPILERS if name in given and called.subst(f"${name}") != env.subst(f"${name}")]
    if not changed:
        return True
    # A tool for the build machine, compiled with a compiler for it in the kernel's environment.
    if env.get("PERCPU_ARCH") and "PERCPU_ARCH" in given:
        return True
    own = variables.machine(env)
    return all(variables.machine(called, name).runs_what(own) for name in changed)


class _Kernel:
    """One call of Program. SCons names the target late, so the parts below wait for its emitter."""

    def __init__(self, called):
        self._called = called
        self._settings = None
        self._fragment = None
        self._scripts = []

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
        name = str(target[0])
        self._folder = target[0].dir.Dir(f"{target[0].name}.percpu")
        with said_plainly(name):
            source = [*source, *self._runtime()]
            given = self._link_command(target, source, self._called)
            self._direct = given.is_linker
            self._settings = variables.settings(self._called, given)
            self._checks = variables.check_mode(self._called)
            self._scripts = [self._called.fs.File(path, self._called.fs.Top) for path in given.scripts]
            # Rendered with the flags of the call, where the script's INCLUDEs are looked for too.
            self._fragment = self._called.PercpuFragment(
                self._folder.File("percpu.ld"), self._scripts, **self._settings.as_overrides())[0]
            self._refuse_unheard(self._link_command(target, source, env))
        return target, source

    def _runtime(self):
        """The objects of the runtime, compiled as the kernel is."""
        copies = [self._called.PercpuRuntime(self._folder.File(path.name), self._called.fs.File(str(path)))
                  for path in paths.sources()]
        return flatten([self._called.StaticObject(copy) for copy in copies])

    def _link_command(self, target, source, env):
        """The link command of this program; LINKCOM where it is a text, else LINK and LINKFLAGS."""
        text = env.get("LINKCOM")
        if not is_String(text):
            text = "$LINK $LINKFLAGS"
        looked_at = env.Override({"TEMPFILE": _WrittenOut})
        lines = looked_at.subst_list(text, target=target, source=source)
        return linkcommand.parse([str(word) for word in lines[0]])

    def _link_flags(self, target, source, env, for_signature):
        if self._fragment is None:
            return []
        kept = ["--emit-relocs"] if self._direct else ["-Wl,--emit-relocs"]
        return [*(kept if variables.keeps_relocations(self._called) else []), *self._fragment_flags()]

    def _fragment_flags(self):
        if self._settings.mode == "include":
            return [f"-L{self._folder}"]
        if self._direct:
            return ["-T", str(self._fragment)]
        # -Wl, and not the compiler's own -T, which would come to the linker behind the user's -Wl,-T.
        if "," in str(self._fragment):
            return ["-Xlinker", "-T", "-Xlinker", str(self._fragment)]
        return [f"-Wl,-T,{self._fragment}"]

    def _refuse_unheard(self, command):
        """Refuse a link command by which the linker would not read the fragment as it must be read."""
        if self._settings.mode == "include":
            if str(self._folder) not in command.search_folders:
                raise PercpuError("the link command does not use $LINKFLAGS, which brings the fragment's folder",
                                  fix="write $LINKFLAGS in LINKCOM")
            return
        if str(self._fragment) not in command.scripts:
            raise PercpuError("the link command does not use $LINKFLAGS, which brings the fragment",
                              fix="write $LINKFLAGS in LINKCOM")
        if self._settings.linker == "ld" and command.scripts[0] != str(self._fragment):
            raise PercpuError(
                f"the link command names the script {command.scripts[0]} before $LINKFLAGS, which brings the fragment, "
                "and GNU ld must read the fragment first",
                fix="name the script in LINKFLAGS, and not in LINK or LINKCOM")

    def finish(self, nodes):
        """What hangs on the program once it exists: dependencies, the check, and cleaning."""
        called, program = self._called, nodes[0]
        called.Depends(program, [self._fragment, *self._scripts])
        program.attributes.percpu_scripts = self._scripts
        called.Clean(program, self._folder)
        checked = called.Override(self._check_overrides())
        if not hasattr(program.attributes, "percpu_gate"):
            program.attributes.percpu_gate = True
            called.AddPostAction(program, checking.Gate(checked, self._folder))
        if checked["PERCPU_CHECK"] != "off":
            checked.PercpuCheck(self._folder.File("check.txt"), program)

    def _check_overrides(self):
        return {
            "CPU_NUM": self._settings.cpu_num,
            "PERCPU_CHECK": self._checks,
            "PERCPU_CHECKFLAGS": variables.words(self._called, "PERCPU_CHECKFLAGS"),
        }


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
        folders = [str(folder) for folder in scanning.script_folders(env)] if scripts else []
        for script in scripts:
            # One that is generated may not be there yet: SCons asks again when it is.
            if script.rexists():
                with said_plainly(script):
                    files = scriptfiles.read_script(script.rfile().get_abspath(), folders).files[1:]
                found += [env.fs.File(str(file), env.fs.Top) for file in files]
        return found
