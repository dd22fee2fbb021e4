"""The check of a linked program: right behind the link, and as a target of its own.

Why both: only the target is made where the program itself came from a CacheDir, or is as it was; only what
belongs to the link stops everything that needs the program. The second to run takes over what the first has
found. How a program is checked is part of its signature where a finding refuses it, so that one that was not
checked, or by other options, is linked again rather than taken for one that has passed.
"""

import contextlib
import os
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import percpu_tools
import SCons.Errors
from percpu_tools import checkinputs
from percpu_tools.files import write_atomically
from SCons.Action import FunctionAction

from . import packages, variables

_FINDINGS = 1

# As `-m` does, but not from the folder where the build runs: it may have a struct.py of its own. (Python 3.11 has -P.)
_RUN = "import sys; sys.path[:] = filter(None, sys.path); from percpu_tools.cli.check import main; sys.exit(main())"


# What percpu-check said, and of which state of the file.
_Verdict = namedtuple("_Verdict", ("status", "text", "complaint", "of"))


def check(target, source, env):
    """The action of PercpuCheck: writes the report; a finding is an error or a warning."""
    mode = variables.check_mode(env)
    verdict = getattr(source[0].attributes, "percpu_verdict", None)
    known = verdict is not None and verdict.of == _asked(str(source[0]), env)
    if not known:
        verdict = _judge(str(source[0]), env)
    if verdict.status:
        if not known:
            _say(verdict)
        if mode == "error":
            return _error(source[0], verdict, "")
    write_atomically(str(target[0]), verdict.text)
    return None


def command(target, source, env):
    """The command line that does the same."""
    return ["percpu-check", *_options(env), str(source[0])]


def never_from_cache(target, source, env):
    """The emitter of PercpuCheck: a report from somebody else's build says nothing of this one."""
    env.NoCache(target)
    env.Depends(target, files_read(env))
    return target, source


def refuses(env):
    """Whether a finding fails the link itself: not where it is a warning, or where the check is the user's own."""
    return variables.check_mode(env) == "error" and env["PERCPU_CHECKCOM"] is env["_PERCPU_CHECK"]


def files_read(env):
    """Nodes for what a check reads beside the program: its configuration, and what that or an option names."""
    inputs = checkinputs.of(variables.words(env, "PERCPU_CHECKFLAGS"), env.fs.Top.get_abspath())
    # The file of the configuration may say much else (pyproject.toml).
    contents = [env.Value(inputs.says)] if inputs.says else []
    return [*contents, *(env.fs.File(path) for path in inputs.files if os.path.isfile(path))]


class Gate(FunctionAction):
    """The check right behind the link: it refuses the program before anything can use it."""

    def __init__(self, env, rejected):
        super().__init__(self._refuse, {"cmdstr": None})
        self._env = env
        self._rejected = rejected

    def get_presig(self, target, source, env, executor=None):
        """What a program has passed that is not refused; by which Python is no reason to link again."""
        return repr(_options(self._env)).encode() if refuses(self._env) else b""

    def _refuse(self, target, source, env):
        kept = os.path.join(str(self._rejected), target[0].name)
        # An earlier link's.
        _remove(kept)
        if variables.check_mode(self._env) == "off" or self._env["PERCPU_CHECKCOM"] is not self._env["_PERCPU_CHECK"]:
            return None
        verdict = _judge(str(target[0]), self._env)
        if not verdict.status or not refuses(self._env):
            if verdict.status:
                _say(verdict)
            target[0].attributes.percpu_verdict = verdict
            return None
        # It must not stay: after the next change of a source back to what it was at the last good
        # link, SCons would take the file that it finds for the result of that link.
        os.makedirs(os.path.dirname(kept), exist_ok=True)
        os.replace(str(target[0]), kept)
        # A report that is there is of an earlier link. One of this link SCons would take for that of the next
        # good link, if that makes the same program as the last one did.
        _remove(os.path.join(str(self._rejected), "check.txt"))
        _say(verdict)
        return _error(target[0], verdict, f"; it is kept as {kept}")


def _remove(path):
    with contextlib.suppress(FileNotFoundError):
        os.remove(path)


def _judge(path, env):
    of = _asked(path, env)
    surroundings = {**os.environ, "PYTHONPATH": _with_package(os.environ.get("PYTHONPATH", ""))}
    done = subprocess.run([sys.executable, "-c", _RUN, *_options(env), path],
                          env=surroundings, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, errors="replace", check=False)
    return _Verdict(done.returncode, done.stdout, done.stderr, of)


def _with_package(python_path):
    """PYTHONPATH with the package that this tool uses in front, so that the checker is of the same version."""
    return os.pathsep.join(filter(None, [str(Path(percpu_tools.__file__).parents[1]), python_path, *packages.needed()]))


def _asked(path, env):
    state = os.stat(path)
    return (state.st_mtime_ns, state.st_size, *_options(env))


def _options(env):
    return ["--cpu-num", str(env["CPU_NUM"]), *variables.words(env, "PERCPU_CHECKFLAGS")]


def _say(verdict):
    sys.stdout.flush()
    sys.stderr.write(verdict.text + verdict.complaint)
    sys.stderr.flush()


def _error(node, verdict, kept):
    what = "percpu-check refuses it" if verdict.status == _FINDINGS else "percpu-check cannot judge it"
    return SCons.Errors.BuildError(node, what + kept)
