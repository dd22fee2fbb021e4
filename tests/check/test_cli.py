"""percpu-check as a user meets it: exit status, formats, messages."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import subprocess
import sys

import pytest
import toolchain
from check.builds import BY_HAND, judge
from percpu_tools import render_fragment

CHECK = [sys.executable, "-m", "percpu_tools.cli.check"]


def run(*arguments, **options) -> subprocess.CompletedProcess[str]:
    return toolchain.run([*CHECK, *map(str, arguments)], check=False, **options)


@pytest.fixture
def good(tmp_path):
    judge(tmp_path)
    return tmp_path / "kernel.elf"


@pytest.fixture
def bad(tmp_path):
    folder = tmp_path / "bad"
    folder.mkdir()
    judge(folder, BY_HAND.replace(".percpu 0x0 :", ".percpu 0x0 (NOLOAD) :"))
    return folder / "kernel.elf"


def test_nothing_found(good):
    done = run(good)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        f"{good}: x86_64, zero-vma, 4 CPUs",
        "  template 8 bytes, stride 64 bytes, alignment 64 bytes, reserved 256 bytes",
        "",
        "  offset  size  aligned  section  variable",
        "     0x0     4        4  .percpu  y",
        "     0x4     4        4  .percpu  x",
        "",
        "not judged: T08 outside-accessors: which code names per-CPU storage only relocations tell, and none are kept;"
        " link with --emit-relocs",
        "not judged: T30 pointer-into-template: no relocations are kept, and in a template at 0 a pointer looks like any"
        " small number; link with --emit-relocs",
        "",
        "nothing found",
    ]


def test_findings(bad):
    done = run(bad)
    assert (done.returncode, done.stderr) == (1, "")
    assert f"{bad}: error T05 lost-initial-values: .percpu is NOBITS" in done.stdout
    for line in (
        "  section:  .percpu",
        "  found:    section type NOBITS, 0 bytes in the file",
        "  expected: section type PROGBITS, 8 bytes of initial values in the file",
        "  mend:     1. remove (NOLOAD) from .percpu in the linker script",
    ):
        assert line in done.stdout.splitlines()
    assert "1 error; percpu-check --explain RULE tells more" in done.stdout


def test_disabled_by_id_or_slug(bad):
    assert run("--disable", "T05", bad).returncode == 0
    assert run("--disable", "lost-initial-values", bad).returncode == 0
    assert run("--disable", "T10", bad).returncode == 1


def test_cpu_num(good):
    assert run("--cpu-num", "4", good).returncode == 0
    assert run("--cpu-num", "8", good).returncode == 1


@pytest.mark.parametrize("number", ["0", "-1", "1.5", "four", "", "1000000000"])
def test_a_cpu_num_that_is_none(good, number):
    done = run(f"--cpu-num={number}", good)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("percpu-check: CPU_NUM is ")
    assert "expected a whole number from 1 to 65536" in done.stderr


def test_json_of_one_file(bad):
    done = run("--format", "json", "--cpu-num", "8", bad)
    assert done.returncode == 1
    report = json.loads(done.stdout)
    findings = report.pop("findings")
    not_judged = report.pop("not_judged")
    assert [(item["rule"], item["slug"]) for item in not_judged] == [("T08", "outside-accessors")]
    assert report == {
        "file": str(bad),
        "arch": "x86_64",
        "layout": "zero-vma",
        "cpu_num": 4,
        "template_size": 8,
        "stride": 64,
        "alignment": 64,
        "reserved": 256,
        "variables": [
            {"name": "y", "offset": 0, "size": 4, "alignment": 4, "section": ".percpu"},
            {"name": "x", "offset": 4, "size": 4, "alignment": 4, "section": ".percpu"},
        ],
    }
    assert [finding["rule"] for finding in findings] == ["T05", "T28"]
    assert list(findings[0]) == ["rule", "slug", "level", "message", "symbol", "section", "found", "expected", "fix"]
    assert findings[0]["symbol"] is None
    assert isinstance(findings[0]["fix"], list)


def test_json_of_several_files(good, bad):
    done = run("--format", "json", good, bad)
    assert done.returncode == 1
    assert [report["file"] for report in json.loads(done.stdout)] == [str(good), str(bad)]


def test_json_of_several_files_of_which_one_is_judged(good, tmp_path):
    """Several were named, so it is a list still."""
    target = tmp_path / "report.json"
    done = run("--format", "json", good, tmp_path / "none.elf")
    assert (done.returncode, [report["file"] for report in json.loads(done.stdout)]) == (2, [str(good)])
    assert run("--format", "json", "-o", target, good, tmp_path / "none.elf").returncode == 2
    assert json.loads(target.read_text()) == json.loads(done.stdout)


def test_what_the_file_does_not_say_is_null(tmp_path):
    toolchain.link(tmp_path, [toolchain.compile_c(tmp_path, toolchain.KERNEL)], [toolchain.HIGHER_HALF])
    done = run("--format", "json", tmp_path / "kernel.elf")
    assert done.returncode == 0
    report = json.loads(done.stdout)
    for field in ("layout", "cpu_num", "template_size", "stride", "alignment", "reserved"):
        assert report[field] is None
    assert report["variables"] == []


def test_output_to_a_file(good, tmp_path):
    target = tmp_path / "report.txt"
    done = run("-o", target, good)
    assert (done.returncode, done.stdout) == (0, "")
    assert target.read_text().endswith("nothing found\n")
    assert run("-o", tmp_path / "none" / "report.txt", good).returncode == 2


@pytest.mark.parametrize("named", ["kernel.elf", "./kernel.elf", "old.elf", "mine.toml", "percpu.toml", "of the configuration.elf", "no/../link"])
def test_what_is_read_is_not_replaced(good, tmp_path, named):
    for name in ("old.elf", "of the configuration.elf"):
        shutil.copy(good, tmp_path / name)
    (tmp_path / "no").mkdir()
    (tmp_path / "link").symlink_to("kernel.elf")
    (tmp_path / "mine.toml").write_text('section = ".percpu"\n')
    (tmp_path / "percpu.toml").write_text('baseline = "of the configuration.elf"\n')
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    done = run("-o", named, "--baseline=old.elf", "--profile=mine.toml", "link", "kernel.elf", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(rf"percpu-check: --output {re.escape(named)} would replace what is read(: .*)?\n  mend: name a file of its own\n", done.stderr)
    assert {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


def test_output_to_a_pipe_is_written_and_not_replaced(good, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE, text=True)
    assert run("-o", pipe, good).returncode == 0
    assert reader.communicate(timeout=60)[0].endswith("nothing found\n")
    assert pipe.is_fifo()


def test_a_stripped_file_is_not_taken_for_innocent(good):
    toolchain.run(["strip", str(good)])
    done = run("--cpu-num", "8", good)
    assert done.returncode == 0
    for rule in ("T10", "T11", "T14", "T15", "T23", "T25", "T26", "T27", "T28", "T30"):
        assert re.search(f"^not judged: {rule} [a-z-]+: the file has no symbol table", done.stdout, re.MULTILINE)


class TestCannotBeJudged:
    """Exit status 2, one message that names the file, no traceback."""

    def refused(self, path, *reasons):
        done = run(path)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(f"percpu-check: {path}")
        assert "Traceback" not in done.stderr
        for reason in reasons:
            assert reason in done.stderr

    def test_no_such_file(self, tmp_path):
        self.refused(tmp_path / "none.elf", "No such file or directory")

    def test_a_folder(self, tmp_path):
        self.refused(tmp_path, "not a regular file")

    def test_a_pipe_does_not_hang(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        self.refused(tmp_path / "pipe", "not a regular file")

    def test_an_empty_file(self, tmp_path):
        (tmp_path / "empty").touch()
        self.refused(tmp_path / "empty", "not an ELF file")

    def test_a_script(self, tmp_path):
        (tmp_path / "kernel.ld").write_text("SECTIONS {}")
        self.refused(tmp_path / "kernel.ld", "not an ELF file", "b'SECT'")

    def test_an_object(self, tmp_path):
        self.refused(toolchain.compile_c(tmp_path, toolchain.KERNEL), "ET_REL", "check the linked kernel")

    @pytest.mark.parametrize("command", ["objcopy --only-keep-debug", "llvm-objcopy-19 --only-keep-debug", "objcopy --extract-symbol"])
    def test_debug_information_that_is_kept_apart(self, good, tmp_path, command):
        toolchain.run([*command.split(), str(good), str(tmp_path / "good.debug")])
        self.refused(tmp_path / "good.debug", "it holds no program", "check the kernel itself")

    def test_a_truncated_file(self, good):
        whole = good.read_bytes()
        for length in (5, 16, 63, 64, 200, len(whole) // 2, len(whole) - 1):
            good.write_bytes(whole[:length])
            self.refused(good, "truncated")

    def test_the_other_files_are_judged(self, good, tmp_path):
        done = run(tmp_path / "none.elf", good)
        assert done.returncode == 2
        assert "nothing found" in done.stdout
        assert "none.elf: No such file" in done.stderr

    def test_no_file(self):
        done = run()
        assert done.returncode == 2
        assert "name at least one ELF file" in done.stderr

    @pytest.mark.parametrize("option", ["--profile", "--nonsense"])
    def test_options_that_are_not_there(self, good, option):
        assert run(option, "x", good).returncode == 2

    @pytest.mark.parametrize("form", ["SARIF", "xml"])
    def test_formats_that_are_not_there(self, good, form):
        assert run("--format", form, good).returncode == 2

    @pytest.mark.parametrize("option", ["--disable", "--explain"])
    def test_rules_that_are_not_there(self, good, option):
        done = run(option, "T99", good)
        assert done.returncode == 2
        assert "rule is 'T99': expected one of " in done.stderr
        assert "T05 lost-initial-values" in done.stderr


def on_a_terminal(*arguments) -> str:
    """What the command writes to a terminal."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color"}
    environment.pop("NO_COLOR", None)
    process = subprocess.Popen([*CHECK, *map(str, arguments)], stdout=theirs, env=environment)
    os.close(theirs)
    written = b""
    try:
        while chunk := os.read(ours, 4096):
            written += chunk
    except OSError:
        # Linux's way to say that the other end has closed.
        pass
    process.wait(timeout=60)
    return written.decode()


def test_control_characters_of_names_do_not_reach_the_terminal(tmp_path):
    """No assembler takes such names; a hostile file has them all the same."""
    hostile = "\033[31mred\a[bold]\u202e"
    tame = "n" * len(hostile.encode())
    judge(tmp_path, source=toolchain.variable(tame, 1) + toolchain.variable(f"stray_{tame}", 1, ".data.stray"))
    kernel = tmp_path / "kernel.elf"
    kernel.write_bytes(kernel.read_bytes().replace(tame.encode(), hostile.encode()))

    shown = "\\x1b[31mred\\x07[bold]\\u202e"
    plain = run(kernel).stdout
    assert plain.count(shown) == 3, "the table, the message of T25 and its symbol"
    assert "\033" not in plain
    terminal = on_a_terminal(kernel)
    assert terminal.count(shown) == 3
    assert "\033[31mred" not in terminal
    # JSON has the name itself, in JSON's own escapes.
    report = json.loads(run("--format", "json", kernel).stdout)
    assert report["variables"][0]["name"] == hostile


def test_a_terminal_gets_colour_and_a_pipe_does_not(bad):
    assert "\033[1;31merror\033[0m" in on_a_terminal(bad)
    assert "\033" not in run(bad).stdout


def test_a_reader_that_goes_away(good):
    command = " ".join([*CHECK, *[str(good)] * 200])
    done = toolchain.run(["sh", "-c", f"{command} | head -1"])
    assert done.stderr == ""


def test_version_and_help():
    assert run("--version").stdout == "percpu-check 0.1.0\n"
    shown = run("--help").stdout
    assert "examples:" in shown
    assert "exit status: 0 nothing found but notes, 1 errors or warnings found, 2 a file could not be judged" in shown


def test_rules_are_listed_and_explained():
    listed = run("--list-rules").stdout.splitlines()
    assert [line.split()[0] for line in listed] == [
        *("G01", "G02"),
        *("T01", "T02", "T03", "T04", "T05", "T06", "T07", "T08", "T09", "T10", "T11", "T13", "T14", "T15"),
        *("T18", "T19", "T22", "T23", "T24", "T25", "T26", "T27", "T28", "T30"),
    ]
    for line in listed:
        shown = run("--explain", line.split()[0]).stdout
        assert shown.startswith(" ".join(line.split()[:2]))
        assert all(f"\n{part}\n" in shown for part in ("Mechanism", "Reproduce", "Mend"))


def test_a_plain_report_imports_nothing_that_takes_longer_than_the_check(good):
    slow = ("elftools.dwarf", "elftools.elf.elffile", "jinja2", "pathlib", "rich")
    code = (
        "import sys; from percpu_tools.cli.check import main; status = main(sys.argv[1:]);"
        f"print(sorted(name for name in {slow} if name in sys.modules), file=sys.stderr); sys.exit(status)"
    )
    done = toolchain.run([sys.executable, "-c", code, str(good)])
    assert done.stderr == "[]\n"


@pytest.mark.parametrize("linker", sorted(toolchain.LINKERS))
@pytest.mark.parametrize("layout", ["", "non-zero-vma"])
def test_a_fragment_is_not_blamed(tmp_path, linker, layout):
    kernel = toolchain.compile_c(tmp_path, toolchain.KERNEL + toolchain.variable("x", 1))
    toolchain.link(tmp_path, [kernel], [render_fragment(4, "x86_64", layout, linker), toolchain.HIGHER_HALF], linker=linker)
    assert run("--cpu-num", "4", tmp_path / "kernel.elf").returncode == 0
