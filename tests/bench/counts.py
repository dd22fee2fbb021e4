"""The instructions of one access, ours beside the Rust crate's and Linux's, counted in disassemblies.

Ours: tests/cxx/counts.cpp in the zero-VMA layout, with `restartable` on the RISC architectures, so that
an add is safe against preemption and interrupts. Of several compilers the worst counts for us, and the
best for Linux. The crate: what rustc emits for rust/counts.rs, where the target is installed; elsewhere
what it emitted when this was written. Linux: linux.cpp, our own writing of the steps that its macros take.
"""

from __future__ import annotations

from collections.abc import Callable

from bench import crate
from bench.results import BenchError, Goal, Table
from bench.run import BUILD, HERE
from cxx.build import FREESTANDING, compile_object
from cxx.compilers import ALL, Compiler
from cxx.test_counts import counted, disassemble

ACCESSES = ("read", "write", "pointer", "add")

# percpu 0.3.0 by rustc 1.95.0. That Rust is not to be had for LoongArch64 everywhere; there it is by
# the instructions that percpu_macros 0.3.2, src/arch.rs, writes out.
RECORDED = {
    "x86_64": {"read": 1, "write": 1, "pointer": 2, "add": 3},
    "aarch64": {"read": 3, "write": 3, "pointer": 3, "add": 5},
    "arm": {"read": 4, "write": 4, "pointer": 4, "add": 6},
    "riscv64": {"read": 3, "write": 3, "pointer": 4, "add": 7},
    "riscv32": {"read": 5, "write": 5, "pointer": 4, "add": 7},
    "loongarch64": {"read": 3, "write": 3, "pointer": 4, "add": 7},
}


def measure(quick: bool, progress: Callable[[str], None]) -> Table:
    columns = ("architecture", "access", "near", "far", "Rust crate", "Linux", "Linux, preemptible")
    table = Table("counts", "Instructions of one access, zero-VMA layout, -O2", columns)
    recorded: dict[str, list[str]] = {}
    more = []
    for arch, recorded_counts in RECORDED.items():
        compilers = [one for one in ALL if one.arch == arch and "thumb" not in one.name]
        progress(arch)
        ours = [_ours(compiler) for compiler in compilers[: 1 if quick else None]]
        linux = [_linux(compiler) for compiler in compilers[: 1 if quick else None]]
        preemptible = [_linux(compiler, "-DPREEMPTIBLE") for compiler in compilers[: 1 if quick else None]]
        try:
            if quick:
                raise BenchError("--quick")
            theirs = crate.counts(arch)
        except BenchError as error:
            recorded.setdefault(str(error), []).append(arch)
            theirs = recorded_counts
        for access in ACCESSES:
            near, far = (max(counts[f"{access}_{reach}"] for counts in ours) for reach in ("near", "far"))
            of_linux = [min(counts[access] for counts in one) for one in (linux, preemptible)]
            table.rows.append((arch, access, near, far, theirs[access], *of_linux))
            if near > min(theirs[access], *of_linux):
                more.append(f"{access} on {arch}")
    found = "more: " + ", ".join(more) if more else "nowhere more"
    table.goals = [Goal("a near access takes no more instructions than anybody's", found, not more)]
    table.notes = [
        "add: ours is safe against preemption and interrupts. The crate's is with_current without preempt, safe against neither.",
        "Linux 6.12, steps as in linux.cpp, without and with CONFIG_PREEMPTION; its call of the scheduler is not counted.",
    ]
    for why, architectures in recorded.items():
        source = "The crate as recorded (rustc 1.95.0; LoongArch64 from its source), not measured now"
        table.notes.append(f"{source} ({why}): {', '.join(architectures)}")
    return table


def _ours(compiler: Compiler) -> dict[str, int]:
    features = () if compiler.arch == "x86_64" else ("-DPERCPU_RESTARTABLE",)
    return {name: len(body) for name, body in counted(BUILD, compiler, "-fno-pic", *features).items()}


def _linux(compiler: Compiler, *flags: str) -> dict[str, int]:
    target = BUILD / "linux.o"
    done = compile_object(compiler.command, HERE / "linux.cpp", target, "-O2", *FREESTANDING, "-fno-pic", *flags)
    if done.returncode != 0:
        raise BenchError(f"linux.cpp does not compile with {compiler.label}: {done.stderr}")
    return {name: len(body) for name, body in disassemble(compiler.objdump, target).items()}
