"""The Rust crate `percpu`, built by cargo from crates.io; nothing of it is in this repository.

kernel_guard, by which the crate holds the CPU, is empty in a Linux program. rust/rustc-wrapper has it
compiled in its kernel form, and rust/main.rs gives it the least hooks that a kernel can have. Built as
`cargo build --release` does, the hooks are calls; the profile `lto` inlines them, the best case.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import percpu_tools
from bench.results import BenchError
from bench.run import BUILD, HERE, output
from cxx.test_counts import disassemble

RUST = HERE / "rust"
HOST = "x86_64-unknown-linux-gnu"
NO_CARGO = "no cargo"

# By architecture, the targets that any Rust has; the first installed one is taken.
TARGETS = {
    "x86_64": ("x86_64-unknown-none", HOST),
    "aarch64": ("aarch64-unknown-none", "aarch64-unknown-none-softfloat"),
    "arm": ("armv7a-none-eabi", "armv7a-none-eabihf"),
    "riscv64": ("riscv64gc-unknown-none-elf", "riscv64imac-unknown-none-elf"),
    "riscv32": ("riscv32imac-unknown-none-elf", "riscv32imc-unknown-none-elf"),
    "loongarch64": ("loongarch64-unknown-none", "loongarch64-unknown-none-softfloat"),
}
# What the target's convention or the stack's alignment adds, and inlining removes.
FRAME = re.compile(r"(push|pop)[ql]?\s|mov\s+r11, sp")


@dataclass(frozen=True)
class Build:
    feature: str
    preempt: bool
    profile: str

    @property
    def version(self) -> str:
        return versions()[self.feature]

    @property
    def label(self) -> str:
        words = [f"percpu {self.version}"]
        if self.preempt:
            words.append("preempt, LTO" if self.profile == "lto" else "preempt")
        return ", ".join(words)

    @property
    def program(self) -> Path:
        return BUILD / f"increment-{self.feature}{'-preempt' if self.preempt else ''}-{self.profile}"

    def make(self) -> None:
        features = f"{self.feature}{'_preempt' if self.preempt else ''},non-zero-vma"
        _cargo("build", "--bin", "increment", "--profile", self.profile, "--features", features, flags=_link_flags())
        shutil.copy2(BUILD / "rust" / HOST / self.profile / "increment", self.program)


def builds() -> Iterator[Build]:
    for feature in versions():
        yield Build(feature, False, "release")
        yield Build(feature, True, "release")
        yield Build(feature, True, "lto")


def versions() -> dict[str, str]:
    """The locked version of the crate for each feature of ours: {"v0_3": "0.3.0", ...}."""
    lock = (RUST / "Cargo.lock").read_text()
    locked = re.findall(r'name = "percpu"\nversion = "((\d+)\.(\d+)\.[^"]*)"', lock)
    return {f"v{major}_{minor}": version for version, major, minor in locked}


def counts(arch: str, feature: str = "v0_3") -> dict[str, int]:
    """The instructions of each function of rust/counts.rs in the zero-VMA layout, without its frame."""
    target = _installed(arch)
    path = BUILD / f"counts-{feature}-{arch}.o"
    emit = ("--", "-C", "codegen-units=1", "--emit", f"obj={path}")
    _cargo("rustc", "--lib", "--profile", "release", "--features", feature, target=target, last=emit)
    functions = disassemble("llvm-objdump-19", path)
    return {name: sum(not FRAME.match(line) for line in body) for name, body in functions.items()}


def _installed(arch: str) -> str:
    if not shutil.which("cargo"):
        raise BenchError(NO_CARGO)
    for target in TARGETS[arch]:
        found = subprocess.run(
            ["rustc", "--print", "target-libdir", "--target", target], capture_output=True, text=True, check=False, cwd=RUST
        )
        if found.returncode == 0 and Path(found.stdout.strip()).is_dir():
            return target
    raise BenchError("the Rust target is not installed")


def _link_flags() -> tuple[str, ...]:
    # Our fragment has all that the crate asks of a script. Its name changes with it, so that cargo links anew.
    text = percpu_tools.render_fragment(2, "x86_64", features=["non-zero-vma"], linker="ld")
    fragment = BUILD / f"crate-{hashlib.sha256(text.encode()).hexdigest()[:8]}.ld"
    fragment.write_text(text)
    return (
        *("-C", "linker=cc", "-C", "link-arg=-no-pie", "-C", "link-arg=-fuse-ld=bfd", "-C", f"link-arg=-Wl,-T,{fragment}"),
        *("-C", "llvm-args=-align-loops=64"),
    )


def _cargo(
    command: str, *arguments: str, target: str = HOST, flags: tuple[str, ...] = (), last: tuple[str, ...] = ()
) -> None:
    if not shutil.which("cargo"):
        raise BenchError(NO_CARGO)
    # The target is named even when it is the host's: the flags are then not for the macros' crates.
    where = ("--locked", "--manifest-path", RUST / "Cargo.toml", "--target-dir", BUILD / "rust", "--target", target)
    environment = {
        "CARGO_ENCODED_RUSTFLAGS": "\x1f".join(("-C", "relocation-model=static", *flags)),
        "RUSTC_WRAPPER": str(RUST / "rustc-wrapper"),
    }
    output(("cargo", command, *where, *arguments, *last), environment)
