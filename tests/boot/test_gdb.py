"""The GDB extension on kernels that run in QEMU: it shows what they print of themselves."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path

import percpu_tools
import pytest
from boot.boards import BOARDS
from boot.conftest import Built, scons
from boot.debugger import GDB, ask, gdb
from boot.test_boot import rows
from cxx.build import link_program
from matrix import MATRIX, Variant

X86_64 = BOARDS["x86_64"]

# Every architecture, both layouts, areas in place and allocated, near and far variables, and
# base registers of each kind. All of them are built for the boot tests, too.
ROWS = (
    Variant("x86_64"),
    Variant("x86_64", init="dynamic", features=("non-zero-vma",)),
    Variant("aarch64"),
    Variant("aarch64", init="dynamic", features=("arm-el2", "non-zero-vma"), mode="el2"),
    Variant("arm", "gcc", "lld", init="dynamic", features=("checked", "non-zero-vma")),
    Variant("riscv64", features=("preempt", "restartable")),
    Variant("riscv64", "clang", "lld", init="dynamic", features=("non-zero-vma", "restartable"), mode="s-mode"),
    Variant("riscv32", features=("checked",)),
    Variant("loongarch64", "clang", "lld"),
)
WITHOUT_REGISTER = Variant("riscv64", "gcc", "lld", features=("base-register=user",), mode="s-mode")
ONE_CPU = Variant("x86_64", features=("sp-naive",))
CPUS = range(4)
UNKNOWN = "which CPU the selected thread is, is not known"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "row" in metafunc.fixturenames:
        chosen = ROWS
        if metafunc.config.getoption("--matrix"):
            chosen = tuple(row for row in MATRIX if row.mode != "linux" and has_register(row))
        metafunc.parametrize("row", chosen, ids=lambda row: row.name)


def has_register(row: Variant) -> bool:
    return not {"base-register=user", "sp-naive"} & set(row.features)


@cache
def demos() -> Built:
    names = ",".join(row.name for row in (*ROWS, WITHOUT_REGISTER, ONE_CPU))
    return scons(f"VARIANTS={names}", folder="build/matrix")


def demo(row: Variant) -> Path:
    built = (
        demos() if row in (*ROWS, WITHOUT_REGISTER, ONE_CPU) else scons(f"VARIANTS={row.name}", folder="build/matrix")
    )
    return built.kernel(row, "demo")


def result(said: str) -> str:
    """What GDB's `print` has given: `$1 = 5` is 5."""
    found = re.fullmatch(r"\$\d+ = (.*)", said, re.DOTALL)
    assert found, said
    return found[1]


@cache
def gdb_knows_loongarch() -> bool:
    command = [GDB, "-nx", "-batch", "-ex", "set architecture Loongarch64"]
    return "Undefined item" not in subprocess.run(command, capture_output=True, text=True, check=False).stderr


def test_it_shows_what_the_kernel_prints(row: Variant) -> None:
    if row.arch == "loongarch64" and not gdb_knows_loongarch():
        pytest.skip("this GDB does not know LoongArch: Debian 13's does")
    names = ("cpu_id", "online", "ticks", "histogram")
    of_cpus = [f'print $percpu("{name}", {cpu})' for cpu in CPUS for name in names]
    of_threads = [
        command
        for cpu in CPUS
        for command in (f"thread {cpu + 1}", 'print $percpu("cpu_id")', 'print &$percpu("cpu_id")')
    ]
    answers = ask(
        BOARDS[row.board], demo(row), 4, "exit_with_checks", [*of_cpus, "info percpu ^(cpu_id|ticks.*)$", *of_threads]
    )
    printed = rows(answers.console)
    assert [line.cpu for line in printed] == list(CPUS), answers.console

    values = [result(said) for said in answers.said[: len(of_cpus)]]
    for line in printed:
        slots = ", ".join(map(str, line.slots))
        expected = [str(line.cpu_id), line.online, str(line.ticks), f"{{{slots}}}"]
        assert values[line.cpu * len(names) :][: len(names)] == expected

    table = answers.said[len(of_cpus)].splitlines()
    assert table[0].endswith(f"from {printed[0].area:#x}")
    assert table[1] == "the selected thread is CPU 0"
    assert table[2].split() == ["offset", "variable", "type", "CPU", "value"]
    first = next(place for place, line in enumerate(table) if "  cpu_id  " in line)
    assert [line.split()[-2:] for line in table[first : first + len(CPUS)]] == [[str(cpu)] * 2 for cpu in CPUS]
    assert re.search(r"  ticks_wanted +unsigned \w+ +0-3 +10$", "\n".join(table), re.MULTILINE)

    offset = int(table[first].split()[0], 16)
    threads = answers.said[len(of_cpus) + 1 :]
    seen = []
    for number in CPUS:
        switched, value, address = threads[3 * number : 3 * number + 3]
        assert f"thread {number + 1}" in switched
        seen.append(int(result(value)))
        assert f" {printed[seen[-1]].area + offset:#x}" in result(address)
    # The firmware chooses the hart that boots, and CPU 0 is that one.
    assert sorted(seen) == list(CPUS) if row.mode == "s-mode" else seen == list(CPUS)


DEFINITIONS = """\
struct Owner {
    uint32_t magic;
    constexpr explicit Owner(uint32_t it) : magic(it) {}
    ~Owner() { magic = 0; }
};
struct Pair { uint8_t small; uint32_t large; };
enum class Color : uint8_t { red, green };
namespace app {
PERCPU_DEFINE(uint16_t, hits, 7);
PERCPU_DEFINE_STATIC(int64_t, own, -5);
PERCPU_DEFINE_NEAR(Color, color, Color::green);
PERCPU_DEFINE(uint16_t, mail, 8);
namespace deep { PERCPU_DEFINE_CONSTRUCTED(Owner, owner, 0xfeed); }
}
namespace { PERCPU_DEFINE_STATIC(Pair[2], hidden, {1, 10}, {2, 20}); }
PERCPU_DEFINE_STATIC(int, twice, 1);
PERCPU_DEFINE(int, dropped, 9);
"""
USES = """\
    check(*app::hits.remote_ptr(1) == 7 && *app::own.remote_ptr(1) == -5 && *app::mail.remote_ptr(1) == 8, "hits");
    check(*app::color.remote_ptr(1) == Color::green && *twice.remote_ptr(1) == 1, "color");
    check(app::deep::owner.remote_ptr(1)->magic == 0xfeed && (*hidden.remote_ptr(1))[1].small == 2, "owner");
"""
CHANGES = [
    ("demo.cpp", "namespace {\n\nBarrier finished;", f"{DEFINITIONS}namespace {{\n\nBarrier finished;"),
    ("demo.cpp", "    check_preemption();\n    exit", f"{USES}    check_preemption();\n    exit"),
    ("check.cpp", "namespace {\n", "PERCPU_DEFINE_STATIC(int, twice, 2);\nnamespace {\n"),
    ("check.cpp", '#include "board.hpp"', '#include <percpu/percpu.hpp>\n#include "board.hpp"'),
    ("check.cpp", "    if (bad == 0)", "    if (bad + *twice.remote_ptr(1) == 2)"),
]
NAMES = {
    "app::hits": "7",
    "hits": "7",
    "app::own": "-5",
    "own": "-5",
    "color": "Color::green",
    "mail": "1001",
    "app::mail": "8",
    "owner": "{magic = 65261}",
    "deep::owner": "{magic = 65261}",
    "hidden": "{{small = 1 '\\001', large = 10}, {small = 2 '\\002', large = 20}}",
    "(anonymous namespace)::hidden": "{{small = 1 '\\001', large = 10}, {small = 2 '\\002', large = 20}}",
    "demo.cpp:twice": "1",
    "check.cpp:twice": "2",
    "demo.cpp:app::hits": "7",
}
REFUSED = {
    "dropped": "percpu: there is no per-CPU variable dropped; info percpu lists them",
    "hist": "percpu: there is no per-CPU variable hist; did you mean histogram?",
    "cpuid": "percpu: there is no per-CPU variable cpuid; did you mean cpu_id?",
    "check.cpp:hits": "percpu: there is no per-CPU variable check.cpp:hits; did you mean app::hits?",
}


@pytest.mark.parametrize("features", [(), ("non-zero-vma",)], ids=["zero-vma", "in-image"])
def test_names_as_c_plus_plus_has_them(features: tuple[str, ...], build_by_hand: Callable[..., Path]) -> None:
    kernel = build_by_hand(features=features, changes=CHANGES)
    commands = [f'print $percpu("{name}", 1)' for name in (*NAMES, *REFUSED, "twice")]
    members = ['print $percpu("hidden", 1)[1].small', "print sizeof($)", 'print/d $percpu("owner", 2).magic']
    answers = ask(X86_64, kernel, 4, "exit_with_checks", [*commands, *members, "info percpu"])
    *said, ambiguous, small, _, magic, table = answers.said
    assert dict(zip(NAMES, map(result, said))) == NAMES
    assert dict(zip(REFUSED, said[len(NAMES) :])) == REFUSED
    assert re.fullmatch(
        r"percpu: twice is one of 2 per-CPU variables; write one of \S*check\.cpp:twice, \S*demo\.cpp:twice", ambiguous
    )
    assert (result(small), result(magic)) == ("2 '\\002'", "65261")
    assert re.search(r"  app::deep::owner +Owner +0-3 +\{magic = 65261\}$", table, re.MULTILINE)
    assert re.search(r"  app::color +Color +0-3 +Color::green$", table, re.MULTILINE)
    assert "dropped" not in table


def test_a_copy_can_be_changed_and_walked() -> None:
    commands = [
        'set var $percpu("scheduler", 2).time_slice = 77',
        'print $percpu("scheduler", 2)',
        "ptype $",
        "info percpu scheduler",
    ]
    said = ask(X86_64, demo(ROWS[0]), 4, "exit_with_checks", commands).said
    assert result(said[1]) == "{time_slice = 77, queue_length = 0, idle = true}"
    assert said[2].startswith("type = struct Scheduler {")
    assert re.findall(r" (\S+) +\{time_slice = (\d+),", said[3]) == [("0-1", "10"), ("2", "77"), ("3", "10")]


def test_without_debug_information(tmp_path: Path) -> None:
    kernel = tmp_path / "kernel.elf"
    subprocess.run(["objcopy", "--strip-debug", demo(ROWS[0]), kernel], check=True)
    commands = [
        'print $percpu("mail", 1)',
        'print $percpu("histogram", 1)[4]',
        'print $percpu("cpu_id")',
        "info percpu mail",
    ]
    mail, slot, cpu, table = ask(X86_64, kernel, 4, "exit_with_checks", commands).said
    assert (result(mail), result(cpu)) == ("1001", "0")
    assert 1 < int(result(slot)) < 256
    assert re.search(r"  mail +\(4 bytes\) +0 +1000$", table, re.MULTILINE)


def test_before_the_areas_are_made() -> None:
    commands = ['print $percpu("mail", 0)', 'print $percpu("mail", 1)', 'print $percpu("mail")', "info percpu mail"]
    first, second, current, table = ask(X86_64, demo(ROWS[0]), 4, "primary_main", commands).said
    assert result(first) == str(0x5EED)
    assert second == NOT_MADE
    unknown = (
        "percpu: which CPU the selected thread is, is not known: gs_base is 0x0, k_gs_base is 0x0, and there is no area"
    )
    assert current.startswith(unknown) and current.endswith('; give the CPU\'s number: $percpu("NAME", CPU)')
    assert table.startswith("the areas are not made yet: area 0 is the template as it was loaded, at 0x")
    assert re.search(r"  mail +unsigned int +0 +24301$", table, re.MULTILINE)


@pytest.mark.parametrize("layout", [(), ("non-zero-vma",)], ids=["zero-vma", "in-image"])
def test_a_template_that_is_nobodys_area(layout: tuple[str, ...], build_by_hand: Callable[..., Path]) -> None:
    kernel = build_by_hand(features=(*layout, "pristine"))
    commands = ['print $percpu("mail", 0)', "tbreak exit_with_checks", "continue", 'print $percpu("mail", 0)', "info percpu"]
    before, _, _, after, table = ask(X86_64, kernel, 4, "primary_main", commands).said
    assert before == "percpu: the areas are not made yet: neither init nor init_in_place has returned"
    assert result(after) == "1000"
    assert table.splitlines()[1] == "the selected thread is CPU 0"


def test_swapped_bases() -> None:
    """As in the first instructions of an interrupt from user space, before swapgs."""
    commands = ["set $k_gs_base = $gs_base", "set $gs_base = 0x7f0000001000", 'print $percpu("cpu_id")']
    assert result(ask(X86_64, demo(ROWS[0]), 4, "exit_with_checks", ["thread 3", *commands]).said[-1]) == "2"


def test_a_base_that_is_no_register() -> None:
    answers = ask(
        BOARDS["riscv64-s-mode"],
        demo(WITHOUT_REGISTER),
        4,
        "exit_with_checks",
        ['print $percpu("cpu_id")', 'print $percpu("cpu_id", 3)', "info percpu cpu_id"],
    )
    unknown = f"{UNKNOWN}: the base is what a function of the kernel's gives (base-register=user)"
    assert answers.said[0] == f'percpu: {unknown}; give the CPU\'s number: $percpu("NAME", CPU)'
    assert result(answers.said[1]) == "3"
    assert answers.said[2].splitlines()[1] == unknown


def test_a_target_without_the_register(tmp_path: Path) -> None:
    """A stub that shows the general registers only, which is what GDB is told of this one."""
    core = [f'<reg name="x{number}" bitsize="64"/>' for number in range(31)]
    core += [
        '<reg name="sp" bitsize="64" type="data_ptr"/>',
        '<reg name="pc" bitsize="64" type="code_ptr"/>',
        '<reg name="cpsr" bitsize="32"/>',
    ]
    feature = f'<feature name="org.gnu.gdb.aarch64.core">{"".join(core)}</feature>'
    description = f"<target><architecture>aarch64</architecture>{feature}</target>"
    (tmp_path / "target.xml").write_text(f'<?xml version="1.0"?><!DOCTYPE target SYSTEM "gdb-target.dtd">{description}')
    commands = ['print $percpu("cpu_id")', 'print $percpu("cpu_id", 2)']
    before = [f"set tdesc filename {tmp_path / 'target.xml'}"]
    current, third = ask(BOARDS["aarch64"], demo(Variant("aarch64")), 4, "exit_with_checks", commands, before).said
    assert "the target does not show the base register TPIDR_EL1; give the CPU's number" in current
    assert result(third) == "2"


def test_one_cpu() -> None:
    commands = ['print $percpu("mail")', 'print $percpu("mail", 0)', 'print $percpu("mail", 1)', "info percpu ^mail"]
    said = ask(X86_64, demo(ONE_CPU), 1, "exit_with_checks", commands).said
    assert [result(text) for text in said[:2]] == ["1000", "1000"]
    assert said[2] == "percpu: CPU 1: with the feature sp-naive there is CPU 0 only"
    assert said[3].splitlines()[0] == "one CPU (sp-naive): the variables are ordinary ones"
    assert said[3].splitlines()[-1].split() == ["mail", "unsigned", "int", "0", "1000"]


LINUX_PROGRAM = """
#include <percpu/percpu.hpp>
namespace app { PERCPU_DEFINE(int, number, 5); }
extern "C" [[gnu::noinline]] void done() { asm volatile("" : : : "memory"); }
int main() {
    if (!percpu::init_in_place()) return 1;
    app::number.for_each([](size_t cpu, int& it) { it = -10 - static_cast<int>(cpu); });
    percpu::init_percpu_reg(percpu::percpu_area_num() - 1);
    app::number.sub_current(100);
    done();
}
"""


NOT_MADE = "percpu: CPU 1: the areas are not made yet; before that there is area 0 only, as it was loaded"


@pytest.mark.parametrize(
    ("features", "cpu", "before", "after"),
    [
        (("non-zero-vma",), 1, NOT_MADE, ("$1 = -11", "$2 = -112")),
        (("sp-naive",), 0, "$1 = 5", ("$2 = -110", "$3 = -110")),
    ],
    ids=["in-image", "sp-naive"],
)
def test_a_program_that_moves(
    features: tuple[str, ...], cpu: int, before: str, after: tuple[str, str], tmp_path: Path
) -> None:
    """A PIE of Linux: where it lies is known only once it runs, and it was asked about before."""
    (tmp_path / "program.cpp").write_text(LINUX_PROGRAM)
    program = link_program(tmp_path, tmp_path / "program.cpp", "-g", features=features, cpu_num=3)
    one = f'print $percpu("number", {cpu})'
    first, _, _, other, current, table = gdb(
        str(program), [], [one, "break done", "run", one, 'print $percpu("number")', "info percpu"]
    )
    assert (first, (other, current)) == (before, after)
    assert table.splitlines()[-1].split()[-1] == after[1].split()[-1]


def test_wrong_questions() -> None:
    usage = 'usage: $percpu("NAME") or $percpu("NAME", CPU)'
    questions = {
        "print $percpu()": f"percpu: 0 arguments; {usage}",
        'print $percpu("mail", 1, 2)': f"percpu: 3 arguments; {usage}",
        "print $percpu(5)": f"percpu: the name is of type int, and not in quotes; {usage}",
        'print $percpu("mail", "1")': f"percpu: the CPU is of type char [2], and no whole number; {usage}",
        'print $percpu("mail", 1.0)': f"percpu: the CPU is of type double, and no whole number; {usage}",
        'print $percpu("mail", 4)': "percpu: CPU 4: there are areas of the CPUs 0 to 3",
        'print $percpu("mail", -1)': "percpu: CPU -1: there are areas of the CPUs 0 to 3",
        "info percpu (": "percpu: '(' is no regular expression: missing ), unterminated subpattern at position 0",
        "info percpu nowhere": "percpu: no per-CPU variable has 'nowhere' in its name",
    }
    said = ask(X86_64, demo(ROWS[0]), 4, "exit_with_checks", list(questions)).said
    assert dict(zip(questions, said)) == questions


def test_where_pyelftools_is_missing(tmp_path: Path) -> None:
    extension = percpu_tools.gdb_extension()
    shutil.copytree(extension.parents[1], tmp_path / "percpu_tools")
    source = f"source {tmp_path / 'percpu_tools' / 'gdb' / extension.name}"
    done = subprocess.run([GDB, "-nx", "-q", "-batch", "-ex", source], capture_output=True, text=True, timeout=60)
    assert done.stderr.splitlines() == [
        f"percpu: pyelftools is not found beside {tmp_path / 'percpu_tools'}: install it there, or where PYTHONPATH says"
    ]


def test_nothing_to_look_at() -> None:
    commands = ['print $percpu("mail")', "info percpu"]
    without_file = "percpu: no loaded file has per-CPU variables; load the kernel with its symbols: file kernel.elf"
    assert gdb("", [], commands) == (without_file, without_file)
    program = demo(ROWS[0])
    not_run = gdb(str(program), [], commands)[0]
    assert not_run == "percpu: no program runs, so no CPU is selected; connect to it (target remote), or run it"


def test_help() -> None:
    function, command = gdb("", [], ["help function percpu", "help info percpu"])
    assert function.startswith("A CPU's copy of a per-CPU variable:") and "\n " not in function
    assert "Usage: info percpu [REGEXP]" in command
