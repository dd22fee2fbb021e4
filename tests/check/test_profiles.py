"""Other people's kernels, linked in each project's way: found out, laid out, and judged as far as they tell."""

from __future__ import annotations

import json
import re
import shutil

import pytest
import toolchain
from check import projects
from check.builds import VARIABLES, judge
from check.projects import LINUX_AT_ZERO, LINUX_IN_IMAGE, OSV, PROJECTS, RUST, XEN, build, variable
from check.test_cli import run
from percpu_tools import PercpuError, check, render_fragment

LINKERS = sorted(toolchain.LINKERS)


@pytest.fixture(scope="module")
def kernels(tmp_path_factory):
    """Each project's kernel by each linker, linked once."""
    made = {}

    def kernel(which: str, linker: str = "ld"):
        if (which, linker) not in made:
            made[which, linker] = build(tmp_path_factory.mktemp("kernel"), PROJECTS[which], linker=linker)
        return made[which, linker]

    return kernel


def faults(report) -> set[str]:
    return {finding.rule for finding in report.findings if finding.level != "note"}


def not_judged(report) -> set[str]:
    """The rules that the profile, not the link, leaves without evidence."""
    return {item.rule for item in report.not_judged if f"profile {report.layout.profile.name}" in item.reason}


@pytest.mark.parametrize("linker", LINKERS)
@pytest.mark.parametrize("which", PROJECTS)
class TestEachProject:
    def test_found_out_laid_out_and_not_blamed(self, kernels, which, linker):
        project = PROJECTS[which]
        path = kernels(which, linker)
        for given in (None, project.profile):
            report = check(path, profile=given)
            layout = report.layout
            assert (layout.profile.name, layout.layout, layout.template_size) == (
                project.profile,
                project.layout,
                project.template,
            )
            assert [(one.name, one.offset, one.size) for one in layout.variables] == project.variables
            assert report.findings == ()
            assert not_judged(report) == project.not_judged

    def test_as_nm_has_it(self, kernels, which, linker):
        path = kernels(which, linker)
        layout = check(path).layout
        start = layout.load_start
        told = {}
        for line in toolchain.run(["nm", "-S", "--defined-only", str(path)]).stdout.splitlines():
            if match := re.fullmatch(r"([0-9a-f]+) ([0-9a-f]+) \w (\S+)", line):
                told[match[3]] = (int(match[1], 16) - start, int(match[2], 16))
        assert {one.symbol: (one.offset, one.size) for one in layout.variables}.items() <= told.items()
        inside = {name for name, (offset, size) in told.items() if 0 <= offset < layout.template_size}
        assert {one.symbol for one in layout.variables} == inside


class TestFaults:
    """With one mistake in, the rule speaks in the project's own names."""

    @pytest.mark.parametrize("linker", LINKERS)
    @pytest.mark.parametrize("project", [LINUX_AT_ZERO, LINUX_IN_IMAGE], ids=["at 0", "in the image"])
    def test_linux_loses_its_initial_values(self, tmp_path, project, linker):
        script = re.sub(r"(\.data\.\.percpu(?: 0)?) : AT", r"\1 (NOLOAD) : AT", project.script)
        report = check(build(tmp_path, project, script=script, linker=linker))
        assert faults(report) == {"T05"}
        assert report.findings[0].section == ".data..percpu"

    def test_linux_template_is_not_where_its_symbol_says(self, tmp_path):
        script = LINUX_AT_ZERO.script.replace("AT(__per_cpu_load - OFFSET)", "AT(__per_cpu_load - OFFSET + 0x100000)")
        (finding,) = (one for one in check(build(tmp_path, LINUX_AT_ZERO, script=script)).findings if one.rule == "T06")
        assert finding.symbol == "__per_cpu_load"
        assert "the physical address of __per_cpu_load" in finding.expected

    @pytest.mark.parametrize("points_at, found, linker", [
        *((*case, linker) for case in (("__per_cpu_load", set()), ("c_softirqs", {"T30"})) for linker in LINKERS),
        # lld gives that symbol to no section.
        ("__per_cpu_load + 0x2040", {"T30"}, "ld"),
    ])
    def test_linux_names_the_template_until_the_areas_are_made(self, tmp_path, points_at, found, linker):
        """this_cpu_off begins with __per_cpu_load; a pointer to a variable is another thing."""
        source = (
            "extern char __per_cpu_load[];\n"
            f'__attribute__((section(".data..percpu..read_mostly"), used)) char* this_cpu_off = {points_at};\n'
        )
        report = check(build(tmp_path, LINUX_AT_ZERO, "--emit-relocs", source=source, linker=linker))
        assert faults(report) == found

    def test_linux_template_ends_before_its_section(self, tmp_path):
        script = LINUX_IN_IMAGE.script.replace("__per_cpu_end = .;", "__per_cpu_end = .;\n    . += 64;")
        layout = check(build(tmp_path, LINUX_IN_IMAGE, script=script)).layout
        assert (layout.template_size, layout.section.size) == (0x2100, 0x2140)

    def test_linux_clears_the_template_with_bss(self, tmp_path):
        script = LINUX_IN_IMAGE.script.replace("  .data..percpu :", "  __bss_start = .;\n  .data..percpu :").replace(
            "{ __bss_start = .; ", "{ "
        )
        report = check(build(tmp_path, LINUX_IN_IMAGE, script=script))
        assert faults(report) == {"T05"}
        assert "__per_cpu_load at 0x" in report.findings[0].found

    def test_a_string_in_osv(self, tmp_path):
        script = OSV.script.replace("*(.percpu) .", "*(.percpu) *(.strings) .")
        source = '__asm__(".section .strings,\\"a\\"\\n.asciz \\"not per-CPU at all\\"\\n.previous");\n'
        assert faults(check(build(tmp_path, OSV, script=script, source=source))) == {"T26"}

    @pytest.mark.parametrize(
        ("project", "symbol"), [(RUST, "__PERCPU_STRAY"), (XEN, "per_cpu__stray")], ids=["rust", "xen"]
    )
    def test_a_variable_elsewhere(self, tmp_path, project, symbol):
        report = check(build(tmp_path, project, source=variable(symbol, ".data.stray")))
        assert faults(report) == {"T25"}
        assert re.match(r"per-CPU variable (STRAY|stray) lies in \.data", report.findings[0].message)

    def test_rust_variables_aligned_beyond_64_bytes(self, tmp_path):
        """The crate rounds areas to 64 bytes, whatever the section's alignment is."""
        report = check(build(tmp_path, RUST, source=variable("__PERCPU_WIDE", ".percpu", 320, 1, 256)))
        assert faults(report) == {"T10"}
        assert report.findings[0].found == "stride 0x240"

    def test_rust_on_arm_with_thread_local_storage(self, tmp_path):
        source = "_Thread_local int t = 1;\nint _start(void) { return t; }\n" + variable("__PERCPU_X", ".percpu", 4)
        (tmp_path / "x.c").write_text(source)
        sections = ".percpu : { _percpu_load_start = .; *(.percpu) _percpu_load_end = .; }"
        script = "SECTIONS { . = 0x8000; .text : { *(.text*) } .tdata : { *(.tdata) } " + sections + " }"
        (tmp_path / "x.ld").write_text(script)
        command = [
            "arm-none-eabi-gcc",
            "-march=armv7-a",
            "-mtp=cp15",
            "-nostdlib",
            "-ffreestanding",
            "-T",
            tmp_path / "x.ld",
            tmp_path / "x.c",
            "-o",
            tmp_path / "x.elf",
        ]
        toolchain.run([str(word) for word in command])
        report = check(tmp_path / "x.elf", profile="rust")
        assert faults(report) == {"T22"}
        assert "base-register=TPIDRURO in the profile" in report.findings[0].found


@pytest.mark.skipif(shutil.which("rustc") is None, reason="no rustc on PATH")
@pytest.mark.parametrize("mangling", [(), ("-C", "symbol-mangling-version=v0")], ids=["default", "v0"])
def test_names_as_rustc_mangles_them(tmp_path, mangling):
    (tmp_path / "kernel.rs").write_text(
        "#![no_std]\n"
        'pub mod cpu { #[link_section = ".percpu"] #[used] static mut __PERCPU_ID: u32 = 5;\n'
        '  pub fn f() { #[link_section = ".percpu"] #[used] static mut __PERCPU_LOCAL: u8 = 1; } }\n'
        '#[link_section = ".percpu"] #[used] #[no_mangle] static mut __PERCPU_PLAIN: u64 = 1;\n'
    )
    command = ["rustc", "--crate-type", "lib", "-C", "panic=abort", "-C", "relocation-model=static", *mangling, "--emit", "obj"]
    toolchain.run([*command, "-o", str(tmp_path / "rust.o"), str(tmp_path / "kernel.rs")])
    kernel = toolchain.compile_c(tmp_path, toolchain.KERNEL)
    done = toolchain.try_link(tmp_path, [kernel, tmp_path / "rust.o"], [RUST.script], "--no-warn-mismatch")
    assert done.returncode == 0, done.stderr
    report = check(tmp_path / "kernel.elf")
    assert report.layout.profile.name == "rust"
    assert {one.name for one in report.layout.variables} == {"kernel::cpu::ID", "kernel::cpu::f::LOCAL", "PLAIN"}


class TestOneOfTheUsersOwn:
    SCRIPT = RUST.script.replace("_percpu_", "__cpulocal_").replace(".percpu", ".cpulocal")
    SOURCE = variable("__cpulocal_id", ".cpulocal", 4, 1, 4) + variable("_ZN5sched16__cpulocal_queueE", ".cpulocal", 40)
    PROFILE = """\
section = [".other", ".cpulocal"]
layout = "zero-vma"
variables = "__cpulocal_"
[symbols]
load_start = "__cpulocal_load_start"
load_end = "__cpulocal_load_end"
start = "__cpulocal_start"
end = "__cpulocal_end"
"""

    def build(self, folder, profile=PROFILE, script=SCRIPT, source=""):
        (folder / "mine.toml").write_text(profile)
        return build(folder, projects.Project("", script, self.SOURCE, "", 0, []), source=source)

    def test_all_of_it(self, tmp_path):
        report = check(self.build(tmp_path), profile=str(tmp_path / "mine.toml"), cpu_num=4)
        assert report.layout.profile.name == "mine.toml"
        assert [(one.name, one.offset, one.size) for one in report.layout.variables] == [
            ("id", 0, 4),
            ("sched::queue", 8, 40),
        ]
        assert (report.layout.cpu_num, report.layout.stride) == (4, 64)
        assert (report.findings, not_judged(report)) == ((), {"T08"})

    def test_faults_in_its_own_names(self, tmp_path):
        script = self.SCRIPT.replace("* 4 -", "* 4 + 32 -")
        path = self.build(tmp_path, script=script, source=variable("__cpulocal_stray", ".data.stray"))
        report = check(path, profile=str(tmp_path / "mine.toml"))
        assert faults(report) == {"T11", "T25"}
        found = {finding.rule: finding for finding in report.findings}
        assert found["T11"].found == "288 bytes from __cpulocal_start to __cpulocal_end"
        assert "variable stray lies in .data" in found["T25"].message
        assert found["T25"].expected.startswith("an address in .cpulocal, 0x0 .. ")

    def test_layout_that_is_not_the_files(self, tmp_path):
        path = self.build(tmp_path, self.PROFILE.replace("zero-vma", "in-image"))
        report = check(path, profile=str(tmp_path / "mine.toml"))
        assert faults(report) == {"T11"}
        assert "mine.toml is of kernels with the in-image layout" in report.findings[0].message

    def test_a_section_is_enough(self, tmp_path):
        report = check(self.build(tmp_path, 'section = ".cpulocal"\n'), profile=str(tmp_path / "mine.toml"))
        assert report.layout.template_size == 48
        assert {"T10", "T11", "T14", "T23", "T25"} <= not_judged(report)
        reasons = {item.rule: item.reason for item in report.not_judged}
        assert (
            reasons["T25"]
            == "profile mine.toml: mine.toml does not say under variables what marks the names of variables"
        )

    def test_symbols_are_enough(self, tmp_path):
        profile = '[symbols]\nload_start = "__cpulocal_load_start"\nload_end = "__cpulocal_load_end"\n'
        assert check(self.build(tmp_path, profile), profile=str(tmp_path / "mine.toml")).layout.template_size == 48

    def test_from_the_configuration(self, tmp_path):
        path = self.build(tmp_path)
        (tmp_path / "percpu.toml").write_text('profile = "mine.toml"\n')
        done = run("--format", "json", "--config", tmp_path / "percpu.toml", path)
        assert json.loads(done.stdout)["profile"] == "mine.toml"
        # What the command line says goes first.
        assert "profile" not in json.loads(
            run("--format", "json", "--config", tmp_path / "percpu.toml", "--profile", "percpu", path).stdout
        )

    def test_the_example_of_the_help(self, tmp_path):
        shown = run("--help").stdout
        example = re.search(r"a profile of your own, (\S+\.toml).*?\n\n(.*?)\n\n", shown, re.DOTALL)
        assert f"--profile {example[1]} kernel.elf" in shown
        report = check(
            self.build(tmp_path, re.sub("^  ", "", example[2], flags=re.MULTILINE)), profile=str(tmp_path / "mine.toml")
        )
        assert [one.name for one in report.layout.variables] == ["id", "sched::queue"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "neither section nor the symbols load_start and load_end say where the template is"),
        ("section = 5", "section is 5: expected a text, or a list of texts"),
        ('section = ""', "section is '': expected a text"),
        ('section = [".a", 1]', "section is ['.a', 1]: expected a text"),
        (
            'section = ".a"\nlayout = "low"',
            "layout is 'low': expected one of zero-vma, in-image; leave it out if either is right",
        ),
        (
            'section = ".a"\nlayot = "low"',
            "unknown key 'layot': expected one of section, layout, variables, cache_line, symbols",
        ),
        ('section = ".a"\ncache_line = 65', "cache_line is 65: expected a power of two from 16 to 4096"),
        ('section = ".a"\ncache_line = true', "cache_line is True: expected a power of two"),
        ('section = ".a"\nvariables = {}', "variables is {}: expected a text"),
        ('section = ".a"\nsymbols = "x"', "symbols is 'x': expected a table [symbols]"),
        (
            'section = ".a"\n[symbols]\nbegin = "x"',
            "unknown key 'begin' in [symbols]: expected one of load_start, load_end, start, end",
        ),
        ('section = ".a"\n[symbols]\nstart = 1', "symbols.start is 1: expected the name of a symbol"),
        ("section = ", "not TOML: "),
        ("\udcff", "not TOML: "),
    ],
)
def test_profile_files_that_are_wrong(tmp_path, text, said):
    path = tmp_path / "wrong.toml"
    path.write_text(text, errors="surrogateescape")
    with pytest.raises(PercpuError) as raised:
        check(toolchain.__file__, profile=str(path))
    assert str(raised.value).startswith(f"{path}: {said}")
    assert "\n" not in str(raised.value)


def test_profiles_that_are_not_there(tmp_path):
    judge(tmp_path)
    done = run("--profile", "windows", tmp_path / "kernel.elf")
    assert (done.returncode, done.stdout) == (2, "")
    assert "profile is 'windows': expected one of percpu, linux, rust, xen, osv, or a TOML file" in done.stderr
    done = run("--profile", "none.toml", tmp_path / "kernel.elf")
    assert (done.returncode, done.stderr) == (2, "percpu-check: none.toml: No such file or directory\n")


@pytest.mark.parametrize("profile", ["percpu", "linux", "rust", "xen", "osv"])
class TestFilesThatAreNoneOfIts:
    def test_one_without_per_cpu_data(self, tmp_path, profile):
        """Neither the lack of our note nor that of everything else is an error; that nothing was judged is said."""
        toolchain.link(tmp_path, [toolchain.compile_c(tmp_path, toolchain.KERNEL)], [toolchain.HIGHER_HALF])
        done = run("--profile", profile, tmp_path / "kernel.elf")
        assert (done.returncode, done.stderr) == (0, "")
        assert f"profile {profile} does not fit the file: there is no section ." in done.stdout
        assert "does not fit" not in run(tmp_path / "kernel.elf").stdout

    @pytest.mark.parametrize("layout", ["zero-vma", "none"])
    def test_a_kernel_of_ours(self, tmp_path, profile, layout):
        """What our note says is nothing that another's profile has found."""
        source = toolchain.KERNEL + toolchain.variable("x", 1) + toolchain.note(arch="x86_64", layout=layout)
        fragment = render_fragment(4, "x86_64", "sp-naive" if layout == "none" else ())
        toolchain.link(tmp_path, [toolchain.compile_c(tmp_path, source)], [fragment, toolchain.HIGHER_HALF])
        done = run("--profile", profile, tmp_path / "kernel.elf")
        assert ("no per-CPU data" in done.stdout) == (profile in ("linux", "xen"))
        assert (f"profile {profile} does not fit the file: there is no section ." in done.stdout) == (profile in ("linux", "xen"))

    @pytest.mark.parametrize("which", PROJECTS)
    def test_another_projects_kernel(self, kernels, profile, which):
        assert check(kernels(which), profile=profile).layout.profile.name == profile

    @pytest.mark.parametrize("program", ["/bin/true", shutil.which("readelf")])
    def test_a_program_of_the_system(self, profile, program):
        assert check(program, profile=profile).ok


def test_one_of_the_users_own_with_a_misspelt_section(tmp_path):
    (tmp_path / "own.toml").write_text('section = ".percpuu"\n')
    judge(tmp_path, source=VARIABLES + toolchain.note(arch="x86_64", layout="zero-vma"))
    done = run("--profile", tmp_path / "own.toml", tmp_path / "kernel.elf")
    assert "profile own.toml does not fit the file: there is no section .percpuu" in done.stdout


def test_a_stripped_linux_is_known_by_its_section(tmp_path):
    path = build(tmp_path, LINUX_AT_ZERO)
    toolchain.run(["strip", str(path)])
    report = check(path)
    assert (report.layout.profile.name, report.layout.template_size) == ("linux", LINUX_AT_ZERO.template)
    assert "T25" in {item.rule for item in report.not_judged}


def test_what_the_report_says(kernels):
    path = kernels("linux at 0")
    done = run(path)
    assert done.stdout.splitlines()[:2] == [
        f"{path}: x86_64, zero-vma, profile linux, no areas in the file",
        "  template 8448 bytes, alignment 4096 bytes",
    ]
    assert json.loads(run("--format", "json", path).stdout)["profile"] == "linux"
    assert (
        json.loads(run("--format", "sarif", path).stdout)["runs"][0]["artifacts"][0]["properties"]["profile"] == "linux"
    )
    for form in ("svg", "html"):
        assert "profile linux" in run("--format", form, path).stdout
    reason = "profile linux: the areas are made at boot, and the file says nothing of them"
    assert f"not judged: T11 stride-disagreement: {reason}" in done.stdout
    asked = run("--cpu-num", "8", path).stdout
    assert f"not judged: T28 stale-cpu-num: the file does not say for how many CPUs it was linked: {reason}" in asked


def test_growth_between_two_linux_kernels(tmp_path):
    (tmp_path / "old").mkdir()
    old = build(tmp_path / "old", LINUX_IN_IMAGE)
    new = build(tmp_path, LINUX_IN_IMAGE, source=variable("late", ".data..percpu", 256))
    done = run("--baseline", old, "--budget", "8448", new)
    assert done.returncode == 1
    assert "error G01 over-budget: the template is 256 bytes over its budget" in done.stdout
    assert re.search(r"added:   late, at 0x\w+, \+256 bytes", done.stdout)
