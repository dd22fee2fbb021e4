"""The kernels boot, in every way in which they are built, and say so only when it is true."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from boot.boards import BOARDS
from boot.conftest import BuiltMatrix, scons
from boot.qemu import QemuError, boot
from matrix import MATRIX, Variant

X86_64 = BOARDS["x86_64"]
IN_PLACE = Variant("x86_64")
DYNAMIC = Variant("x86_64", init="dynamic", features=("preempt",))


@dataclass(frozen=True)
class Row:
    """What the demonstration kernel printed of one CPU's area."""

    cpu: int
    area: int
    cpu_id: int
    online: str
    mail: int
    ticks: int
    slots: list[int]


def rows(output: str) -> list[Row]:
    pattern = r"^ *(\d+)  (0x[0-9a-f]+) +(\d+) +(true|false) +(\d+) +(\d+)  (\d+ \d+ \d+ \d+)$"
    return [
        Row(int(cpu), int(area, 16), int(cpu_id), online, int(mail), int(ticks), list(map(int, slots.split())))
        for cpu, area, cpu_id, online, mail, ticks, slots in re.findall(pattern, output, re.MULTILINE)
    ]


def number(pattern: str, output: str) -> int:
    found = re.search(pattern, output, re.MULTILINE)
    assert found, f"nothing matches {pattern!r} in:\n{output}"
    return int(found[1])


def check_demo(kernel: Path, variant: Variant, machine_cpus: int, running: int) -> str:
    """Boot the demonstration kernel and check what it printed; the console's text."""
    result = boot(BOARDS[variant.board], kernel, machine_cpus, timeout=120)
    assert result.ok, f"{result.problem}\n{result.output}"
    table = rows(result.output)
    assert [row.cpu for row in table] == list(range(running))
    for row in table:
        assert (row.cpu_id, row.online, row.mail) == (row.cpu, "true", 1000 + row.cpu)
        assert row.ticks >= 10
        assert sum(row.slots) == row.ticks + 4
    assert number(r"^ticks of all CPUs: (\d+)$", result.output) == sum(row.ticks for row in table)
    strides = {after.area - before.area for before, after in zip(table, table[1:])}
    assert len(strides) <= 1
    assert all(stride >= number(r"areas of (\d+) bytes", result.output) for stride in strides)
    return result.output


def test_demo_boots(variant: Variant, built: BuiltMatrix, pytestconfig: pytest.Config) -> None:
    kernel = built.kernel(variant, "demo")
    for _ in range(pytestconfig.getoption("--boots")):
        output = check_demo(kernel, variant, variant.cpus, 1 if "sp-naive" in variant.features else variant.cpus)
        assert ("in allocated memory" in output) == (variant.init == "dynamic")
        if "preempt" in variant.features:
            assert number(r"^holds on a CPU: (\d+), all given back$", output) > 0


def test_what_the_seed_crate_tests_holds(variant: Variant, built: BuiltMatrix) -> None:
    result = boot(BOARDS[variant.board], built.kernel(variant, "seed"), variant.cpus)
    assert result.ok, f"{result.problem}\n{result.output}"


def test_every_accessor_on_every_scalar(variant: Variant, built: BuiltMatrix) -> None:
    result = boot(BOARDS[variant.board], built.kernel(variant, "accessors"), variant.cpus)
    assert result.ok, f"{result.problem}\n{result.output}"


@pytest.mark.parametrize(("machine_cpus", "running"), [(1, 1), (3, 3), (8, 4)])
def test_areas_in_place_limit_the_cpus(built: BuiltMatrix, machine_cpus: int, running: int) -> None:
    output = check_demo(built.kernel(IN_PLACE, "demo"), IN_PLACE, machine_cpus, running)
    assert "4 areas of " in output
    assert f"machine with {machine_cpus} CPUs: running {running}\n" in output


def test_allocated_areas_do_for_any_number_of_cpus(built: BuiltMatrix) -> None:
    output = check_demo(built.kernel(DYNAMIC, "demo"), DYNAMIC, 8, 8)
    assert "8 areas of " in output


def test_64_cpus_boot_from_a_file_no_larger_than_for_2() -> None:
    sizes = {}
    for cpus in (2, 64):
        folder = f"build/cpus-{cpus}"
        target = f"{folder}/{IN_PLACE.name}/demo.elf"
        kernel = scons(f"CPU_NUM={cpus}", target, folder=folder).kernel(IN_PLACE, "demo")
        check_demo(kernel, IN_PLACE, cpus, cpus)
        sizes[cpus] = kernel.stat().st_size
    assert abs(sizes[64] - sizes[2]) <= 64, sizes


def test_variants_have_names_of_their_own() -> None:
    assert len({variant.name for variant in MATRIX}) == len(MATRIX)
    assert any(variant.default for variant in MATRIX)


# Faults: each is put into a kernel that passes without it, and the boot must say what is wrong.

@dataclass(frozen=True)
class Fault:
    """A change to one source file, and what the boot must say of it."""

    source: str
    old: str
    new: str
    problem: str


SOURCE_FAULTS = {
    "initial value": Fault(
        "demo.cpp", ".time_slice = 10, .queue", ".time_slice = 11, .queue", "scheduler begins with its initial value"
    ),
    "all CPUs use area 0": Fault(
        "demo.cpp", "init_percpu_reg(cpu)", "init_percpu_reg(0)", "a CPU finds what CPU 0 wrote into its area"
    ),
    "wrong cpu_id": Fault(
        "demo.cpp", "cpu_id.write_current(cpu)", "cpu_id.write_current(0)", "each CPU wrote its own cpu_id"
    ),
    "no reset": Fault("demo.cpp", "scheduler.reset_to_init();", "", "reset_to_init brings the initial value back"),
    "no histogram": Fault(
        "demo.cpp", "++slots[tick % 4]", "(void)slots, (void)tick", "each CPU's histogram holds its own ticks"
    ),
    "hold kept": Fault(
        "preempt.cpp", "preempt_depth.sub_current_raw(1);", "", "each hold on a CPU was given back"
    ),
    "no timer": Fault("demo.cpp", "board::start_timer();", "", "did not end within 5 s"),
    "exception": Fault("demo.cpp", "use_scheduler();\n\n", 'asm volatile("ud2");\n\n', "exception 6 at "),
    "exception in a print": Fault(
        "console.cpp", "char digits[20];", 'char digits[20];\n    if (width == 8) asm volatile("ud2");', "exception 6 at "
    ),
    "no verdict": Fault("check.cpp", 'print("all "', 'print("nearly all "', "did not say that its checks held"),
    "wrong status": Fault("x86_64/board.cpp", "ok ? 0x10 : 0x11", "0x12", "exit status is 37"),
    "reset": Fault(
        "demo.cpp", "use_scheduler();\n\n", 'asm volatile("outb %b0, $0x64" : : "a"(0xfe));\n\n', "exit status is 0"
    ),
}


@pytest.mark.parametrize("fault", SOURCE_FAULTS)
def test_a_faulty_kernel_fails(fault: str, build_by_hand: Callable[..., Path]) -> None:
    change = SOURCE_FAULTS[fault]
    kernel = build_by_hand(features=("preempt",), changes=[(change.source, change.old, change.new)])
    result = boot(X86_64, kernel, 4, timeout=5)
    assert not result.ok
    assert change.problem in (result.problem or ""), result.output


def test_cpus_that_die_together_say_it_once(build_by_hand: Callable[..., Path]) -> None:
    together = 'finished.arrive();\n    finished.wait_for(4);\n    asm volatile("ud2");\n'
    kernel = build_by_hand(changes=[("demo.cpp", "finished.arrive();\n", together)])
    for _ in range(10):
        result = boot(X86_64, kernel, 4, timeout=5)
        assert re.fullmatch(
            r"the kernel's check failed: exception 6 at 0x[0-9a-f]{16}, cr2 0x0", result.problem or ""
        ), result.output
        assert result.output.count("FAILED") == 1, result.output


def test_a_kernel_built_by_hand_boots(build_by_hand: Callable[..., Path]) -> None:
    check_demo(build_by_hand(features=("preempt",)), IN_PLACE, 4, 4)


def without_asserts(text: str) -> str:
    return re.sub(r'^ *ASSERT\(.*?"\);?$', "", text, flags=re.MULTILINE | re.DOTALL)


def changed(old: str, new: str) -> Callable[[str], str]:
    def change(text: str) -> str:
        text = without_asserts(text)
        assert text.count(old) == 1, text
        return text.replace(old, new)

    return change


FRAGMENT_FAULTS = {
    "NOLOAD template": changed(".percpu 0x0 : AT", ".percpu 0x0 (NOLOAD) : AT"),
    "half an area's stride": changed(
        "_percpu_stride = ABSOLUTE(ALIGN(SIZEOF(.percpu),", "_percpu_stride = ABSOLUTE(ALIGN(SIZEOF(.percpu) / 2,"
    ),
    "template elsewhere": changed(": AT(LOADADDR(.percpu_table) + SIZEOF(.percpu_table))\n", ": AT(0x700000)\n"),
}


@pytest.mark.parametrize("fault", FRAGMENT_FAULTS)
def test_a_faulty_fragment_fails(fault: str, build_by_hand: Callable[..., Path]) -> None:
    kernel = build_by_hand(change_fragment=FRAGMENT_FAULTS[fault])
    result = boot(X86_64, kernel, 4, timeout=5)
    assert not result.ok
    assert "check failed" in (result.problem or "") or "did not end" in (result.problem or ""), result.output


def test_no_qemu_is_said_in_one_line(built: BuiltMatrix) -> None:
    board = replace(X86_64, qemu=("qemu-system-nowhere",))
    message = "^qemu-system-nowhere is not installed: apt-get install qemu-system-x86, or run tools/demo$"
    with pytest.raises(QemuError, match=message):
        boot(board, built.kernel(IN_PLACE, "demo"), 4)


def test_no_kernel_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(QemuError, match="^.*/demo.elf: no such kernel; build it with scons$"):
        boot(X86_64, tmp_path / "demo.elf", 4)
