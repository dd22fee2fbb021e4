"""Environments as they are in the wild, and what the tool must leave as it was."""

from __future__ import annotations

import itertools

import pytest
from scons.project import COMPILE, LINK, USUAL


def test_several_environments_in_one_sconstruct(project):
    project.sconstruct("""\
        for cpus in 2, 8:
            env = Environment(tools=["default", "percpu"], toolpath=TOOLPATH, CPU_NUM=cpus, **KERNEL, **SHORT)
            env.VariantDir(f"build/{cpus}", ".", duplicate=False)
            env.Program(f"build/{cpus}/kernel.elf", [f"build/{cpus}/{name}" for name in SOURCES])
    """)
    project.build("-j2")
    assert [project.cpu_num(f"build/{cpus}/kernel.elf") for cpus in (2, 8)] == [2, 8]
    assert project.build() == []


@pytest.mark.parametrize("duplicate", ["True", "False"])
def test_sconscripts_in_variant_folders(project, duplicate):
    project.sconstruct(f"""\
        env = Environment(**KERNEL, **SHORT)
        env["LINKFLAGS"] = env["LINKFLAGS"].replace("kernel.ld", "src/kernel.ld")
        env.Tool("percpu", toolpath=TOOLPATH, CPU_NUM=3)
        SConscript("src/SConscript", variant_dir="build", duplicate={duplicate}, exports=["env", "SOURCES"])
    """)
    for name in ("kernel.cpp", "events.cpp", "events.hpp", "kernel.ld"):
        (project.folder / "src").mkdir(exist_ok=True)
        (project.folder / name).rename(project.folder / "src" / name)
    project.write("src/SConscript", 'Import("env", "SOURCES")\nenv.Program("kernel", Glob("*.cpp"))\n')
    project.build()
    assert project.cpu_num("build/kernel") == 3
    assert (project.folder / "build/kernel.percpu/percpu.ld").exists()
    assert project.build() == []


BESIDE = 'File("kernel.ld")', 'env.PercpuLinkerScript("generated.ld", "kernel.ld.j2")[0]', '"${TARGET.dir}/kernel.ld"'
VARIANTS = "", ', variant_dir="build", duplicate=True', ', variant_dir="build", duplicate=False'


# Without a copy the script is not in the target's folder.
@pytest.mark.parametrize(("script", "variant"), list(itertools.product(BESIDE, VARIANTS))[:-1])
def test_an_sconscript_names_the_script_beside_it(project, script, variant):
    project.sconstruct(f"""\
        env = Environment(**KERNEL, **SHORT)
        env["LINKFLAGS"] = env["LINKFLAGS"].split()[:-2]
        env.Tool("percpu", toolpath=TOOLPATH, CPU_NUM=3, PERCPU_CHECKFLAGS=["--config", File("src/percpu.toml")])
        SConscript("src/SConscript", exports=["env", "SOURCES"]{variant})
    """)
    project.write("percpu.toml", "budget = 4096\n")
    for name in ("kernel.cpp", "events.cpp", "events.hpp", "kernel.ld", "percpu.toml"):
        (project.folder / "src").mkdir(exist_ok=True)
        (project.folder / name).rename(project.folder / "src" / name)
    text = project.write("src/kernel.ld.j2", (project.folder / "src/kernel.ld").read_text()).read_text()
    # Another one at the top, which is the wrong one.
    project.write("kernel.ld", "no script")
    project.write("src/SConscript", f'''
        Import("env", "SOURCES")
        env["LIBPATH"] = ["parts"]
        env.Append(LINKFLAGS=["-T", {script}])
        env.Program("kernel.elf", Glob("*.cpp"))
    ''')
    project.build()
    folder = "build" if variant else "src"
    assert project.cpu_num(f"{folder}/kernel.elf") == 3
    assert project.build() == []
    changed = text.replace(".bss :", "INCLUDE data.ld\n    .bss :")
    project.write("src/parts/data.ld", ".late : { *(.late) LONG(1) }\n")
    project.write("src/kernel.ld.j2" if "j2" in script else "src/kernel.ld", changed)
    project.build()
    assert "INSERT AFTER .late;" in (project.folder / folder / "kernel.elf.percpu/percpu.ld").read_text()
    assert project.build() == []


def test_a_repository_has_what_is_up_to_date(project, tmp_path):
    project.replace("SConstruct", "env.Program", 'env["LINKFLAGS"] = [*env["LINKFLAGS"].split()[:-1], env.File("kernel.ld").rfile()]\nenv.Program')
    project.build()
    here = tmp_path / "here"
    here.mkdir()
    for cpu_num in 4, 5:
        run = project.scons("-Y", str(project.folder), f"CPU_NUM={cpu_num}", folder=here)
        assert run.status == 0, run.err
    assert (here / "kernel.elf").exists()


def test_names_that_a_shell_would_take_apart(project):
    project.sconstruct(USUAL.replace('"kernel.elf"', '"build(1)/k&r $$1.elf"'))
    project.build()
    assert project.cpu_num("build(1)/k&r $1.elf") == 4
    assert project.build() == []


@pytest.mark.parametrize("flags", ['-T "kernel.ld"', "-Lscripts -T other.ld", "@link.rsp", "'-Wl,-T,kernel.ld'"])
def test_a_script_is_found_as_the_shell_and_the_linker_find_it(project, flags):
    project.write("link.rsp", "-T kernel.ld\n")
    project.write("scripts/other.ld", (project.folder / "kernel.ld").read_text())
    project.sconstruct(USUAL.replace("env.Program", f'env["LINKFLAGS"] = env["LINKFLAGS"].replace("-T kernel.ld", {flags!r})\nenv.Program'))
    project.build()
    assert project.build() == []
    project.replace("scripts/other.ld" if "other" in flags else "kernel.ld", "0x200000", "0x300000")
    assert project.build() == LINK


def test_one_environment_links_the_same_objects_for_several_cpu_nums(project):
    project.sconstruct("""\
        env = Environment(**KERNEL, **SHORT)
        env.Tool("percpu", toolpath=TOOLPATH)
        objects = env.Object(SOURCES)
        for env["CPU_NUM"] in 2, 4:
            env.Program(f"kernel{env['CPU_NUM']}.elf", objects)
        env.Program("kernel16.elf", objects, CPU_NUM=16)
        for cpus in 8, 32:
            env.Program(f"kernel{cpus}.elf", SOURCES, CPU_NUM=cpus)
        env["CPU_NUM"] = "spoilt behind the calls"
    """)
    run = project.scons()
    assert run.status == 0, run.err
    assert "warning" not in run.err
    assert [project.cpu_num(f"kernel{cpus}.elf") for cpus in (2, 4, 8, 16, 32)] == [2, 4, 8, 16, 32]


def test_programs_of_the_same_sources_share_objects_without_a_warning(project):
    project.sconstruct(USUAL + 'env.Program("another.elf", SOURCES)\n')
    run = project.scons()
    assert run.status == 0, run.err
    assert "warning" not in run.err
    assert run.ran.count("compile kernel.o") == 1


def test_programs_of_the_same_sources_in_another_folder_share_objects_without_a_warning(project):
    for name in "kernel.cpp", "events.cpp", "events.hpp":
        project.write(f"core/{name}", (project.folder / name).read_text())
        (project.folder / name).unlink()
    project.sconstruct("""\
        env = Environment(CORE="core", **KERNEL, **SHORT)
        env.Tool("percpu", toolpath=TOOLPATH, CPU_NUM=4)
        env.Program("one.elf", ["kernel.cpp", File("core/events.cpp")], srcdir="core")
        env.Program("two.elf", ["kernel.cpp", "events.cpp"], srcdir="$CORE", CPU_NUM=2)
    """)
    run = project.scons()
    assert run.status == 0, run.err
    assert "warning" not in run.err
    assert run.ran.count("compile core/kernel.o") == run.ran.count("compile core/events.o") == 1
    assert (project.cpu_num("one.elf"), project.cpu_num("two.elf")) == (4, 2)


def test_a_clone_has_the_tool_and_the_original_does_not(project):
    project.write("plain.cpp", "int main() {}\n")
    project.sconstruct("""\
        base = Environment(**SHORT)
        env = base.Clone(**KERNEL)
        env.Tool("percpu", toolpath=TOOLPATH, CPU_NUM=2)
        env.Program("kernel.elf", SOURCES)
        env.Clone(CPU_NUM=5).Program("clone.elf", env.Object(SOURCES))
        base.Program("plain", "plain.cpp")
    """)
    ran = project.build()
    assert [project.cpu_num(name) for name in ("kernel.elf", "clone.elf")] == [2, 5]
    assert "_percpu_cpu_num" not in project.symbols("plain")
    assert "check plain" not in ran


def test_the_global_program(project):
    project.sconstruct("""\
        DefaultEnvironment(**KERNEL, **SHORT).Tool("percpu", toolpath=TOOLPATH, CPU_NUM=2)
        Program("kernel.elf", SOURCES)
    """)
    project.build()
    assert project.cpu_num("kernel.elf") == 2


def test_a_program_named_after_its_source(project):
    project.sconstruct(USUAL.replace('Program("kernel.elf", SOURCES)', "Program(SOURCES)"))
    project.build()
    assert project.cpu_num("kernel") == 4


FLAGS = ["-nostdlib", "-static", "-no-pie", "-Wl,--build-id=none", "-Wl,--no-warn-rwx-segments"]


@pytest.mark.parametrize("flags", [
    " ".join([*FLAGS, "-T kernel.ld"]),
    " ".join([*FLAGS, "-Tkernel.ld"]),
    " ".join([*FLAGS, "-Wl,-T kernel.ld"]),
    " ".join([*FLAGS, "-Wl,-T,kernel.ld"]),
    [*FLAGS, "-T", "kernel.ld"],
    [*FLAGS, "-Tkernel.ld"],
    [*FLAGS, "-Wl,-Tkernel.ld"],
    [*FLAGS, "-Wl,-T,kernel.ld"],
    [*FLAGS, "-Wl,--script=kernel.ld"],
    [*FLAGS, "-Xlinker", "--script", "-Xlinker", "kernel.ld"],
    [FLAGS, "-T", "${SCRIPT}"],
])
def test_the_script_is_a_dependency_however_it_is_named(project, flags):
    project.sconstruct(f"""\
        env = Environment(**SHORT, SCRIPT="kernel.ld")
        env.Tool("percpu", toolpath=TOOLPATH, CPU_NUM=4)
        env.Replace(**dict(KERNEL, LINKFLAGS={flags!r}))
        env.Program("kernel.elf", SOURCES)
    """)
    script = (project.folder / "kernel.ld").read_text()
    project.build()
    assert project.symbols("kernel.elf")["kernel_entry"] < 0x300000
    assert (project.folder / "kernel.ld").read_text() == script
    project.replace("kernel.ld", "0x200000", "0x300000")
    assert project.build() == LINK
    assert project.symbols("kernel.elf")["kernel_entry"] >= 0x300000


def test_the_linker_itself_as_link(project):
    project.sconstruct("""\
        env = Environment(**dict(KERNEL, LINKFLAGS="-static --build-id=none --no-warn-rwx-segments -T kernel.ld"), **SHORT)
        env["LINK"] = "ld"
        env.Tool("percpu", toolpath=TOOLPATH, CPU_NUM=4)
        env.Program("kernel.elf", SOURCES)
    """)
    project.build()
    assert project.cpu_num("kernel.elf") == 4
    project.replace("kernel.ld", "0x200000", "0x300000")
    assert project.build() == LINK


def test_a_link_command_of_the_users_own(project):
    project.sconstruct("""\
        env = Environment(**dict(KERNEL, LINKFLAGS=["-Tkernel.ld"]), **SHORT)
        env["LINKCOM"] = "ld.bfd --build-id=none --no-warn-rwx-segments $LINKFLAGS -o $TARGET $SOURCES"
        env.Tool("percpu", toolpath=TOOLPATH, CPU_NUM=4)
        env.Program("kernel.elf", SOURCES)
    """)
    project.build()
    assert project.cpu_num("kernel.elf") == 4


@pytest.mark.parametrize("compiler", ["g++", "clang++-19"])
def test_lld_is_found_out(project, compiler):
    project.sconstruct(f"""\
        env = Environment(**KERNEL, **SHORT, CXX="{compiler}")
        env["LINKFLAGS"] = "-fuse-ld=lld " + env["LINKFLAGS"].replace("-Wl,--no-warn-rwx-segments ", "")
        env["ENV"]["PATH"] += ":/usr/lib/llvm-19/bin"
        env.Tool("percpu", toolpath=TOOLPATH, CPU_NUM=4)
        env.Program("kernel.elf", SOURCES)
    """)
    project.build()
    assert "linker      lld" in (project.folder / "kernel.elf.percpu/percpu.ld").read_text()
    assert project.cpu_num("kernel.elf") == 4
    assert project.build() == []


def test_variables_set_behind_the_tool_count(project):
    project.sconstruct("""\
        env = Environment(**SHORT)
        env.Tool("percpu", toolpath=TOOLPATH)
        env.Replace(**KERNEL)
        env["CPPPATH"] = ["."]
        env["CPPDEFINES"] = {"MINE": 1}
        env["PERCPU_FEATURES"] = "preempt checked"
        env["CPU_NUM"] = 6
        objects = env.Object("kernel.cpp")
        env["CXXCOMSTR"] = None
        env.Program("kernel.elf", [objects, "events.cpp"], CCFLAGS=["-DPROGRAM", env["CCFLAGS"]])
    """)
    project.write("panic.cpp", "")
    hook, panic = "void percpu_preempt_enable() noexcept {}", "[[noreturn]] void percpu_panic(const char*) noexcept"
    project.replace("events.cpp", hook, f"{hook}\n{panic} {{ for (;;) {{}} }}")
    run = project.scons()
    assert run.status == 0, run.err
    compilations = [line for line in run.out.splitlines() if " -c " in line]
    assert len(compilations) == 3
    for line in compilations:
        assert "-DMINE=1 -DPERCPU_CHECKED -DPERCPU_PREEMPT -I. -I" in line
    assert sum("-DPROGRAM" in line for line in compilations) == 2
    assert project.cpu_num("kernel.elf") == 6


def test_nothing_of_the_users_is_changed(project):
    project.sconstruct("""\
        mine = dict(KERNEL, CPPPATH=["."], CPPDEFINES=["MINE"], LIBS=[], LIBPATH="lib", LINKCOM="$LINK $LINKFLAGS -o $TARGET $SOURCES")
        env = Environment(**mine, **SHORT)
        before = {name: str(value) for name, value in env.Dictionary().items()}
        env.Tool("percpu", toolpath=TOOLPATH, CPU_NUM=4, PERCPU_FEATURES="preempt")
        nodes = env.Program("kernel.elf", SOURCES)
        print("returned", *nodes)
        for name, value in before.items():
            if str(env[name]) != value and name not in ("TOOLS", "_CPPINCFLAGS", "_CPPDEFFLAGS", "BUILDERS"):
                print("changed", name, env[name])
    """)
    out = project.scons("--dry-run").out
    assert "returned kernel.elf\n" in out
    assert "changed" not in out


def test_what_is_appended_to_linkflags_after_the_call_counts(project):
    project.sconstruct(USUAL + 'env.Append(LINKFLAGS=" -Wl,--defsym=appended_late=42")\n')
    project.build()
    assert project.symbols("kernel.elf")["appended_late"] == 42


@pytest.mark.parametrize("before, after", [
    ("", 'env.Append(LINKFLAGS=" -T kernel.ld")'),
    ("$LATER", 'env["LATER"] = "-T kernel.ld"'),
    ("@late.rsp", 'Depends("kernel.elf", Command("late.rsp", [], "echo -T kernel.ld > $TARGET"))'),
    ("", 'env["_LIBFLAGS"] = "-T kernel.ld"'),
], ids=["flags", "variable", "response file", "another part of LINKCOM"])
def test_a_script_that_is_appended_after_the_call_comes_too_late(project, before, after):
    flags = f'env["LINKFLAGS"] = env["LINKFLAGS"].replace("-T kernel.ld", "{before}")\nenv.Program'
    project.sconstruct(USUAL.replace("env.Program", flags) + f"{after}\n")
    run = project.scons()
    assert run.status == 2
    assert "percpu: kernel.elf: the linker script kernel.ld was added after Program was called" in run.err


def test_an_emitter_of_the_users_is_kept(project):
    project.sconstruct(USUAL.replace("env.Program", """\
def emit(target, source, env):
    return target + [env.File("kernel.map")], source
env.Append(PROGEMITTER=[emit], LINKFLAGS=" -Wl,-Map=kernel.map")
env.Program"""))
    project.build()
    assert (project.folder / "kernel.map").exists()
    project.build("-c")
    assert not (project.folder / "kernel.map").exists()


def test_a_call_may_say_that_it_is_no_kernel(project):
    project.write("tool.cpp", "#ifdef PERCPU_PREEMPT\n#error seen\n#endif\nint main() {}\n")
    project.sconstruct("""\
        env = Environment(**SHORT)
        env.Tool("percpu", toolpath=TOOLPATH, CPU_NUM=4, PERCPU_FEATURES="preempt")
        env.Program("tool", "tool.cpp", PERCPU=False)
    """)
    assert project.build() == ["compile tool.o", "link tool"]


def test_a_compiler_for_another_machine_makes_no_kernel(project):
    project.write("tool.c", "int main(void) { return 0; }\n")
    project.sconstruct("""\
        env = Environment(CC="riscv64-linux-gnu-gcc", CXX="riscv64-linux-gnu-g++", **SHORT)
        env.Tool("percpu", toolpath=TOOLPATH, CPU_NUM=4)
        env.Program("tool", "tool.c", CC="gcc", LINK="gcc")
    """)
    assert project.build() == ["compile tool.o", "link tool"]


@pytest.mark.parametrize(("kernel", "tool"), [
    ('CXX="aarch64-linux-gnu-g++", CC="aarch64-linux-gnu-gcc"', 'CXX="g++", CC="gcc", LINK="g++"'),
    ('CXX="clang++-19", CCFLAGS=["--target=aarch64-none-elf"]', 'CCFLAGS=[], LINK="g++"'),
])
def test_a_tool_for_the_build_machine_sees_nothing_of_the_kernel(project, kernel, tool):
    project.write("tool.cpp", "#ifdef PERCPU_ARM_EL2\n#error seen\n#endif\nint main() {}\n")
    project.sconstruct(f"""\
        env = Environment({kernel}, **SHORT)
        env.Tool("percpu", toolpath=TOOLPATH, CPU_NUM=4, PERCPU_FEATURES="arm-el2")
        env.Program("tool", "tool.cpp", {tool})
    """)
    assert project.build() == ["compile tool.o", "link tool"]


def test_boot_code_for_another_width_sees_no_features(project):
    project.write("boot.c", "#ifdef PERCPU_PREEMPT\n#error seen\n#endif\nint boot;\n")
    project.sconstruct("""\
        env = Environment(**SHORT)
        env.Tool("percpu", toolpath=TOOLPATH, CPU_NUM=4, PERCPU_FEATURES="preempt")
        env.Object("boot.c", CCFLAGS=["-m32", "-ffreestanding"])
    """)
    assert project.build() == ["compile boot.o"]


def test_another_compiler_for_the_same_machine_makes_a_kernel(project):
    project.sconstruct(USUAL.replace("SOURCES)", 'SOURCES, CXX="clang++-19", LINKFLAGS=env["LINKFLAGS"].replace("-Wl,--no-warn-rwx-segments", ""))'))
    project.build()
    assert project.cpu_num("kernel.elf") == 4


def test_tests_of_configure_are_no_kernels(project):
    project.sconstruct("""\
        env = Environment(**SHORT)
        env.Tool("percpu", toolpath=TOOLPATH, CPU_NUM=4)
        conf = Configure(env)
        print("links", conf.TryLink("int main() { return 0; }", ".c"))
        print("header", conf.CheckCXXHeader("stddef.h"))
        conf.Finish()
    """)
    run = project.scons()
    assert run.status == 0, run.err
    assert "links 1" in run.out and "header True" in run.out.replace("header 1", "header True")


def test_c_sources_beside_cpp(project):
    project.write("hooks.c", "int in_c(void) { return 1; }\n")
    project.sconstruct(USUAL.replace("SOURCES)", 'SOURCES + ["hooks.c"])'))
    assert "compile hooks.o" in project.build()
    assert "in_c" in project.symbols("kernel.elf")


def test_a_generated_script_and_the_files_that_it_includes(project):
    (project.folder / "kernel.ld").rename(project.folder / "kernel.ld.j2")
    project.replace("kernel.ld.j2", "0x200000", "{{ base }}")
    project.replace("kernel.ld.j2", ".data : {", "INCLUDE data.ld\n    .ignored : {")
    project.write("data.ld", ".data : { *(.data .data.*) }\n")
    project.sconstruct(USUAL + 'env.PercpuLinkerScript("kernel.ld", "kernel.ld.j2", PERCPU_TEMPLATE_VARIABLES={"base": ARGUMENTS.get("BASE", "0x200000")})\n')
    assert sorted(project.build()) == sorted([*COMPILE, "render kernel.ld", *LINK])
    assert project.build() == []
    assert project.build("BASE=0x300000") == ["render kernel.ld", *LINK]


def test_a_file_that_the_script_includes_is_a_dependency(project):
    project.write("parts/data.ld", ".data : { *(.data .data.*) }\n")
    project.replace("kernel.ld", ".data : { *(.data .data.*) }", "INCLUDE data.ld")
    project.sconstruct(USUAL.replace("env.Program", 'env.Append(LINKFLAGS=" -Lparts")\nenv.Program'))
    project.build()
    assert "INSERT AFTER .data;" in (project.folder / "kernel.elf.percpu/percpu.ld").read_text()
    project.write("parts/data.ld", ".data : { *(.data .data.*) LONG(1) }\n")
    assert project.build() == LINK


def test_the_fragment_follows_the_last_section_before_bss(project):
    project.replace("kernel.ld", ".bss :", ".late_data : { *(.late_data) LONG(1) }\n    .bss :")
    project.build()
    assert "INSERT AFTER .late_data;" in (project.folder / "kernel.elf.percpu/percpu.ld").read_text()


def test_the_fragment_comes_before_the_patterns_of_the_users_script(project):
    project.replace("kernel.ld", "*(.data .data.*)", "*(.data .data.* .percpu*)")
    project.build()
    assert project.symbols("kernel.elf")["_percpu_load_start"] == 0


def test_mode_include(project):
    project.replace("kernel.ld", ".bss :", "INCLUDE percpu.ld\n    .bss :")
    project.sconstruct(USUAL.replace("CPU_NUM=ARG", 'PERCPU_MODE="include", CPU_NUM=ARG'))
    assert sorted(project.build()) == sorted(COMPILE + LINK)
    assert project.build("CPU_NUM=8") == LINK
    assert project.cpu_num("kernel.elf") == 8


def test_mode_include_and_a_script_that_does_not(project):
    project.sconstruct(USUAL.replace("CPU_NUM=ARG", 'PERCPU_MODE="include", CPU_NUM=ARG'))
    run = project.scons()
    assert run.status == 2 and run.err.count("\n") == 1
    assert "percpu: kernel.ld does not bring the fragment: there is no INCLUDE percpu.ld in it" in run.err
    assert not (project.folder / "kernel.elf.percpu/percpu.ld").exists()
    project.replace("kernel.ld", ".bss :", "INCLUDE percpu.ld\n    .bss :")
    project.build()


def test_a_template_that_brings_the_fragment(project):
    project.replace("kernel.ld", ".bss :", '{% include "percpu.ld.j2" %}\n    .bss :')
    (project.folder / "kernel.ld").rename(project.folder / "kernel.ld.j2")
    program = 'env.PercpuLinkerScript("kernel.ld", "kernel.ld.j2")\nenv.Program'
    project.sconstruct(USUAL.replace("env.Program", program))
    run = project.scons()
    assert run.status == 2
    assert "kernel.ld has an output section .percpu_table already" in run.err
    assert "or use the mode include (PERCPU_MODE, --mode), where the script brings the fragment itself" in run.err
    project.sconstruct(USUAL.replace("CPU_NUM=ARG", 'PERCPU_MODE="include", CPU_NUM=ARG').replace("env.Program", program))
    project.build()
    assert project.cpu_num("kernel.elf") == 4
    assert project.build("CPU_NUM=8")[:3] == ["render kernel.ld", *LINK[:2]]
    assert project.cpu_num("kernel.elf") == 8


def test_one_cpu_without_areas(project):
    project.sconstruct(USUAL.replace("CPU_NUM=ARG", 'PERCPU_FEATURES="sp-naive", CPU_NUM=ARG'))
    project.build()
    assert "_percpu_start" not in project.symbols("kernel.elf")


def test_without_a_script_the_linkers_own_is_used(project):
    project.sconstruct(USUAL.replace("env.Program", """\
env["LINKFLAGS"] = "-nostdlib -static -no-pie -Wl,-e,kernel_entry"
env["PERCPU_FEATURES"] = "non-zero-vma"
env.Program"""))
    project.build()
    assert project.cpu_num("kernel.elf") == 4


def test_fragments_for_other_architectures_in_one_sconstruct(project):
    project.sconstruct("""\
        for compiler, flags in (("aarch64-linux-gnu-g++", ""), ("riscv64-unknown-elf-g++", "-march=rv32imac -mabi=ilp32"),
                                ("arm-none-eabi-g++", ""), ("clang++-19", "--target=loongarch64-unknown-none")):
            env = Environment(CXX=compiler, CCFLAGS=flags, PERCPU_LINKER="ld", **SHORT)
            env.Tool("percpu", toolpath=TOOLPATH, CPU_NUM=4)
            env.PercpuFragment(f"{compiler}.ld")
    """)
    project.build()
    first = {path.stem: path.read_text().splitlines()[1] for path in project.folder.glob("*+*.ld")}
    assert {name: line.split(":")[0].split()[-1] for name, line in first.items()} == {
        "aarch64-linux-gnu-g++": "aarch64",
        "riscv64-unknown-elf-g++": "riscv32",
        "arm-none-eabi-g++": "arm",
        "clang++-19": "loongarch64",
    }


def test_a_script_or_fragment_alone_is_for_the_linker_of_linkflags(project):
    project.write("whole.ld.j2", "/* {{ linker }} */\n")
    project.sconstruct("""\
        env = Environment(CXX=["clang++-19", "--target=loongarch64-linux-gnu"], LINKFLAGS="-B/usr/lib/llvm-19/bin -fuse-ld=lld", **SHORT)
        env.Tool("percpu", toolpath=TOOLPATH, CPU_NUM=4)
        env.PercpuLinkerScript("whole.ld", "whole.ld.j2")
        env.PercpuFragment("percpu.ld")
    """)
    project.build()
    assert (project.folder / "whole.ld").read_text() == "/* lld */\n"
    assert "linker      lld" in (project.folder / "percpu.ld").read_text()


def test_a_script_may_be_a_node(project):
    (project.folder / "scripts").mkdir()
    (project.folder / "kernel.ld").rename(project.folder / "scripts" / "kernel.ld")
    project.sconstruct("""\
        env = Environment(**KERNEL, **SHORT)
        env["LINKFLAGS"] = [*env["LINKFLAGS"].split()[:-2], "-T", env.File("scripts/kernel.ld")]
        env["LINKCOM"] = "${TEMPFILE('$LINK -o $TARGET $LINKFLAGS $SOURCES', '$LINKCOMSTR')}"
        env.Tool("percpu", toolpath=TOOLPATH, CPU_NUM=4)
        env.Program("kernel.elf", SOURCES)
    """)
    assert sorted(project.build()) == sorted([*COMPILE, *LINK])
    project.replace("scripts/kernel.ld", ".bss :", ".late : { *(.late) }\n    .bss :")
    # The program is the same as before, and so is its check.
    assert project.build() == LINK[:2]
    assert "INSERT AFTER .late" in (project.folder / "kernel.elf.percpu/percpu.ld").read_text()
    assert project.build() == []


def test_the_builders_by_hand(project):
    project.sconstruct("""\
        env = Environment(**KERNEL, **SHORT)
        env.Tool("percpu", toolpath=TOOLPATH, CPU_NUM=ARGUMENTS.get("CPU_NUM", 4))
        fragment = env.PercpuFragment("percpu.ld", "kernel.ld")
        objects = env.Object([*SOURCES, env.Command("area.cpp", TOOLPATH[0] + "/../../percpu_cpp/src/area.cpp", Copy("$TARGET", "$SOURCE", False))])
        kernel = env.Command("kernel.elf", [objects, fragment, "kernel.ld"],
                             "ld -static -no-pie --build-id=none --no-warn-rwx-segments -T percpu.ld -T kernel.ld -o $TARGET ${SOURCES[:3]}")
        env.PercpuCheck("kernel.check.txt", kernel)
    """)
    project.build()
    assert project.cpu_num("kernel.elf") == 4
    again = project.build("CPU_NUM=2")
    assert again[0] == "render percpu.ld" and again[-1] == "check kernel.elf" and len(again) == 3
    assert project.build("CPU_NUM=2") == []


MEMORY = "MEMORY { ROM : ORIGIN = 0x100000, LENGTH = 1M  RAM : ORIGIN = 0x200000, LENGTH = 1M }\nSECTIONS"


def with_memory(project, home: str, held: str = "") -> None:
    """The project's script, with its sections in regions."""
    text = (project.folder / "kernel.ld").read_text().replace("SECTIONS", MEMORY).replace("    . = 0x200000;\n", "")
    for name, region in {".text": home, ".rodata": home, ".data": f"RAM{held}", ".bss": "RAM"}.items():
        line = next(line for line in text.splitlines() if line.startswith(f"    {name} :"))
        text = text.replace(line, f"{line} >{region}")
    project.write("kernel.ld", text)


LLD = 'env["CXX"] = env["LINK"] = "clang++-19"\nenv.Append(LINKFLAGS=" -fuse-ld=lld")\n'


def test_a_script_with_memory_names_the_region(project):
    with_memory(project, "RAM")
    project.sconstruct(USUAL.replace("-Wl,--no-warn-rwx-segments ", "").replace("env.Program", LLD + "env.Program"))
    project.replace("SConstruct", "-Wl,--no-warn-rwx-segments ", "")
    project.build()
    assert 0x200000 < project.symbols("kernel.elf")["_percpu_start"] < 0x300000
    assert project.build() == []


def test_firmware_keeps_the_template_where_it_runs_from(project):
    with_memory(project, "ROM", " AT>ROM")
    project.replace("kernel.ld", "    .bss", "    INCLUDE percpu.ld\n    .bss")
    regions = 'PERCPU_MODE="include", PERCPU_FEATURES="pristine", PERCPU_REGION="RAM", PERCPU_LOAD_REGION=ARGUMENTS.get("HOME", "ROM"), CPU_NUM=ARG'
    project.sconstruct(USUAL.replace("CPU_NUM=ARG", regions))
    project.build()
    symbols = project.symbols("kernel.elf")
    assert 0x100000 < symbols["_percpu_template"] < 0x200000 <= symbols["_percpu_start"] < 0x300000
    assert project.build() == []
    # Another region renders, links and checks again.
    assert project.build("HOME=RAM") == LINK
    assert project.symbols("kernel.elf")["_percpu_template"] >= 0x200000


def test_a_script_with_memory_that_gnu_ld_would_read_too_late(project):
    with_memory(project, "RAM")
    run = project.scons()
    assert run.status == 2
    assert "kernel.ld has MEMORY, and GNU ld reads the fragment before it" in run.err
    assert "use the mode include" in run.err


def test_segments_by_hand_and_a_template_at_0_do_not_go_together(project):
    project.replace("kernel.ld", "SECTIONS", "PHDRS { all PT_LOAD; }\nSECTIONS")
    for mode in ("insert", "include"):
        project.sconstruct(USUAL.replace("CPU_NUM=", f'PERCPU_MODE="{mode}", CPU_NUM='))
        run = project.scons()
        assert run.status == 2
        assert "kernel.ld has PHDRS: the zero-VMA template would share a segment" in run.err
        assert "use the feature non-zero-vma" in run.err
    assert not (project.folder / "kernel.elf.percpu" / "percpu.ld").exists()
