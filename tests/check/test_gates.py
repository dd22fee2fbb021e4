"""Configuration, rules of the user's own, budget and baseline."""

from __future__ import annotations

import json
import os
import re

import pytest
import toolchain
from check.builds import BY_HAND, VARIABLES, judge
from check.test_cli import run
from percpu_tools import PercpuError, check, find_config, read_config

BIG = '__attribute__((section(".percpu.big"), used)) char percpu_storage_big[200] = {1};\n'
# The example of a rule of one's own, as the documentation shows it.
RULES = '''\
from percpu_tools.findings import Finding


def no_big_arrays(layout, image):
    """No variable is larger than a cache line."""
    for variable in layout.variables:
        if variable.size > layout.cache_line:
            yield Finding(
                "error",
                f"{variable.name} is larger than a cache line",
                symbol=variable.symbol,
                found=f"{variable.size} bytes",
                expected=f"at most {layout.cache_line} bytes",
                fix=("allocate it on each CPU after init",),
            )
'''


@pytest.fixture
def bad(tmp_path):
    """A kernel with one error, T05, and a variable of 200 bytes."""
    judge(tmp_path, BY_HAND.replace(".percpu 0x0 :", ".percpu 0x0 (NOLOAD) :"), VARIABLES + BIG)
    return tmp_path / "kernel.elf"


def configure(folder, text, name="percpu.toml"):
    (folder / name).write_text(text)
    return folder / name


class TestConfiguration:
    SUPPRESS = '[[suppress]]\nrule = "T05"\nsection = ".perc*"\nreason = "the boot code fills it"\n'

    def test_found_above_the_working_folder(self, bad, tmp_path):
        (tmp_path / "a" / "b").mkdir(parents=True)
        configure(tmp_path, self.SUPPRESS)
        assert run(bad).returncode == 1
        assert run(bad, cwd=tmp_path / "a" / "b").returncode == 0
        (tmp_path / "a" / ".git").mkdir()
        assert run(bad, cwd=tmp_path / "a" / "b").returncode == 1

    def test_another_users_above_the_working_folder_runs_nothing(self, bad, tmp_path, monkeypatch):
        (tmp_path / "a" / "b").mkdir(parents=True)
        (tmp_path / "mykernel_rules.py").write_text(RULES)
        path = configure(tmp_path, 'rules = ["mykernel_rules:no_big_arrays"]\n')
        if os.geteuid() == 0:
            os.chown(path, 65534, 65534)
        else:
            monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
        with pytest.raises(PercpuError, match=r"percpu\.toml: it is another user's .*--config with its path"):
            find_config(tmp_path / "a" / "b")
        # Who works in its folder, or in its repository, or says its name means it.
        assert find_config(tmp_path) == read_config(path)
        (tmp_path / ".git").mkdir()
        assert find_config(tmp_path / "a" / "b") == read_config(path)
        assert len(check(bad, config=read_config(path)).findings) == 2

    def test_in_pyproject(self, bad, tmp_path):
        text = self.SUPPRESS.replace("[[suppress]]", "[[tool.percpu.suppress]]")
        configure(tmp_path, text, "pyproject.toml")
        assert run(bad, cwd=tmp_path).returncode == 0
        configure(tmp_path, "[project]\nname = 'x'\n", "pyproject.toml")
        assert run(bad, cwd=tmp_path).returncode == 1

    def test_a_suppressed_finding_is_shown_with_its_reason(self, bad, tmp_path):
        config = configure(tmp_path, self.SUPPRESS)
        shown = run("--config", config, bad).stdout
        assert "suppressed: T05 lost-initial-values: .percpu is NOBITS" in shown
        assert "the boot code fills it" in shown
        report = json.loads(run("--config", config, "--format", "json", bad).stdout)
        assert report["findings"] == []
        assert [(item["rule"], item["reason"]) for item in report["suppressed"]] == [("T05", "the boot code fills it")]

    def test_what_does_not_match_is_not_suppressed(self, bad, tmp_path):
        for other in (self.SUPPRESS.replace(".perc*", ".data"), self.SUPPRESS.replace("T05", "T10"), self.SUPPRESS + 'symbol = "x"\n'):
            assert run("--config", configure(tmp_path, other), bad).returncode == 1

    def test_severity(self, bad, tmp_path):
        done = run("--config", configure(tmp_path, '[severity]\nlost-initial-values = "note"\n'), bad)
        assert done.returncode == 0
        assert "note T05 " in done.stdout
        assert done.stdout.splitlines()[-1] == "1 note; percpu-check --explain RULE tells more"
        both = run("--config", configure(tmp_path, '[severity]\nlost-initial-values = "note"\n'), "--cpu-num=8", "--budget=1", bad)
        assert both.stdout.splitlines()[-1] == "2 errors, 1 note; percpu-check --explain RULE tells more"

    def test_values_that_the_command_line_does_not_give(self, bad, tmp_path):
        config = configure(tmp_path, "cpu_num = 8\nbudget = 10\n")
        assert {finding.rule for finding in check(bad, config=read_config(config)).findings} == {"T05", "T28", "G01"}
        assert {finding.rule for finding in check(bad, cpu_num=4, budget=4096, config=read_config(config)).findings} == {"T05"}

    @pytest.mark.parametrize(
        ("text", "complaint"),
        [
            ('[[suppress]]\nrule = "T05"\n', "suppress number 1, of T05, gives no reason"),
            ('[[suppress]]\nrule = "T05"\nreason = " "\n', "gives no reason"),
            ('[[suppress]]\nreason = "x"\n', "suppress number 1 names no rule"),
            ('[[suppress]]\nrule = "T99"\nreason = "x"\n', "percpu.toml: rule is 'T99': expected one of"),
            ('[[suppress]]\nrule = "T05"\nreason = "x"\nwhere = "y"\n', "has where = 'y'"),
            ('suppress = 3\n', "suppress is 3: expected [[suppress]] tables"),
            ('[severity]\nT05 = "off"\n', "severity of T05 is 'off': expected one of error, warning, note"),
            ('[severity]\nT05 = ["note"]\n', "severity of T05 is ['note']"),
            ('[severity]\nT99 = "note"\n', "percpu.toml: rule is 'T99'"),
            ("budget = -1\n", "budget is -1: expected a number of bytes"),
            ("budget = true\n", "budget is True: expected a number of bytes"),
            ("budgets = 1\n", "unknown key 'budgets'"),
            ("cpu_num = 0\n", "percpu.toml: cpu_num is 0: expected a whole number from 1 to 65536"),
            ("cpu_num = 70000\n", "percpu.toml: cpu_num is 70000: expected"),
            ('profile = "windows"\n', "percpu.toml: profile is 'windows': expected one of"),
            ('rules = ["nonsense"]\n', "percpu.toml: rule is 'nonsense': expected module:function"),
            ('rules = ["no_such_module:f"]\n', "no_such_module cannot be imported"),
            ('rules = ["json:no_such_function"]\n', "json has no function 'no_such_function'"),
            ("rules = [3]\n", "rules holds 3"),
            ('baseline = "none.elf"\n', "none.elf: No such file"),
            ("budget = \n", "not TOML"),
            ("a = " + "[" * 5000 + "\n", "not TOML"),
        ],
    )
    def test_what_is_refused(self, bad, tmp_path, text, complaint):
        done = run("--config", configure(tmp_path, text), bad)
        assert (done.returncode, done.stdout) == (2, "")
        assert complaint in done.stderr
        assert "Traceback" not in done.stderr

    def test_what_the_command_line_says_wrongly_is_not_the_files(self, bad, tmp_path):
        config = configure(tmp_path, "cpu_num = 4\n")
        for option, complaint in (("--cpu-num=0", "CPU_NUM is 0"), ("--disable=T99", "rule is 'T99'"), ("--profile=windows", "profile is")):
            assert run("--config", config, option, bad).stderr.startswith(f"percpu-check: {complaint}")

    def test_a_file_that_is_none(self, bad, tmp_path):
        assert "No such file" in run("--config", tmp_path / "none.toml", bad).stderr
        (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
        assert "not TOML" in run("--config", tmp_path / "bytes.toml", bad).stderr
        with pytest.raises(PercpuError, match="there is no"):
            read_config(configure(tmp_path, "", "pyproject.toml"))


class TestRulesOfTheUser:
    def configured(self, tmp_path, source=RULES, more=""):
        (tmp_path / "mykernel").mkdir(exist_ok=True)
        (tmp_path / "mykernel" / "rules.py").write_text(source)
        return configure(tmp_path, 'rules = ["mykernel.rules:no_big_arrays"]\n' + more)

    def test_the_example(self, tmp_path):
        judge(tmp_path, source=VARIABLES + BIG)
        kernel = tmp_path / "kernel.elf"
        assert run(kernel).returncode == 0
        done = run("--config", self.configured(tmp_path), kernel)
        assert (done.returncode, done.stderr) == (1, "")
        assert "error no-big-arrays no-big-arrays: big is larger than a cache line" in done.stdout

    def test_it_has_the_rights_of_ours(self, tmp_path):
        judge(tmp_path, source=VARIABLES + BIG)
        suppress = '[[suppress]]\nrule = "no-big-arrays"\nreason = "a trace buffer"\n'
        assert run("--config", self.configured(tmp_path, more=suppress), tmp_path / "kernel.elf").returncode == 0
        level = '[severity]\nno-big-arrays = "note"\n'
        assert run("--config", self.configured(tmp_path, more=level), tmp_path / "kernel.elf").returncode == 0
        assert run("--disable", "no-big-arrays", "--config", self.configured(tmp_path), tmp_path / "kernel.elf").returncode == 0

    def test_an_id_of_its_own(self, tmp_path):
        judge(tmp_path, source=VARIABLES + BIG)
        source = RULES.replace("def no_big", '@rule("K01", "big-array", "a variable is larger than a cache line")\ndef no_big')
        config = self.configured(tmp_path, "from percpu_tools.rules import rule\n" + source)
        assert "error K01 big-array: big is larger" in run("--config", config, tmp_path / "kernel.elf").stdout

    @pytest.mark.parametrize("body", ["1 / 0", "return [3]", "return 3", "raise SystemError('x')"])
    def test_one_that_fails(self, tmp_path, body):
        judge(tmp_path)
        done = run("--config", self.configured(tmp_path, f"def no_big_arrays(layout, image):\n    {body}\n"), tmp_path / "kernel.elf")
        assert done.returncode == 2
        assert "rule no-big-arrays failed: " in done.stderr
        assert "Traceback" not in done.stderr


class TestBudget:
    def test_over_and_within(self, tmp_path):
        judge(tmp_path, source=VARIABLES + BIG)
        done = run("--budget", "100", tmp_path / "kernel.elf")
        assert done.returncode == 1
        assert "error G01 over-budget: the template is 108 bytes over its budget" in done.stdout
        assert "208 bytes on each CPU; 832 bytes on 4 CPUs" in done.stdout
        assert "make big, the largest with 200 bytes, smaller" in done.stdout
        assert run("--budget", "208", tmp_path / "kernel.elf").returncode == 0

    @pytest.mark.parametrize("number", ["-1", "x", "1e3", ""])
    def test_what_is_no_number(self, tmp_path, number):
        assert "expected a number of bytes" in run(f"--budget={number}", tmp_path).stderr


class TestBaseline:
    @pytest.fixture
    def pair(self, tmp_path):
        """y moves, x goes, big comes."""
        (tmp_path / "old").mkdir()
        judge(tmp_path / "old")
        # GCC writes the variables of a file in reverse order.
        judge(tmp_path, source=toolchain.variable("y", 2) + BIG.replace("used", "used, aligned(8)"))
        return tmp_path / "old" / "kernel.elf", tmp_path / "kernel.elf"

    def test_text(self, pair):
        old, new = pair
        done = run("--baseline", old, new)
        assert done.returncode == 0
        for line in (
            f"since {old}: template +196 bytes, memory of all areas +768 bytes",
            "  removed: x, at 0x4, -4 bytes x 4 CPUs = -16",
            "  added:   big, at 0x0, +200 bytes x 4 CPUs = +800",
            "  moved:   y, at 0x0 -> 0xc8, +0 bytes",
        ):
            assert line in done.stdout.splitlines()
        assert "note G02 template-grew: the template grew by 196 bytes" in done.stdout

    def test_json(self, pair):
        old, new = pair
        report = json.loads(run("--format", "json", "--baseline", old, new).stdout)["baseline"]
        assert (report["file"], report["template"], report["memory"]) == (str(old), 196, 768)
        assert {(change["kind"], change["name"], change["bytes"]) for change in report["changes"]} == {
            ("removed", "x", -4),
            ("added", "big", 200),
            ("moved", "y", 0),
        }

    def test_a_variable_that_grew(self, tmp_path, pair):
        (tmp_path / "more").mkdir()
        judge(tmp_path / "more", source=BIG.replace("200", "240").replace("used", "used, aligned(8)") + toolchain.variable("y", 2))
        shown = run("--baseline", tmp_path / "kernel.elf", tmp_path / "more" / "kernel.elf").stdout
        assert "grew:" in shown
        assert "+40 bytes x 4 CPUs = +160" in shown
        assert "shrank:" in run("--baseline", tmp_path / "more" / "kernel.elf", tmp_path / "kernel.elf").stdout

    def test_a_gate(self, pair, tmp_path):
        old, new = pair
        config = configure(tmp_path, f'baseline = "{old.relative_to(tmp_path)}"\n[severity]\nG02 = "error"\n')
        assert run("--config", config, new).returncode == 1
        assert run("--config", config, old).returncode == 0
        # The other way round it shrinks.
        assert run("--config", config, "--baseline", new, old).returncode == 0

    def test_sarif(self, pair):
        old, new = pair
        (single,) = json.loads(run("--format", "sarif", "--baseline", old, new).stdout)["runs"]
        said = single["artifacts"][0]["properties"]["baseline"]
        assert said == json.loads(run("--format", "json", "--baseline", old, new).stdout)["baseline"]
        assert [result["level"] for result in single["results"] if result["ruleId"] == "G02"] == ["note"]
        assert "baseline" not in json.loads(run("--format", "sarif", new).stdout)["runs"][0]["artifacts"][0]["properties"]

    def test_html(self, pair):
        old, new = pair
        page = run("--format", "html", "--baseline", old, new).stdout
        assert f"<h2>Since {old}</h2>" in page
        assert "<p>Template +196 bytes, memory of all areas +768 bytes.</p>" in page
        table = re.search(r'<table class="since">.*?</table>', page, re.DOTALL)[0]
        rows = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", table)]
        assert sorted(rows[1:]) == [
            ["added", "big", "0x0", "+200", "+800"],
            ["moved", "y", "0x0 to 0xc8", "+0", "+0"],
            ["removed", "x", "0x4", "-4", "-16"],
        ]
        assert '<table class="since">' not in run("--format", "html", new).stdout

    @pytest.mark.parametrize("stripped", [("old",), ("new",), ("old", "new")])
    def test_without_symbols_no_variable_is_compared(self, pair, stripped):
        files = dict(zip(("old", "new"), pair))
        toolchain.run(["strip", *(str(files[one]) for one in stripped)])
        named = " and ".join(str(files[one]) for one in stripped)
        said = f"{named} {'has' if len(stripped) == 1 else 'have'} no symbols"
        done = run("--baseline", *pair)
        assert done.returncode == 0
        head = f"since {pair[0]}: template +196 bytes, memory of all areas unknown"
        shown = done.stdout.splitlines()
        assert shown[shown.index(head) + 1 :][:2] == [f"  variables were not compared: {said}", ""]
        report = json.loads(run("--format", "json", "--baseline", *pair).stdout)["baseline"]
        assert (report["changes"], report["not_compared"]) == ([], said)
        assert f"<p>Variables were not compared: {said}.</p>" in run("--format", "html", "--baseline", *pair).stdout

    def test_a_baseline_without_variables_has_none(self, pair, tmp_path):
        (tmp_path / "none").mkdir()
        judge(tmp_path / "none", source="", per_cpu="")
        toolchain.run(["strip", str(tmp_path / "none" / "kernel.elf")])
        shown = run("--baseline", tmp_path / "none" / "kernel.elf", pair[1]).stdout
        assert "  added:   big, at 0x0, +200 bytes x 4 CPUs = +800" in shown.splitlines()
        assert "not compared" not in shown

    def test_a_baseline_that_cannot_be_read(self, pair, tmp_path):
        done = run("--baseline", tmp_path / "none.elf", pair[1])
        assert done.returncode == 2
        assert "none.elf: No such file" in done.stderr
