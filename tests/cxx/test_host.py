"""The runtime in Linux user space, where its logic can be tried without a kernel."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from cxx.build import HERE, link_program

IN_IMAGE = ("non-zero-vma",)
NAIVE = ("sp-naive",)
OUTSIDE = "percpu: queue_length: the base register points outside every area: call init_percpu_reg on this CPU first"
BUILDS = [
    pytest.param("gcc", "ld", ("-O2",), id="gcc-ld"),
    pytest.param("gcc", "ld", ("-O0", "-static"), id="gcc-ld-O0-static"),
    pytest.param("gcc", "ld", ("-O2", "-static-pie"), id="gcc-ld-static-pie"),
    pytest.param("gcc", "ld", ("-O2", "-flto"), id="gcc-ld-lto"),
    pytest.param("gcc", "lld", ("-O2", "-no-pie", "-fno-pie"), id="gcc-lld-no-pie"),
    pytest.param("clang", "lld", ("-O2",), id="clang-lld"),
    pytest.param("clang", "lld", ("-O2", "-flto"), id="clang-lld-lto"),
    pytest.param("clang", "ld", ("-O0",), id="clang-ld-O0"),
    pytest.param("gcc", "ld", ("-O2", "-ffunction-sections", "-Wl,--gc-sections"), id="gcc-ld-gc-sections"),
    pytest.param("clang", "lld", ("-O2", "-ffunction-sections", "-Wl,--gc-sections"), id="clang-lld-gc-sections"),
]


EMULATED = [
    pytest.param("aarch64", "gcc", "ld", "-O2", id="aarch64-gcc-ld"),
    pytest.param("aarch64", "clang", "lld", "-O2", id="aarch64-clang-lld"),
    pytest.param("arm", "gcc", "ld", "-O2", id="arm-gcc-ld"),
    pytest.param("arm", "clang", "lld", "-O2", id="arm-clang-lld"),
    pytest.param("riscv64", "gcc", "ld", "-O2", id="riscv64-gcc-ld"),
    pytest.param("riscv64", "gcc", "lld", "-O0", id="riscv64-gcc-lld"),
    pytest.param("riscv64", "clang", "lld", "-O2", id="riscv64-clang-lld"),
]
# Debian 12 has neither GCC nor a C library for LoongArch64.
if shutil.which("loongarch64-linux-gnu-g++"):
    EMULATED.append(pytest.param("loongarch64", "gcc", "ld", "-O2", id="loongarch64-gcc-ld"))


def run(program: Path, *arguments: str, emulator: str = "") -> subprocess.CompletedProcess[str]:
    command = [emulator, str(program), *arguments] if emulator else [str(program), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def holds(program: Path, emulator: str = "") -> None:
    done = run(program, emulator=emulator)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("compiler, linker, flags", BUILDS)
def test_accessors(tmp_path, compiler, linker, flags):
    source = HERE / "host" / "accessors.cpp"
    holds(link_program(tmp_path, source, *flags, compiler=compiler, linker=linker))


@pytest.mark.parametrize("compiler, linker, flags", BUILDS)
def test_areas(tmp_path, compiler, linker, flags):
    source = HERE / "host" / "areas.cpp"
    holds(link_program(tmp_path, source, *flags, "-DEXPECTED_AREAS=5", compiler=compiler, linker=linker, cpu_num=5))


@pytest.mark.parametrize(
    "program, features",
    [
        ("accessors", IN_IMAGE),
        ("areas", IN_IMAGE),
        ("preempt", (*IN_IMAGE, "preempt")),
    ],
    ids=lambda value: value if isinstance(value, str) else "+".join(value),
)
@pytest.mark.parametrize("arch, compiler, linker, optimization", EMULATED)
def test_emulated(tmp_path, arch, compiler, linker, optimization, program, features):
    source = HERE / "host" / f"{program}.cpp"
    flags = (optimization, "-DEXPECTED_AREAS=5")
    tools = {"compiler": compiler, "linker": linker, "arch": arch}
    holds(link_program(tmp_path, source, *flags, features=features, cpu_num=5, **tools), f"qemu-{arch}")


# On AArch64 and ARM no register is free in programs for Linux: a function finds the base, and nothing restarts.
@pytest.mark.parametrize("arch, compiler, linker, optimization", [row for row in EMULATED if row.values[0] not in ("aarch64", "arm")])
def test_emulated_sequences(tmp_path, arch, compiler, linker, optimization):
    tools = {"compiler": compiler, "linker": linker, "arch": arch}
    features = (*IN_IMAGE, "restartable")
    holds(link_program(tmp_path, HERE / "host" / "accessors.cpp", optimization, features=features, **tools), f"qemu-{arch}")


@pytest.mark.parametrize("program", ["accessors", "naive"])
@pytest.mark.parametrize("compiler, linker, flags", BUILDS)
def test_sp_naive(tmp_path, program, compiler, linker, flags):
    source = HERE / "host" / f"{program}.cpp"
    holds(link_program(tmp_path, source, *flags, compiler=compiler, linker=linker, features=NAIVE, cpu_num=1))


@pytest.mark.parametrize("features", [IN_IMAGE, (*IN_IMAGE, "pristine"), (*IN_IMAGE, "pristine", "checked"), NAIVE], ids="+".join)
@pytest.mark.parametrize("compiler, linker", [("gcc", "ld"), ("clang", "lld")])
def test_areas_that_are_made_again(tmp_path, compiler, linker, features):
    source = HERE / "host" / "again.cpp"
    holds(link_program(tmp_path, source, "-O2", compiler=compiler, linker=linker, features=features))


@pytest.mark.parametrize("linker", ["ld", "lld"])
def test_a_script_without_pristine_is_refused_at_link(tmp_path, linker):
    source = HERE / "host" / "again.cpp"
    with pytest.raises(AssertionError, match="undefined (reference to|(hidden )?symbol:) `?_percpu_template"):
        link_program(tmp_path, source, "-DPERCPU_PRISTINE", linker=linker)


@pytest.mark.parametrize("features", [("non-zero-vma", "preempt"), ("preempt", "sp-naive")], ids="+".join)
@pytest.mark.parametrize("compiler, linker", [("gcc", "ld"), ("clang", "lld")])
def test_preempt_hooks_come_in_pairs(tmp_path, compiler, linker, features):
    source = HERE / "host" / "preempt.cpp"
    holds(link_program(tmp_path, source, "-O2", compiler=compiler, linker=linker, features=features))


@pytest.fixture(scope="module", params=[("gcc", "ld"), ("clang", "lld")], ids=["gcc", "clang"])
def checked(request, tmp_path_factory) -> Path:
    compiler, linker = request.param
    folder = tmp_path_factory.mktemp("checked")
    source = HERE / "host" / "checked.cpp"
    features = ("non-zero-vma", "checked", "preempt")
    return link_program(folder, source, "-O2", compiler=compiler, linker=linker, features=features)


HELD = "percpu: queue_length: used raw while the thread may be preempted: hold the CPU, or use a guarded accessor"


@pytest.mark.parametrize(
    "misuse, message",
    [
        ("before-init", "percpu: queue_length: used before init or init_in_place"),
        ("remote-before-init", "percpu: queue_length: used before init or init_in_place"),
        ("sum-before-init", "percpu: queue_length: used before init or init_in_place"),
        ("area-before-init", "percpu: area of CPU 0: used before init or init_in_place"),
        ("before-register", OUTSIDE),
        ("before-register-in-place", OUTSIDE),
        ("outside", OUTSIDE),
        ("cpu-number", "percpu: queue_length: CPU number 4 is out of range: areas were made for 4 CPUs"),
        ("area-number", "percpu: area of CPU 4: out of range: areas were made for 4 CPUs"),
        (
            "guard-behind",
            "percpu: area of CPU 2: the guard word behind its variables was overwritten; seen when queue_length was used",
        ),
        ("guard-in-front", "percpu: area of CPU 2: the guard word in front of its variables was overwritten"),
        (
            "guard-of-a-remote-area",
            "percpu: area of CPU 2: the guard word behind its variables was overwritten; seen when queue_length was used",
        ),
        ("raw-preemptible", HELD),
    ],
)
def test_checked_build_stops_misuse(checked, misuse, message):
    done = run(checked, misuse)
    assert done.returncode == 42, done.stdout + done.stderr
    assert done.stdout == message + "\n"


def test_a_raw_update_of_several_steps_is_one_too_many(tmp_path):
    """On x86_64 it is one instruction, which no preemption can come between."""
    source = HERE / "host" / "checked.cpp"
    program = link_program(tmp_path, source, "-O2", arch="riscv64", features=("non-zero-vma", "checked", "preempt"))
    done = run(program, "raw-update-preemptible", emulator="qemu-riscv64")
    assert (done.returncode, done.stdout) == (42, HELD + "\n")


@pytest.mark.parametrize("use", ["in-place-before-init", "raw-held", "guarded", "raw-update-preemptible", "none"])
def test_checked_build_lets_right_use_pass(checked, use):
    done = run(checked, use)
    assert (done.returncode, done.stdout) == (0, "")
