"""Wrong input is refused in one line before anything is written; wrong kernels fail the build."""

from __future__ import annotations

import pytest
from scons.project import LINK, USUAL


def refused(project, *arguments) -> str:
    """The one line by which SCons refuses to go on; nothing was written, and no action has run."""
    before = project.files()
    run = project.scons(*arguments)
    assert run.status == 2
    assert run.ran == []
    assert {name for name in project.files() if "sconsign" not in name} == before
    lines = run.err.strip().splitlines()
    assert len(lines) == 1, run.err
    assert lines[0].startswith("scons: *** percpu: ")
    return lines[0]


@pytest.mark.parametrize(("value", "shown"), [
    ("0", "0"), ("-1", "-1"), ("1.5", "1.5"), ("'four'", "'four'"), ("'0'", "0"), ("'1.5'", "'1.5'"), ("10**9", "1000000000"),
    ("65537", "65537"), ("True", "True"), ("[4]", "[4]"), ("' '", "' '"),
])
@pytest.mark.parametrize("place", ["tool", "environment", "call"])
def test_cpu_num(project, value, shown, place):
    tool, environment, call = (f"CPU_NUM={value}" if place == name else "" for name in ("tool", "environment", "call"))
    project.sconstruct(f"""\
        env = Environment(**KERNEL, **SHORT)
        env.Tool("percpu", toolpath=TOOLPATH, {tool})
        env.Replace({environment})
        env.Program("kernel.elf", SOURCES, {call})
    """)
    assert refused(project) == (
        f"scons: *** percpu: kernel.elf: CPU_NUM is {shown}: expected a whole number from 1 to 65536  Stop.")


@pytest.mark.parametrize("argument", ["", "CPU_NUM=None, ", "CPU_NUM='', "])
def test_no_cpu_num(project, argument):
    project.sconstruct(USUAL.replace('CPU_NUM=ARGUMENTS.get("CPU_NUM", 4)', argument))
    assert "kernel.elf: CPU_NUM is not set: expected a whole number from 1 to 65536" in refused(project)


@pytest.mark.parametrize(("variables", "message"), [
    ("CXX='no-such-g++'", "no-such-g++ is not on the PATH of the build"),
    ("CXX=''", "CXX is not set"),
    ("CCFLAGS='-m32'", "the compiler g++ builds for i386 (x86_64-linux-gnu): expected one of x86_64, aarch64"),
    ("PERCPU_ARCH='riscv64'", "PERCPU_ARCH is 'riscv64', and the compiler g++ builds for x86_64"),
    ("PERCPU_ARCH='mips'", "PERCPU_ARCH is 'mips': expected one of x86_64, aarch64"),
    ("PERCPU_FEATURES='fast'", "feature is 'fast': expected one of all-near"),
    ("PERCPU_FEATURES=['arm-el2']", "feature arm-el2 on x86_64"),
    ("PERCPU_CHECK='perhaps'", "PERCPU_CHECK is 'perhaps': expected error, warn or off"),
    ("PERCPU_LINKER='gold'", "PERCPU_LINKER is 'gold': expected ld or lld"),
    ("PERCPU_MODE='both'", "PERCPU_MODE is 'both': expected insert or include"),
    ("PERCPU_CACHE_LINE=48", "the cache line is 48 bytes: expected a power of two"),
    ("LINKFLAGS='-fuse-ld=gold'", "ends in gold: expected GNU ld or lld"),
    ("LINK='g++ -Wl,-T,kernel.ld'", "names the script kernel.ld before $LINKFLAGS"),
    ("LINKCOM='$LINK -o $TARGET $SOURCES'", "the link command does not use $LINKFLAGS"),
])
def test_construction_variables(project, variables, message):
    project.sconstruct(USUAL.replace("env.Program", f"env.Replace({variables})\nenv.Program"))
    assert message in refused(project)


def test_a_compilation_without_a_program_refuses_an_unknown_feature_too(project):
    project.sconstruct(USUAL.replace("Program", "Object").replace('"kernel.elf", SOURCES', 'SOURCES, PERCPU_FEATURES="fast"'))
    run = project.scons()
    assert run.status == 2
    assert run.err.count("\n") == 1 and "feature is 'fast'" in run.err


def test_an_unknown_parameter_of_the_tool(project):
    project.sconstruct(USUAL.replace("CPU_NUM=ARG", "CPUS=ARG"))
    assert "env.Tool('percpu', CPUS=...) has no such parameter: expected one of CPU_NUM" in refused(project)


def test_a_script_without_a_place_to_insert(project):
    project.write("kernel.ld", "ENTRY(kernel_entry)\n")
    run = project.scons()
    assert run.status == 2
    assert run.err.startswith("scons: *** [kernel.elf.percpu/percpu.ld] percpu: kernel.ld has no SECTIONS, so there is no place to insert")
    assert run.err.count("\n") == 1
    assert not (project.folder / "kernel.elf").exists()


# As people write it by hand, and as the Rust crate's README shows it: NOLOAD loses the initial values.
BY_HAND = """\
    _percpu_start = .;
    _percpu_end = _percpu_start + SIZEOF(.percpu);
    .percpu 0x0 (NOLOAD) : AT(_percpu_start) {
        _percpu_load_start = .;
        *(.percpu .percpu.*)
        _percpu_load_end = .;
        . = _percpu_load_start + ALIGN(64) * 4;
    }
    . = _percpu_end;
"""


@pytest.fixture
def including(project):
    """A project whose own script says INCLUDE percpu.ld, so that it can also say something else."""
    project.sconstruct(USUAL.replace("CPU_NUM=ARG", 'PERCPU_CHECK=ARGUMENTS.get("CHECK", "error"), PERCPU_MODE="include", CPU_NUM=ARG'))
    project.replace("kernel.ld", ".bss :", "INCLUDE percpu.ld\n    .bss :")
    return project


def break_script(project):
    project.replace("kernel.ld", "INCLUDE percpu.ld\n", BY_HAND)


def mend_script(project):
    project.replace("kernel.ld", BY_HAND, "INCLUDE percpu.ld\n")


def test_a_finding_fails_the_build_with_the_checkers_message(including):
    break_script(including)
    run = including.scons()
    assert run.status == 2
    assert "T05" in run.err
    assert "scons: *** [kernel.elf] percpu-check refuses it; it is kept as kernel.elf.percpu/kernel.elf" in run.err
    assert "Traceback" not in run.err
    assert not (including.folder / "kernel.elf").exists()
    assert not (including.folder / "kernel.elf.percpu/check.txt").exists()
    assert (including.folder / "kernel.elf.percpu/kernel.elf").exists()
    # Nothing takes it for built: not the next run, nor one that asks for the program alone.
    for arguments in ((), ("kernel.elf",)):
        again = including.scons(*arguments)
        assert again.status == 2 and "link kernel.elf" in again.ran and "T05" in again.err


def test_variables_that_the_users_script_takes_elsewhere_fail_the_build(including):
    including.replace("kernel.ld", "*(.data .data.*)", "*(.data .data.* .percpu*)")
    run = including.scons()
    assert run.status == 2
    assert "kernel.ld collects .percpu* in .data, in front of INCLUDE percpu.ld" in run.err and "Traceback" not in run.err
    # What is not seen in the script is found in the program.
    including.replace("kernel.ld", ".percpu*", ".per*")
    run = including.scons()
    assert run.status == 2
    assert "T25" in run.err and "cpu_id" in run.err
    assert "scons: *** [kernel.elf] percpu-check refuses it" in run.err
    assert not (including.folder / "kernel.elf").exists()


def test_what_needs_the_program_is_not_made_from_a_refused_one(including):
    including.sconstruct((including.folder / "SConstruct").read_text() + """
Alias("image", Command("kernel.bin", "kernel.elf", Copy("$TARGET", "$SOURCE")))
""")
    break_script(including)
    assert including.scons("image").status == 2
    assert not (including.folder / "kernel.bin").exists()


def test_a_mended_script_after_a_refused_kernel_links_again(including):
    including.build()
    break_script(including)
    assert including.scons().status == 2
    mend_script(including)
    assert "link kernel.elf" in including.build()
    assert including.cpu_num("kernel.elf") == 4


def test_a_refused_kernel_is_not_put_into_a_cache(including):
    including.sconstruct('CacheDir("cache")\n' + (including.folder / "SConstruct").read_text())
    break_script(including)
    for _ in range(2):
        run = including.scons()
        assert run.status == 2 and "link kernel.elf" in run.ran


def test_warn_prints_the_finding_and_goes_on(including):
    break_script(including)
    run = including.scons("CHECK=warn")
    assert run.status == 0
    assert "T05" in run.err
    assert (including.folder / "kernel.elf").exists()
    assert including.scons("CHECK=error").status == 2
    assert including.scons("CHECK=error").status == 2


def test_off_does_not_check(including):
    break_script(including)
    run = including.scons("CHECK=off")
    assert run.status == 0 and run.err == ""
    assert "check kernel.elf" not in run.ran


def test_a_check_of_the_users_own(including):
    break_script(including)
    including.replace("SConstruct", 'PERCPU_MODE="include"', 'PERCPU_CHECKCOM="size $SOURCE > $TARGET", PERCPU_MODE="include"')
    assert LINK[-1] in including.build()
    assert "kernel.elf" in (including.folder / "kernel.elf.percpu/check.txt").read_text()


def test_a_kernel_that_came_from_a_cache_unchecked_is_refused(including):
    including.sconstruct('CacheDir("cache")\n' + (including.folder / "SConstruct").read_text())
    break_script(including)
    including.build("CHECK=off")
    including.build("-c")
    run = including.scons("CHECK=error")
    assert "Retrieved `kernel.elf' from cache" in run.out
    assert run.status == 2 and "T05" in run.err
