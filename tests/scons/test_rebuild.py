"""What is built, and what is built again: by what ran."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys

import pytest
import toolchain
from scons.project import COMPILE, LINK, TOOLPATH, USUAL, Project, copy_toolkit


def test_an_ordinary_program_becomes_a_kernel(project):
    assert sorted(project.build()) == sorted(COMPILE + LINK)
    assert project.cpu_num("kernel.elf") == 4
    assert "cpu_id" in (project.folder / "kernel.elf.percpu/check.txt").read_text()


def test_the_tool_is_loaded_by_environment_too(project):
    project.sconstruct("""\
        env = Environment(tools=["default", "percpu"], toolpath=TOOLPATH, CPU_NUM=8, **KERNEL, **SHORT)
        env.Program("kernel.elf", SOURCES)
    """)
    assert sorted(project.build()) == sorted(COMPILE + LINK)
    assert project.cpu_num("kernel.elf") == 8


def test_the_tool_may_be_loaded_before_the_default_ones(project):
    project.sconstruct("""\
        env = Environment(tools=["percpu", "default"], toolpath=TOOLPATH, CPU_NUM=8, **KERNEL, **SHORT)
        env.Program("kernel.elf", SOURCES)
    """)
    assert sorted(project.build()) == sorted(COMPILE + LINK)


def test_a_second_build_does_nothing(project):
    project.build()
    assert project.build() == []


def test_a_change_of_cpu_num_compiles_nothing(project):
    project.build()
    assert project.build("CPU_NUM=8") == LINK
    assert project.cpu_num("kernel.elf") == 8
    assert project.build("CPU_NUM=8") == []


def test_a_change_of_a_source_compiles_that_one(project):
    project.build()
    project.replace("events.cpp", "size_t count", "size_t  count")
    assert project.build() == ["compile events.o"]
    project.replace("events.hpp", "2", "3")
    assert project.build() == ["compile events.o", *LINK[1:]]


def test_the_headers_of_the_runtime_are_dependencies(project):
    tree = project.scons("--tree=all", "--dry-run").out
    for header in ("percpu/percpu.hpp", "percpu/variable.hpp"):
        assert header in tree
    # The same when CPPPATH was set behind the tool, and when the object was declared before the program.
    project.sconstruct(USUAL.replace("env.Program", 'env["CPPPATH"] = ["."]\nenv.Object("kernel.cpp")\nenv.Program'))
    assert "percpu/variable.hpp" in project.scons("--tree=all", "--dry-run", "kernel.o").out
    project.build()


def test_features_compile_and_link_again(project):
    features = 'PERCPU_FEATURES=ARGUMENTS.get("FEATURES", ""), '
    project.sconstruct(USUAL.replace("CPU_NUM=ARG", features + "CPU_NUM=ARG"))
    project.build()
    everything = [line for line in COMPILE if not line.startswith("copy")] + LINK
    assert sorted(project.build("FEATURES=non-zero-vma")) == sorted(everything)
    symbols = project.symbols("kernel.elf")
    assert symbols["_percpu_load_start"] == symbols["_percpu_start"] != 0
    assert sorted(project.build("FEATURES=non-zero-vma,preempt")) == sorted(everything)
    assert project.build("FEATURES=preempt,non-zero-vma") == []


@pytest.mark.parametrize("linker", ["g++", "ld"])
def test_kept_relocations_let_the_check_judge_more(project, linker):
    flags = 'LINK="ld", LINKFLAGS="-static --no-warn-rwx-segments -T kernel.ld", ' if linker == "ld" else ""
    kept = 'PERCPU_EMIT_RELOCS=ARGUMENTS.get("KEEP", False), '
    project.sconstruct(USUAL.replace("CPU_NUM=ARG", kept + "CPU_NUM=ARG").replace("SOURCES)", f"SOURCES, {flags})"))
    project.build()
    report = project.folder / "kernel.elf.percpu/check.txt"
    assert "not judged: T08" in report.read_text()
    assert project.build("KEEP=1") == LINK[1:]
    assert "not judged" not in report.read_text()
    assert project.build("KEEP=1") == []


def test_options_of_the_check_link_and_check_again(project):
    project.sconstruct(USUAL.replace("CPU_NUM=ARG", 'PERCPU_CHECKFLAGS=ARGUMENTS.get("FLAGS", ""), CPU_NUM=ARG'))
    project.build()
    # Whoever asks for the kernel alone gets one that has passed this check.
    assert project.build("FLAGS=--disable T23") == LINK[1:]
    assert project.build("FLAGS=--disable T23") == []


def test_only_a_check_that_may_refuse_is_a_reason_to_link(project):
    project.sconstruct(USUAL.replace("CPU_NUM=ARG", 'PERCPU_CHECK=ARGUMENTS.get("CHECK", "error"), CPU_NUM=ARG'))
    project.build("CHECK=warn")
    assert project.build("CHECK=off") == []
    assert project.build("CHECK=error") == LINK[1:]
    assert project.build("CHECK=error") == []


def test_a_change_in_the_toolkit_builds_what_depends_on_it(tmp_path):
    project = Project(tmp_path / "project", toolpath=copy_toolkit(tmp_path / "toolkit"))
    project.build()
    template = tmp_path / "toolkit/ldscripts/percpu.ld.j2"
    template.write_text("/* changed */\n" + template.read_text())
    assert [line for line in project.build() if "check" not in line] == LINK[:2]
    header = tmp_path / "toolkit/percpu_cpp/include/percpu/area.hpp"
    header.write_text(header.read_text() + "\n// changed\n")
    # The objects come out as they were, so nothing is linked.
    assert sorted(project.build()) == sorted(line for line in COMPILE if line.startswith("compile"))


def test_clean_leaves_the_sources(project):
    before = project.files()
    project.build()
    assert project.files() > before
    project.build("-c")
    assert {name for name in project.files() if "sconsign" not in name} == before
    assert not (project.folder / "kernel.elf.percpu").exists()


def test_two_jobs(project):
    assert sorted(project.build("-j2")) == sorted(COMPILE + LINK)
    assert project.build("-j2") == []


def test_a_dry_run_writes_nothing(project):
    before = project.files()
    assert sorted(project.build("--dry-run")) == sorted(COMPILE + LINK)
    assert not (project.folder / ".sconsign.percpu.json").exists()
    assert {name for name in project.files() if "sconsign" not in name} == before


def test_silent(project):
    run = project.scons("--silent")
    assert (run.status, run.out, run.err) == (0, "", "")
    assert project.cpu_num("kernel.elf") == 4


def test_lines_without_comstr_are_commands_that_do_the_same(project):
    project.sconstruct(USUAL.replace(", **SHORT", ""))
    run = project.scons()
    assert run.status == 0, run.err
    assert "percpu-ldscript render --cpu-num 4 --arch x86_64 --linker ld --mode insert -o kernel.elf.percpu/percpu.ld\n" in run.out
    assert "percpu-check --cpu-num 4 kernel.elf\n" in run.out


def test_the_command_shown_for_the_fragment_renders_the_same(project):
    project.replace("kernel.ld", ".bss :", ".late : { *(.late) LONG(1) }\n    .bss :")
    project.sconstruct(USUAL.replace(", **SHORT", "").replace(
        "CPU_NUM=ARG", "PERCPU_CACHE_LINE=128, PERCPU_LOAD_OFFSET='0x10 + 0x10', PERCPU_FEATURES='non-zero-vma', CPU_NUM=ARG"))
    run = project.scons("kernel.elf.percpu/percpu.ld")
    command = shlex.split(next(line for line in run.out.splitlines() if line.startswith("percpu-ldscript")))
    done = subprocess.run([sys.executable, "-m", "percpu_tools.cli.ldscript", *command[1:command.index("-o")]],
                          env={**os.environ, "PYTHONPATH": str(TOOLPATH.parents[1] / "tools")},
                          stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout == (project.folder / "kernel.elf.percpu/percpu.ld").read_text()


def test_a_cache_is_filled_and_used_and_the_check_still_made(project):
    project.sconstruct('CacheDir("cache")\n' + USUAL)
    project.build()
    project.build("-c")
    again = project.build()
    assert [line for line in again if not line.startswith("Retrieved")] == ["check kernel.elf"]
    assert project.build() == []


def test_another_machine_builds_everything_from_a_shared_cache(tmp_path):
    ran = []
    for name in "one", "two":
        project = Project(tmp_path / name / "project", toolpath=copy_toolkit(tmp_path / name / "toolkit"))
        project.sconstruct(f"CacheDir({str(tmp_path / 'cache')!r})\n" + USUAL)
        ran.append([line for line in project.build() if not line.startswith("Retrieved")])
    assert sorted(ran[0]) == sorted(COMPILE + LINK)
    assert ran[1] == ["check kernel.elf"]


@pytest.mark.parametrize("launcher", ["ccache"])
def test_a_compiler_launcher(project, tmp_path, launcher):
    project.sconstruct(f"""\
        env = Environment(CXX="{launcher} g++", **KERNEL, **SHORT)
        env["ENV"]["CCACHE_DIR"] = {str(tmp_path / 'ccache')!r}
        env.Tool("percpu", toolpath=TOOLPATH, CPU_NUM=4)
        env.Program("kernel.elf", SOURCES)
    """)
    project.build()
    assert project.cpu_num("kernel.elf") == 4


@pytest.mark.parametrize("toolkit", ["installed", "in the checkout"])
def test_another_checkout_compiles_nothing_with_ccache(tmp_path, toolkit):
    cache = {"CCACHE_DIR": str(tmp_path / "ccache")}
    for name in "one", "two":
        checkout = tmp_path / name
        # What lies in a checkout has another path in each: ccache takes paths below its base folder as relative.
        toolpath, base = (TOOLPATH, {}) if toolkit == "installed" else (copy_toolkit(checkout / "toolkit"), {"CCACHE_BASEDIR": str(checkout)})
        project = Project(checkout / "project", toolpath=toolpath)
        project.sconstruct(f"""\
            env = Environment(CXX="ccache g++", **KERNEL, **SHORT)
            env["ENV"].update({cache | base!r})
            env.Tool("percpu", toolpath=TOOLPATH, CPU_NUM=4)
            env.Program("kernel.elf", SOURCES)
        """)
        project.build()
        said = subprocess.run(["ccache", "--print-stats"], env={**os.environ, **cache}, capture_output=True, text=True, check=True)
        counts = {word: int(count) for word, count in (line.split() for line in said.stdout.splitlines())}
        hits = counts["direct_cache_hit"] + counts["preprocessed_cache_hit"]
        assert (hits, counts["cache_miss"]) == ((0, 3) if name == "one" else (3, 3))


def test_the_compilation_database_knows_the_runtime(project):
    project.sconstruct(USUAL.replace("env.Program", 'env.Tool("compilation_db")\nenv.CompilationDatabase()\nenv.Program'))
    project.build()
    database = (project.folder / "compile_commands.json").read_text()
    assert '"file": "kernel.elf.percpu/area.cpp"' in database
    assert "percpu_cpp/include" in database


def test_help_names_the_variables_beside_the_projects_own(project):
    run = project.scons("--help")
    assert run.status == 0
    assert "CPU_NUM " in run.out and "Use scons -H for help about" in run.out
    project.sconstruct(USUAL + 'Help("the project\'s own\\n")\n')
    both = project.scons("--help").out
    assert both.replace("the project's own\n", "") == run.out


def test_a_clean_folder_is_built_again_in_one_session(project):
    done = subprocess.run([sys.executable, "-m", "SCons", "-Q", "--interactive"], cwd=project.folder, text=True,
                          input="build\nclean\nbuild\nexit\n", capture_output=True, check=False)
    assert done.stdout.count("link kernel.elf") == 2, done.stderr


def test_help_is_given_whatever_is_wrong(project):
    project.sconstruct(USUAL.replace('CPU_NUM=ARGUMENTS.get("CPU_NUM", 4)', ""))
    assert project.scons().status == 2
    assert project.scons("--help").status == 0


@pytest.fixture
def logged(project):
    """The project with a compiler that writes down what it is asked; the log."""
    log = project.folder / "asked.log"
    source = project.write("tools/compiler.c", f"""\
        #include <stdio.h>
        #include <unistd.h>
        int main(int count, char** words) {{
            FILE* log = fopen("{log}", "a");
            for (int place = 1; place < count; place++) fprintf(log, "%s ", words[place]);
            fprintf(log, "\\n");
            fclose(log);
            words[0] = "/usr/bin/g++";
            return execv(words[0], words);
        }}
        """)
    toolchain.run(["gcc", str(source), "-o", str(project.folder / "tools" / "compiler")])
    project.replace("SConstruct", 'env = Environment(', 'env = Environment(CXX="tools/compiler", LINK="tools/compiler", ')
    return log


def questions(log) -> int:
    asked = log.read_text() if log.exists() else ""
    log.unlink(missing_ok=True)
    return sum(word in ("-dumpmachine", "-Wl,--version") for word in asked.split())


def test_a_build_that_is_up_to_date_does_not_ask_the_tools_again(project, logged):
    assert sorted(project.build()) == sorted(COMPILE + LINK)
    assert questions(logged) == 2
    assert project.build() == [] and questions(logged) == 0
    # Beside SCons's own file, and thrown away with it.
    (project.folder / ".sconsign.percpu.json").unlink()
    assert project.build() == [] and questions(logged) == 2
    # Another compiler under the same name.
    compiler = project.folder / "tools" / "compiler"
    compiler.write_bytes(compiler.read_bytes() + b"\0")
    for run, asked in ((["-n"], 2), ([], 2), ([], 0)):
        project.build(*run)
        assert questions(logged) == asked


def test_answers_of_tools_are_kept_where_scons_keeps_what_it_knows(project, logged):
    project.replace("SConstruct", "env.Program", "SConsignFile('state/signatures')\nenv.Program")
    project.build()
    project.build()
    assert (project.folder / "state" / "signatures.percpu.json").exists()
    assert not (project.folder / ".sconsign.percpu.json").exists()
