"""Wrong input is refused in one line before anything is written; wrong kernels fail the build."""

from __future__ import annotations

import subprocess
import sys

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
    ("CXX=''", "CXX is not set"),
    ("CCFLAGS='-m32'", "the compiler g++ builds for i386 (x86_64-linux-gnu): expected one of x86_64, aarch64"),
    ("PERCPU_ARCH='riscv64'", "PERCPU_ARCH is 'riscv64', and the compiler g++ builds for x86_64"),
    ("PERCPU_ARCH='mips'", "PERCPU_ARCH is 'mips': expected one of x86_64, aarch64"),
    ("PERCPU_FEATURES='fast'", "feature is 'fast': expected one of all-near"),
    ("PERCPU_FEATURES=['arm-el2']", "feature arm-el2 on x86_64"),
    ("PERCPU_FEATURES=5", "PERCPU_FEATURES is 5: expected a list or a string"),
    ("PERCPU_REGION=5", "PERCPU_REGION is 5: expected the name of a region of MEMORY"),
    ("LINKFLAGS='-T .'", "the linker script . is a folder"),
    ("LINK=None", "there is no linker: LINK is not set"),
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


def test_a_missing_compiler_concerns_only_what_is_made_with_it(project):
    project.sconstruct(USUAL + """
other = Environment(**dict(KERNEL, CXX="no-such-g++"), **SHORT)
other.Tool("percpu", toolpath=TOOLPATH, CPU_NUM=4)
other.Program("other.elf", other.Object("other.o", "events.cpp"))
""")
    project.build("kernel.elf")
    run = project.scons("other.elf")
    assert run.status == 2 and run.ran == []
    assert "percpu: other.elf: no-such-g++ is not on the PATH of the build" in run.err and run.err.count("\n") == 1
    assert project.scons().status == 2
    project.build("-c")
    assert not (project.folder / "kernel.elf").exists()


def test_what_is_cleaned_need_not_be_right(project):
    project.build()
    project.replace("SConstruct", 'CPU_NUM=ARGUMENTS.get("CPU_NUM", 4)', "")
    project.build("-c")
    assert not (project.folder / "kernel.elf").exists() and not (project.folder / "kernel.elf.percpu").exists()


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
    # That of the good link, which says that nothing was found, would lie beside the refused kernel.
    kept, report = (including.folder / "kernel.elf.percpu" / name for name in ("kernel.elf", "check.txt"))
    assert kept.exists() and not report.exists()
    mend_script(including)
    assert "link kernel.elf" in including.build()
    assert including.cpu_num("kernel.elf") == 4
    assert not kept.exists() and "nothing found" in report.read_text()


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


def test_a_warning_is_given_whatever_is_asked_for(including):
    break_script(including)
    run = including.scons("CHECK=warn", "kernel.elf")
    assert run.status == 0 and run.err.count("error T05") == 1
    (including.folder / "kernel.elf").unlink()
    assert including.scons("CHECK=warn").err.count("error T05") == 1


@pytest.mark.parametrize("before", ["warn", "off"])
def test_a_kernel_that_was_not_refused_before_is_not_taken_for_one_that_passed(including, before):
    including.sconstruct((including.folder / "SConstruct").read_text() + """
Alias("image", Command("kernel.bin", "kernel.elf", Copy("$TARGET", "$SOURCE")))
""")
    break_script(including)
    including.build(f"CHECK={before}", "kernel.elf")
    for asked in "kernel.elf", "image":
        assert including.scons("CHECK=error", asked).status == 2
    assert not (including.folder / "kernel.bin").exists()


def test_what_the_check_reads_is_a_reason_to_check_again(project):
    project.replace("SConstruct", "CPU_NUM=ARG", 'PERCPU_CHECKFLAGS=ARGUMENTS.get("FLAGS", ""), CPU_NUM=ARG')
    project.build("kernel.elf")
    project.write("pyproject.toml", "[tool.percpu]\nbudget = 8\n")
    for asked in "kernel.elf", ".":
        run = project.scons(asked)
        assert run.status == 2 and "G01" in run.err
    project.write("pyproject.toml", "[tool.percpu]\nbudget = 4096\n")
    project.build()
    project.write("pyproject.toml", "[project]\nname = 'x'\n[tool.percpu]\nbudget = 4096\n")
    assert project.build() == []
    (project.folder / "old.elf").write_bytes((project.folder / "kernel.elf").read_bytes())
    project.build("FLAGS=--baseline old.elf")
    assert project.build("FLAGS=--baseline old.elf") == []
    project.write("old.elf", "no ELF file")
    assert "old.elf" in project.scons("FLAGS=--baseline old.elf").err
    project.write("rules.py", "def nothing(layout, image):\n    return []\n")
    project.write("pyproject.toml", "[tool.percpu]\nrules = ['rules:nothing']\n")
    project.build()
    project.write("rules.py", "def nothing(layout, image):\n    raise ValueError('seen')\n")
    assert "seen" in project.scons().err


def test_files_of_the_project_are_no_modules_of_the_checker(project):
    project.write("struct.py", "raise SystemExit('the wrong struct')\n")
    project.write("percpu_tools/__init__.py", "raise SystemExit('the wrong percpu_tools')\n")
    # SCons itself is not run from the project's folder either.
    run = "import sys; sys.path.remove(''); from SCons.Script import main; main()"
    done = subprocess.run([sys.executable, "-c", run, "-Q"], cwd=project.folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_python_that_never_looks_there_checks_too(project, monkeypatch):
    monkeypatch.setenv("PYTHONSAFEPATH", "1")
    assert LINK[-1] in project.build()


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


def test_a_kernel_that_was_put_into_a_cache_unchecked_is_refused(including):
    including.sconstruct('CacheDir("cache")\n' + (including.folder / "SConstruct").read_text())
    break_script(including)
    including.build("CHECK=off")
    including.build("-c")
    # What was not checked is none of the kernels that a build with the check takes from the cache.
    run = including.scons("CHECK=error", "kernel.elf")
    assert "Retrieved `kernel.elf' from cache" not in run.out
    assert run.status == 2 and "T05" in run.err
