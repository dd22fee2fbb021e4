"""percpu-config: one answer a question, that a Makefile can use."""

from __future__ import annotations

import sys
from pathlib import Path

import percpu_tools
import pytest
import toolchain

CONFIG = [sys.executable, "-m", "percpu_tools.cli.config"]


def ask(*options: str) -> str:
    return toolchain.run([*CONFIG, *options]).stdout


def test_answers():
    assert ask("--includes") == f"-I{percpu_tools.includes()}\n"
    assert ask("--sources").split() == [str(source) for source in percpu_tools.sources()]
    assert ask("--ldscripts") == f"{percpu_tools.ldscripts()}\n"
    assert ask("--gdb") == f"{percpu_tools.gdb_extension()}\n"
    assert ask("--cmakedir") == f"{percpu_tools.cmakedir()}\n"
    assert ask("--toolpath") == f"{percpu_tools.toolpath()}\n"
    assert ask("--version") == f"percpu-config {percpu_tools.__version__}\n"


def test_what_the_answers_name_is_there():
    assert (percpu_tools.includes() / "percpu" / "percpu.hpp").is_file()
    assert percpu_tools.sources() and all(source.suffix == ".cpp" for source in percpu_tools.sources())
    assert (percpu_tools.ldscripts() / "percpu.ld.j2").is_file()
    assert percpu_tools.gdb_extension().is_file()
    assert (percpu_tools.toolpath() / "percpu" / "__init__.py").is_file()


def test_answers_about_commands():
    assert ask("--arch-of", "aarch64-linux-gnu-g++", "-O2") == "aarch64\n"
    assert ask("--arch-of", "g++", "-m64") == "x86_64\n"
    assert ask("--linker-of", "g++", "-fuse-ld=bfd", "-nostdlib") == "ld\n"
    assert ask("--linker-of", "ld.lld-19") == "lld\n"
    assert ask("--scripts-of", "g++", "-Wl,-T,a.ld", "-T", "b c.ld", "x.o") == "a.ld\nb c.ld\n"
    assert ask("--scripts-of", "g++", "x.o") == ""


def test_flags_of_features():
    flags = ask("--defines", "x86_64", "preempt,checked", "base-register=fs")
    assert flags == "-DPERCPU_BASE_REGISTER=fs -DPERCPU_CHECKED -DPERCPU_PREEMPT\n"
    assert ask("--defines", "arm") == "\n"
    done = toolchain.run([*CONFIG, "--defines", "x86_64", "restartable"], check=False)
    assert (done.returncode, done.stdout) == (2, "") and "leave restartable out" in done.stderr


def test_what_a_check_reads(tmp_path, monkeypatch):
    inner = tmp_path / "inner"
    inner.mkdir()
    monkeypatch.chdir(inner)
    (inner / ".git").mkdir()
    assert ask("--check-files") == ""
    (inner / ".git").rmdir()
    (tmp_path / ".git").mkdir()
    configuration = tmp_path / "percpu.toml"
    configuration.write_text("baseline = 'old.elf'\n")
    assert ask("--check-files", "--disable", "T23").splitlines() == [str(configuration), str(tmp_path / "old.elf")]
    options = ("--config=other.toml", "--baseline", "../new.elf", "--cpu-num", "4")
    # It is not there, as the check will say.
    assert ask("--check-files", *options).splitlines() == [str(inner / "other.toml"), str(tmp_path / "new.elf")]
    configuration.rename(tmp_path / "pyproject.toml")
    assert ask("--check-files") == ""
    (tmp_path / "pyproject.toml").write_text("[tool.percpu]\nbudget =\n")
    assert ask("--check-files") == ""


@pytest.mark.parametrize("options", [[], ["--includes", "--sources"], ["--nonsense"], ["--arch-of"], ["--defines"]])
def test_one_question_at_a_time(options):
    done = toolchain.run([*CONFIG, *options], check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr


def test_a_part_that_is_missing_is_named(tmp_path):
    package = tmp_path / "tools" / "percpu_tools"
    package.mkdir(parents=True)
    for name in ("__init__", "errors", "paths", "version"):
        (package / f"{name}.py").write_text((Path(percpu_tools.__file__).parent / f"{name}.py").read_text())
    environment = {"PYTHONPATH": str(tmp_path / "tools")}
    done = toolchain.run([sys.executable, "-c", "import percpu_tools.version"], check=False, cwd=tmp_path, env=environment)
    assert done.returncode != 0
    assert "percpu_cpp/include is neither at" in done.stderr
