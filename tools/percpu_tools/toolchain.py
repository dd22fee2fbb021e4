"""What a compiler builds for, and which linker a link command ends in: asked of the tools themselves.

Names deceive (`cc` may be anything, `clang` builds for whatever `--target` says), so the tools are
run: `-dumpmachine` for the compiler, `--version` for the linker. Each question is asked once in a
process, or once for as long as the toolchain stays as it is, where a build says where to keep the answers.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from percpu_tools.answers import KeptAnswers
from percpu_tools.errors import MissingToolError, PercpuError
from percpu_tools.linkcommand import LinkCommand
from percpu_tools.targets import TARGETS, arch_of_triple

LINKERS = ("ld", "lld")

# One driver builds for both widths of a processor, and -dumpmachine of GCC names the usual one
# whatever the flags say.
_WIDTHS = (
    (("-m32",), {"x86_64": "i386"}),
    (("-mx32",), {"x86_64": "x32"}),
    (("-m64",), {"i386": "x86_64"}),
    (("-march=rv32", "-mabi=ilp32"), {"riscv64": "riscv32"}),
    (("-march=rv64", "-mabi=lp64"), {"riscv32": "riscv64"}),
)

# The parts of a triple that name its maker, and nothing that a program could depend on.
_VENDORS = frozenset(("pc", "unknown"))

_CHOOSES_LINKER = ("-fuse-ld=", "--ld-path=", "-B")

# mold comes first: it says of itself that it is "compatible with GNU ld".
_VERSIONS = (("mold ", "mold"), ("LLD ", "lld"), ("GNU gold ", "gold"), ("GNU ld ", "ld"))


class Machine(NamedTuple):
    """What a compiler builds for. `processor` is an architecture of percpu's, or another by its own name."""

    compiler: str
    triple: str
    processor: str

    @property
    def arch(self) -> str:
        """The architecture, which must be one that percpu has."""
        if self.processor not in TARGETS:
            raise PercpuError(
                f"the compiler {self.compiler} builds for {self.processor} ({self.triple}): "
                f"expected one of {', '.join(TARGETS)}",
                fix="use a compiler for one of these architectures",
            )
        return self.processor

    def runs_what(self, other: Machine) -> bool:
        """Whether programs of the two compilers are for the same processor and system."""
        return (self.processor, self._system) == (other.processor, other._system)

    @property
    def _system(self) -> list[str]:
        return [word for word in self.triple.split("-")[1:] if word not in _VENDORS]


def machine(compiler: Sequence[str], flags: Iterable[str], environment: Mapping[str, str]) -> Machine:
    """What `compiler` (the words of its command) builds for when it is called with `flags`."""
    flags = list(flags)
    triple = _ask(compiler, [*_machine_flags(flags), "-dumpmachine"], environment).strip()
    processor = triple.split("-")[0]
    try:
        processor = arch_of_triple(triple)
    except PercpuError:
        processor = "i386" if processor in ("i386", "i486", "i586", "i686") else processor
    for flag in flags:
        for beginnings, widths in _WIDTHS:
            if flag.startswith(beginnings):
                processor = widths.get(processor, processor)
    return Machine(" ".join(compiler), triple, processor)


def linker(link: LinkCommand, environment: Mapping[str, str]) -> str:
    """The linker that a link command ends in: `ld` (GNU) or `lld`."""
    if not link.program:
        raise PercpuError(f"there is no linker in the link command: {' '.join(link.flags)}", fix="name it in front of its options")
    question = ["--version"]
    if not link.is_linker:
        chosen = _with_values(link.flags, ("-B",), _CHOOSES_LINKER)
        question = [*_machine_flags(link.flags), *chosen, "-nostdlib", "-Wl,--version"]
    answer = _ask(link.program, question, environment)
    name = next((name for words, name in _VERSIONS if words in answer), None)
    if name in LINKERS:
        return name
    said = answer.strip().split("\n")[0]
    raise PercpuError(
        f"the link command {' '.join(link.program)} ends in {name or repr(said)}: expected GNU ld or lld",
        fix="link with -fuse-ld=bfd or -fuse-ld=lld",
    )


def _machine_flags(flags: Iterable[str]) -> list[str]:
    """The flags that change what a compiler builds for; it need not see the others to answer."""
    return _with_values(flags, ("-target", "--target"), ("--target=", "-m"))


def _with_values(flags: Iterable[str], apart: tuple[str, ...], glued: tuple[str, ...]) -> list[str]:
    """Those flags of which some (`apart`) have their value in the next word, and others (`glued`) in their own."""
    chosen: list[str] = []
    pending = iter(flags)
    for flag in pending:
        if flag in apart:
            chosen += [flag, next(pending, "")]
        elif flag.startswith(glued):
            chosen.append(flag)
    return chosen


def keep_answers(file: str | os.PathLike[str] | None) -> None:
    """From now on, keep what tools say in `file`, and take from it what they said before (`None`: do not)."""
    global _kept
    if file is None:
        _kept = None
    elif _kept is None or _kept.file != os.fspath(file):
        _kept = KeptAnswers(file)


_kept: KeptAnswers | None = None


def _ask(program: Sequence[str], question: Sequence[str], environment: Mapping[str, str]) -> str:
    return _answer((*program, *question), tuple(sorted((name, str(value)) for name, value in environment.items())))


@functools.lru_cache(maxsize=None)
def _answer(command: tuple[str, ...], environment: tuple[tuple[str, str], ...]) -> str:
    surroundings = dict(environment)
    answer = _kept.get(command, surroundings) if _kept is not None else None
    if answer is None:
        answer = _run(command, surroundings)
        if _kept is not None:
            _kept.put(command, surroundings, answer)
    return answer


def _run(command: Sequence[str], surroundings: Mapping[str, str]) -> str:
    search = surroundings.get("PATH", os.defpath)
    path = shutil.which(command[0], path=search)
    if path is None:
        raise MissingToolError(f"{command[0]} is not on the PATH of the build, {search}", fix="install it or name another")
    try:
        done = subprocess.run(
            [path, *command[1:]],
            env=surroundings,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            check=False,
        )
    except OSError as error:
        raise PercpuError(f"{path} cannot be run: {error.strerror}", fix="install it or name another") from error
    if done.returncode != 0 or not done.stdout.strip():
        lines = (done.stderr or "nothing").strip().split("\n")
        # GCC also says who it is and what it calls.
        said = next((line for line in lines if "error:" in line), lines[0])
        raise PercpuError(f"`{' '.join(command)}` ended with status {done.returncode} and said: {said}")
    return done.stdout
